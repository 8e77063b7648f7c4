//go:build linux && amd64

package kernel

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flags of sigaction(2), include/uapi/asm-generic/signal-defs.h.
const (
	saNoStops = 1          // SA_NOCLDSTOP
	saRestart = 0x10000000 // SA_RESTART
)

// sigaction is struct kernel_sigaction, x86-64.
type sigaction struct{ handler, flags, restorer, mask uint64 }

const sigsetSize = 8

// changeAction changes the flags of the handler that Go has for a signal.
func changeAction(signal syscall.Signal, set, clear uint64) error {
	var action sigaction
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), 0, uintptr(unsafe.Pointer(&action)), sigsetSize, 0, 0); errno != 0 {
		return fmt.Errorf("reading what signal %d does: %w", signal, errno)
	}
	if action.handler <= 1 { // SIG_DFL, SIG_IGN
		return fmt.Errorf("signal %d is not handled", signal)
	}
	action.flags = action.flags&^clear | set
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), uintptr(unsafe.Pointer(&action)), 0, sigsetSize, 0, 0); errno != 0 {
		return fmt.Errorf("setting what signal %d does: %w", signal, errno)
	}
	return nil
}

// DefaultAction has a signal do what it does by default, for a program that is about to be executed: it would go on
// ignoring what its starter ignores. os/signal cannot, or needs threads for it.
func DefaultAction(signal syscall.Signal) error {
	var action sigaction
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), uintptr(unsafe.Pointer(&action)), 0, sigsetSize, 0, 0); errno != 0 {
		return fmt.Errorf("setting what signal %d does: %w", signal, errno)
	}
	return nil
}

// QuietStops tells the kernel to send this process no SIGCHLD when a child or a
// tracee stops; those that end still raise it. Go's handler takes it, stop by stop, on
// the very thread that traces.
func QuietStops() error { return changeAction(unix.SIGCHLD, saNoStops, 0) }

// Alarm ends a system call in which the thread that made it waits, with EINTR.
type Alarm struct{ timer int32 }

// alarmSignal is one that nobody uses. Go's handler returns from it at once, as nobody
// has asked for it (os/signal).
const alarmSignal = syscall.Signal(64)

// NewAlarm makes an alarm for the calling thread, which must be locked to its goroutine.
func NewAlarm() (*Alarm, error) {
	if err := changeAction(alarmSignal, 0, saRestart); err != nil {
		return nil, err
	}
	// struct sigevent, sigevent(3type).
	const threadID = 4 // SIGEV_THREAD_ID
	event := struct {
		value       uint64
		signo, kind int32
		tid         int32
		_           [44]byte
	}{signo: int32(alarmSignal), kind: threadID, tid: int32(unix.Gettid())}
	a := &Alarm{}
	if _, _, errno := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&a.timer))); errno != 0 {
		return nil, fmt.Errorf("making a timer: %w", errno)
	}
	return a, nil
}

// Set lets the alarm go off after d, and every d until it is set again; 0: not at all.
func (a *Alarm) Set(d time.Duration) {
	each := unix.NsecToTimespec(int64(d))
	spec := struct{ interval, value unix.Timespec }{each, each}
	unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(a.timer), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}

// Close ends the alarm.
func (a *Alarm) Close() { unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(a.timer), 0, 0) }
