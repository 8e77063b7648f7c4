package gui

import (
	"context"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/gui/model"
)

// drag is an app on the pointer. There is one at most.
type drag struct {
	app   control.App
	from  string // ID of the machine it is on, "" for this one
	ghost fyne.CanvasObject
	// answers are what each target says, by its ID, "" for this machine.
	answers map[string]answer
	over    string // ID of the target below the pointer
	onOne   bool
	gone    bool // it was cancelled: the rest of the gesture is nothing
	stop    context.CancelFunc
}

const ghostAside float32 = 16

// answer is what a machine says to: would you take it?
type answer struct {
	known bool
	ok    bool
	why   string
	cure  string
}

// target can be dropped on.
type target interface {
	fyne.CanvasObject
	// offer shows what it says to the app that is being dragged; nil ends that.
	offer(d *drag)
}

// dragged moves the app that is being dragged, which begins a drag.
func (w *Window) dragged(app control.App, from string, picture *picture, ev *fyne.DragEvent) {
	if w.drag == nil {
		if from == "" && !canMove(app) {
			return
		}
		w.beginDrag(app, from, picture)
	}
	d := w.drag
	if d.gone || d.app.ID != app.ID {
		return
	}
	// Beside the pointer, so that what the target says can be read, and within the window.
	room := w.win.Canvas().Size().Subtract(d.ghost.Size())
	d.ghost.Move(fyne.NewPos(min(ev.AbsolutePosition.X+ghostAside, room.Width), min(ev.AbsolutePosition.Y+ghostAside, room.Height)))
	over, on := w.targetAt(ev.AbsolutePosition)
	if over != d.over || on != d.onOne {
		d.over, d.onOne = over, on
		w.offer()
	}
	w.machines.nudge(ev.AbsolutePosition)
}

func (w *Window) beginDrag(app control.App, from string, pic *picture) {
	ctx, stop := context.WithCancel(context.Background())
	d := &drag{app: app, from: from, answers: map[string]answer{}, stop: stop}
	w.drag = d
	icon := newTile(24)
	icon.setName(app.Name)
	icon.setImage(w.iconOf(app, from))
	ground := newBlock(colorCard, radius).outlined(theme.ColorNamePrimary, 2)
	ground.lifted = true
	var content fyne.CanvasObject = row(gap, icon, newText(1, appTitle(app), bold), container.NewWithoutLayout())
	size := fyne.NewSize(170, 44)
	if pic != nil {
		image := newPicture(6)
		image.Image = pic.image
		content = container.NewBorder(nil, inset(6, 0, 0, 0, content), nil, nil, image)
		size = fyne.NewSize(170, 132)
	}
	d.ghost = container.NewStack(ground, padded(10, content))
	d.ghost.Resize(size)
	w.layer.Objects = []fyne.CanvasObject{d.ghost}
	w.layer.Refresh()
	// Escape has to be heard, wherever the focus was.
	w.win.Canvas().Focus(w.listener)
	w.ask(ctx, d)
	w.offer()
}

// ask asks every machine at the same time whether it would take the app.
func (w *Window) ask(ctx context.Context, d *drag) {
	tell := func(id string, a answer) {
		a.known = true
		w.do(func() {
			if w.drag == d {
				d.answers[id] = a
				w.offer()
			}
		})
	}
	if d.from != "" {
		go func() { tell("", w.askBring(ctx, d.app, d.from)) }()
		return
	}
	for _, m := range w.state.Machines {
		if a, asked := without(m); !asked {
			d.answers[m.ID] = a
			continue
		}
		go func() { tell(m.ID, w.askSend(ctx, d.app, m.ID)) }()
	}
}

// without says what is known of a machine without asking it.
func without(m model.Machine) (answer, bool) {
	switch {
	case !m.Paired:
		return answer{known: true, why: "Not paired yet", cure: "Pair with it first."}, false
	case !m.Up():
		return answer{known: true, why: "Out of reach", cure: m.Reason}, false
	}
	return answer{}, true
}

func (w *Window) askSend(ctx context.Context, app control.App, peer string) answer {
	_, daemon := w.Model.Daemon()
	if daemon == nil {
		return answer{why: "hither does not run"}
	}
	c, err := daemon.Check(ctx, app.ID, peer)
	if err != nil {
		why, cure := model.Words(err)
		return answer{why: why, cure: cure}
	}
	return fromProblems(c.OK, c.Problems)
}

func (w *Window) askBring(ctx context.Context, app control.App, peer string) answer {
	_, daemon := w.Model.Daemon()
	if daemon == nil {
		return answer{why: "hither does not run"}
	}
	r, err := daemon.Bring(ctx, control.MoveRequest{Peer: peer, App: app.ID, Check: true}, nil)
	if err != nil {
		why, cure := model.Words(err)
		return answer{why: why, cure: cure}
	}
	if len(r.Problems) == 0 && r.Reason != "" {
		return answer{why: r.Reason}
	}
	return fromProblems(len(r.Problems) == 0, r.Problems)
}

func fromProblems(ok bool, problems []handover.Problem) answer {
	if ok || len(problems) == 0 {
		return answer{ok: ok}
	}
	a := answer{why: problems[0].What, cure: problems[0].Cure}
	if n := len(problems) - 1; n > 0 {
		a.cure = strings.TrimSpace(a.cure + " (And " + plural(n, "more thing", "more things") + " in the way.)")
	}
	return a
}

// targets are all that can be dropped on, by ID.
func (w *Window) targets() map[string]target {
	list := map[string]target{"": w.here}
	for id, m := range w.machines.cards {
		list[id] = m
	}
	return list
}

// targetAt is the target at a place of the window.
func (w *Window) targetAt(at fyne.Position) (string, bool) {
	driver := fyne.CurrentApp().Driver()
	in := func(o fyne.CanvasObject) bool {
		if !o.Visible() {
			return false
		}
		p := driver.AbsolutePositionForObject(o)
		s := o.Size()
		return at.X >= p.X && at.Y >= p.Y && at.X < p.X+s.Width && at.Y < p.Y+s.Height
	}
	if in(w.machines.scroll) {
		for id, m := range w.machines.cards {
			if in(m) {
				return id, true
			}
		}
		return "", false
	}
	return "", in(w.here)
}

// offer lets every target show what it says.
func (w *Window) offer() {
	for _, t := range w.targets() {
		t.offer(w.drag)
	}
}

// says is what a target says to a drag, and whether it has a say at all.
func (d *drag) says(id string) (answer, bool) {
	if d == nil || d.gone || id == d.from || d.from != "" && id != "" {
		return answer{}, false
	}
	return d.answers[id], true
}

// dropped ends the drag where the pointer is.
func (w *Window) dropped() {
	d := w.drag
	w.endDrag()
	if d == nil || d.gone || !d.onOne || d.over == d.from {
		return
	}
	if d.from != "" && d.over != "" {
		w.Model.Tell(model.Notice{Problem: true, Text: "From one machine to another it goes by way of this one",
			Hint: "Bring " + appTitle(d.app) + " here first, and send it on from here."})
		return
	}
	a := d.answers[d.over]
	if a.known && !a.ok {
		name := "this machine"
		if m := w.state.Machine(d.over); m != nil && d.over != "" {
			name = m.Name
			if !m.Paired {
				w.pairWith(*m)
				return
			}
		}
		w.Model.Tell(model.Notice{Problem: true, Text: "Can't move " + appTitle(d.app) + " to " + name + ": " + a.why, Hint: a.cure})
		return
	}
	// What is not known yet is asked by the move itself, before it touches the app.
	if d.from != "" {
		w.Model.Bring(d.app, d.from)
	} else {
		w.Model.Send(d.app, d.over)
	}
}

// cancelDrag lets the app go. The pointer may still be down: what it does then is nothing.
func (w *Window) cancelDrag() {
	d := w.drag
	w.endDrag()
	d.gone = true
	w.drag = d
	w.offer()
}

func (w *Window) endDrag() {
	if w.drag == nil {
		return
	}
	w.drag.stop()
	w.drag = nil
	w.layer.Objects = nil
	w.layer.Refresh()
	w.offer()
}
