//go:build linux && amd64

package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// allButTrap is the mask while the train runs: its end is a SIGTRAP.
const allButTrap = ^uint64(0) &^ (1 << (unix.SIGTRAP - 1))

// Syscall makes one call by the train. Its errno comes as a syscall.Errno.
func (th *Thread) Syscall(nr uintptr, args ...uint64) (uint64, error) {
	call := [1]Call{{Nr: nr}}
	copy(call[0].Args[:], args)
	if err := th.Batch(call[:]); err != nil {
		return 0, err
	}
	return uint64(call[0].Ret), call[0].Err()
}

// Batch makes the calls in order, all of them, whatever each returns. An error is
// one of the batch as a whole: then it is not known which calls were made.
func (th *Thread) Batch(calls []Call) error {
	for len(calls) > 0 {
		n := min(len(calls), maxRows)
		if err := th.ride(calls[:n]); err != nil {
			return err
		}
		calls = calls[n:]
	}
	return nil
}

// ride runs one table of calls.
func (th *Thread) ride(calls []Call) error {
	if err := th.ok(); err != nil {
		return err
	}
	if err := th.injectable(); err != nil {
		return err
	}
	p := th.p
	if p.train == nil {
		return fmt.Errorf("%s is not prepared for injected calls", name(p.Pid))
	}
	ignore, err := p.watchTraps(calls)
	if err != nil {
		return err
	}
	rows := p.train.data[rowsOffset:]
	for i := range calls {
		row := rows[i*rowSize : (i+1)*rowSize]
		binary.LittleEndian.PutUint64(row, uint64(calls[i].Nr))
		for j, arg := range calls[i].Args {
			binary.LittleEndian.PutUint64(row[8+8*j:], arg)
		}
	}
	regs := th.callRegs(p.trainAt)
	regs.Rbx = p.trainAt + rowsOffset
	regs.Rbp = uint64(len(calls))
	if err := kernel.PtraceSetSigMask(th.Tid, allButTrap); err != nil {
		return th.failed("blocking the signals", err)
	}
	if err := kernel.PtraceSetRegs(th.Tid, &regs); err != nil {
		return th.failed("setting the registers", err)
	}
	if err := th.resume(kernel.PtraceCont, th.arrived); err != nil {
		return err
	}
	if err := th.putBack(); err != nil {
		return err
	}
	for i := range calls {
		calls[i].Ret = int64(binary.LittleEndian.Uint64(rows[i*rowSize+56:]))
	}
	if ignore != nil {
		if p.trapping = ignore; binary.LittleEndian.Uint64(ignore) != sigIgn {
			p.trapping = nil
		}
	}
	if p.trapping != nil {
		if err := th.ignoreTraps(); err != nil {
			return err
		}
	}
	return th.queueAgain()
}

// arrived says whether a stop is the breakpoint at the train's end. The SIGTRAP
// may hide one the program sent itself: two of a kind become one in the queue.
func (th *Thread) arrived(s unix.WaitStatus) bool {
	if event(s) != 0 || s.StopSignal() != unix.SIGTRAP {
		return false
	}
	var regs unix.PtraceRegs
	if kernel.PtraceGetRegs(th.Tid, &regs) != nil || regs.Rip != th.p.trainAt+trainEnd {
		return false
	}
	if info, err := kernel.PtraceGetSiginfo(th.Tid); err == nil && info.Code() != sigkernel {
		th.heard = append(th.heard, info)
	}
	return true
}

// watchTraps looks for a call that sets what the process does on SIGTRAP, and
// returns the new action: the breakpoint resets an ignored SIGTRAP to its default.
func (p *Process) watchTraps(calls []Call) ([]byte, error) {
	var action []byte
	for i := range calls {
		c := &calls[i]
		if c.Nr != unix.SYS_RT_SIGACTION || c.Args[0] != uint64(unix.SIGTRAP) || c.Args[1] == 0 {
			continue
		}
		action = make([]byte, sigactionSize)
		if err := p.Read(action, c.Args[1]); err != nil {
			return nil, fmt.Errorf("reading the action for SIGTRAP: %w", err)
		}
	}
	return action, nil
}

// ignoreTraps lets the process ignore SIGTRAP again. This raises none.
func (th *Thread) ignoreTraps() error {
	copy(th.p.train.desk(), th.p.trapping)
	_, err := th.StepSyscall(unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), th.p.trainAt+deskOffset, 0, sigsetSize)
	if err != nil {
		return fmt.Errorf("letting %s ignore SIGTRAP again: %w", name(th.p.Pid), err)
	}
	return nil
}

// Exec makes the process run another program, by execve(2) with strings and
// arrays that lie in its memory: it rests before the program's first instruction. Its other
// threads and the train are gone then. It takes the leader.
func (th *Thread) Exec(path, argv, envp uint64) error {
	if th.Tid != th.p.Pid || len(th.p.Threads) != 1 {
		return errors.New("exec needs a process of one thread")
	}
	err := th.stepping(false, func(step func(uintptr, ...uint64) (uint64, error)) error {
		if _, err := step(unix.SYS_EXECVE, path, argv, envp); err != nil {
			return err
		}
		th.p.gadget = 0
		if err := kernel.PtraceGetRegs(th.Tid, &th.regs); err != nil {
			return th.failed("reading the registers", err)
		}
		return th.p.dropTrain()
	})
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return fmt.Errorf("running another program in %s: %w", name(th.p.Pid), err)
	}
	return err
}
