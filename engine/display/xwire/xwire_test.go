package xwire

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two servers put their extensions at different numbers; each connection must
// know its own.
func TestTwoServers(t *testing.T) {
	servers := []*server{startXvfb(t), startXvnc(t)}
	var conns []*Conn
	var windows []Window
	for _, s := range servers {
		c := s.dial(Composite, XFixes, Damage)
		w := window(t, c, 100, 80, 0)
		conns, windows = append(conns, c), append(windows, w)
	}
	a, b := conns[0].tables.Load().places[Damage], conns[1].tables.Load().places[Damage]
	if a.firstEvent == b.firstEvent {
		t.Errorf("both servers have DAMAGE at event %d, so that this test shows little", a.firstEvent)
	}
	for i, c := range conns {
		ok(t, c.CompositeRedirectWindowChecked(windows[i], CompositeRedirectManual))
		ok(t, c.DamageCreateChecked(NewID[DamageDamage](c), Drawable(windows[i]), DamageReportLevelRawRectangles))
	}
	for round := range 3 {
		for i, c := range conns {
			gc := NewID[GContext](c)
			c.CreateGC(gc, Drawable(windows[i]), GCValues{Mask: GCForeground, Foreground: 0xff0000})
			c.PolyFillRectangle(Drawable(windows[i]), gc, []Rectangle{{X: 5, Y: int16(6 + round), Width: 7, Height: 8}})
			c.FreeGC(gc)
		}
		for i, c := range conns {
			e := await(t, c, func(e *DamageNotifyEvent) bool { return e.Area.Width == 7 })
			if want := (Rectangle{X: 5, Y: int16(6 + round), Width: 7, Height: 8}); e.Area != want || e.Drawable != Drawable(windows[i]) {
				t.Errorf("server %d: damage %+v of %d, wanted %+v", i, e.Area, e.Drawable, want)
			}
		}
	}
	// Damage gathered in a region, as the bridge fetches it.
	for i, c := range conns {
		d, region := NewID[DamageDamage](c), NewID[XFixesRegion](c)
		c.DamageCreate(d, Drawable(windows[i]), DamageReportLevelNonEmpty)
		c.XFixesCreateRegion(region, nil)
		c.DamageSubtract(d, XFixesRegionNone, XFixesRegionNone)
		c.ClearArea(false, windows[i], 1, 2, 3, 4)
		c.ClearArea(false, windows[i], 50, 2, 3, 4)
		c.DamageSubtract(d, XFixesRegionNone, region)
		r := must(c.XFixesFetchRegion(region))(t)
		if len(r.Rectangles) != 2 || r.Extents != (Rectangle{X: 1, Y: 2, Width: 52, Height: 4}) {
			t.Errorf("server %d: region %+v", i, r)
		}
	}
}

func TestWindowsAndProperties(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := s.dial()
		w := window(t, c, 300, 200, EventMaskStructureNotify|EventMaskPropertyChange)
		g := must(c.GetGeometry(Drawable(w)))(t)
		if g.X != 10 || g.Y != 20 || g.Width != 300 || g.Height != 200 || g.Root != c.Root() || g.Depth != c.Screen().RootDepth {
			t.Errorf("geometry %+v", g)
		}
		c.ConfigureWindow(w, ConfigureValues{Mask: ConfigWindowX | ConfigWindowWidth | ConfigWindowStackMode, X: -5, Width: 250, StackMode: StackModeAbove})
		e := await[*ConfigureNotifyEvent](t, c, nil)
		if e.X != -5 || e.Y != 20 || e.Width != 250 || e.Height != 200 || !e.OverrideRedirect {
			t.Errorf("configured to %+v", e)
		}
		attributes := must(c.GetWindowAttributes(w))(t)
		if attributes.MapState != MapStateViewable || !attributes.OverrideRedirect || attributes.YourEventMask&EventMaskPropertyChange == 0 {
			t.Errorf("attributes %+v", attributes)
		}

		atoms := must(c.Atoms("_NET_WM_NAME", "UTF8_STRING", "_HITHER_LIST"))(t)
		name := "Grüße, 世界"
		c.ChangeProperty(PropModeReplace, w, atoms[0], atoms[1], 8, []byte(name))
		list := []uint32{1, 0xffffffff, 3}
		c.ChangeProperty(PropModeReplace, w, atoms[2], AtomCardinal, 32, Uint32s(list...))
		if e := await(t, c, func(e *PropertyNotifyEvent) bool { return e.Atom == atoms[2] }); e.State != PropertyNewValue {
			t.Errorf("property %+v", e)
		}
		p := must(c.GetProperty(false, w, atoms[0], AtomAny, 0, 1<<20))(t)
		if string(p.Value) != name || p.Type != atoms[1] || p.Format != 8 || p.BytesAfter != 0 {
			t.Errorf("property %+v", p)
		}
		p = must(c.GetProperty(false, w, atoms[2], AtomCardinal, 0, 1<<20))(t)
		if got := ToUint32s(p.Value); fmt.Sprint(got) != fmt.Sprint(list) {
			t.Errorf("property %v, wanted %v", got, list)
		}
		if p := must(c.GetProperty(false, w, AtomWmHints, AtomAny, 0, 100))(t); p.Type != AtomNone || len(p.Value) != 0 {
			t.Errorf("a property that is not there: %+v", p)
		}
		if p := must(c.ListProperties(w))(t); len(p.Atoms) != 2 {
			t.Errorf("properties %v", p.Atoms)
		}
		other := s.dial()
		names := must(other.AtomNames(atoms[2], AtomNone, atoms[0], AtomWmName))(t)
		if fmt.Sprint(names) != "[_HITHER_LIST  _NET_WM_NAME WM_NAME]" {
			t.Errorf("names %q", names)
		}

		// A property larger than a plain request.
		large := bytes.Repeat([]byte("0123456789abcde\n"), 60_000)
		ok(t, c.ChangePropertyChecked(PropModeReplace, w, atoms[0], atoms[1], 8, large))
		if p := must(c.GetProperty(false, w, atoms[0], AtomAny, 0, 1<<24))(t); !bytes.Equal(p.Value, large) {
			t.Errorf("%d bytes of a property, wanted %d", len(p.Value), len(large))
		}

		// A message from one client to another, and a window within a window.
		child := NewID[Window](other)
		other.CreateWindow(0, child, w, 1, 2, 3, 4, 0, WindowClassInputOnly, 0, WindowValues{})
		m := ClientMessageEvent{Format: 32, Window: w, Type: atoms[2], Data: MessageData(7, 8, 9)}
		other.SendEvent(false, w, EventMaskStructureNotify, m.Encode())
		ok(t, other.Flush())
		got := await[*ClientMessageEvent](t, c, nil)
		if !got.Synthetic || got.Type != atoms[2] || got.Data.Uint32(2) != 9 || got.Format != 32 {
			t.Errorf("message %+v", got)
		}
		if tree := must(c.QueryTree(w))(t); len(tree.Children) != 1 || tree.Children[0] != child || tree.Parent != c.Root() {
			t.Errorf("tree %+v", tree)
		}
		at := must(c.TranslateCoordinates(child, c.Root(), 0, 0))(t)
		if at.DstX != -4 || at.DstY != 22 {
			t.Errorf("the child is at %d,%d", at.DstX, at.DstY)
		}
	})
}

func TestErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := s.dial(Damage)
		_, err := c.GetGeometry(1)
		var e *Error
		if !errors.Is(err, ErrDrawable) || errors.Is(err, ErrWindow) || !errors.As(err, &e) || e.Value != 1 || e.Request != "GetGeometry" {
			t.Errorf("GetGeometry(1): %v", err)
		}
		if err := c.MapWindowChecked(2); !errors.Is(err, ErrWindow) {
			t.Errorf("MapWindow(2): %v", err)
		}
		if err := c.DamageDestroyChecked(3); !errors.Is(err, ErrDamageDamage) {
			t.Errorf("DamageDestroy(3): %v", err)
		} else if errors.As(err, &e) && e.Request != "DAMAGE Destroy" {
			t.Errorf("DamageDestroy(3): %v", err)
		}
		ok(t, c.NoOperationChecked())
		// Unchecked ones come between the events, in order.
		c.UnmapWindow(4)
		c.MapWindow(5)
		ok(t, c.Sync())
		events := must(c.TakeEvents())(t)
		if len(events) != 2 || events[0].(*Error).Value != 4 || events[1].(*Error).Value != 5 || events[0].Header().Sequence+1 != events[1].Header().Sequence {
			t.Errorf("events %v", events)
		}
		// What cannot be sent is told the same way.
		c.OpenFont(NewID[Font](c), string(make([]byte, 70_000)))
		events = must(c.TakeEvents())(t)
		if len(events) != 1 || events[0].(*Error).Local == nil {
			t.Errorf("events %v", events)
		}
		if _, err := c.InternAtom(false, string(make([]byte, 70_000))); err == nil {
			t.Error("an atom of 70000 bytes was sent")
		}
		nowhere := &Extension{name: "HITHER-NONE"}
		if err := c.Use(Shape, nowhere); !errors.Is(err, ErrNoExtension) || !c.Has(Shape) || c.Has(nowhere) {
			t.Errorf("Use: %v", err)
		}
	})
}

// More requests without a reply than the wire has sequence numbers.
func TestSequenceNumbers(t *testing.T) {
	c := startXvfb(t).dial()
	w := window(t, c, 10, 10, EventMaskPropertyChange)
	for range 200_000 {
		c.NoOperation()
	}
	c.MapWindow(77)
	c.ChangeProperty(PropModeReplace, w, AtomWmName, AtomString, 8, []byte("x"))
	ok(t, c.Sync())
	events := must(c.TakeEvents())(t)
	if len(events) != 2 || events[0].Header().Sequence < 200_000 || events[1].(*PropertyNotifyEvent).Sequence != events[0].Header().Sequence+1 {
		t.Errorf("events %+v", events)
	}
	for range 100_000 {
		c.GetInputFocusAsync() // never waited for
	}
	if err := c.MapWindowChecked(78); !errors.Is(err, ErrWindow) {
		t.Errorf("MapWindow(78): %v", err)
	}
}

// When the connection's own ids are used up, the server says which are free.
func TestIDs(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := s.dial()
		w := window(t, c, 10, 10, 0)
		c.ids.left = 0
		seen := map[Window]bool{w: true}
		for range 50 {
			id := NewID[Window](c)
			if id == 0 || seen[id] {
				t.Fatalf("id %#x", id)
			}
			seen[id] = true
			ok(t, c.CreateWindowChecked(0, id, c.Root(), 0, 0, 1, 1, 0, WindowClassInputOutput, 0, WindowValues{}))
		}
	})
}

func TestImages(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := s.dial()
		const width, height = 1000, 700
		pixmap, gc := NewID[Pixmap](c), NewID[GContext](c)
		c.CreatePixmap(24, pixmap, Drawable(c.Root()), width, height)
		c.CreateGC(gc, Drawable(pixmap), GCValues{})
		data := picture(width, height)
		ok(t, c.PutImageChecked(ImageFormatZPixmap, Drawable(pixmap), gc, width, height, 0, 0, 0, 24, data))
		r := must(c.GetImage(ImageFormatZPixmap, Drawable(pixmap), 0, 0, width, height, 0xffffffff))(t)
		comparePictures(t, r.Data, data)
		// Small ones are gathered with other requests.
		c.PutImage(ImageFormatZPixmap, Drawable(pixmap), gc, 2, 1, 0, 0, 0, 24, []byte{1, 2, 3, 0, 4, 5, 6, 0})
		r = must(c.GetImage(ImageFormatZPixmap, Drawable(pixmap), 0, 0, 2, 1, 0xffffffff))(t)
		comparePictures(t, r.Data, []byte{1, 2, 3, 0, 4, 5, 6, 0})
	})
}

func picture(width, height int) []byte {
	data := make([]byte, 4*width*height)
	for i := range data {
		if i%4 != 3 {
			data[i] = byte(i * 7 >> 3)
		}
	}
	return data
}

// comparePictures leaves out the fourth byte of each pixel, which is not drawn.
func comparePictures(t *testing.T, got, want []byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("a picture of %d bytes, wanted %d", len(got), len(want))
	}
	for i := range got {
		if i%4 != 3 && got[i] != want[i] {
			t.Fatalf("the picture differs at byte %d", i)
		}
	}
}

// One piece of memory attached to two servers, and one that the server made.
func TestSharedMemory(t *testing.T) {
	const width, height = 640, 480
	const size = 4 * width * height
	fd, err := unix.MemfdCreate("picture", unix.MFD_CLOEXEC)
	ok(t, err)
	file := os.NewFile(uintptr(fd), "picture")
	defer file.Close()
	ok(t, file.Truncate(size))
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	ok(t, err)
	defer unix.Munmap(memory)
	want := picture(width, height)
	onBoth(t, func(t *testing.T, s *server) {
		c := s.dial(Shm)
		if major, minor := c.Version(Shm); major != 1 || minor < 2 {
			t.Fatalf("MIT-SHM %d.%d", major, minor)
		}
		copy(memory, want)
		w := window(t, c, width, height, 0)
		gc, seg := NewID[GContext](c), NewID[ShmSeg](c)
		c.CreateGC(gc, Drawable(w), GCValues{})
		ok(t, c.ShmAttachFdChecked(seg, file, false))
		c.ShmPutImage(Drawable(w), gc, width, height, 0, 0, width, height, 0, 0, 24, uint8(ImageFormatZPixmap), true, seg, 0)
		if e := await[*ShmCompletionEvent](t, c, nil); e.Shmseg != seg || e.Drawable != Drawable(w) {
			t.Errorf("completion %+v", e)
		}
		clear(memory)
		r := must(c.ShmGetImage(Drawable(w), 0, 0, width, height, 0xffffffff, uint8(ImageFormatZPixmap), seg, 0))(t)
		if r.Size != size {
			t.Errorf("ShmGetImage gave %d bytes, wanted %d", r.Size, size)
		}
		comparePictures(t, memory, want)

		// Several replies with descriptors at once, each with its own.
		segs := []ShmSeg{NewID[ShmSeg](c), NewID[ShmSeg](c), NewID[ShmSeg](c)}
		var cookies []Cookie[ShmCreateSegmentReply]
		for i, seg := range segs {
			c.GetInputFocusAsync()
			cookies = append(cookies, c.ShmCreateSegmentAsync(seg, size+uint32(i)*4096, false))
			c.GetInputFocusAsync()
		}
		for i, cookie := range cookies {
			reply := must(cookie.Wait())(t)
			info := must(reply.ShmFd.Stat())(t)
			if info.Size() != size+int64(i)*4096 {
				t.Errorf("segment %d has %d bytes", i, info.Size())
			}
			if i == 0 {
				must(c.ShmGetImage(Drawable(w), 0, 0, width, height, 0xffffffff, uint8(ImageFormatZPixmap), segs[0], 0))(t)
				got := make([]byte, size)
				must(reply.ShmFd.ReadAt(got, 0))(t)
				comparePictures(t, got, want)
			}
			ok(t, reply.ShmFd.Close())
		}
		ok(t, c.ShmDetachChecked(seg))
		if err := c.ShmDetachChecked(seg); !errors.Is(err, ErrShmSeg) {
			t.Errorf("detaching twice: %v", err)
		}
	})
}

// A stopped server holds nobody up, and a connection outlives a late reply.
func TestStoppedServer(t *testing.T) {
	s := startXvfb(t)
	c := s.dial()
	w := window(t, c, 10, 10, 0)
	c.SetTimeout(50 * time.Millisecond)
	ok(t, s.Process.Signal(syscall.SIGSTOP))
	if _, err := c.GetGeometry(Drawable(w)); !errors.Is(err, ErrTimeout) {
		t.Errorf("GetGeometry of a stopped server: %v", err)
	}
	if err := c.MapWindowChecked(w); !errors.Is(err, ErrTimeout) {
		t.Errorf("MapWindow of a stopped server: %v", err)
	}
	ok(t, s.Process.Signal(syscall.SIGCONT))
	c.SetTimeout(DefaultTimeout)
	if g := must(c.GetGeometry(Drawable(w)))(t); g.Width != 10 {
		t.Errorf("geometry %+v", g)
	}

	// One that does not read ends the connection.
	ok(t, s.Process.Signal(syscall.SIGSTOP))
	c.SetTimeout(50 * time.Millisecond)
	gc := NewID[GContext](c)
	c.CreateGC(gc, Drawable(w), GCValues{})
	c.PutImage(ImageFormatZPixmap, Drawable(w), gc, 1000, 1000, 0, 0, 0, 24, make([]byte, 4_000_000))
	if err := c.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Flush to a stopped server: %v", err)
	}
	<-c.Done()

	// Close ends a write and a wait from outside.
	ok(t, s.Process.Signal(syscall.SIGCONT))
	c = s.dial()
	ok(t, s.Process.Signal(syscall.SIGSTOP))
	waited := make(chan error)
	cookie := c.GetInputFocusAsync()
	go func() {
		_, err := cookie.Wait()
		waited <- err
	}()
	go func() {
		c.PutImage(ImageFormatZPixmap, 1, 2, 1000, 1000, 0, 0, 0, 24, make([]byte, 4_000_000))
		waited <- c.Flush()
	}()
	c.Close()
	for range 2 {
		if err := <-waited; !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if _, err := c.NextEvent(testContext(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("NextEvent after Close: %v", err)
	}
	if _, err := c.TakeEvents(); !errors.Is(err, ErrClosed) {
		t.Errorf("TakeEvents after Close: %v", err)
	}
}

func TestServerEnds(t *testing.T) {
	s := startXvfb(t)
	c := s.dial()
	ok(t, s.Process.Signal(syscall.SIGTERM))
	if ev, err := c.NextEvent(testContext(t)); err == nil {
		t.Errorf("event %v of a server that has ended", ev)
	}
	if _, err := c.GetInputFocus(); err == nil || errors.Is(err, ErrTimeout) {
		t.Errorf("GetInputFocus of a server that has ended: %v", err)
	}
}
