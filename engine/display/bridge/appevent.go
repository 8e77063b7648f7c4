package bridge

import "hither/engine/display/xwire"

// appEvent deals with an event of the app's server.
func (b *Bridge) appEvent(ev xwire.Event) {
	switch ev := ev.(type) {
	case *xwire.DamageNotifyEvent:
		if w := b.windows[xwire.Window(ev.Drawable)]; w != nil {
			w.damaged = true
		}
	case *xwire.MapRequestEvent:
		if w := b.windows[ev.Window]; w != nil {
			b.activateNative(w, ev.Window) // an iconic window that the app wants back
			b.App.MapWindow(ev.Window)
			return
		}
		b.manage(ev.Window, false)
		b.rescale()
		if b.windows[ev.Window] == nil {
			b.App.MapWindow(ev.Window)
		}
	case *xwire.MapNotifyEvent:
		if ev.Event != b.App.Root() {
			return
		}
		switch w := b.windows[ev.Window]; {
		case w == nil:
			b.manage(ev.Window, true)
			b.rescale()
		case w.pixmap == 0:
			b.appears(w)
		}
	case *xwire.UnmapNotifyEvent:
		// Those that an app sends are for windows that are unmapped already.
		if w := b.windows[ev.Window]; w != nil && (ev.Event == b.App.Root() || ev.Synthetic) {
			b.drop(w, false)
			b.rescale()
		}
	case *xwire.DestroyNotifyEvent:
		if w := b.windows[ev.Window]; w != nil {
			b.drop(w, true)
			b.rescale()
		}
	case *xwire.ReparentNotifyEvent:
		if w := b.windows[ev.Window]; w != nil && ev.Parent != b.App.Root() {
			b.drop(w, false)
		}
	case *xwire.ConfigureRequestEvent:
		b.wish(ev)
	case *xwire.ConfigureNotifyEvent:
		if w := b.windows[ev.Window]; w != nil && ev.Event == b.App.Root() && !ev.Synthetic {
			b.configured(w, ev)
		}
	case *xwire.CirculateRequestEvent:
		if w := b.windows[ev.Window]; w != nil {
			b.restack(w, map[bool]xwire.StackMode{true: xwire.StackModeAbove, false: xwire.StackModeBelow}[ev.Place == xwire.PlaceOnTop])
		}
	case *xwire.PropertyNotifyEvent:
		if w := b.windows[ev.Window]; w != nil {
			b.appProperty(w, ev.Atom)
		}
	case *xwire.ClientMessageEvent:
		b.appMessage(ev)
	case *xwire.ShapeNotifyEvent:
		if w := b.windows[ev.AffectedWindow]; w != nil && ev.ShapeKind != xwire.ShapeSkClip {
			b.copyShape(w)
		}
	case *xwire.SyncAlarmNotifyEvent:
		b.syncAlarm(ev)
	case *xwire.XkbBellNotifyEvent:
		b.Desk.Bell(0) // as loud as bells are there
	case *xwire.XFixesCursorNotifyEvent:
		b.cursorChanged(ev.CursorSerial)
	case *xwire.EnterNotifyEvent:
		b.appGrab(ev.Mode, ev.Sequence)
	case *xwire.LeaveNotifyEvent:
		b.appGrab(ev.Mode, ev.Sequence)
	case *xwire.FocusInEvent:
		b.appGrab(ev.Mode, ev.Sequence)
	case *xwire.FocusOutEvent:
		b.appGrab(ev.Mode, ev.Sequence)
	case *xwire.Error:
		b.log.Debug("of the app's server", "error", ev)
	}
}

// wish passes an app's wish for another place or size on.
func (b *Bridge) wish(ev *xwire.ConfigureRequestEvent) {
	w := b.windows[ev.Window]
	if w == nil {
		// Not seen yet: it may be as it likes, without a border unless it is a popup.
		b.App.ConfigureWindow(ev.Window, xwire.ConfigureValues{
			Mask: ev.ValueMask &^ (xwire.ConfigWindowSibling | xwire.ConfigWindowStackMode),
			X:    int32(ev.X), Y: int32(ev.Y), Width: uint32(ev.Width), Height: uint32(ev.Height), BorderWidth: uint32(ev.BorderWidth),
		})
		return
	}
	want, in := w.place, w.at
	var mask xwire.ConfigWindow
	if ev.ValueMask&xwire.ConfigWindowX != 0 {
		in.x = int(ev.X)
		want.x = b.scale.out(in.x) + gravityShift(w.hints.gravity, w.frame.left, w.frame.right, 0)
	}
	if ev.ValueMask&xwire.ConfigWindowY != 0 {
		in.y = int(ev.Y)
		want.y = b.scale.out(in.y) + gravityShift(w.hints.gravity, w.frame.top, w.frame.bottom, 1)
	}
	if ev.ValueMask&xwire.ConfigWindowWidth != 0 {
		in.w = int(ev.Width)
		want.w = b.scale.size(in.w)
	}
	if ev.ValueMask&xwire.ConfigWindowHeight != 0 {
		in.h = int(ev.Height)
		want.h = b.scale.size(in.h)
	}
	w.want = in
	if want.w > w.place.w || want.h > w.place.h {
		want = b.keepOn(w, want)
	}
	if want.x != w.place.x || want.y != w.place.y {
		mask |= xwire.ConfigWindowX | xwire.ConfigWindowY
	}
	if want.w != w.place.w || want.h != w.place.h {
		mask |= xwire.ConfigWindowWidth | xwire.ConfigWindowHeight
	}
	if ev.ValueMask&xwire.ConfigWindowStackMode != 0 && ev.StackMode <= xwire.StackModeBelow {
		b.restack(w, ev.StackMode)
	}
	if mask == 0 && (b.scale == 1 || b.scale.keep(w.place, w.want) == w.at) {
		b.tellPlace(w)
		return
	}
	w.asked = true
	if mask == 0 {
		b.follow(w) // another size inside, of which the desktop has no pixels
		return
	}
	b.askNative(w, want, mask)
}

// askNative asks the desktop's window manager for a place and size of a window's, of
// its client area. The frame is placed by the app's gravity there, too.
func (b *Bridge) askNative(w *window, want rect, mask xwire.ConfigWindow) {
	if w.wasPinned && !w.unplaced && w.frame != (extents{}) {
		// It was placed by another gravity, by which openbox still keeps it.
		w.wasPinned = false
		mask |= xwire.ConfigWindowX | xwire.ConfigWindowY
	}
	want.x -= gravityShift(w.hints.gravity, w.frame.left, w.frame.right, 0)
	want.y -= gravityShift(w.hints.gravity, w.frame.top, w.frame.bottom, 1)
	b.Desk.ConfigureWindow(w.desk, xwire.ConfigureValues{
		Mask: mask, X: int32(want.x), Y: int32(want.y), Width: uint32(clipSize(want.w)), Height: uint32(clipSize(want.h)),
	})
}

// keepOn keeps a window that grows on the desktop, if it was. The app may think that
// there is more room: the screen inside is larger, and older toolkits know no other.
func (b *Bridge) keepOn(w *window, want rect) rect {
	home := b.screen.home(w.place)
	frame := rect{w.place.x - w.frame.left, w.place.y - w.frame.top, w.place.w + w.frame.left + w.frame.right, w.place.h + w.frame.top + w.frame.bottom}
	if w.zoomed || !frame.within(home) {
		return want
	}
	return fit(want, w.frame, home, w.hints.least, w.hints.most)
}

func (b *Bridge) restack(w *window, mode xwire.StackMode) {
	b.Desk.ConfigureWindow(w.desk, xwire.ConfigureValues{Mask: xwire.ConfigWindowStackMode, StackMode: mode})
	if mode == xwire.StackModeAbove {
		b.raise(w)
	} else {
		b.top = nil
		b.App.ConfigureWindow(w.app, xwire.ConfigureValues{Mask: xwire.ConfigWindowStackMode, StackMode: mode})
	}
}

// gravityShift is how far a client area is from where its app's gravity has it,
// on one axis, in a frame of these widths.
func gravityShift(g xwire.Gravity, before, after, axis int) int {
	if g == xwire.GravityStatic || g < xwire.GravityNorthWest {
		return 0
	}
	// 1..9 are the nine points from the north west to the south east, by rows.
	at := int(g-1) % 3
	if axis == 1 {
		at = int(g-1) / 3
	}
	return []int{before, (before - after) / 2, -after}[at]
}

// configured is told where a window inside is now.
func (b *Bridge) configured(w *window, ev *xwire.ConfigureNotifyEvent) {
	at, border := rect{int(ev.X), int(ev.Y), int(ev.Width), int(ev.Height)}, int(ev.BorderWidth)
	resized := at.w != w.at.w || at.h != w.at.h || border != w.border
	if !w.popup {
		// It is where the bridge has put it; this may be the news of an earlier time.
		if resized && w.pixmap != 0 {
			b.appears(w)
		}
		return
	}
	if at == w.at && border == w.border {
		return
	}
	w.at, w.border = at, border
	if resized && w.pixmap != 0 {
		b.appears(w)
	}
	b.putPopup(w)
	if resized && b.blackens(w) {
		b.copyShape(w)
	}
}
