package gui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// button is a button that Enter presses, too; Escape on it goes to the window.
type button struct {
	widget.Button
	w *Window
}

func (w *Window) button(label string, tapped func()) *button {
	b := &button{w: w}
	b.Text, b.OnTapped = label, tapped
	b.ExtendBaseWidget(b)
	return b
}

func (b *button) primary() *button { b.Importance = widget.HighImportance; return b }
func (b *button) danger() *button  { b.Importance = widget.DangerImportance; return b }
func (b *button) plain() *button   { b.Importance = widget.LowImportance; return b }

func (b *button) with(icon fyne.Resource) *button { b.SetIcon(icon); return b }

func (b *button) TypedKey(ev *fyne.KeyEvent) {
	switch ev.Name {
	case fyne.KeyReturn, fyne.KeyEnter:
		b.Tapped(nil)
	case fyne.KeyEscape:
		b.w.escape()
	default:
		b.Button.TypedKey(ev)
	}
}

// say changes its text, and draws only if it is another one.
func (b *button) say(label string) {
	if b.Text != label {
		b.SetText(label)
	}
}

// field is a line to type into.
type field struct {
	widget.Entry
	w *Window
}

func (w *Window) field(placeHolder string) *field {
	f := &field{w: w}
	f.PlaceHolder = placeHolder
	f.ExtendBaseWidget(f)
	return f
}

func (f *field) TypedKey(ev *fyne.KeyEvent) {
	if ev.Name == fyne.KeyEscape {
		f.w.escape()
		return
	}
	f.Entry.TypedKey(ev)
}

func (f *field) TypedShortcut(s fyne.Shortcut) {
	if c, ok := s.(*desktop.CustomShortcut); ok && f.w.shortcut(c) {
		return
	}
	f.Entry.TypedShortcut(s)
}

// press is a small button within a card: a text, an icon, or both. It is no stop of the Tab key: the
// card is one, and its menu has the same.
type press struct {
	widget.BaseWidget
	label   *text
	sign    *sign
	ground  *block
	tapped  func(*fyne.PointEvent)
	tone    fyne.ThemeColorName
	quiet   bool // no ground until the pointer is over it
	hovered bool
	content *fyne.Container
}

func newPress(label string, icon fyne.Resource, tapped func(*fyne.PointEvent)) *press {
	p := &press{ground: newBlock("", inner), tapped: tapped, tone: theme.ColorNameForeground}
	var parts []fyne.CanvasObject
	if icon != nil {
		p.sign = newSign(icon, 16, p.tone)
		parts = append(parts, centre(p.sign))
	}
	side := float32(6)
	if label != "" {
		p.label = newText(1, label, small, wide)
		parts = append(parts, centre(p.label))
		side = 10
	}
	p.content = container.NewStack(p.ground, inset(4, 4, side, side, hstack(5, parts...)))
	p.ExtendBaseWidget(p)
	p.paint()
	return p
}

func (p *press) hush() *press { p.quiet = true; p.paint(); return p }

func (p *press) paint() {
	fill := theme.ColorNameButton
	if p.quiet {
		fill = ""
	}
	if p.hovered {
		fill = colorAccentBk
	}
	p.ground.set(fill, "", 0)
}

func (p *press) CreateRenderer() fyne.WidgetRenderer { return widget.NewSimpleRenderer(p.content) }
func (p *press) Tapped(ev *fyne.PointEvent)          { p.tapped(ev) }
func (p *press) MouseIn(*desktop.MouseEvent)         { p.hovered = true; p.paint() }
func (p *press) MouseMoved(*desktop.MouseEvent)      {}
func (p *press) MouseOut()                           { p.hovered = false; p.paint() }
func (p *press) Cursor() desktop.Cursor              { return desktop.PointerCursor }

// choice is a row of a list that can be chosen with the pointer, Enter or Space.
type choice struct {
	widget.BaseWidget
	w       *Window
	ground  *block
	content *fyne.Container
	chosen  func(*fyne.PointEvent) // nil: it cannot be
	second  func(*fyne.PointEvent) // by the other mouse button, or the menu key
	dragged func(*fyne.DragEvent)
	dropped func()
	hovered bool
	focused bool
	resting fyne.ThemeColorName
	key     func(*fyne.KeyEvent) bool
}

func (w *Window) choice(content fyne.CanvasObject, chosen func(*fyne.PointEvent)) *choice {
	c := &choice{w: w, ground: newBlock("", inner), chosen: chosen}
	c.content = container.NewStack(c.ground, content)
	c.ExtendBaseWidget(c)
	return c
}

func (c *choice) paint() {
	fill, stroke := c.resting, fyne.ThemeColorName("")
	if c.hovered && c.chosen != nil {
		fill = colorAccentBk
	}
	width := float32(0)
	if c.focused {
		stroke, width = theme.ColorNamePrimary, 2
	}
	c.ground.set(fill, stroke, width)
}

func (c *choice) CreateRenderer() fyne.WidgetRenderer { return widget.NewSimpleRenderer(c.content) }
func (c *choice) MouseIn(*desktop.MouseEvent)         { c.hovered = true; c.paint() }
func (c *choice) MouseMoved(*desktop.MouseEvent)      {}
func (c *choice) MouseOut()                           { c.hovered = false; c.paint() }
func (c *choice) FocusGained()                        { c.focused = true; c.paint(); c.w.reveal(c) }
func (c *choice) FocusLost()                          { c.focused = false; c.paint() }
func (c *choice) TypedRune(r rune)                    { c.w.typed(r) }

func (c *choice) Tapped(ev *fyne.PointEvent) {
	if c.chosen != nil {
		c.chosen(ev)
	}
}

func (c *choice) TappedSecondary(ev *fyne.PointEvent) {
	if c.second != nil {
		c.second(ev)
	}
}

func (c *choice) TypedKey(ev *fyne.KeyEvent) {
	if c.key != nil && c.key(ev) {
		return
	}
	switch ev.Name {
	case fyne.KeyReturn, fyne.KeyEnter, fyne.KeySpace:
		if c.chosen != nil {
			c.chosen(c.w.below(c))
		}
	case desktop.KeyMenu:
		if c.second != nil {
			c.second(c.w.below(c))
		}
	case fyne.KeyUp, fyne.KeyDown, fyne.KeyLeft, fyne.KeyRight:
		c.w.step(c, ev.Name)
	case fyne.KeyEscape:
		c.w.escape()
	}
}

func (c *choice) Dragged(ev *fyne.DragEvent) {
	if c.dragged != nil {
		c.dragged(ev)
	}
}

func (c *choice) DragEnd() {
	if c.dropped != nil {
		c.dropped()
	}
}

// below is where a menu opens that was asked for by a key.
func (w *Window) below(o fyne.CanvasObject) *fyne.PointEvent {
	at := fyne.CurrentApp().Driver().AbsolutePositionForObject(o)
	rel := fyne.NewPos(gap*2, min(o.Size().Height, 40))
	return &fyne.PointEvent{AbsolutePosition: at.Add(rel), Position: rel}
}

// newPicture makes an image that keeps its shape.
func newPicture(corner float32) *canvas.Image {
	return &canvas.Image{FillMode: canvas.ImageFillContain, ScaleMode: canvas.ImageScaleSmooth, CornerRadius: corner}
}
