package daemon

import (
	"os"
	"testing"
	"time"

	"hither/discovery"
	"hither/engine/control"
	"hither/transport"
)

func TestCard(t *testing.T) {
	for what, c := range map[string]struct {
		peer  discovery.Peer
		state string
		able  bool
	}{
		"up":                  {discovery.Peer{Paired: true, Online: true, OS: "linux", Arch: "arm64", Abilities: &transport.Abilities{CPUs: 4}}, "up", true},
		"an older hither":     {discovery.Peer{Paired: true, Online: true, OS: "linux", Arch: "arm64"}, "up", true},
		"down":                {discovery.Peer{Paired: true, Problem: "silence"}, "down", false},
		"not yet looked at":   {discovery.Peer{Paired: true}, "unknown", false},
		"near and not paired": {discovery.Peer{Name: "x"}, "up", false},
	} {
		got := card(c.peer)
		if got.State != c.state || (got.Abilities != nil) != c.able || got.Paired != c.peer.Paired || got.Addresses == nil {
			t.Errorf("%s: %+v", what, got)
		}
		if a := got.Abilities; a != nil && (a.Arch != "arm64" || c.peer.Abilities != nil && a.CPUs != 4) {
			t.Errorf("%s: %+v", what, a)
		}
	}
}

// A warning is told once, with the event.
func TestPeerEvents(t *testing.T) {
	d := &Daemon{resolve: make(chan struct{}, 1)}
	events, stop := d.events.listen()
	defer stop()
	changed := d.peerChanged()
	next := func() control.Event {
		t.Helper()
		for {
			select {
			case e := <-events:
				if e.Event == "peers" {
					return e
				}
			case <-time.After(10 * time.Second):
				t.Fatal("no event")
			}
		}
	}
	p := discovery.Peer{ID: "abcdefghij", Name: "desk", Paired: true, Online: true}
	for _, c := range []struct{ warning, told string }{{"", ""}, {"another one is desk too", "another one is desk too"}, {"another one is desk too", ""}, {"", ""}} {
		p.Warning = c.warning
		changed(p)
		if e := next(); e.Peer != "desk" || e.Text != c.told {
			t.Errorf("%+v instead of %q", e, c.told)
		}
	}
	changed(discovery.Peer{ID: "abcdefgh", Name: "near"})
	next()
	changed(discovery.Peer{ID: "abcdefgh", Removed: true})
	if e := next(); e.Peer != "near" {
		t.Errorf("who has gone is not named: %+v", e)
	}
}

func TestAble(t *testing.T) {
	asked := 0
	a := able{desktop: func() bool { asked++; return true }}
	got := a.get()
	if got.CPUs == 0 || got.Memory == 0 || got.MemoryFree > got.Memory || got.Kernel == "" || got.UID != os.Getuid() || !got.Display {
		t.Errorf("%+v", got)
	}
	if a.get(); asked != 1 {
		t.Error("it is read anew each time")
	}
	if total, free := meminfo([]byte("MemTotal: 10 kB\nMemFree: 1 kB\nMemAvailable: 5 kB\n")); total != 10<<10 || free != 5<<10 {
		t.Errorf("%d of %d", free, total)
	}
	if total, free := meminfo([]byte("nonsense\nMemTotal: x kB\n")); total != 0 || free != 0 {
		t.Errorf("%d of %d out of nonsense", free, total)
	}
}
