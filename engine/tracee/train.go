//go:build linux && amd64

package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// The train: one memory file, mapped by the tracer and the traced.
const (
	codeSize    = 4 << 10
	deskOffset  = codeSize // this package's own notes
	deskSize    = 12 << 10
	rowsOffset  = deskOffset + deskSize
	rowSize     = 64 // nr, six arguments, result
	maxRows     = 1024
	scratchAt   = rowsOffset + maxRows*rowSize
	ScratchSize = 256 << 10 // the callers' own
	// TrainSize is the room the train takes in the process.
	TrainSize = scratchAt + ScratchSize
)

// trainCode runs the rows at rbx, rbp of them. The kernel changes only rax, rcx
// and r11 in a system call, and the stub uses no stack.
var trainCode = []byte{
	0x48, 0x8b, 0x03, //       loop: mov rax, [rbx]
	0x48, 0x8b, 0x7b, 0x08, //       mov rdi, [rbx+8]
	0x48, 0x8b, 0x73, 0x10, //       mov rsi, [rbx+16]
	0x48, 0x8b, 0x53, 0x18, //       mov rdx, [rbx+24]
	0x4c, 0x8b, 0x53, 0x20, //       mov r10, [rbx+32]
	0x4c, 0x8b, 0x43, 0x28, //       mov r8, [rbx+40]
	0x4c, 0x8b, 0x4b, 0x30, //       mov r9, [rbx+48]
	0x0f, 0x05, //                   syscall
	0x48, 0x89, 0x43, 0x38, //       mov [rbx+56], rax
	0x48, 0x83, 0xc3, 0x40, //       add rbx, 64
	0xff, 0xcd, //                   dec ebp
	0x75, 0xd7, //                   jnz loop
	0xcc, //                         int3
}

// trainEnd is where rip stands after the int3.
var trainEnd = uint64(len(trainCode))

// sigkernel is si_code of an int3's SIGTRAP, include/uapi/asm-generic/siginfo.h.
const sigkernel = 0x80

// The kernel's struct sigaction on x86-64: handler, flags, restorer, mask.
const (
	sigactionSize = 32
	sigIgn        = 1
	sigsetSize    = 8
)

// train is shared by the process it was made for and the children cloned from
// it. One batch runs at a time, as there is one tracer thread.
type train struct {
	data  []byte
	users int
}

func (tr *train) desk() []byte { return tr.data[deskOffset:rowsOffset] }

// Call is one system call to inject. Ret is what the kernel returned: an errno
// as a negative number.
type Call struct {
	Nr   uintptr
	Args [6]uint64
	Ret  int64
}

// Err is the call's errno, nil if it succeeded.
func (c *Call) Err() error {
	if c.Ret < 0 && c.Ret >= -maxErrno {
		return syscall.Errno(-c.Ret)
	}
	return nil
}

// Prepare maps the train into the process: at an address that is free there, or
// (0) where the kernel likes.
func (p *Process) Prepare(at uint64) error {
	if p.train != nil {
		if at == 0 || at == p.trainAt {
			return nil
		}
		if err := p.Unprepare(); err != nil {
			return err
		}
	}
	th, err := p.leader()
	if err != nil {
		return err
	}
	if err := p.makeTrain(th, at); err != nil {
		return fmt.Errorf("preparing %s for injected calls: %w", name(p.Pid), err)
	}
	return nil
}

func (p *Process) makeTrain(th *Thread, at uint64) error {
	if p.scouted == nil {
		if err := p.scout(); err != nil {
			return err
		}
	}
	empty, old, calm := p.scouted.zero, p.scouted.old, p.scouted.calm
	p.scouted = nil // good for once
	tr := &train{users: 1}
	var fd uint64
	// The quick steps leave a mark that the first journey takes away: it comes at once.
	err := th.stepping(calm, func(step func(uintptr, ...uint64) (uint64, error)) error {
		for _, start := range old {
			if _, err := step(unix.SYS_MUNMAP, start, TrainSize); err != nil {
				return fmt.Errorf("unmapping what an earlier tracer left: %w", err)
			}
		}
		var err error
		fd, err = step(unix.SYS_MEMFD_CREATE, empty, unix.MFD_CLOEXEC|unix.MFD_EXEC)
		if err == unix.EINVAL { // before Linux 6.3
			fd, err = step(unix.SYS_MEMFD_CREATE, empty, unix.MFD_CLOEXEC)
		}
		if err == unix.EMFILE {
			if err = p.allowFiles(); err == nil {
				fd, err = step(unix.SYS_MEMFD_CREATE, empty, unix.MFD_CLOEXEC)
			}
		}
		if err != nil {
			return fmt.Errorf("making a memory file: %w", err)
		}
		if tr.data, err = p.share(int(fd)); err != nil {
			_, cerr := step(unix.SYS_CLOSE, fd)
			return errors.Join(err, cerr)
		}
		if p.trainAt, err = mapTrain(step, fd, at); err != nil {
			_, cerr := step(unix.SYS_CLOSE, fd)
			return errors.Join(err, cerr)
		}
		return nil
	})
	if err != nil {
		if tr.data != nil {
			_ = unix.Munmap(tr.data)
		}
		return err
	}
	p.train = tr
	// Its first journey: close the memory file, keep children of the program from
	// inheriting the mapping should the tracer die, look how SIGTRAP is handled.
	p.heritable = false
	calls := []Call{
		{Nr: unix.SYS_CLOSE, Args: [6]uint64{fd}},
		{Nr: unix.SYS_MADVISE, Args: [6]uint64{p.trainAt, TrainSize, unix.MADV_DONTFORK}},
		{Nr: unix.SYS_RT_SIGACTION, Args: [6]uint64{uint64(unix.SIGTRAP), 0, p.trainAt + deskOffset, sigsetSize}},
	}
	if err := th.Batch(calls); err != nil {
		return err
	}
	if err := p.putLimitBack(); err != nil {
		return err
	}
	if err := errors.Join(calls[0].Err(), calls[1].Err(), calls[2].Err()); err != nil {
		return err
	}
	action := tr.desk()[:sigactionSize]
	if binary.LittleEndian.Uint64(action) == sigIgn {
		p.trapping = append([]byte(nil), action...)
		return th.ignoreTraps()
	}
	return nil
}

// allowFiles raises the soft limit on open files of a process that has reached it.
func (p *Process) allowFiles() error {
	var limit unix.Rlimit
	if err := unix.Prlimit(p.Pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return fmt.Errorf("reading its limit on open files: %w", err)
	}
	if limit.Cur == limit.Max {
		return fmt.Errorf("it has as many open files as its hard limit allows (%d): close one, or start it with a higher limit", limit.Max)
	}
	raised := unix.Rlimit{Cur: limit.Max, Max: limit.Max}
	if err := unix.Prlimit(p.Pid, unix.RLIMIT_NOFILE, &raised, nil); err != nil {
		return fmt.Errorf("raising its limit on open files: %w", err)
	}
	p.files = &limit
	return nil
}

func (p *Process) putLimitBack() error {
	if p.files == nil {
		return nil
	}
	if err := unix.Prlimit(p.Pid, unix.RLIMIT_NOFILE, p.files, nil); err != nil {
		return fmt.Errorf("putting its limit on open files back: %w", err)
	}
	p.files = nil
	return nil
}

// mapTrain maps the memory file writable and executable, or, where a policy
// forbids that, its code apart from the rest.
func mapTrain(step func(uintptr, ...uint64) (uint64, error), fd, at uint64) (uint64, error) {
	flags := uint64(unix.MAP_SHARED)
	if at != 0 {
		flags |= unix.MAP_FIXED_NOREPLACE
	}
	const rw = unix.PROT_READ | unix.PROT_WRITE
	got, err := step(unix.SYS_MMAP, at, TrainSize, rw|unix.PROT_EXEC, flags, fd, 0)
	if err == unix.EACCES || err == unix.EPERM {
		if got, err = step(unix.SYS_MMAP, at, TrainSize, rw, flags, fd, 0); err == nil {
			_, err = step(unix.SYS_MMAP, got, codeSize, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED|unix.MAP_FIXED, fd, 0)
			if err != nil {
				_, uerr := step(unix.SYS_MUNMAP, got, TrainSize)
				err = errors.Join(err, uerr)
			}
		}
	}
	if err != nil {
		return 0, fmt.Errorf("mapping %d bytes at %#x: %w", TrainSize, at, err)
	}
	return got, nil
}

// share takes the memory file, sizes it, maps it here and writes the code.
func (p *Process) share(fd int) ([]byte, error) {
	own, err := p.GetFD(fd)
	if err != nil {
		return nil, err
	}
	defer unix.Close(own)
	if err := unix.Ftruncate(own, TrainSize); err != nil {
		return nil, fmt.Errorf("sizing the shared memory: %w", err)
	}
	data, err := unix.Mmap(own, 0, TrainSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the shared memory: %w", err)
	}
	copy(data, trainCode)
	return data, nil
}

// Train is where the train lies in the process; 0: not prepared.
func (p *Process) Train() uint64 {
	if p.train == nil {
		return 0
	}
	return p.trainAt
}

// Adopt lets a process that was forked from a prepared one use the train it
// inherited. Clone does this by itself.
func (p *Process) Adopt(parent *Process) error {
	if parent.train == nil {
		return fmt.Errorf("%s has no train to share with %s", name(parent.Pid), name(p.Pid))
	}
	if err := p.dropTrain(); err != nil {
		return err
	}
	p.train, p.trainAt, p.trapping = parent.train, parent.trainAt, parent.trapping
	p.train.users++
	p.heritable = true
	return nil
}

// Scratch is memory that tracer and process share, for the arguments and results
// of injected calls: as the tracer sees it, and its address in the process.
func (p *Process) Scratch() (data []byte, addr uint64) {
	if p.train == nil {
		return nil, 0
	}
	return p.train.data[scratchAt:], p.trainAt + scratchAt
}

// Unprepare unmaps the train from the process.
func (p *Process) Unprepare() error {
	if p.train == nil {
		return nil
	}
	th, err := p.leader()
	if err == nil {
		if _, err = th.StepSyscall(unix.SYS_MUNMAP, p.trainAt, TrainSize); err != nil {
			err = fmt.Errorf("unmapping the train from %s: %w", name(p.Pid), err)
		}
	}
	if errors.Is(err, ErrGone) {
		err = nil
	}
	return errors.Join(err, p.dropTrain())
}

// dropTrain forgets the train; the last user's end frees it.
func (p *Process) dropTrain() error {
	tr := p.train
	if tr == nil {
		return nil
	}
	p.train, p.trainAt = nil, 0
	if tr.users--; tr.users > 0 {
		return nil
	}
	data := tr.data
	tr.data = nil
	if err := unix.Munmap(data); err != nil {
		return fmt.Errorf("unmapping the shared memory: %w", err)
	}
	return nil
}
