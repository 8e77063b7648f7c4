package bridge

import (
	"testing"

	"hither/engine/display/xwire"
)

// TestSync: an app that draws slowly is told of the next size when it has drawn the one before, of none in between;
// its picture is shown when it is done, and only then the desktop's window manager goes on.
func TestSync(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		for _, c := range []*xwire.Conn{b.app, b.user} {
			if err := c.Use(xwire.Sync); err != nil {
				t.Fatal(err)
			}
		}
		counter := xwire.NewID[xwire.SyncCounter](b.app)
		b.app.SyncCreateCounter(counter, xwire.SyncInt64{})
		names := must(b.app.Atoms("WM_PROTOCOLS", "WM_DELETE_WINDOW", "_NET_WM_SYNC_REQUEST", "_NET_WM_SYNC_REQUEST_COUNTER"))(t)
		b.start()
		w := b.appWindow("slow", rect{0, 0, 200, 100}, 0x336699, func(w xwire.Window) {
			b.app.ChangeProperty(xwire.PropModeReplace, w, names[0], xwire.AtomAtom, 32, xwire.Uint32s(names[1], names[2]))
			b.app.ChangeProperty(xwire.PropModeReplace, w, names[3], xwire.AtomCardinal, 32, xwire.Uint32s(counter))
		})
		native, at := b.ready("slow", w)
		b.awaitPixel(at.x+1, at.y+1, 0x336699)
		outside := must(b.user.Atoms("WM_PROTOCOLS", "_NET_WM_SYNC_REQUEST", "_NET_WM_SYNC_REQUEST_COUNTER"))(t)
		p := must(b.user.GetProperty(false, native, outside[2], xwire.AtomCardinal, 0, 1))(t)
		if len(p.Value) != 4 {
			t.Fatal("the native window has no counter")
		}
		own := xwire.SyncCounter(xwire.ToUint32s(p.Value)[0])
		shown := func() uint32 { return must(b.user.SyncQueryCounter(own))(t).CounterValue.Lo }
		resize := func(value uint32, width, height int) {
			m := xwire.ClientMessageEvent{Format: 32, Window: native, Type: outside[0], Data: xwire.MessageData(uint32(outside[1]), 0, value, 0)}
			b.user.SendEvent(false, native, 0, m.Encode())
			b.user.ConfigureWindow(native, xwire.ConfigureValues{Mask: xwire.ConfigWindowWidth | xwire.ConfigWindowHeight, Width: uint32(width), Height: uint32(height)})
			_ = b.user.Sync()
		}
		asks := func() xwire.SyncInt64 {
			t.Helper()
			m := await(t, b.app, func(e *xwire.ClientMessageEvent) bool {
				return e.Window == w && xwire.Atom(e.Data.Uint32(0)) == names[2]
			})
			return xwire.SyncInt64{Hi: int32(m.Data.Uint32(3)), Lo: m.Data.Uint32(2)}
		}
		sized := func() (width int) {
			t.Helper()
			e := await(t, b.app, func(e *xwire.ConfigureNotifyEvent) bool {
				return e.Window == w && !e.Synthetic && (int(e.Width) != at.w)
			})
			at.w = int(e.Width)
			return at.w
		}
		drain(b.app)
		resize(7, 300, 200)
		value := asks()
		if width := sized(); width != 300 {
			t.Errorf("the first size is %d", width)
		}
		for i := range 20 {
			resize(uint32(8+i), 310+i, 210)
		}
		eventually(t, "the size outside", func() bool { return place(t, b.user, native).w == 329 })
		if n := shown(); n != 0 {
			t.Errorf("the window manager is told of %d before the app has drawn", n)
		}
		// Now it draws.
		told := 0
		for width := 300; ; told++ {
			colour := uint32(0x00ff00)
			if width == 329 {
				colour = 0xff0000
			}
			b.fill(w, colour, rect{0, 0, width, 210})
			b.app.SyncSetCounter(counter, value)
			_ = b.app.Flush()
			if width == 329 {
				break
			}
			value = asks()
			width = sized()
		}
		if told > 5 { // in fact one or two
			t.Errorf("it is told of %d sizes", told)
		}
		eventually(t, "the end of the window manager's wait", func() bool { return shown() == 27 })
		at = place(t, b.user, native)
		if c := b.pixel(at.right()-2, at.bottom()-2); c != 0xff0000 {
			t.Errorf("by then the picture is %06x", c)
		}
		// One that never draws is not waited for in the end.
		resize(13, 400, 300)
		asks()
		resize(14, 500, 400)
		eventually(t, "the last size inside", func() bool { r := place(t, b.app, w); return r.w == 500 && r.h == 400 })
		eventually(t, "the end of the last wait", func() bool { return shown() == 14 })
	})
}
