package gui

import (
	"errors"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/gui/model/fake"
)

func TestDragSendsAndTells(t *testing.T) {
	r := newRig(t, usual)
	card, laptop := r.card("pad"), r.w.machines.cards["laptopid"]
	r.drag(card, laptop)
	r.until("the laptop lights up", func() bool {
		return laptop.veil.Visible() && laptop.veil.said.said == "Move it to laptop" && laptop.veil.ground.stroke == colorGood && laptop.veil.ground.width == 3
	})
	if len(r.w.layer.Objects) != 1 {
		t.Error("no ghost")
	}
	// Others say why not.
	if said := r.w.machines.cards["strang"].veil.said.said; said != "Not paired yet" {
		t.Errorf("the stranger says %q", said)
	}
	if said := r.w.machines.cards["atticid"].veil.said.said; said != "Out of reach" {
		t.Errorf("the attic says %q", said)
	}
	r.shot("drag")
	card.DragEnd()
	if len(r.w.layer.Objects) != 0 || laptop.veil.Visible() {
		t.Error("the drag has left something behind")
	}
	m := r.begun()
	if m.App != "pad" || m.Peer != "laptopid" || m.Here {
		t.Fatalf("another move: %+v", m)
	}
	m.Tell(handover.Progress{Move: "m", App: "mousepad", State: handover.SourcePreCopy, Round: 2, Done: 12e6, Total: 48e6, Rate: 20e6, Left: 2})
	r.until("the card shows how far it is", func() bool {
		return card.bar.Visible() && card.bar.share > 0 && card.detail.said == "12 MB of 48 MB · 20 MB/s · round 2"
	})
	if card.head.said != "Moving to laptop · 2 s left" || !card.cancel.Visible() || card.badge.Visible() || card.send.Visible() {
		t.Errorf("the card shows %q and the wrong buttons", card.head.said)
	}
	r.shot("moving")
	r.d.With("", func(d *fake.Daemon) {
		d.Apps = d.Apps[1:]
		d.Remote["laptopid"] = append(d.Remote["laptopid"], app("pad", "mousepad", ""))
	})
	m.End(handover.Result{App: "mousepad", From: "desk", To: "laptop", Outcome: handover.Moved, TotalMS: 400, DowntimeMS: 35})
	r.until("the card tells how long it stood still", func() bool {
		return card.end.Visible() && card.end.said == "Moved in 400 ms; it stood still for 35 ms"
	})
	r.until("it is among the laptop's apps", func() bool { return laptop.apps["pad"] != nil })
	if len(r.w.here.shown) != 2 || r.w.here.shown[0] != card {
		t.Error("the cards have changed places")
	}
	r.shot("moved")
	r.w.Model.Forget(card.move.ID)
	r.until("the card goes", func() bool { return len(r.w.here.shown) == 1 })
}

func TestDragIsAskedOfAllAtOnce(t *testing.T) {
	gate := make(chan struct{})
	r := newRig(t, func(d *fake.Daemon) {
		usual(d)
		other := laptop()
		other.ID, other.Name = "otherid", "other"
		d.Peers = append(d.Peers, other)
		d.Gate = gate
		d.Checks = map[string]control.Check{"pad/otherid": {Problems: []handover.Problem{{What: "the processor lacks avx2", Cure: "Start the app with it switched off."}}}}
	})
	card, other := r.card("pad"), r.w.machines.cards["otherid"]
	r.drag(card, other)
	if other.veil.said.said != "Move it to other" && other.veil.said.said != "Asking…" {
		t.Errorf("while it is asked, it says %q", other.veil.said.said)
	}
	close(gate)
	r.until("it says why not", func() bool {
		return other.veil.said.said == "the processor lacks avx2" && other.veil.hint.said == "Start the app with it switched off."
	})
	card.DragEnd()
	r.until("the drop is refused in words", func() bool {
		return len(r.w.state.Notices) == 1 && strings.Contains(r.w.state.Notices[0].Text, "the processor lacks avx2") && r.w.state.Notices[0].Hint != ""
	})
	r.shot("refused")
	for _, c := range r.d.Calls() {
		if strings.HasPrefix(c, "send") {
			t.Errorf("it was sent all the same: %s", c)
		}
	}
}

// TestDropBeforeTheAnswer: who drops before a machine has answered lets the move itself ask.
func TestDropBeforeTheAnswer(t *testing.T) {
	r := newRig(t, func(d *fake.Daemon) { usual(d); d.Gate = make(chan struct{}) })
	card := r.card("pad")
	r.drag(card, r.w.machines.cards["laptopid"])
	card.DragEnd()
	m := r.begun()
	m.End(handover.Result{Outcome: handover.Stayed, Reason: "refused", Problems: []handover.Problem{{What: "memory is short on laptop", Cure: "Close something there."}}})
	r.until("the card says why it stayed", func() bool {
		return card.end.Visible() && card.end.said == "Not moved: memory is short on laptop. Close something there."
	})
}

func TestEscapeCancelsADrag(t *testing.T) {
	r := newRig(t, usual)
	card, laptop := r.card("pad"), r.w.machines.cards["laptopid"]
	r.drag(card, laptop)
	r.key(fyne.KeyEscape)
	if len(r.w.layer.Objects) != 0 || laptop.veil.Visible() {
		t.Error("Escape leaves the ghost")
	}
	// The pointer is still down, and goes on.
	r.drag(card, laptop)
	if len(r.w.layer.Objects) != 0 {
		t.Error("the ghost is back")
	}
	card.DragEnd()
	r.drag(card, r.w.here.cards["calc"])
	card.DragEnd() // onto another card: nothing
	r.w.openStop(card.app)
	r.press("Stop it")
	r.called("stop pad") // which comes after all that could have been sent
	for _, c := range r.d.Calls() {
		if strings.HasPrefix(c, "send") {
			t.Errorf("a cancelled drag moved it: %s", c)
		}
	}
}

func TestDragFromAMachineBrings(t *testing.T) {
	r := newRig(t, usual)
	far := r.w.machines.cards["laptopid"].apps["far"]
	r.drag(far.choice, r.w.here)
	r.until("this machine lights up", func() bool {
		return r.w.here.veil.Visible() && r.w.here.veil.said.said == "Drop photo.xcf - GIMP here" && r.w.here.veil.ground.stroke == colorGood
	})
	if r.w.machines.cards["strang"].veil.Visible() {
		t.Error("another machine offers itself")
	}
	r.shot("bring")
	far.choice.DragEnd()
	m := r.begun()
	if m.App != "far" || !m.Here {
		t.Fatalf("another move: %+v", m)
	}
	m.Tell(handover.Progress{App: "gimp", State: handover.DestinationRestore, Done: 1, Total: 2})
	r.until("its row shows how far it is", func() bool {
		return far.bar.Visible() && far.bar.share > 0.3 && far.cancel.Visible() && !far.bring.Visible()
	})
	r.d.With("", func(d *fake.Daemon) {
		d.Apps = append(d.Apps, app("far", "gimp", "photo.xcf - GIMP"))
		d.Remote = nil
	})
	m.End(handover.Result{Outcome: handover.Moved, TotalMS: 1200, DowntimeMS: 80})
	r.until("its card here tells how it went", func() bool {
		c := r.w.here.cards["far"]
		return c != nil && c.end.Visible() && c.end.said == "Moved in 1.2 s; it stood still for 80 ms"
	})
}

func TestCancelAMove(t *testing.T) {
	r := newRig(t, usual)
	card := r.card("pad")
	r.w.Model.Send(card.app, "laptopid")
	m := r.begun()
	// Cancelled before its task is known: it is cancelled as soon as it is.
	r.until("the card can cancel", func() bool { return card.cancel.Visible() })
	card.cancel.Tapped(nil)
	r.until("it says so", func() bool { return card.head.said == "Cancelling…" && !card.cancel.Visible() })
	m.Tell(handover.Progress{App: "mousepad", State: handover.SourceOffer})
	r.called("cancel " + m.Task)
	<-m.Cancelled
	m.End(handover.Result{Outcome: handover.Stayed, Reason: "cancelled"})
	r.until("it says how it ended", func() bool { return card.end.Visible() && card.end.said == "Cancelled; it runs on where it was" })
	// After the commit there is nothing to cancel.
	r.w.Model.Send(card.app, "laptopid")
	m = r.begun()
	m.Tell(handover.Progress{App: "mousepad", State: handover.SourceCommit})
	r.until("it cannot be cancelled any more", func() bool { return card.bar.Visible() && !card.cancel.Visible() })
	m.End(handover.Result{Outcome: handover.Undecided, Reason: "laptop was lost"})
	r.until("it says that it is undecided", func() bool {
		return strings.HasPrefix(card.end.said, "The link broke at the last moment: laptop was lost")
	})
}

// TestMovesOfOthers: a move that the command line began shows on the card, too.
func TestMovesOfOthers(t *testing.T) {
	r := newRig(t, usual)
	card := r.card("pad")
	r.d.Event(control.Event{Event: "progress", App: "mousepad", Peer: "laptop", Task: "other", Progress: &handover.Progress{App: "mousepad", State: handover.SourceMemory, Done: 1, Total: 4}})
	r.until("the card shows it", func() bool { return card.bar.Visible() && card.head.said == "Moving to laptop" })
	card.cancel.Tapped(nil)
	r.called("cancel other")
	r.d.Event(control.Event{Event: "result", App: "mousepad", Peer: "laptop", Task: "other", Result: &handover.Result{Outcome: handover.Stayed, Reason: "cancelled"}})
	r.until("and how it ended", func() bool { return card.end.Visible() })
}

func TestErrorsAreToldWithTheirCure(t *testing.T) {
	r := newRig(t, func(d *fake.Daemon) {
		usual(d)
		d.Fails = map[string]error{"send pad laptopid": &control.Error{Text: "laptop does not answer", Hint: "Is it switched on?"}, "stop calc": errors.New("no")}
	})
	card := r.card("pad")
	r.w.Model.Send(card.app, "laptopid")
	r.until("the card tells", func() bool { return card.end.said == "Not moved: laptop does not answer. Is it switched on?" })
	r.w.openStop(r.card("calc").app)
	r.press("Stop it")
	r.until("a notice tells", func() bool { return r.says("Stopping gnome-calculator: no") })
	r.w.Model.Dismiss(r.w.state.Notices[0].ID)
	r.until("it is gone", func() bool { return len(r.w.notices.list.Objects) == 0 })
}

// TestTheWindowDoesNotWait: a daemon that answers nothing holds nothing up.
func TestTheWindowDoesNotWait(t *testing.T) {
	gate := make(chan struct{})
	r := newRig(t, func(d *fake.Daemon) { usual(d); d.Gate = gate })
	began := time.Now()
	r.drag(r.card("pad"), r.w.machines.cards["laptopid"])
	r.card("pad").DragEnd()
	r.w.openMove(r.card("calc").app)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the main goroutine waited %v", took)
	}
	close(gate)
}
