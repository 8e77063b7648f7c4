package aside

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"hither/engine/display/xwire"
)

// both runs a test with each kind of server as the desktop's.
func both(t *testing.T, f func(t *testing.T, app, desk *server)) {
	t.Run("Xvfb", func(t *testing.T) { f(t, startXvfb(t), startXvfb(t)) })
	t.Run("Xvnc", func(t *testing.T) { f(t, startXvfb(t), startXvnc(t)) })
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1, byte(n)})
	_, _ = r.Read(b)
	return b
}

func TestTextBothWays(t *testing.T) {
	both(t, func(t *testing.T, app, desk *server) {
		a := open(t, app, desk)
		inside, outside := windows(t, a)
		for i, selection := range []string{"clipboard", "primary", "clipboard"} {
			name := strings.ToUpper(selection)
			text := []byte(fmt.Sprintf("from the app, grüße %d", i))
			copyTo(t, app, selection, "", text)
			awaitOwner(t, desk, name, is(outside))
			if got := pasteFrom(t, desk, selection, "UTF8_STRING"); !bytes.Equal(got, text) {
				t.Errorf("%s on the desktop: %q", name, got)
			}
			text = []byte(fmt.Sprintf("from the desktop %d", i))
			copyTo(t, desk, selection, "", text)
			awaitOwner(t, app, name, is(inside))
			if got := pasteFrom(t, app, selection, "UTF8_STRING"); !bytes.Equal(got, text) {
				t.Errorf("%s in the app: %q", name, got)
			}
		}
	})
}

func TestTargets(t *testing.T) {
	app, desk := startXvfb(t), startXvnc(t)
	a := open(t, app, desk)
	_, outside := windows(t, a)
	copyTo(t, app, "clipboard", "x-special/some-target-of-our-own", []byte("data"))
	awaitOwner(t, desk, "CLIPBOARD", is(outside))
	// Atoms differ in the two servers; their names do not.
	got := strings.Fields(string(pasteFrom(t, desk, "clipboard", "TARGETS")))
	if !slices.Contains(got, "x-special/some-target-of-our-own") || !slices.Contains(got, "TARGETS") || !slices.Contains(got, "TIMESTAMP") || slices.Contains(got, "MULTIPLE") {
		t.Errorf("targets %q", got)
	}
	if got := pasteFrom(t, desk, "clipboard", "x-special/some-target-of-our-own"); string(got) != "data" {
		t.Errorf("%q", got)
	}
	// Not all of X's own targets can be carried, and none hangs.
	for _, target := range []string{"PIXMAP", "MULTIPLE", "SAVE_TARGETS", "NO_SUCH_TARGET"} {
		c := desk.dial(t)
		r := newRequestor(t, c)
		if data, ok := r.convert("CLIPBOARD", target); ok && target != "NO_SUCH_TARGET" {
			t.Errorf("%s: %q", target, data)
		}
	}
	r := newRequestor(t, desk.dial(t))
	if data, ok := r.convert("CLIPBOARD", "TIMESTAMP"); !ok || len(data) != 4 || xwire.ToUint32s(data)[0] == 0 {
		t.Errorf("the time stamp is %v", data)
	}
}

// TestLarge: as an image of 20 MB that comes and goes in pieces.
func TestLarge(t *testing.T) {
	both(t, func(t *testing.T, app, desk *server) {
		a := open(t, app, desk)
		inside, outside := windows(t, a)
		image := randomBytes(20 << 20)
		copyTo(t, app, "clipboard", "image/png", image)
		awaitOwner(t, desk, "CLIPBOARD", is(outside))
		began := time.Now()
		var most uint64
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		}()
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		// Read by a client that keeps nothing, since this process is measured.
		if n, sum := newRequestor(t, desk.dial(t)).count("CLIPBOARD", "image/png"); n != len(image) || sum != sumOf(image) {
			t.Errorf("%d bytes of %d on the desktop", n, len(image))
		}
		close(stop)
		<-stopped
		t.Logf("20 MB in %v, %d KB of heap at most, %d before", time.Since(began), most>>10, before.HeapAlloc>>10)
		if most > before.HeapAlloc+8<<20 {
			t.Errorf("carrying 20 MB took %d KB", (most-before.HeapAlloc)>>10)
		}
		if got := pasteFrom(t, desk, "clipboard", "image/png"); !bytes.Equal(got, image) {
			t.Errorf("%d bytes of %d by xclip", len(got), len(image))
		}
		image = randomBytes(20<<20 + 3)
		copyTo(t, desk, "clipboard", "image/png", image)
		awaitOwner(t, app, "CLIPBOARD", is(inside))
		if got := pasteFrom(t, app, "clipboard", "image/png"); !bytes.Equal(got, image) {
			t.Errorf("%d bytes of %d in the app", len(got), len(image))
		}
		ok(t, a.call(func() error {
			if len(a.transfers) != 0 || len(a.app.watched)+len(a.desk.watched) != 0 {
				t.Errorf("%d transfers are left", len(a.transfers))
			}
			return nil
		}))
	})
}

// TestOneProperty: an owner that gives much at once, with the server's large
// requests, and one whose pieces are large.
func TestOneProperty(t *testing.T) {
	app, desk := startXvfb(t), startXvfb(t)
	a := open(t, app, desk)
	_, outside := windows(t, a)
	for _, size := range []int{0, 1, piece - 1, piece, piece + 1, 3*piece + 7} {
		data := randomBytes(size)
		owner := newOwner(t, app, "CLIPBOARD", "some/data", data)
		awaitOwner(t, desk, "CLIPBOARD", is(outside))
		for _, incr := range []bool{false, true} {
			owner.incr.Store(incr)
			got, ok := newRequestor(t, desk.dial(t)).convert("CLIPBOARD", "some/data")
			if !ok || !bytes.Equal(got, data) {
				t.Errorf("size %d, incr %v: %d bytes, %v", size, incr, len(got), ok)
			}
		}
		if got, ok := newRequestor(t, desk.dial(t)).convert("CLIPBOARD", "image/png"); ok {
			t.Errorf("an image where there is none: %q", got)
		}
		owner.end()
		awaitOwner(t, desk, "CLIPBOARD", is(0))
	}
}

// TestOwnerGone: when the owner's side has none any more, nor has the other.
func TestOwnerGone(t *testing.T) {
	app, desk := startXvfb(t), startXvfb(t)
	a := open(t, app, desk)
	inside, outside := windows(t, a)
	c := copyTo(t, app, "clipboard", "", []byte("text"))
	awaitOwner(t, desk, "CLIPBOARD", is(outside))
	ok(t, c.Process.Kill())
	awaitOwner(t, desk, "CLIPBOARD", is(0))
	c = copyTo(t, desk, "primary", "", []byte("text"))
	awaitOwner(t, app, "PRIMARY", is(inside))
	ok(t, c.Process.Kill())
	awaitOwner(t, app, "PRIMARY", is(0))
}

// TestNoLoop: two capsules on one desktop, and a selection that changes hands
// many times; then everything is at rest, and all agree.
func TestNoLoop(t *testing.T) {
	one, two, desk := startXvfb(t), startXvfb(t), startXvfb(t)
	a, b := open(t, one, desk), open(t, two, desk)
	watch := desk.dial(t)
	clipboard, err := watch.Atom("CLIPBOARD")
	ok(t, err)
	watch.XFixesSelectSelectionInput(watch.Root(), clipboard, allOwnerChanges)
	ok(t, watch.Sync())
	_, aOutside := windows(t, a)
	bInside, _ := windows(t, b)
	for i := range 30 {
		newOwner(t, []*server{one, two, desk}[i%3], "CLIPBOARD", "UTF8_STRING", []byte{'a' + byte(i)})
	}
	newOwner(t, one, "CLIPBOARD", "UTF8_STRING", []byte("last"))
	awaitOwner(t, desk, "CLIPBOARD", is(aOutside))
	awaitOwner(t, two, "CLIPBOARD", is(bInside))
	for _, s := range []*server{desk, two} {
		if got, ok := newRequestor(t, s.dial(t)).convert("CLIPBOARD", "UTF8_STRING"); !ok || string(got) != "last" {
			t.Errorf("%q", got)
		}
	}
	ok(t, watch.Sync())
	if events, _ := watch.TakeEvents(); len(events) > 80 {
		t.Errorf("the desktop's clipboard has changed hands %d times", len(events))
	}
	ok(t, watch.Sync())
	if events, _ := watch.TakeEvents(); len(events) != 0 {
		t.Errorf("%d changes at rest", len(events))
	}
}

// TestDeadRequestor: those who ask and do not take are given up, and harm nobody.
func TestDeadRequestor(t *testing.T) {
	app, desk := startXvfb(t), startXvfb(t)
	a := open(t, app, desk)
	ok(t, a.call(func() error { a.patience = 300 * time.Millisecond; return nil }))
	_, outside := windows(t, a)
	data := randomBytes(1 << 20)
	newOwner(t, app, "CLIPBOARD", "some/data", data)
	awaitOwner(t, desk, "CLIPBOARD", is(outside))

	gone := desk.dial(t) // asks and goes
	newRequestor(t, gone).ask("CLIPBOARD", "some/data")
	ok(t, gone.Sync())
	gone.Close()
	idle := newRequestor(t, desk.dial(t)) // asks and takes nothing
	for range 5 {
		idle.ask("CLIPBOARD", "some/data")
	}
	ok(t, idle.c.Sync())
	if got, ok := newRequestor(t, desk.dial(t)).convert("CLIPBOARD", "some/data"); !ok || !bytes.Equal(got, data) {
		t.Errorf("%d bytes beside the dead", len(got))
	}
	awaitIdle(t, a)
}

// TestStuckOwner: one who does not answer costs the requestor its answer only.
func TestStuckOwner(t *testing.T) {
	app, desk := startXvfb(t), startXvfb(t)
	a := open(t, app, desk)
	ok(t, a.call(func() error { a.patience = 300 * time.Millisecond; return nil }))
	_, outside := windows(t, a)
	c := app.dial(t)
	w := newRequestor(t, c).w
	clipboard, err := c.Atom("CLIPBOARD")
	ok(t, err)
	c.SetSelectionOwner(w, clipboard, xwire.TimeCurrentTime)
	ok(t, c.Sync())
	awaitOwner(t, desk, "CLIPBOARD", is(outside))
	for range slots + 5 { // more than there is room for
		r := newRequestor(t, desk.dial(t))
		r.ask("CLIPBOARD", "some/data")
		ok(t, r.c.Flush())
		defer func() {
			if r.notified() {
				t.Error("data came from nowhere")
			}
		}()
	}
	awaitIdle(t, a)
}

// awaitIdle waits until no transfer is under way, nor a window watched.
func awaitIdle(t *testing.T, a *Aside) {
	t.Helper()
	ok(t, a.call(func() error {
		end := time.Now().Add(5 * time.Second)
		if err := a.until(end, func() bool { return len(a.transfers) == 0 }); err != nil {
			return err
		}
		if len(a.transfers) != 0 || len(a.app.watched) != 0 || len(a.desk.watched) != 0 || a.app.busy != [slots]*transfer{} {
			t.Errorf("%d transfers are left, %d windows watched", len(a.transfers), len(a.desk.watched))
		}
		return nil
	}))
}
