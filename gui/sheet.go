package gui

import (
	"slices"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// sheet is a dialog over the window. There may be several; Escape closes the upper one.
type sheet struct {
	w      *Window
	key    string // one of each kind
	popup  *widget.PopUp
	closed func() // after it was closed by the person
	sticky bool   // Escape does not close it
	update func() // each time the State changed
}

// sheetWidth is how wide a sheet wants to be; a small window makes it smaller.
const sheetWidth float32 = 440

// openSheet shows a dialog; one with the same key is replaced. buttons stand in its last line,
// from the right, the first one being the one that Enter presses.
func (w *Window) openSheet(key, heading string, body fyne.CanvasObject, width float32, buttons ...*button) *sheet {
	s := &sheet{w: w, key: key}
	w.closeSheet(key)
	close := newPress("", theme.CancelIcon(), func(*fyne.PointEvent) { s.cancel() }).hush()
	top := row(gap, container.NewWithoutLayout(), newText(1, heading, title), close)
	var bottom fyne.CanvasObject
	if len(buttons) > 0 {
		line := make([]fyne.CanvasObject, 0, len(buttons))
		for _, b := range slices.Backward(buttons) {
			line = append(line, b)
		}
		bottom = inset(gap, 0, 0, 0, row(0, container.NewWithoutLayout(), container.NewWithoutLayout(), hstack(gap, line...)))
	}
	content := container.NewBorder(inset(0, gap, 0, 0, top), bottom, nil, nil, body)
	frame := container.New(&sheetLayout{w: w, width: width}, inset(gap*2, gap*2, gap*2.5, gap*2.5, content))
	s.popup = widget.NewModalPopUp(frame, w.win.Canvas())
	w.sheets = append(w.sheets, s)
	s.popup.Show()
	for _, b := range buttons {
		if !b.Disabled() {
			w.win.Canvas().Focus(b)
			break
		}
	}
	return s
}

// sheetLayout is as wide as wanted, if the window is wide enough.
type sheetLayout struct {
	w     *Window
	width float32
}

func (l *sheetLayout) MinSize(o []fyne.CanvasObject) fyne.Size {
	room := l.w.win.Canvas().Size()
	width := l.width
	if room.Width > 0 {
		width = min(width, room.Width-gap*4)
	}
	if len(o) == 0 {
		return fyne.NewSize(width, 0)
	}
	// Text that wraps needs to know its width before its height.
	c := o[0]
	if c.Size().Width != width {
		c.Resize(fyne.NewSize(width, c.Size().Height))
	}
	height := c.MinSize().Height
	if room.Height > 0 {
		height = min(height, room.Height-gap*4)
	}
	return fyne.NewSize(width, height)
}

func (l *sheetLayout) Layout(o []fyne.CanvasObject, size fyne.Size) {
	for _, c := range o {
		c.Resize(size)
		c.Move(fyne.Position{})
	}
}

// fit gives the sheet the height that its text wants now.
func (s *sheet) fit() {
	s.popup.Content.Refresh()
	s.popup.Refresh()
	// Twice: text that wraps learns its width by the first one.
	s.popup.Resize(s.popup.MinSize())
	s.popup.Content.Refresh()
	s.popup.Resize(s.popup.MinSize())
}

// cancel is what Escape and the cross do.
func (s *sheet) cancel() {
	if s.sticky {
		return
	}
	s.close()
	if s.closed != nil {
		s.closed()
	}
}

func (s *sheet) close() {
	// A field that keeps the focus would go on drawing its cursor, unseen.
	s.w.win.Canvas().Unfocus()
	s.popup.Hide()
	s.w.sheets = slices.DeleteFunc(s.w.sheets, func(o *sheet) bool { return o == s })
}

func (w *Window) sheet(key string) *sheet {
	for _, s := range w.sheets {
		if s.key == key {
			return s
		}
	}
	return nil
}

func (w *Window) closeSheet(key string) {
	if s := w.sheet(key); s != nil {
		s.close()
	}
}

// paragraph is text of a sheet that wraps.
func paragraph(said string, options ...textOption) *text {
	return newText(12, said, append([]textOption{shrink}, options...)...)
}

// callout is text on a coloured ground: a warning, a cure.
func callout(t tone, icon fyne.Resource, said, hint string) fyne.CanvasObject {
	lines := []fyne.CanvasObject{paragraph(said, bold, colored(t.front()))}
	if hint != "" {
		lines = append(lines, paragraph(hint))
	}
	return container.NewStack(newBlock(t.back(), inner),
		padded(gap*1.25, container.NewBorder(nil, nil, inset(1, 0, 0, gap, container.NewVBox(newSign(icon, 18, t.front()))), nil, vstack(4, lines...))))
}

// confirm asks before something that cannot be taken back.
func (w *Window) confirm(key, heading, said, yes string, dangerous bool, act func()) {
	var s *sheet
	ok := w.button(yes, func() { s.close(); act() })
	if dangerous {
		ok.danger()
	} else {
		ok.primary()
	}
	no := w.button("Cancel", func() { s.cancel() })
	s = w.openSheet(key, heading, paragraph(said), sheetWidth, ok, no)
	if dangerous {
		w.win.Canvas().Focus(no)
	}
}
