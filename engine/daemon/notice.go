package daemon

import (
	"context"
	"errors"
	"fmt"
	"html"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// notice is a notification of the desktop that waits for an answer.
type notice struct {
	Title, Body string
	Actions     []string     // key and label by turns; none: it only tells
	Chosen      func(string) // with the key of an action
	Command     string       // how to answer where a desktop shows no actions
}

const (
	notificationsName = "org.freedesktop.Notifications"
	notificationsPath = dbus.ObjectPath("/org/freedesktop/Notifications")
	critical          = byte(2) // stays until it is answered
	noticePatience    = 5 * time.Second
)

// notice shows a notification where hither was last used, until ctx ends. Where
// there is no desktop, or none that shows notifications, there is the window and
// the command.
func (d *Daemon) notice(ctx context.Context, n notice) {
	address := d.sessionBus()
	if address == "" {
		return
	}
	if err := n.show(ctx, address); err != nil && ctx.Err() == nil {
		log.Printf("showing a notification: %v", err)
	}
}

// sessionBus is that of the desktop, or else the daemon's own.
func (d *Daemon) sessionBus() string {
	address := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	for _, kv := range d.atDesktop() {
		if v, ok := strings.CutPrefix(kv, "DBUS_SESSION_BUS_ADDRESS="); ok {
			address = v
		}
	}
	if strings.HasPrefix(address, "disabled:") || strings.HasPrefix(address, "autolaunch:") {
		return ""
	}
	return address
}

func (n notice) show(ctx context.Context, address string) error {
	bus, err := dbus.Connect(address)
	if err != nil {
		return fmt.Errorf("connecting to the desktop's session bus: %w", err)
	}
	defer bus.Close()
	if err := bus.AddMatchSignal(dbus.WithMatchInterface(notificationsName), dbus.WithMatchObjectPath(notificationsPath)); err != nil {
		return fmt.Errorf("listening to the desktop's notifications: %w", err)
	}
	signals := make(chan *dbus.Signal, 64)
	bus.Signal(signals)
	server := bus.Object(notificationsName, notificationsPath)
	hints := map[string]dbus.Variant{"urgency": dbus.MakeVariant(critical), "category": dbus.MakeVariant("network"), "desktop-entry": dbus.MakeVariant("hither")}
	if len(n.Actions) == 0 {
		delete(hints, "urgency")
	}
	var capabilities []string
	body := n.Body
	if server.CallWithContext(ctx, notificationsName+".GetCapabilities", 0).Store(&capabilities) == nil {
		if n.Command != "" && !slices.Contains(capabilities, "actions") {
			body += " Answer in hither's window, or by the command: " + n.Command
		}
		if slices.Contains(capabilities, "body-markup") {
			body = html.EscapeString(body)
		}
	}
	// Not by ctx: the id of one that is shown has to be known, to take it back.
	call, stop := context.WithTimeout(context.WithoutCancel(ctx), noticePatience)
	defer stop()
	var id uint32
	err = server.CallWithContext(call, notificationsName+".Notify", 0,
		"hither", uint32(0), "hither", n.Title, body, append([]string{}, n.Actions...), hints, int32(0)).Store(&id)
	if err != nil {
		if e, ok := errors.AsType[dbus.Error](err); ok && e.Name == "org.freedesktop.DBus.Error.ServiceUnknown" {
			return nil // this desktop shows none
		}
		return fmt.Errorf("asking the desktop for a notification: %w", err)
	}
	for {
		select {
		case s, ok := <-signals:
			if !ok {
				return nil
			}
			if len(s.Body) < 2 || s.Body[0] != any(id) {
				continue
			}
			switch key, _ := s.Body[1].(string); s.Name {
			case notificationsName + ".ActionInvoked":
				for i := 0; i+1 < len(n.Actions); i += 2 {
					if n.Actions[i] == key {
						n.Chosen(key)
					}
				}
			case notificationsName + ".NotificationClosed":
				return nil // put away: the question goes on elsewhere
			}
		case <-ctx.Done():
			// Nobody has to look at it any more.
			call, stop := context.WithTimeout(context.WithoutCancel(ctx), noticePatience)
			defer stop()
			return server.CallWithContext(call, notificationsName+".CloseNotification", 0, id).Err
		}
	}
}
