package daemon

import (
	"errors"
	"os"
	"strings"
	"testing"

	"hither/engine/control"
	"hither/engine/handover"
)

func TestSettings(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	open := func() *Daemon {
		s, err := openSettings()
		if err != nil {
			t.Fatal(err)
		}
		return &Daemon{settings: s}
	}
	d := open()
	first := d.readSettings()
	if host, _ := os.Hostname(); !first.Discoverable || first.Name == "" || !strings.HasPrefix(host, first.Name[:1]) || len(first.Permissions) != 3 {
		t.Fatalf("%+v", first)
	}
	events, stop := d.events.listen()
	defer stop()
	got, err := d.changeSettings(control.Settings{Name: "den", Permissions: map[string]string{control.PermitSend: control.Deny}})
	if err != nil || got.Name != "den" || got.Discoverable || got.Permissions[control.PermitSend] != control.Deny || got.Permissions[control.PermitWatch] != first.Permissions[control.PermitWatch] {
		t.Fatalf("%+v, %v", got, err)
	}
	if ev := <-events; ev.Event != "settings" {
		t.Errorf("%+v", ev)
	}
	for _, bad := range []control.Settings{
		{Name: "two words"}, {Name: "-x"}, {Permissions: map[string]string{"fly": control.Allow}}, {Permissions: map[string]string{control.PermitSend: "perhaps"}},
	} {
		bad.Discoverable = true
		var e *control.Error
		if _, err := d.changeSettings(bad); !errors.As(err, &e) || e.Code != control.CodeUsage {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	again := open()
	if now := again.readSettings(); now.Name != "den" || now.Discoverable || now.Permissions[control.PermitSend] != control.Deny || again.self() != "den" {
		t.Errorf("after a restart: %+v", now)
	}
	// "" leaves the name, and a file that is none makes no harm.
	if got, err := again.changeSettings(control.Settings{Discoverable: true}); err != nil || got.Name != "den" || !got.Discoverable {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(again.settings.name, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if now := open().readSettings(); now.Name != first.Name || !now.Discoverable {
		t.Errorf("of a broken file: %+v", now)
	}
}

func TestHistory(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	h, err := openHistory()
	if err != nil {
		t.Fatal(err)
	}
	if list := h.list(); list.Moves == nil || len(list.Moves) != 0 {
		t.Errorf("%+v", list)
	}
	h.add("source", &handover.Result{App: "first", Outcome: handover.Moved})
	for range maxHistory {
		h.add("destination", &handover.Result{App: "then"})
	}
	h.add("source", &handover.Result{App: "last", Outcome: handover.Stayed, Reason: "cancelled"})
	again, err := openHistory()
	if err != nil {
		t.Fatal(err)
	}
	list := again.list().Moves
	if len(list) != maxHistory || list[0].Result.App != "last" || list[0].Side != "source" || list[0].When.IsZero() || list[len(list)-1].Result.App != "then" {
		t.Errorf("%d moves, the newest is %+v", len(list), list[0])
	}
	// What was only asked for is none; the name is that of now.
	s, err := openSettings()
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{settings: s, history: again, name: "old"}
	d.settings.now.Name = "new"
	d.ended(handover.SideSource, &handover.Result{App: "asked"}, true)
	d.ended(handover.SideDestination, &handover.Result{App: "came", From: "old", To: "old", Outcome: handover.Moved}, false)
	if last := again.list().Moves[0].Result; last.App != "came" || last.From != "old" || last.To != "new" {
		t.Errorf("%+v", last)
	}
	if err := os.WriteFile(again.name, []byte("no JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	if broken, err := openHistory(); err != nil || len(broken.list().Moves) != 0 {
		t.Errorf("%v", err)
	}
}
