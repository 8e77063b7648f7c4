package model_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/gui/model"
	"hither/gui/model/fake"
)

// rig runs a model on a fake daemon.
type rig struct {
	t       *testing.T
	m       *model.Model
	d       *fake.Daemon
	changed chan struct{}
}

func newRig(t *testing.T, prepare func(*fake.Daemon)) *rig {
	r := &rig{t: t, d: fake.New(), changed: make(chan struct{}, 1)}
	r.d.Apps = []control.App{{ID: "pad", Name: "mousepad", State: "running"}}
	r.d.Peers = []control.Peer{{ID: "laptopid", Name: "laptop", Paired: true, State: "up"}}
	if prepare != nil {
		prepare(r.d)
	}
	r.run(r.d.Dial())
	r.until("it is up", func(s model.State) bool {
		return s.Link == model.Up && s.Loaded[model.PartApps] && len(s.Machines) > 0
	})
	return r
}

func (r *rig) run(dial model.Dial) {
	r.m = model.New(dial, model.Pulse{Seen: time.Hour, Unseen: time.Hour, Redial: time.Millisecond, Keep: time.Hour}, func() {
		select {
		case r.changed <- struct{}{}:
		default:
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.m.Run(ctx, true) })
	r.t.Cleanup(func() { stop(); running.Wait() })
}

func (r *rig) until(what string, holds func(model.State) bool) {
	r.t.Helper()
	patience := time.After(30 * time.Second)
	for !holds(r.m.State()) {
		select {
		case <-r.changed:
		case <-patience:
			r.t.Fatalf("waiting in vain: %s", what)
		}
	}
}

// TestLateProgress: the stream of events may be slower than the answer of the move itself. What
// comes late must not begin a move anew.
func TestLateProgress(t *testing.T) {
	r := newRig(t, nil)
	r.m.Send(r.m.State().Apps[0], "laptopid")
	mv := <-r.d.Begun()
	mv.End(handover.Result{Outcome: handover.Moved})
	r.until("it has ended", func(s model.State) bool { return len(s.Moves) == 1 && s.Moves[0].Moved() })
	r.d.Event(control.Event{Event: "progress", App: "mousepad", Peer: "laptop", Task: mv.Task, Progress: &handover.Progress{State: handover.SourceSettle}})
	r.d.With("settings", func(d *fake.Daemon) { d.Host.Name = "heard" })
	r.until("what came after it is heard", func(s model.State) bool { return s.Host.Name == "heard" })
	if s := r.m.State(); len(s.Moves) != 1 {
		t.Errorf("%d moves", len(s.Moves))
	}
}

// slow is a daemon that something is asked at, just before it begins to tell of events.
type slow struct {
	*fake.Daemon
	asked chan struct{}
}

func (d slow) Questions(ctx context.Context) (*control.Questions, error) {
	defer func() {
		select {
		case d.asked <- struct{}{}:
		default:
		}
	}()
	return d.Daemon.Questions(ctx)
}

func (d slow) Listen(ctx context.Context) (func(func(control.Event) error) error, error) {
	select {
	case <-d.asked: // too early
	case <-time.After(50 * time.Millisecond):
	}
	d.With("question", func(d *fake.Daemon) { d.Asked = []control.Question{{ID: "q"}} })
	return d.Daemon.Listen(ctx)
}

// TestNothingIsMissed: what has happened before events are told is asked for.
func TestNothingIsMissed(t *testing.T) {
	d := slow{fake.New(), make(chan struct{}, 1)}
	r := &rig{t: t, d: d.Daemon, changed: make(chan struct{}, 1)}
	r.run(func(context.Context, bool) (model.Daemon, error) { return d, nil })
	r.until("it knows the question", func(s model.State) bool { return len(s.Questions) == 1 })
}

func TestOneMoveAtATime(t *testing.T) {
	r := newRig(t, nil)
	a := r.m.State().Apps[0]
	r.m.Send(a, "laptopid")
	mv := <-r.d.Begun()
	r.m.Send(a, "laptopid")
	mv.End(handover.Result{Outcome: handover.Stayed, Reason: "no"})
	r.until("it has ended", func(s model.State) bool { return len(s.Moves) == 1 && !s.Moves[0].Running() })
	n := 0
	for _, c := range r.d.Calls() {
		if c == "send pad laptopid" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("it was sent %d times", n)
	}
}

// TestLostInAMove: what was going on is not known any more, and does not go on for ever.
func TestLostInAMove(t *testing.T) {
	r := newRig(t, nil)
	r.m.Send(r.m.State().Apps[0], "laptopid")
	<-r.d.Begun()
	r.d.Lose()
	r.until("it is up again, without the move", func(s model.State) bool {
		for _, m := range s.Moves {
			if m.Running() {
				return false
			}
		}
		return s.Link == model.Up
	})
}

func TestStatesDoNotChange(t *testing.T) {
	r := newRig(t, nil)
	before := r.m.State()
	r.d.With("peers", func(d *fake.Daemon) {
		d.Remote = map[string][]control.App{"laptopid": {{ID: "far", Name: "gimp", State: "running"}}}
	})
	r.until("the app is there", func(s model.State) bool { return len(s.Machines[0].Apps) == 1 })
	if len(before.Machines[0].Apps) != 0 {
		t.Error("a state that was handed out has changed")
	}
}

func TestNoticesAreFew(t *testing.T) {
	r := newRig(t, nil)
	for _, said := range []string{"a", "b", "c", "d", "d"} {
		r.m.Tell(model.Notice{Text: said, Problem: true})
	}
	s := r.m.State()
	if len(s.Notices) != 3 || s.Notices[2].Text != "d" || s.Notices[0].Text != "b" {
		t.Errorf("%+v", s.Notices)
	}
	r.m.Fail("Doing", context.Canceled)
	if len(r.m.State().Notices) != 3 || r.m.State().Notices[2].Text != "d" {
		t.Error("what was cancelled is told")
	}
	r.m.Fail("Doing", errors.New("no"))
	if s := r.m.State(); s.Notices[2].Text != "Doing: no" {
		t.Errorf("%+v", s.Notices)
	}
}
