//go:build linux && amd64

package tracee

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// Detach lets a process go on as it was: the train is unmapped first, a process
// that job control had stopped stays stopped, signals that came meanwhile are
// delivered.
func (t *Tracer) Detach(p *Process) error {
	if err := t.check(); err != nil {
		return err
	}
	var errs []error
	if p.Leader() != nil {
		errs = append(errs, p.hide(), p.Unprepare(), p.leavePerch())
	}
	// The leader last: if the process was killed meanwhile, its end is told after
	// that of all others.
	for _, th := range slices.Backward(p.Threads) {
		if !th.gone {
			errs = append(errs, t.release(th))
		}
	}
	errs = append(errs, p.close())
	errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, ErrGone) })
	return errors.Join(errs...)
}

// DetachAll lets all of them go: everything slow first, so that they go on together.
func (t *Tracer) DetachAll(all []*Process) error {
	var errs []error
	for _, p := range all {
		if p.Leader() != nil {
			errs = append(errs, p.hide(), p.Unprepare(), p.leavePerch())
		}
	}
	for _, p := range all {
		errs = append(errs, t.Detach(p))
	}
	return errors.Join(errs...)
}

func (p *Process) close() error {
	err := p.dropTrain()
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
		p.pidfd = -1
	}
	if p.mem != nil {
		p.mem.Close()
		p.mem = nil
	}
	return err
}

// release detaches one thread that rests.
func (t *Tracer) release(th *Thread) error {
	if t.held[th.Tid] != th {
		return nil
	}
	if err := kernel.PtraceDetach(th.Tid, 0); err != nil {
		if err := th.failed("letting go", err); !errors.Is(err, ErrGone) {
			return err
		}
		return nil
	}
	delete(t.held, th.Tid)
	return nil
}

// killTimeout bounds how long a killed process may take to end: the kernel frees
// its memory before its threads are seen to have ended.
const killTimeout = 30 * time.Second

// Kill ends the processes by SIGKILL and takes the news of their end, which the
// kernel keeps for their tracer; then their own parents get it.
func (t *Tracer) Kill(all []*Process) error {
	if err := t.check(); err != nil {
		return err
	}
	var errs []error
	for _, p := range all {
		if p.Leader() == nil {
			continue
		}
		if err := unix.Kill(p.Pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			errs = append(errs, fmt.Errorf("killing %s: %w", name(p.Pid), err))
		}
	}
	// The leader's end is told only after that of all others: so it comes last.
	for _, p := range all {
		for _, leaders := range []bool{false, true} {
			for _, th := range p.Threads {
				if !th.gone && (th.Tid == p.Pid) == leaders {
					errs = append(errs, t.reap(th))
				}
			}
		}
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

func (t *Tracer) reap(th *Thread) error {
	for {
		_, err := t.wait(th.Tid, killTimeout)
		if errors.Is(err, ErrGone) {
			t.forget(th)
			return nil
		}
		if err != nil {
			return fmt.Errorf("waiting for the end of %s: %w", name(th.p.Pid), err)
		}
		if err := kernel.PtraceCont(th.Tid, 0); err != nil && err != unix.ESRCH {
			return fmt.Errorf("continuing thread %d of %s to its end: %w", th.Tid, name(th.p.Pid), err)
		}
	}
}
