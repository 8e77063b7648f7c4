package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"time"
)

// album holds pictures of both desktops at some moments.
type album struct {
	moments []moment
}

type moment struct {
	name     string
	desktops [2]image.Image // of a and b
	raw      [2][]byte
}

const (
	restTries = 20 // looks at a desktop that does not come to rest: a cursor blinks
	restPause = 60 * time.Millisecond
)

// photograph takes a picture of each desktop when nothing has changed on it for a moment.
func (d *demo) photograph(ctx context.Context, a *album, name string) error {
	m := moment{name: name}
	for i, host := range []string{"a", "b"} {
		for try := 0; try < restTries; try++ {
			text, err := d.do(ctx, "", "shot", host, "-")
			if err != nil {
				return err
			}
			same := text == string(m.raw[i])
			m.raw[i] = []byte(text)
			if same {
				break
			}
			select {
			case <-ctx.Done():
				return ended(ctx)
			case <-time.After(restPause):
			}
		}
		var err error
		if m.desktops[i], err = png.Decode(bytes.NewReader(m.raw[i])); err != nil {
			return fmt.Errorf("reading the picture of host %s: %w", host, err)
		}
	}
	a.moments = append(a.moments, m)
	return nil
}

// save writes all pictures into a folder, and one of all together.
func (a *album) save(folder string) error {
	write := func(name string, data []byte) error { return os.WriteFile(filepath.Join(folder, name), data, 0o644) }
	err := os.MkdirAll(folder, 0o755)
	for n, m := range a.moments {
		for i, host := range []string{"a", "b"} {
			if err == nil {
				err = write(fmt.Sprintf("%d-%s-%s.png", n+1, m.name, host), m.raw[i])
			}
		}
	}
	if err == nil {
		var together bytes.Buffer
		if err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&together, a.together()); err == nil {
			err = write("desktops.png", together.Bytes())
		}
	}
	if err != nil {
		return fmt.Errorf("writing the pictures: %w", err)
	}
	return nil
}

// together shows the middle of both desktops side by side, one moment below the other.
func (a *album) together() image.Image {
	const gap = 8
	part := middle(a.moments[0].desktops[0].Bounds())
	w, h := part.Dx()+gap, part.Dy()+gap
	all := image.NewPaletted(image.Rect(0, 0, 2*w-gap, len(a.moments)*h-gap), nil)
	var cells []cell
	for n, m := range a.moments {
		for i, desktop := range m.desktops {
			cells = append(cells, cell{desktop, image.Rect(0, 0, part.Dx(), part.Dy()).Add(image.Pt(i*w, n*h)), part.Min})
		}
	}
	if all.Palette = commonColours(cells); len(all.Palette) <= 256 {
		for _, c := range cells {
			draw.Draw(all, c.to, c.from, c.at, draw.Src)
		}
		return all
	}
	full := image.NewRGBA(all.Rect)
	draw.Draw(full, full.Rect, image.White, image.Point{}, draw.Src)
	for _, c := range cells {
		draw.Draw(full, c.to, c.from, c.at, draw.Src)
	}
	return full
}

// middle is where windows are put, and their first lines.
func middle(screen image.Rectangle) image.Rectangle {
	w, h := screen.Dx(), screen.Dy()
	return image.Rect(w*22/100, h*15/100, w*78/100, h*47/100)
}

type cell struct {
	from image.Image
	to   image.Rectangle
	at   image.Point
}

// commonColours are those of all cells, white first; there may be more than a palette holds.
func commonColours(cells []cell) color.Palette {
	seen := map[color.RGBA]bool{{255, 255, 255, 255}: true}
	palette := color.Palette{color.RGBA{255, 255, 255, 255}}
	for _, c := range cells {
		for y := range c.to.Dy() {
			for x := range c.to.Dx() {
				at := color.RGBAModel.Convert(c.from.At(c.at.X+x, c.at.Y+y)).(color.RGBA)
				if !seen[at] {
					seen[at] = true
					palette = append(palette, at)
				}
			}
		}
	}
	return palette
}
