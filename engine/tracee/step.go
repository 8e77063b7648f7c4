//go:build linux && amd64

package tracee

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// maxErrno bounds the results that stand for an error, include/linux/err.h.
const maxErrno = 4095

// StepSyscall makes one system call in the thread by way of a `syscall`
// instruction that is already there. It needs no train; it takes three stops.
func (th *Thread) StepSyscall(nr uintptr, args ...uint64) (uint64, error) {
	var result uint64
	err := th.stepping(false, func(step func(uintptr, ...uint64) (uint64, error)) error {
		var err error
		result, err = step(nr, args...)
		return err
	})
	return result, err
}

// stepping lets fn make any number of calls, each where the one before ended,
// and then puts the thread back where it rested.
//
// After a call the thread stands in a syscall-exit-stop, whose way back to the
// program does not restart an interrupted call. So it is interrupted there, and
// continued into a PTRACE_EVENT_STOP before the program's next instruction.
//
// Quick steps, by PTRACE_SINGLESTEP, take one stop for each call and none at the end. But
// the kernel resets an ignored SIGTRAP to its default, and does not take the trap flag
// back if the tracer dies: a batch must follow.
func (th *Thread) stepping(quick bool, fn func(step func(uintptr, ...uint64) (uint64, error)) error) error {
	if err := th.ok(); err != nil {
		return err
	}
	if err := th.injectable(); err != nil {
		return err
	}
	how, mask := th.step, ^uint64(0)
	if quick {
		how, mask = th.quickStep, allButTrap
	}
	if err := kernel.PtraceSetSigMask(th.Tid, mask); err != nil {
		return th.failed("blocking the signals", err)
	}
	gadget, err := th.p.findGadget()
	if err != nil {
		return errors.Join(err, th.putBack())
	}
	err = fn(func(nr uintptr, args ...uint64) (uint64, error) {
		value, err := how(gadget, nr, args)
		if err != nil {
			return 0, err
		}
		if int64(value) < 0 && int64(value) >= -maxErrno {
			return value, syscall.Errno(-int64(value))
		}
		return value, nil
	})
	if th.gone {
		return err
	}
	rest := th.comeToRest
	if quick {
		rest = th.putBack
	}
	if rerr := rest(); rerr != nil {
		return errors.Join(err, rerr)
	}
	if quick && err == nil {
		return nil // the batch does it: it has the train, by which signals come back as they were
	}
	return errors.Join(err, th.queueAgain())
}

// step runs one call up to its syscall-exit-stop.
func (th *Thread) step(gadget uint64, nr uintptr, args []uint64) (uint64, error) {
	if err := th.setCall(gadget, nr, args); err != nil {
		return 0, err
	}
	for range 2 { // the call's entry, its exit
		if err := th.resume(kernel.PtraceSyscall, isSyscallStop); err != nil {
			return 0, fmt.Errorf("system call %d: %w", nr, err)
		}
	}
	var regs unix.PtraceRegs
	if err := kernel.PtraceGetRegs(th.Tid, &regs); err != nil {
		return 0, th.failed("reading the registers", err)
	}
	return regs.Rax, nil
}

// quickStep runs one call up to the trap after it. As with the train, that may hide a
// SIGTRAP of the program's own.
func (th *Thread) quickStep(gadget uint64, nr uintptr, args []uint64) (uint64, error) {
	if err := th.setCall(gadget, nr, args); err != nil {
		return 0, err
	}
	after := gadget + uint64(len(syscallInstruction))
	var regs unix.PtraceRegs
	err := th.resume(kernel.PtraceSingleStep, func(s unix.WaitStatus) bool {
		if event(s) != 0 || s.StopSignal() != unix.SIGTRAP || kernel.PtraceGetRegs(th.Tid, &regs) != nil || regs.Rip != after {
			return false
		}
		if info, err := kernel.PtraceGetSiginfo(th.Tid); err == nil && !trapped(&info) {
			th.heard = append(th.heard, info)
		}
		return true
	})
	if err != nil {
		return 0, fmt.Errorf("system call %d: %w", nr, err)
	}
	return regs.Rax, nil
}

// setCall sets the registers for a call at a `syscall` instruction.
func (th *Thread) setCall(gadget uint64, nr uintptr, args []uint64) error {
	regs := th.callRegs(gadget)
	regs.Rax = uint64(nr)
	for i, to := range []*uint64{&regs.Rdi, &regs.Rsi, &regs.Rdx, &regs.R10, &regs.R8, &regs.R9} {
		*to = 0
		if i < len(args) {
			*to = args[i]
		}
	}
	if err := kernel.PtraceSetRegs(th.Tid, &regs); err != nil {
		return th.failed("setting the registers", err)
	}
	return nil
}

// comeToRest puts registers and mask back and goes into a PTRACE_EVENT_STOP. The
// order makes the tracer's death harmless at any point.
func (th *Thread) comeToRest() error {
	if err := kernel.PtraceInterrupt(th.Tid); err != nil {
		return th.failed("interrupting", err)
	}
	if err := th.putBack(); err != nil {
		return err
	}
	return th.resume(kernel.PtraceCont, func(s unix.WaitStatus) bool {
		if event(s) != unix.PTRACE_EVENT_STOP {
			return false
		}
		th.stopped(int(s.StopSignal()))
		return true
	})
}

// putBack restores what the thread goes on with.
func (th *Thread) putBack() error {
	if err := kernel.PtraceSetRegs(th.Tid, &th.regs); err != nil {
		return th.failed("putting the registers back", err)
	}
	if err := kernel.PtraceSetSigMask(th.Tid, th.mask); err != nil {
		return th.failed("putting the signal mask back", err)
	}
	return nil
}

// callRegs are registers for injected code at rip. With orig_rax -1 the kernel
// does not take the thread for one coming out of a system call.
func (th *Thread) callRegs(rip uint64) unix.PtraceRegs {
	regs := th.regs
	regs.Rip = rip
	regs.Orig_rax = noCall
	regs.Eflags &^= trapFlag
	return regs
}

func (th *Thread) injectable() error {
	if th.regs.Cs == userCodeSeg32 {
		return fmt.Errorf("%s runs 32-bit code: hither moves 64-bit programs only", name(th.p.Pid))
	}
	return nil
}

// resume lets the thread run until a stop that is the wanted one. What else
// comes is kept apart: a signal is noted, to be queued again.
func (th *Thread) resume(how func(tid, sig int) error, wanted func(unix.WaitStatus) bool) error {
	t := th.p.t
	for {
		if err := how(th.Tid, 0); err != nil {
			return th.failed("resuming", err)
		}
		status, err := t.wait(th.Tid, callTimeout)
		if errors.Is(err, ErrGone) {
			t.forget(th)
			return fmt.Errorf("thread %d of %s, while it ran an injected call: %w", th.Tid, name(th.p.Pid), err)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("an injected call in %s does not return: %w", name(th.p.Pid), err), th.rescue())
		}
		if wanted(status) {
			return nil
		}
		if event(status) == unix.PTRACE_EVENT_STOP {
			th.stopped(int(status.StopSignal()))
			continue
		}
		if event(status) != 0 || isSyscallStop(status) {
			continue
		}
		if err := th.hear(); err != nil {
			return err
		}
	}
}

// rescue stops a thread whose injected call sleeps for too long.
func (th *Thread) rescue() error {
	if err := kernel.PtraceInterrupt(th.Tid); err != nil {
		return th.failed("interrupting", err)
	}
	if err := th.p.t.toRest(th, stopTimeout); err != nil {
		return err
	}
	return th.putBack()
}

// hear notes the signal of a signal-delivery-stop. A fault of the injected code
// itself cannot be continued.
func (th *Thread) hear() error {
	info, err := kernel.PtraceGetSiginfo(th.Tid)
	if err != nil {
		return th.failed("reading a signal", err)
	}
	switch signal := syscall.Signal(info.Signo()); signal {
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGSYS:
		if info.Code() > 0 {
			cause := ""
			if signal == unix.SIGSYS {
				cause = " (a seccomp filter of the program forbids the call)"
			}
			return errors.Join(fmt.Errorf("injected code in %s raised %v%s", name(th.p.Pid), signal, cause), th.putBack())
		}
	}
	th.heard = append(th.heard, info)
	return nil
}

// queueAgain gives the signals that were heard back to the thread. SIGSTOP cannot
// be blocked, so it can be heard at any time; all others but a SIGTRAP that the
// program sent itself are blocked while something is injected.
func (th *Thread) queueAgain() error {
	heard := th.heard
	th.heard = nil
	for _, info := range heard {
		if err := th.queue(&info); err != nil {
			return fmt.Errorf("queueing signal %d for %s again: %w", info.Signo(), name(th.p.Pid), err)
		}
	}
	return nil
}

func (th *Thread) queue(info *kernel.Siginfo) error {
	signal := syscall.Signal(info.Signo())
	if signal == unix.SIGSTOP || th.p.train == nil {
		return unix.Tgkill(th.p.Pid, th.Tid, signal)
	}
	// The kernel takes a siginfo as it is only from the thread itself.
	copy(th.p.train.desk(), info[:])
	return th.stepping(false, func(step func(uintptr, ...uint64) (uint64, error)) error {
		pid, err := step(unix.SYS_GETPID)
		if err != nil {
			return err
		}
		tid, err := step(unix.SYS_GETTID)
		if err != nil {
			return err
		}
		_, err = step(unix.SYS_RT_TGSIGQUEUEINFO, pid, tid, uint64(signal), th.p.trainAt+deskOffset)
		return err
	})
}
