package main

import (
	"strings"
	"testing"
)

// TestBusMovesWithItsApp: so does the session bus, and whoever is on it.
func TestBusMovesWithItsApp(t *testing.T) {
	l := theLab(t)
	l.needs(t, "dbus-daemon", "dbus-send", "dbus-monitor")
	a := l.start(t, "bus", "sh", "-c", "dbus-monitor > /tmp/heard; :")
	id := func() string {
		out := a.exec(t, "dbus-send", "--session", "--print-reply=literal", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetId")
		return strings.TrimSpace(out)
	}
	bus, server := id(), a.services(t)["session bus"]
	if server == 0 {
		t.Fatalf("the servers are %v", a.services(t))
	}
	a.tour(t, func(host string) {
		if got := id(); got != bus {
			t.Errorf("on %s the bus is %s, it was %s", host, got, bus)
		}
		if got := a.services(t)["session bus"]; got != server {
			t.Errorf("on %s the bus is process %d, it was %d", host, got, server)
		}
		a.exec(t, "dbus-send", "--session", "/", "org.hither.Said", "string:on "+host)
		until(t, "the word being heard", func() (bool, string) {
			heard := a.exec(t, "cat", "/tmp/heard")
			return strings.Contains(heard, `"on `+host+`"`), heard
		})
	})
	a.exec(t, "pkill", "dbus-monitor")
	until(t, "the end of an app that has nothing left but servers", func() (bool, string) { _, here := a.find(t, a.at); return !here, "" })
	a.ended = true
}
