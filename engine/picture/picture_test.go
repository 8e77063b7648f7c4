package picture

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"hither/engine/terminal"
)

func TestFit(t *testing.T) {
	for _, c := range []struct{ w, h, width, height, wantW, wantH int }{
		{1280, 800, 320, 200, 320, 200}, {800, 1280, 320, 200, 125, 200}, {1280, 100, 320, 200, 320, 25},
		{100, 50, 320, 200, 100, 50}, {4000, 1, 320, 200, 320, 1}, {0, 0, 10, 10, 0, 0},
	} {
		b := Fit(image.NewRGBA(image.Rect(0, 0, c.w, c.h)), c.width, c.height).Bounds()
		if b.Dx() != c.wantW || b.Dy() != c.wantH {
			t.Errorf("%d x %d into %d x %d: %v", c.w, c.h, c.width, c.height, b)
		}
	}
}

func TestSquare(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 20, 10))
	fill(m, m.Rect, color.RGBA{0xff, 0, 0, 0xff})
	s := Square(m, 40)
	if s.Bounds().Dx() != 40 || s.Bounds().Dy() != 40 {
		t.Fatal(s.Bounds())
	}
	if _, _, _, a := s.At(20, 2).RGBA(); a != 0 {
		t.Error("above it is not clear")
	}
	if r, _, _, a := s.At(20, 20).RGBA(); r != 0xffff || a != 0xffff {
		t.Error("the middle is not red")
	}
}

func TestLetter(t *testing.T) {
	a, b := Letter("gedit", 64), Letter("gedit", 64)
	x, _ := Encode(a)
	y, _ := Encode(b)
	if !bytes.Equal(x, y) {
		t.Error("not the same twice")
	}
	if _, _, _, alpha := a.At(0, 0).RGBA(); alpha != 0 {
		t.Error("the corner is not clear")
	}
	white := 0
	for p := range 64 * 64 {
		if r, g, b, _ := a.At(p%64, p/64).RGBA(); min(r, g, b) > 0xf000 {
			white++
		}
	}
	if white < 100 {
		t.Errorf("%d white pixels: no letter", white)
	}
	for _, name := range []string{"", "日本", "...", "é"} {
		for _, size := range []int{1, 16, 200} {
			if b := Letter(name, size).Bounds(); b.Dx() != size || b.Dy() != size {
				t.Errorf("%q at %d: %v", name, size, b)
			}
		}
	}
}

// TestTerminal: what is written can be seen, in its colours, at its place.
func TestTerminal(t *testing.T) {
	v := terminal.Look([]byte("\x1b[8;24;80t\x1b[1;1H\x1b[41m          \x1b[m\x1b[24;71H\x1b[42m          \x1b[m\x1b[12;1Hwords in the middle 日本\x1b[?25l"))
	m := Terminal(v, 320, 200)
	b := m.Bounds()
	if b.Dx() > 320 || b.Dy() > 200 || b.Dx() < 160 {
		t.Fatal(b)
	}
	at := func(x, y int) (r, g, bl uint8) {
		c := color.RGBAModel.Convert(m.At(x*b.Dx()/1000, y*b.Dy()/1000)).(color.RGBA)
		return c.R, c.G, c.B
	}
	if r, g, _ := at(60, 35); r < 0xa0 || g > 0x40 {
		t.Errorf("top left is not red: %x %x", r, g)
	}
	if r, g, _ := at(940, 965); g < 0x80 || r > 0x60 {
		t.Errorf("bottom right is not green: %x %x", r, g)
	}
	bright := 0
	for x := range 300 {
		if r, g, bl := at(x, 480); min(r, g, bl) > 0x60 {
			bright++
		}
	}
	if bright == 0 {
		t.Error("no letters")
	}
	Terminal(&terminal.View{}, 10, 10)
	Terminal(v, 1, 1)
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	svg := file("a.svg", `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 20"><rect x="0" y="0" width="10" height="20" fill="#ff0000"/></svg>`)
	m, err := ReadFile(svg, 40)
	if err != nil {
		t.Fatal(err)
	}
	if r, _, _, a := m.At(20, 20).RGBA(); m.Bounds().Dx() != 40 || r < 0xf000 || a < 0xf000 {
		t.Errorf("%v, %x %x in the middle", m.Bounds(), r, a)
	}
	if _, _, _, a := m.At(2, 20).RGBA(); a != 0 {
		t.Error("it is stretched")
	}
	b, err := Encode(Letter("a", 30))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := ReadFile(file("a.png", string(b)), 40); err != nil || m.Bounds().Dx() != 30 {
		t.Errorf("%v", err)
	}
	for name, text := range map[string]string{"b.svg": "no svg", "c.svg": `<svg viewBox="0 0 10 10"></svg>`, "d.svg": "<svg/>", "b.png": "no png", "a.xpm": "/* XPM */"} {
		if _, err := ReadFile(file(name, text), 40); err == nil {
			t.Errorf("%s is an icon", name)
		}
	}
	if _, err := ReadFile(dir+"/none.png", 40); err == nil {
		t.Error("a file that is not there is an icon")
	}
}

func TestCheck(t *testing.T) {
	good, err := Encode(Letter("x", 64))
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(good, 64); err != nil {
		t.Error(err)
	}
	if err := Check(good, 63); err == nil {
		t.Error("too large, and taken")
	}
	if err := Check(good[:len(good)/2], 64); err == nil {
		t.Error("half of it is taken")
	}
	if err := Check([]byte("GIF89a"), 64); err == nil {
		t.Error("anything is taken")
	}
	// A header that promises gigabytes costs nothing.
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	huge := b.Bytes()
	copy(huge[16:], "\x00\x01\x00\x00\x00\x01\x00\x00")
	if err := Check(huge, 1024); err == nil {
		t.Error("65536 x 65536 pixels are taken")
	}
}

func FuzzSVG(f *testing.F) {
	f.Add([]byte(`<svg viewBox="0 0 10 20"><path d="M0 0L10 20z" fill="red"/></svg>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		drawSVG(b, 16) //nolint:errcheck // must not panic
	})
}
