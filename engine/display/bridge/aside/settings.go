package aside

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"

	"hither/engine/display"
	"hither/engine/display/xsettings"
	"hither/engine/display/xwire"
)

// settings makes the desktop's settings those of the capsule: XSETTINGS, which
// toolkits follow while they run, RESOURCE_MANAGER, which most read once, and the
// names of the keyboard's layouts, by which some tell a person what it is.
//
// Toolkits lose all of them, and draw everything anew, when the window that has
// the XSETTINGS goes. So that window is nobody's: it stays in the capsule's
// server for good, moves with it, and whoever connects next writes into it.
type settings struct {
	manager xwire.Window        // the desktop's, if it has one
	inside  xwire.Window        // that nobody's window
	root    [2][]byte           // rootProperties as they are inside
	current []xsettings.Setting // the same
	serial  uint32
	desk    float64 // its dots per inch
	dirty   bool
}

// rootProperties are the root window's that are carried.
var rootProperties = [2]string{"RESOURCE_MANAGER", "_XKB_RULES_NAMES"}

const (
	maxResources = 1 << 20 // bytes
	maxSettings  = 1 << 20
)

func (g *settings) attach(ctx context.Context, a *Aside) error {
	*g = settings{dirty: true}
	if err := g.findWindow(ctx, a); err != nil {
		return fmt.Errorf("making a place for the desktop's settings in the capsule: %w", err)
	}
	c := a.app.conn
	old := c.GetPropertyAsync(false, g.inside, a.app.atom.settings, 0, 0, maxSettings/4)
	var root [2]xwire.Cookie[xwire.GetPropertyReply]
	for i, atom := range a.app.atom.root {
		root[i] = c.GetPropertyAsync(false, c.Root(), atom, xwire.AtomString, 0, maxResources/4)
	}
	if r, err := old.Wait(); err == nil {
		g.current, g.serial, _ = xsettings.Parse(r.Value) // damaged: written anew
	}
	for i := range root {
		if r, err := root[i].Wait(); err == nil {
			g.root[i] = r.Value
		}
	}
	a.desk.conn.XFixesSelectSelectionInput(a.desk.win, a.desk.atom.xsettings, allOwnerChanges)
	a.desk.conn.ChangeWindowAttributes(a.desk.conn.Root(), xwire.WindowValues{Mask: xwire.CWEventMask, EventMask: xwire.EventMaskPropertyChange})
	g.manager = 0
	g.find(a)
	g.update(a)

	c.SetSelectionOwner(g.inside, a.app.atom.xsettings, xwire.TimeCurrentTime)
	message, err := c.Atom("MANAGER")
	if err != nil {
		return err
	}
	ev := xwire.ClientMessageEvent{Format: 32, Window: c.Root(), Type: message,
		Data: xwire.MessageData(uint32(xwire.TimeCurrentTime), uint32(a.app.atom.xsettings), uint32(g.inside))}
	c.SendEvent(false, c.Root(), xwire.EventMaskStructureNotify, ev.Encode())
	return nil
}

// findWindow finds the window that a predecessor has made, or makes it.
func (g *settings) findWindow(ctx context.Context, a *Aside) error {
	c := a.app.conn
	r, err := c.GetProperty(false, c.Root(), a.app.atom.settings0, xwire.AtomWindow, 0, 1)
	if err != nil {
		return err
	}
	if v := xwire.ToUint32s(r.Value); len(v) == 1 {
		if _, err := c.GetGeometry(xwire.Drawable(v[0])); err == nil {
			g.inside = xwire.Window(v[0])
			return nil
		}
	}
	// All that a connection has made stays, so it has its own.
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "unix", a.opts.Socket)
	if err != nil {
		return err
	}
	maker := side{}
	if maker.conn, err = xwire.NewConn(ctx, socket, xwire.Auth{}); err != nil {
		return err
	}
	maker.socket, _ = socket.(*net.UnixConn)
	defer maker.hangUp()
	m := maker.conn
	g.inside = xwire.NewID[xwire.Window](m)
	m.CreateWindow(0, g.inside, m.Root(), -10, -10, 1, 1, 0, xwire.WindowClassInputOnly, 0,
		xwire.WindowValues{Mask: xwire.CWOverrideRedirect, OverrideRedirect: true})
	m.ChangeProperty(xwire.PropModeReplace, m.Root(), a.app.atom.settings0, xwire.AtomWindow, 32, xwire.Uint32s(g.inside))
	m.SetCloseDownMode(xwire.CloseDownRetainPermanent)
	return m.Sync()
}

// part leaves all as it is.
func (g *settings) part(a *Aside) {
	if g.manager != 0 {
		a.desk.unwatch(g.manager)
		g.manager = 0
	}
}

// find looks for the desktop's manager of settings.
func (g *settings) find(a *Aside) {
	r, err := a.desk.conn.GetSelectionOwner(a.desk.atom.xsettings)
	if err != nil || r.Owner == g.manager {
		return
	}
	if g.manager != 0 {
		a.desk.unwatch(g.manager)
	}
	if g.manager = r.Owner; g.manager != 0 {
		a.desk.watch(g.manager)
	}
	g.dirty = true
}

// managerChanged is told that the desktop's manager has come or gone.
func (g *settings) managerChanged(a *Aside, s *side) {
	if s == &a.desk && a.app.conn != nil {
		g.find(a)
	}
}

func (g *settings) propertyChanged(a *Aside, s *side, ev *xwire.PropertyNotifyEvent) {
	if s != &a.desk {
		return
	}
	if ev.Atom == s.atom.settings && ev.Window == g.manager || slices.Contains(s.atom.root[:], ev.Atom) && ev.Window == s.conn.Root() {
		g.dirty = true
	}
}

// update carries the settings, if they have changed.
func (g *settings) update(a *Aside) {
	if !g.dirty || a.app.conn == nil {
		return
	}
	g.dirty = false
	in, out := a.app.conn, a.desk.conn
	var root [2]xwire.Cookie[xwire.GetPropertyReply]
	for i, atom := range a.desk.atom.root {
		root[i] = out.GetPropertyAsync(false, out.Root(), atom, xwire.AtomString, 0, maxResources/4)
	}
	var list []xsettings.Setting
	if g.manager != 0 {
		r, err := out.GetProperty(false, g.manager, a.desk.atom.settings, 0, 0, maxSettings/4)
		if err == nil {
			list, _, err = xsettings.Parse(r.Value)
		}
		if err != nil {
			a.log.Info("reading the desktop's settings", "error", err)
		}
	}
	texts := g.root
	for i := range root {
		if r, err := root[i].Wait(); err == nil {
			texts[i] = r.Value
		}
	}
	resources := string(texts[0])
	dpi := display.SaidDPI(list, resources)
	if dpi == 0 {
		dpi = display.UsualDPI
	}
	if list = inCapsule(list); len(list) == 0 {
		list = leastSettings(dpi)
	}
	now := dpi
	if had := g.dpi(in); had != dpi && a.opts.KeepsScale != nil && a.opts.KeepsScale(dpi, had) {
		now = had
		from := g.current
		if len(from) == 0 {
			from = leastSettings(had)
		}
		list, resources = keepScale(list, from), keepScaleResources(resources, string(g.root[0]))
	}
	if now != display.ServerDPI(in) {
		resources = withDPI(resources, now)
	}
	texts[0] = []byte(resources)
	for i, text := range texts {
		if !bytes.Equal(text, g.root[i]) {
			g.root[i] = text
			in.ChangeProperty(xwire.PropModeReplace, in.Root(), a.app.atom.root[i], xwire.AtomString, 8, text)
		}
	}
	if next := changed(g.current, list, g.serial+1); next != nil {
		g.serial++
		g.current = next
		in.ChangeProperty(xwire.PropModeReplace, g.inside, a.app.atom.settings, a.app.atom.settings, 8, xsettings.Encode(next, g.serial))
	}
	if a.opts.DPI != nil && dpi != g.desk {
		a.opts.DPI(dpi)
	}
	g.desk = dpi
}

// dpi is what the apps have been told.
func (g *settings) dpi(in *xwire.Conn) float64 {
	if dpi := display.SaidDPI(g.current, string(g.root[0])); dpi != 0 {
		return dpi
	}
	return display.ServerDPI(in)
}

// notInCapsule are settings that speak of programs which serve the desktop and do
// not run in a capsule: its session bus, input methods, modules that export menus.
var notInCapsule = []string{"Gtk/SessionBusId", "Gtk/IMModule", "Gtk/Modules", "Gtk/ShellShowsAppMenu", "Gtk/ShellShowsMenubar"}

func inCapsule(list []xsettings.Setting) []xsettings.Setting {
	return slices.DeleteFunc(list, func(s xsettings.Setting) bool { return slices.Contains(notInCapsule, s.Name) })
}

// leastSettings are those of a desktop that has none.
func leastSettings(dpi float64) []xsettings.Setting {
	d := uint32(math.Round(dpi * 1024))
	return []xsettings.Setting{
		{Name: "Gdk/UnscaledDPI", Number: d},
		{Name: "Gdk/WindowScalingFactor", Number: 1},
		{Name: "Xft/DPI", Number: d},
	}
}

// changed gives what a list has become with each setting's last change, or nil if
// nothing has changed.
func changed(old, list []xsettings.Setting, serial uint32) []xsettings.Setting {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b xsettings.Setting) int { return strings.Compare(a.Name, b.Name) })
	before := map[string]xsettings.Setting{}
	for _, s := range old {
		before[s.Name] = s
	}
	same := len(old) == len(list)
	for i := range list {
		s := &list[i]
		s.Serial = serial
		was, ok := before[s.Name]
		if was.Serial = serial; ok && was == *s {
			s.Serial = before[s.Name].Serial
		} else {
			same = false
		}
	}
	if same {
		return nil
	}
	return list
}
