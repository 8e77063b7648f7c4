// Package notify carries what an app says on the session bus of its capsule to
// the user's desktop: notifications, and links that are to be opened.
//
// In a nutshell: on the capsule's bus it is what apps know as
// org.freedesktop.Notifications, and hands what they call to the desktop's own,
// and its signals back (forward.go). Links are opened by the desktop's xdg-open,
// asked for by a portal's OpenURI or by the capsule's own xdg-open (links.go).
// Files in the capsule's runtime folder see to it that neither is missed and that
// no program inside takes the part (Prepare).
//
//	app --the capsule's bus--> Notify --the desktop's bus--> its notifications
//
// The connection into the capsule is let go of by Part, before the app is frozen.
// Ids of notifications are the desktop's: on another desktop an app's old ones
// mean nothing, and a notification that replaces one is a new one.
//
// Lock order: Notify.turn, Notify.mu.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// Options say where the desktop is.
type Options struct {
	// Desk is the address of the desktop's session bus; empty: that of the
	// environment. Without any there are no notifications.
	Desk string
	// Open opens a link on the desktop; nil: by xdg-open.
	Open func(uri string) error
	Log  *slog.Logger // nil: the default
}

// Notify is at work from New to Close.
type Notify struct {
	o   Options
	log *slog.Logger

	// turn is held while the desktop is asked for a notification, so that its
	// signals about it are not looked at before its id is known.
	turn sync.Mutex
	ids  map[uint32]bool // shown, and not yet closed

	mu     sync.Mutex
	app    *dbus.Conn         // nil: no bus, or parted
	desk   *dbus.Conn         // nil: not asked yet, or lost
	live   context.CancelFunc // ends app, or the one that is being greeted
	parted bool
	closed bool
}

const (
	// answerWithin is how long a bus and the desktop's notifications may take.
	answerWithin = 5 * time.Second
	// maxShown is of how many notifications the ids are remembered.
	maxShown = 4096
)

// New makes a Notify that has no bus yet.
func New(o Options) *Notify {
	n := &Notify{o: o, log: o.Log, ids: map[uint32]bool{}}
	if n.log == nil {
		n.log = slog.Default()
	}
	if n.o.Open == nil {
		n.o.Open = openLink
	}
	return n
}

// Bus takes part in a session bus, by its socket's path, in the place of the one
// before; empty: there is none any more. It must run, for a caller starts it.
// After a Part it does nothing until Back. It is for one goroutine.
func (n *Notify) Bus(socket string) error {
	n.hangUp(false)
	if socket == "" {
		return nil
	}
	live, end := context.WithCancel(context.Background()) // which hangs up
	n.mu.Lock()
	if n.parted || n.closed {
		n.mu.Unlock()
		end()
		return nil
	}
	n.live = end
	n.mu.Unlock()
	late := time.AfterFunc(answerWithin, end)
	c, err := dbus.Dial("unix:path="+dbus.EscapeBusAddressValue(socket), dbus.WithContext(live))
	if err != nil {
		end()
		return fmt.Errorf("connecting to the capsule's session bus: %w", err)
	}
	err = n.serve(c)
	n.mu.Lock()
	defer n.mu.Unlock()
	if late.Stop(); err == nil {
		err = live.Err() // parted meanwhile, or too late
	}
	if err != nil {
		c.Close()
		end()
		if n.parted || n.closed {
			return nil
		}
		return fmt.Errorf("taking part in the capsule's session bus: %w", err)
	}
	n.app = c
	return nil
}

// Part lets go of the capsule's bus. It may be called beside Bus, which ends then.
func (n *Notify) Part() { n.hangUp(true) }

// Back undoes Part: the next Bus is taken part in.
func (n *Notify) Back() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parted = false
}

func (n *Notify) hangUp(part bool) {
	n.mu.Lock()
	c, end := n.app, n.live
	n.app, n.live = nil, nil
	n.parted = n.parted || part
	n.mu.Unlock()
	if c != nil {
		c.Close()
	}
	if end != nil {
		end()
	}
}

var errClosed = errors.New("closed")

// serve greets a bus and offers what apps look for.
func (n *Notify) serve(c *dbus.Conn) error {
	if err := c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return err
	}
	if err := c.Hello(); err != nil {
		return err
	}
	if err := offer(c, &notifications{n}, &links{n, c}); err != nil {
		return err
	}
	for _, name := range []string{notificationsName, portalName} {
		// Whoever else has the name is a program that should not run inside.
		reply, err := c.RequestName(name, dbus.NameFlagReplaceExisting|dbus.NameFlagDoNotQueue)
		if err != nil {
			return err
		}
		if reply != dbus.RequestNameReplyPrimaryOwner {
			n.log.Info("another program inside the capsule serves this", "name", name)
		}
	}
	return nil
}

// Close ends it. Notifications stay on the desktop.
func (n *Notify) Close() {
	n.Part()
	n.mu.Lock()
	n.closed = true
	c := n.desk
	n.desk = nil
	n.mu.Unlock()
	if c != nil {
		c.Close()
	}
}
