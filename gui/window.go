package gui

import (
	"context"
	"sync/atomic"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"hither/assets"
	"hither/engine/control"
	"hither/gui/model"
)

// Window is hither's main window. Its methods may be called from any goroutine once the program
// runs, if not said otherwise; everything else of it belongs to the main goroutine.
type Window struct {
	// Model is what the window shows. The tray may show the same.
	Model *model.Model
	// Autostart, if set, is offered among the settings: whether hither starts with the desktop.
	Autostart Switch

	app   fyne.App
	win   fyne.Window
	do    func(func()) // runs something on the main goroutine
	now   func() time.Time
	spawn func(argv []string) error
	pics  *pictures
	look  chan struct{} // thumbnails are wanted now

	pending          atomic.Bool // a render is on its way
	visible, focused atomic.Bool

	state    model.State
	search   string
	drag     *drag
	sheets   []*sheet
	settled  map[string]bool // pairings whose end the person has seen
	answered map[string]bool // questions that were answered here

	header   *header
	here     *here
	machines *machines
	layer    *fyne.Container // the ghost of what is dragged
	notices  *notices
	listener *listener
	body     fyne.CanvasObject
	away     *away
}

// Switch is a choice of the person that is kept outside of the daemon.
type Switch interface {
	On() (bool, error)
	Set(on bool) error
}

// New makes the window and its model; Run sets them going. It is called on the main goroutine.
func New(app fyne.App, dial model.Dial) *Window {
	w := newWindow(app, dial, model.DefaultPulse, fyne.Do)
	app.Lifecycle().SetOnEnteredForeground(func() { w.focus(true) })
	app.Lifecycle().SetOnExitedForeground(func() { w.focus(false) })
	return w
}

// Measures of the window.
const (
	windowWidth  float32 = 1120
	windowHeight float32 = 740
)

func newWindow(app fyne.App, dial model.Dial, pulse model.Pulse, do func(func())) *Window {
	w := &Window{app: app, do: do, now: time.Now, spawn: spawn, look: make(chan struct{}, 1), settled: map[string]bool{}, answered: map[string]bool{}}
	w.Model = model.New(dial, pulse, w.changed)
	w.pics = newPictures(w.Model, do)
	app.SetIcon(fyne.NewStaticResource("hither.png", assets.AppIcon))
	app.Settings().SetTheme(look{w.appearance()})
	w.win = app.NewWindow("hither")
	w.win.SetPadded(false)
	w.win.SetMaster()
	w.listener = newListener(w)
	w.header = w.newHeader()
	w.here = w.newHere()
	w.machines = w.newMachines()
	w.away = w.newAway()
	w.notices = w.newNotices()
	w.layer = container.NewWithoutLayout()
	w.body = container.New(sidesLayout{}, w.here, w.machines.all)
	w.win.SetContent(container.NewStack(
		newBlock(theme.ColorNameBackground, 0),
		container.NewBorder(w.header.all, nil, nil, nil, container.NewStack(w.body, w.away.all)),
		container.New(noticesLayout{}, w.notices.list),
		w.layer,
		container.NewWithoutLayout(w.listener),
	))
	w.win.Resize(fyne.NewSize(windowWidth, windowHeight))
	w.keys()
	w.render()
	return w
}

// Run follows the daemon, which is started if it does not run, until ctx ends.
func (w *Window) Run(ctx context.Context) {
	go w.watch(ctx)
	w.Model.Run(ctx, true)
}

// Show shows the window and brings it to the front.
func (w *Window) Show() {
	w.visible.Store(true)
	w.Model.SetVisible(true)
	w.do(func() {
		w.win.Show()
		w.win.RequestFocus()
		w.render()
	})
	w.glance()
}

// Hide hides the window; the program goes on.
func (w *Window) Hide() {
	w.visible.Store(false)
	w.Model.SetVisible(false)
	w.do(w.win.Hide)
}

// OnClose says what the window's cross does instead of ending the program. It is called on the
// main goroutine, before the window is shown.
func (w *Window) OnClose(f func()) { w.win.SetCloseIntercept(f) }

// FyneWindow is the window itself, for who lays something beside it.
func (w *Window) FyneWindow() fyne.Window { return w.win }

func (w *Window) focus(on bool) {
	w.focused.Store(on)
	if on {
		w.glance()
	}
}

// glance wants thumbnails now.
func (w *Window) glance() {
	select {
	case w.look <- struct{}{}:
	default:
	}
}

func (w *Window) seen() (visible, focused bool) { return w.visible.Load(), w.focused.Load() }

// changed is told of each new State; many at a time are drawn once.
func (w *Window) changed() {
	if w.pending.CompareAndSwap(false, true) {
		w.do(func() {
			w.pending.Store(false)
			w.render()
		})
	}
}

// render draws the State. Each part draws itself only if it has changed.
func (w *Window) render() {
	w.state = w.Model.State()
	s := &w.state
	up := s.Link == model.Up
	show(w.body, up)
	w.away.update(s)
	w.header.update(s)
	if up {
		w.here.update(s, w.search)
		w.machines.update(s, w.search)
	}
	if w.drag != nil {
		w.offer() // cards may have come
	}
	w.notices.update(s)
	w.attend(s)
	for _, sh := range w.sheets {
		if sh.update != nil {
			sh.update()
		}
	}
}

// attend opens what asks for the person's answer by itself.
func (w *Window) attend(s *model.State) {
	for _, p := range s.Pairings {
		if p.Incoming && p.State == control.PairingCompare && !w.settled[p.ID] && w.sheet("pairing/"+p.ID) == nil {
			w.openPairing(p.ID)
			w.come()
		}
	}
	for _, q := range s.Questions {
		if !w.answered[q.ID] && w.sheet("question/"+q.ID) == nil {
			w.openQuestion(q)
			w.come()
		}
	}
}

// come shows the window, because somebody waits for an answer.
func (w *Window) come() {
	if !w.visible.Load() {
		go w.Show()
	}
}

// sidesLayout gives the right side its share, within bounds.
type sidesLayout struct{}

func (sidesLayout) MinSize(o []fyne.CanvasObject) fyne.Size {
	return fyne.NewSize(o[0].MinSize().Width+280, 320)
}

func (sidesLayout) Layout(o []fyne.CanvasObject, s fyne.Size) {
	right := min(max(s.Width*0.34, 290), 420)
	o[0].Resize(fyne.NewSize(s.Width-right, s.Height))
	o[0].Move(fyne.NewPos(0, 0))
	o[1].Resize(fyne.NewSize(right, s.Height))
	o[1].Move(fyne.NewPos(s.Width-right, 0))
}

// header is the line on top.
type header struct {
	w      *Window
	search *field
	start  *button
	more   *button
	all    fyne.CanvasObject
}

func (w *Window) newHeader() *header {
	h := &header{w: w}
	logo := canvas.NewImageFromResource(fyne.NewStaticResource("hither.png", assets.AppIcon))
	logo.FillMode = canvas.ImageFillContain
	logo.SetMinSize(fyne.NewSquareSize(30))
	h.search = w.field("Find an app or a machine")
	h.search.Icon = theme.SearchIcon()
	h.search.OnChanged = w.find
	h.start = w.button("Start an app", w.OpenStart).primary().with(theme.ContentAddIcon())
	h.more = w.button("", nil).plain().with(theme.MenuIcon())
	h.more.OnTapped = func() { w.openMenu(w.mainMenu(), w.below(h.more)) }
	line := row(gap*2, hstack(gap, centre(logo), centre(newText(1, "hither", title, wide))),
		container.New(&maxWidth{360}, h.search), hstack(gap, centre(h.start), centre(h.more)))
	h.all = container.NewStack(newBlock(theme.ColorNameHeaderBackground, 0),
		container.NewBorder(nil, fixed(0, 1, newBlock(theme.ColorNameSeparator, 0)), nil, nil, inset(gap, gap, gap*2, gap*1.5, line)))
	return h
}

// maxWidth keeps something in the middle from growing too wide.
type maxWidth struct{ width float32 }

func (m *maxWidth) MinSize(o []fyne.CanvasObject) fyne.Size {
	return fyne.NewSize(120, o[0].MinSize().Height)
}

func (m *maxWidth) Layout(o []fyne.CanvasObject, s fyne.Size) {
	w := min(s.Width, m.width)
	o[0].Resize(fyne.NewSize(w, s.Height))
	o[0].Move(fyne.NewPos((s.Width-w)/2, 0))
}

func (h *header) update(s *model.State) {
	up := s.Link == model.Up
	if up == h.start.Disabled() {
		if up {
			h.start.Enable()
		} else {
			h.start.Disable()
		}
	}
}

func (w *Window) mainMenu() *fyne.Menu {
	item := func(label string, key fyne.KeyName, icon fyne.Resource, act func()) *fyne.MenuItem {
		i := fyne.NewMenuItem(label, act)
		i.Icon = icon
		i.Disabled = w.state.Link != model.Up
		switch key {
		case "":
		case fyne.KeyF1:
			i.Shortcut = &desktop.CustomShortcut{KeyName: key}
		default:
			i.Shortcut = &desktop.CustomShortcut{KeyName: key, Modifier: fyne.KeyModifierControl}
		}
		return i
	}
	return fyne.NewMenu("",
		item("Start an app…", fyne.KeyN, theme.ContentAddIcon(), w.OpenStart),
		item("Pair a machine…", fyne.KeyP, theme.ComputerIcon(), w.OpenPairing),
		item("Moves so far…", fyne.KeyH, theme.HistoryIcon(), w.openHistory),
		fyne.NewMenuItemSeparator(),
		item("Is all well here?", "", theme.InfoIcon(), w.openDoctor),
		item("Settings…", fyne.KeyComma, theme.SettingsIcon(), w.openSettings),
		item("Keys…", fyne.KeyF1, theme.HelpIcon(), w.openKeys))
}

// openMenu shows a menu where the pointer is.
func (w *Window) openMenu(m *fyne.Menu, ev *fyne.PointEvent) {
	if w.drag != nil {
		return
	}
	widget.NewPopUpMenu(m, w.win.Canvas()).ShowAtPosition(ev.AbsolutePosition)
}

// away is shown while the daemon does not answer.
type away struct {
	w      *Window
	head   *text
	said   *text
	why    *text
	button *button
	wheel  *widget.Activity
	all    *fyne.Container
}

func (w *Window) newAway() *away {
	a := &away{w: w, head: newText(1, "", title, centered), said: newText(2, "", muted, centered), why: newText(4, "", centered, colored(colorBad), shrink)}
	a.button = w.button("Start it", w.Model.StartDaemon).primary()
	a.wheel = widget.NewActivity()
	a.all = centre(atLeast(420, 0, vstack(gap*1.5, centre(newSign(theme.ComputerIcon(), 56, colorMuted)), a.head, a.said, a.why, centre(a.button), centre(a.wheel))))
	return a
}

func (a *away) update(s *model.State) {
	show(a.all, s.Link != model.Up)
	show(a.button, s.Link == model.NotRunning)
	busy := s.Link == model.Starting
	switch {
	case busy && !a.wheel.Visible():
		a.wheel.Show()
		a.wheel.Start()
	case !busy && a.wheel.Visible():
		a.wheel.Stop()
		a.wheel.Hide()
	}
	why := ""
	switch s.Link {
	case model.NotRunning:
		a.head.set("hither is not running")
		a.said.set("Its background service looks after your apps. They are safe without it, but nothing can move until it runs.")
		if s.LinkError != nil {
			why, _ = model.Words(s.LinkError)
		}
	case model.Starting:
		a.head.set("Starting…")
		a.said.set("hither's background service is being started.")
	case model.Looking:
		a.head.set("")
		a.said.set("")
	}
	a.why.set(why)
	if v := why != ""; a.why.Visible() != v {
		show(a.why, v)
		a.all.Refresh()
	}
}

// banner tells what is not well on this machine.
type banner struct {
	w    *Window
	said *text
	all  *fyne.Container
}

func (w *Window) newBanner() *banner {
	b := &banner{w: w, said: newText(2, "", colored(colorWarn), bold, shrink)}
	look := newPress("Look…", nil, func(*fyne.PointEvent) { w.openDoctor() })
	b.all = container.NewStack(newBlock(colorWarnBack, inner), padded(gap*1.25, row(gap, newSign(theme.WarningIcon(), 18, colorWarn), b.said, look)))
	b.all.Hide()
	return b
}

// update says whether its height may have changed.
func (b *banner) update(s *model.State) bool {
	said := ""
	if s.Doctor != nil && !s.Doctor.OK {
		said = "Something that hither needs is missing on this machine"
		for _, p := range s.Doctor.Probes {
			if p.Need && !p.OK {
				said += ": " + p.Name
				break
			}
		}
	} else if s.Host.Problem != "" {
		said = "Other machines cannot reach this one: " + s.Host.Problem
	}
	if said == b.said.said {
		return false
	}
	b.said.set(said)
	show(b.all, said != "")
	return true
}

// notices lie over the lower edge of the window.
type notices struct {
	w     *Window
	shown map[int]fyne.CanvasObject
	list  *fyne.Container
}

func (w *Window) newNotices() *notices {
	return &notices{w: w, shown: map[int]fyne.CanvasObject{}, list: vstack(gap)}
}

func (n *notices) update(s *model.State) {
	var objects []fyne.CanvasObject
	alive := map[int]bool{}
	for _, v := range s.Notices {
		alive[v.ID] = true
		if n.shown[v.ID] == nil {
			n.shown[v.ID] = n.make(v)
		}
		objects = append(objects, n.shown[v.ID])
	}
	for id := range n.shown {
		if !alive[id] {
			delete(n.shown, id)
		}
	}
	replace(n.list, objects)
}

func (n *notices) make(v model.Notice) fyne.CanvasObject {
	icon := theme.InfoIcon()
	if v.Problem {
		icon = theme.WarningIcon()
	}
	lines := []fyne.CanvasObject{newText(3, v.Text, bold, colored(colorToastText), shrink)}
	if v.Hint != "" {
		lines = append(lines, newText(3, v.Hint, small, colored(colorToastText), shrink))
	}
	close := newPress("", theme.CancelIcon(), func(*fyne.PointEvent) { n.w.Model.Dismiss(v.ID) }).hush()
	close.sign.set(theme.CancelIcon(), colorToastText)
	ground := newBlock(colorToast, radius)
	ground.lifted = true
	return container.NewStack(ground, padded(gap*1.5, row(gap*1.25, newSign(icon, 20, colorToastText), vstack(3, lines...), close)))
}

// noticesLayout puts them above the lower edge, in the middle.
type noticesLayout struct{}

func (noticesLayout) MinSize([]fyne.CanvasObject) fyne.Size { return fyne.Size{} }
func (noticesLayout) Layout(o []fyne.CanvasObject, s fyne.Size) {
	w := min(560, s.Width-gap*4)
	for _, c := range o {
		c.Resize(fyne.NewSize(w, c.Size().Height))
		h := c.MinSize().Height
		c.Resize(fyne.NewSize(w, h))
		c.Move(fyne.NewPos((s.Width-w)/2, s.Height-h-gap*2))
	}
}

// listener has the focus while something is dragged, so that Escape is heard.
type listener struct {
	widget.BaseWidget
	w *Window
}

func newListener(w *Window) *listener {
	l := &listener{w: w}
	l.ExtendBaseWidget(l)
	return l
}

func (l *listener) CreateRenderer() fyne.WidgetRenderer {
	return widget.NewSimpleRenderer(container.NewWithoutLayout())
}
func (l *listener) FocusGained()     {}
func (l *listener) FocusLost()       {}
func (l *listener) TypedRune(r rune) { l.w.typed(r) }
func (l *listener) TypedKey(ev *fyne.KeyEvent) {
	if ev.Name == fyne.KeyEscape {
		l.w.escape()
	}
}
