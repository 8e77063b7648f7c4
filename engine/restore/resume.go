package restore

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/tracee"
)

// A system call with a relative time-out that the freeze broke off must wait
// on for what was left of it. Issuing it again with other arguments would
// leave those in registers that user code believes unchanged, and a shorter
// time in memory that it believes constant. So such a thread resumes in a
// piece of code of its own: it makes the call with the time that is left,
// puts the argument registers back, and jumps to where the call returns.
//
// The pieces lie in a page that stays in the address space; it is named.

const (
	pieceSize  = 128
	pieceTime  = 96 // offset of the struct timespec in a piece
	pieceName  = "hither resumes here"
	timeLength = 16
)

// piece returns the code for one thread that will lie at addr, and sets the
// registers to run it. left is in nanoseconds, at least 0.
func piece(regs *unix.PtraceRegs, r image.Restart, left int64, addr uint64) [pieceSize]byte {
	var out [pieceSize]byte
	code := out[:0]
	word := func(v uint64) { code = binary.LittleEndian.AppendUint64(code, v) }
	// mov $nr, %eax; syscall: if the call is broken off again, by a move that
	// fails, its number is found there (package checkpoint).
	code = append(code, 0xb8)
	code = binary.LittleEndian.AppendUint32(code, uint32(r.Nr))
	code = append(code, 0x0f, 0x05)
	for _, load := range []struct {
		op  [2]byte // movabs $imm64, register
		val uint64
	}{
		{[2]byte{0x48, 0xbf}, regs.Rdi}, {[2]byte{0x48, 0xbe}, regs.Rsi}, {[2]byte{0x48, 0xba}, regs.Rdx},
		{[2]byte{0x49, 0xba}, regs.R10}, {[2]byte{0x49, 0xb8}, regs.R8}, {[2]byte{0x49, 0xb9}, regs.R9},
	} {
		code = append(code, load.op[:]...)
		word(load.val)
	}
	code = append(code, 0xff, 0x25, 0, 0, 0, 0) // jmp *0(%rip)
	word(regs.Rip)
	binary.LittleEndian.PutUint64(out[pieceTime:], uint64(left/1e9))
	binary.LittleEndian.PutUint64(out[pieceTime+8:], uint64(left%1e9))

	millis := uint64((left + 1e6 - 1) / 1e6)
	switch r.Nr {
	case unix.SYS_NANOSLEEP:
		regs.Rdi = addr + pieceTime
	case unix.SYS_CLOCK_NANOSLEEP, unix.SYS_RT_SIGTIMEDWAIT:
		regs.Rdx = addr + pieceTime
	case unix.SYS_POLL:
		regs.Rdx = millis
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT:
		regs.R10 = millis
	case unix.SYS_EPOLL_PWAIT2, unix.SYS_FUTEX:
		regs.R10 = addr + pieceTime
	}
	regs.Rax, regs.Orig_rax, regs.Rip = r.Nr, ^uint64(0), addr
	return out
}

// again sets the registers to issue a call once more as it was.
func again(regs *unix.PtraceRegs, r image.Restart) {
	regs.Rax, regs.Orig_rax, regs.Rip = r.Nr, ^uint64(0), regs.Rip-2
}

// countDown takes the time that the app stood still off a time-out that the
// kernel wrote back into the app's memory when it broke off the call: those of
// select, pselect6 and ppoll. The kernel then makes these calls again by itself.
func countDown(p *tracee.Process, regs *unix.PtraceRegs, elapsed int64) error {
	const restartNoHand = -514 // ERESTARTNOHAND, include/linux/errno.h
	if int64(regs.Rax) != restartNoHand {
		return nil
	}
	at, unit := uint64(0), int64(1)
	switch regs.Orig_rax {
	case unix.SYS_SELECT:
		at, unit = regs.R8, 1000 // struct timeval
	case unix.SYS_PSELECT6:
		at = regs.R8
	case unix.SYS_PPOLL:
		at = regs.Rdx
	}
	if at == 0 {
		return nil
	}
	var b [timeLength]byte
	if err := p.Read(b[:], at); err != nil {
		return fmt.Errorf("reading a time-out: %w", err)
	}
	sec, part := int64(binary.LittleEndian.Uint64(b[:])), int64(binary.LittleEndian.Uint64(b[8:]))
	if sec < 0 || sec > 1<<32 || part < 0 || part >= 1e9/unit {
		return nil // not one the kernel wrote
	}
	left := max(0, sec*1e9+part*unit-elapsed)
	binary.LittleEndian.PutUint64(b[:], uint64(left/1e9))
	binary.LittleEndian.PutUint64(b[8:], uint64(left%1e9/unit))
	if err := p.Write(b[:], at); err != nil {
		return fmt.Errorf("writing a time-out: %w", err)
	}
	return nil
}
