package gui

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"strings"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
	"github.com/piglig/go-qr"

	"hither/engine/control"
	"hither/gui/model"
)

// Pairing, and what other machines may do.

// OpenPairing shows the window with the choice of machines to pair with.
func (w *Window) OpenPairing() {
	w.do(w.openPair)
}

func (w *Window) openPair() {
	if w.state.Link != model.Up {
		return
	}
	var s *sheet
	near := vstack(4)
	note := paragraph("", muted)
	shown := ""
	update := func() {
		var ids []string
		for _, m := range w.state.Machines {
			if !m.Paired && m.State != "down" {
				ids = append(ids, m.ID+m.Name)
			}
		}
		if key := strings.Join(ids, " "); key == shown && len(near.Objects) > 0 {
			return
		} else {
			shown = key
		}
		near.Objects = nil
		for _, m := range w.state.Machines {
			if m.Paired || m.State == "down" {
				continue
			}
			c := w.choice(padded(8, row(gap*1.25, newSign(theme.ComputerIcon(), 22, colorAccent), vstack(1, newText(1, m.Name, bold), newText(1, "Nearby", small, muted)), newSign(theme.NavigateNextIcon(), 18, colorMuted))),
				func(*fyne.PointEvent) { s.close(); w.pairWith(m) })
			c.resting = colorWell
			c.paint()
			near.Add(c)
		}
		said := "Machines of this network where hither runs. Pick the one that is yours."
		if len(near.Objects) == 0 {
			said = "No other machine that runs hither is in sight. Start hither on it; if it does not show up here, use its address or a ticket."
		}
		note.set(said)
		near.Refresh()
		if s != nil {
			s.fit()
		}
	}
	where := w.field("Address or ticket of the other machine")
	begin := w.button("Pair", func() {
		said := strings.TrimSpace(where.Text)
		if said == "" {
			return
		}
		r := control.PairingRequest{Address: said}
		if isTicket(said) {
			r = control.PairingRequest{Ticket: said}
		}
		s.close()
		w.beginPairing(said, r)
	})
	where.OnSubmitted = func(string) { begin.OnTapped() }
	ticket := w.button("Make a ticket", func() { s.close(); w.openTicket() }).with(theme.DocumentCreateIcon())
	update()
	body := vstack(gap*1.25, note, scrolled(near, 200), newBlock(theme.ColorNameSeparator, 0), newText(1, "Not in sight?", bold),
		row(gap, container.NewWithoutLayout(), where, begin), paragraph("A ticket is a line of text that this machine makes for another one: who has it may pair once, without comparing digits.", small, muted))
	s = w.openSheet("pair", "Pair a machine", body, sheetWidth, w.button("Cancel", func() { s.cancel() }), ticket)
	s.update = update
	if len(near.Objects) > 0 {
		w.win.Canvas().Focus(near.Objects[0].(fyne.Focusable))
	} else {
		w.win.Canvas().Focus(where)
	}
}

// isTicket tells a ticket from an address: a ticket is long, and an address has no such lengths.
func isTicket(s string) bool {
	return strings.HasPrefix(s, "hither") && strings.ContainsAny(s, ":-") && len(s) > 40 || len(s) > 80
}

func (w *Window) pairWith(m model.Machine) {
	w.beginPairing(m.Name, control.PairingRequest{Peer: m.ID})
}

func (w *Window) beginPairing(name string, r control.PairingRequest) {
	w.Model.Do("Pairing with "+short(name, 40), func(ctx context.Context, d model.Daemon) error {
		p, err := d.BeginPairing(ctx, r)
		if err != nil {
			return err
		}
		w.Model.PutPairing(*p)
		w.do(func() { w.openPairing(p.ID) })
		return nil
	}, nil)
}

func short(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// openPairing follows one attempt to pair, begun here or there.
func (w *Window) openPairing(id string) {
	p := w.Model.Pairing(id)
	if p == nil {
		return
	}
	var s *sheet
	said := paragraph("")
	warning := newText(6, "", bold, colored(colorBad), shrink)
	warn := container.NewStack(newBlock(colorBadBack, inner), padded(gap*1.25, container.NewBorder(nil, nil, inset(0, 0, 0, gap, container.NewVBox(newSign(theme.WarningIcon(), 20, colorBad))), nil, warning)))
	digits := canvas.NewText("", theme.Color(theme.ColorNameForeground))
	digits.TextSize, digits.TextStyle, digits.Alignment = 46, fyne.TextStyle{Bold: true, Monospace: true}, fyne.TextAlignCenter
	code := container.NewStack(newBlock(colorWell, radius), inset(gap*1.5, gap*1.5, gap, gap, digits))
	wheel := widget.NewActivity()
	waiting := centre(wheel)
	mark := newSign(theme.ConfirmIcon(), 44, colorGood)
	marked := centre(mark)
	yes := w.button("Yes, the same", nil).primary()
	no := w.button("No", nil)
	end := w.button("Cancel", nil)
	answer := func(match bool) {
		yes.Disable()
		no.Disable()
		w.Model.Do("Answering", func(ctx context.Context, d model.Daemon) error {
			p, err := d.AnswerPairing(ctx, id, match)
			if err == nil {
				w.Model.PutPairing(*p)
			}
			return err
		}, nil)
	}
	yes.OnTapped = func() { answer(true) }
	no.OnTapped = func() { answer(false) }
	leave := func() {
		w.settled[id] = true
		if p := w.Model.Pairing(id); p != nil && p.State != control.PairingDone && p.State != control.PairingFailed {
			w.Model.Do("", func(ctx context.Context, d model.Daemon) error { return d.CancelPairing(ctx, id) }, nil)
		}
	}
	end.OnTapped = func() { s.cancel() }
	body := vstack(gap*1.5, said, warn, code, waiting, marked)
	heading := "Pair with " + short(p.Name, 24)
	if p.Name == "" {
		heading = "Pair"
	}
	// The same height all the time, so that nothing jumps below the pointer.
	s = w.openSheet("pairing/"+id, heading, atLeast(0, 176, body), sheetWidth, yes, no, end)
	s.closed = leave
	state := ""
	update := func() {
		p := w.Model.Pairing(id)
		if p == nil {
			// It is forgotten, as all are after a while, or the daemon was started anew.
			p = &control.Pairing{State: control.PairingFailed, Reason: "it is over"}
		}
		key := p.State + p.Code + p.Warning + p.Reason + p.Name
		if key == state {
			return
		}
		state = key
		name := p.Name
		if name == "" {
			name = "the other machine"
		}
		compare := p.State == control.PairingCompare
		show(yes, compare)
		show(no, compare)
		show(code, compare || p.State == control.PairingWaiting)
		busy := p.State == control.PairingConnecting || p.State == control.PairingWaiting
		show(waiting, busy)
		if busy {
			wheel.Start()
		} else {
			wheel.Stop()
		}
		over := p.State == control.PairingDone || p.State == control.PairingFailed
		show(marked, over)
		warning.set(p.Warning)
		show(warn, p.Warning != "")
		digits.Text = spaced(p.Code)
		digits.Color = theme.Color(theme.ColorNameForeground)
		digits.Refresh()
		end.say("Cancel")
		switch p.State {
		case control.PairingConnecting:
			said.set("Looking for " + name + "…")
		case control.PairingCompare:
			who := "Both machines show six digits now."
			if p.Incoming {
				who = name + " wants to pair with this machine. Both show six digits now."
			}
			said.set(who + " Do both show the same?")
			yes.Enable()
			no.Enable()
			w.win.Canvas().Focus(no)
		case control.PairingWaiting:
			said.set("Waiting until somebody says yes on " + name + ", too.")
		case control.PairingDone:
			said.set(name + " and this machine are paired. Drag an app onto it to move it there.")
			mark.set(theme.ConfirmIcon(), colorGood)
			end.say("Done")
			w.settled[id] = true
			w.win.Canvas().Focus(end)
		case control.PairingFailed:
			reason := p.Reason
			if reason == "" {
				reason = "it did not work"
			}
			said.set("Not paired: " + reason)
			mark.set(theme.CancelIcon(), colorBad)
			end.say("Close")
			w.settled[id] = true
			w.win.Canvas().Focus(end)
		}
		s.fit()
	}
	s.update = update
	update()
}

// openTicket makes a ticket, and shows it as text and as a picture.
func (w *Window) openTicket() {
	var s *sheet
	said := paragraph("Making a ticket…", muted)
	entry := widget.NewMultiLineEntry()
	entry.Wrapping = fyne.TextWrapBreak
	entry.SetMinRowsVisible(3)
	picture := canvas.NewImageFromImage(nil)
	picture.FillMode, picture.ScaleMode = canvas.ImageFillContain, canvas.ImageScalePixels
	picture.SetMinSize(fyne.NewSquareSize(190))
	text := ""
	copied := w.button("Copy", func() {
		w.app.Clipboard().SetContent(text)
		w.Model.Tell(model.Notice{Text: "The ticket is copied", Hint: "Whoever has it may pair with this machine, once."})
	}).primary().with(theme.ContentCopyIcon())
	copied.Disable()
	s = w.openSheet("ticket", "A ticket for another machine", vstack(gap*1.25, said, centre(picture), entry), sheetWidth, copied, w.button("Close", func() { s.cancel() }))
	w.Model.Do("Making a ticket", func(ctx context.Context, d model.Daemon) error {
		t, err := d.MakeTicket(ctx, control.TicketRequest{})
		if err != nil {
			w.do(s.close)
			return err
		}
		code, err := qrImage(t.Ticket)
		w.do(func() {
			text = t.Ticket
			left := max(1, int(t.Expires.Sub(w.now()).Round(time.Minute).Minutes()))
			said.paint(theme.ColorNameForeground)
			said.set(fmt.Sprintf("Scan it, or paste it there under ‘Pair a machine’. It is good for one machine and %s. It is a secret: who has it may pair.", plural(left, "minute", "minutes")))
			entry.SetText(t.Ticket)
			copied.Enable()
			if err == nil {
				picture.Image = code
				picture.Refresh()
			} else {
				picture.Hide()
			}
			s.fit()
		})
		return nil
	}, nil)
}

// qrImage draws text as a QR code, one pixel for each of its squares, with the margin that readers need.
func qrImage(said string) (image.Image, error) {
	code, err := go_qr.EncodeText(said, go_qr.Low)
	if err != nil {
		return nil, fmt.Errorf("drawing a QR code: %w", err)
	}
	const margin, square = 4, 4
	side := (code.Size() + 2*margin) * square
	img := image.NewGray(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			v := color.Gray{Y: 255}
			if code.Module(x/square-margin, y/square-margin) {
				v.Y = 0
			}
			img.SetGray(x, y, v)
		}
	}
	return img, nil
}

// openQuestion asks what a machine may do now.
func (w *Window) openQuestion(q control.Question) {
	var s *sheet
	say := func(a string) func() {
		return func() {
			w.answered[q.ID] = true
			s.close()
			w.Model.Do("Answering", func(ctx context.Context, d model.Daemon) error { return d.AnswerQuestion(ctx, q.ID, a) }, nil)
		}
	}
	once := w.button("Yes, this time", say(control.AnswerOnce)).primary()
	always := w.button("Always", say(control.AnswerAlways))
	no := w.button("Not now", say(control.AnswerNo))
	never := w.button("Never", say(control.AnswerNever)).plain()
	said := q.Text
	if said == "" {
		said = q.Peer + " wants to " + map[string]string{control.PermitSend: "send you ", control.PermitBring: "take over ", control.PermitWatch: "see what runs here"}[q.Permit] + q.App
	}
	remains := newText(1, "", small, muted)
	hint := ""
	if q.Permit == control.PermitSend {
		hint = "Take apps only from machines that you trust."
	}
	body := vstack(gap*1.5, row(gap*1.5, newSign(theme.ComputerIcon(), 36, colorAccent), newText(3, said, head, shrink), container.NewWithoutLayout()))
	if hint != "" {
		body.Add(paragraph(hint, small, muted))
	}
	body.Add(remains)
	s = w.openSheet("question/"+q.ID, "May it?", body, 500, once, always, no, never)
	w.win.Canvas().Focus(no)
	s.closed = func() { w.answered[q.ID] = true; say(control.AnswerNo)() }
	s.update = func() {
		for _, o := range w.state.Questions {
			if o.ID == q.ID && (q.Expires.IsZero() || w.now().Before(q.Expires)) {
				if !q.Expires.IsZero() {
					remains.set("It waits for an answer: " + left(q.Expires.Sub(w.now()).Seconds()) + ".")
				}
				return
			}
		}
		s.close() // answered elsewhere, or not any more
	}
	s.update()
}

// openMachine shows what a machine may do, and lets it be changed.
func (w *Window) openMachine(id string) {
	m := w.state.Machine(id)
	if m == nil {
		return
	}
	var s *sheet
	list := vstack(gap)
	for _, permit := range permits {
		list.Add(w.permission(permit, m.Permissions[permit], func(v string) {
			w.Model.Do("Changing what "+m.Name+" may do", func(ctx context.Context, d model.Daemon) error {
				_, err := d.ChangePeer(ctx, m.ID, control.PeerChange{Permissions: map[string]string{permit: v}})
				w.Model.Again(model.PartPeers)
				return err
			}, nil)
		}))
	}
	facts := []string{"ID " + m.ID}
	if len(m.Addresses) > 0 {
		facts = append(facts, strings.Join(m.Addresses, ", "))
	}
	if m.Rate > 0 {
		facts = append(facts, bytesText(uint64(m.Rate))+"/s at the last large move")
	}
	if m.Version != "" {
		facts = append(facts, "hither "+m.Version)
	}
	if ab := m.Abilities; ab != nil {
		facts = append(facts, strings.TrimSpace(fmt.Sprintf("%s %s, %s, %s", ab.OS, ab.Arch, plural(ab.CPUs, "processor", "processors"), bytesText(ab.Memory))))
	}
	about := vstack(2)
	for _, f := range facts {
		about.Add(paragraph(f, small, muted))
	}
	s = w.openSheet("machine", short(m.Name, 28), vstack(gap*1.5, newText(1, "It may", bold), list, about), 480,
		w.button("Close", func() { s.cancel() }), w.button("Unpair…", func() { s.close(); w.openUnpair(*m) }), w.button("Rename…", func() { s.close(); w.openRename(*m) }))
}

// permission is a line with the choice of always, ask, never.
func (w *Window) permission(permit, now string, changed func(string)) fyne.CanvasObject {
	sel := widget.NewSelect(choices, nil)
	sel.SetSelected(choiceText(now))
	sel.OnChanged = func(v string) { changed(choiceValue(v)) }
	return row(gap, container.NewWithoutLayout(), newText(1, permitText[permit]), fixed(130, sel.MinSize().Height, sel))
}

func (w *Window) openRename(m model.Machine) {
	var s *sheet
	name := w.field("Name")
	name.SetText(m.Name)
	save := w.button("Rename", func() {
		said := strings.TrimSpace(name.Text)
		s.close()
		if said == "" || said == m.Name {
			return
		}
		w.Model.Do("Renaming "+m.Name, func(ctx context.Context, d model.Daemon) error {
			_, err := d.ChangePeer(ctx, m.ID, control.PeerChange{Name: said})
			w.Model.Again(model.PartPeers)
			return err
		}, nil)
	}).primary()
	name.OnSubmitted = func(string) { save.OnTapped() }
	s = w.openSheet("rename", "Rename "+short(m.Name, 24), vstack(gap, paragraph("What this machine calls it. The other one keeps its own name.", muted), name), sheetWidth, save, w.button("Cancel", func() { s.cancel() }))
	w.win.Canvas().Focus(name)
}

func (w *Window) openUnpair(m model.Machine) {
	w.confirm("unpair", "Unpair "+short(m.Name, 24)+"?", "It cannot send apps to this machine any more, nor see or take what runs here. Apps that are there run on there. You can pair again at any time.", "Unpair", true, func() {
		w.Model.Do("Unpairing "+m.Name, func(ctx context.Context, d model.Daemon) error {
			err := d.Unpair(ctx, m.ID)
			w.Model.Again(model.PartPeers)
			return err
		}, nil)
	})
}
