package main

import (
	"strings"
	"testing"
)

// TestFileInVarTmp: /var/tmp is the host's, unlike /tmp, so what an app has open there is a document,
// as the swap file of an editor that was started in a folder without write permission.
func TestFileInVarTmp(t *testing.T) {
	l := theLab(t)
	a := l.start(t, "vartmp", "sh", "-c", `rm -f /var/tmp/swap; exec 3>>/var/tmp/swap 4>>/tmp/scratch; echo start >&3; sleep 1000`)
	want := "start\n"
	a.tour(t, func(host string) {
		if got := a.exec(t, "cat", "/var/tmp/swap"); got != want {
			t.Errorf("on %s it holds %q instead of %q", host, got, want)
		}
		if got := l.on(host, "cat", "/var/tmp/swap").out; host == "a" && got != want || host == "b" && got != "" {
			t.Errorf("/var/tmp of host %s itself holds %q", host, got)
		}
		a.exec(t, "sh", "-c", `test -e /tmp/scratch && echo "$0" >>/var/tmp/swap`, host)
		want += host + "\n"
	})
	if got := l.on("a", "cat", "/var/tmp/swap").out; !strings.HasSuffix(want, got+"b\n") {
		t.Errorf("home has %q, the app %q", got, want)
	}
}
