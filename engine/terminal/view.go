package terminal

import (
	"encoding/hex"
	"image/color"
	"strings"
)

// View is a terminal's picture for who wants to draw it: cells instead of output.
type View struct {
	Title string
	Cells [][]Cell // lines of equal length
	// Cursor is where the cursor is shown; ok says whether it is.
	CursorX, CursorY int
	Cursor           bool
	Foreground       color.RGBA // of what has no colour of its own
	Background       color.RGBA
}

// Cell is one place of a View. The second cell of a wide character has an empty
// Text and follows one with Wide.
type Cell struct {
	Text                            string
	Wide                            bool
	Foreground, Background          color.RGBA
	Bold, Italic, Underline, Strike bool
}

// Look makes a View of what Screen returned.
func Look(picture []byte) *View {
	s := newScreen(Winsize{})
	s.restoring = true
	s.write(picture)
	v := &View{Title: s.modes.title, CursorX: s.pen.x, CursorY: s.pen.y, Cursor: s.modes.on(25)}
	p := paletteOf(s.modes.colours)
	v.Foreground, v.Background = p.fg, p.bg
	for y := range s.rows {
		line := make([]Cell, s.cols)
		for x := range line {
			line[x] = s.look(&p, s.line(y), x)
		}
		v.Cells = append(v.Cells, line)
	}
	return v
}

// Blank says that nothing at all is written there.
func (v *View) Blank() bool {
	for _, line := range v.Cells {
		for _, c := range line {
			if c.Text != " " || c.Background != v.Background {
				return false
			}
		}
	}
	return true
}

func (s *screen) look(p *palette, w *row, x int) Cell {
	c := w.at(x)
	out := Cell{Foreground: p.of(c.fg, p.fg), Background: p.of(c.bg, p.bg), Bold: c.attr&attrBold != 0, Italic: c.attr&attrItalic != 0,
		Underline: c.attr&attrUnderline != 0, Strike: c.attr&attrStrike != 0}
	if out.Bold && c.fg&^0xffffff == colourBasic && c.fg&0xff < 8 {
		out.Foreground = p.indexed[c.fg&0xff+8]
	}
	if c.attr&attrReverse != 0 {
		out.Foreground, out.Background = out.Background, out.Foreground
	}
	if c.attr&attrDim != 0 {
		out.Foreground = mix(out.Foreground, out.Background)
	}
	switch {
	case c.attr&attrHidden != 0 || c.r == ' ' || c.r == 0:
		out.Text = " "
	case c.r == wideTail:
		if x == 0 || !s.isWide(w, x-1) {
			out.Text = " "
		}
	default:
		out.Text = s.marks.string(c.r)
		out.Wide = s.isWide(w, x)
	}
	return out
}

func mix(a, b color.RGBA) color.RGBA {
	half := func(a, b uint8) uint8 { return uint8((2*int(a) + int(b)) / 3) }
	return color.RGBA{half(a.R, b.R), half(a.G, b.G), half(a.B, b.B), 0xff}
}

// palette are a terminal's colours: the usual ones, where the app has set no others.
type palette struct {
	fg, bg  color.RGBA
	indexed [256]color.RGBA
}

// The sixteen are Tango's, which people have read for long.
var sixteen = [16]uint32{
	0x2e3436, 0xcc0000, 0x4e9a06, 0xc4a000, 0x3465a4, 0x75507b, 0x06989a, 0xd3d7cf,
	0x555753, 0xef2929, 0x8ae234, 0xfce94f, 0x729fcf, 0xad7fa8, 0x34e2e2, 0xeeeeec,
}

func solid(rgb uint32) color.RGBA {
	return color.RGBA{uint8(rgb >> 16), uint8(rgb >> 8), uint8(rgb), 0xff}
}

func paletteOf(set map[string]string) palette {
	p := palette{fg: solid(0xd8dae0), bg: solid(0x1e2127)}
	for i := range p.indexed {
		switch {
		case i < 16:
			p.indexed[i] = solid(sixteen[i])
		case i < 232: // a cube of 6x6x6
			level := func(n int) uint8 {
				if n == 0 {
					return 0
				}
				return uint8(55 + 40*n)
			}
			n := i - 16
			p.indexed[i] = color.RGBA{level(n / 36), level(n / 6 % 6), level(n % 6), 0xff}
		default:
			grey := uint8(8 + 10*(i-232))
			p.indexed[i] = color.RGBA{grey, grey, grey, 0xff}
		}
	}
	if c, ok := parseColour(set["10"]); ok {
		p.fg = c
	}
	if c, ok := parseColour(set["11"]); ok {
		p.bg = c
	}
	return p
}

func (p *palette) of(c colour, plain color.RGBA) color.RGBA {
	switch c &^ 0xffffff {
	case colourBasic, colourIndex:
		return p.indexed[c&0xff]
	case colourRGB:
		return solid(uint32(c))
	}
	return plain
}

// parseColour reads rgb:RR/GG/BB, with one to four digits each, and #RRGGBB.
func parseColour(s string) (color.RGBA, bool) {
	var parts []string
	if rest, ok := strings.CutPrefix(s, "rgb:"); ok {
		parts = strings.Split(rest, "/")
	} else if rest, ok := strings.CutPrefix(s, "#"); ok && len(rest) == 6 {
		parts = []string{rest[:2], rest[2:4], rest[4:]}
	}
	if len(parts) != 3 {
		return color.RGBA{}, false
	}
	var out [3]byte
	for i, p := range parts {
		if len(p) == 1 {
			p += p
		}
		if len(p) < 2 || len(p) > 4 {
			return color.RGBA{}, false
		}
		b, err := hex.DecodeString(p[:2])
		if err != nil {
			return color.RGBA{}, false
		}
		out[i] = b[0]
	}
	return color.RGBA{out[0], out[1], out[2], 0xff}, true
}
