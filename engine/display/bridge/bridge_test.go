package bridge

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"hither/engine/display"
	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

func TestWindow(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		testWindow(t, b)
	})
	t.Run("sockets", func(t *testing.T) {
		b := newBench(t, xservers.Xvnc(t, size), true)
		b.o.NoSharedMemory = true
		b.start()
		testWindow(t, b)
	})
	t.Run("16 bits", func(t *testing.T) {
		b := newBench(t, xservers.Xvfb(t, "1280x800x16"), true)
		b.start()
		w := b.appWindow("deep", rect{0, 0, 300, 200}, 0xff0000, nil)
		_, at := b.ready("deep", w)
		eventually(t, "red", func() bool {
			r := must(b.user.GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(b.user.Root()), int16(at.x+5), int16(at.y+5), 1, 1, 0xffffffff))(t)
			return r.Data[0] == 0 && r.Data[1] == 0xf8
		})
	})
}

// testWindow goes through a window's life: seen, drawn, typed into, clicked,
// resized from either side, asked to close.
func testWindow(t *testing.T, b *bench) {
	w := b.appWindow("one", rect{0, 0, 300, 200}, 0x123456, nil)
	native, at := b.ready("one", w)
	if at.w != 300 || at.h != 200 {
		t.Errorf("the native window is %+v", at)
	}
	b.awaitPixel(at.x, at.y, 0x123456)
	b.awaitPixel(at.right()-1, at.bottom()-1, 0x123456)
	class := must(b.user.GetProperty(false, native, xwire.AtomWmClass, xwire.AtomAny, 0, 64))(t)
	if string(class.Value) != "one\x00Class\x00" {
		t.Errorf("the class is %q", class.Value)
	}
	b.fill(w, 0xabcdef, rect{100, 50, 20, 20})
	b.awaitPixel(at.x+100, at.y+50, 0xabcdef)
	b.awaitPixel(at.x+119, at.y+69, 0xabcdef)
	if c := b.pixel(at.x+120, at.y+70); c != 0x123456 {
		t.Errorf("beside what was drawn it is %06x", c)
	}

	b.click(at.x+10, at.y+20)
	press := await(t, b.app, func(e *xwire.ButtonPressEvent) bool { return e.Event == w })
	if press.EventX != 10 || press.EventY != 20 || press.Detail != 1 {
		t.Errorf("a click at 10, 20 came as %+v", press)
	}
	await(t, b.app, func(e *xwire.ButtonReleaseEvent) bool { return e.Event == w })
	b.focused(w)
	for _, key := range []uint8{38, 56, 62} { // a, b, right shift
		b.hand(fakeKeyPress, key, 0, 0)
		b.hand(fakeKeyRelease, key, 0, 0)
		if e := await[*xwire.KeyPressEvent](t, b.app, nil); uint8(e.Detail) != key {
			t.Errorf("the key %d came as %d", key, e.Detail)
		}
		await[*xwire.KeyReleaseEvent](t, b.app, nil)
	}
	b.hand(fakeButtonPress, 5, 0, 0)
	b.hand(fakeButtonRelease, 5, 0, 0)
	await(t, b.app, func(e *xwire.ButtonPressEvent) bool { return e.Detail == 5 })

	// The desktop's window manager resizes and moves it.
	frame := place(t, b.user, must(b.user.QueryTree(native))(t).Parent)
	message := func(kind string, values ...uint32) {
		m := xwire.ClientMessageEvent{Format: 32, Window: native, Type: must(b.user.Atom(kind))(t), Data: xwire.MessageData(values...)}
		b.user.SendEvent(false, b.user.Root(), xwire.EventMaskSubstructureNotify|xwire.EventMaskSubstructureRedirect, m.Encode())
		_ = b.user.Flush()
	}
	message("_NET_MOVERESIZE_WINDOW", 0xf<<8, 200, 150, 400, 250)
	both := func(want rect) func() bool {
		return func() bool { return place(t, b.user, native) == want && place(t, b.app, w) == want }
	}
	at = rect{200 + at.x - frame.x, 150 + at.y - frame.y, 400, 250}
	eventually(t, "the new size inside", both(at))
	b.awaitPixel(at.right()-1, at.bottom()-1, 0x123456)
	// The app resizes itself, and moves: it means its frame.
	b.app.ConfigureWindow(w, xwire.ConfigureValues{Mask: xwire.ConfigWindowWidth | xwire.ConfigWindowHeight, Width: 350, Height: 260})
	_ = b.app.Flush()
	at.w, at.h = 350, 260
	eventually(t, "the new size outside", both(at))
	b.awaitPixel(at.right()-1, at.bottom()-1, 0x123456)
	b.app.ConfigureWindow(w, xwire.ConfigureValues{Mask: xwire.ConfigWindowX | xwire.ConfigWindowY, X: 250, Y: 180})
	_ = b.app.Flush()
	at.x, at.y = at.x+50, at.y+30
	eventually(t, "the new place outside", both(at))
	// A wish for what is so already is answered all the same (ICCCM 4.1.5).
	drain(b.app)
	b.app.ConfigureWindow(w, xwire.ConfigureValues{Mask: xwire.ConfigWindowWidth, Width: 350})
	await(t, b.app, func(e *xwire.ConfigureNotifyEvent) bool { return e.Synthetic && e.Width == 350 && int(e.X) == at.x })

	// Names follow.
	b.app.ChangeProperty(xwire.PropModeReplace, w, xwire.AtomWmName, xwire.AtomString, 8, []byte("two"))
	_ = b.app.Flush()
	if again := b.nativeWindow("two"); again != native {
		t.Errorf("the window is %d after another name, and was %d", again, native)
	}
	// Its close button.
	message("_NET_CLOSE_WINDOW", 0, 2)
	del := must(b.app.Atom("WM_DELETE_WINDOW"))(t)
	await(t, b.app, func(e *xwire.ClientMessageEvent) bool { return xwire.Atom(e.Data.Uint32(0)) == del })
	b.app.DestroyWindow(w)
	_ = b.app.Flush()
	eventually(t, "the end of the native window", func() bool { return b.findNative(b.user.Root(), "two") == 0 })
}

func drain(c *xwire.Conn) {
	_ = c.Sync()
	_, _ = c.TakeEvents()
}

// TestEveryUpdate: however much is drawn however fast, the last picture is right.
func TestEveryUpdate(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		w := b.appWindow("busy", rect{0, 0, 400, 300}, 0, nil)
		_, at := b.ready("busy", w)
		r := rand.New(rand.NewPCG(1, 2))
		for range 30 {
			for range 100 {
				b.fill(w, r.Uint32()&0xffffff, rect{r.IntN(380), r.IntN(280), 1 + r.IntN(40), 1 + r.IntN(40)})
			}
			time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond) // to come at all kinds of moments
		}
		if err := b.app.Sync(); err != nil {
			t.Fatal(err)
		}
		want := must(b.app.GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(w), 0, 0, 400, 300, 0xffffff))(t)
		eventually(t, "the same picture", func() bool {
			got := must(b.user.GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(b.user.Root()), int16(at.x), int16(at.y), 400, 300, 0xffffff))(t)
			return bytes.Equal(mask(got.Data), mask(want.Data))
		})
	})
}

func mask(picture []byte) []byte {
	for i := 3; i < len(picture); i += 4 {
		picture[i] = 0
	}
	return picture
}

// TestPopup: a menu is where it should be; a click elsewhere reaches the app,
// and once the menu has gone it does not.
func TestPopup(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		w := b.appWindow("main", rect{0, 0, 300, 200}, 0x336699, nil)
		_, at := b.ready("main", w)
		b.click(at.x+5, at.y+5)
		b.focused(w)
		menu := xwire.NewID[xwire.Window](b.app)
		b.app.CreateWindow(0, menu, b.app.Root(), int16(at.x+20), int16(at.y+150), 80, 120, 1, xwire.WindowClassInputOutput, 0, xwire.WindowValues{
			Mask: xwire.CWBackPixel | xwire.CWBorderPixel | xwire.CWOverrideRedirect | xwire.CWEventMask, BackgroundPixel: 0x77aa33, BorderPixel: 0xff0000, OverrideRedirect: true,
			EventMask: xwire.EventMaskButtonPress,
		})
		b.app.MapWindow(menu)
		r, err := b.app.GrabPointer(true, menu, xwire.EventMaskButtonPress, xwire.GrabModeAsync, xwire.GrabModeAsync, 0, 0, 0)
		if err != nil || r.Status != xwire.GrabStatusSuccess {
			t.Fatal(r, err)
		}
		b.awaitPixel(at.x+20, at.y+150, 0xff0000) // its border
		b.awaitPixel(at.x+21, at.y+151, 0x77aa33)
		b.awaitPixel(at.x+100, at.y+270, 0x77aa33)

		// Elsewhere is another app's window.
		other := xwire.NewID[xwire.Window](b.user)
		b.user.CreateWindow(0, other, b.user.Root(), 0, 0, 40, 40, 0, xwire.WindowClassInputOutput, 0, xwire.WindowValues{
			Mask: xwire.CWOverrideRedirect | xwire.CWEventMask, OverrideRedirect: true, EventMask: xwire.EventMaskButtonPress})
		b.user.MapWindow(other)
		drain(b.app)
		eventually(t, "the bridge's grab", func() bool {
			r, err := b.user.GrabPointer(false, other, 0, xwire.GrabModeAsync, xwire.GrabModeAsync, 0, 0, 0)
			if err == nil && r.Status == xwire.GrabStatusSuccess {
				b.user.UngrabPointer(0)
				_ = b.user.Flush()
				return false
			}
			return true
		})
		b.click(20, 20)
		await(t, b.app, func(e *xwire.ButtonPressEvent) bool { return e.Event == menu })
		b.app.UngrabPointer(0)
		b.app.UnmapWindow(menu)
		_ = b.app.Flush()
		b.awaitPixel(at.x+21, at.y+151, 0x336699)
		eventually(t, "a click that is the other window's", func() bool {
			b.click(20, 20)
			_ = b.user.Sync()
			events, _ := b.user.TakeEvents()
			for _, ev := range events {
				if _, ok := ev.(*xwire.ButtonPressEvent); ok {
					return true
				}
			}
			return false
		})

		// A tooltip takes no clicks from others.
		b.app.ChangeProperty(xwire.PropModeReplace, menu, must(b.app.Atom("_NET_WM_WINDOW_TYPE"))(t), xwire.AtomAtom, 32,
			xwire.Uint32s(must(b.app.Atom("_NET_WM_WINDOW_TYPE_TOOLTIP"))(t)))
		b.app.MapWindow(menu)
		_ = b.app.Flush()
		b.awaitPixel(at.x+21, at.y+151, 0x77aa33)
		b.click(20, 20)
		await(t, b.user, func(e *xwire.ButtonPressEvent) bool { return e.Event == other })
	})
}

// TestNoDrift: however often a bridge comes and goes, windows stay where they
// are, and nothing is left behind in either server.
func TestNoDrift(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		w := b.appWindow("still", rect{0, 0, 300, 200}, 0x336699, nil)
		_, first := b.ready("still", w)
		b.awaitPixel(first.x+1, first.y+1, 0x336699)
		// Held when the bridge goes.
		b.click(first.x+5, first.y+5)
		b.focused(w)
		b.hand(fakeKeyPress, 50, 0, 0)
		await(t, b.app, func(e *xwire.KeyPressEvent) bool { return e.Detail == 50 })
		var before map[string]uint32
		for i := range 20 {
			b.part()
			left := holdings(t, b.app)
			if i == 0 {
				before = left
			} else if changed := differ(before, left); changed != "" {
				t.Fatalf("round %d leaves %s", i, changed)
			}
			keys := must(b.app.QueryKeymap())(t)
			if keys.Keys != [32]byte{} {
				t.Fatalf("keys are held: %v", keys.Keys)
			}
			if i%2 == 0 {
				b.back()
			} else {
				b.restart()
			}
			if _, at := b.ready("still", w); at != first {
				t.Fatalf("in round %d it is at %+v, and was at %+v", i, at, first)
			}
			b.awaitPixel(first.x+1, first.y+1, 0x336699)
		}
		b.hand(fakeKeyRelease, 50, 0, 0)
	})
}

// holdings are what an app's connection and the root window have.
func holdings(t testing.TB, c *xwire.Conn) map[string]uint32 {
	t.Helper()
	out := map[string]uint32{}
	r := must(c.ResQueryClientResources(c.Setup().ResourceIdBase))(t)
	for _, k := range r.Types {
		out[must(c.AtomNames(k.ResourceType))(t)[0]] = k.Count
	}
	tree := must(c.QueryTree(c.Root()))(t)
	out["windows"] = uint32(len(tree.Children))
	out["clients"] = uint32(len(must(c.ResQueryClients())(t).Clients))
	return out
}

func differ(a, b map[string]uint32) string {
	for k, v := range b {
		if a[k] != v {
			return k
		}
	}
	return ""
}

// TestDim: while the app is let go of, its windows show their last pictures,
// darker, and go on by themselves afterwards.
func TestDim(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.start()
		w := b.appWindow("left", rect{0, 0, 400, 300}, 0x808080, nil)
		native, at := b.ready("left", w)
		b.awaitPixel(at.x+5, at.y+5, 0x808080)
		b.part()
		eventually(t, "a darker picture", func() bool {
			c := b.pixel(at.x+5, at.y+5)
			return c&0xff > 0x20 && c&0xff < 0x70
		})
		b.orders <- display.Order{Op: display.OpProgress, Text: "moving to b", Share: 0.5}
		b.awaitPixel(at.x+200-panelWidth/2+panelMargin+2, at.y+150+panelHeight/2-panelMargin-2, 0x5aa2e0)
		b.awaitPixel(at.x+200+panelWidth/2-panelMargin-2, at.y+150+panelHeight/2-panelMargin-2, 0x4a515c)
		// What happens meanwhile is of no harm, and is not played later.
		b.click(at.x+5, at.y+5)
		b.fill(w, 0xff00ff, rect{0, 0, 10, 10})
		drain(b.app)
		b.back()
		b.awaitPixel(at.x+5, at.y+5, 0xff00ff)
		b.awaitPixel(at.x+200, at.y+150, 0x808080)
		if again, now := b.ready("left", w); again != native || now != at {
			t.Errorf("it is another window, or elsewhere: %d at %+v", again, now)
		}
		_ = b.app.Sync()
		events, _ := b.app.TakeEvents()
		for _, ev := range events {
			if e, ok := ev.(*xwire.ButtonPressEvent); ok {
				t.Errorf("a click came late: %+v", e)
			}
		}
		b.part()
		b.orders <- display.Order{Op: display.OpLeft, Host: "b"}
		<-b.ended
		if b.err != nil {
			t.Error(b.err)
		}
		eventually(t, "the end of the native window", func() bool { return b.findNative(b.user.Root(), "left") == 0 })
	})
}

// TestKilled: a bridge that is killed harms nothing, and the next one goes on.
func TestKilled(t *testing.T) {
	b := newBench(t, xservers.Xvfb(t, size), true)
	run := func() *os.Process {
		cmd := exec.Command("/proc/self/exe", "bridge")
		cmd.Env = append(os.Environ(), "DISPLAY="+b.desk.Display)
		cmd.Stderr = os.Stderr
		br, err := display.StartBridge(cmd, b.o.Begin)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { br.End(patience) })
		return cmd.Process
	}
	var w xwire.Window
	var at rect
	for i := range 5 {
		br := run()
		if i == 0 {
			w = b.appWindow("hardy", rect{0, 0, 300, 200}, 0x55aa55, nil)
			_, at = b.ready("hardy", w)
		}
		began := time.Now()
		if _, now := b.ready("hardy", w); now != at {
			t.Errorf("it is at %+v, and was at %+v", now, at)
		}
		b.awaitPixel(at.x+1, at.y+1, 0x55aa55)
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v to come back", d)
		}
		b.click(at.x+5, at.y+5)
		b.focused(w)
		b.hand(fakeKeyPress, 38, 0, 0)
		await[*xwire.KeyPressEvent](t, b.app, nil)
		if err := br.Kill(); err != nil {
			t.Fatal(err)
		}
		b.hand(fakeKeyRelease, 38, 0, 0)
		eventually(t, "the end of the native window", func() bool { return b.findNative(b.user.Root(), "hardy") == 0 })
	}
}
