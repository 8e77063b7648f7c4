package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hither/engine/display/xwire"
)

// window is one window on a desktop: the window manager's, or a popup, which it knows nothing of.
type window struct {
	ID       xwire.Window `json:"id"`
	Title    string       `json:"title"`
	Instance string       `json:"instance,omitempty"`
	Class    string       `json:"class,omitempty"`
	X        int          `json:"x"` // of what the program draws, without title bar and frame
	Y        int          `json:"y"`
	Width    int          `json:"width"`
	Height   int          `json:"height"`
	Shown    bool         `json:"shown"`
	Active   bool         `json:"active,omitempty"` // it has the keyboard
	Popup    bool         `json:"popup,omitempty"`  // a menu, a tooltip
	States   []string     `json:"states,omitempty"` // of _NET_WM_STATE
}

func (w *window) is(name string) bool {
	return name != "" && !w.Popup && (strings.Contains(w.Title, name) || strings.EqualFold(w.Class, name))
}

// longProperty bounds a property that is read, in words of four bytes.
const longProperty = 1 << 14

func property(x *xwire.Conn, w xwire.Window, name string) ([]byte, error) {
	atom, err := x.Atom(name)
	if err != nil {
		return nil, err
	}
	p, err := x.GetProperty(false, w, atom, xwire.GetPropertyTypeAny, 0, longProperty)
	if err != nil {
		return nil, err
	}
	return p.Value, nil
}

// listWindows lists the window manager's windows, the oldest first, and then popups that are shown.
func listWindows(x *xwire.Conn) ([]*window, error) {
	managed, err := property(x, x.Root(), "_NET_CLIENT_LIST")
	if err != nil {
		return nil, fmt.Errorf("listing windows: %w", err)
	}
	active, err := property(x, x.Root(), "_NET_ACTIVE_WINDOW")
	if err != nil {
		return nil, fmt.Errorf("listing windows: %w", err)
	}
	var all []*window
	add := func(id xwire.Window, popup bool) error {
		w, err := describe(x, id, popup)
		if errors.Is(err, xwire.ErrWindow) || errors.Is(err, xwire.ErrDrawable) {
			return nil // it closed just now
		}
		if err != nil {
			return fmt.Errorf("looking at window %#x: %w", id, err)
		}
		if w != nil {
			w.Active = slices.Contains(xwire.ToUint32s(active), uint32(id))
			all = append(all, w)
		}
		return nil
	}
	for _, id := range xwire.ToUint32s(managed) {
		if err := add(xwire.Window(id), false); err != nil {
			return nil, err
		}
	}
	tree, err := x.QueryTree(x.Root())
	if err != nil {
		return nil, fmt.Errorf("listing windows: %w", err)
	}
	for _, id := range tree.Children {
		if err := add(id, true); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// describe reads what there is to know of a window; nothing of what is no popup, if one is looked for.
func describe(x *xwire.Conn, id xwire.Window, popup bool) (*window, error) {
	attributes, err := x.GetWindowAttributes(id)
	if err != nil {
		return nil, err
	}
	geometry, err := x.GetGeometry(xwire.Drawable(id))
	if err != nil {
		return nil, err
	}
	w := &window{ID: id, Width: int(geometry.Width), Height: int(geometry.Height), Popup: popup, Shown: attributes.MapState == xwire.MapStateViewable}
	// The window manager's own frames and helpers are off the screen, or are not override-redirect.
	if popup && (!attributes.OverrideRedirect || !w.Shown || geometry.X+int16(geometry.Width) <= 0 || geometry.Y+int16(geometry.Height) <= 0) {
		return nil, nil
	}
	at, err := x.TranslateCoordinates(id, x.Root(), 0, 0)
	if err != nil {
		return nil, err
	}
	w.X, w.Y = int(at.DstX), int(at.DstY)
	title, err := property(x, id, "_NET_WM_NAME")
	if err == nil && len(title) == 0 {
		title, err = property(x, id, "WM_NAME")
	}
	if err != nil {
		return nil, err
	}
	w.Title = string(title)
	class, err := property(x, id, "WM_CLASS")
	if err != nil {
		return nil, err
	}
	if parts := bytes.Split(class, []byte{0}); len(parts) >= 2 {
		w.Instance, w.Class = string(parts[0]), string(parts[1])
	}
	states, err := property(x, id, "_NET_WM_STATE")
	if err != nil {
		return nil, err
	}
	var atoms []xwire.Atom
	for _, a := range xwire.ToUint32s(states) {
		atoms = append(atoms, xwire.Atom(a))
	}
	w.States, err = x.AtomNames(atoms...)
	return w, err
}

// watchWindows returns as soon as ok likes what is there. It looks again whenever the desktop or a window
// changes; in vain, the error tells what was there.
func watchWindows(ctx context.Context, x *xwire.Conn, what string, ok func([]*window) bool) error {
	x.ChangeWindowAttributes(x.Root(), xwire.WindowValues{
		Mask: xwire.CWEventMask, EventMask: xwire.EventMaskPropertyChange | xwire.EventMaskSubstructureNotify,
	})
	watched := map[xwire.Window]bool{x.Root(): true}
	defer func() { // nobody takes what happens from here on
		for w := range watched {
			x.ChangeWindowAttributes(w, xwire.WindowValues{Mask: xwire.CWEventMask})
		}
		if x.Sync() == nil {
			x.TakeEvents() //nolint:errcheck // the next command meets the error
		}
	}()
	for {
		all, err := listWindows(x)
		if err != nil {
			return err
		}
		// A window is looked at again once it is watched: it may have changed between.
		fresh := false
		for _, w := range all {
			if !watched[w.ID] {
				x.ChangeWindowAttributes(w.ID, xwire.WindowValues{
					Mask: xwire.CWEventMask, EventMask: xwire.EventMaskPropertyChange | xwire.EventMaskStructureNotify,
				})
				watched[w.ID], fresh = true, true
			}
		}
		if ok(all) {
			return nil
		}
		if fresh {
			continue
		}
		if _, err := x.NextEvent(ctx); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%s: in vain; there is %s", what, titles(all))
			}
			return fmt.Errorf("%s: %w", what, err)
		}
		if _, err := x.TakeEvents(); err != nil { // all of them are dealt with by one look
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

func titles(all []*window) string {
	var t []string
	for _, w := range all {
		t = append(t, fmt.Sprintf("%q (%s)", w.Title, w.Class))
	}
	if len(t) == 0 {
		return "no window"
	}
	return strings.Join(t, ", ")
}

func waitWindow(ctx context.Context, x *xwire.Conn, name string) (found *window, err error) {
	if name == "" {
		return nil, errArguments
	}
	err = watchWindows(ctx, x, "waiting for the window "+name, func(all []*window) bool {
		i := slices.IndexFunc(all, func(w *window) bool { return w.is(name) && w.Shown })
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found, err
}

func waitGone(ctx context.Context, x *xwire.Conn, name string) error {
	if name == "" {
		return errArguments
	}
	return watchWindows(ctx, x, "waiting for the end of the window "+name, func(all []*window) bool {
		return !slices.ContainsFunc(all, func(w *window) bool { return w.is(name) })
	})
}

// fromPager is the source of a request that a person makes by another program (EWMH).
const fromPager = 2

// tellManager asks the window manager for something about a window.
func tellManager(x *xwire.Conn, w xwire.Window, message string, values ...uint32) error {
	kind, err := x.Atom(message)
	if err != nil {
		return err
	}
	m := xwire.ClientMessageEvent{Format: 32, Window: w, Type: kind, Data: xwire.MessageData(values...)}
	x.SendEvent(false, x.Root(), xwire.EventMaskSubstructureRedirect|xwire.EventMaskSubstructureNotify, m.Encode())
	return x.Sync()
}

// focusWindow waits for a window and for it to have the keyboard.
func focusWindow(ctx context.Context, x *xwire.Conn, name string) (*window, error) {
	w, err := waitWindow(ctx, x, name)
	if err != nil {
		return nil, err
	}
	if err := tellManager(x, w.ID, "_NET_ACTIVE_WINDOW", fromPager, 0, 0); err != nil {
		return nil, err
	}
	err = watchWindows(ctx, x, "waiting for the window "+name+" to have the keyboard", func(all []*window) bool {
		i := slices.IndexFunc(all, func(now *window) bool { return now.ID == w.ID && now.Active })
		if i >= 0 {
			w = all[i]
		}
		return i >= 0
	})
	return w, err
}
