package terminal

import (
	"fmt"
	"unicode/utf8"
)

// painter brings one terminal emulator to the look of a screen. It remembers
// what it drew, and draws what has changed since.
type painter struct {
	rows, cols int // of the window; 0 stands for the model's

	known bool     // the rest tells what the window shows
	alt   int      // which screen
	seen  []uint64 // generation of each line
	modes uint64   // generation of the modes
	first int      // the model's line at the top of the window

	// owned says that nothing of another program is on the main screen, which
	// would have to be kept.
	owned bool
}

// What brings a terminal in an unknown state to where a picture can be drawn:
// an end to what was under way, no margins, no insert mode, no
// charsets, no wrapping, plain colours. ?2026 keeps it dark until it is done.
const (
	paintBegin = "\x18\x1b\\\x1b[?2026h\x1b[?25l"
	paintReset = "\x1b[?69l\x1b[?6l\x1b[4l\x1b[20l\x1b[?7h\x1b[r\x1b[m\x0f\x1b(B\x1b)B\x1b*B\x1b+B"
	paintEnd   = "\x1b[?2026l"
)

// snapshot is the whole model as output for an empty terminal: both screens,
// the size, everything.
func (s *screen) snapshot() []byte {
	b := fmt.Appendf(nil, "\x1b[8;%d;%dt"+paintReset, s.rows, s.cols)
	b = s.modes.appendKitty(b, 0)
	b = s.appendLines(b, 0)
	if s.alt == 1 {
		b = s.appendPen(b, &s.grids[0].saved)
		b = fmt.Appendf(b, "\x1b7\x1b[?%dh\x1b[m\x1b[?6l\x0f\x1b(B", s.modes.alt)
		b = s.modes.appendKitty(b, 1)
		b = s.appendLines(b, 1)
	}
	return append(s.appendState(b), s.parser.partial...)
}

// whole draws the picture and brings the terminal into the model's state, so
// that the app's bytes can follow. The window has the model's size. The main
// screen is left alone while the alternate one is shown.
func (p *painter) whole(b []byte, s *screen) []byte {
	b = append(b, paintBegin+paintReset...)
	b = p.turn(b, s)
	b = s.modes.appendKitty(b, s.alt)
	b = s.appendLines(b, s.alt)
	b = s.appendState(b)
	if s.modes.on(25) {
		b = append(b, "\x1b[?25h"...)
	}
	b = append(b, paintEnd...)
	p.drawn(s, 0, s.rows)
	return append(b, s.parser.partial...)
}

// turn shows the screen that the model shows, and sees to it that what others
// left on the main screen goes to the scrollback, not away.
func (p *painter) turn(b []byte, s *screen) []byte {
	if s.alt == 1 {
		return fmt.Appendf(b, "\x1b[?%dh", s.modes.alt)
	}
	b = append(b, "\x1b[?47l"...)
	if !p.owned {
		p.owned = true
		rows, _ := p.window(s)
		b = fmt.Appendf(b, "\x1b[%d;1H", rows)
		for range rows {
			b = append(b, '\n')
		}
	}
	return b
}

func (p *painter) window(s *screen) (rows, cols int) {
	rows, cols = p.rows, p.cols
	if rows == 0 || cols == 0 {
		rows, cols = s.rows, s.cols
	}
	return min(rows, maxRows), min(cols, maxCols)
}

func (p *painter) drawn(s *screen, first, rows int) {
	p.known, p.alt, p.modes, p.first = true, s.alt, s.modes.gen, first
	p.seen = make([]uint64, rows)
	for y := range p.seen {
		if first+y < s.rows {
			p.seen[y] = s.line(first + y).gen
		}
	}
}

// changes draws what has changed since the last time, cut to the window; of a
// higher screen the part around the cursor is shown.
func (p *painter) changes(b []byte, s *screen) []byte {
	rows, cols := p.window(s)
	first := max(0, min(s.pen.y-rows+1, s.rows-rows))
	b = append(b, paintBegin+paintReset...)
	if !p.known || p.alt != s.alt {
		p.known = false
		b = p.turn(b, s)
	}
	if !p.known || p.modes != s.modes.gen {
		b = s.modes.appendKitty(b, s.alt)
		b = s.modes.appendTo(b)
	}
	if p.first != first || len(p.seen) != rows {
		p.known = false
	}
	var now style
	for y := range rows {
		switch {
		case first+y >= s.rows:
			if !p.known {
				b = fmt.Appendf(appendSGR(b, &now, style{}), "\x1b[%d;1H\x1b[K", y+1)
			}
		case !p.known || p.seen[y] != s.line(first+y).gen:
			b = s.appendRow(b, &now, s.line(first+y), y, min(cols, s.cols), cols)
		}
	}
	p.drawn(s, first, rows)
	b = fmt.Appendf(b, "\x1b[%d;%dH\x1b[m", s.pen.y-first+1, min(s.pen.x, cols-1)+1)
	if s.modes.on(25) {
		b = append(b, "\x1b[?25h"...)
	}
	return append(b, paintEnd...)
}

func (s *screen) appendLines(b []byte, grid int) []byte {
	var now style
	for y, w := range s.grids[grid].lines {
		b = s.appendRow(b, &now, w, y, s.cols, s.cols)
	}
	return append(b, "\x1b[m"...)
}

// appendRow draws the first cols cells of a line at line y of a window which
// is wide cells wide. now is the style in force.
func (s *screen) appendRow(b []byte, now *style, w *row, y, cols, wide int) []byte {
	b = fmt.Appendf(b, "\x1b[%d;1H", y+1)
	blank := cell{' ', style{bg: w.fill}}
	n := min(len(w.cells), cols)
	for n > 0 && w.cells[n-1] == blank {
		n--
	}
	for x := 0; x < n; x++ {
		c := w.cells[x]
		b = appendSGR(b, now, c.style)
		switch {
		case c.r == wideTail:
			if x == 0 || !s.isWide(w, x-1) {
				b = append(b, ' ')
			}
		case x+1 == cols && s.isWide(w, x):
			b = append(b, ' ') // half of it would be outside
		case c.r >= firstMark:
			b = append(b, s.marks.string(c.r)...)
		default:
			b = utf8.AppendRune(b, c.r)
		}
	}
	if n < cols {
		b = appendSGR(b, now, blank.style)
		if n < cols && cols < wide && w.fill != colourDefault {
			b = fmt.Appendf(b, "\x1b[%dX\x1b[%d;%dH", cols-n, y+1, cols+1)
			b = appendSGR(b, now, style{})
		}
		return append(b, "\x1b[K"...)
	}
	if cols < wide {
		b = append(appendSGR(b, now, style{}), "\x1b[K"...)
	}
	return b
}

func (s *screen) isWide(w *row, x int) bool {
	return x+1 < len(w.cells) && w.cells[x+1].r == wideTail && w.cells[x].r != wideTail
}

// appendState sets all that is no picture: tab stops, saved cursor, charsets,
// margins, modes, title, cursor.
func (s *screen) appendState(b []byte) []byte {
	if s.tabbed {
		b = append(b, "\x1b[3g"...)
		for x := range s.cols {
			if s.tabs[x] {
				b = fmt.Appendf(b, "\x1b[1;%dH\x1bH", x+1)
			}
		}
	}
	b = s.appendPen(b, s.saved())
	b = append(b, "\x1b7\x1b[?6l"...)
	b = fmt.Appendf(b, "\x1b[%d;%dr", s.top+1, s.bottom)
	b = s.modes.appendTo(b)
	if s.insert {
		b = append(b, "\x1b[4h"...)
	}
	if s.newline {
		b = append(b, "\x1b[20h"...)
	}
	if s.pen.wrapNext {
		b = s.appendPending(b)
	} else {
		b = s.appendPen(b, &s.pen)
	}
	if !s.wrap {
		b = append(b, "\x1b[?7l"...)
	}
	return b
}

// appendPen sets position, style, charsets and origin mode.
func (s *screen) appendPen(b []byte, p *pen) []byte {
	y := p.y
	b = append(b, "\x1b[?6l"...)
	if p.origin {
		b = append(b, "\x1b[?6h"...)
		if p == &s.pen {
			y -= s.top
		}
	}
	b = fmt.Appendf(b, "\x1b[%d;%dH", y+1, p.x+1)
	b = appendPenStyle(b, p)
	return b
}

func appendPenStyle(b []byte, p *pen) []byte {
	now := style{attr: 0xffff} // unknown
	b = appendSGR(b, &now, p.style)
	for i, set := range p.sets {
		b = append(b, 0x1b, "()*+"[i], set)
	}
	switch p.shift {
	case 0:
		b = append(b, 0x0f)
	case 1:
		b = append(b, 0x0e)
	default:
		b = append(b, 0x1b, "no"[p.shift-2])
	}
	return b
}

// appendPending leaves the terminal with the last column just written: the
// next character goes to the next line. The only way there is to write it.
func (s *screen) appendPending(b []byte) []byte {
	w, x := s.here(), s.pen.x
	if w.at(x).r == wideTail && x > 0 {
		x--
	}
	c := w.at(x)
	if c.r == wideTail {
		c.r = ' '
	}
	at := s.pen
	at.x, at.wrapNext = x, false
	b = s.appendAt(b, &at)
	b = append(b, "\x0f\x1b(B\x1b[4l"...)
	now := style{attr: 0xffff}
	b = appendSGR(b, &now, c.style)
	b = append(b, s.marks.string(c.r)...)
	if s.insert {
		b = append(b, "\x1b[4h"...)
	}
	return appendPenStyle(b, &s.pen)
}

// appendAt is appendPen for a copy of the pen in use.
func (s *screen) appendAt(b []byte, at *pen) []byte {
	y := at.y
	b = append(b, "\x1b[?6l"...)
	if at.origin {
		b = append(b, "\x1b[?6h"...)
		y -= s.top
	}
	return fmt.Appendf(b, "\x1b[%d;%dH", y+1, at.x+1)
}
