package bridge

import "hither/engine/display/xwire"

// progress is how far the app's move is, as shown on its last pictures.
type progress struct {
	text  string
	share float64 // from 0 to 1
	font  xwire.Font
}

// The panel's measures, in pixels. The font is every server's own "fixed", of
// 6x13 pixels, which leaves the bar to say most.
const (
	panelWidth  = 320
	panelHeight = 58
	panelMargin = 14
	barHeight   = 10
	fixedWidth  = 6
)

// showProgress draws it on a window that shows its last picture.
func (b *Bridge) showProgress(w *window) {
	if b.App != nil || w.last == 0 || b.progress.text == "" {
		return
	}
	d := b.Desk
	if b.progress.font == 0 {
		b.progress.font = xwire.NewID[xwire.Font](d)
		d.OpenFont(b.progress.font, "fixed")
	}
	panel := rect{0, 0, min(panelWidth, w.place.w), min(panelHeight, w.place.h)}
	panel.x, panel.y = (w.place.w-panel.w)/2, (w.place.h-panel.h)/2
	fill := func(rgb uint32, r rect) {
		if r.empty() {
			return
		}
		d.ChangeGC(w.gc, xwire.GCValues{Mask: xwire.GCForeground, Foreground: b.colour(w, rgb)})
		d.PolyFillRectangle(xwire.Drawable(w.desk), w.gc, []xwire.Rectangle{{X: clip16(r.x), Y: clip16(r.y), Width: clipSize(r.w), Height: clipSize(r.h)}})
	}
	const back, trough, bar, ink = 0x2b2f36, 0x4a515c, 0x5aa2e0, 0xf2f4f7
	fill(back, panel)
	line := rect{panel.x + panelMargin, panel.bottom() - panelMargin - barHeight, panel.w - 2*panelMargin, barHeight}
	fill(trough, line)
	line.w = int(float64(line.w) * max(0, min(b.progress.share, 1)))
	fill(bar, line)
	text := b.progress.text
	if most := (panel.w - 2*panelMargin) / fixedWidth; len(text) > most {
		text = text[:max(most, 0)]
	}
	if text == "" {
		return
	}
	d.ChangeGC(w.gc, xwire.GCValues{Mask: xwire.GCForeground | xwire.GCBackground | xwire.GCFont,
		Foreground: b.colour(w, ink), Background: b.colour(w, back), Font: b.progress.font})
	d.ImageText8(xwire.Drawable(w.desk), w.gc, clip16(panel.x+panelMargin), clip16(panel.y+panelMargin+11), text)
}

// colour is a colour as the native window has it.
func (b *Bridge) colour(w *window, rgb uint32) uint32 {
	if w.native == 32 {
		return 0xff000000 | rgb
	}
	l := b.visuals.looks[b.visuals.plain]
	bytes := xwire.Uint32s(rgb)
	return xwire.ToUint32s(append(l.convert(bytes, 1, 1), 0, 0, 0, 0))[0]
}
