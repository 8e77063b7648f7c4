//go:build linux && amd64

package tracee

import (
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// Process is one held process. Pids and tids are those of the tracer's own pid
// namespace.
type Process struct {
	Pid     int
	Threads []*Thread // the leader first, unless it has ended before the others

	Zombie     bool // ended, not yet waited for: nothing in it can be controlled
	LeaderDead bool // the first thread has ended, others go on
	StopSignal int  // job control has stopped it by this signal; 0: it runs

	t         *Tracer
	gadget    uint64 // address of a `syscall` instruction in it; 0: not looked for yet
	vdsoAt    uint64 // where its vdso was when that was looked for, 0: not found
	vdsoHead  [elfHeaderSize]byte
	report    syscall.Signal // by which stubs report, 0: not chosen yet
	perched   uint64         // where the perch was written to, 0: nowhere
	scouted   *scouted
	train     *train
	trainAt   uint64
	heritable bool         // the train is mapped in children, too
	files     *unix.Rlimit // to be put back: it was raised to have a descriptor free
	hidden    bool         // was not dumpable before Seize made it so
	pidfd     int          // -1: not opened
	mem       *os.File
}

// Thread is one thread of a held process.
type Thread struct {
	Tid int

	p       *Process
	gone    bool
	stops   uint64
	regs    unix.PtraceRegs // what the kernel has for it while it rests
	mask    uint64
	options uintptr
	heard   []kernel.Siginfo // signals taken during an injected call, to be queued again
}

// Process is the process the thread belongs to.
func (th *Thread) Process() *Process { return th.p }

// Tracer is the tracer that holds the process.
func (p *Process) Tracer() *Tracer { return p.t }

// Gone says whether the thread is known to have ended.
func (th *Thread) Gone() bool { return th.gone }

// Stops counts how often the thread has stopped for this tracer. For each the
// scheduler counts one more voluntary switch (/proc/PID/sched).
func (th *Thread) Stops() uint64 { return th.stops }

// stopped notes with which signal a PTRACE_EVENT_STOP came: SIGTRAP for our own
// interrupt, a stopping signal for a group-stop.
func (th *Thread) stopped(signal int) {
	if signal == int(unix.SIGTRAP) {
		signal = 0
	}
	th.p.StopSignal = signal
}

// Regs are the registers the thread will go on with.
func (th *Thread) Regs() unix.PtraceRegs { return th.regs }

// SetRegs changes the registers the thread will go on with.
func (th *Thread) SetRegs(regs unix.PtraceRegs) error {
	if err := th.ok(); err != nil {
		return err
	}
	if err := kernel.PtraceSetRegs(th.Tid, &regs); err != nil {
		return th.failed("setting the registers", err)
	}
	th.regs = regs
	return nil
}

// XState reads the extended registers, in the XSAVE layout.
func (th *Thread) XState() ([]byte, error) {
	if err := th.ok(); err != nil {
		return nil, err
	}
	state, err := kernel.PtraceGetXState(th.Tid)
	if err != nil {
		return nil, th.failed("reading the extended registers", err)
	}
	return state, nil
}

// SetXState writes the extended registers.
func (th *Thread) SetXState(state []byte) error {
	if err := th.ok(); err != nil {
		return err
	}
	if err := kernel.PtraceSetXState(th.Tid, state); err != nil {
		return th.failed("setting the extended registers (has this CPU the same features?)", err)
	}
	return nil
}

// SigMask is the mask of blocked signals the thread will go on with.
func (th *Thread) SigMask() uint64 { return th.mask }

// SetSigMask changes it.
func (th *Thread) SetSigMask(mask uint64) error {
	if err := th.ok(); err != nil {
		return err
	}
	if err := kernel.PtraceSetSigMask(th.Tid, mask); err != nil {
		return th.failed("setting the signal mask", err)
	}
	th.mask = mask
	return nil
}

// Pending lists the signals queued for the thread, or (shared) for its process,
// each a siginfo_t of 128 bytes, and leaves them there.
func (th *Thread) Pending(shared bool) ([][]byte, error) {
	if err := th.ok(); err != nil {
		return nil, err
	}
	infos, err := kernel.PtracePeekSiginfo(th.Tid, shared)
	if err != nil {
		return nil, th.failed("reading the pending signals", err)
	}
	all := make([][]byte, len(infos))
	for i := range infos {
		all[i] = infos[i][:]
	}
	return all, nil
}

// Rseq is the thread's registration of restartable sequences; Addr 0: none.
func (th *Thread) Rseq() (kernel.RseqConfig, error) {
	if err := th.ok(); err != nil {
		return kernel.RseqConfig{}, err
	}
	config, err := kernel.PtraceGetRseq(th.Tid)
	if err != nil {
		return config, th.failed("reading the rseq registration", err)
	}
	return config, nil
}

func (th *Thread) ok() error {
	if err := th.p.t.check(); err != nil {
		return err
	}
	if th.gone {
		return fmt.Errorf("thread %d of %s: %w", th.Tid, name(th.p.Pid), ErrGone)
	}
	if th.p.t.held[th.Tid] != th {
		return fmt.Errorf("thread %d of %s is not held", th.Tid, name(th.p.Pid))
	}
	return nil
}

// failed says what went wrong with a thread. ESRCH of a held thread means that
// it was killed: then it is reaped here, as only its tracer can.
func (th *Thread) failed(doing string, err error) error {
	if err == unix.ESRCH {
		// The end of a leader is told after that of all others.
		for _, other := range append(slices.Clone(th.p.Threads), th) {
			if other.gone || other != th && th.Tid != th.p.Pid {
				continue
			}
			if _, werr := th.p.t.wait(other.Tid, reapTimeout); werr == ErrGone {
				th.p.t.forget(other)
			}
		}
		err = ErrGone
	}
	return fmt.Errorf("%s of thread %d of %s: %w", doing, th.Tid, name(th.p.Pid), err)
}

// Leader is the first thread that has not ended, nil if there is none.
func (p *Process) Leader() *Thread {
	for _, th := range p.Threads {
		if !th.gone {
			return th
		}
	}
	return nil
}

func (p *Process) leader() (*Thread, error) {
	th := p.Leader()
	if th == nil {
		return nil, fmt.Errorf("%s: %w", name(p.Pid), ErrGone)
	}
	return th, nil
}

// PidFD is a pidfd of the process, open until it is let go. The caller must not close it.
func (p *Process) PidFD() (int, error) {
	if p.pidfd < 0 {
		fd, err := unix.PidfdOpen(p.Pid, 0)
		if err != nil {
			return -1, fmt.Errorf("opening a pidfd of %s: %w", name(p.Pid), err)
		}
		p.pidfd = fd
	}
	return p.pidfd, nil
}

// GetFD duplicates a descriptor of the process into this one (close-on-exec).
func (p *Process) GetFD(fd int) (int, error) {
	pidfd, err := p.PidFD()
	if err != nil {
		return -1, err
	}
	got, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return -1, fmt.Errorf("taking descriptor %d of %s: %w", fd, name(p.Pid), err)
	}
	return got, nil
}

// Read copies the process's memory; PROT_NONE memory too.
func (p *Process) Read(to []byte, addr uint64) error {
	if n, err := kernel.ReadProcess(p.Pid, to, addr); err == nil && n == len(to) {
		return nil
	}
	mem, err := p.memory()
	if err != nil {
		return err
	}
	if _, err := mem.ReadAt(to, int64(addr)); err != nil {
		return fmt.Errorf("reading %d bytes at %#x of %s: %w", len(to), addr, name(p.Pid), err)
	}
	return nil
}

// Write copies into the process's memory; into read-only memory too.
func (p *Process) Write(from []byte, addr uint64) error {
	if n, err := kernel.WriteProcess(p.Pid, from, addr); err == nil && n == len(from) {
		return nil
	}
	mem, err := p.memory()
	if err != nil {
		return err
	}
	if _, err := mem.WriteAt(from, int64(addr)); err != nil {
		return fmt.Errorf("writing %d bytes at %#x of %s: %w", len(from), addr, name(p.Pid), err)
	}
	return nil
}

// KeepMemory keeps the way into the process's memory open, should it come to hide
// itself (PR_SET_DUMPABLE 0).
func (p *Process) KeepMemory() error {
	_, err := p.memory()
	return err
}

func (p *Process) memory() (*os.File, error) {
	if p.mem == nil {
		f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.Pid), os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("opening the memory of %s: %w", name(p.Pid), err)
		}
		p.mem = f
	}
	return p.mem, nil
}

// SetExitKill says whether the process dies with the tracer.
func (p *Process) SetExitKill(on bool) error {
	options := uintptr(unix.PTRACE_O_TRACESYSGOOD)
	if on {
		options |= unix.PTRACE_O_EXITKILL
	}
	for _, th := range p.Threads {
		if th.gone {
			continue
		}
		if err := th.ok(); err != nil {
			return err
		}
		if err := kernel.PtraceSetOptions(th.Tid, options); err != nil {
			return th.failed("setting the options", err)
		}
		th.options = options
	}
	return nil
}
