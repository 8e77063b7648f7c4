package bridge

import (
	"slices"

	"hither/engine/display/xwire"
)

// window is one of the app's windows, and the native one that shows it.
type window struct {
	app   xwire.Window
	desk  xwire.Window
	popup bool // override-redirect: the app itself places it

	// Inside. border is that of popups only, and is part of the picture.
	at     rect // without border, of the root window
	border int
	depth  uint8
	pixmap xwire.Pixmap // the picture; 0 while it is not mapped
	damage xwire.DamageDamage
	leader xwire.Window // WM_TRANSIENT_FOR
	hints  sizeHints
	input  bool // it wants the focus to be set (ICCCM)
	takes  map[string]bool
	kind   string // the window type
	// It draws for another scale as soon as the settings say so.
	follows bool
	// What it has asked for last, or where the bridge has found it: it is so again
	// whenever that comes to the native one's place.
	want rect

	// On the desktop.
	place       rect // of the client area, of the root window
	native      uint8
	gc          xwire.GContext
	viewable    bool
	framed      bool // the window manager gave it a parent
	pinned      bool // to be placed where it was, and not yet mapped
	wasPinned   bool // and has not been sized since
	unplaced    bool // its place on the root window must be asked for
	asked       bool // the app waits for an answer to a wish
	zoomed      bool // maximised or full screen
	normal      rect // its place otherwise, and its frame then
	normalFrame extents
	back        bool // to be put there, when it is zoomed no more
	frame       extents
	shadow      extents // inside: of the window, which its app draws itself around it
	iconic      bool
	states      []xwire.Atom // inside, of _NET_WM_STATE; without whether it has the focus
	cursor      uint32
	last        xwire.Pixmap // the picture while the app is let go of
	source      source       // the picture before it is scaled

	sync synced

	// What is to be painted.
	damaged bool
	whole   bool
	parts   []rect // of the picture
	paces   pace
}

// picture is the size of the window's picture.
func (w *window) picture() rect { return rect{0, 0, w.at.w + 2*w.border, w.at.h + 2*w.border} }

// outer is where the window with its border is.
func (w *window) outer() rect {
	return rect{w.at.x, w.at.y, w.at.w + 2*w.border, w.at.h + 2*w.border}
}

const (
	// nativeEvents are what native windows ask for.
	nativeEvents = xwire.EventMaskKeyPress | xwire.EventMaskKeyRelease | xwire.EventMaskButtonPress | xwire.EventMaskButtonRelease |
		xwire.EventMaskPointerMotion | xwire.EventMaskEnterWindow | xwire.EventMaskLeaveWindow | xwire.EventMaskFocusChange |
		xwire.EventMaskKeymapState | xwire.EventMaskExposure | xwire.EventMaskStructureNotify | xwire.EventMaskPropertyChange
	// appEvents are what is asked of the app's windows: crossing and focus
	// events tell of grabs.
	appEvents = xwire.EventMaskPropertyChange | xwire.EventMaskFocusChange | xwire.EventMaskEnterWindow | xwire.EventMaskLeaveWindow
)

// meet reads what there is to know of a window of the app that is to be seen. It
// is nil for those that never are, or have gone.
func (b *Bridge) meet(app xwire.Window) *window {
	if app == b.appWin {
		return nil
	}
	c := b.App
	attributes, geometry := c.GetWindowAttributesAsync(app), c.GetGeometryAsync(xwire.Drawable(app))
	a, err := attributes.Wait()
	g, err2 := geometry.Wait()
	if err != nil || err2 != nil || a.Class == xwire.WindowClassInputOnly {
		return nil
	}
	w := &window{
		app: app, popup: a.OverrideRedirect, depth: g.Depth, border: int(g.BorderWidth),
		at: rect{int(g.X), int(g.Y), int(g.Width), int(g.Height)},
	}
	w.want = w.at
	c.ChangeWindowAttributes(app, xwire.WindowValues{Mask: xwire.CWEventMask, EventMask: appEvents})
	c.ShapeSelectInput(app, true)
	return w
}

// manage takes a window of the app's into care, which wants to be mapped or
// already is.
func (b *Bridge) manage(app xwire.Window, mapped bool) {
	if w := b.windows[app]; w != nil {
		return
	}
	w := b.meet(app)
	if w == nil || w.popup {
		if w != nil && mapped {
			b.show(w, nil)
		}
		return
	}
	if w.border != 0 {
		b.App.ConfigureWindow(app, xwire.ConfigureValues{Mask: xwire.ConfigWindowBorderWidth})
		w.border = 0
	}
	properties := b.readProperties(w)
	known := b.setState(w, properties)
	b.placeFirst(w, known)
	if !mapped {
		b.App.MapWindow(app)
	}
	b.show(w, properties)
	if mapped {
		b.appears(w)
	}
}

// placeFirst decides where a window is to be on the desktop. known windows were
// shown before, by this bridge's predecessor or on another host.
func (b *Bridge) placeFirst(w *window, known bool) {
	w.place = b.scale.outRect(w.at)
	s := &b.screen
	if known {
		w.hints.flags |= hintUSPosition | hintUSSize
		// One that is maximised is so again at once, and has no frame to speak of
		// meanwhile, so it is placed by what it has otherwise.
		frame := w.frame
		w.pinned = !w.zoomed || w.normal.empty()
		if !w.pinned {
			w.place, frame = b.scale.outRect(w.normal), w.normalFrame
		}
		if b.arrived {
			w.place = fit(w.place, frame, s.home(w.place), w.hints.least, w.hints.most)
		}
		if !w.pinned {
			w.normal, w.back = b.scale.keep(w.place, w.normal), true
			w.place.x -= gravityShift(w.hints.gravity, frame.left, frame.right, 0)
			w.place.y -= gravityShift(w.hints.gravity, frame.top, frame.bottom, 1)
		}
		return
	}
	// The screen inside is larger than the desktop: what was reckoned from its far
	// edges, or is off the desktop altogether, means something else.
	if w.hints.flags&(hintUSPosition|hintPPosition) != 0 {
		root := b.App.Screen()
		switch w.hints.gravity {
		case xwire.GravityNorthEast, xwire.GravityEast, xwire.GravitySouthEast:
			w.place.x -= b.scale.out(int(root.WidthInPixels)) - s.all.w
		}
		switch w.hints.gravity {
		case xwire.GravitySouthWest, xwire.GravitySouth, xwire.GravitySouthEast:
			w.place.y -= b.scale.out(int(root.HeightInPixels)) - s.all.h
		}
		if !s.all.contains(w.place.x, w.place.y) {
			w.hints.flags &^= hintUSPosition | hintPPosition
		}
		// A place that a person has asked for is theirs; one that the app has thought
		// of is corrected.
		if w.hints.flags&(hintUSPosition|hintPPosition) == hintPPosition {
			size := [2]int{w.place.w, w.place.h}
			w.place = fit(w.place, extents{}, s.home(w.place), size, size)
		}
	}
	if w.hints.flags&(hintUSPosition|hintPPosition) == 0 {
		home := s.home(w.place)
		w.place.x, w.place.y = home.x, home.y
		w.place = fit(w.place, extents{}, home, w.hints.least, w.hints.most)
	}
}

// show makes the native window.
func (b *Bridge) show(w *window, properties map[string]property) {
	c := b.Desk
	if w.popup {
		w.place = b.scale.outRect(w.outer())
		// What a toolkit keeps on the screen that it knows may be off this one.
		if s := b.screen.all; w.place.w <= s.w && w.place.h <= s.h && w.place.x < s.right() && w.place.y < s.bottom() {
			w.place.x = min(w.place.x, s.right()-w.place.w)
			w.place.y = min(w.place.y, s.bottom()-w.place.h)
		}
	}
	v := b.visuals.plain
	if w.depth == 32 && b.visuals.argb != 0 {
		v = b.visuals.argb
	}
	look := b.visuals.looks[v]
	w.native = look.depth
	w.desk = xwire.NewID[xwire.Window](c)
	values := xwire.WindowValues{
		Mask: xwire.CWBackPixmap | xwire.CWBorderPixel | xwire.CWBitGravity | xwire.CWOverrideRedirect | xwire.CWEventMask | xwire.CWColormap,
		// No background: the old picture stays until the new one is there.
		BitGravity: xwire.GravityNorthWest, OverrideRedirect: w.popup, EventMask: nativeEvents, Colormap: look.colormap,
	}
	c.CreateWindow(look.depth, w.desk, c.Root(), clip16(w.place.x), clip16(w.place.y), clipSize(w.place.w), clipSize(w.place.h), 0,
		xwire.WindowClassInputOutput, v, values)
	w.gc = xwire.NewID[xwire.GContext](c)
	c.CreateGC(w.gc, xwire.Drawable(w.desk), xwire.GCValues{Mask: xwire.GCGraphicsExposures})
	b.windows[w.app], b.native[w.desk] = w, w
	if properties == nil {
		properties = b.readProperties(w)
	}
	b.dress(w, properties)
	b.copyShape(w)
	if w.popup {
		b.popups = append(b.popups, w)
		if !quietKinds[w.kind] && !menuKinds[w.kind] {
			b.after(probeAfter, b.probe)
		}
		b.appears(w)
	} else {
		b.order = append(b.order, w)
		b.listClients()
	}
	c.MapWindow(w.desk)
	b.followPopups()
}

// appears is when a window is mapped inside: from now on it has a picture.
func (b *Bridge) appears(w *window) {
	c := b.App
	if w.pixmap != 0 {
		c.FreePixmap(w.pixmap)
	}
	w.pixmap = xwire.NewID[xwire.Pixmap](c)
	c.CompositeNameWindowPixmap(w.app, w.pixmap)
	if w.damage == 0 {
		w.damage = xwire.NewID[xwire.DamageDamage](c)
		c.DamageCreate(w.damage, xwire.Drawable(w.app), xwire.DamageReportLevelNonEmpty)
	}
	w.whole = true
}

// loseApp forgets what is held of a window in the app's server. With free the
// window is still there.
func (b *Bridge) loseApp(w *window, free bool) {
	b.forgetSync(w)
	if b.App != nil {
		if w.pixmap != 0 {
			b.App.FreePixmap(w.pixmap)
		}
		if w.damage != 0 && free {
			b.App.DamageDestroy(w.damage)
		}
	}
	w.pixmap, w.damage, w.damaged, w.whole, w.parts = 0, 0, false, false, nil
}

// drop takes a window away from the desktop. gone: the app has destroyed it.
func (b *Bridge) drop(w *window, gone bool) {
	b.loseApp(w, !gone)
	c := b.Desk
	c.FreeGC(w.gc)
	if w.sync.own != 0 {
		c.SyncDestroyCounter(w.sync.own)
	}
	c.DestroyWindow(w.desk)
	if w.last != 0 {
		c.FreePixmap(w.last)
	}
	b.freeSource(w)
	delete(b.windows, w.app)
	delete(b.native, w.desk)
	is := func(o *window) bool { return o == w }
	b.order, b.popups = slices.DeleteFunc(b.order, is), slices.DeleteFunc(b.popups, is)
	if b.over == w {
		b.over = nil
	}
	if b.top == w {
		b.top = nil
	}
	if b.focus == w {
		b.releaseKeys()
		b.setFocus(nil)
	}
	for t, p := range b.ping {
		if p == w {
			delete(b.ping, t)
		}
	}
	if b.App != nil {
		if !gone && !w.popup {
			c := b.App
			c.ChangeProperty(xwire.PropModeReplace, w.app, b.a["WM_STATE"], b.a["WM_STATE"], 32, xwire.Uint32s[uint32](0, 0))
			c.DeleteProperty(w.app, b.a["_NET_WM_STATE"])
		}
		b.listClients()
		b.followPopups()
	}
}

// listClients tells the app what windows there are, in the order of their mapping.
func (b *Bridge) listClients() {
	list := make([]xwire.Window, len(b.order))
	for i, w := range b.order {
		list[i] = w.app
	}
	b.App.ChangeProperty(xwire.PropModeReplace, b.App.Root(), b.a["_NET_CLIENT_LIST"], xwire.AtomWindow, 32, xwire.Uint32s(list...))
}

// follow puts the window inside where the native one is, as far as it is not.
func (b *Bridge) follow(w *window) {
	if b.App == nil || w.popup {
		return
	}
	place := b.scale.keep(w.place, w.want)
	if w.at == place {
		if w.asked {
			b.tellPlace(w)
		}
		w.asked = false
		return
	}
	resized := w.at.w != place.w || w.at.h != place.h
	if resized && w.sync.waits != nil {
		return // it has not drawn the size before
	}
	w.asked = false
	if !w.zoomed {
		// News of the place may come before that of the state.
		w.normal, w.normalFrame = w.at, w.frame
	}
	if resized {
		b.askSync(w)
	}
	b.App.ConfigureWindow(w.app, xwire.ConfigureValues{
		Mask: xwire.ConfigWindowX | xwire.ConfigWindowY | xwire.ConfigWindowWidth | xwire.ConfigWindowHeight,
		X:    int32(place.x), Y: int32(place.y), Width: uint32(place.w), Height: uint32(place.h),
	})
	w.at = place
	if resized && w.pixmap != 0 {
		b.appears(w)
	}
}

// tellPlace answers a wish that changes nothing, as ICCCM 4.1.5 wants.
func (b *Bridge) tellPlace(w *window) {
	e := xwire.ConfigureNotifyEvent{Event: w.app, Window: w.app, X: clip16(w.at.x), Y: clip16(w.at.y), Width: clipSize(w.at.w), Height: clipSize(w.at.h)}
	b.App.SendEvent(false, w.app, xwire.EventMaskStructureNotify, e.Encode())
}

// raise brings a window to the top inside, below popups, so that the pointer
// meets there what it meets on the desktop.
func (b *Bridge) raise(w *window) {
	if w.popup || b.top == w {
		return
	}
	b.top = w
	b.App.ConfigureWindow(w.app, xwire.ConfigureValues{Mask: xwire.ConfigWindowStackMode, StackMode: xwire.StackModeAbove})
	for _, p := range b.popups {
		b.App.ConfigureWindow(p.app, xwire.ConfigureValues{Mask: xwire.ConfigWindowStackMode, StackMode: xwire.StackModeAbove})
	}
}

// clip16 and clipSize fit numbers into the protocol's.
func clip16(v int) int16    { return int16(max(-1<<15, min(v, 1<<15-1))) }
func clipSize(v int) uint16 { return uint16(max(1, min(v, 1<<15-1))) }
