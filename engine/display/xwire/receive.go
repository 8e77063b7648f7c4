package xwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Sizes of messages.
const (
	messageSize  = 32
	genericEvent = 35
	keymapNotify = 11

	maxReply        = 16 << 20  // bytes; replies with lists of structs grow by being decoded
	maxBulkReply    = 256 << 20 // images, properties: a screen of 8192x8192 with 4 bytes a pixel
	maxGenericEvent = 64 << 10
	maxFiles        = 64 // descriptors that have come and belong to no reply yet
)

// waitKind is what an answer is wanted for.
type waitKind uint8

const (
	waitReply waitKind = iota
	waitDone           // a request without reply: its error, or that there is none
	discard            // a reply that only marks a place in the stream
)

// pending is a request of which something will come back. Its fields other than
// seq are guarded by Conn.in until done is closed.
type pending struct {
	seq       uint64
	kind      waitKind
	limit     int  // of the reply's bytes
	withFiles bool // the reply comes with descriptors
	files     []*os.File
	abandoned bool // nobody waits any more
	done      chan struct{}
	data      []byte
	err       error
}

func (p *pending) finish(data []byte, files []*os.File, err error) {
	if p.done == nil || p.abandoned {
		closeAll(files)
		return
	}
	p.data, p.files, p.err = data, files, err
	close(p.done)
}

// receiver is the goroutine that reads.
type receiver struct {
	c        *Conn
	buf      []byte // read and not yet used: buf[from:to]
	from, to int
	oob      []byte
	files    []*os.File
	last     uint64 // the sequence number of the last message
}

func newReceiver(c *Conn) *receiver {
	return &receiver{c: c, buf: make([]byte, 32<<10), oob: make([]byte, unix.CmsgSpace(4*16))}
}

func (r *receiver) run() {
	err := r.loop()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the X server ended the connection: %w", io.EOF)
	}
	r.c.fail(err)
	closeAll(r.files)
}

func (r *receiver) loop() error {
	var head [messageSize]byte
	for {
		if err := r.read(head[:]); err != nil {
			return err
		}
		var err error
		switch head[0] {
		case 0:
			err = r.gotError(head[:])
		case 1:
			err = r.gotReply(head[:])
		default:
			err = r.gotEvent(head[:])
		}
		if err != nil {
			return err
		}
	}
}

// read fills b.
func (r *receiver) read(b []byte) error {
	n := copy(b, r.buf[r.from:r.to])
	r.from += n
	for n < len(b) {
		// Much is read where it belongs, little through the buffer.
		if len(b)-n >= len(r.buf) {
			m, err := r.receive(b[n:])
			if n += m; err != nil {
				return err
			}
			continue
		}
		m, err := r.receive(r.buf)
		if err != nil {
			return err
		}
		r.from, r.to = 0, m
		m = copy(b[n:], r.buf[:m])
		r.from = m
		n += m
	}
	return nil
}

// receive is one system call's worth of bytes, at least one.
func (r *receiver) receive(b []byte) (int, error) {
	if r.c.unix == nil {
		n, err := r.c.conn.Read(b)
		if n > 0 {
			err = nil
		}
		return n, err
	}
	n, oobn, flags, _, err := r.c.unix.ReadMsgUnix(b, r.oob)
	if err != nil {
		return 0, err
	}
	if oobn > 0 {
		if err := r.takeFiles(r.oob[:oobn]); err != nil {
			return 0, err
		}
	}
	if flags&unix.MSG_CTRUNC != 0 || len(r.files) > maxFiles {
		return 0, errors.New("the X server sends too many descriptors")
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *receiver) takeFiles(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("reading the descriptors that the X server sent: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials, for instance
		}
		for _, fd := range fds {
			r.files = append(r.files, os.NewFile(uintptr(fd), "from the X server"))
		}
	}
	return nil
}

// sequence widens a message's sequence number.
func (r *receiver) sequence(head []byte) uint64 {
	seq := r.last&^0xffff | uint64(binary.LittleEndian.Uint16(head[2:]))
	if seq < r.last {
		seq += 1 << 16
	}
	r.last = seq
	return seq
}

// settle finishes all that was asked before seq, and returns what was asked by
// it. The caller holds c.in.
func (c *Conn) settle(seq uint64) *pending {
	i := 0
	for i < len(c.pending) && c.pending[i].seq < seq {
		var err error
		if c.pending[i].kind != waitDone {
			err = errors.New("the X server passed over a request that has a reply")
		}
		c.pending[i].finish(nil, nil, err)
		c.pending[i] = nil
		i++
	}
	c.pending = c.pending[i:]
	if len(c.pending) == 0 {
		c.pending = nil
		return nil
	}
	if c.pending[0].seq == seq {
		return c.pending[0]
	}
	return nil
}

// pop forgets the first of those that wait; the caller holds c.in.
func (c *Conn) pop() {
	c.pending[0] = nil
	c.pending = c.pending[1:]
}

func (r *receiver) gotError(head []byte) error {
	c := r.c
	seq := r.sequence(head)
	e := c.tables.Load().parseError(head, seq)
	c.in.Lock()
	defer c.in.Unlock()
	if p := c.settle(seq); p != nil {
		c.pop()
		p.finish(nil, nil, e)
		return nil
	}
	return c.queued(e, messageSize)
}

func (c *Conn) queued(ev Event, size int) error {
	if c.end == nil && !c.queue(ev, size) {
		return fmt.Errorf("%d events of the X server were not taken", len(c.events))
	}
	return nil
}

func (r *receiver) gotReply(head []byte) error {
	c := r.c
	seq := r.sequence(head)
	c.in.Lock()
	p := c.settle(seq)
	if p == nil || p.kind == waitDone {
		c.in.Unlock()
		return fmt.Errorf("the X server answered request %d, which asked nothing", seq)
	}
	c.pop()
	unwanted := p.kind == discard || p.abandoned
	c.in.Unlock()
	// From here p is known to this goroutine only, and to abandon.
	size := 4 * int(binary.LittleEndian.Uint32(head[4:]))
	if size > p.limit {
		err := fmt.Errorf("the X server announces a reply of %d bytes", size)
		r.finish(p, nil, nil, err)
		return err
	}
	var err error
	var data []byte
	if unwanted {
		err = r.discard(size)
	} else {
		data = make([]byte, messageSize+size)
		copy(data, head)
		err = r.read(data[messageSize:])
	}
	if err != nil {
		r.finish(p, nil, nil, fmt.Errorf("reading a reply of the X server: %w", err))
		return err
	}
	r.finish(p, data, r.giveFiles(p, int(head[1])), nil)
	return nil
}

// giveFiles takes the n descriptors that belong to p's reply. Those of the next
// reply may have come as well.
func (r *receiver) giveFiles(p *pending, n int) []*os.File {
	if !p.withFiles {
		return nil
	}
	n = min(n, len(r.files))
	files := r.files[:n:n]
	r.files = r.files[n:]
	return files
}

func (r *receiver) finish(p *pending, data []byte, files []*os.File, err error) {
	r.c.in.Lock()
	defer r.c.in.Unlock()
	p.finish(data, files, err)
}

// discard reads and forgets n bytes.
func (r *receiver) discard(n int) error {
	b := make([]byte, min(n, 4<<10))
	for n > 0 {
		m := min(n, len(b))
		if err := r.read(b[:m]); err != nil {
			return err
		}
		n -= m
	}
	return nil
}

func (r *receiver) gotEvent(head []byte) error {
	c := r.c
	h := EventHeader{Synthetic: head[0]&128 != 0}
	number := head[0] & 127
	if number != keymapNotify {
		h.Sequence = r.sequence(head)
	}
	data := append([]byte(nil), head...)
	if number == genericEvent {
		size := 4 * int(binary.LittleEndian.Uint32(head[4:]))
		if size > maxGenericEvent {
			return fmt.Errorf("the X server announces an event of %d bytes", size)
		}
		data = append(data, make([]byte, size)...)
		if err := r.read(data[messageSize:]); err != nil {
			return err
		}
	}
	t := c.tables.Load()
	ev := t.decode(data, h)
	c.in.Lock()
	defer c.in.Unlock()
	if number != keymapNotify {
		c.settle(h.Sequence)
	}
	return c.queued(ev, len(data))
}
