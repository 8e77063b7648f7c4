package main

import (
	"fmt"
	"testing"
)

// TestWindowsFindADesktop: an app that was started without a desktop, or that came to a daemon without one, has no
// window; it gets one where a person uses hither next, and what arrives after that has one at once.
func TestWindowsFindADesktop(t *testing.T) {
	l := desktopLab(t, "xterm")
	people := l.people(t)
	away := []string{"env", "-u", "DISPLAY", "-u", "XAUTHORITY"} // as by ssh
	// run starts an app away from the desktop, and waits until it has a window inside.
	run := func(name string) *app {
		argv := append(append([]string{}, away...), "hither", "run", "-d", "--name", name,
			"xterm", "-title", name, "-fa", "", "-e", "sh", "-c", "echo $WINDOWID >/tmp/drawn; exec cat")
		if d := l.on("a", argv...); d.status != 0 {
			t.Fatalf("starting %s: %s", name, d.err)
		}
		a := &app{lab: l, name: name, at: "a"}
		until(t, "the window of "+name+" inside", func() (bool, string) {
			d := l.on("a", append(away, "hither", "exec", name, "test", "-s", "/tmp/drawn")...)
			return d.status == 0, d.err
		})
		return a
	}
	far := run("far")
	people["a"].nothing(t)
	l.must(t, "a", append(away, "hither", "ls")...)
	people["a"].nothing(t)
	l.must(t, "a", "hither", "ls")
	people["a"].window(t, "far")

	l.daemon(t, "b", fmt.Sprintf("exec %s -u %s -u %s hither daemon", away[0], away[2], away[4]))
	// Not move, which lists the apps of b from its desktop.
	move := func(a *app) {
		if r, status := a.send(t, "b"); status != 0 {
			t.Fatalf("moving %s: status %d, %+v", a.name, status, r)
		}
		a.at = "b"
	}
	move(far)
	people["a"].nothing(t)
	people["b"].nothing(t)
	l.must(t, "b", "hither", "inspect", "far")
	people["b"].window(t, "far")

	move(run("next"))
	people["b"].window(t, "next")
	l.must(t, "b", "hither", "stop", "far")
	l.must(t, "b", "hither", "stop", "next")
	people["b"].nothing(t)
}
