package peek

import (
	"fmt"
	"strings"

	"hither/engine/display/xwire"
)

// Window is a window that a person would count.
type Window struct {
	ID            xwire.Window
	Title         string
	Instance      string // of its WM_CLASS
	Class         string
	Pid           int    // 0: not known
	Machine       string // WM_CLIENT_MACHINE
	Width, Height int
	Dialog        bool // it belongs to another window, or is none of the app's main ones
	Aside         bool // a panel, a desktop, a splash screen: no app's window
	Viewable      bool // its picture can be read
	x, y          int16
	border        uint16
}

// Bounds: an app may make as many windows as it likes, and say in them what it likes.
const (
	maxWindows = 500
	maxText    = 1024 // words of four bytes
	maxTitle   = 300  // runes
)

// Windows lists them from the bottom to the top, or of a desktop from the oldest
// to the newest.
func (s *Server) Windows() ([]Window, error) {
	ids, err := s.candidates()
	if err != nil {
		return nil, fmt.Errorf("listing windows: %w", err)
	}
	if len(ids) > maxWindows {
		ids = ids[len(ids)-maxWindows:]
	}
	questions := make([]question, len(ids))
	for i, id := range ids {
		questions[i] = s.ask(id)
	}
	var list []Window
	for i, id := range ids {
		if w, ok := s.answer(id, &questions[i]); ok {
			list = append(list, w)
		}
	}
	if s.desktop {
		s.findPids(list)
	}
	return list, s.x.Err()
}

func (s *Server) candidates() ([]xwire.Window, error) {
	if !s.desktop {
		tree, err := s.x.QueryTree(s.x.Root())
		if err != nil {
			return nil, err
		}
		return tree.Children, nil
	}
	p, err := s.x.GetProperty(false, s.x.Root(), s.a["_NET_CLIENT_LIST"], xwire.AtomWindow, 0, 2*maxWindows)
	if err != nil {
		return nil, err
	}
	var ids []xwire.Window
	for _, id := range numbers(p, 0) {
		ids = append(ids, xwire.Window(id))
	}
	return ids, nil
}

// question is all that is asked of a window, in one round trip for all windows.
type question struct {
	attributes                                                 xwire.Cookie[xwire.GetWindowAttributesReply]
	geometry                                                   xwire.Cookie[xwire.GetGeometryReply]
	netName, name, class, kind, state, transient, pid, machine xwire.Cookie[xwire.GetPropertyReply]
}

func (s *Server) ask(id xwire.Window) question {
	get := func(a xwire.Atom) xwire.Cookie[xwire.GetPropertyReply] {
		return s.x.GetPropertyAsync(false, id, a, xwire.AtomAny, 0, maxText)
	}
	return question{
		attributes: s.x.GetWindowAttributesAsync(id), geometry: s.x.GetGeometryAsync(xwire.Drawable(id)),
		netName: get(s.a["_NET_WM_NAME"]), name: get(xwire.AtomWmName), class: get(xwire.AtomWmClass),
		kind: get(s.a["_NET_WM_WINDOW_TYPE"]), state: get(s.a["_NET_WM_STATE"]), transient: get(xwire.AtomWmTransientFor),
		pid: get(s.a["_NET_WM_PID"]), machine: get(xwire.AtomWmClientMachine),
	}
}

// answer is false for what is no window of a person's, or has gone.
func (s *Server) answer(id xwire.Window, q *question) (Window, bool) {
	w := Window{ID: id}
	a, err := q.attributes.Wait()
	g, err2 := q.geometry.Wait()
	text := func(c xwire.Cookie[xwire.GetPropertyReply]) string {
		p, err := c.Wait()
		if err != nil || p.Format != 8 {
			return ""
		}
		return clean(string(p.Value))
	}
	words := func(c xwire.Cookie[xwire.GetPropertyReply]) []uint32 {
		p, err := c.Wait()
		if err != nil {
			return nil
		}
		return numbers(p, 0)
	}
	w.Title = text(q.netName)
	if name := text(q.name); w.Title == "" {
		w.Title = name
	}
	if p, err := q.class.Wait(); err == nil && p.Format == 8 {
		instance, class, _ := strings.Cut(string(p.Value), "\x00")
		w.Instance, w.Class = clean(instance), clean(strings.TrimSuffix(class, "\x00"))
	}
	kinds, states, leader, pid := words(q.kind), words(q.state), words(q.transient), words(q.pid)
	w.Machine = text(q.machine)
	if err != nil || err2 != nil {
		return w, false
	}
	if len(pid) > 0 {
		w.Pid = int(min(pid[0], 1<<30))
	}
	w.Width, w.Height, w.x, w.y, w.border = int(g.Width), int(g.Height), g.X, g.Y, g.BorderWidth
	w.Viewable = a.MapState == xwire.MapStateViewable
	w.Dialog = len(leader) > 0 && leader[0] != 0
	for _, k := range kinds {
		switch xwire.Atom(k) {
		case s.a["_NET_WM_WINDOW_TYPE_DIALOG"], s.a["_NET_WM_WINDOW_TYPE_UTILITY"]:
			w.Dialog = true
		case s.a["_NET_WM_WINDOW_TYPE_DESKTOP"], s.a["_NET_WM_WINDOW_TYPE_DOCK"], s.a["_NET_WM_WINDOW_TYPE_SPLASH"],
			s.a["_NET_WM_WINDOW_TYPE_NOTIFICATION"], s.a["_NET_WM_WINDOW_TYPE_TOOLTIP"]:
			w.Aside = true
		}
	}
	for _, st := range states {
		w.Aside = w.Aside || s.desktop && xwire.Atom(st) == s.a["_NET_WM_STATE_SKIP_TASKBAR"]
	}
	if s.desktop {
		return w, true // the window manager's list says so
	}
	return w, a.Class == xwire.WindowClassInputOutput && !a.OverrideRedirect && a.MapState != xwire.MapStateUnmapped && !w.Aside
}

// findPids asks the server whose windows they are: what a window says of itself
// may be of another pid namespace. Servers without X-Resource leave it at that.
func (s *Server) findPids(list []Window) {
	if !s.res {
		return
	}
	cookies := make([]xwire.Cookie[xwire.ResQueryClientIdsReply], len(list))
	for i, w := range list {
		cookies[i] = s.x.ResQueryClientIdsAsync([]xwire.ResClientIdSpec{{Client: uint32(w.ID), Mask: xwire.ResClientIdMaskLocalClientPID}})
	}
	for i := range list {
		r, err := cookies[i].Wait()
		if err != nil {
			continue
		}
		for _, id := range r.Ids {
			if id.Spec.Mask&xwire.ResClientIdMaskLocalClientPID != 0 && len(id.Value) > 0 && id.Value[0] != 0 {
				list[i].Pid = int(id.Value[0])
			}
		}
	}
}

// Main is the window that stands for an app: its largest that is shown and is no
// dialog, if there is one. It is nil without windows.
func Main(list []Window) *Window {
	var best *Window
	rank := func(w *Window) int {
		n := min(w.Width*w.Height, 1<<40)
		if !w.Dialog {
			n |= 1 << 41
		}
		if w.Viewable {
			n |= 1 << 42
		}
		return n
	}
	for i := range list {
		if w := &list[i]; best == nil || rank(w) >= rank(best) {
			best = w
		}
	}
	return best
}

// Ask closes a window as its cross does, if it takes that; false if it does not.
func (s *Server) Ask(w *Window) (bool, error) {
	p, err := s.x.GetProperty(false, w.ID, s.a["WM_PROTOCOLS"], xwire.AtomAtom, 0, maxText)
	if err != nil {
		return false, fmt.Errorf("closing the window %q: %w", w.Title, err)
	}
	for _, a := range numbers(p, 0) {
		if xwire.Atom(a) != s.a["WM_DELETE_WINDOW"] {
			continue
		}
		m := xwire.ClientMessageEvent{Format: 32, Window: w.ID, Type: s.a["WM_PROTOCOLS"],
			Data: xwire.MessageData(uint32(s.a["WM_DELETE_WINDOW"]), 0)}
		s.x.SendEvent(false, w.ID, 0, m.Encode())
		if err := s.x.Sync(); err != nil {
			return false, fmt.Errorf("closing the window %q: %w", w.Title, err)
		}
		return true, nil
	}
	return false, nil
}

// Raise brings a window to the front and gives it the keyboard, as a taskbar does: in a capsule the
// bridge passes that on to the desktop.
func (s *Server) Raise(w *Window) error {
	const pager = 2 // who speaks for the person (EWMH)
	m := xwire.ClientMessageEvent{Format: 32, Window: w.ID, Type: s.a["_NET_ACTIVE_WINDOW"], Data: xwire.MessageData(pager, 0, 0)}
	s.x.SendEvent(false, s.x.Root(), xwire.EventMaskSubstructureNotify|xwire.EventMaskSubstructureRedirect, m.Encode())
	if err := s.x.Sync(); err != nil {
		return fmt.Errorf("raising the window %q: %w", w.Title, err)
	}
	return nil
}

// numbers are the values of a property of format 32, at least n, or none.
func numbers(p *xwire.GetPropertyReply, n int) []uint32 {
	if p.Type == 0 || p.Format != 32 || len(p.Value) < 4*n {
		return nil
	}
	return xwire.ToUint32s(p.Value)
}

// clean makes one line of what a window says of itself.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.TrimRight(s, "\x00"), "?"))
	if runes := []rune(s); len(runes) > maxTitle {
		s = string(runes[:maxTitle]) + "…"
	}
	return strings.TrimSpace(s)
}
