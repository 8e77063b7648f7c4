package aside

import (
	"bytes"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"hither/engine/display/xwire"
)

// clients are the connections to a server but one's own.
func clients(t testing.TB, s *server) int {
	t.Helper()
	c := s.dial(t)
	defer c.Close()
	r, err := c.ResQueryClients()
	ok(t, err)
	return len(r.Clients)
}

// TestPart: what the app owns stays with it, and with the desktop that it leaves;
// of connections to its server nothing stays.
func TestPart(t *testing.T) {
	for _, size := range []int{5, 5 << 20} {
		app, desk := startXvfb(t), startXvnc(t)
		data := randomBytes(size)
		newOwner(t, app, "CLIPBOARD", "text/html", data)
		newOwner(t, app, "PRIMARY", "UTF8_STRING", []byte("marked"))
		before := clients(t, app)
		a := open(t, app, desk) // and what has been copied before is there
		_, outside := windows(t, a)
		awaitOwner(t, desk, "CLIPBOARD", is(outside))
		began := time.Now()
		ok(t, a.Part())
		t.Logf("%d bytes: let go within %v", size, time.Since(began))
		// The window of settings is nobody's.
		if n := clients(t, app); n > before+1 {
			t.Errorf("%d clients of the capsule's server, %d before", n, before)
		}
		r := newRequestor(t, desk.dial(t))
		if got, ok := r.convert("CLIPBOARD", "text/html"); !ok || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d on the desktop that is left", len(got), size)
		}
		list, _ := r.convert("CLIPBOARD", "TARGETS")
		html, err := r.c.Atom("text/html")
		ok(t, err)
		if !slices.Contains(xwire.ToUint32s(list), uint32(html)) {
			t.Errorf("targets %v", list)
		}
		if _, ok := r.convert("CLIPBOARD", "image/png"); ok {
			t.Error("an image where there is none")
		}
		awaitOwner(t, desk, "PRIMARY", is(0))
		ok(t, a.Part()) // once more does no harm

		ok(t, a.Back(testContext(t)))
		awaitOwner(t, desk, "PRIMARY", is(outside))
		newOwner(t, app, "CLIPBOARD", "UTF8_STRING", []byte("later"))
		for end := time.Now().Add(10 * time.Second); ; {
			if got, _ := r.convert("CLIPBOARD", "UTF8_STRING"); string(got) == "later" {
				break
			}
			if time.Now().After(end) {
				t.Fatal("after Back nothing comes")
			}
		}
	}
}

// TestRounds: 20 moves that fail, and 20 bridges, leave nothing behind.
func TestRounds(t *testing.T) {
	app, desk := startXvfb(t), startXvnc(t)
	newOwner(t, app, "CLIPBOARD", "UTF8_STRING", []byte("text"))
	c := app.dial(t)
	state := func() (n [3]int) {
		ok(t, c.Sync())
		n[0] = clients(t, app)
		tree, err := c.QueryTree(c.Root())
		ok(t, err)
		n[1] = len(tree.Children)
		fds, err := os.ReadDir("/proc/self/fd")
		ok(t, err)
		n[2] = len(fds)
		return n
	}
	a := open(t, app, desk)
	ok(t, a.Part())
	parted := state()
	for range 20 {
		ok(t, a.Back(testContext(t)))
		ok(t, a.Part())
	}
	if got := state(); got != parted {
		t.Errorf("clients, windows and descriptors: %v, before %v", got, parted)
	}
	a.Close()
	for range 20 {
		a := open(t, app, desk)
		if got, _ := newRequestor(t, desk.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); string(got) != "text" {
			t.Errorf("%q", got)
		}
		a.Close()
	}
	if got := state(); got[0] != parted[0] || got[1] != parted[1] {
		t.Errorf("clients and windows: %v, before %v", got, parted)
	}
}

// TestTakenMeanwhile: the desktop's clipboard has changed while the app was stopped.
func TestTakenMeanwhile(t *testing.T) {
	app, desk := startXvfb(t), startXvfb(t)
	newOwner(t, app, "CLIPBOARD", "UTF8_STRING", []byte("old"))
	a := open(t, app, desk)
	ok(t, a.Part())
	newOwner(t, desk, "CLIPBOARD", "UTF8_STRING", []byte("new"))
	ok(t, a.Back(testContext(t)))
	inside, _ := windows(t, a)
	awaitOwner(t, app, "CLIPBOARD", is(inside))
	if got, _ := newRequestor(t, app.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); string(got) != "new" {
		t.Errorf("%q", got)
	}
}

// TestBothOwned: of a desktop's clipboard and that of an app that arrives neither
// is lost.
func TestBothOwned(t *testing.T) {
	app, desk := startXvfb(t), startXvfb(t)
	newOwner(t, app, "CLIPBOARD", "UTF8_STRING", []byte("inside"))
	newOwner(t, desk, "CLIPBOARD", "UTF8_STRING", []byte("outside"))
	a := open(t, app, desk)
	if got, _ := newRequestor(t, app.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); string(got) != "inside" {
		t.Errorf("inside: %q", got)
	}
	if got, _ := newRequestor(t, desk.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); string(got) != "outside" {
		t.Errorf("outside: %q", got)
	}
	inside, _ := windows(t, a)
	newOwner(t, desk, "CLIPBOARD", "UTF8_STRING", []byte("newer"))
	awaitOwner(t, app, "CLIPBOARD", is(inside))
}

// TestNewer: of two that say how old they are, the newer one prevails.
func TestNewer(t *testing.T) {
	for _, last := range []string{"inside", "outside"} {
		app, desk := startXvfb(t), startXvnc(t)
		servers := map[string]*server{"inside": app, "outside": desk}
		first := "inside"
		if last == first {
			first = "outside"
		}
		newOwner(t, servers[first], "CLIPBOARD", "UTF8_STRING", []byte(first)).aged.Store(true)
		time.Sleep(20 * time.Millisecond) // that is their difference
		newOwner(t, servers[last], "CLIPBOARD", "UTF8_STRING", []byte(last)).aged.Store(true)
		a := open(t, app, desk)
		ours := map[string]xwire.Window{}
		ours["inside"], ours["outside"] = windows(t, a)
		awaitOwner(t, servers[first], "CLIPBOARD", is(ours[first]))
		for where, s := range servers {
			if got, _ := newRequestor(t, s.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); string(got) != last {
				t.Errorf("%s: %q and not %q", where, got, last)
			}
		}
		awaitIdle(t, a)
	}
}

// TestStash: what the desktop owned comes along to one that has nothing, and on
// to a third.
func TestStash(t *testing.T) {
	app, first, second, third := startXvfb(t), startXvfb(t), startXvnc(t), startXvfb(t)
	newOwner(t, first, "CLIPBOARD", "UTF8_STRING", []byte("of the desktop"))
	a := open(t, app, first)
	ok(t, a.Part())
	a.Close()
	for _, desk := range []*server{second, third} {
		a := open(t, app, desk)
		for _, s := range []*server{app, desk} {
			if got, _ := newRequestor(t, s.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); string(got) != "of the desktop" {
				t.Errorf("on %s: %q", s.Display, got)
			}
		}
		ok(t, a.Part())
		a.Close()
	}
	// It yields to what is there.
	newOwner(t, second, "CLIPBOARD", "UTF8_STRING", []byte("own"))
	open(t, app, second)
	if got, _ := newRequestor(t, app.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); string(got) != "own" {
		t.Errorf("%q", got)
	}
}

// TestSlowOwner: one that does not answer holds up the move a little only.
func TestSlowOwner(t *testing.T) {
	app, desk := startXvfb(t), startXvfb(t)
	c := app.dial(t)
	clipboard, err := c.Atom("CLIPBOARD")
	ok(t, err)
	c.SetSelectionOwner(newWindow(c), clipboard, xwire.TimeCurrentTime)
	ok(t, c.Sync())
	a := open(t, app, desk)
	ok(t, a.call(func() error { a.keepTime = usualKeepTime; return nil }))
	began := time.Now()
	ok(t, a.Part())
	if d := time.Since(began); d > usualKeepTime+500*time.Millisecond {
		t.Errorf("it took %v", d)
	}
	awaitOwner(t, desk, "CLIPBOARD", is(0))
}

// TestBequeath: a clipboard manager on the desktop takes over what would go.
func TestBequeath(t *testing.T) {
	app, desk := startXvfb(t), startXvfb(t)
	newOwner(t, app, "CLIPBOARD", "UTF8_STRING", []byte("to be kept"))
	a := open(t, app, desk)
	_, outside := windows(t, a)
	awaitOwner(t, desk, "CLIPBOARD", is(outside))

	c := desk.dial(t)
	atoms, err := c.Atoms("CLIPBOARD_MANAGER", "SAVE_TARGETS")
	ok(t, err)
	c.SetSelectionOwner(newWindow(c), atoms[0], xwire.TimeCurrentTime)
	ok(t, c.Sync())
	ok(t, a.Part())
	closed := make(chan struct{})
	go func() {
		a.Close()
		close(closed)
	}()
	ev := awaitEvent(t, c, func(*xwire.SelectionRequestEvent) bool { return true })
	list, err := c.GetProperty(false, ev.Requestor, ev.Property, 0, 0, 100)
	ok(t, err)
	if ev.Target != atoms[1] || len(list.Value) != 4 {
		t.Errorf("asked for %d with %v", ev.Target, list)
	}
	if got, _ := newRequestor(t, desk.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); string(got) != "to be kept" {
		t.Errorf("%q", got)
	}
	select {
	case <-closed:
		t.Error("it did not wait")
	default:
	}
	e := xwire.SelectionNotifyEvent{Time: ev.Time, Requestor: ev.Requestor, Selection: ev.Selection, Target: ev.Target, Property: ev.Property}
	c.SendEvent(false, ev.Requestor, 0, e.Encode())
	ok(t, c.Flush())
	<-closed
}

// TestSaved: what an app has kept before it ends stays on the clipboard, inside and on the desktop, and outlives the
// capsule where there is a clipboard manager.
func TestSaved(t *testing.T) {
	both(t, func(t *testing.T, app, desk *server) {
		o := newOwner(t, app, "CLIPBOARD", "UTF8_STRING", []byte("to be kept"))
		a := open(t, app, desk)
		inside, outside := windows(t, a)
		awaitOwner(t, desk, "CLIPBOARD", is(outside))
		leaver := newRequestor(t, app.dial(t))
		if list, given := leaver.convert("CLIPBOARD_MANAGER", "TARGETS"); !given || len(list) != 8 {
			t.Errorf("the clipboard manager offers %v", list)
		}
		if _, given := leaver.convert("CLIPBOARD_MANAGER", "SAVE_TARGETS"); !given {
			t.Fatal("it does not keep the clipboard")
		}
		o.end()
		awaitOwner(t, app, "CLIPBOARD", is(inside))
		for _, s := range []*server{app, desk} {
			if got, _ := newRequestor(t, s.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); string(got) != "to be kept" {
				t.Errorf("pasted is %q", got)
			}
		}
		c := desk.dial(t)
		manager, err := c.Atom("CLIPBOARD_MANAGER")
		ok(t, err)
		c.SetSelectionOwner(newWindow(c), manager, xwire.TimeCurrentTime)
		ok(t, c.Sync())
		app.End()
		ev := awaitEvent(t, c, func(*xwire.SelectionRequestEvent) bool { return true })
		if got, _ := newRequestor(t, desk.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); string(got) != "to be kept" {
			t.Errorf("the clipboard manager is given %q", got)
		}
		e := xwire.SelectionNotifyEvent{Time: ev.Time, Requestor: ev.Requestor, Selection: ev.Selection, Target: ev.Target, Property: ev.Property}
		c.SendEvent(false, ev.Requestor, 0, e.Encode())
		ok(t, c.Flush())
		<-a.Done()
	})
}

// TestServerEnds: with either server it ends by itself.
func TestServerEnds(t *testing.T) {
	for i := range 2 {
		servers := [2]*server{startXvfb(t), startXvfb(t)}
		a := open(t, servers[0], servers[1])
		c := servers[i].dial(t)
		// As all that goes by the name of a client of this process.
		var w xwire.Window
		app, desk := windows(t, a)
		if w = app; i == 1 {
			w = desk
		}
		c.KillClient(uint32(w))
		ok(t, c.Flush())
		select {
		case <-a.Done():
		case <-testContext(t).Done():
			t.Fatal("it goes on")
		}
		if a.Err() == nil {
			t.Error("it does not say why")
		}
	}
}

func TestStashFormat(t *testing.T) {
	list := []content{
		{target: "UTF8_STRING", typ: "UTF8_STRING", format: 8, data: []byte("text")},
		{target: "image/png", typ: "image/png", format: 8, data: []byte{}},
		{target: "text/html", typ: "text/html", format: 8, data: randomBytes(1000)},
	}
	got, err := decodeStash(encodeStash(list))
	if err != nil || !reflect.DeepEqual(got, list) {
		t.Errorf("%v %v", got, err)
	}
}

func FuzzStash(f *testing.F) {
	f.Add(encodeStash([]content{{target: "UTF8_STRING", typ: "UTF8_STRING", format: 8, data: []byte("text")}}))
	f.Add([]byte{})
	f.Add([]byte{stashVersion, 1, 1, 8, 255, 255, 255, 255, 'a', 'b'})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeStash(b)
		if err != nil {
			return
		}
		if again := encodeStash(list); !bytes.Equal(again, b) {
			t.Errorf("%q became %q", b, again)
		}
	})
}
