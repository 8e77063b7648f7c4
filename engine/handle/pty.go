package handle

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Pseudo-terminals of the capsule's own devpts. The master's record has all of
// the pair: number, lock, packet mode, termios, size, and what waits in both
// directions, a half-typed line included. Slaves (and /dev/tty, which is one of them)
// name the number. Sessions and foreground groups are the restorer's.
//
// What waits is read and put back at once, so nothing is left to undo; whoever
// reads the master outside must pause meanwhile. Refused: terminals whose master is
// neither in the capsule nor one of its portals.
var (
	masterKind = &kind{name: kindMaster, capture: captureMaster, blank: func() record { return new(masterRecord) }, rebind: rebindMasters}
	slaveKind  = &kind{name: kindSlave, capture: captureSlave, blank: func() record { return new(slaveRecord) }, rebind: rebindSlaves}
)

type masterRecord struct {
	Index     int       `cbor:"1,keyasint"`
	Locked    bool      `cbor:"2,keyasint,omitempty"`
	Packet    bool      `cbor:"3,keyasint,omitempty"`
	Exclusive bool      `cbor:"4,keyasint,omitempty"`
	Termios   []byte    `cbor:"5,keyasint"` // struct termios2
	Size      [4]uint16 `cbor:"6,keyasint"` // struct winsize
	// Input waits for a reader of the slave, Output for one of the master.
	Input  []byte `cbor:"7,keyasint,omitempty"`
	Output []byte `cbor:"8,keyasint,omitempty"`
	// Closed: there have been slaves, and the last is gone.
	Closed bool `cbor:"9,keyasint,omitempty"`
}

type slaveRecord struct {
	Index     int  `cbor:"1,keyasint"`
	Exclusive bool `cbor:"2,keyasint,omitempty"`
	// Hung: the master is gone.
	Hung bool `cbor:"3,keyasint,omitempty"`
}

const (
	maxTerminals = 1 << 12
	maxWaiting   = 1 << 20 // bytes in one direction; the kernel holds some 70 kB
	termiosSize  = 44      // struct termios2, asm-generic/termbits.h
	tcGets2      = 0x802c542a
	tcSets2      = 0x402c542b
	tiocGDev     = 0x80045432
	tiocGPTN     = 0x80045430
	tiocSPTLck   = 0x40045431
)

func (r *masterRecord) validate(*references) error {
	if r.Index < 0 || r.Index >= maxTerminals || len(r.Termios) != termiosSize || len(r.Input) > maxWaiting || len(r.Output) > maxWaiting {
		return fmt.Errorf("terminal %d with %d bytes of settings, %d in, %d out", r.Index, len(r.Termios), len(r.Input), len(r.Output))
	}
	return nil
}

func (r *slaveRecord) validate(*references) error {
	if r.Index < 0 || r.Index >= maxTerminals {
		return fmt.Errorf("terminal %d", r.Index)
	}
	return nil
}

func (c *capturer) addMaster(d *desc) error {
	index, err := unix.IoctlGetInt(d.fd, tiocGPTN)
	if err != nil {
		return fmt.Errorf("asking for the terminal's number: %w", err)
	}
	c.terms[index] = d
	return nil
}

func terminalIndex(d *desc) (int, error) {
	dev, err := unix.IoctlGetInt(d.fd, tiocGDev)
	if err != nil {
		return 0, err
	}
	// new_encode_dev: 12 bits of major between the low 8 and the high 12 of minor.
	return dev&0xff | dev>>12&0xfff00, nil
}

func captureSlave(c *capturer, d *desc) (record, error) {
	index, err := terminalIndex(d)
	if err == unix.EIO {
		return &slaveRecord{Index: int(unix.Minor(d.seen.st.Rdev)), Hung: true}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the terminal's number: %w", err)
	}
	master := c.terms[index]
	if master == nil || !sameDevpts(master, d) {
		return nil, refuse("start the app with hither run", "a terminal of a process outside the capsule (%s)", d.seen.link)
	}
	r := &slaveRecord{Index: index}
	if n, err := unix.IoctlGetInt(d.fd, unix.TIOCGEXCL); err == nil {
		r.Exclusive = n != 0
	}
	return r, nil
}

// sameDevpts: numbers are per mount of devpts. Masters opened as /dev/ptmx, and
// /dev/tty, do not show theirs.
func sameDevpts(master, slave *desc) bool {
	return master.seen.fs != unix.DEVPTS_SUPER_MAGIC || slave.seen.fs != unix.DEVPTS_SUPER_MAGIC || master.seen.st.Dev == slave.seen.st.Dev
}

func captureMaster(c *capturer, d *desc) (record, error) {
	r := new(masterRecord)
	var err error
	if r.Index, err = unix.IoctlGetInt(d.fd, tiocGPTN); err != nil {
		return nil, fmt.Errorf("asking for the terminal's number: %w", err)
	}
	for _, flag := range []struct {
		request uint
		to      *bool
	}{{unix.TIOCGPTLCK, &r.Locked}, {unix.TIOCGPKT, &r.Packet}, {unix.TIOCGEXCL, &r.Exclusive}} {
		n, err := unix.IoctlGetInt(d.fd, flag.request)
		if err != nil {
			return nil, fmt.Errorf("asking for the terminal's state: %w", err)
		}
		*flag.to = n != 0
	}
	r.Termios = make([]byte, termiosSize)
	if err := ioctl(d.fd, tcGets2, r.Termios); err != nil {
		return nil, fmt.Errorf("asking for the terminal's settings: %w", err)
	}
	size, err := unix.IoctlGetWinsize(d.fd, unix.TIOCGWINSZ)
	if err != nil {
		return nil, fmt.Errorf("asking for the terminal's size: %w", err)
	}
	r.Size = [4]uint16{size.Row, size.Col, size.Xpixel, size.Ypixel}
	r.Closed = polled(d.fd, unix.POLLIN)&unix.POLLHUP != 0
	t := terminal{master: d.fd, slave: -1, termios: r.Termios}
	for _, other := range c.descs {
		if other.kind == nil || other.kind.name != kindSlave || other.flags&unix.O_ACCMODE != unix.O_RDWR {
			continue
		}
		if index, err := terminalIndex(other); err == nil && index == r.Index && sameDevpts(d, other) {
			t.slave = other.fd
			break
		}
	}
	if t.slave >= 0 {
		if r.Input, err = t.peekInput(); err != nil {
			return nil, fmt.Errorf("reading what was typed: %w", err)
		}
	}
	if r.Output, err = t.peekOutput(r.Packet, r.Closed); err != nil {
		return nil, fmt.Errorf("reading what the terminal has not shown: %w", err)
	}
	return r, nil
}

func rebindMasters(b *binder, entries []*entry) error {
	// Numbers are given lowest first, so the terminals are made in their order.
	wanted := map[int]*entry{}
	top := -1
	for _, e := range entries {
		index := e.rec.(*masterRecord).Index
		if wanted[index] != nil {
			return fmt.Errorf("terminal %d stands twice in the image", index)
		}
		wanted[index] = e
		top = max(top, index)
	}
	hung := map[int]bool{}
	for _, e := range b.byKind[kindSlave] {
		if r := e.rec.(*slaveRecord); r.Hung && wanted[r.Index] == nil {
			hung[r.Index] = true
			top = max(top, r.Index)
		}
	}
	for made := -1; made < top; {
		fd, err := b.open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		dup, err := b.fetch(fd)
		if err != nil {
			return err
		}
		index, err := unix.IoctlGetInt(dup, tiocGPTN)
		if err != nil {
			return fmt.Errorf("asking for a new terminal's number: %w", err)
		}
		for i := made + 1; i < index; i++ {
			if wanted[i] != nil || hung[i] {
				return fmt.Errorf("terminal %d of the new capsule is in use already", i)
			}
		}
		made = index
		if err := ioctl(dup, tiocSPTLck, make([]byte, 4)); err != nil {
			return fmt.Errorf("unlocking terminal %d: %w", index, err)
		}
		e := wanted[index]
		if e == nil {
			if hung[index] {
				b.hungMasters = append(b.hungMasters, fd)
			} else {
				b.temporary(fd)
			}
			continue
		}
		b.put(e.ID, fd)
		b.masters[index] = fd
	}
	return nil
}

func rebindSlaves(b *binder, entries []*entry) error {
	for _, e := range entries {
		index := e.rec.(*slaveRecord).Index
		fd, err := b.open(fmt.Sprintf("/dev/pts/%d", index), openFlags(e.Handle)|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		b.put(e.ID, fd)
		if int(e.Flags)&unix.O_ACCMODE == unix.O_RDWR {
			b.slaves[index] = fd
		}
	}
	for _, fd := range b.hungMasters {
		if err := b.close(fd); err != nil {
			return fmt.Errorf("closing a terminal: %w", err)
		}
	}
	for i := range b.app.Processes {
		index := b.app.Processes[i].Terminal - 1
		if _, ok := b.slaves[index]; index < 0 || ok {
			continue
		}
		if _, ok := b.masters[index]; !ok {
			continue // its master is gone: there is no terminal to control it
		}
		fd, err := b.open(fmt.Sprintf("/dev/pts/%d", index), unix.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		b.slaves[index] = fd
	}
	for _, e := range b.byKind[kindMaster] {
		if err := b.settleTerminal(e); err != nil {
			return fmt.Errorf("setting terminal %d: %w", e.rec.(*masterRecord).Index, err)
		}
	}
	for _, e := range entries {
		if e.rec.(*slaveRecord).Exclusive {
			if err := b.with(b.made[e.ID], func(dup int) error { return ioctl(dup, unix.TIOCEXCL, nil) }); err != nil {
				return fmt.Errorf("making a terminal exclusive: %w", err)
			}
		}
	}
	return nil
}

// settleTerminal gives a new pair the state of the old one.
func (b *binder) settleTerminal(e *entry) error {
	r := e.rec.(*masterRecord)
	t := terminal{slave: -1, termios: r.Termios}
	var err error
	if t.master, err = b.fetch(b.masters[r.Index]); err != nil {
		return err
	}
	if err := unix.IoctlSetWinsize(t.master, unix.TIOCSWINSZ, &unix.Winsize{Row: r.Size[0], Col: r.Size[1], Xpixel: r.Size[2], Ypixel: r.Size[3]}); err != nil {
		return fmt.Errorf("its size: %w", err)
	}
	fd, open := b.slaves[r.Index]
	if !open && (r.Closed || len(r.Output) > 0 || len(r.Input) > 0) {
		if fd, err = b.open(fmt.Sprintf("/dev/pts/%d", r.Index), unix.O_RDWR|unix.O_NOCTTY, 0); err != nil {
			return err
		}
		b.temporary(fd)
		open = true
	}
	if open {
		if t.slave, err = b.fetch(fd); err != nil {
			return err
		}
	}
	if err := t.put(r.Input, r.Output); err != nil {
		return err
	}
	if err := t.set(r.Termios); err != nil {
		return err
	}
	if r.Packet {
		if err := ioctl(t.master, unix.TIOCPKT, le.AppendUint32(nil, 1)); err != nil {
			return fmt.Errorf("its packet mode: %w", err)
		}
	}
	if r.Exclusive {
		if err := ioctl(t.master, unix.TIOCEXCL, nil); err != nil {
			return fmt.Errorf("its exclusive mode: %w", err)
		}
	}
	if r.Locked {
		if err := ioctl(t.master, tiocSPTLck, le.AppendUint32(nil, 1)); err != nil {
			return fmt.Errorf("its lock: %w", err)
		}
	}
	_, err = unix.FcntlInt(uintptr(t.master), unix.F_SETFL, int(e.Flags)&unix.O_NONBLOCK)
	return err
}
