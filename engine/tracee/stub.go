//go:build linux && amd64

package tracee

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// Injected code ends in a report, a signal to itself, and then goes home: it gives the
// thread its registers and its signal mask back and jumps to where it was. A tracer sees the
// report and puts the thread back itself, so the code gets home only if the tracer has died.
// Hence a signal that nobody minds: without a tracer the kernel drops it. A breakpoint would end
// the process, and rt_sigreturn(2) would have it forget how to go on with an interrupted sleep.

// chooseReport is a signal that is ignored unless it is caught, by what the process catches: SigCgt of
// proc_pid_status(5). Where both are, as by every Go program, it looks at its terminal's size once too often
// should the tracer die just then.
func chooseReport(caught uint64) syscall.Signal {
	if caught&(1<<(unix.SIGWINCH-1)) != 0 && caught&(1<<(unix.SIGURG-1)) == 0 {
		return unix.SIGURG
	}
	return unix.SIGWINCH
}

// reportSignal is the signal by which stubs in this process report.
func (p *Process) reportSignal() syscall.Signal {
	if p.report == 0 {
		status, _ := kernel.ReadProc(fmt.Sprintf("/proc/%d/status", p.Pid))
		_, after, _ := strings.Cut(string(status), "SigCgt:\t")
		line, _, _ := strings.Cut(after, "\n")
		caught, _ := strconv.ParseUint(line, 16, 64)
		p.report = chooseReport(caught)
	}
	return p.report
}

// stub is injected code, then what it needs to get home. It expects in registers that the
// kernel keeps in a system call:
//
//	rbx, rbp  (the train) its rows, how many
//	r13       (the perch) 0: the call makes a descriptor that is the tracer's own
//	r14       such a descriptor, to be closed on the way home; -1: none
//	r15       where home is, so that a thread can be found on its way
type stub struct {
	code     []byte
	signal   int    // where in the code the number of the report is
	reported uint64 // where rip stands after it
	closed   uint64 // after the descriptor was closed
	home     uint64 // where in the code home is
}

// trainStub runs rows of calls. It uses no stack: the kernel changes only rax, rcx and r11 in
// a system call.
var trainStub = newStub(
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
)

// perchStub makes the one call that is in the registers; its result goes to r12.
var perchStub = newStub(
	0x0f, 0x05, //             syscall
	0x49, 0x89, 0xc4, //       mov r12, rax
	0x45, 0x85, 0xed, //       test r13d, r13d
	0x4c, 0x0f, 0x44, 0xf0, // cmovz r14, rax
)

// Home: a mark, the signal mask, flags, where to go on, and the registers as the processor
// numbers them.
const (
	homeMark = 8 * iota
	homeMask
	homeFlags
	homeRip
	homeRegs
	homeSize = homeRegs + 16*8
	rsp      = 4

	theMark = 0x656d6f68_72656874
)

func newStub(work ...byte) stub {
	var s stub
	code := work
	add := func(bytes ...byte) { code = append(code, bytes...) }
	var references [][2]int
	ref := func(slot int, instruction ...byte) { // it ends in an address relative to the next one
		add(instruction...)
		references = append(references, [2]int{len(code), slot})
		add(0, 0, 0, 0)
	}
	add(0xb8, unix.SYS_GETTID, 0, 0, 0) // mov eax, gettid
	add(0x0f, 0x05)                     // syscall
	add(0x89, 0xc7)                     // mov edi, eax
	s.signal = len(code) + 1
	add(0xbe, 0, 0, 0, 0)              // mov esi, the report
	add(0xb8, unix.SYS_TKILL, 0, 0, 0) // mov eax, tkill
	add(0x0f, 0x05)                    // syscall
	s.reported = uint64(len(code))

	add(0x44, 0x89, 0xf7)              // mov edi, r14d
	add(0xb8, unix.SYS_CLOSE, 0, 0, 0) // mov eax, close
	add(0x0f, 0x05)                    // syscall
	s.closed = uint64(len(code))
	// No signal can come while the stack is not the program's.
	ref(homeFlags, 0x48, 0x8d, 0x25)            // lea rsp, [flags]
	add(0x9d)                                   // popfq
	ref(homeRegs+8*rsp, 0x48, 0x8b, 0x25)       // mov rsp, [rsp]
	add(0xbf, unix.SIG_SETMASK, 0, 0, 0)        // mov edi, SIG_SETMASK
	ref(homeMask, 0x48, 0x8d, 0x35)             // lea rsi, [mask]
	add(0xba, 0, 0, 0, 0)                       // mov edx, 0
	add(0x41, 0xba, sigsetSize, 0, 0, 0)        // mov r10d, 8
	add(0xb8, unix.SYS_RT_SIGPROCMASK, 0, 0, 0) // mov eax, rt_sigprocmask
	add(0x0f, 0x05)                             // syscall
	for reg := range 16 {
		if reg != rsp {
			ref(homeRegs+8*reg, 0x48|byte(reg>>3)<<2, 0x8b, byte(reg&7)<<3|5) // mov reg, [reg]
		}
	}
	ref(homeRip, 0xff, 0x25) // jmp [rip]

	add(make([]byte, -len(code)&7)...)
	s.home = uint64(len(code))
	for _, r := range references {
		at, slot := r[0], r[1]
		binary.LittleEndian.PutUint32(code[at:], uint32(int(s.home)+slot-(at+4)))
	}
	s.code = slices.Clip(code)
	return s
}

// in is the code for a process.
func (s *stub) in(p *Process) []byte {
	code := slices.Clone(s.code)
	code[s.signal] = byte(p.reportSignal())
	return code
}

// size is the room that a stub and its home take.
func (s *stub) size() uint64 { return s.home + homeSize }

// regs are registers that start the stub at an address in a thread which then goes home.
func (s *stub) regs(th *Thread, at uint64) unix.PtraceRegs {
	regs := th.callRegs(at)
	regs.R13, regs.R14, regs.R15 = 1, noDescriptor, at+s.home
	return regs
}

const (
	noDescriptor = ^uint64(0)
	pageSize     = 4 << 10
)

// numbered are the general registers as the processor numbers them.
func numbered(regs *unix.PtraceRegs) [16]*uint64 {
	return [16]*uint64{&regs.Rax, &regs.Rcx, &regs.Rdx, &regs.Rbx, &regs.Rsp, &regs.Rbp, &regs.Rsi, &regs.Rdi,
		&regs.R8, &regs.R9, &regs.R10, &regs.R11, &regs.R12, &regs.R13, &regs.R14, &regs.R15}
}

// putHome writes what the thread goes on with. What the kernel would do for an
// interrupted system call is done already, arch_do_signal_or_restart in arch/x86/kernel/signal.c.
func (th *Thread) putHome(to []byte) {
	regs := th.regs
	if int64(regs.Orig_rax) >= 0 {
		switch int64(regs.Rax) {
		case RestartSys, RestartNoIntr, RestartNoHand:
			regs.Rax = regs.Orig_rax
			regs.Rip -= uint64(len(syscallInstruction))
		case RestartBlock:
			regs.Rax = unix.SYS_RESTART_SYSCALL
			regs.Rip -= uint64(len(syscallInstruction))
		}
	}
	put := binary.LittleEndian.PutUint64
	put(to[homeMark:], theMark)
	put(to[homeMask:], th.mask)
	put(to[homeFlags:], regs.Eflags)
	put(to[homeRip:], regs.Rip)
	for i, reg := range numbered(&regs) {
		put(to[homeRegs+8*i:], *reg)
	}
}

// bringHome puts a thread where it is going, if it is on its way home because its tracer has died: it
// was stopped there, by this tracer or by job control. Nothing of the stub is needed then.
func (th *Thread) bringHome() error {
	at, from := th.regs.R15, &trainStub
	switch at % pageSize { // of nearly all threads it is neither
	case pageSize - homeSize:
		from = &perchStub
	case from.home:
	default:
		return nil
	}
	home := make([]byte, homeSize)
	rip := th.regs.Rip - (at - from.home)
	if rip >= from.home || th.p.Read(home, at) != nil {
		return nil
	}
	get := binary.LittleEndian.Uint64
	if get(home[homeMark:]) != theMark {
		return nil
	}
	if rip < from.reported { // what it began is done, once
		end, err := th.run(&th.regs, at-from.home+from.reported)
		if err != nil {
			return err
		}
		th.regs = end
	}
	fd := th.regs.R14
	regs := th.regs
	regs.Rip, regs.Eflags, regs.Orig_rax = get(home[homeRip:]), get(home[homeFlags:]), noCall
	for i, reg := range numbered(&regs) {
		*reg = get(home[homeRegs+8*i:])
	}
	th.regs, th.mask = regs, get(home[homeMask:])
	if rip >= from.closed || int64(fd) < 0 {
		return th.putBack()
	}
	// This puts it back, too, or brings it home should this tracer die.
	if _, err := th.StepSyscall(unix.SYS_CLOSE, fd); err != nil && err != unix.EBADF {
		return fmt.Errorf("closing what an earlier tracer left open in %s: %w", name(th.p.Pid), err)
	}
	return nil
}

// atReport says whether a stop is the report of a stub whose rip stands there then. The report
// may hide one the program sent itself: two of a kind become one in the queue.
func (th *Thread) atReport(s unix.WaitStatus, rip uint64, regs *unix.PtraceRegs) bool {
	if event(s) != 0 || s.StopSignal() != th.p.reportSignal() || kernel.PtraceGetRegs(th.Tid, regs) != nil || regs.Rip != rip {
		return false
	}
	info, err := kernel.PtraceGetSiginfo(th.Tid)
	// The kernel forgets who sent it where too many signals are queued.
	if ours := err != nil || info.Code() == siTkill || info.Code() == 0 && info.Pid() == 0; !ours {
		th.heard = append(th.heard, info)
	}
	return true
}

// siTkill is si_code of tkill(2), include/uapi/asm-generic/siginfo.h.
const siTkill = -6

// run starts a stub in the thread, up to its report. The registers come first: whatever
// comes between, home has the mask.
func (th *Thread) run(start *unix.PtraceRegs, rip uint64) (end unix.PtraceRegs, err error) {
	if err := kernel.PtraceSetRegs(th.Tid, start); err != nil {
		return end, th.failed("setting the registers", err)
	}
	if err := kernel.PtraceSetSigMask(th.Tid, ^uint64(0)&^(1<<(th.p.reportSignal()-1))); err != nil {
		return end, th.failed("blocking the signals", err)
	}
	err = th.resume(kernel.PtraceCont, func(s unix.WaitStatus) bool { return th.atReport(s, rip, &end) })
	return end, err
}
