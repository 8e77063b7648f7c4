package daemon

import "testing"

func TestWantsAnotherDesktop(t *testing.T) {
	up := func(display string) bool { return display == ":1" || display == ":2.0" }
	for _, test := range []struct {
		has, other []string
		want       bool
	}{
		{nil, []string{"DISPLAY=:1"}, true},
		{[]string{"XAUTHORITY=/x"}, []string{"XAUTHORITY=/y", "DISPLAY=:1"}, true},
		{[]string{"DISPLAY=:1"}, []string{"DISPLAY=:2.0"}, false},
		{[]string{"DISPLAY=:1"}, []string{"DISPLAY=:1"}, false},
		{[]string{"DISPLAY=:9"}, []string{"DISPLAY=:9"}, false},
		{[]string{"DISPLAY=:9"}, []string{"DISPLAY=:1"}, true},              // its own has ended
		{[]string{"DISPLAY=:9"}, []string{"DISPLAY=:8"}, false},             // so has the other
		{[]string{"DISPLAY=localhost:10.0"}, []string{"DISPLAY=:1"}, false}, // by ssh
	} {
		if got := wants(test.has, test.other, up); got != test.want {
			t.Errorf("on %q, used at %q: %v", test.has, test.other, got)
		}
	}
}
