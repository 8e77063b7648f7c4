package terminal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// describe writes down all of a screen's state that output can see.
func describe(s *screen) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%dx%d alt %d region %d-%d insert %v newline %v wrap %v\n", s.rows, s.cols, s.alt, s.top, s.bottom, s.insert, s.newline, s.wrap)
	pen := func(name string, p pen) {
		fmt.Fprintf(&b, "%s %d,%d %+v sets %s shift %d origin %v pending %v\n", name, p.y, p.x, p.style, p.sets, p.shift, p.origin, p.wrapNext)
	}
	pen("pen", s.pen)
	pen("saved", s.grids[0].saved)
	if s.alt == 1 {
		pen("saved alt", s.grids[1].saved)
	}
	m := &s.modes
	for _, n := range sortedKeys(m.dec) {
		fmt.Fprintf(&b, "mode %d %v\n", n, m.dec[n])
	}
	fmt.Fprintf(&b, "alt mode %d keypad %v cursor %d modify %v\n", m.alt, m.keypad, m.cursor, m.modify)
	fmt.Fprintf(&b, "kitty %v", m.kitty[0])
	if s.alt == 1 {
		fmt.Fprintf(&b, " %v", m.kitty[1])
	}
	fmt.Fprintf(&b, "\ntitle %q icon %q\n", m.title, m.icon)
	for _, k := range sortedKeys(m.colours) {
		fmt.Fprintf(&b, "colour %s %q\n", k, m.colours[k])
	}
	for x := range s.cols {
		if s.tabs[x] {
			fmt.Fprintf(&b, "tab %d ", x)
		}
	}
	b.WriteByte('\n')
	grids := s.grids[:1]
	if s.alt == 1 {
		grids = s.grids[:]
	}
	for i, g := range grids {
		for y, w := range g.lines {
			fmt.Fprintf(&b, "%d:%d %s\n", i, y, line(s, w))
		}
	}
	return b.String()
}

func line(s *screen, w *row) string {
	var b strings.Builder
	var now style
	for x := range s.cols {
		c := w.at(x)
		if c.style != now {
			now = c.style
			fmt.Fprintf(&b, "{%x %x %x %x}", now.fg, now.bg, now.ul, now.attr)
		}
		if c.r == wideTail {
			b.WriteString("<")
		} else {
			b.WriteString(s.marks.string(c.r))
		}
	}
	return b.String()
}

func screenOf(rows, cols int, output ...string) *screen {
	s := newScreen(Winsize{Rows: uint16(rows), Cols: uint16(cols)})
	for _, o := range output {
		s.write([]byte(o))
	}
	return s
}

func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("%s, line %d:\n got  %q\n want %q", what, i, a[i], b[i])
		}
	}
	if len(a) != len(b) {
		t.Errorf("%s: %d lines, want %d", what, len(a), len(b))
	}
}

// checkPicture proves that the pictures drawn of s are s.
func checkPicture(t *testing.T, s *screen) {
	t.Helper()
	want := describe(s)
	// On another host.
	r := newScreen(Winsize{Rows: 3, Cols: 7})
	r.restoring = true
	r.write(s.snapshot())
	same(t, "snapshot", describe(r), want)
	if !s.parser.settled() {
		return
	}
	// In a terminal that somebody used before.
	d := screenOf(s.rows, s.cols, "left\x1b[?6h\x1b[3;4r\x1b(0\x0e\x1b[4h\x1b[41mover\x1b[?2004h\x1b]0;unfinished")
	d.modes.dec = nil
	p := painter{owned: true}
	d.write(p.whole(nil, s))
	compareShown(t, "picture", d, s, s.rows, s.cols)
	if got, want := fmt.Sprint(d.pen, d.top, d.bottom, d.insert, d.newline, d.wrap), fmt.Sprint(s.pen, s.top, s.bottom, s.insert, s.newline, s.wrap); got != want {
		t.Errorf("state after the picture: %s, want %s", got, want)
	}
}

// compareShown compares the shown part of a window with the model's.
func compareShown(t *testing.T, what string, d, s *screen, rows, cols int) {
	t.Helper()
	if d.alt != s.alt {
		t.Errorf("%s: shows screen %d, want %d", what, d.alt, s.alt)
	}
	for y := range rows {
		same(t, fmt.Sprintf("%s row %d", what, y), line(d, d.line(y)), line(s, s.line(y)))
	}
}

func TestDrawing(t *testing.T) {
	for _, test := range []struct {
		name, output string
		rows, cols   int
		want         []string
		y, x         int
	}{
		{"plain", "ab\r\ncd", 3, 5, []string{"ab", "cd", ""}, 1, 2},
		{"wrap", "abcdefg", 3, 5, []string{"abcde", "fg", ""}, 1, 2},
		{"wrap is late", "abcde\r\nf", 3, 5, []string{"abcde", "f", ""}, 1, 1},
		{"no wrap", "\x1b[?7labcdefg", 3, 5, []string{"abcdg", "", ""}, 0, 4},
		{"scroll", "a\r\nb\r\nc\r\nd", 3, 5, []string{"b", "c", "d"}, 2, 1},
		{"region", "a\r\nb\r\nc\x1b[1;2r\x1b[2;1H\n", 3, 5, []string{"b", "", "c"}, 1, 0},
		{"reverse index", "a\r\nb\x1b[H\x1bM", 3, 5, []string{"", "a", "b"}, 0, 0},
		{"insert lines", "a\r\nb\r\nc\x1b[2H\x1b[L", 3, 5, []string{"a", "", "b"}, 1, 0},
		{"delete lines", "a\r\nb\r\nc\x1b[1H\x1b[2M", 3, 5, []string{"c", "", ""}, 0, 0},
		{"insert", "abcde\x1b[2G\x1b[2@", 3, 5, []string{"a  bc", "", ""}, 0, 1},
		{"delete", "abcde\x1b[2G\x1b[2P", 3, 5, []string{"ade", "", ""}, 0, 1},
		{"erase", "abcde\x1b[2G\x1b[2X", 3, 5, []string{"a  de", "", ""}, 0, 1},
		{"repeat", "a\x1b[3b", 3, 5, []string{"aaaa", "", ""}, 0, 4},
		{"wide", "日本語", 3, 5, []string{"日<本<", "語<", ""}, 1, 2},
		{"half a wide one", "日本\x1b[2Gx", 3, 5, []string{" x本<", "", ""}, 0, 2},
		{"marks", "e\u0301x", 3, 5, []string{"e\u0301x", "", ""}, 0, 2},
		{"line drawing", "\x1b(0lqk\x1b(Bq", 3, 5, []string{"┌─┐q", "", ""}, 0, 4},
		{"tabs", "\tx", 3, 20, []string{"        x", "", ""}, 0, 9},
		{"alternate", "main\x1b[?1049halt\x1b[?1049l!", 3, 5, []string{"main!", "", ""}, 0, 4},
		{"origin", "\x1b[2;3r\x1b[?6h\x1b[1;1Hx", 3, 5, []string{"", "x", ""}, 1, 1},
		{"bad utf-8", "a\xffb\xe6\x97z", 3, 9, []string{"a\ufffdb\ufffdz", "", ""}, 0, 5},
		{"strings are no text", "a\x1bPqabc\x1b\\b\x1b_foo\x1b\\c\x1b]0;t\x07d", 3, 9, []string{"abcd", "", ""}, 0, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := screenOf(test.rows, test.cols, test.output)
			for y, want := range test.want {
				if got := strings.TrimRight(line(s, s.line(y)), " "); got != want {
					t.Errorf("line %d: %q, want %q", y, got, want)
				}
			}
			if s.pen.y != test.y || s.pen.x != test.x {
				t.Errorf("cursor at %d,%d, want %d,%d", s.pen.y, s.pen.x, test.y, test.x)
			}
			checkPicture(t, s)
			for i := range test.output { // byte by byte
				if i > 0 {
					same(t, fmt.Sprintf("split at %d", i), describe(screenOf(test.rows, test.cols, test.output[:i], test.output[i:])), describe(s))
				}
			}
		})
	}
}

func TestColours(t *testing.T) {
	for sgr, want := range map[string]style{
		"31":                   {fg: colourBasic | 1},
		"97;103":               {fg: colourBasic | 15, bg: colourBasic | 11},
		"38;5;200":             {fg: colourIndex | 200},
		"38;2;1;2;3;48;5;9":    {fg: colourRGB | 0x010203, bg: colourIndex | 9},
		"38:2::1:2:3":          {fg: colourRGB | 0x010203},
		"38:2:1:2:3;1":         {fg: colourRGB | 0x010203, attr: attrBold},
		"4:3;58:2::9:8:7":      {ul: colourRGB | 0x090807, attr: 3 << underlineShift},
		"1;2;3;4;5;7;8;9;53":   {attr: attrBold | attrDim | attrItalic | attrBlink | attrReverse | attrHidden | attrStrike | attrOverline | 1<<underlineShift},
		"1;4;22;24":            {},
		"48;2;300;2":           {},
		"58;5;7;4:0;59;38;5;1": {fg: colourIndex | 1},
	} {
		s := screenOf(3, 10, "\x1b["+sgr+"mx\x1b[K")
		if s.pen.style != want {
			t.Errorf("%s: %+v, want %+v", sgr, s.pen.style, want)
		}
		checkPicture(t, s)
	}
}

// TestBounded: hostile output costs no more than the model's size.
func TestBounded(t *testing.T) {
	s := screenOf(24, 80)
	big := strings.Repeat("x", 1<<20)
	for _, o := range []string{
		"\x1b]0;" + big, "\x07\x1bP" + big, "\x18\x1b[" + strings.Repeat("1;", 1<<19) + "m",
		"\x1b[999999999999b", "\x1b[65535;65535H" + "e" + strings.Repeat("\u0301", 1<<16),
		strings.Repeat("\x1b[>1u", 1<<16), "\x1b[65535@\x1b[65535P\x1b[65535L\x1b[65535M\x1b[65535S\x1b[65535T\x1b[65535X",
		"\x1b[8;65535;65535t",
	} {
		s.write([]byte(o))
	}
	var b strings.Builder
	for i := range 3 * maxMarks {
		fmt.Fprintf(&b, "%c%c", 'a'+i%26, 0x300+i/26%0x60)
	}
	s.write([]byte(b.String()))
	for n := range 70000 {
		s.write(fmt.Appendf(nil, "\x1b[?%dh\x1b]4;%d;red\x07", n, n))
	}
	if s.rows != 24 || s.cols != 80 {
		t.Errorf("the app changed the size to %dx%d", s.rows, s.cols)
	}
	if n := len(s.snapshot()); n > 1<<20 {
		t.Errorf("the snapshot has %d bytes", n)
	}
	if len(s.marks.text) > maxMarks || len(s.modes.dec) > maxModes || len(s.modes.colours) > maxColours ||
		cap(s.parser.str) > 2*maxString || cap(s.parser.partial) > 2*maxPartial {
		t.Error("something grew beyond its bound")
	}
	checkPicture(t, s)
}

// words are pieces from which random output is made that reaches far into the
// emulator.
var words = []string{
	"a", "hello ", "日本", "e\u0301", "🎉", "\r\n", "\n", "\r", "\b", "\t", "\x0e", "\x0f", "\x1b7", "\x1b8", "\x1bD", "\x1bE", "\x1bM", "\x1bH", "\x1bc",
	"\x1b[m", "\x1b[1;31m", "\x1b[44m", "\x1b[38;2;9;8;7m", "\x1b[4:3m", "\x1b[K", "\x1b[1K", "\x1b[J", "\x1b[1J", "\x1b[2J", "\x1b[H", "\x1b[5;9H", "\x1b[3G", "\x1b[99C",
	"\x1b[2@", "\x1b[2P", "\x1b[2L", "\x1b[2M", "\x1b[S", "\x1b[2T", "\x1b[3X", "\x1b[5b", "\x1b[2;6r", "\x1b[r", "\x1b[4h", "\x1b[4l", "\x1b[20h", "\x1b[20l",
	"\x1b[?6h", "\x1b[?6l", "\x1b[?7l", "\x1b[?7h", "\x1b[?1049h", "\x1b[?1049l", "\x1b[?47h", "\x1b[?47l", "\x1b[?1047h", "\x1b[?1047l", "\x1b[?1048h", "\x1b[?1048l",
	"\x1b[?1h", "\x1b[?25l", "\x1b[?2004h", "\x1b[?1000;1006h", "\x1b=", "\x1b>", "\x1b[3 q", "\x1b[>4;2m", "\x1b[>5u", "\x1b[<u", "\x1b[=3;2u", "\x1b[!p",
	"\x1b(0", "\x1b(B", "\x1b)0", "\x1b#8", "\x1b]0;title\x07", "\x1b]2;x\x1b\\", "\x1b]11;rgb:1/2/3\x07", "\x1b[g", "\x1b[3g", "\x1b", "\x1b[", "\x1b[1;", "\xe6\x97", "\xff", "\x18", "\x1b]0;par",
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
}

// FuzzScreen: no output harms the model, split as it may be, and pictures of
// it are equal to it.
func FuzzScreen(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var b []byte
		for range rng.IntN(60) {
			b = append(b, words[rng.IntN(len(words))]...)
		}
		f.Add(b, uint8(rng.IntN(12)), uint8(rng.IntN(30)), uint16(rng.IntN(200)))
	}
	f.Fuzz(func(t *testing.T, data []byte, rows, cols uint8, cut uint16) {
		size := Winsize{Rows: uint16(rows%50) + 1, Cols: uint16(cols%150) + 1}
		whole, split := newScreen(size), newScreen(size)
		whole.write(data)
		n := min(int(cut), len(data))
		split.write(data[:n])
		split.write(data[n:])
		same(t, "split", describe(split), describe(whole))
		checkPicture(t, whole)
		whole.resize(Winsize{Rows: uint16(cols%20) + 1, Cols: uint16(rows) + 1})
		checkPicture(t, whole)
	})
}

// TestGoOn: a picture taken anywhere in the stream can be gone on from.
func TestGoOn(t *testing.T) {
	output := "one\r\ntwo\x1b[31m red\x1b[2;5r\x1b[?6h\x1b[2;2Hat\x1b7\x1b[38;2;1;2;3mtrue 日本語 e\u0301\x1b]0;title\x07\x1b[?1049h\x1b[2J\x1b[5;5Halt\x1b(0qqq\x1b(B\x1b8 done\x1b[?1049l\r\n\n\n\nend"
	want := describe(screenOf(8, 30, output))
	for i := range output {
		s := screenOf(8, 30, output[:i])
		r := newScreen(Winsize{})
		r.restoring = true
		r.write(s.snapshot())
		r.write([]byte(output[i:]))
		same(t, fmt.Sprintf("going on from %d", i), describe(r), want)
	}
}

// TestWatching: pictures of changes in windows of other sizes.
func TestWatching(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 200 {
		s := screenOf(10, 30)
		rows, cols := rng.IntN(15)+1, rng.IntN(40)+2
		if round%3 == 0 {
			rows, cols = 10, 30
		}
		p := painter{rows: rows, cols: cols}
		d := screenOf(rows, cols, "a shell's output\r\n")
		for range 20 {
			for range rng.IntN(6) {
				s.write([]byte(words[rng.IntN(len(words))]))
			}
			d.write(p.changes(nil, s))
			first := max(0, min(s.pen.y-rows+1, s.rows-rows))
			for y := range rows {
				want := newScreen(Winsize{Rows: 1, Cols: uint16(cols)})
				w := want.line(0)
				if first+y < s.rows {
					for x := range min(cols, s.cols) {
						c := s.line(first + y).at(x)
						if x == cols-1 && s.isWide(s.line(first+y), x) {
							c.r = ' '
						}
						if c.r >= firstMark {
							c.r = want.marks.join(0, 0) // compared by line below
						}
						w.cells = append(w.cells, s.line(first+y).at(x))
						if c.r == ' ' {
							w.cells[x] = c
						}
					}
				}
				want.marks = s.marks
				same(t, fmt.Sprintf("round %d (%dx%d), row %d", round, rows, cols, y), line(d, d.line(y)), line(want, w))
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// TestAgainstTmux has another emulator draw the output and our picture of it.
func TestAgainstTmux(t *testing.T) {
	tmux, err := exec.LookPath("tmux")
	if err != nil {
		t.Skip("no tmux")
	}
	dir := t.TempDir()
	output := "\x1b[1;31mred\x1b[m plain \x1b[38;2;10;20;30mtrue\x1b[48;5;100m idx\x1b[m\r\n日本語 wide e\u0301 mark\r\n\x1b[7mreverse\x1b[K\x1b[m\r\n" +
		"\x1b[8;3Hregion\x1b[5;9r\x1b[9;1Hline\n\n\x1b[r\x1b[12;1Hlast\x1b[1;40H" + strings.Repeat("w", 50)
	s := screenOf(24, 80, output)
	show := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		sock := filepath.Join(dir, name+".sock")
		ready := filepath.Join(dir, name+".ready")
		run := func(args ...string) []byte {
			cmd := exec.Command(tmux, append([]string{"-f", "/dev/null", "-u", "-S", sock}, args...)...)
			cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8", "TMUX=")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Skipf("tmux %v: %v: %s", args, err, out)
			}
			return out
		}
		run("new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", "stty raw; cat "+file+"; tput >/dev/null; touch "+ready+"; sleep 60")
		defer run("kill-server")
		run("set", "-g", "status", "off")
		for range 500 {
			if _, err := os.Stat(ready); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		var last []byte
		for range 50 { // tmux draws when it likes
			now := run("capture-pane", "-e", "-p")
			if last != nil && bytes.Equal(now, last) && len(bytes.TrimSpace(now)) > 0 {
				break
			}
			last = now
			time.Sleep(20 * time.Millisecond)
		}
		return string(last) + string(run("display", "-p", "#{cursor_y},#{cursor_x}"))
	}
	p := painter{owned: true}
	same(t, "tmux", show("picture", string(p.whole(nil, s))), show("output", output))
}

func BenchmarkYes(b *testing.B) {
	benchmarkOutput(b, []byte(strings.Repeat("y\r\n", 1<<15)))
}

func BenchmarkLines(b *testing.B) {
	benchmarkOutput(b, []byte(strings.Repeat(strings.Repeat("x", 78)+"\r\n", 1<<10)))
}

func BenchmarkColours(b *testing.B) {
	benchmarkOutput(b, []byte(strings.Repeat("\x1b[1;31mred\x1b[m and \x1b[38;2;1;2;3m日本\x1b[m\r\n", 1<<12)))
}

func benchmarkOutput(b *testing.B, data []byte) {
	s := screenOf(50, 200)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		s.write(data)
	}
}
