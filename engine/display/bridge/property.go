package bridge

import (
	"math"
	"slices"

	"hither/engine/display/xwire"
)

// copied are the properties that native windows have as the app's have them.
// Those of the type ATOM, and the types of all, are translated by name.
var copied = []string{
	"WM_NAME", "_NET_WM_NAME", "WM_ICON_NAME", "_NET_WM_ICON_NAME", "WM_CLASS", "WM_WINDOW_ROLE", "_NET_WM_ICON",
	"_NET_WM_WINDOW_TYPE", "_NET_WM_WINDOW_OPACITY", "_NET_WM_BYPASS_COMPOSITOR", "_NET_WM_OPAQUE_REGION", "_MOTIF_WM_HINTS",
	"_GTK_FRAME_EXTENTS", "_GTK_THEME_VARIANT", "_GTK_HIDE_TITLEBAR_WHEN_MAXIMIZED",
}

// measured are those of copied that are in pixels.
var measured = map[string]bool{"_NET_WM_OPAQUE_REGION": true, "_GTK_FRAME_EXTENTS": true}

// others are read as well.
var others = []string{
	"WM_HINTS", "WM_NORMAL_HINTS", "WM_TRANSIENT_FOR", "WM_PROTOCOLS", "WM_STATE", "_NET_WM_STATE", "_NET_FRAME_EXTENTS", "_NET_WM_USER_TIME", "_NET_WM_PID", "_NET_WM_SYNC_REQUEST_COUNTER",
	"_HITHER_NORMAL",
}

// maxProperty bounds what is copied, in units of four bytes. Icons are the largest.
const maxProperty = 1 << 20

type property struct {
	kind   xwire.Atom
	format uint8
	value  []byte
}

// numbers are the values of a property of format 32, at least n, or none.
func (p property) numbers(n int) []uint32 {
	if p.format != 32 || len(p.value) < 4*n {
		return nil
	}
	return xwire.ToUint32s(p.value)
}

// readProperties reads all that matter, in one round trip.
func (b *Bridge) readProperties(w *window) map[string]property {
	cookies := map[string]xwire.Cookie[xwire.GetPropertyReply]{}
	for _, list := range [][]string{copied, others} {
		for _, name := range list {
			cookies[name] = b.App.GetPropertyAsync(false, w.app, b.a[name], xwire.AtomAny, 0, maxProperty)
		}
	}
	out := map[string]property{}
	for name, cookie := range cookies {
		if r, err := cookie.Wait(); err == nil && r.Type != 0 {
			out[name] = property{r.Type, r.Format, r.Value}
		}
	}
	b.learn(w, out)
	return out
}

// learn notes what the bridge itself heeds.
func (b *Bridge) learn(w *window, p map[string]property) {
	w.hints = parseSizeHints(p["WM_NORMAL_HINTS"].numbers(1))
	w.hints.scale(b.scale)
	w.takes = map[string]bool{}
	if names, err := b.App.AtomNames(atomsOf(p["WM_PROTOCOLS"])...); err == nil {
		for _, name := range names {
			w.takes[name] = true
		}
	}
	b.learnSync(w, p["_NET_WM_SYNC_REQUEST_COUNTER"])
	w.input = true
	if h := p["WM_HINTS"].numbers(2); h != nil && h[0]&wmHintInput != 0 {
		w.input = h[1] != 0
	}
	w.leader = 0
	if t := p["WM_TRANSIENT_FOR"].numbers(1); t != nil {
		w.leader = xwire.Window(t[0])
	}
	w.kind = ""
	for _, a := range atomsOf(p["_NET_WM_WINDOW_TYPE"]) {
		if name := b.appName(a); name != "" {
			w.kind = name
			break
		}
	}
	w.shadow = extents{}
	if e := p["_GTK_FRAME_EXTENTS"].numbers(4); e != nil {
		w.shadow = toExtents(e)
	}
	w.follows = isFollower(p["_NET_WM_SYNC_REQUEST_COUNTER"])
	if b.native[w.desk] == nil { // later on the window manager says so
		if e := p["_NET_FRAME_EXTENTS"].numbers(4); e != nil {
			w.frame = toExtents(e).scaled(b.scale)
		}
		w.zoomed = b.isZoomed(atomsOf(p["_NET_WM_STATE"]))
		if n := p["_HITHER_NORMAL"].numbers(8); n != nil && w.zoomed {
			w.normalFrame = toExtents(n[4:])
			w.normal = rect{int(int32(n[0])), int(int32(n[1])), int(int32(n[2])), int(int32(n[3]))}
		}
	}
}

// isZoomed is told the app's atoms of a window's states.
func (b *Bridge) isZoomed(states []xwire.Atom) bool {
	return slices.ContainsFunc(states, func(a xwire.Atom) bool {
		return a == b.a["_NET_WM_STATE_FULLSCREEN"] || a == b.a["_NET_WM_STATE_MAXIMIZED_VERT"] || a == b.a["_NET_WM_STATE_MAXIMIZED_HORZ"]
	})
}

func toExtents(e []uint32) extents {
	n := func(v uint32) int { return int(min(v, 1000)) }
	return extents{n(e[0]), n(e[1]), n(e[2]), n(e[3])}
}

func atomsOf(p property) []xwire.Atom {
	var out []xwire.Atom
	for _, v := range p.numbers(0) {
		out = append(out, xwire.Atom(v))
	}
	return out
}

// appName is the name of an atom, empty for what is none.
func (b *Bridge) appName(a xwire.Atom) string { return atomName(b.App, a) }

func atomName(c *xwire.Conn, a xwire.Atom) string {
	names, err := c.AtomNames(a)
	if err != nil {
		return ""
	}
	return names[0]
}

// translate turns atoms of one server into those of the other; what is none is
// left out.
func translate(from, to *xwire.Conn, list []xwire.Atom) []xwire.Atom {
	var out []xwire.Atom
	for _, a := range list {
		name := atomName(from, a)
		if name == "" {
			continue
		}
		if t, err := to.Atom(name); err == nil {
			out = append(out, t)
		}
	}
	return out
}

// dress gives a new native window all its properties.
func (b *Bridge) dress(w *window, properties map[string]property) {
	for _, name := range copied {
		if p, ok := properties[name]; ok {
			b.copyProperty(w, name, p)
		}
	}
	if w.popup {
		b.setLeader(w)
		return
	}
	b.setProcess(w, properties["_NET_WM_PID"])
	c := b.Desk
	c.ChangeProperty(xwire.PropModeReplace, w.desk, b.d["WM_PROTOCOLS"], xwire.AtomAtom, 32,
		xwire.Uint32s(b.d["WM_DELETE_WINDOW"], b.d["_NET_WM_PING"], b.d["_NET_WM_SYNC_REQUEST"]))
	b.offerSync(w)
	b.setSizeHints(w)
	b.setHints(w, properties["WM_HINTS"])
	b.setLeader(w)
	if w.viewable {
		return // from now on its states are the window manager's to say
	}
	states := slices.DeleteFunc(atomsOf(properties["_NET_WM_STATE"]), func(a xwire.Atom) bool {
		return a == b.a["_NET_WM_STATE_HIDDEN"] || a == b.a["_NET_WM_STATE_FOCUSED"]
	})
	if states = translate(b.App, c, states); len(states) > 0 {
		c.ChangeProperty(xwire.PropModeReplace, w.desk, b.d["_NET_WM_STATE"], xwire.AtomAtom, 32, xwire.Uint32s(states...))
	}
	// By this the window manager knows whether the window may take the focus.
	switch t := properties["_NET_WM_USER_TIME"].numbers(1); {
	case t != nil && t[0] == 0:
		c.ChangeProperty(xwire.PropModeReplace, w.desk, b.d["_NET_WM_USER_TIME"], xwire.AtomCardinal, 32, xwire.Uint32s[uint32](0))
	case b.userTime != 0:
		c.ChangeProperty(xwire.PropModeReplace, w.desk, b.d["_NET_WM_USER_TIME"], xwire.AtomCardinal, 32, xwire.Uint32s(b.userTime))
	}
}

// copyProperty copies one of copied.
func (b *Bridge) copyProperty(w *window, name string, p property) {
	value := p.value
	if b.scale != 1 && measured[name] && p.format == 32 {
		numbers := xwire.ToUint32s(value)
		for i, v := range numbers {
			numbers[i] = uint32(b.scale.out(int(int32(v))))
		}
		value = xwire.Uint32s(numbers...)
	}
	if p.kind == xwire.AtomAtom && p.format == 32 {
		value = xwire.Uint32s(translate(b.App, b.Desk, atomsOf(p))...)
	}
	kind := translate(b.App, b.Desk, []xwire.Atom{p.kind})
	if len(kind) == 0 {
		return
	}
	b.Desk.ChangeProperty(xwire.PropModeReplace, w.desk, b.d[name], kind[0], p.format, value)
}

// appProperty follows a property that the app has changed.
func (b *Bridge) appProperty(w *window, a xwire.Atom) {
	name := b.appName(a)
	known := false
	for _, list := range [][]string{copied, {"WM_HINTS", "WM_NORMAL_HINTS", "WM_TRANSIENT_FOR", "WM_PROTOCOLS", "_NET_WM_PID"}} {
		for _, n := range list {
			known = known || n == name
		}
	}
	if !known {
		return
	}
	// The bridge's own notes are few, and refreshed together.
	all := b.readProperties(w)
	p, ok := all[name]
	switch name {
	case "WM_HINTS":
		b.setHints(w, p)
	case "WM_NORMAL_HINTS":
		b.setSizeHints(w)
	case "WM_TRANSIENT_FOR":
		b.setLeader(w)
	case "WM_PROTOCOLS":
	case "_NET_WM_PID":
		b.setProcess(w, p)
	default:
		if ok {
			b.copyProperty(w, name, p)
		} else {
			b.Desk.DeleteProperty(w.desk, b.d[name])
		}
	}
	if name == "_GTK_FRAME_EXTENTS" {
		b.copyShape(w)
	}
}

// The flags of WM_NORMAL_HINTS and WM_HINTS, ICCCM 4.1.2.
const (
	hintUSPosition = 1 << 0
	hintUSSize     = 1 << 1
	hintPPosition  = 1 << 2
	hintMinSize    = 1 << 4
	hintMaxSize    = 1 << 5
	hintSteps      = 1 << 6
	hintGravity    = 1 << 9

	wmHintInput     = 1 << 0
	wmHintState     = 1 << 1
	wmHintUrgency   = 1 << 8
	wmStateNormal   = 1
	wmStateIconic   = 3
	sizeHintNumbers = 18
)

type sizeHints struct {
	flags       uint32
	gravity     xwire.Gravity
	least, most [2]int // on the desktop
	raw         [sizeHintNumbers]uint32
}

func parseSizeHints(v []uint32) sizeHints {
	h := sizeHints{gravity: xwire.GravityNorthWest, least: [2]int{1, 1}, most: [2]int{math.MaxInt16, math.MaxInt16}}
	copy(h.raw[:], v)
	h.flags = h.raw[0]
	if h.flags&hintMinSize != 0 {
		h.least = [2]int{int(int32(h.raw[5])), int(int32(h.raw[6]))}
	}
	if h.flags&hintMaxSize != 0 {
		h.most = [2]int{int(int32(h.raw[7])), int(int32(h.raw[8]))}
	}
	if h.flags&hintGravity != 0 && h.raw[17] >= 1 && h.raw[17] <= 10 {
		h.gravity = xwire.Gravity(h.raw[17])
	}
	return h
}

// scale sets what is bounded on the desktop.
func (h *sizeHints) scale(s scale) {
	inside := parseSizeHints(h.raw[:])
	for i := range 2 {
		h.least[i], h.most[i] = s.size(inside.least[i]), min(s.size(inside.most[i]), math.MaxInt16)
	}
}

// setSizeHints passes the size hints on. A window that was shown before is mapped
// with static gravity: it is the client area that is placed then, so that no
// frame's width ever moves it. Afterwards it has the app's gravity, by which the
// app reckons.
func (b *Bridge) setSizeHints(w *window) {
	v := w.hints.raw
	v[0] = w.hints.flags | hintGravity
	v = b.scale.hints(v)
	v[17] = uint32(w.hints.gravity)
	if w.pinned {
		v[17] = uint32(xwire.GravityStatic)
	}
	v[1], v[2] = uint32(int32(w.place.x)), uint32(int32(w.place.y))
	v[3], v[4] = uint32(w.place.w), uint32(w.place.h)
	b.Desk.ChangeProperty(xwire.PropModeReplace, w.desk, b.d["WM_NORMAL_HINTS"], xwire.AtomWmSizeHints, 32, xwire.Uint32s(v[:]...))
}

// setHints passes on whether the window wants keys, how it starts, and whether it is urgent.
func (b *Bridge) setHints(w *window, p property) {
	v := make([]uint32, 9)
	if h := p.numbers(3); h != nil {
		v[0] = h[0] & (wmHintState | wmHintUrgency)
		v[2] = h[2]
	}
	v[0] |= wmHintInput
	if w.input || w.takes["WM_TAKE_FOCUS"] {
		v[1] = 1
	}
	if w.iconic {
		v[0] |= wmHintState
		v[2] = wmStateIconic
	}
	b.Desk.ChangeProperty(xwire.PropModeReplace, w.desk, b.d["WM_HINTS"], xwire.AtomWmHints, 32, xwire.Uint32s(v...))
}

// setLeader passes on which window this one belongs to, and to those that were
// waiting for this one that it is there.
func (b *Bridge) setLeader(w *window) {
	if l := b.windows[w.leader]; l != nil && l != w {
		b.Desk.ChangeProperty(xwire.PropModeReplace, w.desk, xwire.AtomWmTransientFor, xwire.AtomWindow, 32, xwire.Uint32s(l.desk))
	} else if w.leader != 0 && !w.popup && w.leader == b.App.Root() {
		// A dialog of the whole app.
		b.Desk.ChangeProperty(xwire.PropModeReplace, w.desk, xwire.AtomWmTransientFor, xwire.AtomWindow, 32, xwire.Uint32s(b.Desk.Root()))
	} else {
		b.Desk.DeleteProperty(w.desk, xwire.AtomWmTransientFor)
	}
	for _, o := range b.windows {
		if o != w && o.leader == w.app {
			b.Desk.ChangeProperty(xwire.PropModeReplace, o.desk, xwire.AtomWmTransientFor, xwire.AtomWindow, 32, xwire.Uint32s(w.desk))
		}
	}
}

// setState notes inside that the window is under care, and says whether it was before.
func (b *Bridge) setState(w *window, properties map[string]property) (known bool) {
	state := uint32(wmStateNormal)
	if s := properties["WM_STATE"].numbers(1); s != nil && s[0] != 0 {
		known, state = true, s[0]
	} else if h := properties["WM_HINTS"].numbers(3); h != nil && h[0]&wmHintState != 0 && h[2] == wmStateIconic {
		state = wmStateIconic
	}
	w.iconic = state == wmStateIconic
	b.writeState(w)
	return known
}

func (b *Bridge) writeState(w *window) {
	state := uint32(wmStateNormal)
	if w.iconic {
		state = wmStateIconic
	}
	b.App.ChangeProperty(xwire.PropModeReplace, w.app, b.a["WM_STATE"], b.a["WM_STATE"], 32, xwire.Uint32s(state, 0))
}

// deskProperty follows what the desktop's window manager says of a window.
func (b *Bridge) deskProperty(w *window, a xwire.Atom) {
	if b.App == nil || w.popup {
		return
	}
	read := func(kind xwire.Atom) property {
		r, err := b.Desk.GetProperty(false, w.desk, a, kind, 0, 256)
		if err != nil {
			return property{}
		}
		return property{r.Type, r.Format, r.Value}
	}
	switch a {
	case b.d["_NET_WM_STATE"], b.d["_NET_WM_ALLOWED_ACTIONS"]:
		name := "_NET_WM_STATE"
		if a != b.d[name] {
			name = "_NET_WM_ALLOWED_ACTIONS"
		}
		list := translate(b.Desk, b.App, atomsOf(read(xwire.AtomAtom)))
		if name == "_NET_WM_STATE" {
			// Not every desktop says this; here it is known.
			w.states = slices.DeleteFunc(list, func(a xwire.Atom) bool { return a == b.a["_NET_WM_STATE_FOCUSED"] })
			list = w.states
			b.writeStates(w)
		} else {
			b.App.ChangeProperty(xwire.PropModeReplace, w.app, b.a[name], xwire.AtomAtom, 32, xwire.Uint32s(list...))
		}
		if zoomed := b.isZoomed(list); name == "_NET_WM_STATE" && zoomed != w.zoomed {
			// If the new place is known already, w.normal is the one before.
			at := b.scale.outRect(w.at)
			home := b.screen.home(at)
			if w.zoomed = zoomed; zoomed && at.w < home.w-w.frame.left-w.frame.right && at.h < home.h-w.frame.top-w.frame.bottom {
				w.normal, w.normalFrame = w.at, w.frame
			}
			if !zoomed && w.back {
				b.putBack(w)
			}
			n, f := w.normal, w.normalFrame
			b.App.ChangeProperty(xwire.PropModeReplace, w.app, b.a["_HITHER_NORMAL"], xwire.AtomCardinal, 32, xwire.Uint32s(int32(n.x), int32(n.y), int32(n.w), int32(n.h),
				int32(f.left), int32(f.right), int32(f.top), int32(f.bottom)))
		}
	case b.d["_NET_FRAME_EXTENTS"]:
		if e := read(xwire.AtomCardinal).numbers(4); e != nil {
			w.frame = toExtents(e)
			in := w.frame.scaled(1 / b.scale)
			b.App.ChangeProperty(xwire.PropModeReplace, w.app, b.a["_NET_FRAME_EXTENTS"], xwire.AtomCardinal, 32,
				xwire.Uint32s(int32(in.left), int32(in.right), int32(in.top), int32(in.bottom)))
		}
	case b.d["WM_STATE"]:
		if s := read(b.d["WM_STATE"]).numbers(1); s != nil && s[0] != 0 && w.iconic != (s[0] == wmStateIconic) {
			w.iconic = s[0] == wmStateIconic
			b.writeState(w)
		}
	}
}

// putBack has a window be where it was before it was maximised or full screen, if that was
// elsewhere or for another bridge: what a window manager remembers of one that is so from the beginning
// may be off by the frame, which it has not had. One that a person drags stays with the pointer.
func (b *Bridge) putBack(w *window) {
	w.back = false
	p, err := b.Desk.QueryPointer(b.Desk.Root())
	if err != nil || p.Mask&(xwire.KeyButMaskButton1|xwire.KeyButMaskButton2|xwire.KeyButMaskButton3) != 0 {
		return
	}
	const all, ofApp = 0xf << 8, 1 << 12
	n := b.scale.outRect(w.normal)
	b.askDesk(w, "_NET_MOVERESIZE_WINDOW", uint32(xwire.GravityStatic)|all|ofApp, uint32(int32(n.x)), uint32(int32(n.y)), uint32(n.w), uint32(n.h))
}

// writeStates tells the app the states of its window: those that the desktop's window
// manager has given it, and whether it has the keyboard.
func (b *Bridge) writeStates(w *window) {
	list := slices.Clone(w.states)
	if b.focus == w || b.active == w.app {
		list = append(list, b.a["_NET_WM_STATE_FOCUSED"])
	}
	b.App.ChangeProperty(xwire.PropModeReplace, w.app, b.a["_NET_WM_STATE"], xwire.AtomAtom, 32, xwire.Uint32s(list...))
}

// blackens says whether a window's own shadow would be black here: its toolkit drew it
// for another desktop, and has settled that when it made the window.
func (b *Bridge) blackens(w *window) bool {
	return w.shadow != extents{} && w.depth == 32 && !(b.screen.blends && w.native == 32)
}

// copyShape gives the native window the outline of the app's.
func (b *Bridge) copyShape(w *window) {
	if !b.Desk.Has(xwire.Shape) {
		return
	}
	r, err := b.App.ShapeQueryExtents(w.app)
	if err != nil {
		return
	}
	kinds := []xwire.ShapeKind{xwire.ShapeSkInput}
	shadow := w.shadow.scaled(b.scale)
	if r.BoundingShaped {
		kinds = append(kinds, xwire.ShapeSkBounding)
	} else if inner := w.place.without(shadow); b.blackens(w) && !inner.empty() {
		b.Desk.ShapeRectangles(xwire.ShapeSoSet, xwire.ShapeSkBounding, xwire.ClipOrderingUnsorted, w.desk, int16(shadow.left), int16(shadow.top),
			[]xwire.Rectangle{{Width: clipSize(inner.w), Height: clipSize(inner.h)}})
	} else {
		b.Desk.ShapeMask(xwire.ShapeSoSet, xwire.ShapeSkBounding, w.desk, 0, 0, 0)
	}
	for _, kind := range kinds {
		s, err := b.App.ShapeGetRectangles(w.app, kind)
		if err != nil {
			return
		}
		if kind == xwire.ShapeSkInput && len(s.Rectangles) == 1 {
			all := s.Rectangles[0]
			if int(all.Width) >= w.at.w && int(all.Height) >= w.at.h {
				b.Desk.ShapeMask(xwire.ShapeSoSet, kind, w.desk, 0, 0, 0)
				continue
			}
		}
		list := s.Rectangles
		if b.scale != 1 {
			for i, r := range list {
				e := b.scale.edges(rect{int(r.X), int(r.Y), int(r.Width), int(r.Height)})
				list[i] = xwire.Rectangle{X: clip16(e.x), Y: clip16(e.y), Width: uint16(max(e.w, 0)), Height: uint16(max(e.h, 0))}
			}
		}
		border := clip16(b.scale.out(w.border))
		b.Desk.ShapeRectangles(xwire.ShapeSoSet, kind, xwire.ClipOrderingUnsorted, w.desk, border, border, list)
	}
}
