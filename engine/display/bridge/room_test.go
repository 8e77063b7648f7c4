package bridge

import (
	"testing"

	"hither/engine/display/xwire"
)

// TestRoom: a window that an app makes larger than the desktop, since the screen inside is larger, stays on it.
func TestRoom(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		desk := rect{0, 0, 1280, 800}
		w := b.appWindow("large", rect{0, 0, 3000, 2000}, 0x336699, nil)
		if _, at := b.ready("large", w); at.w > desk.w || at.h > desk.h || at.w < desk.w-20 {
			t.Errorf("it is at %+v", at)
		}
		w = b.appWindow("grows", rect{0, 0, 300, 200}, 0x336699, nil)
		_, at := b.ready("grows", w)
		b.awaitPixel(at.x+5, at.y+5, 0x336699)
		b.app.ConfigureWindow(w, xwire.ConfigureValues{Mask: xwire.ConfigWindowWidth | xwire.ConfigWindowHeight, Width: 2000, Height: 300})
		_ = b.app.Flush()
		eventually(t, "the new size", func() bool {
			_, at = b.ready("grows", w)
			return at.h == 300
		})
		if !at.within(desk) || at.w < desk.w-20 {
			t.Errorf("it has grown to %+v", at)
		}
	})
}
