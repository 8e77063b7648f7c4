package main

import (
	"slices"
	"strings"
	"testing"

	"hither/engine/control"
)

// services are the servers that an app has, by what they are: their pid inside.
func (a *app) services(t *testing.T) map[string]int {
	t.Helper()
	var seen control.App
	a.json(t, &seen, a.at, "hither", "inspect", a.name, "--json")
	m := map[string]int{}
	for _, p := range seen.Processes {
		if p.Service != "" {
			m[p.Service] = p.Pid
		}
	}
	return m
}

// shown is what the app's X server says of a window with this name.
func (a *app) shown(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(a.exec(t, "xwininfo", "-root", "-tree")) {
		if strings.Contains(line, name) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// TestDisplayMovesWithItsApp: the X server goes along with what is in it, is
// called by new clients there, and ends with the app.
func TestDisplayMovesWithItsApp(t *testing.T) {
	l := theLab(t)
	l.needs(t, "Xvfb", "xclock", "xwininfo")
	a := l.start(t, "clock", "sh", "-c", "xclock -geometry 200x100+30+40 & echo $! > /tmp/clock; wait")
	window := ""
	until(t, "the clock's window", func() (bool, string) { window = a.shown(t, "xclock"); return window != "", window })
	servers := a.services(t)
	if servers["display server"] == 0 {
		t.Fatalf("the servers are %v", servers)
	}
	a.tour(t, func(host string) {
		if got := a.shown(t, "xclock"); got != window {
			t.Errorf("on %s the window is %q, it was %q", host, got, window)
		}
		if got := a.services(t); got["display server"] != servers["display server"] {
			t.Errorf("on %s the servers are %v, they were %v", host, got, servers)
		}
	})
	a.exec(t, "sh", "-c", "kill $(cat /tmp/clock)")
	until(t, "the end of an app that has nothing left but servers", func() (bool, string) { _, here := a.find(t, a.at); return !here, "" })
	a.ended = true
}

// TestDisplayWantedAfterAMove: the sockets of servers that do not run go along, too.
func TestDisplayWantedAfterAMove(t *testing.T) {
	l := theLab(t)
	l.needs(t, "Xvfb", "xwininfo")
	a := l.start(t, "later", "sleep", "1000")
	a.tour(t, func(host string) {
		if servers := a.services(t); len(servers) > 0 {
			t.Fatalf("on %s there are the servers %v, which nobody has called", host, servers)
		}
	})
	if out := a.exec(t, "xwininfo", "-root"); !strings.Contains(out, "Width: 4096") {
		t.Errorf("a client sees\n%s", out)
	}
	if servers := a.services(t); servers["display server"] == 0 {
		t.Errorf("the servers are %v", servers)
	}
	a.exec(t, "sh", "-c", "kill -9 "+"$(pgrep -x Xvfb)")
	until(t, "the server's end", func() (bool, string) { return a.services(t)["display server"] == 0, "" })
	a.move(t)
	a.exec(t, "xwininfo", "-root")
	// A new one, which may have the same pid.
	if servers := a.services(t); servers["display server"] == 0 {
		t.Errorf("after the move the servers are %v", servers)
	}
}

// TestDisplayIsMissing: a person is told what to install.
func TestDisplayIsMissing(t *testing.T) {
	l := ownLab(t)
	l.needs(t, "Xvfb", "xwininfo")
	at := strings.TrimSpace(l.must(t, "a", "sh", "-c", "command -v Xvfb"))
	if out, err := l.command("hide", "a", at).CombinedOutput(); err != nil {
		t.Fatalf("hiding Xvfb: %v\n%s", err, out)
	}
	d := l.on("a", "hither", "run", "xwininfo", "-root")
	if d.status != 1 || !strings.Contains(d.err, "hither: this app wants a display: install xvfb (apt-get install xvfb)\n") {
		t.Errorf("status %d, says %q", d.status, d.err)
	}
	d = l.on("a", "hither", "doctor", "--json")
	if !strings.Contains(d.out, "apt-get install xvfb") {
		t.Errorf("the doctor says\n%s", d.out)
	}
	d = l.on("a", "hither", "run", "--no-display", "sh", "-c", "echo ${DISPLAY-none}")
	if d.out != "none\n" {
		t.Errorf("without a display: %q, %q", d.out, d.err)
	}
	if names := strings.Fields(l.must(t, "a", "hither", "ls")); slices.Contains(names, "xwininfo") {
		t.Errorf("it is left behind: %v", names)
	}
}
