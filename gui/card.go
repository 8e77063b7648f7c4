package gui

import (
	"context"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"hither/engine/control"
	"hither/gui/model"
)

// appCard shows an app of this machine. It can be dragged onto a machine.
type appCard struct {
	widget.BaseWidget
	w    *Window
	app  control.App
	move *model.Move
	seen *picture // the thumbnail

	hovered, focused bool

	ground, well   *block
	thumb          *canvas.Image
	big            *tile // in place of a thumbnail
	icon           *tile
	title, facts   *text
	badge          *pill
	why            *press
	more, send     *press
	head, detail   *text
	bar            *bar
	cancel, forget *press
	end            *text
	act            *press // an undecided move
	tell           *press // all that is to be said of a move that failed
}

// Measures of a card.
const (
	cardWidth  float32 = 224 // at least
	cardHeight float32 = 248
	cardPad    float32 = 10
	thumbHigh  float32 = 130
)

func (w *Window) newCard() *appCard {
	c := &appCard{w: w, ground: newBlock(colorCard, radius).outlined(colorLine, 1), well: newBlock(colorWell, inner),
		thumb: newPicture(6), big: newTile(52), icon: newTile(30), title: newText(1, "", bold), facts: newText(1, "", small, muted),
		badge: newPill("", toneGood), bar: newBar(), head: newText(1, "", small, bold), detail: newText(1, "", small, muted), end: newText(2, "", small)}
	c.more = newPress("", theme.MoreVerticalIcon(), func(ev *fyne.PointEvent) { c.menu(ev) }).hush()
	c.send = newPress("Move…", theme.MailForwardIcon(), func(*fyne.PointEvent) { w.openMove(c.app) })
	c.why = newPress("Why?", nil, func(*fyne.PointEvent) { w.openWhy(c.app) }).hush()
	c.cancel = newPress("Cancel", nil, func(*fyne.PointEvent) {
		if c.move != nil {
			w.Model.Cancel(c.move.ID)
		}
	})
	c.forget = newPress("", theme.CancelIcon(), func(*fyne.PointEvent) {
		if c.move != nil {
			w.Model.Forget(c.move.ID)
		}
	}).hush()
	c.tell = newPress("More…", nil, func(*fyne.PointEvent) {
		if c.move != nil {
			w.openEnd(c.app, c.move)
		}
	}).hush()
	c.act = newPress("Decide…", nil, func(*fyne.PointEvent) { w.openDecide(c.app) })
	c.thumb.Hide()
	c.ExtendBaseWidget(c)
	return c
}

// set shows an app and its move; nothing is drawn that has not changed.
func (c *appCard) set(a control.App, mv *model.Move) {
	if a.ID != c.app.ID {
		c.seen = nil
		c.thumb.Image = nil
	}
	c.app, c.move = a, mv
	c.icon.setName(a.Name)
	c.big.setName(a.Name)
	c.w.pics.get("app/"+a.ID, func(ctx context.Context, d model.Daemon) ([]byte, error) {
		return d.Icon(ctx, a.ID, iconPixels)
	}, func(p *picture) {
		c.icon.setImage(p)
		c.big.setImage(p)
	})
	c.title.set(appTitle(a))
	facts := appFacts(a, c.w.now())
	if a.Origin != "" {
		facts = strings.TrimSuffix("from "+a.Origin+" · "+facts, " · ")
	}
	c.facts.set(facts)
	b := appBadge(a)
	c.badge.set(b.text, b.tone)
	ended := mv != nil && !mv.Running()
	moving := mv != nil && mv.Running()
	decide := a.State == "undecided" || a.State == "waiting"
	show(c.badge, !moving && !ended)
	show(c.why, !moving && !ended && len(b.why) > 0)
	show(c.send, !moving && !ended && canMove(a) && len(b.why) == 0)
	show(c.act, !moving && !ended && decide)
	show(c.head, moving)
	show(c.detail, moving)
	show(c.bar, moving)
	show(c.cancel, moving && cancellable(mv))
	show(c.end, ended)
	show(c.forget, ended)
	show(c.tell, ended && !mv.Moved() && !cancelled(mv))
	if moving {
		c.head.set(moveHead(mv))
		c.detail.set(moveDetail(mv))
		c.bar.set(moveShare(mv))
	}
	if ended {
		said, hint, t := moveEnd(mv)
		if hint != "" && t != toneGood {
			said += ". " + hint
		}
		c.end.paint(t.front())
		c.end.set(said)
	}
	fade := 0.0
	if a.State == "gone" || moving {
		fade = 0.45
	}
	if c.thumb.Translucency != fade {
		c.thumb.Translucency = fade
		c.thumb.Refresh()
	}
	c.paint()
	c.Refresh()
}

func show(o fyne.CanvasObject, yes bool) {
	if o.Visible() == yes {
		return
	}
	if yes {
		o.Show()
	} else {
		o.Hide()
	}
}

// show puts a thumbnail onto the card, if it still is that app's.
func (c *appCard) show(id string, p *picture) {
	if c.app.ID != id || c.seen != nil && c.seen.sum == p.sum {
		return
	}
	first := c.seen == nil
	c.seen = p
	c.thumb.Image = p.image
	show(c.thumb, true)
	show(c.big, false)
	c.thumb.Refresh()
	if first {
		c.Refresh()
	}
}

func (c *appCard) paint() {
	fill, stroke, width := colorCard, colorLine, float32(1)
	if c.hovered {
		fill = colorCardHover
	}
	if c.focused {
		stroke, width = theme.ColorNamePrimary, 2
	}
	if c.ground.lifted != c.hovered {
		c.ground.lifted = c.hovered
		c.ground.Refresh()
	}
	c.ground.set(fill, stroke, width)
}

func (c *appCard) CreateRenderer() fyne.WidgetRenderer {
	return &cardRenderer{c, []fyne.CanvasObject{c.ground, c.well, c.big, c.thumb, c.icon, c.title, c.facts, c.more,
		c.badge, c.why, c.send, c.act, c.head, c.cancel, c.bar, c.detail, c.end, c.forget, c.tell}}
}

type cardRenderer struct {
	c       *appCard
	objects []fyne.CanvasObject
}

func (r *cardRenderer) Destroy()                     {}
func (r *cardRenderer) Objects() []fyne.CanvasObject { return r.objects }
func (r *cardRenderer) MinSize() fyne.Size           { return fyne.NewSize(cardWidth, cardHeight) }
func (r *cardRenderer) Refresh()                     { r.Layout(r.c.Size()) }

func (r *cardRenderer) Layout(s fyne.Size) {
	c := r.c
	at := func(o fyne.CanvasObject, x, y, w, h float32) {
		if pos := fyne.NewPos(x, y); o.Position() != pos {
			o.Move(pos)
		}
		if size := fyne.NewSize(w, h); o.Size() != size {
			o.Resize(size)
		}
	}
	at(c.ground, 0, 0, s.Width, s.Height)
	wide := s.Width - 2*cardPad
	at(c.well, cardPad, cardPad, wide, thumbHigh)
	at(c.thumb, cardPad+2, cardPad+2, wide-4, thumbHigh-4)
	at(c.big, (s.Width-52)/2, cardPad+(thumbHigh-52)/2, 52, 52)
	y := cardPad + thumbHigh + 10
	at(c.icon, cardPad, y+2, 30, 30)
	at(c.title, cardPad+38, y, wide-38-30, c.title.MinSize().Height)
	at(c.facts, cardPad+38, y+17, wide-38-30, c.facts.MinSize().Height)
	m := c.more.MinSize()
	at(c.more, s.Width-cardPad-m.Width+4, y+(34-m.Height)/2, m.Width, m.Height)
	y += 34 + 10
	low := s.Height - cardPad - y // what is left below
	middle := func(o fyne.CanvasObject, x float32, fromRight bool) {
		m := o.MinSize()
		if fromRight {
			x -= m.Width
		}
		at(o, x, y+(low-m.Height)/2, m.Width, m.Height)
	}
	middle(c.badge, cardPad, false)
	middle(c.send, s.Width-cardPad, true)
	middle(c.act, s.Width-cardPad, true)
	middle(c.why, s.Width-cardPad, true)
	m = c.cancel.MinSize()
	at(c.cancel, s.Width-cardPad-m.Width, y-4, m.Width, m.Height)
	at(c.head, cardPad, y, wide-m.Width-6, c.head.MinSize().Height)
	at(c.bar, cardPad, y+23, wide, 6)
	at(c.detail, cardPad, y+32, wide, c.detail.MinSize().Height)
	m = c.forget.MinSize()
	side := m.Width
	at(c.forget, s.Width-cardPad-m.Width+4, y-4, m.Width, m.Height)
	if c.tell.Visible() {
		m = c.tell.MinSize()
		side = m.Width
		at(c.tell, s.Width-cardPad-m.Width+4, s.Height-cardPad-m.Height+2, m.Width, m.Height)
	}
	at(c.end, cardPad, y+4, wide-side-4, c.end.MinSize().Height)
}

func (c *appCard) MouseIn(*desktop.MouseEvent)    { c.hovered = true; c.paint() }
func (c *appCard) MouseMoved(*desktop.MouseEvent) {}
func (c *appCard) MouseOut()                      { c.hovered = false; c.paint() }
func (c *appCard) FocusGained()                   { c.focused = true; c.paint(); c.w.reveal(c) }
func (c *appCard) FocusLost()                     { c.focused = false; c.paint() }
func (c *appCard) TypedRune(r rune)               { c.w.typed(r) }
func (c *appCard) MouseUp(*desktop.MouseEvent)    {}
func (c *appCard) MouseDown(*desktop.MouseEvent)  { c.w.win.Canvas().Focus(c) }
func (c *appCard) Tapped(*fyne.PointEvent)        {}
func (c *appCard) DoubleTapped(*fyne.PointEvent)  { c.w.openApp(c.app) }
func (c *appCard) TappedSecondary(ev *fyne.PointEvent) {
	c.w.win.Canvas().Focus(c)
	c.menu(ev)
}

func (c *appCard) TypedKey(ev *fyne.KeyEvent) {
	switch ev.Name {
	case fyne.KeyReturn, fyne.KeyEnter:
		c.w.openApp(c.app)
	case fyne.KeySpace, desktop.KeyMenu:
		c.menu(c.w.below(c))
	case fyne.KeyDelete:
		c.w.openStop(c.app)
	case fyne.KeyUp, fyne.KeyDown, fyne.KeyLeft, fyne.KeyRight:
		c.w.step(c, ev.Name)
	case fyne.KeyEscape:
		c.w.escape()
	}
}

func (c *appCard) Dragged(ev *fyne.DragEvent) { c.w.dragged(c.app, "", c.seen, ev) }
func (c *appCard) DragEnd()                   { c.w.dropped() }

// menu is all that can be done with the app.
func (c *appCard) menu(ev *fyne.PointEvent) { c.w.openMenu(c.w.appMenu(c.app), ev) }

func (w *Window) appMenu(a control.App) *fyne.Menu {
	item := func(label string, act func(), able bool) *fyne.MenuItem {
		i := fyne.NewMenuItem(label, act)
		i.Disabled = !able
		return i
	}
	open := "Show its window"
	if byTerminal(a) {
		open = "Open its terminal"
	}
	able := canMove(a)
	var items []*fyne.MenuItem
	if mv := w.state.MoveOf(a); mv != nil && mv.Running() {
		items = append(items, item("Cancel the move", func() { w.Model.Cancel(mv.ID) }, cancellable(mv)), fyne.NewMenuItemSeparator())
	}
	if a.State == "undecided" || a.State == "waiting" {
		items = append(items, item("Decide where it runs…", func() { w.openDecide(a) }, true), fyne.NewMenuItemSeparator())
	}
	items = append(items, item(open, func() { w.openApp(a) }, able), item("Move to…", func() { w.openMove(a) }, able))
	if len(a.Problems) > 0 {
		items = append(items, item("Why can't it move?", func() { w.openWhy(a) }, true))
	}
	items = append(items, item("Files it took along…", func() { w.openFiles(a) }, true), fyne.NewMenuItemSeparator(),
		item("Stop it…", func() { w.openStop(a) }, able))
	return fyne.NewMenu("", items...)
}
