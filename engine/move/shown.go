package move

import (
	"context"
	"fmt"
	"log"
	"sync"
	"time"

	"hither/engine/handover"
)

// A person who watches the app's windows sees on their last pictures how far the
// move is. What takes less time than showPause is not shown at all, so that a small
// app pays nothing for it.
const showPause = 250 * time.Millisecond

// shower hands the newest report on to show, at most once in showPause, from a
// goroutine of its own: show may block, a report may not.
type shower struct {
	show func(ctx context.Context, text string, share float64) error
	to   string // host

	mu          sync.Mutex
	done, total uint64
}

// showing returns a report that shows itself, too. end comes when there are no more
// reports; nothing is shown after it.
func (s *shower) showing(ctx context.Context, report handover.Report) (both handover.Report, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.run(ctx)
	}()
	both = func(done, total uint64) {
		s.mu.Lock()
		s.done, s.total = done, total
		s.mu.Unlock()
		report(done, total)
	}
	return both, func() {
		cancel()
		<-ended
	}
}

func (s *shower) run(ctx context.Context) {
	tick := time.NewTicker(showPause)
	defer tick.Stop()
	last := uint64(0)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		done, total := s.done, s.total
		s.mu.Unlock()
		if done == last || total == 0 {
			continue
		}
		last = done
		const mega = 1e6
		text := fmt.Sprintf("Moving to %s: %.0f of %.0f MB", s.to, float64(done)/mega, float64(total)/mega)
		if err := s.show(ctx, text, min(float64(done)/float64(total), 1)); err != nil && ctx.Err() == nil {
			log.Printf("%v", err) // the move goes on
			return
		}
	}
}
