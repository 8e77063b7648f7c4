package restore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/tracee"
)

const (
	capVersion3    = 0x20080522 // _LINUX_CAPABILITY_VERSION_3
	capLast        = 63         // bits of a capability word
	clockMonotonic = 1
	timerRestoreID = 77 // PR_TIMER_CREATE_RESTORE_IDS
)

// threads gives each thread of a process its own state, and the process its
// timers and queued signals, which may name threads. It ends with registers;
// after it nothing can be injected into the process but what Detach does.
func (b *Builder) threads(p *tracee.Process, proc *image.Process, elapsed time.Duration) error {
	if len(p.Threads) != len(proc.Threads) {
		return fmt.Errorf("it has %d threads instead of %d", len(p.Threads), len(proc.Threads))
	}
	if err := b.patchVDSO(p, proc); err != nil {
		return err
	}
	scratch, addr := p.Scratch()
	list, what := b.advise(proc, scratch[settleRoom:], addr+settleRoom)
	c := calls{list, what}
	pieces, err := b.pieces(&c, p, proc)
	if err != nil {
		return err
	}
	if err := b.limits(p, proc); err != nil {
		return err
	}
	if err := b.dropSignals(&c, p); err != nil {
		return err
	}
	if proc.Dumpable != 1 {
		// It is about to hide; what is set last is written all the same.
		if err := p.KeepMemory(); err != nil {
			return err
		}
	}
	if err := b.timers(p, proc, elapsed); err != nil { // they may fire from here on
		return err
	}
	if err := b.queueSignals(p, proc); err != nil {
		return err
	}
	final := make([]unix.PtraceRegs, len(proc.Threads))
	for i := range proc.Threads {
		t, th := &proc.Threads[i], p.Threads[i]
		final[i] = *(*unix.PtraceRegs)(unsafe.Pointer(&t.Regs[0]))
		regs := final[i]
		if r := t.Restart; r == nil {
			b.late = append(b.late, func(elapsed time.Duration) error { return countDown(p, &regs, int64(elapsed)) })
		} else if r.Left < 0 {
			again(&final[i], *r)
		} else {
			addr := pieces
			pieces += pieceSize
			b.late = append(b.late, func(elapsed time.Duration) error {
				code := piece(&regs, *r, max(0, r.Left-int64(elapsed)), addr)
				if err := p.Write(code[:], addr); err != nil {
					return fmt.Errorf("writing the code that resumes a system call: %w", err)
				}
				return th.SetRegs(regs)
			})
		}
	}
	for i := range proc.Threads {
		if err := b.thread(p.Threads[i], proc, &proc.Threads[i]); err != nil {
			return fmt.Errorf("thread %d: %w", proc.Threads[i].Tid, err)
		}
	}
	if err := p.Unprepare(); err != nil {
		return err
	}
	for i := range proc.Threads {
		th, t := p.Threads[i], &proc.Threads[i]
		// Not before: it leaves the processor on which stops are cheap.
		if err := b.schedule(th.Tid, t); err != nil {
			return fmt.Errorf("thread %d: %w", t.Tid, err)
		}
		if err := th.SetXState(t.XState); err != nil {
			return fmt.Errorf("thread %d: setting its extended state: %w", t.Tid, err)
		}
		if err := th.SetRegs(final[i]); err != nil {
			return fmt.Errorf("thread %d: setting its registers: %w", t.Tid, err)
		}
		if err := th.SetSigMask(t.SigMask); err != nil {
			return fmt.Errorf("thread %d: setting its signal mask: %w", t.Tid, err)
		}
	}
	if proc.Stopped {
		// By SIGSTOP, whichever it was: the others may be caught or ignored.
		if err := unix.Kill(p.Pid, unix.SIGSTOP); err != nil {
			return fmt.Errorf("stopping it as job control had: %w", err)
		}
	}
	return nil
}

// settleRoom is the scratch memory that pieces and dropSignals use.
const settleRoom = 4096

// pieces adds the calls that map the page for calls that must be resumed, if there
// are any, and returns its address.
func (b *Builder) pieces(c *calls, p *tracee.Process, proc *image.Process) (uint64, error) {
	n := 0
	for i := range proc.Threads {
		if r := proc.Threads[i].Restart; r != nil && r.Left >= 0 {
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	size := (uint64(n)*pieceSize + 4095) &^ 4095
	at := b.train + trainRoom - size
	if size > trainRoom-tracee.TrainSize {
		return 0, fmt.Errorf("%d of its threads wait with a time-out: more than hither can let go on", n)
	}
	data, addr := p.Scratch()
	copy(data[64:], pieceName+"\x00")
	c.add("mapping the page that resumes system calls", unix.SYS_MMAP, at, size, unix.PROT_READ|unix.PROT_EXEC,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
	// A kernel without names for anonymous memory does without.
	c.add("", unix.SYS_PRCTL, unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME, at, size, addr+64)
	return at, nil
}

func (b *Builder) timers(p *tracee.Process, proc *image.Process, elapsed time.Duration) error {
	data, addr := p.Scratch()
	leader := p.Leader()
	put := func(off int, v int64) { binary.LittleEndian.PutUint64(data[off:], uint64(v)) }
	var c calls
	for which, t := range proc.ITimers {
		left := t.Value
		if left == 0 {
			// One that has fired is set again when its signal is taken, which
			// may still be queued (kernel/signal.c, dequeue_signal).
			left = t.Interval
		}
		if left == 0 {
			continue
		}
		if which == 0 { // ITIMER_REAL; the others count processor time
			left = max(1, left-elapsed.Microseconds())
		}
		put(0, t.Interval/1e6)
		put(8, t.Interval%1e6)
		put(16, left/1e6)
		put(24, left%1e6)
		c.add("setting an interval timer", unix.SYS_SETITIMER, uint64(which), addr, 0)
		if err := c.run(leader); err != nil {
			return err
		}
	}
	if len(proc.PosixTimers) == 0 {
		return nil
	}
	_, err := leader.Syscall(unix.SYS_PRCTL, timerRestoreID, 1)
	exact := err == nil
	for _, t := range proc.PosixTimers {
		if err := b.posixTimer(p, t, exact, elapsed); err != nil {
			return fmt.Errorf("making timer %d: %w", t.ID, err)
		}
	}
	if exact {
		_, err = call(p, "ending the making of timers", unix.SYS_PRCTL, timerRestoreID, 0)
		return err
	}
	return nil
}

// posixTimer makes one timer. Without PR_TIMER_CREATE_RESTORE_IDS (Linux 6.16)
// the kernel counts ids up, so others are made and deleted until it is due.
func (b *Builder) posixTimer(p *tracee.Process, t image.PosixTimer, exact bool, elapsed time.Duration) error {
	data, addr := p.Scratch()
	leader := p.Leader()
	const eventAt, specAt, valueAt = 0, 128, 64
	for range 1 << 20 {
		clear(data[:256])
		binary.LittleEndian.PutUint64(data[eventAt:], t.Value) // struct sigevent
		binary.LittleEndian.PutUint32(data[eventAt+8:], uint32(t.Signal))
		binary.LittleEndian.PutUint32(data[eventAt+12:], uint32(t.Notify))
		binary.LittleEndian.PutUint32(data[eventAt+16:], uint32(t.Thread))
		binary.LittleEndian.PutUint32(data[valueAt:], uint32(t.ID))
		if _, err := leader.Syscall(unix.SYS_TIMER_CREATE, uint64(int64(t.Clock)), addr+eventAt, addr+valueAt); err != nil {
			return err
		}
		got := int(int32(binary.LittleEndian.Uint32(data[valueAt:])))
		if got == t.ID {
			break
		}
		if _, err := leader.Syscall(unix.SYS_TIMER_DELETE, uint64(got)); err != nil {
			return err
		}
		if exact || got > t.ID {
			return fmt.Errorf("the kernel gave it number %d", got)
		}
	}
	if t.Expiry == 0 {
		return nil
	}
	left := t.Expiry
	if t.Clock >= 0 && t.Clock != 2 && t.Clock != 3 { // not processor time
		left = max(1, left-int64(elapsed))
	}
	for i, v := range []int64{t.Interval / 1e9, t.Interval % 1e9, left / 1e9, left % 1e9} {
		binary.LittleEndian.PutUint64(data[specAt+8*i:], uint64(v))
	}
	_, err := leader.Syscall(unix.SYS_TIMER_SETTIME, uint64(t.ID), 0, addr+specAt, 0)
	return err
}

// dropSignals drops what came while the tree was built: children that ended.
// All signals are held back during injected calls. The first look is made
// with the calls given.
func (b *Builder) dropSignals(c *calls, p *tracee.Process) error {
	data, addr := p.Scratch()
	clear(data[:64])
	binary.LittleEndian.PutUint64(data, ^uint64(0)) // the set: all; at 16: no time at all
	c.add("", unix.SYS_RT_SIGTIMEDWAIT, addr, 0, addr+16, 8)
	made := c.list
	if err := c.run(p.Leader()); err != nil {
		return err
	}
	err := made[len(made)-1].Err()
	for range 128 {
		if errors.Is(err, syscall.EAGAIN) {
			return nil
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("dropping signals: %w", err)
		}
		_, err = p.Leader().Syscall(unix.SYS_RT_SIGTIMEDWAIT, addr, 0, addr+16, 8)
	}
	return nil
}

// queueSignals queues what the app had queued.
func (b *Builder) queueSignals(p *tracee.Process, proc *image.Process) error {
	data, addr := p.Scratch()
	for _, info := range proc.Pending {
		copy(data, info)
		sig := uint64(binary.LittleEndian.Uint32(info))
		if _, err := call(p, fmt.Sprintf("queueing signal %d", sig), unix.SYS_RT_SIGQUEUEINFO, uint64(proc.Pid), sig, addr); err != nil {
			return err
		}
	}
	return nil
}

// thread gives one thread its own state, except registers; it gives up the
// capabilities that pid 1 handed down, last.
func (b *Builder) thread(th *tracee.Thread, proc *image.Process, t *image.Thread) error {
	data, addr := th.Process().Scratch()
	var c calls
	const nameAt, stackAt, capsAt = 0, 64, 128
	copy(data[nameAt:], t.Comm+"\x00")
	c.add("naming it", unix.SYS_PRCTL, unix.PR_SET_NAME, addr+nameAt)
	c.add("setting its tid address", unix.SYS_SET_TID_ADDRESS, t.TidAddress)
	if t.RobustLen != 0 {
		c.add("setting its robust list", unix.SYS_SET_ROBUST_LIST, t.RobustHead, t.RobustLen)
	}
	if len(t.AltStack) == 24 {
		const disable, onStack = 2, 1 // SS_DISABLE, SS_ONSTACK
		copy(data[stackAt:], t.AltStack)
		flags := binary.LittleEndian.Uint32(data[stackAt+8:])
		binary.LittleEndian.PutUint32(data[stackAt+8:], flags&^onStack)
		if flags&disable == 0 {
			c.add("setting its signal stack", unix.SYS_SIGALTSTACK, addr+stackAt, 0)
		}
	}
	if t.RseqAddr != 0 {
		c.add("registering its restartable sequences", unix.SYS_RSEQ, t.RseqAddr, uint64(t.RseqLen), 0, uint64(t.RseqSig))
	}
	c.add("setting its timer slack", unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, t.TimerSlack)
	for _, info := range t.Pending {
		if err := c.run(th); err != nil { // before the scratch is used again
			return err
		}
		copy(data[256:], info)
		sig := uint64(binary.LittleEndian.Uint32(info))
		c.add(fmt.Sprintf("queueing signal %d", sig), unix.SYS_RT_TGSIGQUEUEINFO, uint64(proc.Pid), uint64(t.Tid), sig, addr+256)
		if err := c.run(th); err != nil {
			return err
		}
	}
	creds := proc.Creds
	if t.Creds != nil {
		creds = *t.Creds
	}
	if proc.NoNewPrivs {
		c.add("forbidding new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	}
	if t.Creds != nil {
		b.bound(&c, creds)
	}
	c.add("setting the secure bits", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, uint64(creds.SecureBits))
	c.add("dropping the ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	binary.LittleEndian.PutUint32(data[capsAt:], capVersion3)
	binary.LittleEndian.PutUint32(data[capsAt+4:], 0)
	for half := range 2 {
		for i, set := range []uint64{creds.Effective, creds.Permitted, creds.Inheritable} {
			binary.LittleEndian.PutUint32(data[capsAt+8+12*half+4*i:], uint32(set>>(32*half)))
		}
	}
	c.add("setting its capabilities", unix.SYS_CAPSET, addr+capsAt, addr+capsAt+8)
	for bit := uint64(0); bit <= capLast; bit++ {
		if creds.Ambient&(1<<bit) != 0 {
			c.add("raising an ambient capability", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, bit, 0, 0)
		}
	}
	if t.DeathSignal != 0 {
		c.add("setting its parent-death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uint64(t.DeathSignal))
	}
	if t.Tid == proc.Pid && proc.Dumpable != 2 { // 2 cannot be set, prctl(2)
		c.add("setting whether it can be dumped", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, uint64(proc.Dumpable))
	}
	return c.run(th)
}

// bound drops what the capability bounding set is without.
func (b *Builder) bound(c *calls, creds image.Creds) {
	for bit := uint64(0); bit <= b.lastCap(); bit++ {
		if creds.Bounding&(1<<bit) == 0 {
			c.add("dropping a capability", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, bit)
		}
	}
}

// schedule sets priorities as far as this host allows; an app that was given
// more than its user may give goes on with what it can have.
func (b *Builder) schedule(tid int, t *image.Thread) error {
	if t.Nice != 0 {
		_ = unix.Setpriority(unix.PRIO_PROCESS, tid, t.Nice)
	}
	if t.Policy != 0 {
		_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: uint32(t.Policy), Priority: uint32(t.Priority), Nice: int32(t.Nice)}, 0)
	}
	if len(t.Affinity) > 0 {
		var set unix.CPUSet
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&set)), unsafe.Sizeof(set)), t.Affinity)
		if unix.SchedSetaffinity(tid, &set) == nil {
			return nil
		}
	}
	if err := unix.SchedSetaffinity(tid, &b.affinity); err != nil {
		return fmt.Errorf("giving it its processors: %w", err)
	}
	return nil
}
