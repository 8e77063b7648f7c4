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

// StepSyscall makes one system call in the thread. It needs no train.
func (th *Thread) StepSyscall(nr uintptr, args ...uint64) (uint64, error) {
	var result uint64
	err := th.stepping(true, func(s *steps) error {
		var err error
		result, err = s.call(nr, args...)
		return err
	})
	return result, err
}

// TakeDescriptor makes a call that makes a descriptor, takes that for the tracer
// (close-on-exec) and closes it in the process. Should the tracer die, it is closed all the same.
func (th *Thread) TakeDescriptor(nr uintptr, args ...uint64) (fd int, err error) {
	err = th.stepping(true, func(s *steps) error {
		its, err := s.open(nr, args...)
		if err != nil {
			return err
		}
		fd, err = th.p.GetFD(int(its))
		if cerr := s.close(); cerr != nil && err == nil {
			unix.Close(fd)
			err = cerr
		}
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// steps are calls made one by one, each where the one before ended.
type steps struct {
	th *Thread
	at uint64 // of the code that makes the call
	on bool   // the perch; else a bare `syscall` instruction
	fd uint64 // a descriptor of the process that is the tracer's own
}

// stepping lets fn make any number of calls, and then puts the thread back where it rested.
//
// They are made on the perch, a stub in the room that the vdso leaves in its last page.
// Where there is none, or it is about to go (perch false), a `syscall` instruction that is
// there serves; then the process does not survive the tracer's death in mid-call. After such a call
// the thread stands in a syscall-exit-stop, whose way back to the program does not
// restart an interrupted call. So it is interrupted there, and continued into a
// PTRACE_EVENT_STOP before the program's next instruction.
func (th *Thread) stepping(perch bool, fn func(*steps) error) error {
	if err := th.ok(); err != nil {
		return err
	}
	if err := th.injectable(); err != nil {
		return err
	}
	s, rest := &steps{th: th, fd: noDescriptor}, th.putBack
	if perch {
		s.at, s.on = th.perch()
	}
	if !s.on {
		rest = th.comeToRest
		var err error
		if s.at, err = th.p.findGadget(); err != nil {
			return err
		}
		if err := kernel.PtraceSetSigMask(th.Tid, ^uint64(0)); err != nil {
			return th.failed("blocking the signals", err)
		}
	}
	err := fn(s)
	if th.gone {
		return err
	}
	if rerr := rest(); rerr != nil {
		return errors.Join(err, rerr)
	}
	return errors.Join(err, th.queueAgain())
}

// call makes a call.
func (s *steps) call(nr uintptr, args ...uint64) (uint64, error) { return s.make(false, nr, args) }

// open makes a call that makes a descriptor, which is the tracer's until close.
func (s *steps) open(nr uintptr, args ...uint64) (uint64, error) {
	fd, err := s.make(true, nr, args)
	if err == nil {
		s.fd = fd
	}
	return fd, err
}

// close closes what open made. From then on it is the call that does it, once: by the way home
// the number may be another's.
func (s *steps) close() error {
	fd := s.fd
	s.fd = noDescriptor
	_, err := s.call(unix.SYS_CLOSE, fd)
	return err
}

func (s *steps) make(opens bool, nr uintptr, args []uint64) (uint64, error) {
	th := s.th
	regs := th.callRegs(s.at)
	if s.on {
		regs = perchStub.regs(th, s.at)
		regs.R14 = s.fd
		if opens {
			regs.R13 = 0
		}
	}
	regs.Rax = uint64(nr)
	for i, to := range []*uint64{&regs.Rdi, &regs.Rsi, &regs.Rdx, &regs.R10, &regs.R8, &regs.R9} {
		*to = 0
		if i < len(args) {
			*to = args[i]
		}
	}
	var value uint64
	if s.on {
		end, err := th.run(&regs, s.at+perchStub.reported)
		if err != nil {
			return 0, fmt.Errorf("system call %d: %w", nr, err)
		}
		value = end.R12
	} else {
		if err := kernel.PtraceSetRegs(th.Tid, &regs); err != nil {
			return 0, th.failed("setting the registers", err)
		}
		for range 2 { // the call's entry, its exit
			if err := th.resume(kernel.PtraceSyscall, isSyscallStop); err != nil {
				return 0, fmt.Errorf("system call %d: %w", nr, err)
			}
		}
		if err := kernel.PtraceGetRegs(th.Tid, &regs); err != nil {
			return 0, th.failed("reading the registers", err)
		}
		value = regs.Rax
	}
	if int64(value) < 0 && int64(value) >= -maxErrno {
		return value, syscall.Errno(-int64(value))
	}
	return value, nil
}

// comeToRest puts registers and mask back and goes into a PTRACE_EVENT_STOP.
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

// putBack restores what the thread goes on with. The mask comes first: a stub brings the rest.
func (th *Thread) putBack() error {
	if err := kernel.PtraceSetSigMask(th.Tid, th.mask); err != nil {
		return th.failed("putting the signal mask back", err)
	}
	if err := kernel.PtraceSetRegs(th.Tid, &th.regs); err != nil {
		return th.failed("putting the registers back", err)
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

// queueAgain gives the signals that were heard back. SIGSTOP cannot be blocked, so it can
// be heard at any time; all others but the stub's own are blocked while something is injected.
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

// queue sends a signal once more. What it is told about its sender is lost: nobody asks that of SIGWINCH,
// nor of SIGSTOP.
func (th *Thread) queue(info *kernel.Siginfo) error {
	signal := syscall.Signal(info.Signo())
	if signal != unix.SIGSTOP && th.mask&(1<<(signal-1)) != 0 {
		// It cannot have been for this thread in particular: another may be waiting for it.
		return unix.Kill(th.p.Pid, signal)
	}
	return unix.Tgkill(th.p.Pid, th.Tid, signal)
}
