package aside

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"

	"hither/engine/display"
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
	manager xwire.Window // the desktop's, if it has one
	inside  xwire.Window // that nobody's window
	root    [2][]byte    // rootProperties as they are inside
	current []setting    // the same
	serial  uint32
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
		g.current, g.serial, _ = parseSettings(r.Value) // damaged: written anew
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
	var list []setting
	if g.manager != 0 {
		r, err := out.GetProperty(false, g.manager, a.desk.atom.settings, 0, 0, maxSettings/4)
		if err == nil {
			list, _, err = parseSettings(r.Value)
		}
		if err != nil {
			a.log.Info("reading the desktop's settings", "error", err)
		}
	}
	for i := range root {
		if r, err := root[i].Wait(); err == nil && !bytes.Equal(r.Value, g.root[i]) {
			g.root[i] = r.Value
			in.ChangeProperty(xwire.PropModeReplace, in.Root(), a.app.atom.root[i], xwire.AtomString, 8, r.Value)
		}
	}
	if list = inCapsule(list); len(list) == 0 {
		list = leastSettings(display.ResourceDPI(string(g.root[0])))
	}
	if next := changed(g.current, list, g.serial+1); next != nil {
		g.serial++
		g.current = next
		in.ChangeProperty(xwire.PropModeReplace, g.inside, a.app.atom.settings, a.app.atom.settings, 8, encodeSettings(next, g.serial))
	}
}
