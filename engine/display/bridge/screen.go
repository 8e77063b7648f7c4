package bridge

import (
	"os"

	"hither/engine/display/xwire"
)

// screen is what the desktop has to show windows on.
type screen struct {
	all      rect
	monitors []xwire.RandRMonitorInfo
	work     rect // without panels, of the whole screen
	id       string
	blends   bool // translucent windows are shown as such
}

type rect struct{ x, y, w, h int }

func (r rect) right() int  { return r.x + r.w }
func (r rect) bottom() int { return r.y + r.h }
func (r rect) empty() bool { return r.w <= 0 || r.h <= 0 }

func (r rect) intersect(s rect) rect {
	x, y := max(r.x, s.x), max(r.y, s.y)
	return rect{x, y, min(r.right(), s.right()) - x, min(r.bottom(), s.bottom()) - y}
}

func (r rect) without(e extents) rect {
	return rect{r.x + e.left, r.y + e.top, r.w - e.left - e.right, r.h - e.top - e.bottom}
}

func (r rect) contains(x, y int) bool { return x >= r.x && x < r.right() && y >= r.y && y < r.bottom() }

func (r rect) within(s rect) bool {
	return r.x >= s.x && r.y >= s.y && r.right() <= s.right() && r.bottom() <= s.bottom()
}

func (b *Bridge) readScreen() error {
	c := b.Desk
	g, err := c.GetGeometry(xwire.Drawable(c.Root()))
	if err != nil {
		return err
	}
	b.screen.all = rect{0, 0, int(g.Width), int(g.Height)}
	b.screen.monitors = nil
	if c.Has(xwire.RandR) {
		if r, err := c.RandRGetMonitors(c.Root(), true); err == nil {
			b.screen.monitors = r.Monitors
		}
	}
	b.screen.work = b.screen.all
	if r, err := c.GetProperty(false, c.Root(), b.d["_NET_WORKAREA"], xwire.AtomCardinal, 0, 4); err == nil && r.Format == 32 && len(r.Value) == 16 {
		v := xwire.ToUint32s(r.Value)
		if work := (rect{int(int32(v[0])), int(int32(v[1])), int(int32(v[2])), int(int32(v[3]))}).intersect(b.screen.all); !work.empty() {
			b.screen.work = work
		}
	}
	r, err := c.GetSelectionOwner(b.d["_NET_WM_CM_S0"])
	b.screen.blends = err == nil && r.Owner != 0
	host, _ := os.Hostname()
	name := b.o.Display
	if name == "" {
		name = os.Getenv("DISPLAY")
	}
	b.screen.id = host + name
	return nil
}

// home is the part of the screen that a window is to be on: the work area of the
// monitor with most of it, or of the first.
func (s *screen) home(r rect) rect {
	best, most := s.work, 0
	for _, m := range s.monitors {
		area := rect{int(m.X), int(m.Y), int(m.Width), int(m.Height)}.intersect(s.work)
		if area.empty() {
			continue
		}
		common := area.intersect(r)
		size := 0
		if !common.empty() {
			size = common.w * common.h
		}
		if size > most || most == 0 && (m.Primary || best == s.work) {
			best, most = area, size
		}
	}
	return best
}

// extents are the widths of a window's frame.
type extents struct{ left, right, top, bottom int }

// fit moves and, if it must and may, shrinks a window so that it is on its home
// with its frame.
func fit(r rect, frame extents, home rect, lo, hi [2]int) rect {
	w, h := home.w-frame.left-frame.right, home.h-frame.top-frame.bottom
	if r.w > w && lo[0] < hi[0] {
		r.w = max(w, lo[0], 1)
	}
	if r.h > h && lo[1] < hi[1] {
		r.h = max(h, lo[1], 1)
	}
	r.x = max(min(r.x, home.right()-frame.right-r.w), home.x+frame.left)
	r.y = max(min(r.y, home.bottom()-frame.bottom-r.h), home.y+frame.top)
	return r
}

// mirrorScreen tells the app's server of the desktop's monitors: its own screen
// is larger, and cannot change.
func (b *Bridge) mirrorScreen() {
	c, root := b.App, b.App.Root()
	old, err := c.RandRGetMonitors(root, false)
	if err != nil {
		return
	}
	resources, err := c.RandRGetScreenResourcesCurrent(root)
	if err != nil {
		return
	}
	monitors := b.screen.monitors
	if len(monitors) == 0 {
		monitors = []xwire.RandRMonitorInfo{{Primary: true, Width: uint16(b.screen.all.w), Height: uint16(b.screen.all.h)}}
	}
	names := make([]string, len(monitors))
	for i := range monitors {
		names[i] = "hither-" + string(rune('0'+i%10))
	}
	list, err := c.Atoms(names...)
	if err != nil {
		return
	}
	for _, m := range old.Monitors {
		if !m.Automatic {
			c.RandRDeleteMonitor(root, m.Name)
		}
	}
	for i, m := range monitors {
		m.Name, m.Automatic, m.Outputs = list[i], false, nil
		if b.scale != 1 {
			in := (1 / b.scale).edges(rect{int(m.X), int(m.Y), int(m.Width), int(m.Height)})
			m.X, m.Y, m.Width, m.Height = clip16(in.x), clip16(in.y), clipSize(in.w), clipSize(in.h)
		}
		// GTK asks each monitor's first output for its name, and an output is in
		// one monitor only.
		if i < len(resources.Outputs) {
			m.Outputs = resources.Outputs[i : i+1]
		}
		c.RandRSetMonitor(root, m)
	}
	set := func(name string, values ...uint32) {
		c.ChangeProperty(xwire.PropModeReplace, root, b.a[name], xwire.AtomCardinal, 32, xwire.Uint32s(values...))
	}
	w, all := (1 / b.scale).edges(b.screen.work), (1 / b.scale).edges(b.screen.all)
	set("_NET_WORKAREA", uint32(w.x), uint32(w.y), uint32(w.w), uint32(w.h))
	set("_NET_DESKTOP_GEOMETRY", uint32(all.w), uint32(all.h))
	set("_NET_DESKTOP_VIEWPORT", 0, 0)
	set("_NET_NUMBER_OF_DESKTOPS", 1)
	set("_NET_CURRENT_DESKTOP", 0)
}

// announce says inside what this window manager can do, as EWMH has it.
func (b *Bridge) announce() {
	c, root := b.App, b.App.Root()
	var supported []xwire.Atom
	for _, name := range atomNames {
		if len(name) > 4 && (name[:5] == "_NET_" || name[:5] == "_GTK_") {
			supported = append(supported, b.a[name])
		}
	}
	c.ChangeProperty(xwire.PropModeReplace, root, b.a["_NET_SUPPORTED"], xwire.AtomAtom, 32, xwire.Uint32s(supported...))
	for _, w := range []xwire.Window{root, b.appWin} {
		c.ChangeProperty(xwire.PropModeReplace, w, b.a["_NET_SUPPORTING_WM_CHECK"], xwire.AtomWindow, 32, xwire.Uint32s(b.appWin))
	}
	c.ChangeProperty(xwire.PropModeReplace, b.appWin, b.a["_NET_WM_NAME"], b.a["UTF8_STRING"], 8, []byte("hither"))
	c.SetSelectionOwner(b.appWin, b.a["WM_S0"], 0)
	// Apps with translucent windows ask whether anybody heeds that.
	if b.screen.blends && b.visuals.argb != 0 {
		c.SetSelectionOwner(b.appWin, b.a["_NET_WM_CM_S0"], 0)
	}
	b.defaultCursor()
	c.XkbSelect(xwire.XkbEventTypeBellNotify, xwire.XkbEventTypeBellNotify)
}
