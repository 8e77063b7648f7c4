package handover

import (
	"context"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"
)

// move sends the app from a to b, lets everything come to its end, restarts
// what has crashed, and lets the hosts meet until all is settled.
func (w *world) move(bring bool) *Result {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.stop = cancel
	a, b := w.hosts[0].d, w.hosts[1].d
	from, to := a, b
	if bring {
		from, to = b, a
	}
	link, served := w.dial(from, to)
	result := make(chan *Result, 1)
	go func() {
		defer close(result)
		if bring {
			result <- b.moves.Bring(ctx, link, "counter", fakeAcceptor{b}, SendOptions{PeerName: "a"})
		} else {
			result <- a.moves.Send(ctx, link, &fakeSource{d: a}, SendOptions{PeerName: "b"})
		}
	}()
	r := <-result
	<-served
	w.meet()
	return r
}

// meet restarts dead daemons and lets the two ask each other.
func (w *world) meet() {
	for range 20 {
		for _, h := range w.hosts {
			if h.d.dead {
				d := h.start()
				wait(func() {
					if err := d.moves.Recover(); err != nil {
						w.t.Logf("recovering %s: %v", h.name, err)
					}
				})
			}
		}
		left := false
		for i := range w.hosts {
			if w.asks {
				i = 1 - i
			}
			h := w.hosts[i]
			if h.d.dead {
				left = true
				continue
			}
			peer := w.hosts[1-i]
			for _, move := range h.d.moves.Unsettled(peer.name) {
				left = true
				link, served := w.dial(h.d, peer.d)
				d := h.d
				wait(func() { d.moves.Resolve(context.Background(), link, move) })
				<-served
			}
		}
		if !left {
			return
		}
	}
}

// wait runs f to its end, be it by runtime.Goexit.
func wait(f func()) {
	end := make(chan struct{})
	go func() {
		defer close(end)
		f()
	}()
	<-end
}

// check is what must hold in the end.
func (w *world) check(what string) bool {
	w.t.Helper()
	a, b := w.hosts[0].app, w.hosts[1].app
	ok := a == runs && b == none || a == none && b == runs
	if w.two {
		w.t.Errorf("%s: two copies ran at once", what)
		ok = false
	}
	if !ok {
		w.t.Errorf("%s: in the end the source's copy %s, the destination's %s", what, a, b)
	}
	if last := strings.Join(append(w.hosts[0].last, w.hosts[1].last...), ""); last != "" && last != "last" {
		w.t.Errorf("%s: what people gave the app as it moved has come as %q", what, last)
		ok = false
	}
	for _, h := range w.hosts {
		if len(h.disk) != 0 || len(h.d.moves.Pending()) != 0 {
			w.t.Errorf("%s: %s is left with %v, %v", what, h.name, h.disk, h.d.moves.Pending())
			ok = false
		}
	}
	if !ok {
		w.t.Logf("%s:\n%s", what, strings.Join(w.log, "\n"))
	}
	return ok
}

func TestMove(t *testing.T) {
	for _, bring := range []bool{false, true} {
		w := newWorld(t)
		r := w.move(bring)
		w.check("plain move")
		if r == nil || r.Outcome != Moved || w.hosts[1].app != runs {
			t.Fatalf("bring %v: result %+v, app %s", bring, r, w.hosts[1].app)
		}
		if r.Rounds != 2 || r.BytesMemory != 7000 || r.FilesSent != 1 || r.BytesSent < 8000 || r.DowntimeMS <= 0 ||
			r.From != "a" || r.To != "b" || r.App != "counter" || len(r.Notes) != 1 {
			t.Errorf("result %+v", r)
		}
		if !slices.Equal(w.hosts[1].last, []string{"last"}) {
			t.Errorf("what people gave the app as it moved has come as %q", w.hosts[1].last)
		}
	}
}

// TestEveryFaultAtEveryStep puts each fault at each step of a move: before and
// after every call that either daemon makes.
func TestEveryFaultAtEveryStep(t *testing.T) {
	for _, bring := range []bool{false, true} {
		plain := newWorld(t)
		plain.move(bring)
		plain.check("plain move")
		steps := plain.n
		if steps < 50 {
			t.Fatalf("only %d steps", steps)
		}
		for f := noFault + 1; f <= lastFault; f++ {
			for at := 1; at <= steps; at++ {
				what := fmt.Sprintf("bring %v, %s at step %d", bring, faultNames[f], at)
				w := newWorld(t)
				w.asks = bring
				w.fault = func(n int) fault {
					if n == at {
						return f
					}
					return noFault
				}
				r := w.move(bring)
				if !w.check(what) || t.Failed() {
					t.FailNow()
				}
				if r == nil {
					continue // the side that was asked has crashed
				}
				if r.Outcome == Moved && w.hosts[1].app != runs || r.Outcome == Stayed && w.hosts[0].app != runs {
					t.Fatalf("%s: the result says %s (%s), the app %s at a, %s at b\n%s", what, r.Outcome, r.Reason,
						w.hosts[0].app, w.hosts[1].app, strings.Join(w.log, "\n"))
				}
				if r.Outcome != Moved && r.Reason == "" {
					t.Errorf("%s: %s without a reason", what, r.Outcome)
				}
				if f == failHere && r.Outcome == Undecided {
					t.Errorf("%s: undecided without a lost link: %s", what, r.Reason)
				}
			}
		}
	}
}

// TestManyFaults puts several faults at random steps, also into the recovery.
func TestManyFaults(t *testing.T) {
	seed := time.Now().UnixNano()
	rnd := rand.New(rand.NewSource(seed))
	for i := range 1500 {
		w := newWorld(t)
		w.asks = rnd.Intn(2) == 0
		at := map[int]fault{}
		for range 1 + rnd.Intn(4) {
			at[1+rnd.Intn(120)] = fault(1 + rnd.Intn(int(lastFault)))
		}
		w.fault = func(n int) fault { return at[n] }
		w.move(i%2 == 0)
		if !w.check(fmt.Sprintf("seed %d, run %d, faults %v", seed, i, at)) {
			t.FailNow()
		}
	}
}

// TestEveryState cancels and breaks a move that stands still in each state of
// the exported list, so that no state is without a test.
func TestEveryState(t *testing.T) {
	for _, s := range States {
		for _, f := range []fault{noFault, crashSource, crashDestination, cutLink, cancelMove} {
			t.Run(fmt.Sprintf("%s/%s", s, faultNames[f]), func(t *testing.T) {
				w := newWorld(t)
				reached := make(chan struct{})
				holds := &Holds{Held: func(State) { close(reached) }}
				if unknown := holds.Set(string(s)); unknown != nil {
					t.Fatal(unknown)
				}
				for _, h := range w.hosts {
					h.d.moves.Gate = func(ctx context.Context, s State) error {
						err := holds.Gate(ctx, s)
						h.d.step("in "+string(s), false)
						return err
					}
				}
				result := make(chan *Result, 1)
				go func() { result <- w.move(false) }()
				<-reached
				w.mu.Lock()
				switch f {
				case crashSource:
					w.hosts[0].crash()
				case crashDestination:
					w.hosts[1].crash()
				case cutLink:
					w.links[0].cut()
				case cancelMove:
					w.stop()
				}
				w.mu.Unlock()
				if f != noFault && !(f == cancelMove && s.Side() == SideDestination) {
					// The other side notices while this one stands still.
					time.Sleep(5 * time.Millisecond)
				}
				holds.Release("")
				r := <-result
				w.check(string(s))
				switch {
				case f == noFault && (r == nil || r.Outcome != Moved):
					t.Errorf("result %+v", r)
				case f == cancelMove && s.Side() == SideSource && s.Cancellable() != (r.Outcome == Stayed):
					t.Errorf("cancelled in %s: %+v", s, r)
				case f == cancelMove && r.Outcome == Stayed && r.Reason != ErrCancelled.Error():
					t.Errorf("cancelled in %s: reason %q", s, r.Reason)
				}
			})
		}
	}
}

// A source may ask by the link of the move when all has been settled over
// another one: it must hear what became of the copy.
func TestCommitAfterAllIsSettled(t *testing.T) {
	m := &Moves{}
	for _, c := range []struct {
		e    *entry
		want kind
	}{
		{&entry{phase: done, when: time.Now()}, kindRunning},
		{&entry{phase: done, rec: Record{State: Running}}, kindRunning},
		{&entry{phase: done, rec: Record{State: Ready}}, kindDead},
	} {
		if got := m.resume(c.e); got.Kind != c.want {
			t.Errorf("%+v: %+v", c.e.rec, got)
		}
	}
}
