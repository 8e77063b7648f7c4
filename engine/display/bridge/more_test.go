package bridge

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

// states are the names of a window's states, on one side.
func states(t testing.TB, c *xwire.Conn, w xwire.Window) map[string]bool {
	t.Helper()
	r := must(c.GetProperty(false, w, must(c.Atom("_NET_WM_STATE"))(t), xwire.AtomAtom, 0, 64))(t)
	out := map[string]bool{}
	for _, a := range xwire.ToUint32s(r.Value) {
		out[must(c.AtomNames(xwire.Atom(a)))(t)[0]] = true
	}
	return out
}

func ask(t testing.TB, c *xwire.Conn, w xwire.Window, kind string, values ...uint32) {
	t.Helper()
	m := xwire.ClientMessageEvent{Format: 32, Window: w, Type: must(c.Atom(kind))(t), Data: xwire.MessageData(values...)}
	c.SendEvent(false, c.Root(), xwire.EventMaskSubstructureNotify|xwire.EventMaskSubstructureRedirect, m.Encode())
	if err := c.Sync(); err != nil {
		t.Fatal(err)
	}
}

// TestStates: full screen and minimised, from either side.
func TestStates(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		w := b.appWindow("stateful", rect{0, 0, 300, 200}, 0x336699, nil)
		native, at := b.ready("stateful", w)
		full := func(c *xwire.Conn) uint32 { return uint32(must(c.Atom("_NET_WM_STATE_FULLSCREEN"))(t)) }
		ask(t, b.app, w, "_NET_WM_STATE", 1, full(b.app))
		eventually(t, "the whole screen", func() bool {
			return place(t, b.app, w) == rect{0, 0, 1280, 800} && states(t, b.app, w)["_NET_WM_STATE_FULLSCREEN"]
		})
		b.awaitPixel(1279, 799, 0x336699)
		// It stays so for the next bridge, which knows the way back, too.
		b.stop()
		b.start()
		native, _ = b.ready("stateful", w)
		eventually(t, "the whole screen again", func() bool {
			return place(t, b.user, native) == rect{0, 0, 1280, 800} && states(t, b.app, w)["_NET_WM_STATE_FULLSCREEN"]
		})
		b.awaitPixel(1279, 799, 0x336699)
		ask(t, b.user, native, "_NET_WM_STATE", 0, full(b.user))
		eventually(t, "the old place", func() bool {
			return place(t, b.app, w) == at && !states(t, b.app, w)["_NET_WM_STATE_FULLSCREEN"]
		})

		state := must(b.app.Atom("WM_STATE"))(t)
		is := func() uint32 {
			r := must(b.app.GetProperty(false, w, state, state, 0, 2))(t)
			return xwire.ToUint32s(r.Value)[0]
		}
		ask(t, b.app, w, "WM_CHANGE_STATE", wmStateIconic)
		eventually(t, "an iconic window", func() bool { return is() == wmStateIconic && b.findNative(b.user.Root(), "stateful") == 0 })
		// It stays so for the next bridge.
		b.stop()
		b.start()
		b.fill(w, 0xff8800, rect{0, 0, 300, 200})
		eventually(t, "an icon", func() bool {
			list := must(b.user.GetProperty(false, b.user.Root(), must(b.user.Atom("_NET_CLIENT_LIST"))(t), xwire.AtomWindow, 0, 10))(t)
			clients := xwire.ToUint32s(list.Value)
			if len(clients) != 1 {
				return false
			}
			native = xwire.Window(clients[0])
			if _, err := b.user.GetGeometry(xwire.Drawable(native)); err != nil {
				return false // the former bridge's
			}
			return states(t, b.user, native)["_NET_WM_STATE_HIDDEN"]
		})
		if is() != wmStateIconic {
			t.Error("it is not iconic any more")
		}
		ask(t, b.user, native, "_NET_ACTIVE_WINDOW", 2)
		eventually(t, "a normal window", func() bool { return is() == wmStateNormal })
		// openbox moves it there in an animation.
		eventually(t, "the old place", func() bool { return place(t, b.user, native) == at })
		if now := place(t, b.app, w); now != at {
			t.Errorf("inside it is at %+v, and was at %+v", now, at)
		}
		b.awaitPixel(at.x+5, at.y+5, 0xff8800)
	})
}

// TestRaise: who speaks for the person brings a window to the front from inside.
func TestRaise(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		lower := b.appWindow("lower", rect{0, 0, 300, 200}, 0x336699, nil)
		native, _ := b.ready("lower", lower)
		upper := b.appWindow("upper", rect{0, 0, 300, 200}, 0x996633, nil)
		b.ready("upper", upper)
		ask(t, b.app, lower, "_NET_ACTIVE_WINDOW", sourcePager)
		active := must(b.user.Atom("_NET_ACTIVE_WINDOW"))(t)
		eventually(t, "the lower window is active", func() bool {
			r := must(b.user.GetProperty(false, b.user.Root(), active, xwire.AtomWindow, 0, 1))(t)
			v := xwire.ToUint32s(r.Value)
			return len(v) == 1 && xwire.Window(v[0]) == native
		})
	})
}

// TestDialog: a dialog knows its window on the desktop, too, and types, shapes
// and depths are the same.
func TestDialog(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		main := b.appWindow("main", rect{0, 0, 300, 200}, 0x336699, nil)
		mainNative, _ := b.ready("main", main)
		dialog := b.appWindow("dialog", rect{0, 0, 200, 100}, 0x993366, func(w xwire.Window) {
			b.app.ChangeProperty(xwire.PropModeReplace, w, xwire.AtomWmTransientFor, xwire.AtomWindow, 32, xwire.Uint32s(main))
			b.app.ChangeProperty(xwire.PropModeReplace, w, must(b.app.Atom("_NET_WM_WINDOW_TYPE"))(t), xwire.AtomAtom, 32,
				xwire.Uint32s(must(b.app.Atom("_NET_WM_WINDOW_TYPE_DIALOG"))(t)))
			b.app.ShapeRectangles(xwire.ShapeSoSet, xwire.ShapeSkBounding, 0, w, 0, 0, []xwire.Rectangle{{X: 50, Width: 150, Height: 100}})
		})
		native, _ := b.ready("dialog", dialog)
		leader := must(b.user.GetProperty(false, native, xwire.AtomWmTransientFor, xwire.AtomWindow, 0, 1))(t)
		if v := xwire.ToUint32s(leader.Value); len(v) != 1 || xwire.Window(v[0]) != mainNative {
			t.Errorf("the dialog is transient for %v and not %d", v, mainNative)
		}
		kind := must(b.user.GetProperty(false, native, must(b.user.Atom("_NET_WM_WINDOW_TYPE"))(t), xwire.AtomAtom, 0, 1))(t)
		if name := must(b.user.AtomNames(xwire.Atom(xwire.ToUint32s(kind.Value)[0])))(t)[0]; name != "_NET_WM_WINDOW_TYPE_DIALOG" {
			t.Errorf("the type is %s", name)
		}
		shape := must(b.user.ShapeGetRectangles(native, xwire.ShapeSkBounding))(t)
		if len(shape.Rectangles) != 1 || shape.Rectangles[0] != (xwire.Rectangle{X: 50, Width: 150, Height: 100}) {
			t.Errorf("the shape is %+v", shape.Rectangles)
		}
		b.app.ShapeMask(xwire.ShapeSoSet, xwire.ShapeSkBounding, dialog, 0, 0, 0)
		_ = b.app.Flush()
		eventually(t, "no shape", func() bool { return !must(b.user.ShapeQueryExtents(native))(t).BoundingShaped })

		// A translucent window.
		var argb xwire.VisualID
		for _, d := range b.app.Screen().AllowedDepths {
			if d.Depth == 32 && len(d.Visuals) > 0 {
				argb = d.Visuals[0].VisualId
			}
		}
		if argb == 0 {
			t.Skip("no translucent visual")
		}
		colormap, w := xwire.NewID[xwire.Colormap](b.app), xwire.NewID[xwire.Window](b.app)
		b.app.CreateColormap(xwire.ColormapAllocNone, colormap, b.app.Root(), argb)
		b.app.CreateWindow(32, w, b.app.Root(), 0, 0, 100, 100, 0, xwire.WindowClassInputOutput, argb, xwire.WindowValues{
			Mask: xwire.CWBackPixel | xwire.CWBorderPixel | xwire.CWColormap, BackgroundPixel: 0x80406080, Colormap: colormap})
		b.app.ChangeProperty(xwire.PropModeReplace, w, xwire.AtomWmName, xwire.AtomString, 8, []byte("clear"))
		b.app.MapWindow(w)
		_ = b.app.Flush()
		clear, _ := b.ready("clear", w)
		if g := must(b.user.GetGeometry(xwire.Drawable(clear)))(t); g.Depth != 32 {
			t.Errorf("the depth is %d", g.Depth)
		}
		eventually(t, "its alpha", func() bool {
			r, err := b.user.GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(clear), 50, 50, 1, 1, 0xffffffff)
			return err == nil && xwire.ToUint32s(r.Data)[0] == 0x80406080
		})

		// Its shadow, where it would be black.
		outline := func(what string, width, height uint16, shape ...xwire.Rectangle) {
			t.Helper()
			eventually(t, what, func() bool {
				g, s := must(b.user.GetGeometry(xwire.Drawable(clear)))(t), must(b.user.ShapeGetRectangles(clear, xwire.ShapeSkBounding))(t)
				return g.Width == width && g.Height == height && slices.Equal(s.Rectangles, shape)
			})
		}
		shadow := must(b.app.Atom("_GTK_FRAME_EXTENTS"))(t)
		outline("no shadow", 100, 100, xwire.Rectangle{Width: 100, Height: 100})
		b.app.ChangeProperty(xwire.PropModeReplace, w, shadow, xwire.AtomCardinal, 32, xwire.Uint32s[uint32](10, 20, 5, 15))
		_ = b.app.Flush()
		outline("a shadow", 100, 100, xwire.Rectangle{X: 10, Y: 5, Width: 70, Height: 80})
		b.app.ConfigureWindow(w, xwire.ConfigureValues{Mask: xwire.ConfigWindowWidth | xwire.ConfigWindowHeight, Width: 200, Height: 150})
		_ = b.app.Flush()
		outline("a larger one", 200, 150, xwire.Rectangle{X: 10, Y: 5, Width: 170, Height: 130})
		b.stop()
		compositor := xwire.NewID[xwire.Window](b.user)
		b.user.CreateWindow(0, compositor, b.user.Root(), 0, 0, 1, 1, 0, xwire.WindowClassInputOutput, 0, xwire.WindowValues{})
		b.user.SetSelectionOwner(compositor, must(b.user.Atom("_NET_WM_CM_S0"))(t), 0)
		_ = b.user.Flush()
		b.start()
		clear, _ = b.ready("clear", w)
		outline("the shadow on a desktop that blends", 200, 150, xwire.Rectangle{Width: 200, Height: 150})
	})
}

// TestPutBack: a window that comes as full screen is put where it was, when it is so no more; but not while a person
// drags it.
func TestPutBack(t *testing.T) {
	for _, dragged := range []bool{false, true} {
		b := newBench(t, xservers.Xvfb(t, size), false) // the window manager is this test
		b.user.ChangeWindowAttributes(b.user.Root(), xwire.WindowValues{Mask: xwire.CWEventMask,
			EventMask: xwire.EventMaskSubstructureRedirect | xwire.EventMaskSubstructureNotify})
		if err := b.user.Sync(); err != nil {
			t.Fatal(err)
		}
		w := b.appWindow("full", rect{0, 0, 1280, 800}, 0x336699, func(w xwire.Window) {
			set := func(name string, kind xwire.Atom, values ...uint32) {
				b.app.ChangeProperty(xwire.PropModeReplace, w, must(b.app.Atom(name))(t), kind, 32, xwire.Uint32s(values...))
			}
			set("WM_STATE", must(b.app.Atom("WM_STATE"))(t), wmStateNormal, 0)
			set("_NET_WM_STATE", xwire.AtomAtom, uint32(must(b.app.Atom("_NET_WM_STATE_FULLSCREEN"))(t)))
			set("_HITHER_NORMAL", xwire.AtomCardinal, 70, 60, 300, 200, 1, 1, 20, 5)
		})
		b.start()
		native := await[*xwire.MapRequestEvent](t, b.user, nil).Window
		is := func(full bool, values ...uint32) {
			b.user.ChangeProperty(xwire.PropModeReplace, native, must(b.user.Atom("_NET_WM_STATE"))(t), xwire.AtomAtom, 32, xwire.Uint32s(values...))
			_ = b.user.Flush()
			eventually(t, "the state", func() bool { return states(t, b.app, w)["_NET_WM_STATE_FULLSCREEN"] == full })
		}
		is(true, uint32(must(b.user.Atom("_NET_WM_STATE_FULLSCREEN"))(t)))
		b.user.MapWindow(native)
		if dragged {
			b.hand(fakeButtonPress, 1, 0, 0)
		}
		is(false)
		b.stop()
		if err := b.user.Sync(); err != nil {
			t.Fatal(err)
		}
		var asked []uint32
		for _, ev := range must(b.user.TakeEvents())(t) {
			if m, ok := ev.(*xwire.ClientMessageEvent); ok && m.Window == native && m.Type == must(b.user.Atom("_NET_MOVERESIZE_WINDOW"))(t) {
				asked = xwire.ToUint32s(m.Data[:])
			}
		}
		want := []uint32{uint32(xwire.GravityStatic) | 0xf<<8 | 1<<12, 70, 60, 300, 200}
		if dragged {
			want = nil
		}
		if !slices.Equal(asked, want) {
			t.Errorf("dragged %v: asked is for %v", dragged, asked)
		}
	}
}

// TestDesktopGone: the desktop's server ends and comes again; the app does not
// notice, and its windows come back.
func TestDesktopGone(t *testing.T) {
	own := fmt.Sprintf(":%d", 1000+os.Getpid()%10000) // which nobody else takes meanwhile
	desk := xservers.Xvfb(t, size, own)
	b := newBench(t, desk, true)
	b.start()
	w := b.appWindow("patient", rect{0, 0, 300, 200}, 0x336699, nil)
	b.ready("patient", w)
	desk.End()
	// Meanwhile a move is still possible.
	b.part()
	b.back()
	b.fill(w, 0x00ff00, rect{0, 0, 300, 200})
	b.desk = xservers.Xvfb(t, size, own)
	b.user = dial(t, b.desk, xwire.XTest)
	native := b.nativeWindow("patient")
	at := place(t, b.user, native)
	b.awaitPixel(at.x+10, at.y+10, 0x00ff00)
	// The end of the app's server is the bridge's.
	b.capsule.End()
	select {
	case <-b.ended:
	case <-time.After(patience):
		t.Fatal("the bridge outlives the app's server")
	}
}

// TestArrived: on a smaller desktop a window is seen as a whole.
func TestArrived(t *testing.T) {
	b := newBench(t, xservers.Xvfb(t, size), true)
	b.start()
	w := b.appWindow("traveller", rect{0, 0, 1000, 700}, 0x336699, nil)
	b.ready("traveller", w)
	b.part()
	b.stop()
	// The next desktop is smaller, and the window was at its far end.
	b.desk = xservers.Xvfb(t, "800x600")
	b.user = dial(t, b.desk, xwire.XTest)
	b.o.Display = b.desk.Display
	b.manage()
	b.start()
	_, at := b.ready("traveller", w)
	if !at.within(rect{0, 0, 800, 600}) {
		t.Errorf("on a screen of 800x600 it is at %+v", at)
	}
	b.awaitPixel(at.x+at.w-1, at.y+at.h-1, 0x336699)
}

// TestCursor: the pointer's shape is the app's.
func TestCursor(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		c := b.app
		font, cursor := xwire.NewID[xwire.Font](c), xwire.NewID[xwire.Cursor](c)
		c.OpenFont(font, "cursor")
		c.CreateGlyphCursor(cursor, font, font, 150, 151, 0xffff, 0, 0, 0, 0xffff, 0)
		w := b.appWindow("shapely", rect{0, 0, 300, 200}, 0x336699, nil)
		_, at := b.ready("shapely", w)
		b.hand(fakeMotion, 0, at.x+10, at.y+10)
		await[*xwire.MotionNotifyEvent](t, c, nil)
		before := must(b.user.XFixesGetCursorImage())(t)
		c.ChangeWindowAttributes(w, xwire.WindowValues{Mask: xwire.CWCursor, Cursor: cursor})
		want := must(c.XFixesGetCursorImage())(t)
		eventually(t, "the app's cursor", func() bool {
			got := must(b.user.XFixesGetCursorImage())(t)
			return got.CursorSerial != before.CursorSerial && got.Width == want.Width && got.Xhot == want.Xhot && string(xwire.Uint32s(got.CursorImage...)) == string(xwire.Uint32s(want.CursorImage...))
		})
	})
}

// TestRest: nothing wakes a bridge whose app does nothing.
func TestRest(t *testing.T) {
	b := newBench(t, xservers.Xvfb(t, size), true)
	b.start()
	w := b.appWindow("idle", rect{0, 0, 300, 200}, 0x336699, nil)
	_, at := b.ready("idle", w)
	b.awaitPixel(at.x+1, at.y+1, 0x336699)
	var used [2]time.Duration
	for i := range used {
		before := cpuOf(t, b)
		time.Sleep(300 * time.Millisecond) // there is no event for nothing
		used[i] = cpuOf(t, b) - before
	}
	if used[1] > 0 {
		t.Errorf("the servers of an app at rest used %v", used[1])
	}
}

// TestHiddenGrab: a grab that no event tells of, as Swing's, is found as well.
func TestHiddenGrab(t *testing.T) {
	b := newBench(t, xservers.Xvfb(t, size), true)
	b.start()
	c := b.app
	w := b.appWindow("deep", rect{0, 0, 300, 200}, 0x336699, nil)
	_, at := b.ready("deep", w)
	inner := w
	var windows []xwire.Window
	for range 2 {
		child := xwire.NewID[xwire.Window](c)
		c.CreateWindow(0, child, inner, 0, 0, 300, 200, 0, xwire.WindowClassInputOutput, 0, xwire.WindowValues{})
		c.MapWindow(child)
		inner = child
		windows = append(windows, child)
	}
	b.click(at.x+5, at.y+5)
	await[*xwire.ButtonPressEvent](t, c, nil)
	b.focused(w)
	c.SetInputFocus(xwire.InputFocusParent, inner, 0)
	popup := xwire.NewID[xwire.Window](c)
	c.CreateWindow(0, popup, c.Root(), int16(at.x+20), int16(at.y+20), 80, 40, 0, xwire.WindowClassInputOutput, 0, xwire.WindowValues{
		Mask: xwire.CWBackPixel | xwire.CWOverrideRedirect, BackgroundPixel: 0x77aa33, OverrideRedirect: true})
	c.MapWindow(popup)
	if r := must(c.GrabPointer(false, inner, xwire.EventMaskButtonPress, xwire.GrabModeAsync, xwire.GrabModeAsync, 0, 0, 0))(t); r.Status != xwire.GrabStatusSuccess {
		t.Fatal(r.Status)
	}
	if r := must(c.GrabKeyboard(false, windows[0], 0, xwire.GrabModeAsync, xwire.GrabModeAsync))(t); r.Status != xwire.GrabStatusSuccess {
		t.Fatal(r.Status)
	}
	b.awaitPixel(at.x+25, at.y+25, 0x77aa33)
	drain(c)
	grabbed := func() bool {
		r := must(b.user.GrabPointer(false, b.user.Root(), 0, xwire.GrabModeAsync, xwire.GrabModeAsync, 0, 0, 0))(t)
		b.user.UngrabPointer(0)
		_ = b.user.Flush()
		return r.Status == xwire.GrabStatusAlreadyGrabbed
	}
	eventually(t, "the bridge's grab", grabbed)
	b.click(1200, 20)
	press := await[*xwire.ButtonPressEvent](t, c, nil)
	if press.Event != inner || press.RootX != 1200 || press.RootY != 20 {
		t.Errorf("a click elsewhere came as %+v", press)
	}
	// Without the grab it is nobody's.
	c.UngrabPointer(0)
	c.UngrabKeyboard(0)
	c.DestroyWindow(popup)
	if err := c.Sync(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the bridge's grab", func() bool { return !grabbed() })
}

// TestPopupOfNoKind: while the pointer is in a popup that says not what it is, and for which nothing is grabbed, neither
// side is kept busy.
func TestPopupOfNoKind(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		w := b.appWindow("below", rect{0, 0, 300, 200}, 0x808080, nil)
		_, at := b.ready("below", w)
		b.awaitPixel(at.x+5, at.y+5, 0x808080)
		b.click(at.x+5, at.y+5)
		b.focused(w)
		popup := xwire.NewID[xwire.Window](b.app)
		b.app.CreateWindow(0, popup, b.app.Root(), int16(at.x+50), int16(at.y+50), 60, 60, 0, xwire.WindowClassInputOutput, 0, xwire.WindowValues{
			Mask: xwire.CWBackPixel | xwire.CWOverrideRedirect | xwire.CWEventMask, BackgroundPixel: 0x77aa33, OverrideRedirect: true, EventMask: xwire.EventMaskPointerMotion,
		})
		b.app.MapWindow(popup)
		_ = b.app.Flush()
		b.awaitPixel(at.x+60, at.y+60, 0x77aa33)
		drain(b.app)
		b.hand(fakeMotion, 0, at.x+60, at.y+60)
		await(t, b.app, func(e *xwire.MotionNotifyEvent) bool { return e.Event == popup })
		b.hand(fakeMotion, 0, at.x+20, at.y+20) // out of it: now it may be a click elsewhere
		b.hand(fakeMotion, 0, at.x+70, at.y+70)
		await(t, b.app, func(e *xwire.MotionNotifyEvent) bool { return e.Event == popup && e.EventX == 20 })
		time.Sleep(200 * time.Millisecond) // nobody tells that nothing happens
		if err := b.app.Sync(); err != nil {
			t.Fatal(err)
		}
		tries := 0
		for _, ev := range must(b.app.TakeEvents())(t) {
			if e, ok := ev.(*xwire.FocusOutEvent); ok && e.Mode == xwire.NotifyModeGrab {
				tries++
			}
		}
		if tries > 10 {
			t.Errorf("grabs were looked for %d times", tries)
		}
	})
}
