package terminal

import "fmt"

// Styles as they are set by CSI m, read and written.

// sgr is the style after a CSI m.
func (t style) sgr(q *sequence) style {
	if q.n == 0 {
		return style{}
	}
	for i := 0; i < q.n; i++ {
		end := i + 1 // of the parameters that hang on this one
		for end < q.n && q.colon[end] {
			end++
		}
		switch n := q.params[i]; n {
		case 38, 48, 58:
			var c colour
			c, end = extendedColour(q, i, end)
			switch {
			case c == colourDefault:
			case n == 38:
				t.fg = c
			case n == 48:
				t.bg = c
			default:
				t.ul = c
			}
		case 4:
			kind := attr(1)
			if end > i+1 {
				kind = min(attr(q.params[i+1]), 5)
			}
			t.attr = t.attr&^attrUnderline | kind<<underlineShift
		default:
			if end == i+1 {
				t = t.simple(n)
			}
		}
		i = end - 1
	}
	return t
}

// extendedColour reads the colour at parameter i, whose sub-parameters end at
// end, and returns where it ends: 38;2;r;g;b 38:2:r:g:b 38:2:space:r:g:b and
// the same with 5;n.
func extendedColour(q *sequence, i, end int) (colour, int) {
	p := q.params[:q.n]
	if end > i+1 {
		sub := p[i+1 : end]
		switch {
		case sub[0] == 5 && len(sub) >= 2:
			return colourIndex | colour(sub[1]&0xff), end
		case sub[0] == 2 && len(sub) >= 5:
			return rgb(sub[2:]), end
		case sub[0] == 2 && len(sub) == 4:
			return rgb(sub[1:]), end
		}
		return colourDefault, end
	}
	switch {
	case i+2 < len(p) && p[i+1] == 5:
		return colourIndex | colour(p[i+2]&0xff), i + 3
	case i+4 < len(p) && p[i+1] == 2:
		return rgb(p[i+2:]), i + 5
	}
	return colourDefault, len(p)
}

func rgb(p []uint16) colour {
	return colourRGB | colour(p[0]&0xff)<<16 | colour(p[1]&0xff)<<8 | colour(p[2]&0xff)
}

func (t style) simple(n uint16) style {
	switch {
	case n == 0:
		return style{}
	case n == 1:
		t.attr |= attrBold
	case n == 2:
		t.attr |= attrDim
	case n == 3:
		t.attr |= attrItalic
	case n == 5 || n == 6:
		t.attr |= attrBlink
	case n == 7:
		t.attr |= attrReverse
	case n == 8:
		t.attr |= attrHidden
	case n == 9:
		t.attr |= attrStrike
	case n == 21:
		t.attr = t.attr&^attrUnderline | 2<<underlineShift
	case n == 22:
		t.attr &^= attrBold | attrDim
	case n == 23:
		t.attr &^= attrItalic
	case n == 24:
		t.attr &^= attrUnderline
	case n == 25:
		t.attr &^= attrBlink
	case n == 27:
		t.attr &^= attrReverse
	case n == 28:
		t.attr &^= attrHidden
	case n == 29:
		t.attr &^= attrStrike
	case n >= 30 && n <= 37:
		t.fg = colourBasic | colour(n-30)
	case n == 39:
		t.fg = colourDefault
	case n >= 40 && n <= 47:
		t.bg = colourBasic | colour(n-40)
	case n == 49:
		t.bg = colourDefault
	case n == 53:
		t.attr |= attrOverline
	case n == 55:
		t.attr &^= attrOverline
	case n == 59:
		t.ul = colourDefault
	case n >= 90 && n <= 97:
		t.fg = colourBasic | colour(n-90+8)
	case n >= 100 && n <= 107:
		t.bg = colourBasic | colour(n-100+8)
	}
	return t
}

// appendSGR changes the style in force from *now to want.
func appendSGR(b []byte, now *style, want style) []byte {
	if *now == want {
		return b
	}
	*now = want
	b = append(b, "\x1b[0"...)
	for i, code := range []string{";1", ";2", ";3", ";5", ";7", ";8", ";9", ";53"} {
		if want.attr&(1<<i) != 0 {
			b = append(b, code...)
		}
	}
	switch kind := want.attr & attrUnderline >> underlineShift; kind {
	case 0:
	case 1:
		b = append(b, ";4"...)
	default:
		b = fmt.Appendf(b, ";4:%d", kind)
	}
	b = appendColour(b, want.fg, 30)
	b = appendColour(b, want.bg, 40)
	b = appendColour(b, want.ul, 50)
	return append(b, 'm')
}

// appendColour adds the SGR parameters for a foreground (base 30), background
// (40) or underline (50).
func appendColour(b []byte, c colour, base int) []byte {
	v := int(c & 0xffffff)
	switch c &^ 0xffffff {
	case colourBasic:
		if v < 8 {
			return fmt.Appendf(b, ";%d", base+v)
		}
		return fmt.Appendf(b, ";%d", base+60+v-8)
	case colourIndex:
		if base == 50 {
			return fmt.Appendf(b, ";58:5:%d", v)
		}
		return fmt.Appendf(b, ";%d;5;%d", base+8, v)
	case colourRGB:
		if base == 50 {
			return fmt.Appendf(b, ";58:2::%d:%d:%d", v>>16, v>>8&0xff, v&0xff)
		}
		return fmt.Appendf(b, ";%d;2;%d;%d;%d", base+8, v>>16, v>>8&0xff, v&0xff)
	}
	return b
}
