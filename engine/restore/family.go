package restore

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
	"hither/engine/tracee"
)

// call makes one system call in a process.
func call(p *tracee.Process, doing string, nr uintptr, args ...uint64) (uint64, error) {
	v, err := p.Leader().Syscall(nr, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", doing, err)
	}
	return v, nil
}

func (b *Builder) find(pid int) (*tracee.Process, error) {
	if pid == 1 {
		return b.init, nil
	}
	if p := b.procs[pid]; p != nil {
		return p, nil
	}
	if p := b.extras[pid]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("process %d is not there", pid)
}

// family carries out the plan. What one process forks in a row is born together.
func (b *Builder) family(steps []step) error {
	for len(steps) > 0 {
		n := 0
		for n < len(steps) && steps[n].Op == opFork && steps[n].By == steps[0].By {
			n++
			if h := &b.ahead; h.inherits(steps[n-1].Pid) || n < len(steps) && h.inherits(steps[n].Pid) {
				break // each inherits something else
			}
		}
		err := error(nil)
		if n == 0 {
			n, err = 1, b.step(steps[0])
		} else {
			err = b.fork(steps[0].By, steps[:n])
		}
		if err != nil {
			return err
		}
		steps = steps[n:]
	}
	return nil
}

// step carries out one step of the plan that is no fork.
func (b *Builder) step(s step) error {
	p, err := b.find(s.Pid)
	if err != nil {
		return err
	}
	switch s.Op {
	case opSetsid:
		_, err = call(p, fmt.Sprintf("making process %d lead a session", s.Pid), unix.SYS_SETSID)
	case opGroup:
		_, err = call(p, fmt.Sprintf("putting process %d into group %d", s.Pid, s.Arg), unix.SYS_SETPGID, 0, uint64(s.Arg))
	case opReaper:
		_, err = call(p, fmt.Sprintf("making process %d a reaper", s.Pid), unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, uint64(s.Arg))
	case opEnd:
		delete(b.extras, s.Pid)
		if err = b.tracer.Kill([]*tracee.Process{p}); err != nil || s.By == 0 {
			return err
		}
		parent, err := b.find(s.By)
		if err != nil {
			return err
		}
		_, err = call(parent, fmt.Sprintf("reaping helper %d", s.Pid), unix.SYS_WAIT4, uint64(s.Pid), 0, unix.WNOHANG|unix.WALL, 0)
		return err
	}
	return err
}

func (b *Builder) fork(by int, children []step) error {
	parent, err := b.find(by)
	if err != nil {
		return err
	}
	if err := b.open(parent, by, children[0].Pid); err != nil {
		return err
	}
	births := make([]tracee.Birth, len(children))
	for i, c := range children {
		births[i] = tracee.Birth{Args: kernel.CloneArgs{ExitSignal: uint64(unix.SIGCHLD)}, Tids: []int{c.Pid}}
		if proc := b.images[c.Pid]; proc != nil {
			births[i].Args.ExitSignal = uint64(proc.ExitSignal)
		}
	}
	born, err := parent.Leader().Births(births)
	for i, th := range born {
		switch pid := children[i].Pid; {
		case th == nil:
		case b.images[pid] != nil:
			b.procs[pid] = th.Process()
		default:
			b.extras[pid] = th.Process()
		}
	}
	if errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("making the children of process %d: a number is taken in the new capsule: %w", by, err)
	}
	if err != nil {
		return fmt.Errorf("making the children of process %d: %w", by, err)
	}
	return b.handed(parent, by, children[0].Pid)
}
