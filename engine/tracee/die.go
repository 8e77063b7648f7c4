//go:build linux && amd64

package tracee

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// Die ends a held process of one thread so that its parent finds the given
// wait status (wait(2)), and takes the tracer's news of it. A signal's action
// must be the default one. The mark of a core dump is lost: none is written.
func (p *Process) Die(status int) error {
	if err := p.t.check(); err != nil {
		return err
	}
	th, err := p.leader()
	if err != nil {
		return err
	}
	s := syscall.WaitStatus(status)
	if s.Signaled() && s.Signal() == unix.SIGKILL {
		return p.t.Kill([]*Process{p})
	}
	nr, args := uint64(unix.SYS_EXIT_GROUP), []uint64{uint64(s.ExitStatus())}
	if s.Signaled() {
		var none unix.Rlimit
		if err := unix.Prlimit(p.Pid, unix.RLIMIT_CORE, &none, nil); err != nil {
			return fmt.Errorf("forbidding core dumps of %s: %w", name(p.Pid), err)
		}
		pid, err := th.StepSyscall(unix.SYS_GETPID)
		if err != nil {
			return err
		}
		if err := kernel.PtraceSetSigMask(th.Tid, ^uint64(0)&^(1<<(uint(s.Signal())-1))); err != nil {
			return th.failed("unblocking the signal", err)
		}
		nr, args = unix.SYS_TGKILL, []uint64{pid, pid, uint64(s.Signal())}
	}
	gadget, err := p.findGadget()
	if err != nil {
		return err
	}
	regs := th.callRegs(gadget)
	regs.Rax = nr
	for i, to := range []*uint64{&regs.Rdi, &regs.Rsi, &regs.Rdx} {
		if i < len(args) {
			*to = args[i]
		}
	}
	if err := kernel.PtraceSetRegs(th.Tid, &regs); err != nil {
		return th.failed("setting the registers", err)
	}
	deliver := 0
	for {
		if err := kernel.PtraceCont(th.Tid, deliver); err != nil && err != unix.ESRCH {
			return th.failed("letting it end", err)
		}
		stop, err := p.t.wait(th.Tid, killTimeout)
		if errors.Is(err, ErrGone) {
			p.t.forget(th)
			return p.close()
		}
		if err != nil {
			return fmt.Errorf("waiting for the end of %s: %w", name(p.Pid), err)
		}
		deliver = 0
		if stop.Stopped() && event(stop) == 0 && s.Signaled() && stop.StopSignal() == s.Signal() {
			deliver = int(s.Signal())
		}
	}
}
