package checkpoint

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// Results of an interrupted system call that user code never sees
// (include/linux/errno.h).
const (
	restartSys     = -512
	restartNoIntr  = -513
	restartNoHand  = -514
	restartBlock   = -516
	timerAbsolute  = 1 // TIMER_ABSTIME
	futexCommand   = 0x7f
	futexWait      = 0
	timespecLength = 16
)

// neverRestarted end with EINTR when a stop of the process interrupts them,
// whether or not there was a signal (signal(7)). Package tracee makes restartNoHand
// of that, so that the kernel starts them anew, with their whole time-out.
var neverRestarted = map[uint64]bool{
	unix.SYS_EPOLL_WAIT: true, unix.SYS_EPOLL_PWAIT: true, unix.SYS_EPOLL_PWAIT2: true,
	unix.SYS_RT_SIGTIMEDWAIT: true,
}

// interrupted says what system call the freeze broke off in a way that the
// kernel would not mend at the destination. peek reads the thread's memory;
// slept is how long the call has waited; deliverable tells that a signal with
// a handler waits for the thread, so that the call ends by rights.
func interrupted(regs *unix.PtraceRegs, peek func(addr uint64, n int) ([]byte, error), slept time.Duration, deliverable bool) (*image.Restart, error) {
	nr, result := regs.Orig_rax, int64(regs.Rax)
	if int64(nr) < 0 {
		return nil, nil
	}
	switch {
	case result == restartBlock:
	case (result == -int64(unix.EINTR) || result == restartNoHand) && neverRestarted[nr] && !deliverable:
	default:
		return nil, nil
	}
	if nr == unix.SYS_RESTART_SYSCALL {
		// The call was broken off once before (by a stop, say) and its number
		// is gone from the registers, but it stands in the code: the C
		// libraries load it right before the call, mov $nr, %eax; syscall.
		code, err := peek(regs.Rip-7, 7)
		if err != nil || code[0] != 0xb8 || code[5] != 0x0f || code[6] != 0x05 {
			return nil, fmt.Errorf("a thread waits in a system call that was interrupted before and cannot be told")
		}
		nr = uint64(binary.LittleEndian.Uint32(code[1:]))
		if !timed[nr] {
			return nil, fmt.Errorf("a thread waits in system call %d, which cannot be taken up again", nr)
		}
	}
	full, err := timeout(nr, regs, peek)
	if err != nil {
		return nil, err
	}
	left := int64(-1)
	if full >= 0 {
		left = max(0, full-int64(slept))
	}
	return &image.Restart{Nr: nr, Left: left}, nil
}

// timeout returns the relative time-out a call was given, in ns; -1 for none.
func timeout(nr uint64, regs *unix.PtraceRegs, peek func(uint64, int) ([]byte, error)) (int64, error) {
	millis := func(v uint64) int64 {
		if int32(v) < 0 {
			return -1
		}
		return int64(int32(v)) * int64(time.Millisecond)
	}
	timespec := func(addr uint64) (int64, error) {
		if addr == 0 {
			return -1, nil
		}
		b, err := peek(addr, timespecLength)
		if err != nil {
			return 0, fmt.Errorf("reading a time-out at %#x: %w", addr, err)
		}
		sec, nsec := int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:]))
		if sec > 1<<33 { // 272 years: int64 of ns ends at 292
			return -1, nil
		}
		return sec*1e9 + nsec, nil
	}
	switch nr {
	case unix.SYS_NANOSLEEP:
		return timespec(regs.Rdi)
	case unix.SYS_CLOCK_NANOSLEEP:
		if regs.Rsi&timerAbsolute != 0 {
			return -1, nil
		}
		return timespec(regs.Rdx)
	case unix.SYS_POLL:
		return millis(regs.Rdx), nil
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT:
		return millis(regs.R10), nil
	case unix.SYS_EPOLL_PWAIT2:
		return timespec(regs.R10)
	case unix.SYS_RT_SIGTIMEDWAIT:
		return timespec(regs.Rdx)
	case unix.SYS_FUTEX:
		if regs.Rsi&futexCommand != futexWait { // the others' time-outs are absolute
			return -1, nil
		}
		return timespec(regs.R10)
	}
	return 0, fmt.Errorf("a thread waits in system call %d, whose time-out is not known here", nr)
}
