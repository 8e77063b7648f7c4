package bridge

import "hither/engine/display/xwire"

// grab: an app that shows a menu grabs the pointer, so that a click elsewhere
// closes the menu. What happens elsewhere on the desktop must then come to the
// bridge, which grabs the desktop's pointer as long as such a popup is shown.
// Not every popup is one: a click while a tooltip is shown is nobody's but the
// other window's. So the popup's type tells, or that the app's server tells of a grab: crossing and
// focus events have the mode NotifyGrab then.
type grab struct {
	inside bool // the app has grabbed
	held   bool // so has the bridge
}

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
func (b *Bridge) appGrab(mode xwire.NotifyMode) {
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

// followPopups grabs the desktop's pointer or lets go of it.
func (b *Bridge) followPopups() {
	var popup *window
	for _, p := range b.popups {
		if !quietKinds[p.kind] && (menuKinds[p.kind] || b.grab.inside) {
			popup = p
		}
	}
	if popup == nil {
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
}
