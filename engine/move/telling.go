package move

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"hither/engine/handover"
)

// What the app's windows, as they stand dimmed on the desktop that it leaves, say of
// the move: nothing of one that is over in no time, then now and then how far it is.
const (
	tellAfter = 250 * time.Millisecond
	tellEvery = 100 * time.Millisecond
)

// telling is report, and tells the windows too. It waits for nobody.
func (s *Source) telling(ctx context.Context, report handover.Report) handover.Report {
	var busy atomic.Bool
	var next atomic.Int64
	next.Store(int64(tellAfter))
	began := time.Now()
	return func(done, total uint64) {
		report(done, total)
		since := int64(time.Since(began))
		if total == 0 || since < next.Load() || !busy.CompareAndSwap(false, true) {
			return
		}
		next.Store(since + int64(tellEvery))
		go func() {
			defer busy.Store(false)
			text := fmt.Sprintf("Moving to %s: %.1f of %.1f MB", s.To, float64(done)/1e6, float64(total)/1e6)
			s.cap.Progress(ctx, text, float64(done)/float64(total)) //nolint:errcheck // the next one tells more
		}()
	}
}
