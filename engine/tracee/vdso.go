//go:build linux && amd64

package tracee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// vdsoSteps bounds the way out of the vdso: its functions are short, but loop
// while the kernel updates the clock.
const vdsoSteps = 50_000

// How a SIGTRAP came about, include/uapi/asm-generic/siginfo.h.
const (
	trapBreak    = 1
	trapTrace    = 2
	trapHardware = 4
)

// StepOutOfVDSO lets every thread that stands inside the vdso run on to its
// return from it, so that the program can go on with another kernel's vdso.
func (p *Process) StepOutOfVDSO() error {
	base, image := p.vdso(nil)
	if image == nil {
		return nil
	}
	inside := func(th *Thread) bool { return !th.gone && th.regs.Rip-base < vdsoSize }
	if !slices.ContainsFunc(p.Threads, inside) {
		return nil
	}
	prepared := p.train != nil
	if err := p.Prepare(0); err != nil {
		return err
	}
	for _, th := range p.Threads {
		if !inside(th) {
			continue
		}
		if err := th.stepOut(base); err != nil {
			return fmt.Errorf("leaving the vdso: %w", err)
		}
	}
	if prepared {
		return nil
	}
	return p.Unprepare()
}

func (th *Thread) stepOut(base uint64) error {
	if err := th.ok(); err != nil {
		return err
	}
	action, err := th.trapAction()
	if err != nil {
		return err
	}
	if err := kernel.PtraceSetSigMask(th.Tid, allButTrap); err != nil {
		return th.failed("blocking the signals", err)
	}
	regs, n := th.regs, 0
	for ; n < vdsoSteps && regs.Rip-base < vdsoSize; n++ {
		if err := th.resume(kernel.PtraceSingleStep, th.stepped); err != nil {
			return err
		}
		if err := kernel.PtraceGetRegs(th.Tid, &regs); err != nil {
			return th.failed("reading the registers", err)
		}
	}
	th.regs = regs
	if err := th.putBack(); err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(action) == sigIgn {
		copy(th.p.train.desk(), action)
		if _, err := th.Syscall(unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), th.p.trainAt+deskOffset, 0, sigsetSize); err != nil {
			return fmt.Errorf("letting %s ignore SIGTRAP again: %w", name(th.p.Pid), err)
		}
	}
	if err := th.queueAgain(); err != nil {
		return err
	}
	if n == vdsoSteps {
		return errors.New("it does not return")
	}
	return nil
}

// allButTrap is the mask while a thread is stepped, each step of which raises a SIGTRAP.
const allButTrap = ^uint64(0) &^ (1 << (unix.SIGTRAP - 1))

// The kernel's struct sigaction on x86-64: handler, flags, restorer, mask.
const (
	sigactionSize = 32
	sigIgn        = 1
)

// trapAction is what the process does on SIGTRAP: a step resets an ignored one to its default.
func (th *Thread) trapAction() ([]byte, error) {
	if _, err := th.Syscall(unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), 0, th.p.trainAt+deskOffset, sigsetSize); err != nil {
		return nil, fmt.Errorf("asking what %s does on SIGTRAP: %w", name(th.p.Pid), err)
	}
	return bytes.Clone(th.p.train.desk()[:sigactionSize]), nil
}

// stepped says whether a stop is the end of a single step. After a system call that
// looks like a signal from nobody.
func (th *Thread) stepped(s unix.WaitStatus) bool {
	if event(s) != 0 || s.StopSignal() != unix.SIGTRAP {
		return false
	}
	info, err := kernel.PtraceGetSiginfo(th.Tid)
	return err == nil && trapped(&info)
}

// trapped says whether a SIGTRAP is one of the processor's.
func trapped(info *kernel.Siginfo) bool {
	switch info.Code() {
	case trapBreak, trapTrace, trapHardware:
		return true
	}
	const pidOffset = 16
	return info.Code() == 0 && binary.LittleEndian.Uint32(info[pidOffset:]) == 0
}
