package picture

import (
	"image"
	"image/color"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/math/fixed"

	"hither/engine/terminal"
)

// Terminal draws what a terminal shows so that it fits into width x height. It is
// drawn larger and then made smaller, so that small letters stay even.
func Terminal(v *terminal.View, width, height int) image.Image {
	if len(v.Cells) == 0 || len(v.Cells[0]) == 0 {
		m := image.NewRGBA(image.Rect(0, 0, max(width, 1), max(height, 1)))
		fill(m, m.Rect, v.Background)
		return m
	}
	cols := len(v.Cells[0])
	// Go Mono's letters are 0.6 as wide as the font is large.
	size := min(max(1.5*float64(width)/float64(cols)/0.6, 8), 26)
	t := newType(size)
	defer t.close()
	border := t.w
	m := image.NewRGBA(image.Rect(0, 0, cols*t.w+2*border, len(v.Cells)*t.h+2*border))
	fill(m, m.Rect, v.Background)
	for y, line := range v.Cells {
		for x, c := range line {
			at := image.Pt(border+x*t.w, border+y*t.h)
			cursor := v.Cursor && x == v.CursorX && y == v.CursorY
			if cursor {
				c.Foreground, c.Background = c.Background, c.Foreground
			}
			cells := 1
			if c.Wide {
				cells = 2
			}
			place := image.Rect(at.X, at.Y, at.X+cells*t.w, at.Y+t.h)
			if c.Background != v.Background && c.Text != "" {
				fill(m, place, c.Background)
			}
			if c.Text != "" && c.Text != " " {
				t.draw(m, place, &c)
			}
			if c.Underline {
				fill(m, image.Rect(place.Min.X, at.Y+t.base+1, place.Max.X, at.Y+t.base+2), c.Foreground)
			}
			if c.Strike {
				fill(m, image.Rect(place.Min.X, at.Y+t.h/2, place.Max.X, at.Y+t.h/2+1), c.Foreground)
			}
		}
	}
	return Fit(m, width, height)
}

// typeface is Go Mono in one size, with the letters that were drawn already.
type typeface struct {
	w, h, base int
	faces      [2]font.Face
	known      map[letter]*image.Alpha
}

type letter struct {
	text string
	bold bool
}

func newType(size float64) *typeface {
	t := &typeface{faces: [2]font.Face{face(fonts.mono(), size), face(fonts.monoBold(), size)}, known: map[letter]*image.Alpha{}}
	advance, _ := t.faces[0].GlyphAdvance('0')
	metrics := t.faces[0].Metrics()
	t.w = max(int(advance+32)>>6, 1)
	t.base = ceil(metrics.Ascent)
	t.h = t.base + ceil(metrics.Descent)
	return t
}

func (t *typeface) close() {
	for _, f := range t.faces {
		f.Close()
	}
}

// draw puts a character into its place.
func (t *typeface) draw(m *image.RGBA, place image.Rectangle, c *terminal.Cell) {
	key := letter{c.Text, c.Bold}
	mask := t.known[key]
	if mask == nil {
		mask = t.mask(key, place.Dx())
		t.known[key] = mask
	}
	draw.DrawMask(m, place, image.NewUniform(c.Foreground), image.Point{}, mask, image.Point{}, draw.Over)
}

func (t *typeface) mask(l letter, width int) *image.Alpha {
	mask := image.NewAlpha(image.Rect(0, 0, width, t.h))
	f := t.faces[0]
	if l.bold {
		f = t.faces[1]
	}
	runes := []rune(l.text)
	if i, err := fonts.mono().GlyphIndex(nil, runes[0]); err != nil || i == 0 {
		// A character that the font does not have looks like one from afar.
		inset := max(width/6, 1)
		fill(mask, image.Rect(inset, t.h/4, width-inset, t.base), color.Alpha{0x90})
		return mask
	}
	d := font.Drawer{Dst: mask, Src: image.Opaque, Face: f, Dot: fixed.P(0, t.base)}
	for i, r := range runes {
		if i > 0 {
			d.Dot = fixed.P(0, t.base) // marks go onto the letter
		}
		d.DrawString(string(r))
	}
	return mask
}
