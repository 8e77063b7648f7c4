package bridge

import (
	"slices"
	"time"

	"hither/engine/display/xwire"
)

// grab: an app that shows a menu grabs the pointer, so that a click elsewhere
// closes the menu. What happens elsewhere on the desktop must then come to the
// bridge, which grabs the desktop's pointer as long as such a popup is shown.
// Not every popup is one: a click while a tooltip is shown is nobody's but the
// other window's. So the popup's type tells, or the app's server tells of a grab: crossing and
// focus events have the mode NotifyGrab then. Grabs between windows further
// inside are not told of; they are found by trying.
type grab struct {
	inside bool // the app has grabbed
	held   bool // so has the bridge
	tries  int  // in vain, in a row
	again  bool // the next is coming

	// own is of what numbers, from and up to, the events are that probes cause inside.
	own [][2]uint64
}

const (
	tryAgain  = 20 * time.Millisecond
	mostTries = 50
)

// menuKinds are popups that come with a grab; kinds that never do.
var (
	menuKinds = map[string]bool{
		"_NET_WM_WINDOW_TYPE_DROPDOWN_MENU": true, "_NET_WM_WINDOW_TYPE_POPUP_MENU": true,
		"_NET_WM_WINDOW_TYPE_COMBO": true, "_NET_WM_WINDOW_TYPE_MENU": true,
	}
	quietKinds = map[string]bool{
		"_NET_WM_WINDOW_TYPE_TOOLTIP": true, "_NET_WM_WINDOW_TYPE_NOTIFICATION": true,
		"_NET_WM_WINDOW_TYPE_DND": true, "_NET_WM_WINDOW_TYPE_SPLASH": true, "_NET_WM_WINDOW_TYPE_DOCK": true,
	}
)

// appGrab is told the mode of crossing and focus events inside.
func (b *Bridge) appGrab(mode xwire.NotifyMode, sequence uint64) {
	b.grab.own = slices.DeleteFunc(b.grab.own, func(n [2]uint64) bool { return n[1] <= sequence })
	if len(b.grab.own) > 0 && b.grab.own[0][0] <= sequence {
		return
	}
	switch mode {
	case xwire.NotifyModeGrab:
		b.grab.inside = true
	case xwire.NotifyModeUngrab:
		b.grab.inside = false
	default:
		return
	}
	b.followPopups()
}

// probeAfter is when a grab is tried after a popup has come, which many apps map
// first.
const probeAfter = 50 * time.Millisecond

// popup is the popup that may come with a grab, the last one if there are several.
func (b *Bridge) popup() *window {
	for _, p := range slices.Backward(b.popups) {
		if !quietKinds[p.kind] {
			return p
		}
	}
	return nil
}

// probe finds out whether the app has grabbed the keyboard, as those that grab
// the pointer for a menu do: then nobody else can. What others see of the try are
// two focus events of a grab's kind, which toolkits ignore.
func (b *Bridge) probe() {
	p := b.popup()
	if b.App == nil || p == nil || b.grab.held || menuKinds[p.kind] {
		return
	}
	own := [2]uint64{b.App.Sequence() + 1}
	r, err := b.App.GrabKeyboard(true, b.appWin, 0, xwire.GrabModeAsync, xwire.GrabModeAsync)
	if err != nil {
		return
	}
	if r.Status == xwire.GrabStatusSuccess {
		b.App.UngrabKeyboard(0)
		b.App.NoOperation() // what others cause from now on has another number
		own[1] = b.App.Sequence()
		b.grab.own = append(b.grab.own, own)
		return
	}
	b.grab.inside = r.Status == xwire.GrabStatusAlreadyGrabbed
	b.followPopups()
}

// followPopups grabs the desktop's pointer or lets go of it.
func (b *Bridge) followPopups() {
	var popup *window
	for _, p := range b.popups {
		if !quietKinds[p.kind] && (menuKinds[p.kind] || b.grab.inside) {
			popup = p
		}
	}
	if popup == nil {
		b.grab.tries = 0
		if b.grab.held {
			b.Desk.UngrabPointer(0)
			b.grab.held = false
		}
		return
	}
	if b.grab.held {
		return
	}
	on := b.focus
	if on == nil || !on.viewable {
		on = popup
	}
	r, err := b.Desk.GrabPointer(true, on.desk,
		xwire.EventMaskButtonPress|xwire.EventMaskButtonRelease|xwire.EventMaskPointerMotion|xwire.EventMaskEnterWindow|xwire.EventMaskLeaveWindow,
		xwire.GrabModeAsync, xwire.GrabModeAsync, 0, 0, 0)
	b.grab.held = err == nil && r.Status == xwire.GrabStatusSuccess
	if b.grab.held || err != nil {
		b.grab.tries = 0
		return
	}
	// Somebody else has it at this very moment, such as the window manager while
	// it looks at a click.
	if b.grab.tries++; b.grab.tries < mostTries && !b.grab.again {
		b.grab.again = true
		b.after(tryAgain, func() {
			b.grab.again = false
			if b.App != nil {
				b.followPopups()
			}
		})
	}
}
