package bridge

import (
	"slices"
	"testing"

	"hither/engine/display/xwire"
)

// TestStack: windows that arrive lie above each other as they did, and the one that had the keyboard has it, though it
// is not the topmost.
func TestStack(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		var apps []xwire.Window
		names := []string{"one", "two", "three"}
		at := map[string]rect{}
		for _, name := range names {
			w := b.appWindow(name, rect{0, 0, 200, 100}, 0x336699, nil)
			apps = append(apps, w)
			_, at[name] = b.ready(name, w)
			b.awaitPixel(at[name].x+5, at[name].y+5, 0x336699)
		}
		// As names, from the bottom to the top.
		stack := func() (list []string) {
			p := must(b.user.GetProperty(false, b.user.Root(), must(b.user.Atom("_NET_CLIENT_LIST_STACKING"))(t), xwire.AtomWindow, 0, 100))(t)
			for _, id := range xwire.ToUint32s(p.Value) {
				if r, err := b.user.GetProperty(false, xwire.Window(id), xwire.AtomWmName, xwire.AtomAny, 0, 64); err == nil {
					list = append(list, string(r.Value))
				}
			}
			return list
		}
		want := []string{"two", "one", "three"}
		b.click(at["one"].x+5, at["one"].y+5)
		b.focused(apps[0])
		for _, name := range want {
			b.user.ConfigureWindow(b.nativeWindow(name), xwire.ConfigureValues{Mask: xwire.ConfigWindowStackMode, StackMode: xwire.StackModeAbove})
		}
		_ = b.user.Flush()
		eventually(t, "the stack", func() bool { return slices.Equal(stack(), want) })
		b.focused(apps[0])
		b.part()
		b.stop()
		eventually(t, "an empty desktop", func() bool { return len(stack()) == 0 })
		b.start()
		eventually(t, "the same stack", func() bool { return slices.Equal(stack(), want) })
		b.focused(apps[0])
		native := b.nativeWindow("one")
		eventually(t, "the keyboard", func() bool { return must(b.user.GetInputFocus())(t).Focus == native })
		if got := stack(); !slices.Equal(got, want) {
			t.Errorf("then it is %v", got)
		}
	})
}
