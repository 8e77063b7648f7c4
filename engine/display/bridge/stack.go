package bridge

import (
	"slices"

	"hither/engine/display/xwire"
)

// noteStack puts the app's windows inside into the order that the native ones are in,
// which the next bridge shows them in. A window that has the keyboard need not be the
// topmost.
func (b *Bridge) noteStack() {
	r, err := b.Desk.GetProperty(false, b.Desk.Root(), b.d["_NET_CLIENT_LIST_STACKING"], xwire.AtomWindow, 0, maxProperty)
	if err != nil || r.Format != 32 {
		return
	}
	for _, id := range xwire.ToUint32s(r.Value) { // from the bottom to the top
		if w := b.native[xwire.Window(id)]; w != nil && !w.popup {
			b.App.ConfigureWindow(w.app, xwire.ConfigureValues{Mask: xwire.ConfigWindowStackMode, StackMode: xwire.StackModeAbove})
		}
	}
}

// wakeActive asks for the keyboard for the window that had it, and keeps those above
// it there. b.order is in the order of their stack.
func (b *Bridge) wakeActive() {
	w := b.windows[b.active]
	if w == nil {
		return
	}
	b.activateNative(w, 0)
	for _, above := range b.order[slices.Index(b.order, w)+1:] {
		b.Desk.ConfigureWindow(above.desk, xwire.ConfigureValues{Mask: xwire.ConfigWindowStackMode, StackMode: xwire.StackModeAbove})
	}
}
