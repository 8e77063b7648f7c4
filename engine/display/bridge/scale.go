package bridge

import (
	"math"

	"hither/engine/display"
	"hither/engine/display/xwire"
)

// Apps draw for the desktop's dots per inch. What the settings inside say of that is
// what they draw for, since the settings travel with them; and it is changed only
// where all follow it (GTK 3 and 4). Otherwise it stays as it was where the
// apps have started, and on a desktop that has another one the bridge scales: sizes
// and places of windows, pictures, the pointer, everything by the same factor.
//
//	inside  --out-->  the desktop: pictures, places, sizes
//	        <--in---               places, sizes, the pointer
//
// Both must not add up to a drift: what is inside stays as it is for as long as it
// comes to what is on the desktop (keep).

// scale is how many of the desktop's pixels one of the app's becomes.
type scale float64

// Beyond these a picture is good for nothing.
const (
	leastScale = 0.25
	mostScale  = 4
)

// scaleOf is for a desktop and apps with so many dots per inch. What is almost a whole
// number is one: pictures are sharper then, and nobody sees the difference in size.
func scaleOf(desk, inside float64) scale {
	f := max(leastScale, min(desk/inside, mostScale))
	if whole := math.Round(f); whole > 0 && math.Abs(f/whole-1) < 0.05 {
		f = whole
	}
	return scale(f)
}

func (s scale) whole() bool { return s == scale(math.Trunc(float64(s))) }

func (s scale) out(v int) int {
	if s == 1 {
		return v
	}
	return int(math.Round(float64(v) * float64(s)))
}

// size never comes to nothing.
func (s scale) size(v int) int {
	if s == 1 {
		return v
	}
	return max(1, s.out(v))
}

// pixel is the one inside that a pixel of a native window shows, for a size of the two.
func (s scale) pixel(v, native, inside int) int {
	if s == 1 {
		return v
	}
	in := int(math.Floor((float64(v) + 0.5) / float64(s)))
	if v >= 0 && v < native {
		in = min(in, inside-1) // a part of a pixel at the edge
	}
	return in
}

// outRect is where a window inside is to be on the desktop. Its size does not depend
// on its place.
func (s scale) outRect(r rect) rect { return rect{s.out(r.x), s.out(r.y), s.size(r.w), s.size(r.h)} }

func (s scale) inRect(r rect) rect { return (1 / s).outRect(r) }

// cover is all that a part of a picture touches on the desktop; its edges mix with
// their neighbours.
func (s scale) cover(r rect) rect {
	if s == 1 {
		return r
	}
	edge := 1
	if s >= 1 && s.whole() {
		edge = 0
	}
	x, y := math.Floor(float64(r.x-edge)*float64(s)), math.Floor(float64(r.y-edge)*float64(s))
	right, bottom := math.Ceil(float64(r.right()+edge)*float64(s)), math.Ceil(float64(r.bottom()+edge)*float64(s))
	return rect{int(x), int(y), int(right - x), int(bottom - y)}
}

// edges scales a rectangle so that neighbours stay neighbours.
func (s scale) edges(r rect) rect {
	x, y := s.out(r.x), s.out(r.y)
	return rect{x, y, s.out(r.right()) - x, s.out(r.bottom()) - y}
}

// keep is what a place on the desktop means inside: what there is already, or was
// asked for, as far as it comes to that.
func (s scale) keep(place, now rect) rect {
	if s == 1 {
		return place
	}
	in, out := s.inRect(place), s.outRect(now)
	if out.x == place.x {
		in.x = now.x
	}
	if out.y == place.y {
		in.y = now.y
	}
	if out.w == place.w {
		in.w = now.w
	}
	if out.h == place.h {
		in.h = now.h
	}
	return in
}

func (e extents) scaled(s scale) extents {
	return extents{s.out(e.left), s.out(e.right), s.out(e.top), s.out(e.bottom)}
}

// hints are numbers of WM_NORMAL_HINTS as they are on the desktop. Steps that are no
// whole pixels there would not add up, and are left out.
func (s scale) hints(v [sizeHintNumbers]uint32) [sizeHintNumbers]uint32 {
	if s == 1 {
		return v
	}
	scaled := func(i int) float64 { return float64(int32(v[i])) * float64(s) }
	for _, i := range []int{9, 10, 15, 16} { // steps, and what they begin with
		if scaled(i) != math.Trunc(scaled(i)) {
			v[0] &^= hintSteps
		}
	}
	for _, i := range []int{5, 6, 7, 8, 9, 10, 15, 16} { // the least and the most, too
		v[i] = uint32(int32(math.Round(scaled(i))))
	}
	return v
}

// judge decides how the app is scaled, from what its windows are.
func (b *Bridge) judge() {
	follow := true
	apps := make([]xwire.Window, len(b.order))
	for i, w := range b.order {
		apps[i] = w.app
		follow = follow && w.follows
	}
	b.decide(apps, follow)
}

// decide is told the app's windows, and whether all of them follow the desktop's
// settings. Without any nobody knows, and what they have been told stays.
func (b *Bridge) decide(apps []xwire.Window, follow bool) {
	follow = follow && len(apps) > 0
	if follow {
		b.dpi = b.deskDPI
	}
	can := b.visuals.scales()
	b.keepsScale.Store(!follow && can)
	b.scale = 1
	if follow || !can {
		return
	}
	if s := scaleOf(b.deskDPI, b.dpi); s >= 1 || !b.onlyServerFonts(apps) {
		b.scale = s
	}
}

// onlyServerFonts is true of apps that have their text drawn by the X server, as some
// of the oldest do: it is equally large on any desktop, and would be too small to read
// if it were scaled down. They have fonts, though one may be that of pointers, and
// nothing else to draw text with.
func (b *Bridge) onlyServerFonts(apps []xwire.Window) bool {
	c := b.App
	clients := map[uint32]xwire.Cookie[xwire.ResQueryClientResourcesReply]{}
	for _, app := range apps {
		if client := uint32(app) &^ c.Setup().ResourceIdMask; c.Has(xwire.Res) {
			clients[client] = c.ResQueryClientResourcesAsync(client)
		}
	}
	only := len(clients) > 0
	for _, cookie := range clients {
		r, err := cookie.Wait()
		if err != nil {
			return false
		}
		has := map[string]bool{}
		for _, kind := range r.Types {
			has[b.appName(kind.ResourceType)] = true
		}
		only = only && has["FONT"] && !has["GLYPHSET"] && !has["PICTURE"] && !has["ShmSeg"]
	}
	return only
}

// judgeTree is judge before the windows are taken into care, since they are placed by
// it.
func (b *Bridge) judgeTree(list []xwire.Window) error {
	dpi, err := display.DPIOf(b.App)
	if err != nil {
		return err
	}
	if dpi == 0 {
		dpi = display.ServerDPI(b.App)
	}
	b.dpi = dpi
	attributes := make([]xwire.Cookie[xwire.GetWindowAttributesReply], len(list))
	counters := make([]xwire.Cookie[xwire.GetPropertyReply], len(list))
	for i, app := range list {
		attributes[i] = b.App.GetWindowAttributesAsync(app)
		counters[i] = b.App.GetPropertyAsync(false, app, b.a["_NET_WM_SYNC_REQUEST_COUNTER"], xwire.AtomCardinal, 0, 2)
	}
	var apps []xwire.Window
	follow := true
	for i, app := range list {
		a, err := attributes[i].Wait()
		c, err2 := counters[i].Wait()
		if err != nil || err2 != nil || a.Class == xwire.WindowClassInputOnly || a.OverrideRedirect || a.MapState == xwire.MapStateUnmapped {
			continue
		}
		apps = append(apps, app)
		follow = follow && isFollower(property{c.Type, c.Format, c.Value})
	}
	b.decide(apps, follow)
	return nil
}

// isFollower is told a window's counters of _NET_WM_SYNC_REQUEST. Toolkits that draw
// for another scale as soon as the settings say so have two. Qt hears of the settings,
// too, but draws old and new sizes side by side then.
func isFollower(p property) bool { return p.numbers(2) != nil }

// keeps says whether the apps are still to be told of the dots per inch that they had,
// and toldDPI is told the desktop's. Both are called by other goroutines.
func (b *Bridge) keeps(desk, had float64) bool { return b.keepsScale.Load() && scaleOf(desk, had) != 1 }

func (b *Bridge) toldDPI(desk float64) {
	b.do(func() {
		b.deskDPI = desk
		b.rescale()
	})
}

// rescale is when the desktop's dots per inch have changed, or what windows there are.
func (b *Bridge) rescale() {
	if b.App == nil {
		return
	}
	old, kept := b.scale, b.keepsScale.Load()
	b.judge()
	if b.keepsScale.Load() != kept {
		b.beside.refresh()
	}
	if b.scale == old {
		return
	}
	b.mirrorScreen()
	b.forgetCursors()
	for _, w := range b.windows {
		b.freeSource(w)
		w.cursor, w.whole = 0, true
		w.hints.scale(b.scale)
		b.copyShape(w)
		switch {
		case w.popup:
			b.putPopup(w)
		case w.zoomed:
			b.setSizeHints(w)
			b.follow(w)
		default:
			b.setSizeHints(w)
			size := b.scale.outRect(w.at)
			b.askNative(w, rect{w.place.x, w.place.y, size.w, size.h}, xwire.ConfigWindowWidth|xwire.ConfigWindowHeight)
		}
	}
}

// putPopup has a native popup where the app has it.
func (b *Bridge) putPopup(w *window) {
	w.place = b.scale.outRect(w.outer())
	b.Desk.ConfigureWindow(w.desk, xwire.ConfigureValues{
		Mask: xwire.ConfigWindowX | xwire.ConfigWindowY | xwire.ConfigWindowWidth | xwire.ConfigWindowHeight,
		X:    int32(w.place.x), Y: int32(w.place.y), Width: uint32(clipSize(w.place.w)), Height: uint32(clipSize(w.place.h)),
	})
}

// source is a window's picture on the desktop before it is scaled.
type source struct {
	of       rect // its size
	by       scale
	pixmap   xwire.Pixmap
	from, to xwire.RenderPicture // it, and the native window
}

// sourceOf is where a window's picture is put to be scaled. fresh: it has nothing in it
// yet.
func (b *Bridge) sourceOf(w *window) (s *source, fresh bool) {
	s = &w.source
	if s.pixmap != 0 && s.of == w.picture() && s.by == b.scale {
		return s, false
	}
	b.freeSource(w)
	d, format := b.Desk, b.look(w).format
	*s = source{of: w.picture(), by: b.scale, pixmap: xwire.NewID[xwire.Pixmap](d), to: xwire.NewID[xwire.RenderPicture](d)}
	d.CreatePixmap(w.native, s.pixmap, xwire.Drawable(w.desk), clipSize(s.of.w), clipSize(s.of.h))
	s.from = b.scaledPicture(xwire.Drawable(s.pixmap), format)
	d.RenderCreatePicture(s.to, xwire.Drawable(w.desk), format, xwire.RenderPictureValues{})
	return s, true
}

func (b *Bridge) freeSource(w *window) {
	if w.source.pixmap != 0 {
		b.Desk.RenderFreePicture(w.source.from)
		b.Desk.RenderFreePicture(w.source.to)
		b.Desk.FreePixmap(w.source.pixmap)
	}
	w.source = source{}
}

// scaledPicture is a picture as it is on the desktop. Its last pixels go on for ever,
// since it may end within one of the desktop's.
func (b *Bridge) scaledPicture(of xwire.Drawable, format xwire.RenderPictFormat) xwire.RenderPicture {
	const one = 1 << 16
	d, p := b.Desk, xwire.NewID[xwire.RenderPicture](b.Desk)
	d.RenderCreatePicture(p, of, format, xwire.RenderPictureValues{Mask: xwire.RenderCPRepeat, Repeat: xwire.RenderRepeatPad})
	step := xwire.RenderFixed(math.Round(one / float64(b.scale)))
	d.RenderSetPictureTransform(p, xwire.RenderTransform{Matrix11: step, Matrix22: step, Matrix33: one})
	filter := "bilinear"
	if b.scale.whole() {
		filter = "nearest" // which leaves letters sharp
	}
	d.RenderSetPictureFilter(p, filter, nil)
	return p
}

// stretch shows a part of a window's picture, of which it has been put into its source.
func (b *Bridge) stretch(w *window, to xwire.RenderPicture, part rect) {
	r := b.scale.cover(part).intersect(rect{0, 0, w.place.w, w.place.h})
	if !r.empty() {
		b.Desk.RenderComposite(xwire.RenderPictOpSrc, w.source.from, 0, to, clip16(r.x), clip16(r.y), 0, 0, clip16(r.x), clip16(r.y), clipSize(r.w), clipSize(r.h))
	}
}
