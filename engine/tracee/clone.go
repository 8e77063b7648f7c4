//go:build linux && amd64

package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// Clone makes the thread call clone3: a new process, or (CLONE_THREAD) a new
// thread of its own process. tids, if any, are the ids wanted, innermost pid namespace
// first. What is born is held, rests with its maker's registers (rax 0) and
// signal mask, and can run batches by its maker's train. All that a new thread
// needs to run by itself - stack, registers - is the caller's to set.
func (th *Thread) Clone(args kernel.CloneArgs, tids ...int) (*Thread, error) {
	p := th.p
	if p.train == nil {
		return nil, fmt.Errorf("%s is not prepared for injected calls", name(p.Pid))
	}
	if args.Flags&(unix.CLONE_VFORK|unix.CLONE_UNTRACED) != 0 {
		return nil, errors.New("an injected clone cannot be a vfork or untraced")
	}
	if !p.heritable && args.Flags&unix.CLONE_VM == 0 {
		if _, err := th.Syscall(unix.SYS_MADVISE, p.trainAt, TrainSize, unix.MADV_DOFORK); err != nil {
			return nil, fmt.Errorf("letting children of %s inherit the train: %w", name(p.Pid), err)
		}
		p.heritable = true
	}
	desk, at := p.train.desk(), p.trainAt+deskOffset
	if len(tids) > 0 {
		const tidsOffset = 256
		for i, tid := range tids {
			binary.LittleEndian.PutUint32(desk[tidsOffset+4*i:], uint32(tid))
		}
		args.SetTid, args.SetTidSize = at+tidsOffset, uint64(len(tids))
	}
	copy(desk, args.Bytes())
	const births = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK
	if err := kernel.PtraceSetOptions(th.Tid, th.options|births); err != nil {
		return nil, th.failed("setting the options", err)
	}
	call := [1]Call{{Nr: unix.SYS_CLONE3, Args: [6]uint64{at, uint64(kernel.CloneArgsSize)}}}
	tid := 0
	err := th.ride(call[:], func(n int) { tid = n })
	if !th.gone {
		if oerr := kernel.PtraceSetOptions(th.Tid, th.options); oerr != nil {
			err = errors.Join(err, th.failed("setting the options back", oerr))
		}
	}
	var child *Thread
	if tid != 0 {
		var cerr error
		child, cerr = th.born(tid, args.Flags&unix.CLONE_THREAD != 0)
		err = errors.Join(err, cerr)
	}
	if err == nil {
		err = call[0].Err()
	}
	if err == nil && child == nil {
		err = errors.New("no child was seen")
	}
	if err != nil {
		return nil, fmt.Errorf("cloning %s: %w", name(p.Pid), err)
	}
	return child, nil
}

// born takes a new thread, which the kernel attached by itself, to its rest.
func (th *Thread) born(tid int, sameProcess bool) (*Thread, error) {
	t, p := th.p.t, th.p
	child := &Thread{Tid: tid, p: p, options: th.options}
	if !sameProcess {
		child.p = &Process{Pid: tid, t: t, gadget: p.gadget, pidfd: -1}
		if err := child.p.Adopt(p); err != nil {
			return nil, err
		}
	}
	t.held[tid] = child
	child.p.Threads = append(child.p.Threads, child)
	if err := t.toRest(child, callTimeout); err != nil {
		child.p.Threads = slices.DeleteFunc(child.p.Threads, func(o *Thread) bool { return o == child })
		return nil, fmt.Errorf("waiting for the new thread %d: %w", tid, err)
	}
	if err := kernel.PtraceSetOptions(tid, child.options); err != nil {
		return nil, child.failed("setting the options", err)
	}
	regs := th.regs
	regs.Rax, regs.Orig_rax = 0, noCall
	if err := child.SetRegs(regs); err != nil {
		return nil, err
	}
	return child, child.SetSigMask(th.mask)
}
