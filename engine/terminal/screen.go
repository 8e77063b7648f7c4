package terminal

// Bounds of the model's size. A terminal larger than that is drawn in part.
const (
	maxRows = 500
	maxCols = 1000
)

// screen is the model of a terminal: what a terminal emulator that got all of
// the app's output would show now, and the state it would be in. It is fed by
// [screen.write] and never fails, whatever it is fed.
type screen struct {
	rows, cols int
	parser     parser
	modes      modes
	marks      marks

	grids  [2]grid // main and alternate
	alt    int     // the grid that is shown
	tabs   []bool
	tabbed bool // tab stops were touched
	pen    pen

	insert, newline bool // IRM, LNM
	wrap            bool // DECAWM
	top, bottom     int  // scroll region, bottom excluded
	last            rune // for REP

	gen     uint64 // the last generation given to a row
	mainGen uint64 // the last one given while the main screen was shown

	// doubt says that something came which draws and which the model does not
	// know: its picture may be wrong.
	doubt bool

	// reply takes the answers to the app's questions, if not nil.
	reply func([]byte)
	// restoring lets the size be set by the stream.
	restoring bool
}

// grid is one of a terminal's two screens.
type grid struct {
	lines []*row
	saved pen // DECSC
}

// pen is where and how the next character is written.
type pen struct {
	x, y int
	style
	sets   [4]byte // designators of G0-G3: 'B', '0' or 'A'
	shift  int     // which of them is in use
	origin bool    // DECOM

	// wrapNext: the last column was written, the next character goes to the
	// next line.
	wrapNext bool
}

func newPen() pen { return pen{sets: [4]byte{'B', 'B', 'B', 'B'}} }

func newScreen(size Winsize) *screen {
	s := &screen{}
	s.rows, s.cols = clampSize(size)
	s.init()
	return s
}

func clampSize(w Winsize) (rows, cols int) {
	rows, cols = int(w.Rows), int(w.Cols)
	if rows == 0 || cols == 0 {
		rows, cols = 24, 80
	}
	return min(rows, maxRows), min(cols, maxCols)
}

func (s *screen) init() {
	for i := range s.grids {
		g := &s.grids[i]
		g.saved = newPen()
		g.lines = make([]*row, s.rows)
		for y := range g.lines {
			g.lines[y] = s.newRow()
		}
	}
	s.alt = 0
	s.pen = newPen()
	s.insert, s.newline, s.wrap = false, false, true
	s.top, s.bottom = 0, s.rows
	s.last, s.doubt = 0, false
	s.resetTabs()
}

func (s *screen) newRow() *row {
	w := &row{}
	s.touch(w)
	return w
}

func (s *screen) touch(w *row) {
	s.gen++
	w.gen = s.gen
	if s.alt == 0 {
		s.mainGen = s.gen
	}
}

func (s *screen) resetTabs() {
	s.tabs = make([]bool, maxCols)
	for i := 8; i < maxCols; i += 8 {
		s.tabs[i] = true
	}
}

// write feeds output of the app.
func (s *screen) write(data []byte) {
	s.parser.feed(data, s)
}

func (s *screen) lines() []*row   { return s.grids[s.alt].lines }
func (s *screen) line(y int) *row { return s.grids[s.alt].lines[y] }
func (s *screen) here() *row      { return s.line(s.pen.y) }
func (s *screen) eraser() colour  { return s.pen.bg }
func (s *screen) saved() *pen     { return &s.grids[s.alt].saved }
func (s *screen) changed(y int)   { s.touch(s.line(y)) }
func (s *screen) plain() bool     { return s.pen.sets[s.pen.shift] == 'B' }
func (s *screen) wrapping() bool  { return s.pen.wrapNext && s.wrap }
func (s *screen) answer(b string) { s.answerBytes([]byte(b)) }
func (s *screen) moved()          { s.pen.wrapNext = false }
func (s *screen) inRegion() bool  { return s.pen.y >= s.top && s.pen.y < s.bottom }

func (s *screen) answerBytes(b []byte) {
	if s.reply != nil {
		s.reply(b)
	}
}

// text writes printable ASCII.
func (s *screen) text(run []byte) {
	s.last = rune(run[len(run)-1])
	if !s.plain() || s.insert {
		for _, b := range run {
			s.print(rune(b))
		}
		return
	}
	for len(run) > 0 {
		if s.wrapping() {
			s.wrapLine()
		}
		n := min(len(run), s.cols-s.pen.x)
		w := s.here()
		cells := w.span(s.pen.x, s.pen.x+n)
		for i := range cells {
			cells[i] = cell{rune(run[i]), s.pen.style}
		}
		s.touch(w)
		s.advance(n)
		if !s.wrap && n < len(run) {
			run = run[len(run)-1:] // all the rest falls on the last column
			continue
		}
		run = run[n:]
	}
}

// advance moves the cursor after writing n cells.
func (s *screen) advance(n int) {
	s.pen.x += n
	if s.pen.x >= s.cols {
		s.pen.x = s.cols - 1
		s.pen.wrapNext = s.wrap
	}
}

func (s *screen) wrapLine() {
	s.pen.x, s.pen.wrapNext = 0, false
	s.index()
}

// print writes one character.
func (s *screen) print(r rune) {
	r = translate(s.pen.sets[s.pen.shift], r)
	n := width(r)
	if n == 0 {
		s.mark(r)
		return
	}
	s.last = r
	if n > s.cols {
		r, n = '?', 1
	}
	if s.wrapping() || s.wrap && s.pen.x+n > s.cols {
		s.wrapLine()
	}
	x := min(s.pen.x, s.cols-n)
	w := s.here()
	if s.insert {
		w.shift(x, n, s.cols, s.eraser())
	}
	cells := w.span(x, x+n)
	cells[0] = cell{r, s.pen.style}
	if n == 2 {
		cells[1] = cell{wideTail, s.pen.style}
	}
	s.touch(w)
	s.pen.x = x
	s.advance(n)
}

// mark puts a combining mark on the character before the cursor.
func (s *screen) mark(r rune) {
	x := s.pen.x
	if !s.pen.wrapNext {
		x--
	}
	w := s.here()
	if x < 0 {
		return
	}
	if w.at(x).r == wideTail {
		x--
	} else {
		w.span(x, x+1)
	}
	if len(s.marks.text) >= maxMarks {
		s.marks.collect(s.grids[0].lines, s.grids[1].lines)
	}
	w.cells[x].r = s.marks.join(w.cells[x].r, r)
	s.touch(w)
}

// index moves down a line, scrolling at the bottom of the region.
func (s *screen) index() {
	s.moved()
	if s.pen.y == s.bottom-1 {
		s.scroll(s.top, s.bottom, 1)
	} else if s.pen.y < s.rows-1 {
		s.pen.y++
	}
}

func (s *screen) reverseIndex() {
	s.moved()
	if s.pen.y == s.top {
		s.scroll(s.top, s.bottom, -1)
	} else if s.pen.y > 0 {
		s.pen.y--
	}
}

// scroll moves the lines from top to bottom up by n, or down by -n.
func (s *screen) scroll(top, bottom, n int) {
	part := s.lines()[top:bottom]
	if n == 1 { // the one that has to be fast
		first := part[0]
		copy(part, part[1:])
		part[len(part)-1] = first
		s.clear(first)
		return
	}
	n = max(-len(part), min(n, len(part)))
	k := (n + len(part)) % len(part)
	turned := append(append(make([]*row, 0, len(part)), part[k:]...), part[:k]...)
	copy(part, turned)
	if n > 0 {
		part = part[len(part)-n:]
	} else {
		part = part[:-n]
	}
	for _, w := range part {
		s.clear(w)
	}
}

func (s *screen) clear(w *row) {
	w.cells = w.cells[:0]
	w.fill = s.eraser()
	s.touch(w)
}

func (s *screen) eraseLine(y, from, to int) {
	s.line(y).erase(from, min(to, s.cols), s.cols, s.eraser())
	s.changed(y)
}

// moveTo places the cursor; y counts from the region's top in origin mode.
func (s *screen) moveTo(y, x int) {
	top, bottom := 0, s.rows
	if s.pen.origin {
		top, bottom = s.top, s.bottom
	}
	s.pen.y = max(top, min(top+y, bottom-1))
	s.pen.x = max(0, min(x, s.cols-1))
	s.moved()
}

// moveBy moves the cursor up or down, stopped by the region's borders.
func (s *screen) moveBy(dy int) {
	top, bottom := 0, s.rows
	if s.pen.y >= s.top {
		top = s.top
	}
	if s.pen.y < s.bottom {
		bottom = s.bottom
	}
	s.pen.y = max(top, min(s.pen.y+dy, bottom-1))
	s.moved()
}

func (s *screen) column(x int) {
	s.pen.x = max(0, min(x, s.cols-1))
	s.moved()
}

func (s *screen) save() {
	*s.saved() = s.pen
	s.saved().wrapNext = false
}

func (s *screen) restore() {
	s.pen = *s.saved()
	s.pen.x, s.pen.y = min(s.pen.x, s.cols-1), min(s.pen.y, s.rows-1)
}

// show changes between main and alternate screen, as private mode n does.
func (s *screen) show(n uint16, alt bool) {
	switch {
	case alt:
		if n == 1049 && s.alt == 0 {
			s.save()
		}
		s.alt = 1
		if n == 1049 {
			s.clearAll()
		}
	default:
		if n == 1047 && s.alt == 1 {
			s.clearAll()
		}
		s.alt = 0
		if n == 1049 {
			s.restore()
		}
	}
	s.moved()
}

func (s *screen) clearAll() {
	for _, w := range s.lines() {
		s.clear(w)
	}
	s.doubt = false
}

// resize takes the terminal's new size. Lines are cut or blank, not wrapped
// anew; of the main screen the lines around the cursor stay.
func (s *screen) resize(size Winsize) {
	rows, cols := clampSize(size)
	if rows == s.rows && cols == s.cols {
		return
	}
	for i := range s.grids {
		g := &s.grids[i]
		y := &g.saved.y
		if i == s.alt {
			y = &s.pen.y
		}
		if drop := *y - rows + 1; drop > 0 {
			g.lines = append([]*row(nil), g.lines[drop:]...)
			*y -= drop
		}
		for len(g.lines) < rows {
			g.lines = append(g.lines, &row{})
		}
		g.lines = g.lines[:rows:rows]
		for _, w := range g.lines {
			if len(w.cells) > cols {
				w.split(cols)
				w.cells = append([]cell(nil), w.cells[:cols]...)
			}
			s.touch(w)
		}
		g.saved.x, g.saved.y = min(g.saved.x, cols-1), min(g.saved.y, rows-1)
	}
	s.rows, s.cols = rows, cols
	s.top, s.bottom = 0, rows
	s.pen.x, s.pen.y = min(s.pen.x, cols-1), min(s.pen.y, rows-1)
	s.moved()
}

// translate maps a character by the national or line drawing set in use.
func translate(set byte, r rune) rune {
	switch {
	case set == '0' && r >= 0x5f && r <= 0x7e:
		return lineDrawing[r-0x5f]
	case set == 'A' && r == '#':
		return '£'
	}
	return r
}

var lineDrawing = []rune("\u00a0◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·")
