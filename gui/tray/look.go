package tray

import (
	"fmt"
	"html"
	"slices"
	"strings"

	"hither/engine/control"
	"hither/gui/model"
)

// Acts is what the menu's lines do.
type Acts interface {
	Open()  // show the window
	Pair()  // ... with the machines to pair with
	Start() // ... with the apps that can be started
	Quit()
	StartDaemon()
	Refresh() // ask the machines what runs there
	Send(app control.App, peer string)
	Bring(app control.App, peer string)
	Cancel(move int)
	Answer(question, answer string)
	Compare(pairing string, match bool)
}

// Icons has the icon of an app as PNG, on a machine or, with peer "", on this one; nil if there is none yet.
type Icons func(app, peer string) []byte

func (f Icons) of(app, peer string) []byte {
	if f == nil {
		return nil
	}
	return f(app, peer)
}

// LookOf is how the tray looks.
func LookOf(s model.State, icon Icons, do Acts) Look {
	l := Look{State: Idle, Title: "hither", Opening: do.Refresh}
	var peers []model.Machine
	for _, p := range s.Machines {
		if p.Paired {
			peers = append(peers, p)
		}
	}
	// Those that answer come first.
	slices.SortStableFunc(peers, func(a, b model.Machine) int {
		switch {
		case a.Up() == b.Up():
			return 0
		case a.Up():
			return -1
		}
		return 1
	})

	var waiting, text []string
	moving, quit := false, "Quit"
	var menu []Item
	add := func(items ...Item) { menu = append(menu, items...) }
	for _, q := range s.Questions {
		waiting = append(waiting, q.Text)
		add(question(q, do))
	}
	for _, p := range s.Pairings {
		if p.State == control.PairingCompare {
			waiting = append(waiting, fmt.Sprintf("%s wants to be paired", p.Name))
			add(pairing(p, do))
		}
	}
	for _, a := range s.Undecided() {
		says := fmt.Sprintf("%s waits for %s to be reached", a.Name, a.Host)
		waiting = append(waiting, says)
		add(Item{Key: "undecided " + a.ID, Label: says + "…", Do: do.Open})
	}
	add(rule(len(menu) > 0, "asked")...)
	moves := len(menu)
	for _, m := range s.Moves {
		if !m.Running() {
			continue
		}
		if !m.Elsewhere {
			quit = "Quit, and cancel what moves"
		}
		moving = true
		what, how := words(m)
		text = append(text, what) // without the rest: a tooltip does not run
		it := Item{Key: fmt.Sprint("move ", m.ID), Label: what + ": " + how, Sub: []Item{{Key: "open", Label: "Show", Do: do.Open}}}
		if !m.Elsewhere || m.Task != "" {
			it.Sub = append(it.Sub, Item{Key: "cancel", Label: "Cancel", Disabled: m.Cancelling, Do: func() { do.Cancel(m.ID) }})
		}
		add(it)
	}
	add(rule(len(menu) > moves, "moves")...)

	switch {
	case s.Link == model.NotRunning:
		text = append(text, "The background service does not run")
		add(Item{Key: "daemon", Label: "Start the background service", Do: do.StartDaemon})
	case s.Link != model.Up || !s.Loaded[model.PartPeers]:
		add(Item{Key: "daemon", Label: "Looking around…", Disabled: true})
	case len(peers) == 0:
		add(Item{Key: "pair", Label: "Pair a machine…", Do: do.Pair})
		text = append(text, "No machine is paired yet")
	default:
		add(bringMenu(peers, icon, do), sendMenu(s, peers, icon, do))
	}
	add(Item{Key: "line end", Separator: true}, Item{Key: "open", Label: "Open hither", Do: do.Open}, Item{Key: "quit", Label: quit, Do: do.Quit})

	switch {
	case len(waiting) > 0:
		l.State = Attention
		text = append(waiting, text...)
	case moving:
		l.State = Moving
	}
	l.Menu, l.Text = menu, html.EscapeString(strings.Join(text, "\n")) // panels take it for markup
	return l
}

func rule(yes bool, key string) []Item {
	if !yes {
		return nil
	}
	return []Item{{Key: "line " + key, Separator: true}}
}

// bringMenu is 'Move here'.
func bringMenu(peers []model.Machine, icon Icons, do Acts) Item {
	it := Item{Key: "bring", Label: "Move here", Opening: do.Refresh}
	for _, p := range peers {
		for _, a := range running(p.Apps) {
			it.Sub = append(it.Sub, Item{Key: p.ID + " " + a.ID, Label: a.Name + " @ " + p.Name, Icon: icon.of(a.ID, p.ID),
				Disabled: !p.Up(), Do: func() { do.Bring(a, p.ID) }})
		}
	}
	if len(it.Sub) == 0 {
		it.Sub = []Item{{Key: "none", Label: "Nothing runs on your other machines", Disabled: true}}
	}
	return it
}

// sendMenu is 'Send'.
func sendMenu(s model.State, peers []model.Machine, icon Icons, do Acts) Item {
	it := Item{Key: "send", Label: "Send"}
	for _, a := range running(s.Apps) {
		app := Item{Key: a.ID, Label: a.Name, Icon: icon.of(a.ID, "")}
		for _, p := range peers {
			to := Item{Key: p.ID, Label: p.Name, Do: func() { do.Send(a, p.ID) }}
			switch {
			case !p.Up():
				to.Disabled, to.Label = true, p.Name+" (not reachable)"
			case p.Abilities != nil && a.Windows > 0 && !p.Abilities.Display:
				to.Disabled, to.Label = true, p.Name+" (has no desktop)"
			}
			app.Sub = append(app.Sub, to)
		}
		it.Sub = append(it.Sub, app)
	}
	if len(it.Sub) == 0 {
		it.Sub = []Item{{Key: "none", Label: "No app of yours runs in hither", Disabled: true}}
	}
	it.Sub = append(it.Sub, Item{Key: "line", Separator: true}, Item{Key: "start", Label: "Start an app…", Do: do.Start})
	return it
}

func running(apps []control.App) []control.App {
	var out []control.App
	for _, a := range apps {
		if a.State == "running" {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b control.App) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return out
}

func question(q control.Question, do Acts) Item {
	it := Item{Key: "question " + q.ID, Label: q.Text}
	for _, a := range []struct{ answer, label string }{
		{control.AnswerOnce, "Yes, this time"},
		{control.AnswerAlways, "Yes, always"},
		{control.AnswerNo, "No"},
		{control.AnswerNever, "No, never"},
	} {
		it.Sub = append(it.Sub, Item{Key: a.answer, Label: a.label, Do: func() { do.Answer(q.ID, a.answer) }})
	}
	return it
}

func pairing(p control.Pairing, do Acts) Item {
	code := p.Code
	if len(code) == 6 {
		code = code[:3] + " " + code[3:]
	}
	return Item{Key: "pairing " + p.ID, Label: fmt.Sprintf("Pair with %s? Code %s", p.Name, code), Sub: []Item{
		{Key: "yes", Label: "The other machine shows the same code", Do: func() { do.Compare(p.ID, true) }},
		{Key: "no", Label: "It shows another code", Do: func() { do.Compare(p.ID, false) }},
		{Key: "line", Separator: true},
		{Key: "open", Label: "Show", Do: do.Open},
	}}
}

// words say what moves, and how far it is.
func words(m *model.Move) (what, how string) {
	arrow := "→"
	if m.Here {
		arrow = "←"
	}
	what = fmt.Sprintf("%s %s %s", m.Name, arrow, m.Peer)
	p := m.Progress
	if m.Cancelling {
		return what, "cancelling"
	}
	if p == nil {
		return what, "begins"
	}
	_, state, _ := strings.Cut(string(p.State), ":")
	switch state {
	case "offer":
		return what, "asking"
	case "prepare", "precopy", "freeze", "memory", "restore":
		if p.Total == 0 {
			return what, "moving"
		}
	default:
		return what, "nearly there"
	}
	how = fmt.Sprintf("%d %%", min(100, p.Done*100/p.Total))
	if p.Left >= 1 {
		how += ", " + seconds(p.Left)
	}
	return what, how
}

// seconds is about how long; it changes the seldomer the longer it is.
func seconds(s float64) string {
	switch {
	case s < 10:
		return fmt.Sprintf("%d s left", int(s+.5))
	case s < 60:
		return fmt.Sprintf("%d s left", int(s/5+.5)*5)
	}
	return fmt.Sprintf("%d min left", int(s/60+.5))
}
