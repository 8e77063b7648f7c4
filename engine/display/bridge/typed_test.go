package bridge

import (
	"fmt"
	"slices"
	"testing"

	"hither/engine/display"
	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

const shiftKey = 50

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
// it was typed at; and so on another host, before all that is typed there.
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

		// The app leaves: what is typed up to the end of its windows goes along.
		b.click(at.x+5, at.y+5)
		b.focused(one)
		b.hand(fakeKeyPress, shiftKey, 0, 0) // held when the app goes
		eventually(t, "Shift held", func() bool { return must(b.app.QueryKeymap())(t).Keys[shiftKey/8] != 0 })
		b.part()
		press(38)
		b.hand(fakeKeyRelease, shiftKey, 0, 0)
		press(56)
		b.orders <- display.Order{Op: display.OpLeft}
		typed := <-b.typed
		if r := must(b.user.QueryTree(b.user.Root()))(t); b.findNative(b.user.Root(), "one") != 0 {
			t.Errorf("its windows have not gone: %v", r.Children)
		}
		<-b.ended
		drain(b.app)

		// There, what is typed at once comes after it, each by its own keymap.
		setLayout(t, b.desk, "-layout", "fr")
		b.o.Begin.Arrived = true
		b.start()
		_, at = b.ready("one", one)
		b.awaitPixel(at.x+5, at.y+5, 0x808080)
		b.click(at.x+5, at.y+5)
		b.focused(one)
		press(39, 41)
		b.orders <- display.Order{Op: display.OpTyped, Typed: typed}
		var got []string
		for !slices.Contains(got, "41") {
			switch e := await(t, b.app, func(xwire.Event) bool { return true }).(type) {
			case *xwire.KeyPressEvent:
				got = append(got, fmt.Sprint(e.Detail))
				if shift := e.State&xwire.KeyButMaskShift != 0; e.Detail != shiftKey && shift != (e.Detail == 38) {
					t.Errorf("of key %d Shift is held: %v", e.Detail, shift)
				}
			case *xwire.MappingNotifyEvent:
				if !slices.Contains(got, "keymap") {
					got = append(got, "keymap")
				}
			}
		}
		if want := []string{fmt.Sprint(shiftKey), "38", "56", "keymap", "39", "41"}; !slices.Equal(got, want) {
			t.Errorf("elsewhere came %v, not %v", got, want)
		}
		eventually(t, "no key held", func() bool { return must(b.app.QueryKeymap())(t).Keys == [32]byte{} })
		// What comes later is too late.
		b.orders <- display.Order{Op: display.OpTyped, Typed: typed}
		press(40)
		if got := typedKeys(t, b, one, 1); got[0] != 40 {
			t.Errorf("what came late was typed: %v", got)
		}
	})
}

// TestNothingTypedElsewhere: an app that arrives waits for what was typed elsewhere, but not for long.
func TestNothingTypedElsewhere(t *testing.T) {
	b := newBench(t, xservers.Xvfb(t, size), true)
	b.o.Begin.Arrived = true
	b.start()
	w := b.appWindow("here", rect{0, 0, 200, 100}, 0x808080, nil)
	_, at := b.ready("here", w)
	b.awaitPixel(at.x+5, at.y+5, 0x808080)
	b.click(at.x+5, at.y+5)
	b.focused(w)
	b.hand(fakeKeyPress, 38, 0, 0)
	b.hand(fakeKeyRelease, 38, 0, 0)
	if got := typedKeys(t, b, w, 1); got[0] != 38 {
		t.Errorf("the keys came as %v", got)
	}
}
