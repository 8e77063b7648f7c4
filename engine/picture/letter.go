package picture

import (
	"hash/fnv"
	"image"
	"image/color"
	"math"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// fonts are parsed when they are first wanted.
var fonts = struct {
	medium, bold, mono, monoBold func() *opentype.Font
}{
	lazy(gomedium.TTF), lazy(gobold.TTF), lazy(gomono.TTF), lazy(gomonobold.TTF),
}

func lazy(ttf []byte) func() *opentype.Font {
	return sync.OnceValue(func() *opentype.Font {
		f, err := opentype.Parse(ttf)
		if err != nil {
			panic(err) // they are part of the program
		}
		return f
	})
}

func face(f *opentype.Font, size float64) font.Face {
	out, err := opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		panic(err) // of no font that is part of the program
	}
	return out
}

// calm are colours that white letters can be read on, and that do not shout.
var calm = []color.RGBA{
	{0x4f, 0x6d, 0x8f, 0xff}, {0x5b, 0x7a, 0x6b, 0xff}, {0x8a, 0x6b, 0x5a, 0xff}, {0x6f, 0x63, 0x8c, 0xff},
	{0x4a, 0x7c, 0x85, 0xff}, {0x7d, 0x5f, 0x75, 0xff}, {0x6b, 0x75, 0x52, 0xff}, {0x5a, 0x66, 0x7a, 0xff},
}

// Letter is an icon for what has none: the first letter of its name. The same
// name has the same colour everywhere.
func Letter(name string, size int) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, size, size))
	h := fnv.New32a()
	h.Write([]byte(name)) //nolint:errcheck // it never fails
	// As icons are drawn, with a little air around.
	s := float32(size)
	rounded(m, s*0.06, s*0.06, s*0.94, s*0.94, s*0.2, calm[h.Sum32()%uint32(len(calm))])
	text := "?"
	for _, r := range name {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			text = strings.ToUpper(string(r))
			break
		}
	}
	f := face(fonts.medium(), float64(size)*0.56)
	defer f.Close()
	bounds, _ := font.BoundString(f, text)
	d := font.Drawer{Dst: m, Src: image.NewUniform(color.RGBA{0xff, 0xff, 0xff, 0xff}), Face: f}
	middle := fixed.I(size) / 2
	d.Dot = fixed.Point26_6{X: middle - (bounds.Min.X+bounds.Max.X)/2, Y: middle - (bounds.Min.Y+bounds.Max.Y)/2}
	d.DrawString(text)
	return m
}

// rounded fills a rectangle with round corners.
func rounded(m *image.RGBA, x0, y0, x1, y1, r float32, c color.Color) {
	const k = 1 - 0.5522847 // of a quarter circle by a cubic curve
	v := vector.NewRasterizer(m.Rect.Dx(), m.Rect.Dy())
	q := r * k
	v.MoveTo(x0+r, y0)
	v.LineTo(x1-r, y0)
	v.CubeTo(x1-q, y0, x1, y0+q, x1, y0+r)
	v.LineTo(x1, y1-r)
	v.CubeTo(x1, y1-q, x1-q, y1, x1-r, y1)
	v.LineTo(x0+r, y1)
	v.CubeTo(x0+q, y1, x0, y1-q, x0, y1-r)
	v.LineTo(x0, y0+r)
	v.CubeTo(x0, y0+q, x0+q, y0, x0+r, y0)
	v.ClosePath()
	v.Draw(m, m.Rect, image.NewUniform(c), image.Point{})
}

// fill paints a rectangle in one colour.
func fill(m draw.Image, r image.Rectangle, c color.Color) {
	draw.Draw(m, r, image.NewUniform(c), image.Point{}, draw.Src)
}

func ceil(f fixed.Int26_6) int { return int(math.Ceil(float64(f) / 64)) }
