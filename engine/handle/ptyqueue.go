package handle

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pair by duplicates of its ends, to look at what waits in it.
type terminal struct {
	master, slave int // slave -1: none is open
	termios       []byte
}

// Words and bits of struct termios2, asm-generic/termbits-common.h.
const (
	tIflag, tOflag, tLflag, tCC = 0, 4, 12, 17
	ccLength                    = 19
	extproc                     = 0x10000
)

func (t *terminal) set(termios []byte) error {
	if err := ioctl(t.master, tcSets2, termios); err != nil {
		return fmt.Errorf("changing the terminal's settings: %w", err)
	}
	return nil
}

func lines(termios []byte) bool {
	return le.Uint32(termios[tLflag:])&(unix.ICANON|extproc) == unix.ICANON
}

// plain are the settings under which bytes pass as they are: no echo, no
// signals, no translation; in lines where the terminal's own are.
func plain(termios []byte, inLines bool) []byte {
	p := slices.Clone(termios)
	le.PutUint32(p[tIflag:], le.Uint32(p[tIflag:])&unix.IUTF8)
	le.PutUint32(p[tOflag:], le.Uint32(p[tOflag:])&^unix.OPOST)
	lflag := uint32(0)
	if inLines {
		lflag = unix.ICANON
	}
	le.PutUint32(p[tLflag:], lflag)
	clear(p[tCC : tCC+ccLength]) // no special characters, and reads never wait
	return p
}

// peekInput reads what was typed and not yet read, and puts it back. A line
// that is not finished shows only when the terminal is switched out of line mode, and
// that would finish it: so the bytes are taken out and typed again.
func (t *terminal) peekInput() ([]byte, error) {
	inLines := lines(t.termios)
	waiting := func() (int, error) {
		polled(t.slave, unix.POLLIN) // lets the kernel move bytes from the master
		return unix.IoctlGetInt(t.slave, unix.TIOCINQ)
	}
	if !inLines {
		if n, err := waiting(); err != nil || n == 0 {
			return nil, err
		}
	}
	if err := t.set(plain(t.termios, false)); err != nil {
		return nil, err
	}
	var typed []byte
	buf := make([]byte, 4096)
	for {
		n, err := waiting()
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if n, err = unix.Read(t.slave, buf); err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		typed = append(typed, buf[:n]...)
	}
	if err := t.put(typed, nil); err != nil {
		return nil, err
	}
	return typed, t.set(t.termios)
}

// peekOutput reads what the slave wrote and nobody has read, and puts it back.
func (t *terminal) peekOutput(packet, closed bool) ([]byte, error) {
	polled(t.master, unix.POLLIN)
	n, err := unix.IoctlGetInt(t.master, unix.TIOCINQ)
	if err != nil || n == 0 {
		return nil, err
	}
	if packet {
		if err := ioctl(t.master, unix.TIOCPKT, make([]byte, 4)); err != nil {
			return nil, err
		}
	}
	var shown []byte
	buf := make([]byte, 1<<16)
	for n > 0 {
		got, err := unix.Read(t.master, buf[:min(n, len(buf))])
		if err != nil || got == 0 {
			return nil, orShort(err)
		}
		shown = append(shown, buf[:got]...)
		polled(t.master, unix.POLLIN)
		if n, err = unix.IoctlGetInt(t.master, unix.TIOCINQ); err != nil {
			return nil, err
		}
	}
	if t.slave < 0 {
		if t.slave, err = ioctlValue(t.master, tiocGPTPeer, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC); err != nil {
			return nil, fmt.Errorf("opening its other end: %w", err)
		}
		defer func() { unix.Close(t.slave); t.slave = -1 }()
	}
	if err := t.put(nil, shown); err != nil {
		return nil, err
	}
	if err := t.set(t.termios); err != nil {
		return nil, err
	}
	if packet {
		return shown, ioctl(t.master, unix.TIOCPKT, le.AppendUint32(nil, 1))
	}
	return shown, nil
}

// put types input and writes output, and leaves plain settings behind.
func (t *terminal) put(input, output []byte) error {
	if len(input) > 0 {
		if err := t.typeIn(input); err != nil {
			return fmt.Errorf("typing %d bytes: %w", len(input), err)
		}
	}
	if len(output) == 0 {
		return nil
	}
	if len(input) == 0 {
		if err := t.set(plain(t.termios, lines(t.termios))); err != nil {
			return err
		}
	}
	for tries := 0; len(output) > 0; tries++ {
		n, err := writeSoon(t.slave, output)
		if err == unix.EAGAIN && tries == 0 {
			// Stopped by Ctrl-S: let it go for as long as this takes.
			if _, err := ioctlValue(t.slave, unix.TCXONC, unix.TCOON); err != nil {
				return err
			}
			defer ioctlValue(t.slave, unix.TCXONC, unix.TCOOFF)
			continue
		}
		if err != nil {
			return fmt.Errorf("writing %d bytes to the terminal: %w", len(output), err)
		}
		output = output[n:]
	}
	return nil
}

func (t *terminal) typeIn(input []byte) error {
	inLines := lines(t.termios)
	if err := t.set(plain(t.termios, inLines)); err != nil {
		return err
	}
	whole := len(input)
	if inLines {
		whole = bytes.LastIndexByte(input, '\n') + 1
	}
	for rest := input[:whole]; len(rest) > 0; {
		n, err := writeSoon(t.master, rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	// The line discipline works on its own time, and the settings must not
	// change before it is done.
	if t.slave >= 0 && whole > 0 {
		for deadline := time.Now().Add(300 * time.Millisecond); ; time.Sleep(100 * time.Microsecond) {
			polled(t.slave, unix.POLLIN)
			n, err := unix.IoctlGetInt(t.slave, unix.TIOCINQ)
			if err != nil {
				return err
			}
			// A full discipline (4095 bytes) leaves the rest with the driver.
			if n >= min(whole, 4095) || time.Now().After(deadline) {
				break
			}
		}
	}
	if whole == len(input) {
		return nil
	}
	if _, err := writeSoon(t.master, input[whole:]); err != nil {
		return err
	}
	if t.slave >= 0 && whole == 0 {
		polled(t.slave, unix.POLLIN) // waits for the discipline
	} else {
		time.Sleep(2 * time.Millisecond) // nothing tells when it is done
	}
	return nil
}

// writeSoon writes without waiting, whatever the descriptor's flags.
func writeSoon(fd int, data []byte) (int, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return 0, err
	}
	if flags&unix.O_NONBLOCK == 0 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_NONBLOCK); err != nil {
			return 0, err
		}
		defer unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	}
	return unix.Write(fd, data)
}
