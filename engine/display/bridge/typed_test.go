package bridge

import (
	"testing"

	"hither/engine/display"
	"hither/engine/display/xwire"
)

// typedKeys are the keys that a window gets next, until it has so many.
func typedKeys(t *testing.T, b *bench, w xwire.Window, n int) (out []uint8) {
	t.Helper()
	for range n {
		e := await(t, b.app, func(e *xwire.KeyPressEvent) bool { return e.Event == w })
		out = append(out, uint8(e.Detail))
	}
	return out
}

// TestTypedMeanwhile: what is typed while the app is let go of is the app's when it is taken hold of again, in the window that
// it was typed at; and so on another host.
func TestTypedMeanwhile(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		one := b.appWindow("one", rect{0, 0, 200, 100}, 0x808080, nil)
		_, at := b.ready("one", one)
		two := b.appWindow("two", rect{0, 0, 200, 100}, 0x404040, nil)
		_, at2 := b.ready("two", two)
		b.awaitPixel(at.x+5, at.y+5, 0x808080)
		b.click(at.x+5, at.y+5)
		b.focused(one)
		b.hand(fakeKeyPress, 24, 0, 0) // held when the app goes
		typedKeys(t, b, one, 1)
		b.part()
		b.hand(fakeKeyRelease, 24, 0, 0)
		press := func(codes ...uint8) {
			for _, c := range codes {
				b.hand(fakeKeyPress, c, 0, 0)
				b.hand(fakeKeyRelease, c, 0, 0)
			}
			_ = b.user.Sync()
		}
		press(38, 56)
		b.hand(fakeKeyPress, 40, 0, 0) // held when it comes back
		press(54)
		// The other window takes the keyboard of the desktop meanwhile.
		b.click(at2.x+5, at2.y+5)
		native := b.nativeWindow("two")
		eventually(t, "the focus of the other window", func() bool {
			r, err := b.user.GetInputFocus()
			return err == nil && r.Focus == native
		})
		press(39)
		b.orders <- display.Order{Op: display.OpTyped}
		typed := <-b.typed
		drain(b.app)
		b.back()
		if got := typedKeys(t, b, one, 4); string(got) != string([]uint8{38, 56, 40, 54}) {
			t.Errorf("the keys came as %v", got)
		}
		if got := typedKeys(t, b, two, 1); got[0] != 39 {
			t.Errorf("in the other window: %v", got)
		}
		eventually(t, "no key held", func() bool { return must(b.app.QueryKeymap())(t).Keys == [32]byte{} })
		b.hand(fakeKeyRelease, 40, 0, 0)

		b.part()
		b.stop()
		drain(b.app)
		b.o.Begin.Typed = typed
		b.start()
		if got := typedKeys(t, b, one, 4); string(got) != string([]uint8{38, 56, 40, 54}) {
			t.Errorf("elsewhere the keys came as %v", got)
		}
		if got := typedKeys(t, b, two, 1); got[0] != 39 {
			t.Errorf("elsewhere, in the other window: %v", got)
		}
		eventually(t, "no key held", func() bool { return must(b.app.QueryKeymap())(t).Keys == [32]byte{} })
	})
}
