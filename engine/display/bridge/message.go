package bridge

import "hither/engine/display/xwire"

// sourceApp says in messages that they come from an ordinary app (EWMH).
const sourceApp = 1

// sourcePager says that they come from what speaks for the person, such as a taskbar.
const sourcePager = 2

// askDesk sends a message about a window to the desktop's window manager.
func (b *Bridge) askDesk(w *window, kind string, values ...uint32) {
	m := xwire.ClientMessageEvent{Format: 32, Window: w.desk, Type: b.d[kind], Data: xwire.MessageData(values...)}
	b.Desk.SendEvent(false, b.Desk.Root(), xwire.EventMaskSubstructureNotify|xwire.EventMaskSubstructureRedirect, m.Encode())
}

// tellApp sends a message of WM_PROTOCOLS to a window of the app's.
func (b *Bridge) tellApp(w *window, protocol string, values ...uint32) {
	m := xwire.ClientMessageEvent{Format: 32, Window: w.app, Type: b.a["WM_PROTOCOLS"],
		Data: xwire.MessageData(append([]uint32{uint32(b.a[protocol])}, values...)...)}
	b.App.SendEvent(false, w.app, 0, m.Encode())
}

// activateNative asks for the focus for a window, as from another of the app's.
func (b *Bridge) activateNative(w *window, _ xwire.Window) {
	var from xwire.Window
	if b.focus != nil {
		from = b.focus.desk
	}
	b.askDesk(w, "_NET_ACTIVE_WINDOW", sourceApp, uint32(b.deskTime), uint32(from))
}

// appMessage deals with what an app asks its window manager for.
func (b *Bridge) appMessage(ev *xwire.ClientMessageEvent) {
	if ev.Format != 32 {
		return
	}
	v := make([]uint32, 5)
	for i := range v {
		v[i] = ev.Data.Uint32(i)
	}
	kind := b.appName(ev.Type)
	if kind == "WM_PROTOCOLS" {
		if xwire.Atom(v[0]) == b.a["_NET_WM_PING"] {
			b.pong(xwire.Timestamp(v[1]))
		}
		return
	}
	w := b.windows[ev.Window]
	if w == nil {
		if kind == "_NET_REQUEST_FRAME_EXTENTS" {
			// The window is not seen yet; the others' frames are a good guess.
			var e extents
			for _, o := range b.order {
				e = o.frame.scaled(1 / b.scale)
			}
			b.App.ChangeProperty(xwire.PropModeReplace, ev.Window, b.a["_NET_FRAME_EXTENTS"], xwire.AtomCardinal, 32,
				xwire.Uint32s(uint32(e.left), uint32(e.right), uint32(e.top), uint32(e.bottom)))
		}
		return
	}
	atom := func(a uint32) uint32 {
		if t := translate(b.App, b.Desk, []xwire.Atom{xwire.Atom(a)}); len(t) == 1 {
			return uint32(t[0])
		}
		return 0
	}
	switch kind {
	case "_NET_WM_STATE":
		b.askDesk(w, kind, v[0], atom(v[1]), atom(v[2]), sourceApp)
	case "WM_CHANGE_STATE":
		b.askDesk(w, kind, v[0])
	case "_NET_ACTIVE_WINDOW":
		if v[0] == sourcePager {
			b.askDesk(w, kind, sourcePager, uint32(b.deskTime), 0)
			break
		}
		b.activateNative(w, xwire.Window(v[2]))
	case "_NET_CLOSE_WINDOW":
		b.closeApp(w)
	case "_NET_WM_MOVERESIZE":
		// The desktop's window manager wants the pointer for itself, and the button
		// that the app still sees held will be let go of elsewhere.
		b.releaseButtons()
		b.Desk.UngrabPointer(0)
		x, y := b.onDesk(w, v[0], v[1])
		b.askDesk(w, kind, x, y, v[2], v[3], sourceApp)
	case "_GTK_SHOW_WINDOW_MENU":
		b.releaseButtons()
		b.Desk.UngrabPointer(0)
		x, y := b.onDesk(w, v[1], v[2])
		b.askDesk(w, kind, 0, x, y)
	case "_NET_RESTACK_WINDOW":
		if v[2] <= uint32(xwire.StackModeBelow) {
			b.restack(w, xwire.StackMode(v[2]))
		}
	case "_NET_MOVERESIZE_WINDOW":
		for i := 1; i < 5; i++ {
			v[i] = uint32(b.scale.out(int(int32(v[i]))))
		}
		b.askDesk(w, kind, v[0]&^0xf000|sourceApp<<12, v[1], v[2], v[3], v[4])
	}
}

// onDesk is where a place of a window inside, told of the root window, is on the
// desktop. The two windows are at different places while news are on their way.
func (b *Bridge) onDesk(w *window, x, y uint32) (uint32, uint32) {
	return uint32(int32(w.place.x + b.scale.out(int(int32(x))-w.at.x))), uint32(int32(w.place.y + b.scale.out(int(int32(y))-w.at.y)))
}

// deskMessage deals with what the desktop's window manager tells a native window.
func (b *Bridge) deskMessage(w *window, ev *xwire.ClientMessageEvent) {
	if ev.Format != 32 || ev.Type != b.d["WM_PROTOCOLS"] {
		return
	}
	switch xwire.Atom(ev.Data.Uint32(0)) {
	case b.d["WM_DELETE_WINDOW"]:
		if b.App != nil {
			b.closeApp(w)
		}
	case b.d["_NET_WM_SYNC_REQUEST"]:
		b.deskAsks(w, ev.Data.Uint32(2), ev.Data.Uint32(3))
	case b.d["_NET_WM_PING"]:
		t := xwire.Timestamp(ev.Data.Uint32(1))
		b.ping[t] = w
		if b.App == nil || !w.takes["_NET_WM_PING"] {
			b.pong(t)
			return
		}
		b.tellApp(w, "_NET_WM_PING", uint32(t), uint32(w.app))
	}
}

// pong tells the window manager that a window's app is well.
func (b *Bridge) pong(t xwire.Timestamp) {
	w := b.ping[t]
	delete(b.ping, t)
	if w == nil {
		return
	}
	m := xwire.ClientMessageEvent{Format: 32, Window: b.Desk.Root(), Type: b.d["WM_PROTOCOLS"],
		Data: xwire.MessageData(uint32(b.d["_NET_WM_PING"]), uint32(t), uint32(w.desk))}
	b.Desk.SendEvent(false, b.Desk.Root(), xwire.EventMaskSubstructureNotify|xwire.EventMaskSubstructureRedirect, m.Encode())
}

// closeApp asks the app to close a window, or, if it does not take part in that,
// ends its connection as other window managers do.
func (b *Bridge) closeApp(w *window) {
	if !w.takes["WM_DELETE_WINDOW"] {
		b.App.KillClient(uint32(w.app))
		return
	}
	b.atAppTime(func() { b.tellApp(w, "WM_DELETE_WINDOW", uint32(b.appTime)) })
}
