// Package aside carries between a capsule's X server and the user's desktop what
// is neither a window nor input: the clipboard and the primary selection, and the
// desktop's settings.
//
// In a nutshell: it has a connection of its own to each of the two servers, so
// that a clipboard of 20 MB neither holds up a picture nor mixes its events with
// those of the windows. When somebody takes a selection on one side, it takes it
// on the other and answers there by asking here, at the time somebody pastes
// (selection.go, transfer.go). The desktop's settings are made those of the
// capsule (settings.go).
//
// What holds when the app moves: contents that the app owns stay with the app,
// and the desktop that it leaves is served with a copy until Close, which offers
// it to the desktop's clipboard manager. Contents that the desktop owns are left
// in the capsule's server, up to a budget, and are the clipboard of the next
// desktop, if that has none (keep.go). Where both an app that arrives and its new
// desktop have contents, the newer ones prevail.
//
// One goroutine owns all state; others reach it by call. There are no locks.
package aside

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"hither/engine/display/xwire"
)

// Options say what to connect.
type Options struct {
	// Socket is that of the capsule's X server.
	Socket string
	// Desk connects to the desktop; nil: as the environment says.
	Desk func(context.Context) (*xwire.Conn, error)
	Log  *slog.Logger // nil: the default
	// KeepsScale says whether the apps are told as many dots per inch as they had, on
	// a desktop with as many. DPI is told the desktop's when they have changed. Both
	// are called by Aside's goroutine, and may be nil.
	KeepsScale func(desk, had float64) bool
	DPI        func(desk float64)
}

// Aside is at work from Open to Close.
type Aside struct {
	opts  Options
	log   *slog.Logger
	calls chan call
	done  chan struct{}
	err   error // when done

	// Owned by run.
	app, desk  side
	selections [2]*selection
	patience   time.Duration
	keepTime   time.Duration
	transfers  map[*transfer]bool
	saves      []*transfer // that the app waits for
	settings   settings
}

type call struct {
	f    func() error
	done chan error
}

var errEnd = errors.New("closed")

const (
	// answerWithin is how long a server may take: it may be stopped by somebody.
	answerWithin = 5 * time.Second
	// hangUpPatience is how long it may take to notice that a client hangs up.
	hangUpPatience = 300 * time.Millisecond
)

// Open connects to both servers, and has carried across what there is when it
// returns. The context bounds the opening only.
func Open(ctx context.Context, opts Options) (*Aside, error) {
	a := &Aside{opts: opts, log: opts.Log, calls: make(chan call), done: make(chan struct{}), patience: usualPatience, keepTime: usualKeepTime, transfers: map[*transfer]bool{}}
	if a.log == nil {
		a.log = slog.Default()
	}
	if opts.Desk == nil {
		a.opts.Desk = func(ctx context.Context) (*xwire.Conn, error) { return xwire.Dial(ctx, "", "") }
	}
	a.app, a.desk = side{name: "the app", other: &a.desk}, side{name: "the desktop", other: &a.app}
	for i, name := range selectionNames {
		a.selections[i] = &selection{name: name}
	}
	c, err := a.opts.Desk(ctx)
	if err != nil {
		return nil, fmt.Errorf("reaching the desktop for its clipboard: %w", err)
	}
	if err = a.desk.attach(c); err == nil {
		err = a.attachApp(ctx, false)
	} else {
		err = fmt.Errorf("taking part in the desktop's clipboard: %w", err)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	go a.run()
	return a, nil
}

// attachApp connects to the capsule's server. again: it was connected before.
func (a *Aside) attachApp(ctx context.Context, again bool) error {
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "unix", a.opts.Socket)
	if err != nil {
		return fmt.Errorf("connecting to the capsule's X server: %w", err)
	}
	c, err := xwire.NewConn(ctx, socket, xwire.Auth{})
	if err != nil {
		return err
	}
	a.app.socket, _ = socket.(*net.UnixConn)
	if err = a.app.attach(c); err == nil {
		if err = a.settings.attach(ctx, a); err == nil {
			err = a.meet(again)
		}
		if err == nil {
			err = a.manage()
		}
	}
	if err != nil {
		c.Close()
		a.app.conn = nil
		return fmt.Errorf("taking part in the clipboard of the capsule: %w", err)
	}
	return nil
}

// Part lets go of the capsule's server, so that it can be frozen. What the
// desktop has from it is served on from a copy.
func (a *Aside) Part() error {
	return a.call(func() error {
		if a.app.conn == nil {
			return nil
		}
		a.keepAll()
		for t := range a.transfers {
			if t.from == &a.app || t.to == &a.app {
				a.fail(t)
			}
		}
		a.settings.part(a)
		if err := a.app.conn.Sync(); err != nil {
			a.log.Debug("letting go of the capsule's clipboard", "error", err)
		}
		a.app.hangUp()
		return nil
	})
}

// Back takes hold of the capsule's server again after a Part: it has not moved.
func (a *Aside) Back(ctx context.Context) error {
	return a.call(func() error {
		if a.app.conn != nil {
			return nil
		}
		return a.attachApp(ctx, true)
	})
}

// Refresh carries the settings once more, as KeepsScale now has it.
func (a *Aside) Refresh() {
	_ = a.call(func() error {
		a.settings.dirty = true
		a.settings.update(a)
		return nil
	})
}

// Close ends it. A copy that it still serves is offered to the desktop's
// clipboard manager before.
func (a *Aside) Close() {
	_ = a.call(func() error {
		a.bequeath()
		return errEnd
	})
	<-a.done
}

// Done is closed when it has ended, by itself if one of the servers has ended;
// Err says why.
func (a *Aside) Done() <-chan struct{} { return a.done }

// Err is why it ended, nil before.
func (a *Aside) Err() error {
	select {
	case <-a.done:
		return a.err
	default:
		return nil
	}
}

// call runs f where the state is owned. An errEnd ends all.
func (a *Aside) call(f func() error) error {
	c := call{f, make(chan error, 1)}
	select {
	case a.calls <- c:
		return <-c.done
	case <-a.done:
		return a.err
	}
}

func (a *Aside) run() {
	var err error
	for err == nil {
		err = a.step(a.calls, time.Time{})
	}
	if !errors.Is(err, errEnd) {
		a.err = err
	}
	if a.app.conn != nil {
		if a.app.conn.Err() != nil {
			a.appEnded()
		} else {
			a.app.hangUp()
		}
	}
	a.desk.conn.Close()
	close(a.done)
}

// step waits for one thing to happen, no longer than until, and deals with it.
func (a *Aside) step(calls <-chan call, until time.Time) error {
	for t := range a.transfers {
		if until.IsZero() || t.deadline.Before(until) {
			until = t.deadline
		}
	}
	var over <-chan time.Time // nil: nothing is waited for, so nobody is woken
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		over = timer.C
	}
	var err error
	select {
	case <-a.app.ready():
		err = a.take(&a.app)
	case <-a.desk.ready():
		err = a.take(&a.desk)
	case <-over:
		a.expire(time.Now())
	case c := <-calls:
		err = c.f()
		c.done <- err
		if !errors.Is(err, errEnd) {
			err = nil
		}
	}
	if err == nil && len(a.saves) > 0 && a.app.conn != nil {
		a.save()
	}
	// What a server does not take ends its connection, which is heard next.
	if a.app.conn != nil {
		_ = a.app.conn.Flush()
	}
	_ = a.desk.conn.Flush()
	return err
}

// until has things go on until f is true or the time is over.
func (a *Aside) until(end time.Time, f func() bool) error {
	_ = a.desk.conn.Flush()
	if a.app.conn != nil {
		_ = a.app.conn.Flush()
	}
	for !f() && time.Now().Before(end) {
		if err := a.step(nil, end); err != nil {
			return err
		}
	}
	return nil
}

// take deals with the events of one side.
func (a *Aside) take(s *side) error {
	c := s.conn
	events, err := c.TakeEvents()
	if err != nil {
		return fmt.Errorf("the X server of %s: %w", s.name, err)
	}
	for _, ev := range events {
		if s.conn != c {
			return nil // let go meanwhile
		}
		switch ev := ev.(type) {
		case *xwire.XFixesSelectionNotifyEvent:
			if ev.Selection == s.atom.xsettings {
				a.settings.managerChanged(a, s)
			} else {
				a.ownerChanged(s, ev)
			}
		case *xwire.SelectionRequestEvent:
			a.requested(s, ev)
		case *xwire.SelectionNotifyEvent:
			a.answered(s, ev)
		case *xwire.PropertyNotifyEvent:
			a.propertyChanged(s, ev)
			a.settings.propertyChanged(a, s, ev)
		case *xwire.DestroyNotifyEvent:
			a.windowGone(s, ev.Window)
		case *xwire.Error:
			// Requestors may go at any time; whoever waits for them gives up.
			a.log.Debug("clipboard", "server", s.name, "error", ev)
		}
	}
	if s == &a.desk {
		a.settings.update(a)
	}
	return nil
}
