// Package peek reads from an X server, from outside and in a moment, which
// windows there are and what they show.
//
// In a nutshell: OpenApp connects to a capsule's X server, beside the bridge, and
// OpenDesktop to the user's desktop; Windows lists the windows that a person would
// count, Picture is what one of them shows, Icon its icon. Nothing is selected,
// grabbed or changed, so neither the app nor the window manager notices; only
// Ask closes a window, as its cross does, and Raise brings it to the front.
//
// A connection to a capsule must be short: an app is not frozen as long as its X
// server has one to the outside. Close it at once, and do not open one while the
// app is on the move, nor to a server that does not run, which would start it.
//
// The package holds no lock.
package peek

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hither/engine/display/xwire"
)

// patience is how long a server may take to answer. One that is busy, or grabbed
// by an app, is asked again the next time.
const patience = time.Second

// Server is a connection for a moment.
type Server struct {
	x       *xwire.Conn
	stop    func() bool
	a       map[string]xwire.Atom
	res     bool
	desktop bool
}

// atoms are all that are asked for.
var atoms = []string{
	"_NET_CLIENT_LIST", "_NET_WM_NAME", "_NET_WM_PID", "_NET_WM_ICON", "_NET_WM_WINDOW_TYPE", "_NET_WM_STATE", "_NET_WM_STATE_SKIP_TASKBAR",
	"_NET_SUPPORTING_WM_CHECK", "_NET_ACTIVE_WINDOW", "WM_PROTOCOLS", "WM_DELETE_WINDOW",
	"_NET_WM_WINDOW_TYPE_NORMAL", "_NET_WM_WINDOW_TYPE_DIALOG", "_NET_WM_WINDOW_TYPE_UTILITY", "_NET_WM_WINDOW_TYPE_DESKTOP", "_NET_WM_WINDOW_TYPE_DOCK",
	"_NET_WM_WINDOW_TYPE_SPLASH", "_NET_WM_WINDOW_TYPE_NOTIFICATION", "_NET_WM_WINDOW_TYPE_TOOLTIP",
}

// OpenApp connects to the X server of a capsule by its socket's path, as
// display.Service.Outside names it. The end of ctx ends the connection.
func OpenApp(ctx context.Context, socket string) (*Server, error) {
	soon, stop := context.WithTimeout(ctx, patience)
	defer stop()
	x, err := xwire.DialPath(soon, socket)
	if err != nil {
		return nil, err
	}
	return open(ctx, x)
}

// OpenDesktop connects to a desktop; see xwire.Dial. The end of ctx ends the connection.
func OpenDesktop(ctx context.Context, display, authority string) (*Server, error) {
	soon, stop := context.WithTimeout(ctx, patience)
	defer stop()
	x, err := xwire.Dial(soon, display, authority)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, x)
	if err == nil {
		s.desktop = true
	}
	return s, err
}

func open(ctx context.Context, x *xwire.Conn) (*Server, error) {
	x.SetTimeout(patience)
	s := &Server{x: x, a: map[string]xwire.Atom{}}
	s.stop = context.AfterFunc(ctx, func() { x.Close() })
	list, err := x.Atoms(atoms...)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("looking at windows: %w", err)
	}
	for i, name := range atoms {
		s.a[name] = list[i]
	}
	s.res = x.Use(xwire.Res) == nil
	return s, nil
}

// Close ends the connection.
func (s *Server) Close() {
	s.stop()
	s.x.Close()
}

// ErrNoWindow says that a window has gone, or shows nothing.
var ErrNoWindow = errors.New("the window shows nothing")
