package bridge

import (
	"testing"

	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

// TestXwayland: on a Wayland desktop a window of the app's is seen, takes keys and clicks, has menus, shares the
// clipboard, and is let go of and shown again.
func TestXwayland(t *testing.T) {
	desk, screen := xservers.Xwayland(t, size)
	b := newBench(t, desk, false)
	b.screen = dial(t, screen, xwire.XTest)
	b.start()
	w := b.appWindow("wayland", rect{0, 0, 300, 200}, 0x336699, nil)
	native := b.nativeWindow("wayland")
	at := b.find(0x336699)
	if at.w != 300 || at.h != 200 {
		t.Fatalf("it is seen at %+v", at)
	}
	b.fill(w, 0xabcdef, rect{100, 50, 20, 20})
	b.awaitPixel(at.x+110, at.y+60, 0xabcdef)

	// The compositor learns where the pointer is when it comes into its window.
	b.hand(fakeMotion, 0, int(b.screen.Screen().WidthInPixels)-1, 0)
	b.hand(fakeMotion, 0, at.x+9, at.y+20)
	b.hand(fakeMotion, 0, at.x+10, at.y+20)
	eventually(t, "the pointer in the window", func() bool {
		p := must(b.user.QueryPointer(native))(t)
		return p.WinX == 10 && p.WinY == 20
	})
	b.click(at.x+10, at.y+20)
	press := await(t, b.app, func(e *xwire.ButtonPressEvent) bool { return e.Event == w })
	if press.EventX != 10 || press.EventY != 20 {
		t.Errorf("a click at 10, 20 came as %+v", press)
	}
	b.focused(w)
	for _, key := range []uint8{38, 56} {
		b.hand(fakeKeyPress, key, 0, 0)
		b.hand(fakeKeyRelease, key, 0, 0)
	}
	if got := typedKeys(t, b, w, 2); got[0] != 38 || got[1] != 56 {
		t.Errorf("the keys came as %v", got)
	}

	// The wheel there is a smooth one, as those of touchpads are; the app's server has none (see the package comment). Not a step
	// is lost or doubled for it, however fast it is turned.
	smooth := func(c *xwire.Conn) (n int) {
		for _, device := range must(c.XIQueryDevice(xwire.XIDeviceAll))(t).Infos {
			for _, class := range device.Classes {
				if _, ok := class.Scroll(); ok {
					n++
				}
			}
		}
		return n
	}
	if there, inside := smooth(dial(t, desk, xwire.XInput)), smooth(dial(t, b.capsule, xwire.XInput)); there == 0 || inside != 0 {
		t.Errorf("%d smooth wheels on the desktop, %d inside", there, inside)
	}
	var turned, came []uint8
	for i, n := range []int{40, 15, 3, 7} {
		for range n {
			turned = append(turned, uint8(4+i))
		}
	}
	for _, button := range append(turned, 1) {
		b.hand(fakeButtonPress, button, 0, 0)
		b.hand(fakeButtonRelease, button, 0, 0)
	}
	for {
		e := await(t, b.app, func(e *xwire.ButtonPressEvent) bool { return e.Event == w })
		if e.Detail == 1 {
			break
		}
		came = append(came, uint8(e.Detail))
	}
	if string(came) != string(turned) {
		t.Errorf("the wheel's steps %v came as %v", turned, came)
	}

	// By now the app knows where it stands, which X clients hear late there.
	eventually(t, "the place inside", func() bool { return place(t, b.app, w) == at })
	menu := xwire.NewID[xwire.Window](b.app)
	b.app.CreateWindow(0, menu, b.app.Root(), int16(at.x+20), int16(at.y+150), 120, 160, 0, xwire.WindowClassInputOutput, 0, xwire.WindowValues{
		Mask: xwire.CWBackPixel | xwire.CWOverrideRedirect | xwire.CWEventMask, BackgroundPixel: 0x77aa33, OverrideRedirect: true, EventMask: xwire.EventMaskButtonPress,
	})
	b.app.MapWindow(menu)
	_ = b.app.Flush()
	b.awaitPixel(at.x+25, at.y+300, 0x77aa33)
	b.click(at.x+30, at.y+170)
	press = await(t, b.app, func(e *xwire.ButtonPressEvent) bool { return e.Event == menu })
	if press.EventX != 10 || press.EventY != 20 {
		t.Errorf("a click into the menu at 10, 20 came as %+v", press)
	}
	b.app.UnmapWindow(menu)
	_ = b.app.Flush()
	b.awaitPixel(at.x+25, at.y+170, 0x336699)

	b.part()
	eventually(t, "a darker picture", func() bool { c := b.pixel(at.x+5, at.y+5) & 0xff; return c > 0x20 && c < 0x80 })
	b.back()
	b.awaitPixel(at.x+5, at.y+5, 0x336699)
	if again, now := b.nativeWindow("wayland"), b.find(0x336699); again != native || now != at {
		t.Errorf("it is another window, or elsewhere: %d at %+v, was %+v", again, now, at)
	}
	b.stop()
	b.start()
	if now := b.find(0x336699); now.w != at.w || now.h != at.h { // where is the compositor's to say
		t.Errorf("after another start it is at %+v, was at %+v", now, at)
	}
	clipboard(t, b.capsule, "from the app")
	eventually(t, "the app's text", func() bool { return clipboard(t, b.desk, "") == "from the app" })
	clipboard(t, b.desk, "from the desktop")
	eventually(t, "the desktop's text", func() bool { return clipboard(t, b.capsule, "") == "from the desktop" })
}

// find waits for a colour on the screen, and says from where to where it is.
func (b *bench) find(colour uint32) (at rect) {
	b.t.Helper()
	eventually(b.t, "the window on the screen", func() bool {
		s := b.screen.Screen()
		r := must(b.screen.GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(b.screen.Root()), 0, 0, s.WidthInPixels, s.HeightInPixels, 0xffffffff))(b.t)
		at = rect{}
		for i, p := range xwire.ToUint32s(r.Data) {
			x, y := i%int(s.WidthInPixels), i/int(s.WidthInPixels)
			switch {
			case p&0xffffff != colour:
			case at.empty():
				at = rect{x, y, 1, 1}
			default:
				left, right := min(at.x, x), max(at.right(), x+1)
				at = rect{left, at.y, right - left, y + 1 - at.y}
			}
		}
		return !at.empty()
	})
	return at
}
