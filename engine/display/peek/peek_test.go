package peek

import (
	"bufio"
	"errors"
	"image"
	"image/color"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"hither/engine/display/xwire"
)

// startServer starts an X server for a test; it returns its display and its socket.
func startServer(t *testing.T) (display, socket string) {
	t.Helper()
	if _, err := exec.LookPath("Xvfb"); err != nil {
		t.Skip("Xvfb is not installed")
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.Command("Xvfb", "-displayfd", "3", "-nolisten", "tcp", "-screen", "0", "800x600x24", "-noreset")
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT) //nolint:errcheck // a test may have stopped it
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		cmd.Wait()                          //nolint:errcheck // by that signal
	})
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb has not started: %v", err)
	}
	display = ":" + strings.TrimSpace(line)
	return display, "/tmp/.X11-unix/X" + display[1:]
}

// client is an app of a test's.
type client struct {
	t *testing.T
	*xwire.Conn
}

func newClient(t *testing.T, display string) client {
	t.Helper()
	c, err := xwire.Dial(t.Context(), display, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return client{t, c}
}

func (c client) window(x, y int16, w, h uint16, colour uint32, override bool) xwire.Window {
	c.t.Helper()
	id := xwire.NewID[xwire.Window](c.Conn)
	err := c.CreateWindowChecked(0, id, c.Root(), x, y, w, h, 0, xwire.WindowClassInputOutput, 0,
		xwire.WindowValues{Mask: xwire.CWBackPixel | xwire.CWOverrideRedirect, BackgroundPixel: colour, OverrideRedirect: override})
	if err == nil {
		err = c.MapWindowChecked(id)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

func (c client) set(w xwire.Window, name, kind string, format uint8, value []byte) {
	c.t.Helper()
	atoms, err := c.Atoms(name, kind)
	if err == nil {
		err = c.ChangePropertyChecked(xwire.PropModeReplace, w, atoms[0], atoms[1], format, value)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func TestApp(t *testing.T) {
	display, socket := startServer(t)
	c := newClient(t, display)
	main := c.window(10, 10, 300, 200, 0xff8000, false)
	c.set(main, "_NET_WM_NAME", "UTF8_STRING", 8, []byte("A títle\nof two lines\x00"))
	c.set(main, "WM_CLASS", "STRING", 8, []byte("mine\x00Mine\x00"))
	icon := []uint32{2, 1, 0xffff0000, 0x8000ff00, 4, 4}
	for range 16 {
		icon = append(icon, 0xff0000ff)
	}
	c.set(main, "_NET_WM_ICON", "CARDINAL", 32, xwire.Uint32s(icon...))
	dialog := c.window(400, 300, 390, 290, 0x00ff00, false)
	c.set(dialog, "WM_TRANSIENT_FOR", "WINDOW", 32, xwire.Uint32s(uint32(main)))
	c.window(0, 0, 700, 500, 0, true) // a popup
	if err := c.UnmapWindowChecked(c.window(0, 0, 700, 500, 0, false)); err != nil {
		t.Fatal(err)
	}

	s, err := OpenApp(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.Windows()
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	w := Main(list)
	if w.ID != main || w.Title != "A títle of two lines" || w.Instance != "mine" || w.Class != "Mine" || w.Width != 300 || w.Dialog {
		t.Errorf("%+v", w)
	}
	if d := list[1]; d.ID != dialog || !d.Dialog {
		t.Errorf("%+v", d)
	}
	// What lies on top hides it, unless somebody gives each window a picture of its own.
	if err := c.Use(xwire.Composite); err != nil {
		t.Fatal(err)
	}
	c.CompositeRedirectSubwindows(c.Root(), xwire.CompositeRedirectManual)
	c.ClearArea(false, main, 0, 0, 0, 0)
	if err := c.Sync(); err != nil {
		t.Fatal(err)
	}
	m, err := s.Picture(w)
	if err != nil {
		t.Fatal(err)
	}
	if m.Rect != image.Rect(0, 0, 300, 200) || m.RGBAAt(299, 199) != (color.RGBA{0xff, 0x80, 0, 0xff}) {
		t.Errorf("%v, %v", m.Rect, m.RGBAAt(299, 199))
	}
	if i := s.Icon(w, 4); i == nil || i.Bounds().Dx() != 4 {
		t.Errorf("the icon: %v", i)
	}
	if i := s.Icon(&list[1], 4); i != nil {
		t.Error("an icon of a window without")
	}
	if err := c.DestroyWindowChecked(main); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Picture(w); err == nil {
		t.Error("a window that has gone has a picture")
	}
}

// TestEdge: without a compositor, a window's part beyond the screen has no picture; the rest has.
func TestEdge(t *testing.T) {
	display, socket := startServer(t)
	c := newClient(t, display)
	c.window(-50, 500, 200, 200, 0x0000ff, false)
	s, err := OpenApp(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.Windows()
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	m, err := s.Picture(&list[0])
	if err != nil {
		t.Fatal(err)
	}
	if m.RGBAAt(0, 0).B != 0xff {
		t.Errorf("%v: %v", m.Rect, m.RGBAAt(0, 0))
	}
	c.window(900, 900, 50, 50, 0, false)
	if list, err = s.Windows(); err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	if m, err := s.Picture(&list[1]); err == nil && m.Rect.Empty() {
		t.Error("an empty picture")
	}
}

// TestStopped: a server that does not answer holds nobody up for long.
func TestStopped(t *testing.T) {
	display, socket := startServer(t)
	c := newClient(t, display)
	c.window(0, 0, 10, 10, 0, false)
	s, err := OpenApp(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := c.GrabServerChecked(); err != nil { // as good as stopped, for others
		t.Fatal(err)
	}
	began := time.Now()
	if list, err := s.Windows(); err == nil && len(list) > 0 {
		t.Errorf("a grabbed server answers: %v", list)
	}
	if took := time.Since(began); took > 30*patience {
		t.Errorf("it took %v", took)
	}
	if _, err := OpenApp(t.Context(), socket); err == nil {
		t.Error("a grabbed server can be opened")
	}
}

func TestDesktop(t *testing.T) {
	display, _ := startServer(t)
	c := newClient(t, display)
	w := c.window(0, 0, 10, 10, 0, false)
	dock := c.window(0, 0, 800, 10, 0, false)
	c.set(w, "WM_NAME", "STRING", 8, []byte("closable"))
	c.set(w, "_NET_WM_PID", "CARDINAL", 32, xwire.Uint32s[uint32](1))
	atoms, err := c.Atoms("WM_DELETE_WINDOW", "_NET_WM_WINDOW_TYPE_DOCK")
	if err != nil {
		t.Fatal(err)
	}
	c.set(w, "WM_PROTOCOLS", "ATOM", 32, xwire.Uint32s(uint32(atoms[0])))
	c.set(dock, "_NET_WM_WINDOW_TYPE", "ATOM", 32, xwire.Uint32s(uint32(atoms[1])))
	c.set(c.Root(), "_NET_CLIENT_LIST", "WINDOW", 32, xwire.Uint32s(uint32(w), uint32(dock)))
	s, err := OpenDesktop(t.Context(), display, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.Windows()
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	if list[0].Pid != os.Getpid() { // whatever the window says of itself
		t.Errorf("pid %d", list[0].Pid)
	}
	if list[0].Aside || !list[1].Aside {
		t.Errorf("%+v", list)
	}
	if ok, err := s.Ask(&list[1]); ok || err != nil {
		t.Errorf("asking what takes no asking: %v, %v", ok, err)
	}
	if ok, err := s.Ask(&list[0]); !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	for {
		ev, err := c.NextEvent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := ev.(*xwire.ClientMessageEvent); ok {
			if m.Window != w || xwire.ToUint32s(m.Data[:])[0] != uint32(atoms[0]) {
				t.Errorf("%+v", m)
			}
			break
		}
	}
}

func TestNobodyThere(t *testing.T) {
	if _, err := OpenApp(t.Context(), t.TempDir()+"/X0"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if Main(nil) != nil {
		t.Error("a window of nothing")
	}
}

func FuzzIcon(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x01\x00\x00\x00abcd"), 4)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if len(b)%4 == 0 && len(b) > 0 {
			iconOf(xwire.ToUint32s(b), size)
		}
	})
}
