//go:build linux && amd64

package tracee

import (
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

// sigsetSize is sizeof(sigset_t), as the kernel has it.
const sigsetSize = 8

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
	empty, old := p.scouted.zero, p.scouted.old
	p.scouted = nil // good for once
	return th.stepping(true, func(s *steps) error {
		for _, start := range old {
			if _, err := s.call(unix.SYS_MUNMAP, start, TrainSize); err != nil {
				return fmt.Errorf("unmapping what an earlier tracer left: %w", err)
			}
		}
		fd, err := s.open(unix.SYS_MEMFD_CREATE, empty, unix.MFD_CLOEXEC|unix.MFD_EXEC)
		if err == unix.EINVAL { // before Linux 6.3
			fd, err = s.open(unix.SYS_MEMFD_CREATE, empty, unix.MFD_CLOEXEC)
		}
		if err == unix.EMFILE {
			if err = p.allowFiles(); err == nil {
				fd, err = s.open(unix.SYS_MEMFD_CREATE, empty, unix.MFD_CLOEXEC)
			}
		}
		if err != nil {
			return fmt.Errorf("making a memory file: %w", err)
		}
		data, err := p.share(int(fd))
		if err != nil {
			return errors.Join(err, s.close())
		}
		if p.trainAt, err = mapTrain(s.call, fd, at); err != nil {
			return errors.Join(err, unix.Munmap(data), s.close())
		}
		p.train, p.heritable = &train{data: data, users: 1}, false
		// Its first journey: close the memory file, and keep children of the program from
		// inheriting the mapping should the tracer die.
		calls := []Call{
			{Nr: unix.SYS_CLOSE, Args: [6]uint64{fd}},
			{Nr: unix.SYS_MADVISE, Args: [6]uint64{p.trainAt, TrainSize, unix.MADV_DONTFORK}},
		}
		if err := th.Batch(calls); err != nil {
			return err
		}
		return errors.Join(p.putLimitBack(), calls[0].Err(), calls[1].Err())
	})
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
	copy(data, trainStub.in(p))
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
	p.train, p.trainAt = parent.train, parent.trainAt
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
