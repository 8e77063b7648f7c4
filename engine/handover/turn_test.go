package handover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTurn: of two moves that bring the same app the second waits until the first has cleared up, and no
// longer than a person would; moves of other apps do not wait.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Moves{Name: "b"}
		first, err := m.turn(t.Context(), &Offer{App: "one"})
		if err != nil {
			t.Fatal(err)
		}
		other, err := m.turn(t.Context(), &Offer{App: "two"})
		if err != nil {
			t.Fatal(err)
		}
		other()
		begun := time.Now()
		time.AfterFunc(time.Second, first)
		second, err := m.turn(t.Context(), &Offer{App: "one"})
		if err != nil || time.Since(begun) != time.Second {
			t.Fatalf("after %v: %v", time.Since(begun), err)
		}
		var refused *Refusal
		if _, err := m.turn(t.Context(), &Offer{App: "one", Name: "vim"}); !errors.As(err, &refused) || refused.Problems[0].Cure == "" {
			t.Errorf("a third: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(ErrCancelled)
		if _, err := m.turn(ctx, &Offer{App: "one"}); !errors.Is(err, ErrCancelled) {
			t.Errorf("a cancelled one: %v", err)
		}
		second()
		if len(m.coming) != 0 {
			t.Errorf("%d turns are left", len(m.coming))
		}
	})
}

// TestMoveWaitsForItsTurn: an app comes when what was broken off before has been cleared up, not sooner.
func TestMoveWaitsForItsTurn(t *testing.T) {
	for _, bring := range []bool{false, true} {
		w := newWorld(t)
		offer, err := (&fakeSource{d: w.hosts[0].d}).Survey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := w.hosts[1].d
		done, err := b.moves.turn(t.Context(), offer)
		if err != nil {
			t.Fatal(err)
		}
		considered := func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.ContainsFunc(w.log, func(l string) bool { return strings.Contains(l, "consider") })
		}
		early := make(chan bool, 1)
		go func() {
			time.Sleep(50 * time.Millisecond) // in which nothing must happen
			early <- considered()
			done()
		}()
		if r := w.move(bring); r == nil || r.Outcome != Moved || !considered() {
			t.Errorf("bring %v: %+v", bring, r)
		}
		if <-early {
			t.Errorf("bring %v: it was considered before its turn", bring)
		}
	}
}
