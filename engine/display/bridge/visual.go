package bridge

import (
	"fmt"

	"hither/engine/display/xwire"
)

// look is what a native window needs to be of a visual.
type look struct {
	depth    uint8
	colormap xwire.Colormap
	masks    [3]uint32
	bits     uint8 // per pixel
	format   xwire.RenderPictFormat
}

// visuals are those of the desktop: plain for most windows, and argb for
// translucent ones, which is 0 if there is none.
type visuals struct {
	plain, argb xwire.VisualID
	looks       map[xwire.VisualID]look
	cursor      xwire.RenderPictFormat // of 32 bits with alpha; 0: none
}

// The masks of the app's pictures, both of depth 24 and 32.
var appMasks = [3]uint32{0xff0000, 0xff00, 0xff}

func (v *visuals) find(c *xwire.Conn) error {
	v.looks = map[xwire.VisualID]look{}
	s := c.Screen()
	bits := map[uint8]uint8{}
	for _, f := range c.Setup().PixmapFormats {
		bits[f.Depth] = f.BitsPerPixel
	}
	formats := map[xwire.VisualID]xwire.RenderPictFormat{}
	if c.Has(xwire.Render) {
		r, err := c.RenderQueryPictFormats()
		if err != nil {
			return err
		}
		for _, f := range r.Formats {
			d := f.Direct
			if f.Depth == 32 && d.AlphaMask == 0xff && d.AlphaShift == 24 && d.RedShift == 16 && d.GreenShift == 8 && d.BlueShift == 0 {
				v.cursor = f.Id
			}
		}
		for _, screen := range r.Screens {
			for _, depth := range screen.Depths {
				for _, visual := range depth.Visuals {
					formats[visual.Visual] = visual.Format
				}
			}
		}
	}
	const trueColor = 4
	for _, d := range s.AllowedDepths {
		for _, t := range d.Visuals {
			if t.Class != trueColor {
				continue
			}
			l := look{depth: d.Depth, masks: [3]uint32{t.RedMask, t.GreenMask, t.BlueMask}, bits: bits[d.Depth], format: formats[t.VisualId]}
			right := l.masks == appMasks && l.bits == 32
			switch {
			case d.Depth == 32 && right && v.argb == 0:
				v.argb = t.VisualId
			case t.VisualId == s.RootVisual && !v.isRight():
				v.plain = t.VisualId
			case d.Depth == 24 && right && !v.isRight():
				v.plain = t.VisualId
			default:
				continue
			}
			l.colormap = s.DefaultColormap
			if t.VisualId != s.RootVisual {
				l.colormap = xwire.NewID[xwire.Colormap](c)
				c.CreateColormap(xwire.ColormapAllocNone, l.colormap, s.Root, t.VisualId)
			}
			v.looks[t.VisualId] = l
		}
	}
	if v.plain == 0 {
		return fmt.Errorf("the desktop's server has no visual of true colours")
	}
	return nil
}

// isRight says whether plain windows take the app's pictures as they are.
func (v *visuals) isRight() bool {
	l, ok := v.looks[v.plain]
	return ok && l.masks == appMasks && l.bits == 32
}

// scales says whether the desktop's server can scale pictures.
func (v *visuals) scales() bool {
	for _, l := range v.looks {
		if l.format == 0 {
			return false
		}
	}
	return true
}

// look is that of a native window.
func (b *Bridge) look(w *window) look {
	if w.native == 32 && b.visuals.argb != 0 {
		return b.visuals.looks[b.visuals.argb]
	}
	return b.visuals.looks[b.visuals.plain]
}

// convert turns a picture of the app's, with 32 bits per pixel, into one of a look,
// where each line is padded to 32 bits.
func (l look) convert(in []byte, width, height int) []byte {
	size := int(l.bits) / 8
	line := (width*size + 3) &^ 3
	out := make([]byte, line*height)
	var shift, width8 [3]int
	for i, m := range l.masks {
		for m != 0 && m&1 == 0 {
			m >>= 1
			shift[i]++
		}
		for ; m != 0; m >>= 1 {
			width8[i]++
		}
	}
	for y := range height {
		for x := range width {
			p := in[4*(y*width+x):]
			var v uint32
			for i := range 3 {
				c := uint32(p[2-i])
				if n := width8[i]; n >= 8 {
					c = c<<(n-8) | c>>(16-n)
				} else {
					c >>= 8 - n
				}
				v |= c << shift[i]
			}
			o := out[y*line+x*size:]
			for k := range size {
				o[k] = byte(v >> (8 * k))
			}
		}
	}
	return out
}
