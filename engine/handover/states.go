package handover

import (
	"context"
	"strings"
	"sync"
)

// Side is one of the two hosts of a move.
type Side string

const (
	SideSource      Side = "source"
	SideDestination Side = "destination"
)

// State is where a side is in a move. Its text is "side:step".
type State string

const (
	SourceOffer   State = "source:offer"   // the app is surveyed, the offer sent
	SourcePrepare State = "source:prepare" // the answer is yes; files travel
	SourcePreCopy State = "source:precopy" // rounds of memory, the app runs
	SourceFreeze  State = "source:freeze"  // every thread is stopped
	SourceMemory  State = "source:memory"  // image and the rest of the memory travel
	SourceReady   State = "source:ready"   // waiting for the copy to be whole
	SourceHold    State = "source:hold"    // the copy is ready; this one is held
	SourceCommit  State = "source:commit"  // 'committed' is on disk; commit is sent
	SourceRelease State = "source:release" // the other copy runs; this one ends
	SourceSettle  State = "source:settle"  // all is said and done

	DestinationOffer   State = "destination:offer"   // an offer has come
	DestinationPrepare State = "destination:prepare" // the capsule is built, files come in
	DestinationPreCopy State = "destination:precopy" // memory comes in while the app runs there
	DestinationRestore State = "destination:restore" // image and the rest come in, the tree is rebuilt
	DestinationReady   State = "destination:ready"   // the copy is whole, and waits for commit
	DestinationResume  State = "destination:resume"  // commit has come
	DestinationSettle  State = "destination:settle"  // the copy runs; portals open
)

// States are all states of both sides in the order of a move that goes well.
// Tests of faults go through this list, so a new state is tested by itself.
var States = []State{
	SourceOffer, DestinationOffer,
	SourcePrepare, DestinationPrepare,
	SourcePreCopy, DestinationPreCopy,
	SourceFreeze, SourceMemory, DestinationRestore,
	SourceReady, DestinationReady,
	SourceHold, SourceCommit,
	DestinationResume, DestinationSettle,
	SourceRelease, SourceSettle,
}

// Side says whose state it is.
func (s State) Side() Side {
	side, _, _ := strings.Cut(string(s), ":")
	return Side(side)
}

// Step is the state without its side.
func (s State) Step() string {
	_, step, _ := strings.Cut(string(s), ":")
	return step
}

// Cancellable says whether a cancel in this state still keeps the app at the
// source. After it the move is decided by the journals alone.
func (s State) Cancellable() bool {
	switch s {
	case SourceCommit, SourceRelease, SourceSettle, DestinationResume, DestinationSettle:
		return false
	}
	return true
}

// Holds is a Gate that holds moves still in chosen states, for tests: in a
// held state a side waits until Release is called or its process is killed.
type Holds struct {
	// Held is told each time a side begins to wait.
	Held func(State)

	mu    sync.Mutex
	at    map[State]bool
	waits map[State][]chan struct{}
}

// Set replaces the states to hold in. Text is a list such as
// "source:freeze,destination:ready"; unknown names are returned.
func (h *Holds) Set(text string) (unknown []string) {
	known := map[State]bool{}
	for _, s := range States {
		known[s] = true
	}
	at := map[State]bool{}
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		if !known[State(name)] {
			unknown = append(unknown, name)
			continue
		}
		at[State(name)] = true
	}
	h.mu.Lock()
	h.at = at
	h.mu.Unlock()
	return unknown
}

// Gate waits if the state is to be held.
func (h *Holds) Gate(ctx context.Context, s State) error {
	h.mu.Lock()
	if !h.at[s] {
		h.mu.Unlock()
		return nil
	}
	wait := make(chan struct{})
	if h.waits == nil {
		h.waits = map[State][]chan struct{}{}
	}
	h.waits[s] = append(h.waits[s], wait)
	h.mu.Unlock()
	if h.Held != nil {
		h.Held(s)
	}
	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Release lets every side go on that waits in the state; with "" all of them.
// The state is held no more. It says how many waited.
func (h *Holds) Release(s State) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for at, waits := range h.waits {
		if s != "" && s != at {
			continue
		}
		for _, w := range waits {
			close(w)
			n++
		}
		delete(h.waits, at)
	}
	if s == "" {
		h.at = nil
	} else {
		delete(h.at, s)
	}
	return n
}
