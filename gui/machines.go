package gui

import (
	"context"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"hither/engine/control"
	"hither/gui/model"
)

// machines is the right side: the other machines, with what runs there.
type machines struct {
	w       *Window
	cards   map[string]*machineCard
	shown   []*machineCard
	list    *fyne.Container
	empty   *fyne.Container
	content *fyne.Container
	scroll  *container.Scroll
	all     *fyne.Container
}

func (w *Window) newMachines() *machines {
	m := &machines{w: w, cards: map[string]*machineCard{}}
	m.list = vstack(gap * 1.25)
	m.empty = vstack(gap, inset(gap*5, gap, 0, 0, centre(newSign(theme.ComputerIcon(), 48, colorMuted))),
		newText(1, "No other machine yet", head, centered),
		newText(4, "Start hither on another machine of this network: it shows up here by itself. Where it does not, pair with it by its address or a ticket.", muted, centered),
		centre(w.button("Pair a machine", w.OpenPairing).primary().with(theme.ContentAddIcon())))
	add := newPress("Pair", theme.ContentAddIcon(), func(*fyne.PointEvent) { w.OpenPairing() })
	top := row(gap, newText(1, "Machines", head, wide), container.NewWithoutLayout(), add)
	m.content = vstack(gap*1.25, atLeast(0, 24, top), m.empty, m.list)
	m.scroll = container.NewVScroll(inset(gap*2, gap*2, gap*1.5, gap*2, m.content))
	m.all = container.NewStack(newBlock(theme.ColorNameHeaderBackground, 0), container.NewBorder(nil, nil, fixed(1, 0, newBlock(theme.ColorNameSeparator, 0)), nil, m.scroll))
	return m
}

func (m *machines) update(s *model.State, search string) {
	var objects []fyne.CanvasObject
	m.shown = nil
	alive := map[string]bool{}
	changed := false
	for _, p := range s.Machines {
		alive[p.ID] = true
		c := m.cards[p.ID]
		if c == nil {
			c = m.w.newMachine()
			m.cards[p.ID] = c
		}
		changed = c.set(p, search) || changed
		objects = append(objects, c)
		m.shown = append(m.shown, c)
	}
	for id := range m.cards {
		if !alive[id] {
			delete(m.cards, id)
		}
	}
	changed = replace(m.list, objects) || changed
	empty := len(objects) == 0 && s.Loaded[model.PartPeers]
	if m.empty.Visible() != empty {
		show(m.empty, empty)
		changed = true
	}
	if changed {
		m.content.Refresh()
		m.scroll.Refresh()
	}
}

// nudge scrolls while an app is dragged along the upper or lower edge.
func (m *machines) nudge(at fyne.Position) {
	p := fyne.CurrentApp().Driver().AbsolutePositionForObject(m.scroll)
	s := m.scroll.Size()
	if at.X < p.X || at.X > p.X+s.Width {
		return
	}
	const edge, far = 36, 14
	by := float32(0)
	switch {
	case at.Y < p.Y+edge:
		by = -far
	case at.Y > p.Y+s.Height-edge:
		by = far
	}
	if by != 0 {
		m.scroll.ScrollToOffset(fyne.NewPos(0, m.scroll.Offset.Y+by))
	}
}

// machineCard is another machine. Apps can be dropped on it.
type machineCard struct {
	widget.BaseWidget
	w       *Window
	machine model.Machine
	apps    map[string]*remoteRow
	rows    []*remoteRow

	ground  *block
	dot     *block
	sign    *sign
	name    *text
	facts   *text
	pair    *press
	more    *press
	head    *choice
	warning *text
	warn    *fyne.Container
	limits  *text
	limit   *fyne.Container
	none    *text
	list    *fyne.Container
	body    *fyne.Container
	veil    *veil
	all     *fyne.Container
}

func (w *Window) newMachine() *machineCard {
	c := &machineCard{w: w, apps: map[string]*remoteRow{}, ground: newBlock(colorCard, radius).outlined(colorLine, 1),
		dot: newBlock(colorMuted, 6).outlined(colorCard, 2), sign: newSign(theme.ComputerIcon(), 24, colorAccent), name: newText(1, "", bold),
		facts: newText(1, "", small, muted), warning: newText(4, "", small, bold, colored(colorBad), shrink), limits: newText(3, "", small, colored(colorWarn), shrink),
		none: newText(1, "Nothing of hither runs there", small, muted), list: vstack(2), veil: newVeil()}
	c.pair = newPress("Pair", theme.ContentAddIcon(), func(*fyne.PointEvent) { w.pairWith(c.machine) })
	c.more = newPress("", theme.MoreVerticalIcon(), func(ev *fyne.PointEvent) { c.menu(ev) }).hush()
	badge := container.New(badgeLayout{}, newBlock(colorAccentBk, 10), c.sign, c.dot)
	c.head = w.choice(padded(4, row(gap*1.25, badge, vstack(1, c.name, c.facts), hstack(0, centre(c.pair), centre(c.more)))), nil)
	c.head.chosen = func(ev *fyne.PointEvent) { c.menu(ev) }
	c.head.second = c.head.chosen
	c.warn = container.NewStack(newBlock(colorBadBack, inner), padded(gap, container.NewBorder(nil, nil, inset(0, 0, 0, 6, container.NewVBox(newSign(theme.WarningIcon(), 16, colorBad))), nil, c.warning)))
	c.limit = container.NewBorder(nil, nil, inset(0, 0, 4, 6, container.NewVBox(newSign(theme.InfoIcon(), 16, colorWarn))), nil, c.limits)
	c.body = vstack(6, c.head, c.warn, c.limit, inset(0, 2, 4, 0, c.none), c.list)
	c.all = container.NewStack(c.ground, padded(gap, c.body), padded(1, c.veil))
	c.ExtendBaseWidget(c)
	return c
}

// badgeLayout: the sign in a square, the dot at its corner.
type badgeLayout struct{}

func (badgeLayout) MinSize([]fyne.CanvasObject) fyne.Size { return fyne.NewSize(40, 40) }
func (badgeLayout) Layout(o []fyne.CanvasObject, _ fyne.Size) {
	o[0].Resize(fyne.NewSize(40, 40))
	o[1].Resize(fyne.NewSize(24, 24))
	o[1].Move(fyne.NewPos(8, 8))
	o[2].Resize(fyne.NewSize(12, 12))
	o[2].Move(fyne.NewPos(31, 30))
}

func (c *machineCard) CreateRenderer() fyne.WidgetRenderer { return widget.NewSimpleRenderer(c.all) }

// set shows a machine, and says whether the card's height may have changed.
func (c *machineCard) set(m model.Machine, search string) bool {
	c.machine = m
	changed := false
	c.name.set(m.Name)
	c.facts.set(machineFacts(m, c.w.now()))
	dot, front := colorMuted, colorMuted
	switch {
	case m.Paired && m.Up():
		dot, front = colorGood, colorAccent
	case !m.Paired:
		dot, front = colorWarn, colorMuted
	}
	c.dot.set(dot, colorCard, 2)
	c.sign.set(theme.ComputerIcon(), front)
	hide := func(o fyne.CanvasObject, yes bool) {
		if o.Visible() != yes {
			show(o, yes)
			changed = true
		}
	}
	say := func(t *text, said string) {
		if t.said != said {
			t.set(said)
			changed = true
		}
	}
	say(c.warning, m.Warning)
	hide(c.warn, m.Warning != "")
	limits := machineLimits(m)
	if limits == "" && m.Paired && !m.Up() && m.Reason != "" {
		limits = m.Reason
	}
	if limits == "" {
		limits = m.AppsError
	}
	say(c.limits, limits)
	hide(c.limit, limits != "")
	hide(c.pair, !m.Paired)

	var rows []fyne.CanvasObject
	c.rows = nil
	alive := map[string]bool{}
	for _, a := range m.Apps {
		alive[a.ID] = true
		r := c.apps[a.ID]
		if r == nil {
			r = c.w.newRemote()
			c.apps[a.ID] = r
		}
		r.set(a, m, c.w.state.MoveOf(a))
		if matches(search, a.Name, a.Title, m.Name) {
			rows = append(rows, r.choice)
			c.rows = append(c.rows, r)
		}
	}
	for id := range c.apps {
		if !alive[id] {
			delete(c.apps, id)
		}
	}
	changed = replace(c.list, rows) || changed
	hide(c.list, len(rows) > 0)
	hide(c.none, m.Paired && m.Up() && len(m.Apps) == 0 && m.AppsError == "")
	if changed {
		c.body.Refresh()
		c.all.Refresh()
		c.Refresh()
	}
	return changed
}

func (c *machineCard) offer(d *drag) {
	a, on := d.says(c.machine.ID)
	if !on {
		c.veil.set(nil, "", false)
		return
	}
	c.veil.set(&a, "Move it to "+c.machine.Name, d.onOne && d.over == c.machine.ID)
}

func (c *machineCard) menu(ev *fyne.PointEvent) { c.w.openMenu(c.w.machineMenu(c.machine), ev) }

func (w *Window) machineMenu(m model.Machine) *fyne.Menu {
	if !m.Paired {
		return fyne.NewMenu("", fyne.NewMenuItem("Pair with "+m.Name+"…", func() { w.pairWith(m) }))
	}
	return fyne.NewMenu("",
		fyne.NewMenuItem("What it may do…", func() { w.openMachine(m.ID) }),
		fyne.NewMenuItem("Rename it…", func() { w.openRename(m) }),
		fyne.NewMenuItemSeparator(),
		fyne.NewMenuItem("Unpair…", func() { w.openUnpair(m) }))
}

// remoteRow is an app on another machine. It can be dragged here.
type remoteRow struct {
	choice  *choice
	app     control.App
	machine model.Machine
	move    *model.Move
	icon    *tile
	title   *text
	facts   *text
	bring   *press
	cancel  *press
	bar     *bar
}

func (w *Window) newRemote() *remoteRow {
	r := &remoteRow{icon: newTile(24), title: newText(1, ""), facts: newText(1, "", small, muted), bar: newBar()}
	r.bring = newPress("Bring here", nil, func(*fyne.PointEvent) { w.Model.Bring(r.app, r.machine.ID) })
	r.cancel = newPress("Cancel", nil, func(*fyne.PointEvent) {
		if r.move != nil {
			w.Model.Cancel(r.move.ID)
		}
	})
	r.bar.Hide()
	line := row(gap, r.icon, vstack(1, r.title, r.facts), container.NewStack(centre(r.bring), centre(r.cancel)))
	// The bar lies in the padding, so that nothing moves when it comes.
	r.choice = w.choice(container.NewStack(inset(5, 7, 6, 4, line), container.NewBorder(nil, inset(0, 1, 38, 4, r.bar), nil, nil)), nil)
	r.choice.second = func(ev *fyne.PointEvent) { w.openMenu(r.menu(w), ev) }
	r.choice.chosen = r.choice.second
	r.choice.dragged = func(ev *fyne.DragEvent) { w.dragged(r.app, r.machine.ID, nil, ev) }
	r.choice.dropped = w.dropped
	return r
}

func (r *remoteRow) set(a control.App, m model.Machine, mv *model.Move) {
	r.app, r.machine, r.move = a, m, mv
	r.icon.setName(a.Name)
	r.choice.w.pics.get("peer/"+m.ID+"/"+a.ID, func(ctx context.Context, d model.Daemon) ([]byte, error) {
		return d.PeerIcon(ctx, m.ID, a.ID, iconPixels)
	}, r.icon.setImage)
	r.title.set(appTitle(a))
	facts := []string{appFacts(a, r.choice.w.now())}
	tone := colorMuted
	moving := mv != nil && mv.Running()
	switch {
	case moving:
		facts = []string{moveDetail(mv)}
		r.bar.set(moveShare(mv))
	case mv != nil && mv.Moved() && !mv.Here:
		facts, tone = []string{"Arrived; it stood still for " + span(mv.Result.DowntimeMS)}, colorGood
	case mv != nil && mv.Here && !mv.Moved():
		said, hint, t := moveEnd(mv)
		facts, tone = []string{said, hint}, t.front()
	}
	r.facts.paint(tone)
	r.facts.set(strings.Trim(strings.Join(facts, " · "), " ·"))
	show(r.bar, moving)
	show(r.bring, !moving && canMove(a))
	show(r.cancel, moving && cancellable(mv))
}

func (r *remoteRow) menu(w *Window) *fyne.Menu {
	if r.move != nil && r.move.Running() {
		cancel := fyne.NewMenuItem("Cancel the move", func() { w.Model.Cancel(r.move.ID) })
		cancel.Disabled = !cancellable(r.move)
		return fyne.NewMenu("", cancel)
	}
	bring := fyne.NewMenuItem("Bring here", func() { w.Model.Bring(r.app, r.machine.ID) })
	bring.Disabled = !canMove(r.app)
	return fyne.NewMenu("", bring)
}

// iconOf is the icon of an app, if it has been fetched.
func (w *Window) iconOf(a control.App, from string) *picture {
	key := "app/" + a.ID
	if from != "" {
		key = "peer/" + from + "/" + a.ID
	}
	w.pics.mu.Lock()
	defer w.pics.mu.Unlock()
	return w.pics.known[key]
}
