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

// step carries out one step of the plan.
func (b *Builder) step(s step) error {
	if s.Op == opFork {
		return b.fork(s.By, s.Pid)
	}
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

func (b *Builder) fork(by, pid int) error {
	parent, err := b.find(by)
	if err != nil {
		return err
	}
	args := kernel.CloneArgs{ExitSignal: uint64(unix.SIGCHLD)}
	proc := b.images[pid]
	if proc != nil {
		args.ExitSignal = uint64(proc.ExitSignal)
	}
	th, err := parent.Leader().Clone(args, pid)
	if errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("making process %d: the number is taken in the new capsule: %w", pid, err)
	}
	if err != nil {
		return fmt.Errorf("making process %d: %w", pid, err)
	}
	if proc != nil {
		b.procs[pid] = th.Process()
	} else {
		b.extras[pid] = th.Process()
	}
	return nil
}
