package tray

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	_ "image/png" // the icons
	"math"
	"os"
	"path/filepath"
	"sync"

	"hither/assets"
)

// Panels look icons up by name, and draw those whose name ends in -symbolic in the colour of
// their text, dark on light or light on dark. Where a panel cannot, it draws the pixmaps: the
// app's icon in its colours, with a dot for the state.

// iconName is the icon of a state; empty if the icons could not be written.
func (o Options) iconName(s State) string {
	if o.IconDir == "" {
		return ""
	}
	return "hither-" + string(s) + "-symbolic"
}

// writeIcons puts the icons where panels can read them, both as a theme has them and plainly:
// panels differ in how they look.
func (o Options) writeIcons() error {
	if o.IconDir == "" {
		return nil
	}
	for _, s := range []State{Idle, Moving, Attention} {
		name := o.iconName(s) + ".svg"
		b, err := assets.Icons.ReadFile("icons/hicolor/symbolic/apps/" + name)
		if err != nil {
			return fmt.Errorf("reading the icon %s: %w", name, err)
		}
		for _, dir := range []string{o.IconDir, filepath.Join(o.IconDir, "hicolor/symbolic/apps")} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fmt.Errorf("writing the icon %s: %w", name, err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				return fmt.Errorf("writing the icon %s: %w", name, err)
			}
		}
	}
	// Notifications show the app's own.
	if err := os.WriteFile(filepath.Join(o.IconDir, "hither.png"), assets.AppIcon, 0o600); err != nil {
		return fmt.Errorf("writing the icon hither.png: %w", err)
	}
	return nil
}

// pixmap is a picture as the bus carries it: 4 bytes a pixel, alpha, red, green, blue.
type pixmap struct {
	W, H int32
	Data []byte
}

var drawn struct {
	sync.Once
	of map[State][]pixmap
}

func pixmaps(s State) []pixmap {
	drawn.Do(func() {
		drawn.of = map[State][]pixmap{}
		for _, size := range []int{22, 24, 32, 48} {
			b, err := assets.Icons.ReadFile(fmt.Sprintf("icons/hicolor/%dx%d/apps/hither.png", size, size))
			if err != nil {
				continue
			}
			img, _, err := image.Decode(bytes.NewReader(b))
			if err != nil {
				continue
			}
			for state, dot := range map[State]color.NRGBA{Idle: {}, Moving: {0xff, 0xb2, 0x24, 0xff}, Attention: {0xe5, 0x48, 0x4d, 0xff}} {
				drawn.of[state] = append(drawn.of[state], draw(img, dot))
			}
		}
	})
	if p := drawn.of[s]; p != nil {
		return p
	}
	return []pixmap{}
}

// draw is the picture with a dot in its upper right corner, with a rim around it.
func draw(img image.Image, dot color.NRGBA) pixmap {
	b := img.Bounds()
	p := pixmap{W: int32(b.Dx()), H: int32(b.Dy()), Data: make([]byte, 0, 4*b.Dx()*b.Dy())}
	r := float64(b.Dx()) * 0.24
	cx, cy := float64(b.Dx())-r, r
	for y := range b.Dy() {
		for x := range b.Dx() {
			c := color.NRGBAModel.Convert(img.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA)
			if dot.A != 0 {
				d := math.Hypot(float64(x)+.5-cx, float64(y)+.5-cy)
				c.A = uint8(float64(c.A) * clamp(d-r-.5)) // the rim is clear
				if in := clamp(r - d); in > 0 {
					c = dot
					c.A = uint8(255 * in)
				}
			}
			p.Data = append(p.Data, c.A, c.R, c.G, c.B)
		}
	}
	return p
}

func clamp(f float64) float64 { return math.Max(0, math.Min(1, f)) }
