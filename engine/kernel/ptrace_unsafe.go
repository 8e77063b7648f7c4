//go:build linux && amd64

package kernel

import (
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NT_X86_XSTATE, include/uapi/linux/elf.h.
const ntX86XState = 0x202

// siginfoSize is sizeof(siginfo_t), include/uapi/asm-generic/siginfo.h.
const siginfoSize = 128

// maxXState bounds the extended register state: 2.4 KiB with AVX-512,
// 11 KiB with AMX; the rest is room.
const maxXState = 32 << 10

// Siginfo is a siginfo_t as the kernel hands it out.
type Siginfo [siginfoSize]byte

// Signo is si_signo.
func (s *Siginfo) Signo() int { return int(*(*int32)(unsafe.Pointer(&s[0]))) }

// Code is si_code.
func (s *Siginfo) Code() int { return int(*(*int32)(unsafe.Pointer(&s[8]))) }

// Pid is si_pid, of signals that a process sent.
func (s *Siginfo) Pid() int { return int(*(*int32)(unsafe.Pointer(&s[16]))) }

func ptrace(request, tid int, addr, data uintptr) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// ptracePtr takes a pointer as such, so that it stays true should the stack move.
func ptracePtr(request, tid int, addr uintptr, data unsafe.Pointer) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// PtraceSeize is PTRACE_SEIZE with options: attach without stopping, ptrace(2).
func PtraceSeize(tid int, options uintptr) error {
	return ptrace(unix.PTRACE_SEIZE, tid, 0, options)
}

// PtraceInterrupt is PTRACE_INTERRUPT: a seized thread will report PTRACE_EVENT_STOP.
func PtraceInterrupt(tid int) error { return ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0) }

// PtraceListen is PTRACE_LISTEN: leave a thread in its group-stop, but hear of its end.
func PtraceListen(tid int) error { return ptrace(unix.PTRACE_LISTEN, tid, 0, 0) }

// PtraceCont is PTRACE_CONT; sig counts in a signal-delivery-stop only.
func PtraceCont(tid, sig int) error { return ptrace(unix.PTRACE_CONT, tid, 0, uintptr(sig)) }

// PtraceSyscall is PTRACE_SYSCALL: run to the next entry of, or return from, a system call.
func PtraceSyscall(tid, sig int) error { return ptrace(unix.PTRACE_SYSCALL, tid, 0, uintptr(sig)) }

// PtraceSingleStep is PTRACE_SINGLESTEP.
func PtraceSingleStep(tid, sig int) error {
	return ptrace(unix.PTRACE_SINGLESTEP, tid, 0, uintptr(sig))
}

// PtraceDetach is PTRACE_DETACH.
func PtraceDetach(tid, sig int) error { return ptrace(unix.PTRACE_DETACH, tid, 0, uintptr(sig)) }

// PtraceSetOptions is PTRACE_SETOPTIONS.
func PtraceSetOptions(tid int, options uintptr) error {
	return ptrace(unix.PTRACE_SETOPTIONS, tid, 0, options)
}

// PtraceEventMessage is PTRACE_GETEVENTMSG: the new thread's tid, as the tracer numbers it.
func PtraceEventMessage(tid int) (uint64, error) {
	var message uint64
	err := ptracePtr(unix.PTRACE_GETEVENTMSG, tid, 0, unsafe.Pointer(&message))
	return message, err
}

// PtracePoke is PTRACE_POKEDATA: it writes eight bytes into memory, read-only memory too.
func PtracePoke(tid int, addr, word uint64) error {
	return ptrace(unix.PTRACE_POKEDATA, tid, uintptr(addr), uintptr(word))
}

// PtraceGetRegs is PTRACE_GETREGS.
func PtraceGetRegs(tid int, regs *unix.PtraceRegs) error {
	return ptracePtr(unix.PTRACE_GETREGS, tid, 0, unsafe.Pointer(regs))
}

// PtraceSetRegs is PTRACE_SETREGS.
func PtraceSetRegs(tid int, regs *unix.PtraceRegs) error {
	return ptracePtr(unix.PTRACE_SETREGS, tid, 0, unsafe.Pointer(regs))
}

var xstates = sync.Pool{New: func() any { return new([maxXState]byte) }}

// PtraceGetXState reads the extended registers (XSAVE layout, the size this CPU uses).
func PtraceGetXState(tid int) ([]byte, error) {
	buf := xstates.Get().(*[maxXState]byte)
	defer xstates.Put(buf)
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	err := ptracePtr(unix.PTRACE_GETREGSET, tid, ntX86XState, unsafe.Pointer(&iov))
	if err != nil {
		return nil, err
	}
	return slices.Clone(buf[:iov.Len]), nil
}

// PtraceSetXState writes the extended registers. A state shorter than this
// CPU's is EFAULT, one with features this CPU lacks EINVAL.
func PtraceSetXState(tid int, state []byte) error {
	if len(state) == 0 {
		return syscall.EINVAL
	}
	iov := unix.Iovec{Base: &state[0], Len: uint64(len(state))}
	return ptracePtr(unix.PTRACE_SETREGSET, tid, ntX86XState, unsafe.Pointer(&iov))
}

// PtraceGetSigMask is PTRACE_GETSIGMASK. Inside sigsuspend, ppoll and the like it
// is the mask that comes back afterwards, not the one in force.
func PtraceGetSigMask(tid int) (uint64, error) {
	var mask uint64
	err := ptracePtr(unix.PTRACE_GETSIGMASK, tid, 8, unsafe.Pointer(&mask))
	return mask, err
}

// PtraceSetSigMask is PTRACE_SETSIGMASK.
func PtraceSetSigMask(tid int, mask uint64) error {
	return ptracePtr(unix.PTRACE_SETSIGMASK, tid, 8, unsafe.Pointer(&mask))
}

// PtraceGetSiginfo is PTRACE_GETSIGINFO: the signal of a signal-delivery-stop.
func PtraceGetSiginfo(tid int) (Siginfo, error) {
	var info Siginfo
	err := ptracePtr(unix.PTRACE_GETSIGINFO, tid, 0, unsafe.Pointer(&info))
	return info, err
}

// PtraceSetSiginfo is PTRACE_SETSIGINFO.
func PtraceSetSiginfo(tid int, info *Siginfo) error {
	return ptracePtr(unix.PTRACE_SETSIGINFO, tid, 0, unsafe.Pointer(info))
}

// PtracePeekSiginfo is PTRACE_PEEKSIGINFO: the signals queued for the thread, or
// (shared) for its process, left in the queue.
func PtracePeekSiginfo(tid int, shared bool) ([]Siginfo, error) {
	// struct ptrace_peeksiginfo_args, include/uapi/linux/ptrace.h.
	args := struct {
		off   uint64
		flags uint32
		nr    int32
	}{nr: 32}
	if shared {
		args.flags = unix.PTRACE_PEEKSIGINFO_SHARED
	}
	var all []Siginfo
	for {
		var chunk [32]Siginfo
		n, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_PEEKSIGINFO, uintptr(tid),
			uintptr(unsafe.Pointer(&args)), uintptr(unsafe.Pointer(&chunk)), 0, 0)
		if errno != 0 {
			return nil, errno
		}
		all = append(all, chunk[:n]...)
		if int(n) < len(chunk) {
			return all, nil
		}
		args.off += uint64(n)
	}
}

// RseqConfig is struct ptrace_rseq_configuration, include/uapi/linux/ptrace.h.
// Addr 0: the thread has no restartable sequences registered.
type RseqConfig struct {
	Addr      uint64
	Size      uint32
	Signature uint32
	Flags     uint32
	_         uint32
}

// PtraceGetRseq is PTRACE_GET_RSEQ_CONFIGURATION.
func PtraceGetRseq(tid int) (RseqConfig, error) {
	var config RseqConfig
	err := ptracePtr(unix.PTRACE_GET_RSEQ_CONFIGURATION, tid, unsafe.Sizeof(config), unsafe.Pointer(&config))
	return config, err
}

// AnyTracee is, for WaitTracee, any tracee (or child) of the calling thread.
const AnyTracee = -1

// WaitTracee is wait4(tid, __WALL|__WNOTHREAD): the next stop or the end of a tracee of the
// calling thread, and whose it is. It looks once, or (alarm not nil) waits for so long. 0: nothing to
// report yet. It does not leave the OS thread, nor let Go take the processor for another
// goroutine: what is waited for is mostly there in some microseconds.
func WaitTracee(tid int, alarm *Alarm, limit time.Duration) (who int, status unix.WaitStatus, err error) {
	var raw int32
	options := uintptr(unix.WALL | unix.WNOTHREAD)
	if alarm == nil {
		options |= unix.WNOHANG
	} else {
		alarm.Set(limit)
		defer alarm.Set(0)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_WAIT4, uintptr(tid), uintptr(unsafe.Pointer(&raw)), options, 0, 0, 0)
	if errno == unix.EINTR {
		return 0, 0, nil
	}
	if errno != 0 {
		return 0, 0, errno
	}
	return int(n), unix.WaitStatus(raw), nil
}

// Yield is sched_yield(2).
func Yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// Nap is a nanosleep(2) of less than a second that does not leave the OS thread.
func Nap(nanoseconds int64) {
	ts := unix.Timespec{Nsec: nanoseconds}
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}
