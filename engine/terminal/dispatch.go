package terminal

import "fmt"

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
		s.tabs[s.pen.x], s.tabbed = true, true
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
		s.tabbed = true
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
