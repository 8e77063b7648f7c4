package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// soonBack is how long windows may be away when what shows them died. It is a fraction of a second on a machine
// at rest.
const soonBack = 5 * time.Second

// bridges are the pids of the processes that show windows on a host.
func (l *lab) bridges(host string) []string {
	return strings.Fields(l.on(host, "pgrep", "-fx", "/proc/self/exe bridge").out)
}

// typist is an xterm whose shell writes lines into a file, by which the arrival of keys is seen.
func (l *lab) typist(t *testing.T) *app {
	t.Helper()
	a := l.startWindow(t, "typist", "xterm", "-geometry", "70x20+210+170", "-e", "sh", "-c", "echo ready >/tmp/word; exec bash --norc --noprofile")
	a.reads(t, "/tmp/word", "ready\n") // the terminal takes keys from now on
	return a
}

// types has the app write a word, and waits for it.
func (a *app) types(t *testing.T, p *person, word string) {
	t.Helper()
	p.do(t, "focus xterm")
	p.enter(t, "echo "+word+" >/tmp/word")
	a.reads(t, "/tmp/word", word+"\n")
}

// TestWindowsDoNotDrift: after twenty moves a window is as large as before and where it was, no key is stuck, and
// nothing is left on the way.
func TestWindowsDoNotDrift(t *testing.T) {
	l := desktopLab(t, "xterm")
	people := l.people(t)
	a := l.typist(t)
	before := people["a"].window(t, "xterm")
	for n := range 20 {
		if n%5 == 0 {
			// A key is held while the app leaves.
			a.types(t, people[a.at], fmt.Sprint("word", n))
			people[a.at].do(t, "down shift")
		}
		from := people[a.at]
		a.move(t)
		if n%5 == 0 {
			from.do(t, "up shift")
		}
		if w := people[a.at].window(t, "xterm"); w.place != before.place {
			t.Fatalf("after %d moves the window is at %+v, it was at %+v", n+1, w.place, before.place)
		}
		from.nothing(t)
	}
	a.types(t, people[a.at], "lowercase")
	until(t, "one bridge for one app", func() (bool, string) {
		here, there := l.bridges(a.at), l.bridges(a.other())
		return len(here) == 1 && len(there) == 0, fmt.Sprint(here, there)
	})
	if left := strings.TrimSpace(l.on(a.other(), "pgrep", "-x", "Xvfb|xterm").out); a.other() != "a" && left != "" {
		t.Errorf("processes are left on %s: %s", a.other(), left)
	}
}

// TestWindowsOutliveTheirBridge: what shows the windows is killed; they are back soon, and the app noticed nothing.
func TestWindowsOutliveTheirBridge(t *testing.T) {
	l := desktopLab(t, "xterm", "pgrep")
	people := l.people(t)
	a := l.typist(t)
	p := people["a"]
	for n := range 3 {
		a.types(t, p, fmt.Sprint("before", n))
		w := p.window(t, "xterm")
		p.do(t, "down shift") // must not stay down in the app
		all := l.bridges("a")
		if len(all) != 1 {
			t.Fatalf("bridges: %v", all)
		}
		l.must(t, "a", "kill", "-9", all[0])
		began := time.Now()
		p.do(t, "up shift")
		var now *deskWindow
		within(t, soonBack, "the window is back", func() (bool, string) {
			next := l.bridges("a")
			windows, _ := p.all(t)
			if len(next) == 1 && next[0] != all[0] && len(windows) == 1 && windows[0].Shown {
				now = windows[0]
			}
			return now != nil, fmt.Sprint(next, describe(windows...))
		})
		t.Logf("back after %v", time.Since(began).Round(time.Millisecond))
		if now.place != w.place || now.Title != w.Title {
			t.Errorf("the window is %+v, it was %+v", now, w)
		}
		a.types(t, p, fmt.Sprint("after", n))
	}
	a.move(t)
	a.types(t, people["b"], "elsewhere")
}

// TestWindowsOutliveTheirDesktop: the desktop's X server is killed; the app runs on, comes back on the next one
// of that host, or on another host's.
func TestWindowsOutliveTheirDesktop(t *testing.T) {
	l := desktopLab(t, "xterm")
	a := l.typist(t)
	a.types(t, l.person(t, "a"), "first")
	kill := func() {
		t.Helper()
		if out, err := l.command("kill", "a", "desktop").CombinedOutput(); err != nil {
			t.Fatalf("killing the desktop: %v\n%s", err, out)
		}
		if got, here := a.find(t, "a"); !here || got.State != "running" {
			t.Fatalf("without a desktop the app is %+v", got)
		}
		if got := a.exec(t, "cat", "/tmp/word"); got == "" {
			t.Error("the app's file is gone")
		}
	}
	kill()
	if out, err := l.command("start", "a", "desktop").CombinedOutput(); err != nil {
		t.Fatalf("starting the desktop: %v\n%s", err, out)
	}
	a.types(t, l.person(t, "a"), "second")
	kill()
	a.move(t)
	a.types(t, l.person(t, "b"), "third")
}
