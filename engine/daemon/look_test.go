package daemon

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/handover"
)

// TestBar: a move waits for who looks at the app, and then nobody may; what was seen stays.
func TestBar(t *testing.T) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	start, err := strconv.ParseUint(strings.Fields(rest)[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	running := capsule.State{Phase: capsule.Running, Init: capsule.Proc{Pid: os.Getpid(), Start: start}}
	d := &Daemon{}
	l := d.lookAt("app")
	if !l.mayLook(running) {
		t.Fatal("it may not be looked at")
	}
	for _, phase := range []capsule.Phase{capsule.Paused, capsule.Waiting, capsule.Ended} {
		st := running
		if st.Phase = phase; l.mayLook(st) {
			t.Errorf("it is looked at while it is %s", phase)
		}
	}
	l.mu.Lock() // somebody looks
	barred := make(chan struct{})
	go func() {
		d.lookAt("app").bar(true)
		close(barred)
	}()
	select {
	case <-barred:
		t.Error("the move did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	l.mu.Unlock()
	<-barred
	if l.mayLook(running) {
		t.Error("it is looked at while it moves")
	}
	d.forgetLooks(nil)
	if d.lookAt("app") != l {
		t.Error("forgotten in mid-move")
	}
	l.bar(false)
	if !l.mayLook(running) {
		t.Error("it may not be looked at any more")
	}
	d.forgetLooks([]found{{app: control.App{ID: "app"}, capsule: &capsule.Capsule{}}})
	if d.lookAt("app") != l {
		t.Error("an app that is here is forgotten")
	}
	d.forgetLooks(nil)
	if d.lookAt("app") == l {
		t.Error("an app that has gone is remembered")
	}
}

// frozen is an app that can be frozen, or cannot.
type frozen struct {
	handover.Source
	err error
}

func (f frozen) Freeze(context.Context) (*handover.Frozen, error) { return &handover.Frozen{}, f.err }
func (f frozen) Thaw() error                                      { return nil }

// TestBarOfAnotherMove: a second move of the same app, which ends before it begins, does not let
// anybody look at what the first one has frozen.
func TestBarOfAnotherMove(t *testing.T) {
	d := &Daemon{}
	barred := func() bool { return d.lookAt("app").barred }
	first := &source{Source: frozen{}, d: d, id: "app"}
	if _, err := first.Freeze(t.Context()); err != nil || !barred() {
		t.Fatal(err, barred())
	}
	second := &source{Source: frozen{}, d: d, id: "app"}
	if err := second.Thaw(); err != nil || !barred() {
		t.Fatal("the second one has lifted the bar", err)
	}
	if err := first.Thaw(); err != nil || barred() {
		t.Fatal("the bar outlives the move", err)
	}
	third := &source{Source: frozen{err: errors.New("no")}, d: d, id: "app", cap: new(capsule.Capsule)}
	if _, err := third.Freeze(t.Context()); err == nil || barred() {
		t.Fatal("the bar outlives a freeze that failed", err)
	}
}
