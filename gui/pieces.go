package gui

import (
	"image/color"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// tone is how something is meant.
type tone int

const (
	toneGood tone = iota
	toneWarn
	toneBad
	toneAccent
	toneQuiet
)

func (t tone) front() fyne.ThemeColorName {
	return [...]fyne.ThemeColorName{colorGood, colorWarn, colorBad, colorAccent, colorMuted}[t]
}

func (t tone) back() fyne.ThemeColorName {
	return [...]fyne.ThemeColorName{colorGoodBack, colorWarnBack, colorBadBack, colorAccentBk, colorWell}[t]
}

func vstack(space float32, objects ...fyne.CanvasObject) *fyne.Container {
	return container.New(layout.NewCustomPaddedVBoxLayout(space), objects...)
}

func hstack(space float32, objects ...fyne.CanvasObject) *fyne.Container {
	return container.New(layout.NewCustomPaddedHBoxLayout(space), objects...)
}

func padded(space float32, o fyne.CanvasObject) *fyne.Container {
	return container.New(layout.NewCustomPaddedLayout(space, space, space, space), o)
}

func inset(top, bottom, left, right float32, o fyne.CanvasObject) *fyne.Container {
	return container.New(layout.NewCustomPaddedLayout(top, bottom, left, right), o)
}

func centre(o fyne.CanvasObject) *fyne.Container { return container.NewCenter(o) }

// row puts something at the left and the right, and gives the middle the rest.
type rowLayout struct{ space float32 }

func row(space float32, left, middle, right fyne.CanvasObject) *fyne.Container {
	return container.New(rowLayout{space}, left, middle, right)
}

func (l rowLayout) MinSize(o []fyne.CanvasObject) fyne.Size {
	var size fyne.Size
	for i, c := range o {
		if c == nil || !c.Visible() {
			continue
		}
		min := c.MinSize()
		size.Width += min.Width
		if i != 1 && min.Width > 1 {
			size.Width += l.space
		}
		size.Height = max(size.Height, min.Height)
	}
	return size
}

func (l rowLayout) Layout(o []fyne.CanvasObject, size fyne.Size) {
	place := func(c fyne.CanvasObject, x, w float32) {
		h := c.MinSize().Height
		if c == o[1] && h > size.Height {
			h = size.Height
		}
		c.Resize(fyne.NewSize(w, h))
		c.Move(fyne.NewPos(x, (size.Height-h)/2))
	}
	var left, right float32
	if o[0].Visible() {
		left = o[0].MinSize().Width
		place(o[0], 0, left)
		if left > 1 {
			left += l.space
		}
	}
	if o[2].Visible() {
		w := o[2].MinSize().Width
		place(o[2], size.Width-w, w)
		if right = w; w > 1 {
			right += l.space
		}
	}
	if o[1].Visible() {
		place(o[1], left, max(0, size.Width-left-right))
	}
}

// fixed gives something a size of its own.
type fixedLayout struct{ size fyne.Size }

func fixed(w, h float32, o fyne.CanvasObject) *fyne.Container {
	return container.New(fixedLayout{fyne.NewSize(w, h)}, o)
}

func (l fixedLayout) MinSize([]fyne.CanvasObject) fyne.Size { return l.size }
func (l fixedLayout) Layout(o []fyne.CanvasObject, s fyne.Size) {
	for _, c := range o {
		w, h := l.size.Width, l.size.Height
		if w == 0 {
			w = s.Width
		}
		if h == 0 {
			h = s.Height
		}
		c.Resize(fyne.NewSize(w, h))
		c.Move(fyne.NewPos(0, 0))
	}
}

// atLeast widens something.
type atLeastLayout struct{ size fyne.Size }

func atLeast(w, h float32, o fyne.CanvasObject) *fyne.Container {
	return container.New(atLeastLayout{fyne.NewSize(w, h)}, o)
}

func (l atLeastLayout) MinSize(o []fyne.CanvasObject) fyne.Size {
	size := l.size
	for _, c := range o {
		size = size.Max(c.MinSize())
	}
	return size
}

func (l atLeastLayout) Layout(o []fyne.CanvasObject, s fyne.Size) {
	for _, c := range o {
		c.Resize(s)
		c.Move(fyne.NewPos(0, 0))
	}
}

// block is a rectangle in colours of the theme, which follows when that changes.
type block struct {
	widget.BaseWidget
	fill, stroke fyne.ThemeColorName
	width        float32
	radius       float32
	lifted       bool // throws a shadow
	rect         *canvas.Rectangle
}

func newBlock(fill fyne.ThemeColorName, radius float32) *block {
	b := &block{fill: fill, radius: radius, rect: canvas.NewRectangle(color.Transparent)}
	b.ExtendBaseWidget(b)
	return b
}

func (b *block) outlined(stroke fyne.ThemeColorName, width float32) *block {
	b.stroke, b.width = stroke, width
	return b
}

// set changes its colours, and draws only if they are others.
func (b *block) set(fill, stroke fyne.ThemeColorName, width float32) {
	if b.fill != fill || b.stroke != stroke || b.width != width {
		b.fill, b.stroke, b.width = fill, stroke, width
		b.Refresh()
	}
}

func themed(name fyne.ThemeColorName) color.Color {
	if name == "" {
		return color.Transparent
	}
	return theme.Color(name)
}

func (b *block) CreateRenderer() fyne.WidgetRenderer {
	r := &blockRenderer{b}
	r.Refresh()
	return r
}

type blockRenderer struct{ b *block }

func (r *blockRenderer) Destroy()                     {}
func (r *blockRenderer) Objects() []fyne.CanvasObject { return []fyne.CanvasObject{r.b.rect} }
func (r *blockRenderer) MinSize() fyne.Size           { return fyne.Size{} }
func (r *blockRenderer) Layout(s fyne.Size)           { r.b.rect.Resize(s) }

func (r *blockRenderer) Refresh() {
	r.b.rect.FillColor, r.b.rect.StrokeColor = themed(r.b.fill), themed(r.b.stroke)
	r.b.rect.StrokeWidth, r.b.rect.CornerRadius = r.b.width, r.b.radius
	r.b.rect.Shadow = canvas.Shadow{}
	if r.b.lifted {
		r.b.rect.Shadow = canvas.Shadow{Color: theme.Color(theme.ColorNameShadow), BlurRadius: 16, Offset: fyne.NewPos(0, 4)}
	}
	r.b.rect.Refresh()
}

// pill is a short text on a coloured ground.
type pill struct {
	widget.BaseWidget
	ground *block
	label  *text
	tone   tone
}

func newPill(said string, t tone) *pill {
	p := &pill{ground: newBlock(t.back(), 10), label: newText(1, said, small, colored(t.front()), wide), tone: t}
	p.ExtendBaseWidget(p)
	return p
}

func (p *pill) set(said string, t tone) {
	if p.label.said == said && p.tone == t {
		return
	}
	p.tone = t
	p.ground.set(t.back(), "", 0)
	p.label.color = t.front()
	p.label.said = said
	p.label.Refresh()
	p.Refresh()
}

func (p *pill) CreateRenderer() fyne.WidgetRenderer {
	return widget.NewSimpleRenderer(container.NewStack(p.ground, inset(2, 3, 9, 9, p.label)))
}

// bar is a thin progress bar.
type bar struct {
	widget.BaseWidget
	share        float64
	ground, fill *block
}

func newBar() *bar {
	b := &bar{ground: newBlock(colorWell, 3), fill: newBlock(theme.ColorNamePrimary, 3)}
	b.ExtendBaseWidget(b)
	return b
}

func (b *bar) set(share float64) {
	if b.share != share {
		b.share = share
		b.Refresh()
	}
}

func (b *bar) CreateRenderer() fyne.WidgetRenderer { return &barRenderer{b} }

type barRenderer struct{ b *bar }

func (r *barRenderer) Destroy()                     {}
func (r *barRenderer) Objects() []fyne.CanvasObject { return []fyne.CanvasObject{r.b.ground, r.b.fill} }
func (r *barRenderer) MinSize() fyne.Size           { return fyne.NewSize(40, 6) }
func (r *barRenderer) Refresh()                     { r.Layout(r.b.Size()) }
func (r *barRenderer) Layout(s fyne.Size) {
	r.b.ground.Resize(s)
	w := s.Width * float32(r.b.share)
	if w > 0 {
		w = max(w, s.Height)
	}
	r.b.fill.Resize(fyne.NewSize(w, s.Height))
}

// tile is an app's icon; as long as there is none, its first letter on a ground of its own colour.
type tile struct {
	widget.BaseWidget
	side   float32
	ground *canvas.Rectangle
	letter *canvas.Text
	image  *canvas.Image
	name   string
	has    bool
}

func newTile(side float32) *tile {
	t := &tile{side: side, ground: canvas.NewRectangle(color.Transparent), letter: canvas.NewText("", color.White), image: &canvas.Image{}}
	t.ground.CornerRadius = side / 4.5
	t.letter.TextSize, t.letter.TextStyle.Bold, t.letter.Alignment = side*0.52, true, fyne.TextAlignCenter
	t.image.FillMode = canvas.ImageFillContain
	t.ExtendBaseWidget(t)
	return t
}

// grounds are of icons that are letters.
var grounds = []color.NRGBA{rgba(0x2f55c8ff), rgba(0x12a594ff), rgba(0xc2571aff), rgba(0x8e4ec6ff), rgba(0x3e7d32ff), rgba(0xb5385fff), rgba(0x5b6472ff)}

func (t *tile) setName(name string) {
	if t.name == name {
		return
	}
	t.name = name
	sum := 0
	for _, r := range name {
		sum += int(r)
	}
	t.ground.FillColor = grounds[sum%len(grounds)]
	t.letter.Text = ""
	if r := []rune(strings.TrimSpace(name)); len(r) > 0 {
		t.letter.Text = strings.ToUpper(string(r[0]))
	}
	t.Refresh()
}

func (t *tile) setImage(p *picture) {
	if p == nil || t.image.Image == p.image {
		return
	}
	t.has = true
	t.image.Image = p.image
	t.image.Refresh()
	t.Refresh()
}

func (t *tile) CreateRenderer() fyne.WidgetRenderer { return &tileRenderer{t} }

type tileRenderer struct{ t *tile }

func (r *tileRenderer) Destroy() {}
func (r *tileRenderer) Objects() []fyne.CanvasObject {
	if r.t.has {
		return []fyne.CanvasObject{r.t.image}
	}
	return []fyne.CanvasObject{r.t.ground, r.t.letter}
}
func (r *tileRenderer) MinSize() fyne.Size { return fyne.NewSquareSize(r.t.side) }
func (r *tileRenderer) Layout(s fyne.Size) {
	r.t.ground.Resize(s)
	r.t.image.Resize(s)
	h := r.t.letter.MinSize().Height
	r.t.letter.Resize(fyne.NewSize(s.Width, h))
	r.t.letter.Move(fyne.NewPos(0, (s.Height-h)/2))
}
func (r *tileRenderer) Refresh() {
	r.Layout(r.t.Size())
	canvas.Refresh(r.t)
}

// sign is an icon of the theme in a colour of the theme.
type sign struct {
	widget.BaseWidget
	side  float32
	icon  fyne.Resource
	color fyne.ThemeColorName
	image *canvas.Image
}

func newSign(icon fyne.Resource, side float32, c fyne.ThemeColorName) *sign {
	s := &sign{side: side, icon: icon, color: c, image: &canvas.Image{FillMode: canvas.ImageFillContain}}
	s.ExtendBaseWidget(s)
	return s
}

func (s *sign) set(icon fyne.Resource, c fyne.ThemeColorName) {
	if s.icon != icon || s.color != c {
		s.icon, s.color = icon, c
		s.Refresh()
	}
}

func (s *sign) CreateRenderer() fyne.WidgetRenderer {
	r := &signRenderer{s}
	r.Refresh()
	return r
}

type signRenderer struct{ s *sign }

func (r *signRenderer) Destroy()                     {}
func (r *signRenderer) Objects() []fyne.CanvasObject { return []fyne.CanvasObject{r.s.image} }
func (r *signRenderer) MinSize() fyne.Size           { return fyne.NewSquareSize(r.s.side) }
func (r *signRenderer) Layout(s fyne.Size)           { r.s.image.Resize(s) }
func (r *signRenderer) Refresh() {
	res := theme.NewThemedResource(r.s.icon)
	res.ColorName = r.s.color
	r.s.image.Resource = res
	r.s.image.Refresh()
}
