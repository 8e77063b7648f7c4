package gui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"

	"hither/gui/model"
)

// Everything that the pointer can do, the keys can do: Tab and the arrows go from card to card,
// Space opens a card's menu, Enter its app, and what is typed is searched for.

// keys sets the keys of the window.
func (w *Window) keys() {
	c := w.win.Canvas()
	for _, key := range []fyne.KeyName{fyne.KeyF, fyne.KeyN, fyne.KeyP, fyne.KeyH, fyne.KeyM, fyne.KeyComma, fyne.KeyW} {
		c.AddShortcut(&desktop.CustomShortcut{KeyName: key, Modifier: fyne.KeyModifierControl}, func(s fyne.Shortcut) {
			w.shortcut(s.(*desktop.CustomShortcut))
		})
	}
	c.SetOnTypedKey(func(ev *fyne.KeyEvent) {
		switch ev.Name {
		case fyne.KeyEscape:
			w.escape()
		case fyne.KeyF1:
			w.openKeys()
		case fyne.KeyUp, fyne.KeyDown, fyne.KeyLeft, fyne.KeyRight:
			w.step(nil, ev.Name)
		}
	})
	c.SetOnTypedRune(w.typed)
}

// shortcut does what a key with Ctrl does, and says whether there is such a one.
func (w *Window) shortcut(s *desktop.CustomShortcut) bool {
	if s.Modifier != fyne.KeyModifierControl || w.state.Link != model.Up {
		return false
	}
	if len(w.sheets) > 0 {
		return false
	}
	switch s.KeyName {
	case fyne.KeyF:
		w.win.Canvas().Focus(w.header.search)
	case fyne.KeyN:
		w.OpenStart()
	case fyne.KeyP:
		w.OpenPairing()
	case fyne.KeyH:
		w.openHistory()
	case fyne.KeyComma:
		w.openSettings()
	case fyne.KeyM:
		if c, ok := w.win.Canvas().Focused().(*appCard); ok && canMove(c.app) {
			w.openMove(c.app)
		}
	default:
		return false
	}
	return true
}

// escape lets go of what is dragged, or closes the upper sheet, or ends the search.
func (w *Window) escape() {
	switch {
	case w.drag != nil && !w.drag.gone:
		w.cancelDrag()
	case len(w.sheets) > 0:
		w.sheets[len(w.sheets)-1].cancel()
	case w.search != "":
		w.header.search.SetText("")
	default:
		w.win.Canvas().Unfocus()
	}
}

// find shows what matches.
func (w *Window) find(search string) {
	w.search = search
	w.render()
}

// typed begins a search with what was typed outside of it.
func (w *Window) typed(r rune) {
	if len(w.sheets) > 0 || w.drag != nil || w.state.Link != model.Up || r == ' ' {
		return
	}
	w.win.Canvas().Focus(w.header.search)
	w.header.search.TypedRune(r)
}

// stops are what the arrows go to.
func (w *Window) stops() []fyne.CanvasObject {
	var list []fyne.CanvasObject
	for _, c := range w.here.shown {
		list = append(list, c)
	}
	for _, r := range w.here.rows {
		list = append(list, r.choice)
	}
	for _, m := range w.machines.shown {
		list = append(list, m.head)
		for _, r := range m.rows {
			list = append(list, r.choice)
		}
	}
	return list
}

// step moves the focus to the next card in a direction. Within a sheet it goes up and down.
func (w *Window) step(from fyne.CanvasObject, key fyne.KeyName) {
	if len(w.sheets) > 0 {
		if key == fyne.KeyUp || key == fyne.KeyLeft {
			w.win.Canvas().FocusPrevious()
		} else {
			w.win.Canvas().FocusNext()
		}
		return
	}
	stops := w.stops()
	if len(stops) == 0 {
		return
	}
	if from == nil {
		w.win.Canvas().Focus(stops[0].(fyne.Focusable))
		return
	}
	middle := func(o fyne.CanvasObject) fyne.Position {
		p := fyne.CurrentApp().Driver().AbsolutePositionForObject(o)
		return p.AddXY(o.Size().Width/2, o.Size().Height/2)
	}
	at := middle(from)
	var best fyne.CanvasObject
	var least float32
	for _, o := range stops {
		if o == from {
			continue
		}
		d := middle(o).Subtract(at)
		along, across := d.X, d.Y
		switch key {
		case fyne.KeyUp:
			along, across = -d.Y, d.X
		case fyne.KeyDown:
			along, across = d.Y, d.X
		case fyne.KeyLeft:
			along, across = -d.X, d.Y
		}
		if along < 8 {
			continue
		}
		far := along + 2.5*max(across, -across)
		if best == nil || far < least {
			best, least = o, far
		}
	}
	if best != nil {
		w.win.Canvas().Focus(best.(fyne.Focusable))
	}
}

// reveal scrolls so that what has got the focus can be seen.
func (w *Window) reveal(o fyne.CanvasObject) {
	driver := fyne.CurrentApp().Driver()
	p, s := driver.AbsolutePositionForObject(o), o.Size()
	if s.IsZero() {
		return
	}
	scrolls := []interface {
		fyne.CanvasObject
		ScrollToOffset(fyne.Position)
	}{w.here.scroll, w.machines.scroll}
	for i, sc := range scrolls {
		at, size := driver.AbsolutePositionForObject(sc), sc.Size()
		if p.X < at.X || p.X >= at.X+size.Width || len(w.sheets) > 0 {
			continue
		}
		offset := w.here.scroll.Offset.Y
		if i == 1 {
			offset = w.machines.scroll.Offset.Y
		}
		switch {
		case p.Y < at.Y+gap:
			sc.ScrollToOffset(fyne.NewPos(0, offset-(at.Y+gap-p.Y)))
		case p.Y+s.Height > at.Y+size.Height-gap:
			sc.ScrollToOffset(fyne.NewPos(0, offset+(p.Y+s.Height)-(at.Y+size.Height-gap)))
		}
	}
}
