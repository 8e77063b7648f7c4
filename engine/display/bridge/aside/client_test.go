package aside

import (
	"hash/crc32"
	"strconv"
	"sync/atomic"
	"testing"

	"hither/engine/display/xwire"
)

// requestor is a client that pastes.
type requestor struct {
	t testing.TB
	c *xwire.Conn
	w xwire.Window
	n int
}

func newWindow(c *xwire.Conn) xwire.Window {
	w := xwire.NewID[xwire.Window](c)
	c.CreateWindow(0, w, c.Root(), 0, 0, 1, 1, 0, xwire.WindowClassInputOnly, 0,
		xwire.WindowValues{Mask: xwire.CWEventMask, EventMask: xwire.EventMaskPropertyChange})
	return w
}

func newRequestor(t testing.TB, c *xwire.Conn) *requestor {
	return &requestor{t: t, c: c, w: newWindow(c)}
}

// ask asks for a conversion, to a property that it returns.
func (r *requestor) ask(selection, target string) xwire.Atom {
	r.t.Helper()
	r.n++
	atoms, err := r.c.Atoms(selection, target, "TEST_"+strconv.Itoa(r.n))
	ok(r.t, err)
	r.c.ConvertSelection(r.w, atoms[0], atoms[1], atoms[2], xwire.TimeCurrentTime)
	return atoms[2]
}

// notified waits for an answer, and says whether it is a good one.
func (r *requestor) notified() bool {
	r.t.Helper()
	return awaitEvent(r.t, r.c, func(e *xwire.SelectionNotifyEvent) bool { return e.Requestor == r.w }).Property != 0
}

func awaitEvent[E xwire.Event](t testing.TB, c *xwire.Conn, f func(E) bool) E {
	t.Helper()
	for {
		ev, err := c.NextEvent(testContext(t))
		if err != nil {
			var none E
			t.Fatalf("waiting for a %T: %v", none, err)
		}
		if e, ok := ev.(E); ok && f(e) {
			return e
		}
	}
}

func (r *requestor) convert(selection, target string) (data []byte, given bool) {
	given = r.read(selection, target, func(b []byte) { data = append(data, b...) })
	return data, given
}

func sumOf(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// count reads without keeping what it reads.
func (r *requestor) count(selection, target string) (n int, sum uint32) {
	r.read(selection, target, func(b []byte) {
		n += len(b)
		sum = crc32.Update(sum, crc32.IEEETable, b)
	})
	return n, sum
}

func (r *requestor) read(selection, target string, take func([]byte)) bool {
	r.t.Helper()
	property := r.ask(selection, target)
	if !r.notified() {
		return false
	}
	incr, err := r.c.Atom("INCR")
	ok(r.t, err)
	got, err := r.c.GetProperty(true, r.w, property, 0, 0, 1<<24)
	ok(r.t, err)
	if got.Type != incr {
		take(got.Value)
		return true
	}
	for {
		awaitEvent(r.t, r.c, func(e *xwire.PropertyNotifyEvent) bool {
			return e.Atom == property && e.State == xwire.PropertyNewValue
		})
		got, err := r.c.GetProperty(true, r.w, property, 0, 0, 1<<24)
		ok(r.t, err)
		if got.Type == 0 {
			continue // told of INCR itself
		}
		if len(got.Value) == 0 {
			return true
		}
		take(got.Value)
	}
}

// owner is a client that has copied something.
type owner struct {
	c    *xwire.Conn
	incr atomic.Bool // give it as INCR
	aged atomic.Bool // say since when
	done chan struct{}
}

func newOwner(t testing.TB, s *server, selection, target string, data []byte) *owner {
	t.Helper()
	o := &owner{c: s.dial(t), done: make(chan struct{})}
	w := newWindow(o.c)
	atoms, err := o.c.Atoms(selection, target, "TARGETS", "INCR", "TIMESTAMP")
	ok(t, err)
	o.c.ChangeProperty(xwire.PropModeReplace, w, atoms[0], atoms[0], 8, nil)
	now := awaitEvent(t, o.c, func(*xwire.PropertyNotifyEvent) bool { return true }).Time
	o.c.SetSelectionOwner(w, atoms[0], now)
	ok(t, o.c.Sync())
	ctx := testContext(t)
	go func() {
		defer close(o.done)
		var left []byte
		var to *xwire.SelectionRequestEvent
		for {
			ev, err := o.c.NextEvent(ctx)
			if err != nil {
				return
			}
			switch ev := ev.(type) {
			case *xwire.SelectionRequestEvent:
				property := ev.Property
				switch {
				case ev.Target == atoms[2]:
					o.c.ChangeProperty(xwire.PropModeReplace, ev.Requestor, property, xwire.AtomAtom, 32, xwire.Uint32s(atoms[1:3]...))
				case ev.Target == atoms[4] && o.aged.Load():
					o.c.ChangeProperty(xwire.PropModeReplace, ev.Requestor, property, xwire.AtomInteger, 32, xwire.Uint32s(now))
				case ev.Target != atoms[1]:
					property = 0
				case o.incr.Load():
					left, to = data, ev
					o.c.ChangeWindowAttributes(ev.Requestor, xwire.WindowValues{Mask: xwire.CWEventMask, EventMask: xwire.EventMaskPropertyChange})
					o.c.ChangeProperty(xwire.PropModeReplace, ev.Requestor, property, atoms[3], 32, xwire.Uint32s(uint32(0)))
				default:
					o.c.ChangeProperty(xwire.PropModeReplace, ev.Requestor, property, atoms[1], 8, data)
				}
				e := xwire.SelectionNotifyEvent{Time: ev.Time, Requestor: ev.Requestor, Selection: ev.Selection, Target: ev.Target, Property: property}
				o.c.SendEvent(false, ev.Requestor, 0, e.Encode())
			case *xwire.PropertyNotifyEvent:
				if to != nil && ev.Window == to.Requestor && ev.Atom == to.Property && ev.State == xwire.PropertyDelete {
					n := min(len(left), 2*piece+5)
					o.c.ChangeProperty(xwire.PropModeReplace, to.Requestor, to.Property, atoms[1], 8, left[:n])
					if left = left[n:]; n == 0 {
						o.c.ChangeWindowAttributes(to.Requestor, xwire.WindowValues{Mask: xwire.CWEventMask})
						to = nil
					}
				}
			}
		}
	}()
	return o
}

func (o *owner) end() {
	o.c.Close()
	<-o.done
}
