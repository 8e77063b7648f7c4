package notify

import (
	"context"
	"errors"

	"github.com/godbus/dbus/v5"
)

// The Desktop Notifications Specification,
// https://specifications.freedesktop.org/notification-spec/.
const (
	notificationsName = "org.freedesktop.Notifications"
	notificationsPath = dbus.ObjectPath("/org/freedesktop/Notifications")
)

// maxImage is how many bytes a notification's picture may have.
const maxImage = 2 << 20

// notifications is what apps call.
type notifications struct{ n *Notify }

// Notify shows a notification on the desktop. The hints are taken from the message
// itself, since as an argument they have lost their types.
func (s *notifications) Notify(message dbus.Message, app string, replaces uint32, icon, summary, body string, actions []string, _ map[string]dbus.Variant, expires int32) (uint32, *dbus.Error) {
	hints, _ := message.Body[6].(map[string]dbus.Variant) // godbus has checked their number
	s.n.turn.Lock()
	defer s.n.turn.Unlock()
	if !s.n.ids[replaces] {
		replaces = 0 // it was on another desktop, or is another app's
	}
	carried := map[string]dbus.Variant{}
	for name, v := range hints {
		if v, ok := hint(v); ok && name != "sender-pid" { // inside, that is another process
			carried[name] = v
		}
	}
	var id uint32
	if err := s.n.ask("Notify", []any{app, replaces, icon, summary, body, actions, carried, expires}, &id); err != nil {
		return 0, err
	}
	if len(s.n.ids) >= maxShown {
		clear(s.n.ids) // a desktop that never says that one was closed
	}
	s.n.ids[id] = true
	return id, nil
}

// picture is a notification's, as the specification has it.
type picture struct {
	Width, Height, Stride int32
	Alpha                 bool
	Bits, Channels        int32
	Data                  []byte
}

// hint gives a hint in a form that can be sent. Of structures there is none but
// the picture; others are not known how to be written again.
func hint(v dbus.Variant) (dbus.Variant, bool) {
	switch sig := v.Signature().String(); sig {
	case "s", "b", "y", "n", "q", "i", "u", "x", "t", "d", "as", "ay":
		return v, true
	case "(iiibiiay)":
		var p picture
		if err := dbus.Store([]any{v.Value()}, &p); err != nil || len(p.Data) > maxImage {
			return v, false
		}
		return dbus.MakeVariant(p), true
	}
	return v, false
}

// CloseNotification takes back one that the app has shown.
func (s *notifications) CloseNotification(id uint32) *dbus.Error {
	s.n.turn.Lock()
	defer s.n.turn.Unlock()
	if !s.n.ids[id] {
		return dbus.NewError("org.freedesktop.Notifications.Error.Failed", []any{"there is no such notification on this desktop"})
	}
	return s.n.ask("CloseNotification", []any{id})
}

// GetCapabilities is what the desktop can show.
func (s *notifications) GetCapabilities() (list []string, err *dbus.Error) {
	err = s.n.ask("GetCapabilities", nil, &list)
	return list, err
}

// GetServerInformation is what the desktop shows it with.
func (s *notifications) GetServerInformation() (name, vendor, version, spec string, err *dbus.Error) {
	err = s.n.ask("GetServerInformation", nil, &name, &vendor, &version, &spec)
	return name, vendor, version, spec, err
}

// ask calls the desktop's notifications. Its errors are the app's.
func (n *Notify) ask(method string, args []any, results ...any) *dbus.Error {
	c, err := n.desktop()
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
		defer cancel()
		err = c.Object(notificationsName, notificationsPath).CallWithContext(ctx, notificationsName+"."+method, 0, args...).Store(results...)
	}
	if err == nil {
		return nil
	}
	var e dbus.Error
	if errors.As(err, &e) {
		return &e
	}
	return dbus.NewError("org.freedesktop.DBus.Error.ServiceUnknown", []any{"the desktop's notifications: " + err.Error()})
}

// desktop is the connection to the desktop's bus, made when it is first needed.
func (n *Notify) desktop() (*dbus.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errClosed
	}
	if n.desk != nil && n.desk.Connected() {
		return n.desk, nil
	}
	address := n.o.Desk
	if address == "" {
		address = environmentBus()
	}
	if address == "" {
		return nil, errors.New("this desktop has no session bus")
	}
	c, err := dbus.Connect(address)
	if err != nil {
		return nil, err
	}
	if err := c.AddMatchSignal(dbus.WithMatchSender(notificationsName), dbus.WithMatchInterface(notificationsName), dbus.WithMatchObjectPath(notificationsPath)); err != nil {
		c.Close()
		return nil, err
	}
	signals := make(chan *dbus.Signal, 64)
	c.Signal(signals) // closes it at the end
	n.desk = c
	go n.tell(signals)
	return c, nil
}

// told are the desktop's signals that apps are told.
var told = map[string]bool{
	notificationsName + ".NotificationClosed": true,
	notificationsName + ".ActionInvoked":      true,
	notificationsName + ".ActivationToken":    true,
	// As some desktops have it.
	notificationsName + ".NotificationReplied": true,
}

// tell carries signals about the app's own notifications to the app.
func (n *Notify) tell(signals <-chan *dbus.Signal) {
	for s := range signals {
		if !told[s.Name] || s.Path != notificationsPath || len(s.Body) == 0 {
			continue
		}
		id, ok := s.Body[0].(uint32)
		if !ok {
			continue
		}
		n.turn.Lock()
		mine := n.ids[id]
		if s.Name == notificationsName+".NotificationClosed" {
			delete(n.ids, id)
		}
		n.turn.Unlock()
		n.mu.Lock()
		app := n.app
		n.mu.Unlock()
		if !mine || app == nil {
			continue
		}
		if err := app.Emit(notificationsPath, s.Name, s.Body...); err != nil {
			n.log.Debug("telling the app of its notification", "error", err)
		}
	}
}
