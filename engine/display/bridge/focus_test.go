package bridge

import (
	"slices"
	"testing"

	"hither/engine/display/xwire"
)

// TestFocused: the app is told which of its windows has the keyboard, also by its state, which toolkits go by; and
// that none has, where it arrives behind the window of somebody else.
func TestFocused(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		state, focused := must(b.app.Atom("_NET_WM_STATE"))(t), must(b.app.Atom("_NET_WM_STATE_FOCUSED"))(t)
		w := b.appWindow("mine", rect{0, 0, 200, 100}, 0x336699, nil)
		_, at := b.ready("mine", w)
		says := func(want bool) {
			t.Helper()
			eventually(t, "the state", func() bool {
				p := must(b.app.GetProperty(false, w, state, xwire.AtomAtom, 0, 100))(t)
				has := slices.Contains(xwire.ToUint32s(p.Value), uint32(focused))
				focus := must(b.app.GetInputFocus())(t).Focus
				return has == want && (focus == w) == want
			})
		}
		b.awaitPixel(at.x+5, at.y+5, 0x336699)
		b.click(at.x+5, at.y+5)
		says(true)
		other := xwire.NewID[xwire.Window](b.user)
		b.user.CreateWindow(0, other, b.user.Root(), 700, 500, 200, 100, 0, xwire.WindowClassInputOutput, 0, xwire.WindowValues{
			Mask: xwire.CWBackPixel, BackgroundPixel: 0x00ff00})
		b.user.MapWindow(other)
		_ = b.user.Flush()
		var o rect
		eventually(t, "the other window", func() bool {
			o = place(t, b.user, other)
			return b.pixel(o.x+100, o.y+50) == 0x00ff00
		})
		b.click(o.x+100, o.y+50)
		says(false)
		b.click(at.x+5, at.y+5)
		says(true)
		// Let go of with the keyboard, taken hold of without.
		b.part()
		b.click(o.x+100, o.y+50)
		eventually(t, "the other's focus", func() bool { return must(b.user.GetInputFocus())(t).Focus == other })
		says(true)
		b.back()
		says(false)
	})
}
