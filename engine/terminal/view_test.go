package terminal

import (
	"strings"
	"testing"
)

func textOf(v *View, y int) string {
	var b strings.Builder
	for _, c := range v.Cells[y] {
		b.WriteString(c.Text)
	}
	return strings.TrimRight(b.String(), " ")
}

// TestLook: what an app has drawn is found in the cells, colours and all.
func TestLook(t *testing.T) {
	s := newScreen(Winsize{Rows: 5, Cols: 20})
	s.write([]byte("\x1b]2;a title\aplain \x1b[31mred\x1b[0m\r\n\x1b[7mback\x1b[0m \x1b[48;2;1;2;3mtrue\x1b[0m\r\n日本 e\u0301 \x1b[1;32mbold\x1b[0m\x1b[?25l"))
	v := Look(s.snapshot())
	if len(v.Cells) != 5 || len(v.Cells[0]) != 20 || v.Title != "a title" || v.Cursor {
		t.Fatalf("%d lines, title %q, cursor %v", len(v.Cells), v.Title, v.Cursor)
	}
	for y, want := range []string{"plain red", "back true", "日本 e\u0301 bold", "", ""} {
		if got := textOf(v, y); got != want {
			t.Errorf("line %d: %q", y, got)
		}
	}
	if c := v.Cells[0][6]; c.Text != "r" || c.Foreground != solid(sixteen[1]) || c.Background != v.Background {
		t.Errorf("red: %+v", c)
	}
	if c := v.Cells[1][0]; c.Foreground != v.Background || c.Background != v.Foreground {
		t.Errorf("reverse: %+v", c)
	}
	if c := v.Cells[1][5]; c.Background != solid(0x010203) {
		t.Errorf("true colour: %+v", c)
	}
	if a, b := v.Cells[2][0], v.Cells[2][1]; !a.Wide || b.Text != "" || a.Text != "日" {
		t.Errorf("wide: %+v %+v", a, b)
	}
	if c := v.Cells[2][7]; !c.Bold || c.Foreground != solid(sixteen[10]) {
		t.Errorf("bold green is bright: %+v", c)
	}
}

func TestBlank(t *testing.T) {
	for output, blank := range map[string]bool{"": true, "\x1b[2J \x1b]2;title\a": true, "x": false, "\x1b[41m \x1b[m": false} {
		s := newScreen(Winsize{Rows: 5, Cols: 20})
		s.write([]byte(output))
		if v := Look(s.snapshot()); v.Blank() != blank {
			t.Errorf("%q: %v", output, v.Blank())
		}
	}
}

func TestParseColour(t *testing.T) {
	for s, want := range map[string]uint32{"rgb:11/22/33": 0x112233, "rgb:1/2/3": 0x112233, "rgb:1111/2222/3333": 0x112233, "#abcdef": 0xabcdef} {
		if c, ok := parseColour(s); !ok || c != solid(want) {
			t.Errorf("%s: %v, %v", s, c, ok)
		}
	}
	for _, s := range []string{"", "rgb:", "rgb:1/2", "rgb:xx/yy/zz", "#12", "red", "rgb:11111/2/3"} {
		if _, ok := parseColour(s); ok {
			t.Errorf("%q is a colour", s)
		}
	}
}

func FuzzLook(f *testing.F) {
	f.Add([]byte("\x1b[8;5;10tone\r\ntwo\x1b[31m red"))
	f.Fuzz(func(t *testing.T, picture []byte) { Look(picture) })
}
