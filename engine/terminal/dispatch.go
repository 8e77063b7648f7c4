package terminal

import (
	"bytes"
	"fmt"
)

// What the parser finds, carried out on the screen.

func (s *screen) control(b byte) {
	switch b {
	case '\b':
		s.pen.x = max(0, s.pen.x-1)
		s.moved()
	case '\t':
		s.tab(1)
	case '\n', '\v', '\f':
		s.index()
		if s.newline {
			s.pen.x = 0
		}
	case '\r':
		s.column(0)
	case 0x0e:
		s.pen.shift = 1
	case 0x0f:
		s.pen.shift = 0
	}
}

func (s *screen) tab(n int) {
	x := s.pen.x
	for ; n > 0 && x < s.cols-1; n-- {
		for x++; x < s.cols-1 && !s.tabs[x]; x++ {
		}
	}
	for ; n < 0 && x > 0; n++ {
		for x--; x > 0 && !s.tabs[x]; x-- {
		}
	}
	s.column(x)
}

func (s *screen) escape(inter, final byte) {
	s.modes.escape(inter, final)
	switch inter {
	case 0:
	case '(', ')', '*', '+':
		if final != '0' && final != 'A' {
			final = 'B'
		}
		s.pen.sets[inter-'('] = final
		return
	case '#':
		if final == '8' { // DECALN
			for y, w := range s.lines() {
				for i := range w.span(0, s.cols) {
					w.cells[i] = cell{r: 'E'}
				}
				s.changed(y)
			}
			s.top, s.bottom = 0, s.rows
			s.moveTo(0, 0)
		} else {
			s.doubt = true
		}
		return
	default:
		return
	}
	switch final {
	case '7':
		s.save()
	case '8':
		s.restore()
	case 'D':
		s.index()
	case 'E':
		s.index()
		s.column(0)
	case 'H':
		s.tabs[s.pen.x] = true
	case 'M':
		s.reverseIndex()
	case 'n', 'o':
		s.pen.shift = int(final-'n') + 2
	case 'Z':
		s.answer(deviceAttributes)
	case 'c':
		s.init()
	}
}

// deviceAttributes is the answer of a VT220 with colours.
const deviceAttributes = "\x1b[?62;22c"

func (s *screen) osc(text []byte) {
	s.modes.osc(text)
}

func (s *screen) csi(q *sequence) {
	s.modes.csi(q)
	switch {
	case q.prefix == '?' && q.inter == 0 && (q.final == 'h' || q.final == 'l'):
		for _, n := range q.params[:q.n] {
			s.private(n, q.final == 'h')
		}
	case q.prefix == '?' && q.inter == 0 && (q.final == 'J' || q.final == 'K'):
		s.plainCSI(q) // selective erase; nothing is protected here
	case q.prefix == '?' && q.inter == 0 && q.final == 'n' && q.arg(0, 0) == 6:
		s.answer(fmt.Sprintf("\x1b[?%d;%dR", s.reportRow(), s.pen.x+1))
	case q.prefix == '?' && q.inter == '$' && q.final == 'p':
		s.answer(fmt.Sprintf("\x1b[?%d;%d$y", q.arg(0, 0), s.reportMode(q.params[0])))
	case q.prefix == '?' && q.inter == 0 && q.final == 'u':
		flags, stack := uint16(0), s.modes.kitty[s.alt]
		if len(stack) > 0 {
			flags = stack[len(stack)-1]
		}
		s.answer(fmt.Sprintf("\x1b[?%du", flags))
	case q.prefix == '>' && q.inter == 0 && q.final == 'c':
		s.answer("\x1b[>1;10;0c")
	case q.prefix == 0 && q.inter == '!' && q.final == 'p': // DECSTR
		s.insert, s.wrap = false, true
		s.top, s.bottom = 0, s.rows
		*s.saved() = newPen()
		p := newPen()
		p.x, p.y = s.pen.x, s.pen.y
		s.pen = p
	case q.prefix == 0 && q.inter == 0:
		s.plainCSI(q)
	case q.prefix == 0 && (q.inter == '\'' || q.inter == '$' && q.final != 'p'):
		s.doubt = true // columns and rectangles
	}
}

func (s *screen) reportRow() int {
	if s.pen.origin {
		return s.pen.y - s.top + 1
	}
	return s.pen.y + 1
}

func (s *screen) reportMode(n uint16) int {
	on := s.modes.on(n)
	switch n {
	case 6:
		on = s.pen.origin
	case 7:
		on = s.wrap
	case 47, 1047, 1049:
		on = s.alt == 1
	default:
		if _, known := s.modes.dec[n]; !known && n != 25 {
			return 0
		}
	}
	if on {
		return 1
	}
	return 2
}

func (s *screen) private(n uint16, on bool) {
	switch n {
	case 3, 69:
		s.doubt = s.doubt || on
	case 6:
		s.pen.origin = on
		s.moveTo(0, 0)
	case 7:
		s.wrap = on
		s.moved()
	case 47, 1047, 1049:
		s.show(n, on)
	case 1048:
		if on {
			s.save()
		} else {
			s.restore()
		}
	}
}

func (s *screen) plainCSI(q *sequence) {
	n := q.arg(0, 1)
	p := &s.pen
	switch q.final {
	case '@':
		s.here().shift(p.x, min(n, s.cols), s.cols, s.eraser())
		s.changed(p.y)
		s.moved()
	case 'A':
		s.moveBy(-n)
	case 'B', 'e':
		s.moveBy(n)
	case 'C', 'a':
		s.column(p.x + n)
	case 'D':
		s.column(p.x - n)
	case 'E':
		s.moveBy(n)
		p.x = 0
	case 'F':
		s.moveBy(-n)
		p.x = 0
	case 'G', '`':
		s.column(n - 1)
	case 'H', 'f':
		s.moveTo(n-1, q.arg(1, 1)-1)
	case 'I':
		s.tab(n)
	case 'Z':
		s.tab(-n)
	case 'J':
		s.eraseDisplay(q.arg(0, 0))
	case 'K':
		s.eraseInLine(q.arg(0, 0))
	case 'L', 'M':
		if s.inRegion() {
			if q.final == 'L' {
				n = -n
			}
			s.scroll(p.y, s.bottom, clamp(n))
			s.column(0)
		}
	case 'P':
		s.here().shift(p.x, -min(n, s.cols), s.cols, s.eraser())
		s.changed(p.y)
		s.moved()
	case 'S':
		s.scroll(s.top, s.bottom, clamp(n))
	case 'T':
		if q.n <= 1 {
			s.scroll(s.top, s.bottom, clamp(-n))
		}
	case 'X':
		s.eraseLine(p.y, p.x, p.x+n)
		s.moved()
	case 'b':
		if s.last != 0 {
			for range min(n, s.rows*s.cols) {
				s.print(s.last)
			}
		}
	case 'c':
		if q.arg(0, 0) == 0 {
			s.answer(deviceAttributes)
		}
	case 'd':
		s.moveTo(n-1, p.x)
	case 'g':
		switch q.arg(0, 0) {
		case 0:
			s.tabs[p.x] = false
		case 3:
			clear(s.tabs)
		}
	case 'h', 'l':
		for _, mode := range q.params[:q.n] {
			switch mode {
			case 4:
				s.insert = q.final == 'h'
			case 20:
				s.newline = q.final == 'h'
			}
		}
	case 'm':
		p.style = p.sgr(q)
	case 'n':
		switch q.arg(0, 0) {
		case 5:
			s.answer("\x1b[0n")
		case 6:
			s.answer(fmt.Sprintf("\x1b[%d;%dR", s.reportRow(), p.x+1))
		}
	case 'r':
		top, bottom := n-1, min(q.arg(1, s.rows), s.rows)
		if top+1 < bottom {
			s.top, s.bottom = top, bottom
			s.moveTo(0, 0)
		}
	case 's':
		s.save()
	case 't':
		s.window(q)
	case 'u':
		s.restore()
	}
}

func clamp(n int) int { return max(-maxRows, min(n, maxRows)) }

// window does what it can of xterm's window operations.
func (s *screen) window(q *sequence) {
	switch q.arg(0, 0) {
	case 8:
		if s.restoring {
			s.resize(Winsize{Rows: q.params[1], Cols: q.params[2]})
		}
	case 18:
		s.answer(fmt.Sprintf("\x1b[8;%d;%dt", s.rows, s.cols))
	}
}

func (s *screen) eraseDisplay(what int) {
	y := s.pen.y
	from, to := 0, 0 // whole lines
	switch what {
	case 0:
		if s.pen.x == 0 && y == 0 {
			s.doubt = false
		}
		s.eraseLine(y, s.pen.x, s.cols)
		from, to = y+1, s.rows
	case 1:
		s.eraseLine(y, 0, s.pen.x+1)
		to = y
	case 2:
		to = s.rows
		s.doubt = false
	}
	for _, w := range s.lines()[from:to] {
		s.clear(w)
	}
	s.moved()
}

func (s *screen) eraseInLine(what int) {
	y, x := s.pen.y, s.pen.x
	switch what {
	case 0:
		s.eraseLine(y, x, s.cols)
	case 1:
		s.eraseLine(y, 0, x+1)
	case 2:
		s.eraseLine(y, 0, s.cols)
	}
	s.moved()
}

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

// tracker follows the modes alone; the client has one, to leave its terminal
// as it was.
type tracker struct {
	parser parser
	modes  modes
}

func (t *tracker) write(data []byte)        { t.parser.feed(data, t) }
func (t *tracker) text([]byte)              {}
func (t *tracker) print(rune)               {}
func (t *tracker) control(byte)             {}
func (t *tracker) escape(inter, final byte) { t.modes.escape(inter, final) }
func (t *tracker) csi(s *sequence)          { t.modes.csi(s) }
func (t *tracker) osc(text []byte)          { t.modes.osc(bytes.Clone(text)) }
