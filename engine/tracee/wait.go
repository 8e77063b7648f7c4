//go:build linux && amd64

package tracee

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// How long a thread may take to stop, and an injected call to return.
const (
	stopTimeout = time.Second
	callTimeout = 20 * time.Second
	reapTimeout = 100 * time.Millisecond // for the news of a death that is certain
)

var errTimeout = errors.New("it did not stop in time")

// wait waits for the next stop or the end of one traced thread.
func (t *Tracer) wait(tid int, limit time.Duration) (unix.WaitStatus, error) {
	status, ok := unix.WaitStatus(0), false
	if early := t.early[tid]; len(early) > 0 {
		t.early[tid] = early[1:]
		status, ok = early[0], true
	}
	if !ok {
		var err error
		if _, status, err = t.await(tid, limit); errors.Is(err, errTimeout) {
			return 0, fmt.Errorf("waiting for thread %d: %w", tid, err)
		} else if err != nil {
			// ECHILD: it ended and was reaped, or an exec in another thread took its place.
			return 0, ErrGone
		}
	}
	if status.Exited() || status.Signaled() {
		return status, ErrGone
	}
	if th := t.held[tid]; th != nil {
		th.stops++
	}
	return status, nil
}

// patience bounds how long this thread sleeps at a time: meanwhile Go can neither stop the world nor
// use its processor.
const patience = 5 * time.Millisecond

// await waits for news of a thread, or of any. The kernel knows no time limit for that: an
// alarm ends it. Where there is none, it polls.
func (t *Tracer) await(tid int, limit time.Duration) (int, unix.WaitStatus, error) {
	var deadline time.Time
	for {
		who, status, err := kernel.WaitTracee(tid, t.alarm, patience)
		if err != nil || who != 0 {
			return who, status, err
		}
		if now := time.Now(); deadline.IsZero() {
			deadline = now.Add(limit)
		} else if now.After(deadline) {
			return 0, 0, errTimeout
		}
		if t.alarm == nil {
			kernel.Yield()
		}
	}
}

// event is the PTRACE_EVENT_ number of a stop, 0 if it is none.
func event(s unix.WaitStatus) int { return int(s) >> 16 & 0xff }

func isSyscallStop(s unix.WaitStatus) bool {
	return event(s) == 0 && s.StopSignal() == unix.SIGTRAP|0x80
}

// toRest waits until an interrupted thread stands in its PTRACE_EVENT_STOP.
// Signals that come first are delivered as if nobody watched: the handler's
// frame is built, or the process ends or stops, and then the thread stops.
func (t *Tracer) toRest(th *Thread, limit time.Duration) error {
	for {
		status, err := t.wait(th.Tid, limit)
		if err != nil {
			if errors.Is(err, ErrGone) {
				t.forget(th)
			}
			return err
		}
		signal := 0
		switch {
		case event(status) == unix.PTRACE_EVENT_STOP:
			th.stopped(int(status.StopSignal()))
			return nil
		case event(status) != 0, isSyscallStop(status):
		default:
			signal = int(status.StopSignal())
		}
		if err := kernel.PtraceCont(th.Tid, signal); err != nil && err != unix.ESRCH {
			return fmt.Errorf("continuing thread %d towards its stop: %w", th.Tid, err)
		}
	}
}

// forget takes a thread that ended out of the books.
func (t *Tracer) forget(th *Thread) {
	delete(t.held, th.Tid)
	delete(t.stuck, th.Tid)
	delete(t.early, th.Tid)
	th.gone = true
}
