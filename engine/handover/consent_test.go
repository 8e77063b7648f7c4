package handover

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// ask moves an app by send or bring; progress tells what it waited for.
func (w *world) ask(ctx context.Context, bring, check bool) (r *Result, notes string) {
	a, b := w.hosts[0].d, w.hosts[1].d
	var mu sync.Mutex
	opt := SendOptions{Check: check, Progress: func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		notes += p.Note
	}}
	if bring {
		link, served := w.dial(b, a)
		opt.PeerName = "a"
		r = b.moves.Bring(ctx, link, "counter", fakeAcceptor{b}, opt)
		<-served
	} else {
		link, served := w.dial(a, b)
		opt.PeerName = "b"
		r = a.moves.Send(ctx, link, &fakeSource{d: a}, opt)
		<-served
	}
	mu.Lock()
	defer mu.Unlock()
	return r, notes
}

// A person who is asked may think for longer than a host may take to answer, as
// long as the other side hears that it is so.
func TestConsent(t *testing.T) {
	for _, bring := range []bool{false, true} {
		w := newWorld(t)
		asks, waits := w.hosts[1].d, w.hosts[0].d
		if bring {
			asks, waits = waits, asks
		}
		waits.moves.Times.Answer = 100 * time.Millisecond
		asks.consent = func(ctx context.Context, check bool, waiting func(string)) ([]string, error) {
			if check {
				return []string{"a person is asked"}, nil
			}
			for range 10 {
				waiting("waiting for a person\x1b")
				time.Sleep(30 * time.Millisecond)
			}
			return nil, ctx.Err()
		}
		if r, notes := w.ask(t.Context(), bring, true); r.Outcome != Stayed || r.Reason != "" || notes != "" || !strings.Contains(strings.Join(r.Notes, " "), "a person is asked") {
			t.Errorf("bring %v: a check: %+v %q", bring, r, notes)
		}
		r, notes := w.ask(t.Context(), bring, false)
		if r.Outcome != Moved || !strings.Contains(notes, "waiting for a person?") {
			t.Errorf("bring %v: %+v, notes %q", bring, r, notes)
		}
		// The app's clocks are counted from when the offer came, not from when the person agreed.
		if thought := time.Duration(asks.thought.Load()); !bring && thought < 300*time.Millisecond {
			t.Errorf("the offer came %v ago", thought)
		}
		if w.two {
			t.Errorf("bring %v: %v", bring, w.log)
		}
	}
}

func TestNoConsent(t *testing.T) {
	for _, bring := range []bool{false, true} {
		w := newWorld(t)
		asks := w.hosts[1].d
		if bring {
			asks = w.hosts[0].d
		}
		asks.consent = func(context.Context, bool, func(string)) ([]string, error) {
			return nil, &Refusal{[]Problem{{What: "it may not", Cure: "permit it", Side: "x"}}}
		}
		for _, check := range []bool{false, true} {
			r, _ := w.ask(t.Context(), bring, check)
			if r.Outcome != Stayed || r.Reason != "it may not" || len(r.Problems) != 1 || r.Problems[0].Cure != "permit it" {
				t.Errorf("bring %v, check %v: %+v", bring, check, r)
			}
		}
		if w.hosts[0].app != runs || w.hosts[1].app != none {
			t.Errorf("bring %v: a %v, b %v", bring, w.hosts[0].app, w.hosts[1].app)
		}
	}
}

// Who asked and goes away is asked for no more.
func TestConsentWithdrawn(t *testing.T) {
	for _, bring := range []bool{false, true} {
		w := newWorld(t)
		asks := w.hosts[1].d
		if bring {
			asks = w.hosts[0].d
		}
		begun, ended := make(chan bool), make(chan error, 1)
		asks.consent = func(ctx context.Context, _ bool, waiting func(string)) ([]string, error) {
			waiting("waiting")
			close(begun)
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Second):
			}
			ended <- context.Cause(ctx)
			return nil, context.Cause(ctx)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-begun; cancel(ErrCancelled) }()
		r, _ := w.ask(ctx, bring, false)
		if r.Outcome != Stayed || r.Reason != ErrCancelled.Error() {
			t.Errorf("bring %v: %+v", bring, r)
		}
		if err := <-ended; err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("bring %v: the question ended with %v", bring, err)
		}
	}
}

// What the other host says that it waits for is told while it is asked, and no oftener than
// other progress.
func TestNotes(t *testing.T) {
	var told []string
	m := &meter{tell: func(p Progress) { told = append(told, p.Note) }}
	m.enter(SourceOffer, 0)
	m.note("a person thinks")
	for range 1000 {
		m.note("a person thinks")
		m.note("flood")
	}
	m.enter(SourceFreeze, 0)
	m.note("give me more")
	if len(told) > 3+1 || told[1] != "a person thinks" || told[len(told)-1] != "" {
		t.Errorf("told %d times, at last %q", len(told), told[len(told)-1])
	}
}
