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
	rows := p.train.data[rowsOffset:]
	for i := range calls {
		row := rows[i*rowSize : (i+1)*rowSize]
		binary.LittleEndian.PutUint64(row, uint64(calls[i].Nr))
		for j, arg := range calls[i].Args {
			binary.LittleEndian.PutUint64(row[8+8*j:], arg)
		}
	}
	th.putHome(p.train.data[trainStub.home:])
	regs := trainStub.regs(th, p.trainAt)
	regs.Rbx = p.trainAt + rowsOffset
	regs.Rbp = uint64(len(calls))
	if _, err := th.run(&regs, p.trainAt+trainStub.reported); err != nil {
		return err
	}
	if err := th.putBack(); err != nil {
		return err
	}
	for i := range calls {
		calls[i].Ret = int64(binary.LittleEndian.Uint64(rows[i*rowSize+56:]))
	}
	return th.queueAgain()
}

// Exec makes the process run another program, by execve(2) with strings and
// arrays that lie in its memory: it rests before the program's first instruction. Its other
// threads and the train are gone then. It takes the leader.
func (th *Thread) Exec(path, argv, envp uint64) error {
	if th.Tid != th.p.Pid || len(th.p.Threads) != 1 {
		return errors.New("exec needs a process of one thread")
	}
	err := th.stepping(false, func(s *steps) error {
		if _, err := s.call(unix.SYS_EXECVE, path, argv, envp); err != nil {
			return err
		}
		th.p.gadget, th.p.vdsoAt = 0, 0
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
