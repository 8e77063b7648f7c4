package xwire

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// flushSize is how many bytes are gathered before they are sent.
	flushSize = 32 << 10
	// copyTail is up to where a request's data is gathered too.
	copyTail = 4 << 10
	// maxUnanswered is how many requests may go without a reply. The wire has
	// the low 16 bits of sequence numbers only, so something must come back
	// before they have gone round.
	maxUnanswered = 0xff00
)

// send appends a request to what goes out. p, if there is one, is finished when
// the server has answered, or here. Errors end the connection; those of the
// request itself come to p, or else as an event.
func (c *Conn) send(r *request, p *pending) {
	c.out.Lock()
	defer c.out.Unlock()
	size := len(r.b) + len(r.tail)
	words := (size + 3) / 4
	if r.err == nil && words > c.maxRequest-1 {
		r.err = fmt.Errorf("a request of %d bytes, where the server takes %d", size, 4*(c.maxRequest-1))
	}
	if r.err == nil && len(r.files) > 0 && c.unix == nil {
		r.err = fmt.Errorf("no unix socket, over which a descriptor could be sent")
	}
	if r.err != nil {
		c.refuse(r.err, p)
		return
	}
	if c.seq-c.answered >= maxUnanswered && (p == nil || p.kind != waitReply) {
		c.appendSync()
	}
	c.seq++
	if p != nil {
		if !c.expect(p, c.seq) {
			return
		}
	}
	if words > 0xffff {
		c.buf = append(c.buf, r.b[0], r.b[1], 0, 0)
		c.buf = binary.LittleEndian.AppendUint32(c.buf, uint32(words+1))
		c.buf = append(c.buf, r.b[4:]...)
	} else {
		binary.LittleEndian.PutUint16(r.b[2:], uint16(words))
		c.buf = append(c.buf, r.b...)
	}
	tail := r.tail
	padding := 4*words - size
	if len(tail) <= copyTail {
		c.buf = append(c.buf, tail...)
		c.buf = append(c.buf, zeros[:padding]...)
		tail = nil
	}
	switch {
	case len(tail) > 0:
		c.write(r.files, tail, zeros[:padding])
	case len(r.files) > 0 || len(c.buf) >= flushSize:
		c.write(r.files)
	}
}

var zeros [4]byte

// refuse reports a request that was not sent. The caller holds c.out.
func (c *Conn) refuse(err error, p *pending) {
	c.in.Lock()
	defer c.in.Unlock()
	e := &Error{EventHeader: EventHeader{Sequence: c.seq}, Local: err}
	switch {
	case p != nil:
		p.finish(nil, nil, e)
	case c.end == nil:
		c.queue(e, 0)
	}
}

// expect puts p among those that wait for an answer, unless the connection has
// ended.
func (c *Conn) expect(p *pending, seq uint64) bool {
	c.in.Lock()
	defer c.in.Unlock()
	if c.end != nil {
		if p.done != nil {
			p.finish(nil, nil, c.end)
		}
		return false
	}
	p.seq = seq
	c.pending = append(c.pending, p)
	if p.kind == waitReply || p.kind == discard {
		c.answered = seq
	}
	return true
}

// sync has the server answer something, so that all before it is known to be
// done.
func (c *Conn) sync() {
	c.out.Lock()
	defer c.out.Unlock()
	c.appendSync()
}

// appendSync appends a GetInputFocus whose reply nobody wants. The caller holds
// c.out.
func (c *Conn) appendSync() {
	c.seq++
	if c.expect(&pending{kind: discard, limit: maxReply}, c.seq) {
		c.buf = append(c.buf, 43, 0, 1, 0)
	}
}

// Flush sends what is to be sent. It waits while the server does not read, for
// SetTimeout's time at most, after which the connection is ended.
func (c *Conn) Flush() error {
	c.out.Lock()
	c.write(nil)
	c.out.Unlock()
	return c.Err()
}

// write sends the gathered bytes and then those of tails; the caller holds
// c.out. The descriptors go with the first byte.
func (c *Conn) write(files []*os.File, tails ...[]byte) {
	buf := c.buf
	if len(buf) == 0 {
		return
	}
	if cap(c.buf) > 4*flushSize {
		c.buf = nil
	} else {
		c.buf = c.buf[:0]
	}
	select {
	case <-c.done:
		return
	default:
	}
	timeout := time.Duration(c.timeout.Load())
	err := c.conn.SetWriteDeadline(time.Now().Add(timeout))
	if err == nil && len(files) > 0 {
		var n int
		n, err = c.writeWithFiles(buf, files)
		buf = buf[n:]
	}
	if err == nil {
		all := net.Buffers(append([][]byte{buf}, tails...))
		_, err = all.WriteTo(c.conn)
	}
	if err == nil {
		// A deadline left behind would wake the process once for nothing.
		err = c.conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		c.fail(fmt.Errorf("sending to the X server: %w", err))
	}
}

// writeWithFiles sends descriptors with the beginning of b, and says how much
// of b has gone with them.
func (c *Conn) writeWithFiles(b []byte, files []*os.File) (int, error) {
	fds := make([]int, 0, len(files))
	return sendHeld(files, fds, func(fds []int) (int, error) {
		n, _, err := c.unix.WriteMsgUnix(b, unix.UnixRights(fds...), nil)
		return n, err
	})
}

// sendHeld calls f with the files' descriptors, which stay open meanwhile.
func sendHeld(files []*os.File, fds []int, f func([]int) (int, error)) (n int, err error) {
	if len(files) == 0 {
		return f(fds)
	}
	if files[0] == nil {
		return 0, os.ErrInvalid
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return 0, err
	}
	if outer := raw.Control(func(fd uintptr) {
		n, err = sendHeld(files[1:], append(fds, int(fd)), f)
	}); outer != nil {
		return 0, outer
	}
	return n, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
