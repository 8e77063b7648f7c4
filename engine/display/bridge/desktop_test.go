package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"hither/engine/display"
	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "bridge" {
		if err := Main(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const patience = 5 * time.Second

const size = "1280x800" // of desktops

func startCapsule(t testing.TB) *xservers.Server {
	return startCapsuleOf(t, "96")
}

// startCapsuleOf starts one whose apps have begun on a desktop of so many dots per inch.
func startCapsuleOf(t testing.TB, dpi string) *xservers.Server {
	return xservers.Xvfb(t, display.Screen, "-r", "-s", "0", "-dpi", dpi)
}

// onBoth runs a test on desktops of both kinds, with a window manager.
func onBoth(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Run("Xvfb", func(t *testing.T) { f(t, newBench(t, xservers.Xvfb(t, size), true)) })
	t.Run("Xvnc", func(t *testing.T) { f(t, newBench(t, xservers.Xvnc(t, size), true)) })
}

// bench is a capsule's server, a desktop, and a connection to each.
type bench struct {
	t             testing.TB
	capsule, desk *xservers.Server
	app, user     *xwire.Conn // an app inside; another of the desktop's
	screen        *xwire.Conn // with Xwayland, what a person sees and uses
	o             Options

	orders chan display.Order
	parted chan struct{}
	typed  chan []display.Stroke
	ended  chan struct{}
	err    error
	cancel context.CancelFunc
}

func newBench(t testing.TB, desk *xservers.Server, manager bool) *bench {
	t.Helper()
	b := &bench{t: t, capsule: startCapsule(t), desk: desk}
	b.app = dial(t, b.capsule, xwire.XTest, xwire.Shape, xwire.Res, xwire.XFixes)
	b.user = dial(t, desk, xwire.XTest, xwire.Shape, xwire.Res, xwire.XFixes)
	b.o = Options{Begin: display.Begin{Socket: b.capsule.Socket(), ID: "test", Name: "test"}, Display: desk.Display}
	if manager {
		b.manage()
	}
	return b
}

// manage starts a window manager on the desktop.
func (b *bench) manage() {
	b.t.Helper()
	path, err := exec.LookPath("openbox")
	if err != nil {
		b.t.Skip("openbox is not installed")
	}
	home := b.t.TempDir() // openbox writes there
	cmd := exec.Command(path, "--sm-disable")
	cmd.Env = []string{"DISPLAY=" + b.desk.Display, "HOME=" + home, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	// While it starts, openbox loses requests: one must have been heeded.
	eventually(b.t, "a window manager", func() bool {
		w := xwire.NewID[xwire.Window](b.user)
		b.user.CreateWindow(0, w, b.user.Root(), 0, 0, 10, 10, 0, xwire.WindowClassInputOutput, 0, xwire.WindowValues{})
		b.user.MapWindow(w)
		for range 50 {
			if r, err := b.user.QueryTree(w); err != nil || r.Parent != b.user.Root() {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
		r, err := b.user.QueryTree(w)
		b.user.DestroyWindow(w)
		return err == nil && r.Parent != b.user.Root()
	})
}

// start runs a bridge in this process.
func (b *bench) start() {
	b.t.Helper()
	b.orders, b.parted, b.ended = make(chan display.Order), make(chan struct{}, 1), make(chan struct{})
	b.typed = make(chan []display.Stroke, 1)
	var ctx context.Context
	ctx, b.cancel = context.WithCancel(context.Background())
	o := b.o
	o.Orders = b.orders
	o.Parted = func() error { b.parted <- struct{}{}; return nil }
	o.Typed = func(list []display.Stroke) error { b.typed <- list; return nil }
	if testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	ended := b.ended
	go func() { b.err = Run(ctx, o); close(ended) }()
	b.t.Cleanup(b.stop)
}

// stop ends the bridge and takes its windows away.
func (b *bench) stop() {
	if b.cancel == nil {
		return
	}
	b.cancel()
	<-b.ended
	b.cancel = nil
}

// restart ends the bridge and runs another as soon as the window manager has noticed: the
// next one's windows may have the same numbers, and openbox takes them for the old ones.
func (b *bench) restart() {
	b.t.Helper()
	b.stop()
	list := must(b.user.Atom("_NET_CLIENT_LIST"))(b.t)
	eventually(b.t, "an empty list of windows", func() bool {
		r, err := b.user.GetProperty(false, b.user.Root(), list, xwire.AtomWindow, 0, 1)
		return err == nil && len(r.Value) == 0
	})
	b.start()
}

func (b *bench) part() {
	b.t.Helper()
	b.orders <- display.Order{Op: display.OpPart}
	select {
	case <-b.parted:
	case <-time.After(patience):
		b.t.Fatal("the bridge does not let go")
	}
}

func (b *bench) back() { b.orders <- display.Order{Op: display.OpBack} }

func dial(t testing.TB, s *xservers.Server, exts ...*xwire.Extension) *xwire.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := xwire.DialPath(ctx, s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Use(exts...); err != nil {
		t.Fatal(err)
	}
	return c
}

// await returns the first event that f accepts.
func await[E xwire.Event](t testing.TB, c *xwire.Conn, f func(E) bool) E {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		ev, err := c.NextEvent(ctx)
		if err != nil {
			var none E
			t.Fatalf("waiting for a %T: %v", none, err)
		}
		if e, ok := ev.(E); ok && (f == nil || f(e)) {
			return e
		}
		var e *xwire.Error
		if err, ok := ev.(*xwire.Error); ok && errors.As(err, &e) {
			t.Fatal(e)
		}
	}
}

// eventually waits for what no event tells.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// appWindow makes a window of the app's, of one colour, and maps it.
func (b *bench) appWindow(name string, at rect, colour uint32, change func(w xwire.Window)) xwire.Window {
	b.t.Helper()
	c := b.app
	w := xwire.NewID[xwire.Window](c)
	c.CreateWindow(0, w, c.Root(), int16(at.x), int16(at.y), uint16(at.w), uint16(at.h), 0, xwire.WindowClassInputOutput, 0, xwire.WindowValues{
		Mask: xwire.CWBackPixel | xwire.CWEventMask, BackgroundPixel: colour,
		EventMask: xwire.EventMaskKeyPress | xwire.EventMaskKeyRelease | xwire.EventMaskButtonPress | xwire.EventMaskButtonRelease |
			xwire.EventMaskPointerMotion | xwire.EventMaskStructureNotify | xwire.EventMaskFocusChange | xwire.EventMaskExposure | xwire.EventMaskPropertyChange,
	})
	c.ChangeProperty(xwire.PropModeReplace, w, xwire.AtomWmName, xwire.AtomString, 8, []byte(name))
	c.ChangeProperty(xwire.PropModeReplace, w, xwire.AtomWmClass, xwire.AtomString, 8, []byte(name+"\x00Class\x00"))
	atoms := must(c.Atoms("WM_PROTOCOLS", "WM_DELETE_WINDOW"))(b.t)
	c.ChangeProperty(xwire.PropModeReplace, w, atoms[0], xwire.AtomAtom, 32, xwire.Uint32s(atoms[1]))
	if change != nil {
		change(w)
	}
	c.MapWindow(w)
	if err := c.Sync(); err != nil {
		b.t.Fatal(err)
	}
	return w
}

// nativeWindow waits until a window of that name is seen on the desktop.
func (b *bench) nativeWindow(name string) xwire.Window {
	b.t.Helper()
	var found xwire.Window
	eventually(b.t, "a native window of "+name, func() bool {
		found = b.findNative(b.user.Root(), name)
		return found != 0
	})
	return found
}

func (b *bench) findNative(in xwire.Window, name string) xwire.Window {
	tree, err := b.user.QueryTree(in)
	if err != nil {
		return 0
	}
	for _, w := range tree.Children {
		p, err := b.user.GetProperty(false, w, xwire.AtomWmName, xwire.AtomAny, 0, 256)
		if err == nil && string(p.Value) == name {
			a, err := b.user.GetWindowAttributes(w)
			if err == nil && a.MapState == xwire.MapStateViewable {
				return w
			}
		}
		if found := b.findNative(w, name); found != 0 {
			return found
		}
	}
	return 0
}

// place is where a window is on its root window.
func place(t testing.TB, c *xwire.Conn, w xwire.Window) rect {
	t.Helper()
	g := must(c.GetGeometry(xwire.Drawable(w)))(t)
	p := must(c.TranslateCoordinates(w, c.Root(), 0, 0))(t)
	return rect{int(p.DstX), int(p.DstY), int(g.Width), int(g.Height)}
}

// eyes are a person's, and hands.
func (b *bench) eyes() *xwire.Conn {
	if b.screen != nil {
		return b.screen
	}
	return b.user
}

// pixel is the colour at a place of the desktop.
func (b *bench) pixel(x, y int) uint32 {
	b.t.Helper()
	r, err := b.eyes().GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(b.eyes().Root()), int16(x), int16(y), 1, 1, 0xffffffff)
	if err != nil {
		b.t.Fatal(err)
	}
	return xwire.ToUint32s(r.Data)[0] & 0xffffff
}

func (b *bench) awaitPixel(x, y int, colour uint32) {
	b.t.Helper()
	for end := time.Now().Add(patience); b.pixel(x, y) != colour; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("the pixel at %d,%d is %06x and not %06x", x, y, b.pixel(x, y), colour)
		}
	}
}

// ready waits until a window is in its place on both sides, and returns the
// native one and the place.
func (b *bench) ready(name string, app xwire.Window) (xwire.Window, rect) {
	b.t.Helper()
	native := b.nativeWindow(name)
	var at rect
	eventually(b.t, "both windows at the same place", func() bool {
		at = place(b.t, b.user, native)
		return place(b.t, b.app, app) == at
	})
	return native, at
}

// hand plays what a person does.
func (b *bench) hand(kind, detail uint8, x, y int) {
	c := b.eyes()
	c.XTestFakeInput(kind, detail, 0, c.Root(), int16(x), int16(y), 0)
	_ = c.Flush()
}

func (b *bench) click(x, y int) {
	b.hand(fakeMotion, 0, x, y)
	b.hand(fakeButtonPress, 1, 0, 0)
	b.hand(fakeButtonRelease, 1, 0, 0)
}

// focused waits until a window has the keyboard inside.
func (b *bench) focused(w xwire.Window) {
	b.t.Helper()
	eventually(b.t, "the focus", func() bool {
		r, err := b.app.GetInputFocus()
		return err == nil && r.Focus == w
	})
}

// fill draws a rectangle in the app's window.
func (b *bench) fill(w xwire.Window, colour uint32, r rect) {
	gc := xwire.NewID[xwire.GContext](b.app)
	b.app.CreateGC(gc, xwire.Drawable(w), xwire.GCValues{Mask: xwire.GCForeground, Foreground: colour})
	b.app.PolyFillRectangle(xwire.Drawable(w), gc, []xwire.Rectangle{{X: int16(r.x), Y: int16(r.y), Width: uint16(r.w), Height: uint16(r.h)}})
	b.app.FreeGC(gc)
	_ = b.app.Flush()
}
