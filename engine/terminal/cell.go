package terminal

import "github.com/mattn/go-runewidth"

// colour is a tag in the top byte and a value below it.
type colour uint32

const (
	colourDefault colour = 0
	colourBasic   colour = 1 << 24 // 0-15: SGR 30-37, 90-97 and their like
	colourIndex   colour = 2 << 24 // 0-255: SGR 38;5
	colourRGB     colour = 3 << 24 // SGR 38;2
)

// attr are the attributes of a character; underline takes three bits for its
// kind, 0-5 as in SGR 4:N.
type attr uint16

const (
	attrBold attr = 1 << iota
	attrDim
	attrItalic
	attrBlink
	attrReverse
	attrHidden
	attrStrike
	attrOverline

	underlineShift      = 8
	attrUnderline  attr = 7 << underlineShift
)

// style is how a character looks.
type style struct {
	fg, bg, ul colour
	attr       attr
}

// cell is a place on the screen. A wide character's second cell holds
// wideTail. Runes above the Unicode range stand for a character with marks,
// see marks.
type cell struct {
	r rune
	style
}

const wideTail rune = -1

// row is a line of the screen. The cells beyond those written have the
// background that the line was last erased with.
type row struct {
	cells []cell
	fill  colour
	gen   uint64 // changes whenever the line's look does
}

func (w *row) at(x int) cell {
	if x < len(w.cells) {
		return w.cells[x]
	}
	return cell{' ', style{bg: w.fill}}
}

// span makes the cells from x to end real, and cuts wide characters that lie
// across either border in two blanks.
func (w *row) span(x, end int) []cell {
	for len(w.cells) < end {
		w.cells = append(w.cells, cell{' ', style{bg: w.fill}})
	}
	if x < end {
		w.split(x)
		w.split(end)
	}
	return w.cells[x:end]
}

// split blanks a wide character that lies across the border left of x.
func (w *row) split(x int) {
	if x > 0 && x < len(w.cells) && w.cells[x].r == wideTail {
		w.cells[x-1].r, w.cells[x].r = ' ', ' '
	}
}

// erase blanks the cells from x to end, of a line of cols cells.
func (w *row) erase(x, end, cols int, bg colour) {
	if x >= end {
		return
	}
	if end >= cols && (x == 0 || bg == w.fill) {
		if x < len(w.cells) {
			w.split(x)
			w.cells = w.cells[:x]
		}
		w.fill = bg
		return
	}
	if end >= cols {
		w.span(x, x)
		w.split(x)
		for i := len(w.cells); i < cols; i++ {
			w.cells = append(w.cells, cell{})
		}
		end = cols
	} else {
		w.span(x, end)
	}
	for i := x; i < end; i++ {
		w.cells[i] = cell{' ', style{bg: bg}}
	}
}

// shift moves the cells from x on by n to the right (or to the left for a
// negative n) and blanks what becomes free.
func (w *row) shift(x, n, cols int, bg colour) {
	room := cols - x
	if n == 0 || room <= 0 {
		return
	}
	cells := w.span(x, cols)
	if n > 0 {
		n = min(n, room)
		w.split(cols - n)
		copy(cells[n:], cells[:room-n])
		w.erase(x, x+n, cols, bg)
		return
	}
	n = min(-n, room)
	w.split(x + n)
	copy(cells, cells[n:])
	w.erase(cols-n, cols, cols, bg)
}

// width is how many cells a terminal gives a character, after wcwidth, in any
// locale.
var widths = &runewidth.Condition{StrictEmojiNeutral: true}

func width(r rune) int {
	if r < 0x300 {
		return 1
	}
	return widths.RuneWidth(r)
}

// marks keeps characters with combining marks: cells hold firstMark+i for
// text[i]. It is emptied of what no cell uses any more when it is full.
type marks struct {
	text  []string
	index map[string]rune
}

const (
	firstMark   = rune(0x110000)
	maxMarks    = 8192
	maxMarkText = 32 // bytes of one character with its marks
)

func (m *marks) string(r rune) string {
	if i := int(r - firstMark); i >= 0 && i < len(m.text) {
		return m.text[i]
	}
	return string(r)
}

// join is the rune for base with mark on it, or base itself when there is no
// more room.
func (m *marks) join(base, mark rune) rune {
	s := m.string(base) + string(mark)
	if r, ok := m.index[s]; ok {
		return r
	}
	if len(s) > maxMarkText || len(m.text) >= maxMarks {
		return base
	}
	if m.index == nil {
		m.index = make(map[string]rune)
	}
	r := firstMark + rune(len(m.text))
	m.text = append(m.text, s)
	m.index[s] = r
	return r
}

// collect keeps only what the rows use.
func (m *marks) collect(rows ...[]*row) {
	old := *m
	*m = marks{index: make(map[string]rune)}
	for _, part := range rows {
		for _, w := range part {
			for i := range w.cells {
				if c := &w.cells[i]; c.r >= firstMark {
					s := old.string(c.r)
					r, ok := m.index[s]
					if !ok {
						r = firstMark + rune(len(m.text))
						m.text = append(m.text, s)
						m.index[s] = r
					}
					c.r = r
				}
			}
		}
	}
}
