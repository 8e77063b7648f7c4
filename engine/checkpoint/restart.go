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
		var err error
		if nr, err = brokenOff(regs, peek); err != nil {
			return nil, err
		}
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

// brokenOff tells what system call was broken off once before (by a stop, say).
// Its number is gone from the registers, but mostly it stands in the code: the C
// libraries load it right before the call. For a call by way of syscall(3), as GLib
// waits, its arguments tell: of the calls that can be broken off so, only futex(2)
// has no function of its own.
func brokenOff(regs *unix.PtraceRegs, peek func(uint64, int) ([]byte, error)) (uint64, error) {
	code, err := peek(regs.Rip-7, 7)
	switch {
	case err != nil:
	case code[0] == 0xb8 && code[5] == 0x0f && code[6] == 0x05: // mov $nr, %eax; syscall
		return uint64(binary.LittleEndian.Uint32(code[1:])), nil
	case string(code) == "\x4c\x8b\x4c\x24\x08\x0f\x05": // mov 8(%rsp), %r9; syscall
		if regs.Rdi%4 != 0 || regs.Rsi&futexCommand != futexWait || regs.Rsi>>9 != 0 {
			break
		}
		_, err1 := peek(regs.Rdi, 4)
		limit, err2 := peek(regs.R10, timespecLength)
		if err1 == nil && err2 == nil && binary.LittleEndian.Uint64(limit[8:]) < 1e9 {
			return unix.SYS_FUTEX, nil
		}
	}
	return 0, fmt.Errorf("a thread waits in a system call that was interrupted before and cannot be told")
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
