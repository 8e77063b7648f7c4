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

// here is the left side: the apps of this machine.
type here struct {
	widget.BaseWidget
	w       *Window
	cards   map[string]*appCard
	shown   []*appCard // in order
	outside map[int]*outsideRow
	rows    []*outsideRow

	banner         *banner
	heading, count *text
	outHead        fyne.CanvasObject
	outNote        *text
	grid           *fyne.Container
	gridLayout     *gridLayout
	list           *fyne.Container
	empty          *fyne.Container
	emptyHead      *text
	emptyText      *text
	emptyButton    *button
	content        *fyne.Container
	scroll         *container.Scroll
	veil           *veil
	all            *fyne.Container
}

func (w *Window) newHere() *here {
	h := &here{w: w, cards: map[string]*appCard{}, outside: map[int]*outsideRow{}, gridLayout: &gridLayout{}}
	h.grid = container.New(h.gridLayout)
	h.list = vstack(gap)
	h.heading = newText(1, "On this machine", head, wide)
	h.count = newText(1, "", muted, wide)
	h.outNote = newText(2, "They were started without hither, so they cannot move. Restarted in hither, they can.", small, muted, shrink)
	h.outHead = vstack(2, newText(1, "Running outside of hither", head), h.outNote)
	h.emptyHead = newText(1, "", head, centered)
	h.emptyText = newText(3, "", muted, centered)
	h.emptyButton = w.button("Start an app", w.OpenStart).primary().with(theme.ContentAddIcon())
	h.empty = vstack(gap, inset(gap*5, gap, 0, 0, centre(newSign(theme.GridIcon(), 48, colorMuted))), h.emptyHead,
		centre(atLeast(340, 0, h.emptyText)), centre(h.emptyButton))
	h.banner = w.newBanner()
	h.content = vstack(gap*1.5, h.banner.all, atLeast(0, 24, hstack(gap, centre(h.heading), centre(h.count))), h.empty, h.grid, h.outHead, h.list)
	h.scroll = container.NewVScroll(inset(gap*2, gap*2, gap*2, gap*1.5, h.content))
	h.veil = newVeil()
	h.all = container.NewStack(h.scroll, inset(gap, gap, gap, gap, h.veil))
	h.ExtendBaseWidget(h)
	return h
}

func (h *here) CreateRenderer() fyne.WidgetRenderer { return &hereRenderer{h} }

// hereRenderer tells the grid its width before its height is asked for.
type hereRenderer struct{ h *here }

func (r *hereRenderer) Destroy()                     {}
func (r *hereRenderer) Objects() []fyne.CanvasObject { return []fyne.CanvasObject{r.h.all} }
func (r *hereRenderer) MinSize() fyne.Size           { return fyne.NewSize(cardWidth+gap*4, 200) }
func (r *hereRenderer) Refresh()                     { r.h.all.Refresh() }
func (r *hereRenderer) Layout(s fyne.Size) {
	r.h.gridLayout.width = s.Width - gap*3.5
	r.h.all.Resize(s)
	r.h.scroll.Refresh()
}

// gridLayout sets cards of the same size in columns, as many as fit, and stretches them to the width.
type gridLayout struct{ width float32 }

func (l *gridLayout) columns() (n int, width float32) {
	n = max(1, int((l.width+gap*1.5)/(cardWidth+gap*1.5)))
	return n, max(cardWidth, (l.width-gap*1.5*float32(n-1))/float32(n))
}

func (l *gridLayout) MinSize(o []fyne.CanvasObject) fyne.Size {
	n, _ := l.columns()
	rows := (len(o) + n - 1) / n
	if rows == 0 {
		return fyne.Size{}
	}
	return fyne.NewSize(cardWidth, float32(rows)*(cardHeight+gap*1.5)-gap*1.5)
}

func (l *gridLayout) Layout(o []fyne.CanvasObject, s fyne.Size) {
	if s.Width > 0 {
		l.width = s.Width
	}
	n, width := l.columns()
	// A few cards do not grow without end.
	width = min(width, cardWidth*1.5)
	for i, c := range o {
		c.Move(fyne.NewPos(float32(i%n)*(width+gap*1.5), float32(i/n)*(cardHeight+gap*1.5)))
		c.Resize(fyne.NewSize(width, cardHeight))
	}
}

// matches says whether what is searched for is in one of the texts.
func matches(search string, texts ...string) bool {
	search = strings.ToLower(strings.TrimSpace(search))
	all := strings.ToLower(strings.Join(texts, " "))
	for _, word := range strings.Fields(search) {
		if !strings.Contains(all, word) {
			return false
		}
	}
	return true
}

func (h *here) update(s *model.State, search string) {
	var objects []fyne.CanvasObject
	h.shown = nil
	alive := map[string]bool{}
	for _, a := range s.Apps {
		alive[a.ID] = true
		c := h.cards[a.ID]
		if c == nil {
			c = h.w.newCard()
			h.cards[a.ID] = c
		}
		c.set(a, s.MoveOf(a))
		if matches(search, a.Name, a.Title, strings.Join(a.Command, " ")) {
			objects = append(objects, c)
			h.shown = append(h.shown, c)
		}
	}
	for id := range h.cards {
		if !alive[id] {
			delete(h.cards, id)
		}
	}
	changed := replace(h.grid, objects)

	var rows []fyne.CanvasObject
	h.rows = nil
	living := map[int]bool{}
	for _, o := range s.Outside {
		living[o.Pid] = true
		r := h.outside[o.Pid]
		if r == nil {
			r = h.w.newOutside()
			h.outside[o.Pid] = r
		}
		r.set(o)
		if matches(search, o.Name, o.Title) {
			rows = append(rows, r.choice)
			h.rows = append(h.rows, r)
		}
	}
	for pid := range h.outside {
		if !living[pid] {
			delete(h.outside, pid)
		}
	}
	changed = replace(h.list, rows) || changed

	count := ""
	if n := len(objects); n > 0 {
		count = plural(n, "app", "apps")
	}
	h.count.set(count)
	name := s.Host.Name
	if name == "" {
		h.heading.set("On this machine")
	} else {
		h.heading.set("On " + name + ", this machine")
	}
	outside := len(rows) > 0
	loaded := s.Loaded[model.PartApps]
	empty := len(objects) == 0 && loaded
	switch {
	case search != "" && len(s.Apps)+len(s.Outside) > 0:
		empty = empty && !outside
		h.emptyHead.set("Nothing here is called “" + search + "”")
		h.emptyText.set("Press Escape to see everything again.")
		show(h.emptyButton, false)
	default:
		h.emptyHead.set("No app runs in hither yet")
		h.emptyText.set("An app that is started here can move to your other machines while it runs: with its windows, and with all that you have not saved.")
		show(h.emptyButton, true)
	}
	changed = h.banner.update(s) || changed
	for o, yes := range map[fyne.CanvasObject]bool{h.empty: empty, h.outHead: outside, h.list: outside, h.grid: len(objects) > 0} {
		if o.Visible() != yes {
			show(o, yes)
			changed = true
		}
	}
	if changed {
		h.content.Refresh()
		h.scroll.Refresh()
	}
}

// replace gives a container other objects, if they are others, and says whether they were.
func replace(c *fyne.Container, objects []fyne.CanvasObject) bool {
	if len(c.Objects) == len(objects) {
		same := true
		for i := range objects {
			same = same && c.Objects[i] == objects[i]
		}
		if same {
			return false
		}
	}
	c.Objects = objects
	c.Refresh()
	return true
}

// inView says whether a card can be seen, at least in part.
func (h *here) inView(c *appCard) bool {
	top := h.scroll.Offset.Y
	y := c.Position().Y + h.grid.Position().Y
	return y+cardHeight > top && y < top+h.scroll.Size().Height
}

// offer: this machine is a target for apps of others.
func (h *here) offer(d *drag) {
	a, on := d.says("")
	if !on || d.from == "" {
		h.veil.set(nil, "", false)
		return
	}
	h.veil.set(&a, "Drop "+appTitle(d.app)+" here", d.onOne && d.over == "")
}

// outsideRow is a program that runs outside of hither.
type outsideRow struct {
	choice *choice
	app    control.OutsideApp
	icon   *tile
	title  *text
	facts  *text
	again  *press
}

func (w *Window) newOutside() *outsideRow {
	r := &outsideRow{icon: newTile(28), title: newText(1, "", colored(colorMuted)), facts: newText(1, "", small, muted)}
	r.again = newPress("Restart it in hither", theme.ViewRefreshIcon(), func(*fyne.PointEvent) { r.restart(w) })
	ground := newBlock(colorCard, inner).outlined(colorLine, 1)
	r.choice = w.choice(container.NewStack(ground, padded(10, row(gap*1.25, r.icon, vstack(0, r.title, r.facts), r.again))), nil)
	r.choice.chosen = func(*fyne.PointEvent) {
		if r.app.Restart {
			r.restart(w)
		}
	}
	return r
}

func (r *outsideRow) restart(w *Window) {
	o := r.app
	w.confirm("restart", "Restart "+o.Name+" in hither?", "hither closes "+o.Name+" as its window's cross does, and starts it again. If it asks whether to save something, "+
		"answer it; nothing is lost without that.", "Restart it", false, func() {
		w.Model.Do("Restarting "+o.Name, func(ctx context.Context, d model.Daemon) error {
			_, err := d.RestartOutside(ctx, o.Pid)
			w.Model.Again(model.PartApps, model.PartOutside)
			return err
		}, nil)
	})
}

func (r *outsideRow) set(o control.OutsideApp) {
	r.app = o
	r.icon.setName(o.Name)
	if o.Installed != "" {
		r.choice.w.pics.get("installed/"+o.Installed, func(ctx context.Context, d model.Daemon) ([]byte, error) {
			return d.InstalledIcon(ctx, o.Installed, iconPixels)
		}, r.icon.setImage)
	}
	said := o.Title
	if said == "" {
		said = o.Name
	}
	r.title.set(said)
	var facts []string
	if o.Title != "" && !strings.EqualFold(o.Title, o.Name) {
		facts = append(facts, o.Name)
	}
	if o.Memory > 0 {
		facts = append(facts, bytesText(o.Memory))
	}
	if !o.Restart && o.Why != "" {
		facts = []string{o.Why}
	}
	r.facts.set(strings.Join(facts, " · "))
	show(r.again, o.Restart)
}

// veil lies over a target while something is dragged, and says what it says.
type veil struct {
	widget.BaseWidget
	ground *block
	said   *text
	hint   *text
	all    *fyne.Container
}

func newVeil() *veil {
	v := &veil{ground: newBlock("", radius), said: newText(2, "", bold, centered, shrink), hint: newText(2, "", small, centered, shrink)}
	v.all = container.NewStack(v.ground, padded(gap, container.New(middleLayout{}, v.said, v.hint)))
	v.ExtendBaseWidget(v)
	v.Hide()
	return v
}

func (v *veil) CreateRenderer() fyne.WidgetRenderer { return widget.NewSimpleRenderer(v.all) }
func (v *veil) MinSize() fyne.Size                  { return fyne.Size{} }

// set shows an answer; nil hides the veil.
func (v *veil) set(a *answer, yes string, over bool) {
	if a == nil {
		show(v, false)
		return
	}
	t, said, hint := toneGood, yes, ""
	switch {
	case !a.known:
		t, said = toneQuiet, "Asking…"
		if over {
			said = yes
		}
	case !a.ok:
		t, said, hint = toneWarn, a.why, a.cure
	}
	width := float32(1.5)
	if over {
		width = 3
	}
	v.ground.set(t.back(), t.front(), width)
	v.said.paint(t.front())
	v.said.set(said)
	v.hint.set(hint)
	show(v.hint, hint != "")
	show(v, true)
	v.all.Refresh()
}

// middleLayout stacks texts in the middle of the height; the last give way where there is no room.
type middleLayout struct{}

func (middleLayout) MinSize([]fyne.CanvasObject) fyne.Size { return fyne.Size{} }
func (middleLayout) Layout(o []fyne.CanvasObject, s fyne.Size) {
	var high float32
	fits := 0
	for _, c := range o {
		if !c.Visible() {
			fits++
			continue
		}
		c.Resize(fyne.NewSize(s.Width, c.Size().Height))
		h := c.MinSize().Height
		if high+h > s.Height && fits > 0 {
			break
		}
		high += h
		fits++
	}
	y := max(0, (s.Height-high)/2)
	for i, c := range o {
		h := c.MinSize().Height
		if i >= fits {
			c.Resize(fyne.NewSize(s.Width, 0))
			c.Move(fyne.NewPos(0, -1000))
			continue
		}
		if !c.Visible() {
			continue
		}
		c.Resize(fyne.NewSize(s.Width, h))
		c.Move(fyne.NewPos(0, y))
		y += h
	}
}
