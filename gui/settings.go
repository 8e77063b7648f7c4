package gui

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/gui/model"
)

// prefAppearance is where the choice of light and dark is kept.
const prefAppearance = "appearance"

func (w *Window) appearance() Appearance {
	return Appearance(w.app.Preferences().StringWithFallback(prefAppearance, string(AppearSystem)))
}

func (w *Window) setAppearance(a Appearance) {
	w.app.Preferences().SetString(prefAppearance, string(a))
	w.app.Settings().SetTheme(look{a})
}

var appearances = []string{"As the desktop", "Light", "Dark"}

func (w *Window) openSettings() {
	set := w.state.Settings
	var s *sheet
	body := vstack(gap * 1.5)
	line := func(label string, o fyne.CanvasObject) {
		body.Add(row(gap, container.NewWithoutLayout(), newText(1, label), fixed(190, o.MinSize().Height, o)))
	}
	change := func(f func(*control.Settings)) {
		w.Model.Do("Changing the settings", func(ctx context.Context, d model.Daemon) error {
			now, err := d.Settings(ctx)
			if err != nil {
				return err
			}
			next := *now
			next.Permissions = maps.Clone(now.Permissions)
			f(&next)
			_, err = d.ChangeSettings(ctx, next)
			w.Model.Again(model.PartSettings, model.PartStatus)
			return err
		}, nil)
	}
	var name *field
	if set != nil {
		name = w.field("Name")
		name.SetText(set.Name)
		name.OnSubmitted = func(string) { s.cancel() }
		line("This machine's name", name)
		seen := widget.NewCheck("Nearby machines can see this one", nil)
		seen.SetChecked(set.Discoverable)
		seen.OnChanged = func(on bool) { change(func(n *control.Settings) { n.Discoverable = on }) }
		body.Add(seen)
	}
	look := widget.NewSelect(appearances, nil)
	look.SetSelected(map[Appearance]string{AppearLight: appearances[1], AppearDark: appearances[2]}[w.appearance()])
	if look.Selected == "" {
		look.SetSelected(appearances[0])
	}
	look.OnChanged = func(v string) {
		w.setAppearance(map[string]Appearance{appearances[0]: AppearSystem, appearances[1]: AppearLight, appearances[2]: AppearDark}[v])
	}
	line("Colours", look)
	if w.Autostart != nil {
		auto := widget.NewCheck("Start hither with the desktop", nil)
		on, err := w.Autostart.On()
		auto.SetChecked(on)
		if err != nil {
			auto.Disable()
		}
		auto.OnChanged = func(on bool) {
			go func() { w.Model.Fail("Changing what starts with the desktop", w.Autostart.Set(on)) }()
		}
		body.Add(auto)
	}
	if set != nil {
		body.Add(newText(1, "A machine that is newly paired may", bold))
		for _, permit := range permits {
			body.Add(w.permission(permit, set.Permissions[permit], func(v string) {
				change(func(n *control.Settings) {
					if n.Permissions == nil {
						n.Permissions = map[string]string{}
					}
					n.Permissions[permit] = v
				})
			}))
		}
	} else {
		body.Add(paragraph("The background service has not told its settings.", muted))
	}
	version := w.state.Host.Version
	if version != "" {
		body.Add(newText(1, "hither "+version+" · ID "+short(w.state.Host.ID, 16), small, muted))
	}
	s = w.openSheet("settings", "Settings", scrolled(body, 400), 480, w.button("Done", func() { s.cancel() }).primary())
	s.closed = func() {
		if name == nil {
			return
		}
		said := strings.TrimSpace(name.Text)
		if said != "" && said != set.Name {
			change(func(n *control.Settings) { n.Name = said })
		}
	}
}

// openHistory lists the moves so far.
func (w *Window) openHistory() {
	list := vstack(gap*1.25, newText(1, "Looking…", muted))
	var s *sheet
	s = w.openSheet("history", "Moves so far", scrolled(list, w.room()), 560, w.button("Close", func() { s.cancel() }))
	w.Model.Do("", func(ctx context.Context, d model.Daemon) error {
		h, err := d.History(ctx)
		w.do(func() {
			list.Objects = nil
			defer s.fit()
			if err != nil {
				said, hint := model.Words(err)
				list.Add(callout(toneWarn, theme.InfoIcon(), said, hint))
				return
			}
			if len(h.Moves) == 0 {
				list.Add(paragraph("Nothing has moved yet. Drag an app onto a machine, and it is told here.", muted))
			}
			for _, m := range h.Moves {
				list.Add(w.pastMove(m))
			}
		})
		return nil
	}, nil)
}

func (w *Window) pastMove(m control.PastMove) fyne.CanvasObject {
	r := m.Result
	icon, t := theme.ConfirmIcon(), toneGood
	facts := fmt.Sprintf("in %s; stood still for %s · %s sent", span(r.TotalMS), span(r.DowntimeMS), bytesText(r.BytesSent))
	switch r.Outcome {
	case handover.Stayed:
		icon, t, facts = theme.CancelIcon(), toneWarn, "stayed: "+r.Reason
	case handover.Undecided:
		icon, t, facts = theme.WarningIcon(), toneBad, "undecided: "+r.Reason
	}
	tile := newTile(26)
	tile.setName(r.App)
	return row(gap*1.25, tile, vstack(1, newText(1, r.App+" from "+r.From+" to "+r.To, bold), newText(2, facts, small, shrink, colored(map[bool]fyne.ThemeColorName{true: colorMuted, false: t.front()}[t == toneGood])),
		newText(1, ago(m.When, w.now()), small, muted)), newSign(icon, 18, t.front()))
}

// openDoctor tells whether all that hither needs is there, with the cures.
func (w *Window) openDoctor() {
	list := vstack(gap, newText(1, "Looking…", muted))
	var s *sheet
	var load func()
	again := w.button("Look again", func() { load() })
	s = w.openSheet("doctor", "Is all well here?", scrolled(list, w.room()), 560, w.button("Close", func() { s.cancel() }), again)
	load = func() {
		again.Disable()
		w.Model.Do("", func(ctx context.Context, d model.Daemon) error {
			doc, err := d.Doctor(ctx)
			w.Model.Again(model.PartDoctor)
			w.do(func() {
				again.Enable()
				list.Objects = nil
				defer s.fit()
				if err != nil {
					said, hint := model.Words(err)
					list.Add(callout(toneWarn, theme.InfoIcon(), said, hint))
					return
				}
				w.listProbes(list, doc)
			})
			return nil
		}, nil)
	}
	load()
}

func (w *Window) listProbes(list *fyne.Container, doc *control.Doctor) {
	if doc.OK {
		list.Add(callout(toneGood, theme.ConfirmIcon(), "Apps can run and move on this machine.", ""))
	} else {
		list.Add(callout(toneBad, theme.WarningIcon(), "Apps cannot run or move on this machine yet.", "What is missing stands below, with what helps."))
	}
	for _, m := range doc.Moves {
		list.Add(callout(toneWarn, theme.InfoIcon(), m, ""))
	}
	// What needs a person first.
	for _, ok := range []bool{false, true} {
		for _, p := range doc.Probes {
			if p.OK != ok {
				continue
			}
			icon, t := theme.ConfirmIcon(), toneGood
			if !ok {
				icon, t = theme.InfoIcon(), toneWarn
				if p.Need {
					icon, t = theme.WarningIcon(), toneBad
				}
			}
			lines := []fyne.CanvasObject{newText(1, p.Name, bold)}
			if p.Detail != "" {
				lines = append(lines, paragraph(p.Detail, small, muted))
			}
			if !ok && p.Cure != "" {
				lines = append(lines, paragraph(p.Cure, small))
			}
			list.Add(container.NewBorder(nil, nil, inset(2, 0, 4, gap*1.25, container.NewVBox(newSign(icon, 18, t.front()))), nil, vstack(1, lines...)))
		}
	}
}

// openKeys tells the keys.
func (w *Window) openKeys() {
	keys := [][2]string{{"Tab, arrows", "go from card to card"}, {"Enter", "show the app's window, or its terminal"}, {"Space", "open the card's menu"},
		{"Ctrl+M", "move the app of the card to a machine"}, {"Delete", "stop it"}, {"any letter, Ctrl+F", "find an app or a machine"},
		{"Ctrl+N", "start an app"}, {"Ctrl+P", "pair a machine"}, {"Ctrl+H", "moves so far"}, {"Ctrl+,", "settings"}, {"Escape", "let go of what is dragged; close; see everything again"}}
	list := vstack(6)
	for _, k := range keys {
		list.Add(row(gap, fixed(150, 20, newText(1, k[0], bold)), newText(1, k[1]), container.NewWithoutLayout()))
	}
	var s *sheet
	s = w.openSheet("keys", "Keys", list, 520, w.button("Close", func() { s.cancel() }).primary())
}
