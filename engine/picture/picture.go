// Package picture draws the small pictures of apps: thumbnails of windows and of
// terminals, and icons.
//
// In a nutshell: Fit makes a picture smaller; Terminal draws a terminal's cells;
// ReadFile reads an icon's file, PNG or SVG; Letter is an icon for what has none;
// Encode makes the PNG that travels. Nothing here knows where pictures come from.
//
// The package holds no lock but that of its fonts, under which nothing blocks.
package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"strings"

	"github.com/fyne-io/oksvg"
	"github.com/srwiley/rasterx"
	"golang.org/x/image/draw"
)

// MaxSide bounds the sides of what is asked for.
const MaxSide = 4096

// Fit is a picture that fits into width x height and is no larger than it was.
func Fit(m image.Image, width, height int) image.Image {
	b := m.Bounds()
	if b.Empty() || b.Dx() <= width && b.Dy() <= height {
		return m
	}
	w, h := within(b.Dx(), b.Dy(), width, height)
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.CatmullRom.Scale(out, out.Rect, m, b, draw.Src, nil)
	return out
}

// within keeps the shape of w x h and makes it as large as fits.
func within(w, h, width, height int) (int, int) {
	if w*height > h*width {
		return max(width, 1), max(h*width/w, 1)
	}
	return max(w*height/h, 1), max(height, 1)
}

// Square is an icon of exactly size x size, with clear borders where it is not square.
func Square(m image.Image, size int) image.Image {
	b := m.Bounds()
	if b.Dx() == size && b.Dy() == size {
		return m
	}
	w, h := within(max(b.Dx(), 1), max(b.Dy(), 1), size, size)
	out := image.NewRGBA(image.Rect(0, 0, size, size))
	to := image.Rect(0, 0, w, h).Add(image.Pt((size-w)/2, (size-h)/2))
	draw.CatmullRom.Scale(out, to, m, b, draw.Over, nil)
	return out
}

// Encode makes a PNG.
func Encode(m image.Image) ([]byte, error) {
	var b bytes.Buffer
	e := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := e.Encode(&b, m); err != nil {
		return nil, fmt.Errorf("encoding a picture: %w", err)
	}
	return b.Bytes(), nil
}

// Check says whether b is a whole PNG whose sides have at most side pixels.
func Check(b []byte, side int) error {
	c, err := png.DecodeConfig(bytes.NewReader(b))
	if err == nil && (c.Width < 1 || c.Height < 1 || c.Width > side || c.Height > side) {
		err = fmt.Errorf("%d x %d pixels", c.Width, c.Height)
	}
	if err == nil {
		_, err = png.Decode(bytes.NewReader(b))
	}
	if err != nil {
		return fmt.Errorf("the picture is none: %w", err)
	}
	return nil
}

// maxFile bounds an icon's file.
const maxFile = 4 << 20

// ReadFile reads an icon: a PNG as it is, an SVG drawn at size.
func ReadFile(name string, size int) (image.Image, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the icon: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	var m image.Image
	switch {
	case err != nil:
	case strings.HasSuffix(name, ".svg"):
		m, err = drawSVG(b, size)
	case strings.HasSuffix(name, ".png"):
		var c image.Config
		if c, err = png.DecodeConfig(bytes.NewReader(b)); err == nil && (c.Width > MaxSide || c.Height > MaxSide) {
			err = errors.New("it is too large")
		}
		if err == nil {
			m, err = png.Decode(bytes.NewReader(b))
		}
	default:
		err = errors.New("it is neither PNG nor SVG")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the icon %s: %w", name, err)
	}
	return m, nil
}

// drawSVG draws what the library understands of a drawing; one that draws nothing
// is an error, so that another icon is looked for.
func drawSVG(b []byte, size int) (m image.Image, err error) {
	defer func() {
		if e := recover(); e != nil { // of drawings that it does not expect
			m, err = nil, fmt.Errorf("drawing it: %v", e)
		}
	}()
	icon, err := oksvg.ReadIconStream(bytes.NewReader(b), oksvg.IgnoreErrorMode)
	if err != nil {
		return nil, err
	}
	if icon.ViewBox.W <= 0 || icon.ViewBox.H <= 0 {
		return nil, errors.New("it has no size")
	}
	w, h := within(int(icon.ViewBox.W*16), int(icon.ViewBox.H*16), size, size)
	icon.SetTarget(float64(size-w)/2, float64(size-h)/2, float64(w), float64(h))
	out := image.NewRGBA(image.Rect(0, 0, size, size))
	scanner := rasterx.NewScannerGV(size, size, out, out.Rect)
	icon.Draw(rasterx.NewDasher(size, size, scanner), 1)
	for _, v := range out.Pix {
		if v != 0 {
			return out, nil
		}
	}
	return nil, errors.New("nothing of it can be drawn")
}
