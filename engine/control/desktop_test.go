package control

import (
	"net/http"
	"slices"
	"testing"
)

func TestDesktop(t *testing.T) {
	for _, name := range []string{"WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"} {
		t.Setenv(name, "")
	}
	t.Setenv("XAUTHORITY", "/home/me/a file,\n\"ü\"")
	for display, number := range map[string]string{
		":1": "1", ":12.0": "12", "unix:3": "3", "": "", ":": "", "localhost:10.0": "", "host:0": "", ":x": "", "1": "", "::1": "",
	} {
		if got := Display(display); got != number {
			t.Errorf("display %q has the number %q", display, got)
		}
		t.Setenv("DISPLAY", display)
		h := http.Header{}
		tellDesktop(h)
		got := Desktop(h)
		var want []string
		if number != "" {
			want = []string{"DISPLAY=" + display, "XAUTHORITY=/home/me/a file,\n\"ü\""}
		}
		if !slices.Equal(got, want) {
			t.Errorf("display %q: the daemon hears %q", display, got)
		}
	}
	// What has no business there.
	h := http.Header{}
	for _, field := range []string{"DISPLAY%3D%3A1", "LD_PRELOAD%3D%2Fevil", "%zz", "XAUTHORITY"} {
		h.Add(desktopHeader, field)
	}
	if got := Desktop(h); !slices.Equal(got, []string{"DISPLAY=:1"}) {
		t.Errorf("the daemon hears %q", got)
	}
}
