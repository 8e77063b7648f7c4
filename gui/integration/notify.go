package integration

import (
	"context"
	"errors"
	"fmt"
	"html"
	"os"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// SessionBus is the bus of this desktop; none is ever started for it.
func SessionBus() (*dbus.Conn, error) {
	address := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if address == "" {
		bus := os.Getenv("XDG_RUNTIME_DIR") + "/bus"
		if _, err := os.Stat(bus); err != nil {
			return nil, errors.New("there is no session bus: DBUS_SESSION_BUS_ADDRESS is not set")
		}
		address = "unix:path=" + dbus.EscapeBusAddressValue(bus)
	}
	return dbus.Connect(address)
}

// https://specifications.freedesktop.org/notification-spec
const (
	notifyName = "org.freedesktop.Notifications"
	notifyPath = dbus.ObjectPath("/org/freedesktop/Notifications")
	notifyTime = 10 * time.Second // until the desktop has answered
)

// Note is one notification.
type Note struct {
	Key   string // a later one of the same key takes its place
	Title string
	Text  string
	Asks  bool // it waits for a person, and is not to go by itself
}

// Notifier shows notes on the desktop.
type Notifier struct {
	conn    *dbus.Conn
	icon    string
	clicked func()

	mu  sync.Mutex
	ids map[string]uint32 // by key
}

// NewNotifier uses this desktop's notifications. The icon is a name or a file; clicked is called when
// a person clicks on a note.
func NewNotifier(icon string, clicked func()) (*Notifier, error) {
	conn, err := SessionBus()
	if err != nil {
		return nil, fmt.Errorf("looking for the desktop's notifications: %w", err)
	}
	n := &Notifier{conn: conn, icon: icon, clicked: clicked, ids: map[string]uint32{}}
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchObjectPath(notifyPath), dbus.WithMatchInterface(notifyName)); err != nil {
		return nil, errors.Join(fmt.Errorf("looking for the desktop's notifications: %w", err), conn.Close())
	}
	go n.hear(signals)
	return n, nil
}

func (n *Notifier) Close() error { return n.conn.Close() }

// hear calls clicked for our own notes only: the signals are of everybody's.
func (n *Notifier) hear(signals <-chan *dbus.Signal) {
	for s := range signals {
		if len(s.Body) == 0 {
			continue
		}
		id, _ := s.Body[0].(uint32)
		n.mu.Lock()
		key, ours := "", false
		for k, v := range n.ids {
			if v == id {
				key, ours = k, true
			}
		}
		if ours && s.Name == notifyName+".NotificationClosed" {
			delete(n.ids, key)
		}
		n.mu.Unlock()
		if ours && s.Name == notifyName+".ActionInvoked" && n.clicked != nil {
			go n.clicked()
		}
	}
}

// Show shows a note.
func (n *Notifier) Show(ctx context.Context, note Note) error {
	ctx, cancel := context.WithTimeout(ctx, notifyTime)
	defer cancel()
	n.mu.Lock()
	defer n.mu.Unlock()
	hints := map[string]dbus.Variant{"desktop-entry": dbus.MakeVariant("hither-gui")}
	expire := int32(-1)
	if note.Asks {
		expire = 0
	}
	var id uint32
	err := n.conn.Object(notifyName, notifyPath).CallWithContext(ctx, notifyName+".Notify", 0, "hither", n.ids[note.Key], n.icon,
		note.Title, html.EscapeString(note.Text), []string{"default", "Show"}, hints, expire).Store(&id)
	if err != nil {
		return fmt.Errorf("telling the desktop %q: %w", note.Title, err)
	}
	n.ids[note.Key] = id
	return nil
}
