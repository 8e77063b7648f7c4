//go:build linux && amd64

package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// What the kernel leaves in rax of an interrupted call, include/linux/errno.h.
const (
	RestartSys     = -512 // restarts, unless a handler without SA_RESTART runs
	RestartNoIntr  = -513 // restarts
	RestartNoHand  = -514 // restarts, unless a handler runs
	RestartBlock   = -516 // goes on by restart_syscall with the thread's restart block
	noCall         = ^uint64(0)
	userCodeSeg32  = 0x23
	trapFlag       = 0x100
	rseqCSOffset   = 8
	rseqCSSize     = 32
	dumpableByUser = 1
)

// settle reads what a thread will go on with, once, when it has come to rest, and
// mends two things that a stop breaks and the kernel does not mend by itself.
func (th *Thread) settle() error {
	if err := kernel.PtraceGetRegs(th.Tid, &th.regs); err != nil {
		return th.failed("reading the registers", err)
	}
	mask, err := kernel.PtraceGetSigMask(th.Tid)
	if err != nil {
		return th.failed("reading the signal mask", err)
	}
	th.mask = mask
	if err := th.bringHome(); err != nil {
		return err
	}
	regs := th.regs
	if int64(regs.Rax) == -int64(unix.EINTR) && restartable[regs.Orig_rax] {
		// signal(7): these fail with EINTR after any stop. As an interrupted call
		// of the restartable kind it fails only if a handler is about to run.
		regs.Rax = uint64(0xffff_ffff_ffff_ffff + RestartNoHand + 1)
	}
	if err := th.leaveRseq(&regs); err != nil {
		return err
	}
	if regs != th.regs {
		return th.SetRegs(regs)
	}
	return nil
}

// restartable are the calls that give up with EINTR at a stop, though nothing
// has been done yet: those of signal(7), and of sockets with a time-out.
var restartable = map[uint64]bool{
	unix.SYS_EPOLL_WAIT: true, unix.SYS_EPOLL_PWAIT: true, unix.SYS_EPOLL_PWAIT2: true,
	unix.SYS_SEMOP: true, unix.SYS_SEMTIMEDOP: true, unix.SYS_RT_SIGTIMEDWAIT: true,
	unix.SYS_IO_GETEVENTS: true, unix.SYS_IO_PGETEVENTS: true,
	unix.SYS_READ: true, unix.SYS_READV: true, unix.SYS_RECVFROM: true, unix.SYS_RECVMSG: true,
	unix.SYS_ACCEPT: true, unix.SYS_ACCEPT4: true,
	unix.SYS_WRITE: true, unix.SYS_WRITEV: true, unix.SYS_SENDTO: true, unix.SYS_SENDMSG: true,
}

// leaveRseq moves a thread that was stopped inside a restartable sequence to
// that sequence's abort handler, where the kernel would take it: an injected
// call makes the kernel forget that the thread was inside.
func (th *Thread) leaveRseq(regs *unix.PtraceRegs) error {
	config, err := kernel.PtraceGetRseq(th.Tid)
	if err != nil || config.Addr == 0 {
		return nil // not registered, or a kernel without it
	}
	var at [8]byte
	if th.p.Read(at[:], config.Addr+rseqCSOffset) != nil {
		return nil // the kernel would kill it for this; not our business
	}
	cs := binary.LittleEndian.Uint64(at[:])
	if cs == 0 {
		return nil
	}
	// struct rseq_cs: version, flags, start_ip, post_commit_offset, abort_ip.
	var raw [rseqCSSize]byte
	if th.p.Read(raw[:], cs) != nil {
		return nil
	}
	start := binary.LittleEndian.Uint64(raw[8:])
	length := binary.LittleEndian.Uint64(raw[16:])
	if regs.Rip-start >= length {
		return nil
	}
	regs.Rip = binary.LittleEndian.Uint64(raw[24:])
	if err := th.p.Write(make([]byte, 8), config.Addr+rseqCSOffset); err != nil {
		return fmt.Errorf("leaving a restartable sequence: %w", err)
	}
	return nil
}

// show makes a process that hides from its own user (prctl PR_SET_DUMPABLE 0)
// readable under /proc while it is held; hide takes that back.
func (p *Process) show() error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", p.Pid))
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrPermission) {
		return nil
	}
	th, err := p.leader()
	if err != nil {
		return err
	}
	if _, err := th.StepSyscall(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, dumpableByUser); err != nil {
		return fmt.Errorf("making %s readable: %w", name(p.Pid), err)
	}
	p.hidden = true
	return nil
}

func (p *Process) hide() error {
	if !p.hidden {
		return nil
	}
	th, err := p.leader()
	if err != nil {
		return nil
	}
	if _, err := th.StepSyscall(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0); err != nil {
		return fmt.Errorf("hiding %s again: %w", name(p.Pid), err)
	}
	p.hidden = false
	return nil
}

// Hidden says whether the process was not dumpable when it was seized.
func (p *Process) Hidden() bool { return p.hidden }
