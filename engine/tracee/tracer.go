//go:build linux && amd64

package tracee

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// ErrGone is reported of a thread that ended while it was held.
var ErrGone = errors.New("the thread has ended")

// ErrClosed is reported by a Tracer after Close.
var ErrClosed = errors.New("the tracer is closed")

var errThread = errors.New("called outside Tracer.Do")

// Tracer makes every ptrace call on one OS thread of its own.
type Tracer struct {
	// ExitKill makes everything seized from now on die with the tracer.
	ExitKill bool

	jobs chan job
	done chan struct{}
	once sync.Once
	tid  atomic.Int64

	// Only the tracer's thread touches these.
	alarm *kernel.Alarm             // nil: there is none
	held  map[int]*Thread           // by tid, everything attached
	stuck map[int]*Thread           // attached, but could not be stopped nor let go
	early map[int][]unix.WaitStatus // by tid: came while another was waited for
}

type job struct {
	fn  func() error
	err chan error
}

// New starts a Tracer.
func New() *Tracer {
	t := &Tracer{
		jobs:  make(chan job),
		done:  make(chan struct{}),
		held:  map[int]*Thread{},
		stuck: map[int]*Thread{},
		early: map[int][]unix.WaitStatus{},
	}
	ready := make(chan struct{})
	go t.loop(ready)
	<-ready
	return t
}

// loop never unlocks its thread: when it returns the thread ends, and with it
// whatever hold on a process was left.
func (t *Tracer) loop(ready chan struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The first thread of a Go program never ends. While it is locked here,
		// another goroutine gets another thread.
		go t.loop(ready)
		<-ready
		runtime.UnlockOSThread()
		return
	}
	_ = kernel.QuietStops() // louder stops are slower, no more
	if alarm, err := kernel.NewAlarm(); err == nil {
		t.alarm = alarm
		defer alarm.Close()
	}
	t.tid.Store(int64(unix.Gettid()))
	close(ready)
	for {
		select {
		case j := <-t.jobs:
			err := j.fn()
			renewed := len(t.stuck) > 0 && len(t.held) == 0
			if renewed {
				// A thread that cannot be stopped cannot be let go either: only
				// the end of this thread does that. Another takes over.
				t.stuck = map[int]*Thread{}
				ready := make(chan struct{})
				go t.loop(ready)
				<-ready
			}
			j.err <- err
			if renewed {
				return
			}
		case <-t.done:
			return
		}
	}
}

// Do runs fn on the tracer's thread. Called from within such an fn it just runs it.
func (t *Tracer) Do(fn func() error) error {
	if t.onThread() {
		return fn()
	}
	j := job{fn: fn, err: make(chan error, 1)}
	select {
	case t.jobs <- j:
		return <-j.err
	case <-t.done:
		return ErrClosed
	}
}

// onThread works because the tracer's goroutine never leaves its thread and no
// other goroutine can run there.
func (t *Tracer) onThread() bool { return int64(unix.Gettid()) == t.tid.Load() }

func (t *Tracer) check() error {
	if !t.onThread() {
		return errThread
	}
	return nil
}

// Close lets go of everything still held, registers untouched, and ends the thread.
func (t *Tracer) Close() error {
	err := t.Do(func() error {
		var errs []error
		for _, p := range t.processes() {
			errs = append(errs, t.Detach(p))
		}
		return errors.Join(errs...)
	})
	if errors.Is(err, ErrClosed) {
		return nil
	}
	t.once.Do(func() { close(t.done) })
	return err
}

func (t *Tracer) processes() []*Process {
	seen := map[*Process]bool{}
	var all []*Process
	for _, th := range t.held {
		if !seen[th.p] {
			seen[th.p] = true
			all = append(all, th.p)
		}
	}
	return all
}

func (t *Tracer) options() uintptr {
	options := uintptr(unix.PTRACE_O_TRACESYSGOOD)
	if t.ExitKill {
		options |= unix.PTRACE_O_EXITKILL
	}
	return options
}

// name is how a process is called in errors: its number and its name.
func name(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || len(comm) == 0 {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, comm[:len(comm)-1])
}
