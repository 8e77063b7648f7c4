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

// Birth is one clone3 to be made. Tids, if any, are the ids wanted, innermost pid namespace first.
type Birth struct {
	Args kernel.CloneArgs
	Tids []int
}

// maxBirths is how many births one journey of the train makes: their arguments lie on the desk.
const (
	birthRoom = 128 // struct clone_args, then ids
	idsAt     = 96
	maxIDs    = (birthRoom - idsAt) / 4
	maxBirths = deskSize / birthRoom
)

// Clone makes one Birth, see Births.
func (th *Thread) Clone(args kernel.CloneArgs, tids ...int) (*Thread, error) {
	born, err := th.Births([]Birth{{args, tids}})
	if err != nil {
		return nil, err
	}
	return born[0], nil
}

// Births makes the thread call clone3, once for each birth: a new process, or (CLONE_THREAD)
// a new thread of its own process. What is born is held, rests with its maker's
// registers (rax 0) and signal mask, and can run batches by its maker's train. All that a
// new thread needs to run by itself - stack, registers - is the caller's to set. If one
// could not be born the others are there all the same, and nil stands for it.
//
// CLONE_PTRACE has the tracer hold what is born without the maker's stopping for it. Who is
// who is told by the stack pointer that each is given, which it never uses.
func (th *Thread) Births(births []Birth) ([]*Thread, error) {
	all := make([]*Thread, 0, len(births))
	for some := range slices.Chunk(births, maxBirths) {
		born, err := th.births(some)
		all = append(all, born...)
		if err != nil {
			return all, fmt.Errorf("cloning %s: %w", name(th.p.Pid), err)
		}
	}
	return all, nil
}

func (th *Thread) births(births []Birth) ([]*Thread, error) {
	p := th.p
	if p.train == nil {
		return nil, errors.New("it is not prepared for injected calls")
	}
	desk, at := p.train.desk(), p.trainAt+deskOffset
	var calls []Call
	heirs := false
	for i, b := range births {
		args := b.Args
		if args.Flags&(unix.CLONE_VFORK|unix.CLONE_UNTRACED) != 0 || args.Stack != 0 || len(b.Tids) > maxIDs {
			return nil, errors.New("an injected clone cannot be a vfork, untraced, or with a stack")
		}
		heirs = heirs || args.Flags&unix.CLONE_VM == 0
		off := i * birthRoom
		if len(b.Tids) > 0 {
			for j, tid := range b.Tids {
				binary.LittleEndian.PutUint32(desk[off+idsAt+4*j:], uint32(tid))
			}
			args.SetTid, args.SetTidSize = at+uint64(off)+idsAt, uint64(len(b.Tids))
		}
		args.Flags |= unix.CLONE_PTRACE
		args.Stack, args.StackSize = p.birthplace(i)-1, 1
		copy(desk[off:], args.Bytes())
		calls = append(calls, Call{Nr: unix.SYS_CLONE3, Args: [6]uint64{at + uint64(off), uint64(kernel.CloneArgsSize)}})
	}
	if heirs && !p.heritable {
		if _, err := th.Syscall(unix.SYS_MADVISE, p.trainAt, TrainSize, unix.MADV_DOFORK); err != nil {
			return nil, fmt.Errorf("letting its children inherit the train: %w", err)
		}
		p.heritable = true
	}
	if err := th.ride(calls); err != nil {
		return nil, err
	}
	var errs []error
	expected := 0
	for i := range calls {
		if err := calls[i].Err(); err != nil {
			errs = append(errs, err)
		} else {
			expected++
		}
	}
	// Those that were born are held, whatever became of the others.
	born := make([]*Thread, len(births))
	for range expected {
		child, i, err := th.nextBorn(births)
		if err != nil {
			errs = append(errs, err)
			break
		}
		born[i] = child
	}
	for _, child := range born {
		if child != nil {
			child.p.Threads = append(child.p.Threads, child)
		}
	}
	return born, errors.Join(errs...)
}

// birthplace is the stack pointer that the i-th of some births begins with.
func (p *Process) birthplace(i int) uint64 { return p.trainAt + uint64(i) + 1 }

// nextBorn takes the next new thread to its rest, and says which of the births it is.
func (th *Thread) nextBorn(births []Birth) (*Thread, int, error) {
	t, p := th.p.t, th.p
	tid, err := t.awaitBirth()
	if err != nil {
		return nil, 0, err
	}
	child := &Thread{Tid: tid, p: p, options: th.options}
	t.held[tid] = child
	var regs unix.PtraceRegs
	if err := kernel.PtraceGetRegs(tid, &regs); err != nil {
		return nil, 0, child.failed("reading the registers", err)
	}
	i := int(regs.Rsp - p.birthplace(0))
	if i < 0 || i >= len(births) {
		return nil, 0, fmt.Errorf("thread %d was born, which nobody asked for", tid)
	}
	if births[i].Args.Flags&unix.CLONE_THREAD == 0 {
		child.p = &Process{Pid: tid, t: t, gadget: p.gadget, vdsoAt: p.vdsoAt, vdsoHead: p.vdsoHead, report: p.report, perched: p.perched, pidfd: -1}
		if err := child.p.Adopt(p); err != nil {
			return nil, 0, err
		}
	}
	regs = th.regs
	regs.Rax, regs.Orig_rax = 0, noCall
	if err := child.SetRegs(regs); err != nil {
		return nil, 0, err
	}
	return child, i, child.SetSigMask(th.mask)
}

// awaitBirth waits for the first stop of a thread that is not known yet. Of those that
// are, only their end can come now; it is told again to who waits for them.
func (t *Tracer) awaitBirth() (int, error) {
	for {
		tid, status, err := t.await(kernel.AnyTracee, callTimeout)
		switch {
		case err != nil:
			return 0, fmt.Errorf("waiting for a new thread: %w", err)
		case t.held[tid] != nil || t.stuck[tid] != nil:
			t.early[tid] = append(t.early[tid], status)
		case status.Exited() || status.Signaled():
			return 0, fmt.Errorf("new thread %d: %w", tid, ErrGone)
		default:
			return tid, nil
		}
	}
}
