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
			return fmt.Errorf("typing: %w", err)
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
	if polled(t.slave, unix.POLLOUT)&unix.POLLOUT == 0 {
		// It is empty and takes nothing: stopped by tcflow(3). Let it go for as long as this takes.
		if _, err := ioctlValue(t.slave, unix.TCXONC, unix.TCOON); err != nil {
			return err
		}
		defer ioctlValue(t.slave, unix.TCXONC, unix.TCOOFF)
	}
	if err := fill(t.slave, t.master, output, false); err != nil {
		return fmt.Errorf("writing to the terminal: %w", err)
	}
	return nil
}

func (t *terminal) typeIn(input []byte) error {
	inLines := lines(t.termios)
	if err := t.set(plain(t.termios, inLines)); err != nil {
		return err
	}
	return fill(t.master, t.slave, input, inLines)
}

// What a terminal holds in one direction: so much is with the line discipline (N_TTY_BUF_SIZE, drivers/tty/n_tty.c) ...
const discipline = 4095

// ... and the rest before it, in buffers of at most 1792 bytes (TTY_BUFFER_PAGE, drivers/tty/tty_buffer.c), which take
// twice their size if it comes in pieces of that size. A new one is made until all have more than 8192
// (drivers/tty/pty.c). So how much there is room for depends on how it is written. These pieces fit the most: whatever
// was there fits again (TestFullTerminal).
var pieces = [...]int{1792, 1792, 1792, 1792, 1792, 1792, 1792, 1792, 1024, 1024, 1792, 1792}

// fill writes what waited in a terminal to one end of it; the other end, -1 if it is not open, would read it. When it
// returns, the line discipline has what it can take: it works on its own time, and settings must not change before.
func fill(to, from int, data []byte, inLines bool) error {
	deadline := time.Now().Add(2 * time.Second)
	write := func(part []byte) error {
		for len(part) > 0 {
			n, err := writeSoon(to, part)
			if err != nil && (err != unix.EAGAIN || time.Now().After(deadline)) {
				return fmt.Errorf("%d of %d bytes find no room: %w", len(part), len(data), err)
			}
			if n <= 0 {
				time.Sleep(100 * time.Microsecond) // the discipline takes some, of which nothing tells
				continue
			}
			part = part[n:]
		}
		return nil
	}
	first := data[:min(len(data), discipline)]
	for part := range slices.Chunk(first, pieces[0]) {
		if err := write(part); err != nil {
			return err
		}
	}
	if from >= 0 {
		if err := taken(from, first, inLines); err != nil {
			return err
		}
	}
	rest := data[len(first):]
	for i := 0; len(rest) > 0; i++ {
		part := rest[:min(len(rest), pieces[i%len(pieces)])]
		if err := write(part); err != nil {
			return err
		}
		rest = rest[len(part):]
	}
	return nil
}

// taken waits until the line discipline of an end has these bytes.
func taken(fd int, data []byte, inLines bool) error {
	shows := len(data)
	if inLines {
		shows = bytes.LastIndexByte(data, '\n') + 1
	}
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		polled(fd, unix.POLLIN) // waits for the discipline if it has nothing
		n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
		if err != nil {
			return err
		}
		if n >= shows || time.Now().After(deadline) {
			break
		}
	}
	if 0 < shows && shows < len(data) {
		time.Sleep(2 * time.Millisecond) // nothing tells when the rest of a line is there
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
