package daemon

import (
	"log"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/engine/paths"
)

// history remembers the last moves that have ended, begun by whomever.
type history struct {
	name string

	mu    sync.Mutex
	moves []control.PastMove // the oldest first
}

const maxHistory = 500

func openHistory() (*history, error) {
	dir, err := paths.Data()
	if err != nil {
		return nil, err
	}
	h := &history{name: filepath.Join(dir, "history.json")}
	var saved control.History
	if err := kept(h.name, &saved); err != nil {
		log.Printf("the history of moves begins anew: %v", err)
	}
	h.moves = saved.Moves
	return h, nil
}

// add notes a move; side is this host's.
func (h *history) add(side string, r *handover.Result) {
	if h == nil || r == nil {
		return
	}
	past := control.PastMove{When: time.Now().Round(time.Millisecond), Side: side, Result: *r}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moves = append(h.moves, past)
	if n := len(h.moves) - maxHistory; n > 0 {
		h.moves = slices.Delete(h.moves, 0, n)
	}
	if err := keep(h.name, control.History{Moves: h.moves}); err != nil {
		log.Printf("remembering a move: %v", err)
	}
}

// list is the history, newest first.
func (h *history) list() control.History {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := control.History{Moves: append([]control.PastMove{}, h.moves...)}
	slices.Reverse(out.Moves)
	return out
}
