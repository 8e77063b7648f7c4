package bridge

import (
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"hither/engine/display"
	"hither/engine/display/xwire"
)

// Bridge shows one capsule's windows on one desktop. One goroutine owns it all;
// only do may be called by others.
type Bridge struct {
	o   Options
	log *slog.Logger

	App, Desk         *xwire.Conn // App is nil while the app is let go of
	socket            *net.UnixConn
	appWin, deskWin   xwire.Window
	appTime, deskTime xwire.Timestamp
	userTime          xwire.Timestamp // the desktop's, when the app was last worked with
	onAppTime         []func()        // wait for the app's server to say its time

	calls    chan func()
	features []feature
	beside   *beside   // the clipboard and the settings
	messages *messages // of the session bus

	a, d atoms // by name, of either side

	windows map[xwire.Window]*window // by the app's window
	native  map[xwire.Window]*window // by the desktop's
	focus   *window                  // has the desktop's focus
	active  xwire.Window             // had it, inside, and may get it again at once
	over    *window                  // has the desktop's pointer
	top     *window                  // the topmost inside, popups apart
	order   []*window                // managed, in the order of their mapping
	popups  []*window                // in the same
	ping    map[xwire.Timestamp]*window

	visuals  visuals
	paint    painter
	input    input
	grab     grab
	cursors  cursors
	screen   screen
	progress progress
	typed    []display.Stroke // while the app is let go of, or arriving
	held     []xwire.Keycode  // modifiers, when it was let go of
	arriving bool             // what was typed at its windows elsewhere comes first
	bus      string           // the session bus's socket, "" if it does not run
	arrived  bool             // the app is here for the first time

	scale        scale       // see there
	deskDPI, dpi float64     // the desktop's, and what the apps inside draw for
	keepsScale   atomic.Bool // they are not told of the desktop's
}

// atoms are those of names below.
type atoms map[string]xwire.Atom

var atomNames = append([]string{
	"WM_STATE", "WM_PROTOCOLS", "WM_DELETE_WINDOW", "WM_TAKE_FOCUS", "WM_CHANGE_STATE", "WM_S0", "UTF8_STRING",
	"WM_HINTS", "_NET_WM_PID", "WM_NORMAL_HINTS", "WM_TRANSIENT_FOR", "WM_CLIENT_LEADER",
	"_NET_SUPPORTED", "_NET_SUPPORTING_WM_CHECK", "_NET_CLIENT_LIST", "_NET_CLIENT_LIST_STACKING", "_NET_ACTIVE_WINDOW",
	"_NET_NUMBER_OF_DESKTOPS", "_NET_CURRENT_DESKTOP", "_NET_DESKTOP_GEOMETRY", "_NET_DESKTOP_VIEWPORT", "_NET_WORKAREA",
	"_NET_FRAME_EXTENTS", "_NET_REQUEST_FRAME_EXTENTS", "_NET_CLOSE_WINDOW", "_NET_WM_PING", "_NET_WM_USER_TIME",
	"_NET_WM_SYNC_REQUEST", "_NET_WM_SYNC_REQUEST_COUNTER",
	"_NET_WM_STATE", "_NET_WM_STATE_MODAL", "_NET_WM_STATE_STICKY", "_NET_WM_STATE_MAXIMIZED_VERT", "_NET_WM_STATE_MAXIMIZED_HORZ",
	"_NET_WM_STATE_SHADED", "_NET_WM_STATE_SKIP_TASKBAR", "_NET_WM_STATE_SKIP_PAGER", "_NET_WM_STATE_HIDDEN",
	"_NET_WM_STATE_FULLSCREEN", "_NET_WM_STATE_ABOVE", "_NET_WM_STATE_BELOW", "_NET_WM_STATE_DEMANDS_ATTENTION", "_NET_WM_STATE_FOCUSED",
	"_NET_WM_MOVERESIZE", "_NET_MOVERESIZE_WINDOW", "_NET_RESTACK_WINDOW", "_NET_WM_FULLSCREEN_MONITORS", "_GTK_SHOW_WINDOW_MENU",
	"_NET_WM_ALLOWED_ACTIONS", "_NET_WM_CM_S0", "_HITHER_DESKTOP", "_HITHER_NORMAL",
	"_NET_WM_WINDOW_TYPE_DESKTOP", "_NET_WM_WINDOW_TYPE_DOCK", "_NET_WM_WINDOW_TYPE_TOOLBAR", "_NET_WM_WINDOW_TYPE_MENU",
	"_NET_WM_WINDOW_TYPE_UTILITY", "_NET_WM_WINDOW_TYPE_SPLASH", "_NET_WM_WINDOW_TYPE_DIALOG", "_NET_WM_WINDOW_TYPE_DROPDOWN_MENU",
	"_NET_WM_WINDOW_TYPE_POPUP_MENU", "_NET_WM_WINDOW_TYPE_TOOLTIP", "_NET_WM_WINDOW_TYPE_NOTIFICATION", "_NET_WM_WINDOW_TYPE_COMBO",
	"_NET_WM_WINDOW_TYPE_DND", "_NET_WM_WINDOW_TYPE_NORMAL",
}, copied...)

func internAll(c *xwire.Conn) (atoms, error) {
	list, err := c.Atoms(atomNames...)
	if err != nil {
		return nil, err
	}
	a := make(atoms, len(list))
	for i, name := range atomNames {
		a[name] = list[i]
	}
	return a, nil
}

// do has the bridge's goroutine run f.
func (b *Bridge) do(f func()) { b.calls <- f }

// after runs f on the bridge's goroutine in a while. It is for that goroutine.
func (b *Bridge) after(d time.Duration, f func()) (stop func()) {
	stopped := false
	t := time.AfterFunc(d, func() {
		b.do(func() {
			if !stopped {
				f()
			}
		})
	})
	return func() { stopped = true; t.Stop() }
}

// focused says whether one of the app's windows has the desktop's focus.
func (b *Bridge) focused() bool { return b.focus != nil }

// setFocus notes which of the app's windows has the desktop's focus, if any.
func (b *Bridge) setFocus(w *window) {
	was := b.focus != nil
	old := b.focus
	b.focus, b.active = w, 0
	for _, o := range []*window{old, w} {
		if b.App != nil && old != w && o != nil && b.windows[o.app] == o && !o.popup {
			b.writeStates(o)
		}
	}
	if is := w != nil; is != was {
		for _, f := range b.features {
			f.focus(is)
		}
	}
}

// close drops both connections, and with the desktop's all native windows.
func (b *Bridge) close() {
	b.beside.close()
	b.messages.close()
	if b.App != nil {
		b.App.Close()
		b.App = nil
	}
	b.paint.forget()
	if b.Desk != nil {
		b.Desk.Close()
	}
}

// prepareDesk makes what the bridge has of its own on the desktop.
func (b *Bridge) prepareDesk() error {
	c := b.Desk
	b.windows, b.native = map[xwire.Window]*window{}, map[xwire.Window]*window{}
	b.ping = map[xwire.Timestamp]*window{}
	var err error
	if b.d, err = internAll(c); err != nil {
		return err
	}
	// Those that are missing are done without.
	for _, ext := range []*xwire.Extension{xwire.Shm, xwire.Render, xwire.XFixes, xwire.Shape, xwire.RandR, xwire.Xkb, xwire.Sync} {
		if err := c.Use(ext); err != nil {
			b.log.Info("the desktop does without", "extension", ext.Name())
		}
	}
	b.deskWin = xwire.NewID[xwire.Window](c)
	c.CreateWindow(0, b.deskWin, c.Root(), -100, -100, 1, 1, 0, xwire.WindowClassInputOutput, 0,
		xwire.WindowValues{Mask: xwire.CWOverrideRedirect | xwire.CWEventMask, OverrideRedirect: true, EventMask: xwire.EventMaskPropertyChange})
	c.ChangeWindowAttributes(c.Root(), xwire.WindowValues{Mask: xwire.CWEventMask, EventMask: xwire.EventMaskPropertyChange})
	if c.Has(xwire.Xkb) {
		// A key that is held is told as presses only, so that it is not let go of
		// in between.
		if _, err := c.XkbPerClientFlags(xwire.CoreKeyboard, xwire.XkbPerClientFlagDetectableAutoRepeat, xwire.XkbPerClientFlagDetectableAutoRepeat, 0, 0, 0); err != nil {
			return err
		}
	}
	if err := b.visuals.find(c); err != nil {
		return err
	}
	if b.deskDPI, err = display.DPIOf(c); err != nil {
		return err
	}
	if b.deskDPI == 0 {
		b.deskDPI = display.UsualDPI
	}
	if c.Has(xwire.RandR) {
		c.RandRSelectInput(c.Root(), xwire.RandRNotifyMaskScreenChange)
	}
	return b.readScreen()
}

// prepareApp becomes the window manager inside. It fails with ErrAccess while
// there is another.
func (b *Bridge) prepareApp() error {
	c := b.App
	var err error
	if b.a, err = internAll(c); err != nil {
		return err
	}
	if err := c.Use(xwire.Composite, xwire.Damage, xwire.XFixes, xwire.XTest, xwire.Shape, xwire.RandR, xwire.Xkb); err != nil {
		return err
	}
	if err := c.Use(xwire.Sync); err != nil {
		b.log.Info("apps are resized unseen", "error", err)
	}
	if err := c.Use(xwire.Res); err != nil {
		b.log.Info("apps are scaled down whatever their fonts", "error", err)
	}
	if err := c.ChangeWindowAttributesChecked(c.Root(), xwire.WindowValues{Mask: xwire.CWEventMask,
		EventMask: xwire.EventMaskSubstructureRedirect | xwire.EventMaskSubstructureNotify | xwire.EventMaskPropertyChange |
			xwire.EventMaskEnterWindow | xwire.EventMaskLeaveWindow | xwire.EventMaskFocusChange}); err != nil {
		return err
	}
	if err := c.CompositeRedirectSubwindowsChecked(c.Root(), xwire.CompositeRedirectManual); err != nil {
		return err
	}
	b.appWin = xwire.NewID[xwire.Window](c)
	c.CreateWindow(0, b.appWin, c.Root(), -100, -100, 1, 1, 0, xwire.WindowClassInputOutput, 0,
		xwire.WindowValues{Mask: xwire.CWOverrideRedirect | xwire.CWEventMask, OverrideRedirect: true, EventMask: xwire.EventMaskPropertyChange})
	c.MapWindow(b.appWin) // so that it can have the focus
	b.announce()
	return nil
}

// appTook and deskTook note the servers' times.
func (b *Bridge) appTook(ev xwire.Event) {
	if e, ok := ev.(*xwire.PropertyNotifyEvent); ok && !e.Synthetic {
		b.appTime = e.Time
		if e.Window == b.appWin {
			calls := b.onAppTime
			b.onAppTime = nil
			for _, f := range calls {
				f()
			}
		}
	}
}

func (b *Bridge) deskTook(ev xwire.Event) {
	if ev.Header().Synthetic {
		return
	}
	switch ev := ev.(type) {
	case *xwire.KeyPressEvent:
		b.deskTime, b.userTime = ev.Time, ev.Time
	case *xwire.KeyReleaseEvent:
		b.deskTime = ev.Time
	case *xwire.ButtonPressEvent:
		b.deskTime, b.userTime = ev.Time, ev.Time
	case *xwire.ButtonReleaseEvent:
		b.deskTime = ev.Time
	case *xwire.MotionNotifyEvent:
		b.deskTime = ev.Time
	case *xwire.EnterNotifyEvent:
		b.deskTime = ev.Time
	case *xwire.LeaveNotifyEvent:
		b.deskTime = ev.Time
	case *xwire.PropertyNotifyEvent:
		b.deskTime = ev.Time
	}
}

// atAppTime calls f once appTime is the present one.
func (b *Bridge) atAppTime(f func()) {
	b.onAppTime = append(b.onAppTime, f)
	b.App.ChangeProperty(xwire.PropModeAppend, b.appWin, b.a["_HITHER_DESKTOP"], xwire.AtomCardinal, 32, nil)
}
