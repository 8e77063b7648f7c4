package bridge

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"hither/engine/display"
	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

func TestScaleOf(t *testing.T) {
	for _, c := range []struct {
		desk, inside float64
		want         scale
	}{
		{96, 96, 1}, {96, 100, 1}, {100, 96, 1}, {192, 96, 2}, {96, 192, 0.5}, {144, 96, 1.5}, {192, 144, 192.0 / 144}, {200, 96, 2},
		{10000, 96, mostScale}, {1, 96, leastScale},
	} {
		if got := scaleOf(c.desk, c.inside); got != c.want {
			t.Errorf("for %v dots per inch, and %v inside, it is %v, not %v", c.desk, c.inside, got, c.want)
		}
	}
}

// TestScaleKeeps: what is inside comes to a place on the desktop that means it again,
// by any factor; each pixel of the desktop is one of the window's.
func TestScaleKeeps(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range []scale{0.25, 0.5, 2.0 / 3, 1, 1.25, 1.5, 1.75, 2, 3, 4} {
		for range 1000 {
			in := rect{r.IntN(5000) - 500, r.IntN(3000) - 500, 1 + r.IntN(3000), 1 + r.IntN(3000)}
			out := s.outRect(in)
			if got := s.keep(out, in); got != in {
				t.Fatalf("by %v, %+v comes to %+v, which comes to %+v", s, in, out, got)
			}
			// Moved, or sized, only that changes.
			moved, sized := out, out
			moved.x += 40
			sized.w += 40
			if got := s.keep(moved, in); got.x == in.x || got.y != in.y || got.w != in.w || got.h != in.h {
				t.Fatalf("by %v, moved from %+v it is %+v", s, in, got)
			}
			if got := s.keep(sized, in); got.w == in.w || got.x != in.x || got.y != in.y || got.h != in.h {
				t.Fatalf("by %v, sized from %+v it is %+v", s, in, got)
			}
			for _, v := range []int{0, r.IntN(out.w), out.w - 1} {
				if p := s.pixel(v, out.w, in.w); p < 0 || p >= in.w || float64(p+1)*float64(s) < float64(v)-0.5 || float64(p)*float64(s) > float64(v)+1 {
					t.Fatalf("by %v, the pixel %d of %+v is %d", s, v, in, p)
				}
			}
			part := rect{r.IntN(in.w), r.IntN(in.h), 1, 1}
			if c := s.cover(part); c.w < 1 || c.h < 1 || c.x > s.out(part.x) || c.right() < s.out(part.right()) {
				t.Fatalf("by %v, %+v covers %+v", s, part, c)
			}
			beside := rect{part.right(), part.y, 7, 1}
			if a, b := s.edges(part), s.edges(beside); a.right() != b.x {
				t.Fatalf("by %v, neighbours are at %+v and %+v", s, a, b)
			}
		}
		if e := s.edges(rect{10, 20, 30, 40}); s == 1 && e != (rect{10, 20, 30, 40}) {
			t.Errorf("%+v", e)
		}
	}
	if got := scale(2).keep(rect{0, 0, 101, 101}, rect{0, 0, 60, 60}); got != (rect{0, 0, 51, 51}) {
		t.Errorf("101 pixels of the desktop mean %+v", got)
	}
}

func TestScaledHints(t *testing.T) {
	hints := [sizeHintNumbers]uint32{0: hintSteps | hintMinSize, 5: 10, 6: 17, 9: 6, 10: 13, 15: 4, 16: 4}
	if got := scale(2).hints(hints); got[0] != hints[0] || got[5] != 20 || got[6] != 34 || got[9] != 12 || got[10] != 26 || got[15] != 8 {
		t.Errorf("by 2: %v", got)
	}
	if got := scale(1.5).hints(hints); got[0] != hintMinSize || got[5] != 15 || got[6] != 26 {
		t.Errorf("by 1.5, where a step is 19.5 pixels: %v", got)
	}
	if got := scale(1).hints(hints); got != hints {
		t.Errorf("by 1: %v", got)
	}
}

// setDPI has a desktop of a bench say how many dots per inch it has.
func setDPI(t testing.TB, c *xwire.Conn, dpi int) {
	t.Helper()
	if err := c.ChangePropertyChecked(xwire.PropModeReplace, c.Root(), xwire.AtomResourceManager, xwire.AtomString, 8, fmt.Appendf(nil, "Xft.dpi: %d\n", dpi)); err != nil {
		t.Fatal(err)
	}
}

// readyBy is ready with a factor between the two.
func (b *bench) readyBy(name string, app xwire.Window, s scale) (xwire.Window, rect) {
	b.t.Helper()
	native := b.nativeWindow(name)
	var at, in rect
	defer func() {
		if b.t.Failed() {
			b.t.Logf("inside it is at %+v, outside at %+v", in, at)
		}
	}()
	eventually(b.t, fmt.Sprintf("both windows at the same place, by %v", s), func() bool {
		at, in = place(b.t, b.user, native), place(b.t, b.app, app)
		return s.keep(at, in) == in
	})
	return native, at
}

// elsewhere has the bridge go to another desktop, as after a move.
func (b *bench) elsewhere(desk *xservers.Server, dpi int) {
	b.t.Helper()
	b.part()
	b.stop()
	b.desk = desk
	b.user = dial(b.t, desk, xwire.XTest, xwire.Shape, xwire.XFixes)
	b.o.Display = desk.Display
	setDPI(b.t, b.user, dpi)
	b.manage()
	b.start()
}

const larger = "2560x1600" // for twice as many dots per inch

// TestScaled: an app that has begun at 96 dots per inch comes to a desktop with 192
// and is twice as large, in all that it does there.
func TestScaled(t *testing.T) {
	servers := map[string]func(testing.TB, string, ...string) *xservers.Server{"Xvfb": xservers.Xvfb, "Xvnc": xservers.Xvnc}
	for name, server := range servers {
		for _, memory := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", name, memory), func(t *testing.T) {
				b := newBench(t, xservers.Xvfb(t, size), true)
				b.o.NoSharedMemory = !memory
				b.start()
				w := b.appWindow("grows", rect{0, 0, 301, 201}, 0x123456, nil)
				_, before := b.ready("grows", w)
				b.elsewhere(server(t, larger), 192)
				testScaled(t, b, w)
				inside := place(t, b.app, w)
				for range 3 { // bridges come and go, and it stays as it is
					b.part()
					b.restart()
					if _, at := b.readyBy("grows", w, 2); place(t, b.app, w) != inside {
						t.Fatalf("it has become %+v inside, at %+v", place(t, b.app, w), at)
					}
				}
				b.elsewhere(xservers.Xvfb(t, size), 96)
				if _, at := b.ready("grows", w); at != inside || at.w != before.w || at.h != before.h {
					t.Errorf("it comes back as %+v, was %+v inside, and left as %+v", at, inside, before)
				}
			})
		}
	}
}

func testScaled(t *testing.T, b *bench, w xwire.Window) {
	native, at := b.readyBy("grows", w, 2)
	if at.w != 602 || at.h != 402 {
		t.Errorf("the native window is %+v", at)
	}
	b.awaitPixel(at.x, at.y, 0x123456)
	b.awaitPixel(at.right()-1, at.bottom()-1, 0x123456)
	b.fill(w, 0xabcdef, rect{100, 50, 20, 20})
	b.awaitPixel(at.x+200, at.y+100, 0xabcdef)
	b.awaitPixel(at.x+239, at.y+139, 0xabcdef)
	for _, p := range [][2]int{{199, 99}, {240, 140}} {
		if c := b.pixel(at.x+p[0], at.y+p[1]); c != 0x123456 {
			t.Errorf("beside what was drawn, at %v, it is %06x", p, c)
		}
	}
	b.click(at.x+21, at.y+40)
	press := await(t, b.app, func(e *xwire.ButtonPressEvent) bool { return e.Event == w })
	if press.EventX != 10 || press.EventY != 20 {
		t.Errorf("a click at 21, 40 came as %d, %d", press.EventX, press.EventY)
	}
	b.focused(w)
	b.hand(fakeKeyPress, 38, 0, 0)
	b.hand(fakeKeyRelease, 38, 0, 0)
	await(t, b.app, func(e *xwire.KeyPressEvent) bool { return e.Detail == 38 })

	// A menu, with a border.
	inside := place(t, b.app, w)
	menu := xwire.NewID[xwire.Window](b.app)
	b.app.CreateWindow(0, menu, b.app.Root(), int16(inside.x+20), int16(inside.y+150), 80, 60, 1, xwire.WindowClassInputOutput, 0, xwire.WindowValues{
		Mask: xwire.CWBackPixel | xwire.CWBorderPixel | xwire.CWOverrideRedirect | xwire.CWEventMask, BackgroundPixel: 0x77aa33, BorderPixel: 0xff0000, OverrideRedirect: true,
		EventMask: xwire.EventMaskButtonPress,
	})
	b.app.MapWindow(menu)
	_ = b.app.Flush()
	b.awaitPixel(2*(inside.x+20), 2*(inside.y+150), 0xff0000)
	b.awaitPixel(2*(inside.x+20)+1, 2*(inside.y+150)+1, 0xff0000)
	b.awaitPixel(2*(inside.x+20)+2, 2*(inside.y+150)+2, 0x77aa33)
	b.awaitPixel(2*(inside.x+101)-1, 2*(inside.y+211)-1, 0x77aa33)
	b.click(2*(inside.x+21+30), 2*(inside.y+151+40))
	if press := await(t, b.app, func(e *xwire.ButtonPressEvent) bool { return e.Event == menu }); press.EventX != 30 || press.EventY != 40 {
		t.Errorf("a click in the menu came as %d, %d", press.EventX, press.EventY)
	}
	b.app.DestroyWindow(menu)

	// The app and the window manager resize it, and move it.
	b.app.ConfigureWindow(w, xwire.ConfigureValues{Mask: xwire.ConfigWindowWidth | xwire.ConfigWindowHeight, Width: 350, Height: 260})
	_ = b.app.Flush()
	eventually(t, "the app's size", func() bool {
		at = place(t, b.user, native)
		return at.w == 700 && at.h == 520 && place(t, b.app, w).w == 350
	})
	b.awaitPixel(at.right()-1, at.bottom()-1, 0x123456)
	m := xwire.ClientMessageEvent{Format: 32, Window: native, Type: must(b.user.Atom("_NET_MOVERESIZE_WINDOW"))(t), Data: xwire.MessageData(0xf<<8, 300, 250, 601, 401)}
	b.user.SendEvent(false, b.user.Root(), xwire.EventMaskSubstructureNotify|xwire.EventMaskSubstructureRedirect, m.Encode())
	_ = b.user.Flush()
	eventually(t, "the window manager's size", func() bool {
		at = place(t, b.user, native)
		return at.w == 601 && place(t, b.app, w).w == 301 && place(t, b.app, w).h == 201
	})
	b.readyBy("grows", w, 2)
	b.awaitPixel(at.right()-1, at.bottom()-1, 0x123456)
	drain(b.app)
	b.app.ConfigureWindow(w, xwire.ConfigureValues{Mask: xwire.ConfigWindowWidth, Width: 301})
	await(t, b.app, func(e *xwire.ConfigureNotifyEvent) bool { return e.Synthetic && e.Width == 301 })
	b.app.ConfigureWindow(w, xwire.ConfigureValues{Mask: xwire.ConfigWindowX | xwire.ConfigWindowY, X: 60, Y: 70})
	_ = b.app.Flush()
	eventually(t, "the app's place", func() bool {
		frame := place(t, b.user, must(b.user.QueryTree(native))(t).Parent)
		return frame.x == 120 && frame.y == 140
	})
	b.readyBy("grows", w, 2)

	// Its outline, and the pointer's shape.
	b.app.ShapeRectangles(xwire.ShapeSoSet, xwire.ShapeSkBounding, xwire.ClipOrderingUnsorted, w, 0, 0, []xwire.Rectangle{{X: 10, Y: 10, Width: 100, Height: 50}})
	_ = b.app.Flush()
	eventually(t, "the outline", func() bool {
		r, err := b.user.ShapeGetRectangles(native, xwire.ShapeSkBounding)
		return err == nil && len(r.Rectangles) == 1 && r.Rectangles[0] == xwire.Rectangle{X: 20, Y: 20, Width: 200, Height: 100}
	})
	b.app.ShapeMask(xwire.ShapeSoSet, xwire.ShapeSkBounding, w, 0, 0, 0)
	at = place(t, b.user, native)
	b.hand(fakeMotion, 0, at.x+50, at.y+50)
	font, cursor := xwire.NewID[xwire.Font](b.app), xwire.NewID[xwire.Cursor](b.app)
	b.app.OpenFont(font, "cursor")
	b.app.CreateGlyphCursor(cursor, font, font, 150, 151, 0xffff, 0, 0, 0, 0xffff, 0)
	b.app.ChangeWindowAttributes(w, xwire.WindowValues{Mask: xwire.CWCursor, Cursor: cursor})
	eventually(t, "a larger pointer", func() bool {
		in, out := must(b.app.XFixesGetCursorImage())(t), must(b.user.XFixesGetCursorImage())(t)
		return out.Width == 2*in.Width && out.Height == 2*in.Height && out.Xhot == 2*in.Xhot
	})

	// What it is told of the desktop.
	work := must(b.app.GetProperty(false, b.app.Root(), must(b.app.Atom("_NET_DESKTOP_GEOMETRY"))(t), xwire.AtomCardinal, 0, 2))(t)
	if v := xwire.ToUint32s(work.Value); v[0] != 1280 || v[1] != 800 {
		t.Errorf("the desktop is %v inside", v)
	}
	// The last picture is as large.
	b.part()
	eventually(t, "a darker picture", func() bool {
		c := b.pixel(at.right()-3, at.bottom()-3)
		return c != 0x123456 && c != 0 && b.pixel(at.x+3, at.y+3) == c
	})
	b.back()
	b.awaitPixel(at.right()-3, at.bottom()-3, 0x123456)
	b.readyBy("grows", w, 2)
}

// TestScaledByFractions: however often it moves, and whatever the factor, a window is
// what it was.
func TestScaledByFractions(t *testing.T) {
	for _, c := range []struct{ inside, desk string }{{"96", "96"}, {"96", "144"}, {"192", "96"}, {"144", "96"}, {"144", "192"}} {
		t.Run(c.inside+" to "+c.desk, func(t *testing.T) {
			b := newBench(t, xservers.Xvfb(t, larger), true)
			b.capsule = startCapsuleOf(t, c.inside)
			b.app = dial(t, b.capsule, xwire.XTest, xwire.Shape, xwire.XFixes)
			b.o.Begin.Socket = b.capsule.Socket()
			var inside, desk float64
			fmt.Sscan(c.inside, &inside)
			fmt.Sscan(c.desk, &desk)
			setDPI(t, b.user, int(inside))
			b.start()
			w := b.appWindow("still", rect{0, 0, 333, 217}, 0x336699, func(w xwire.Window) {
				hints := make([]uint32, sizeHintNumbers)
				hints[0], hints[9], hints[10], hints[15], hints[16] = hintSteps|1<<8, 7, 13, 4, 9
				b.app.ChangeProperty(xwire.PropModeReplace, w, xwire.AtomWmNormalHints, xwire.AtomWmSizeHints, 32, xwire.Uint32s(hints...))
			})
			_, home := b.ready("still", w)
			homeDesk, away := b.desk, xservers.Xvnc(t, larger)
			s := scaleOf(desk, inside)
			for range 3 {
				b.elsewhere(away, int(desk))
				native, at := b.readyBy("still", w, s)
				if in := place(t, b.app, w); in.w != home.w || in.h != home.h || in.x != home.x || in.y != home.y {
					t.Fatalf("inside it is %+v, and was %+v", in, home)
				}
				if at.w != s.out(home.w) || at.h != s.out(home.h) {
					t.Fatalf("by %v it is %+v", s, at)
				}
				b.awaitPixel(at.x+2, at.y+2, 0x336699)
				b.awaitPixel(at.right()-1, at.bottom()-1, 0x336699)
				// Any size that the app asks for it gets, also where it comes to as many pixels.
				for _, width := range []uint32{340, 347, 333} {
					b.app.ConfigureWindow(w, xwire.ConfigureValues{Mask: xwire.ConfigWindowWidth, Width: width})
					_ = b.app.Flush()
					eventually(t, "the size it has asked for", func() bool {
						return place(t, b.app, w).w == int(width) && place(t, b.user, native).w == s.out(int(width))
					})
				}
				if in := place(t, b.app, w); in != home {
					t.Errorf("sized, it is at %+v, and was at %+v", in, home)
				}
				b.elsewhere(homeDesk, int(inside))
				if _, at := b.ready("still", w); at != home {
					t.Fatalf("it comes home as %+v, and left as %+v", at, home)
				}
			}
		})
	}
}

// TestScaleFollows: an app that heeds the settings is told of the desktop's scale and
// not scaled; others in its capsule have all of them left as they are.
func TestScaleFollows(t *testing.T) {
	b := newBench(t, xservers.Xvfb(t, larger), true)
	b.start()
	c := b.app
	counters := func(w xwire.Window) {
		b.app.ChangeProperty(xwire.PropModeReplace, w, must(c.Atom("_NET_WM_SYNC_REQUEST_COUNTER"))(t), xwire.AtomCardinal, 32, xwire.Uint32s[uint32](1, 2))
	}
	told := func(dpi float64) {
		t.Helper()
		eventually(t, fmt.Sprintf("settings of %v dots per inch", dpi), func() bool {
			got, err := display.DPIOf(b.app)
			return err == nil && got == dpi
		})
	}
	follower := b.appWindow("follower", rect{0, 0, 300, 200}, 0x123456, counters)
	b.ready("follower", follower)
	b.elsewhere(xservers.Xvnc(t, larger), 192)
	_, at := b.ready("follower", follower)
	if at.w != 300 {
		t.Errorf("it is scaled to %+v", at)
	}
	told(192)
	// Another, that does not follow, begins with what there is.
	other := b.appWindow("other", rect{0, 0, 300, 200}, 0x654321, nil)
	if _, at := b.ready("other", other); at.w != 300 {
		t.Errorf("the other one is scaled to %+v", at)
	}
	// It keeps that for both, also while the desktop changes.
	setDPI(t, b.user, 96)
	native, _ := b.readyBy("other", other, 0.5)
	b.readyBy("follower", follower, 0.5)
	eventually(t, "windows of half the size", func() bool { return place(t, b.user, native).w == 150 })
	if w := place(t, b.app, other).w; w != 300 {
		t.Errorf("inside it is %d pixels wide", w)
	}
	told(192)
	setDPI(t, b.user, 192)
	b.ready("other", other)
	setDPI(t, b.user, 96)
	b.readyBy("follower", follower, 0.5)
	// When it has gone, the first one follows again.
	b.app.DestroyWindow(other)
	_ = b.app.Flush()
	told(96)
	if _, at := b.ready("follower", follower); at.w != 300 {
		t.Errorf("it is %+v", at)
	}
	b.awaitPixel(at.x+5, at.y+5, 0x123456)
}

// TestScaleOfServerFonts: an app that writes with the server's fonts never gets smaller,
// for they are the same on any desktop.
func TestScaleOfServerFonts(t *testing.T) {
	b := newBench(t, xservers.Xvfb(t, size), true)
	setDPI(t, b.user, 192)
	b.capsule = startCapsuleOf(t, "192")
	b.app = dial(t, b.capsule)
	b.o.Begin.Socket = b.capsule.Socket()
	b.start()
	b.app.OpenFont(xwire.NewID[xwire.Font](b.app), "fixed")
	w := b.appWindow("old", rect{0, 0, 300, 200}, 0x336699, nil)
	b.ready("old", w)
	b.elsewhere(xservers.Xvnc(t, size), 96)
	if _, at := b.ready("old", w); at.w != 300 {
		t.Errorf("it has become %+v", at)
	}
	// Beside one that draws its text itself, though it has the font of pointers, it is
	// scaled like that.
	b.app = dial(t, b.capsule, xwire.Render)
	b.app.OpenFont(xwire.NewID[xwire.Font](b.app), "cursor")
	formats := must(b.app.RenderQueryPictFormats())(t)
	b.app.RenderCreatePicture(xwire.NewID[xwire.RenderPicture](b.app), xwire.Drawable(b.app.Root()), rootFormat(b.app, formats), xwire.RenderPictureValues{})
	beside := b.appWindow("new", rect{0, 0, 300, 200}, 0x996633, nil)
	b.readyBy("old", w, 0.5)
	native, _ := b.readyBy("new", beside, 0.5)
	eventually(t, "a smaller window", func() bool { return place(t, b.user, native).w == 150 })
}

// rootFormat is that of pictures of the root window.
func rootFormat(c *xwire.Conn, formats *xwire.RenderQueryPictFormatsReply) xwire.RenderPictFormat {
	for _, depth := range formats.Screens[0].Depths {
		for _, v := range depth.Visuals {
			if v.Visual == c.Screen().RootVisual {
				return v.Format
			}
		}
	}
	return 0
}
