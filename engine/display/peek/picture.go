package peek

import (
	"fmt"
	"image"
	"image/color"

	"hither/engine/display/xwire"
)

// maxPixels bounds a picture that is read.
const maxPixels = 8192 * 8192

// Picture is what a window shows now. Behind the bridge each window has a picture
// of its own; without it, what lies on top of it is seen, too.
func (s *Server) Picture(w *Window) (*image.RGBA, error) {
	if !w.Viewable || w.Width <= 0 || w.Height <= 0 || w.Width*w.Height > maxPixels {
		return nil, fmt.Errorf("reading the picture of %q: %w", w.Title, ErrNoWindow)
	}
	// A window that hangs over the edge of the screen has no picture there, unless
	// it has one of its own.
	area := image.Rect(0, 0, w.Width, w.Height)
	r, err := s.image(w, area)
	if err != nil {
		screen := image.Rect(0, 0, int(s.x.Screen().WidthInPixels), int(s.x.Screen().HeightInPixels))
		area = area.Intersect(screen.Sub(image.Pt(int(w.x)+int(w.border), int(w.y)+int(w.border))))
		if area.Empty() || area.Dx() == w.Width && area.Dy() == w.Height {
			return nil, fmt.Errorf("reading the picture of %q: %w", w.Title, err)
		}
		if r, err = s.image(w, area); err != nil {
			return nil, fmt.Errorf("reading the picture of %q: %w", w.Title, err)
		}
	}
	return decode(r, area.Dx(), area.Dy())
}

func (s *Server) image(w *Window, area image.Rectangle) (*xwire.GetImageReply, error) {
	return s.x.GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(w.ID), int16(area.Min.X), int16(area.Min.Y), uint16(area.Dx()), uint16(area.Dy()), 0xffffffff)
}

// decode takes pictures of 32 bits per pixel, as every server of a capsule makes them.
func decode(r *xwire.GetImageReply, width, height int) (*image.RGBA, error) {
	if (r.Depth != 24 && r.Depth != 32) || len(r.Data) < 4*width*height {
		return nil, fmt.Errorf("a picture of depth %d and %d bytes: %w", r.Depth, len(r.Data), ErrNoWindow)
	}
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := 0; i < len(m.Pix); i += 4 {
		p := r.Data[i : i+4 : i+4]
		o := m.Pix[i : i+4 : i+4]
		o[0], o[1], o[2], o[3] = p[2], p[1], p[0], 0xff
		if r.Depth == 32 { // premultiplied, as image.RGBA has it
			o[3] = max(p[3], p[0], p[1], p[2])
		}
	}
	return m, nil
}

const (
	maxIcons    = 1 << 20 // words of four bytes
	maxIconSide = 1024
)

// Icon is the icon that a window brings along: the smallest that is at least size
// pixels wide, else the largest; nil if there is none.
func (s *Server) Icon(w *Window, size int) image.Image {
	p, err := s.x.GetProperty(false, w.ID, s.a["_NET_WM_ICON"], xwire.AtomAny, 0, maxIcons)
	if err != nil {
		return nil
	}
	return iconOf(numbers(p, 2), size)
}

// iconOf picks from the content of a _NET_WM_ICON: icons one after another, each
// a width, a height, and so many pixels.
func iconOf(words []uint32, size int) image.Image {
	var best []uint32
	width, height := 0, 0
	for len(words) > 2 {
		w, h := words[0], words[1]
		if w == 0 || h == 0 || w > maxIconSide || h > maxIconSide || uint64(w)*uint64(h) > uint64(len(words)-2) {
			break
		}
		n := int(w * h)
		side := int(max(w, h))
		old := max(width, height)
		if best == nil || old < size && side > old || side >= size && side < old {
			best, width, height = words[2:2+n], int(w), int(h)
		}
		words = words[2+n:]
	}
	if best == nil {
		return nil
	}
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i, v := range best {
		m.SetNRGBA(i%width, i/width, color.NRGBA{uint8(v >> 16), uint8(v >> 8), uint8(v), uint8(v >> 24)})
	}
	return m
}
