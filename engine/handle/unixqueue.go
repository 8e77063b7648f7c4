package handle

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func readlink(path string) (string, error) { return os.Readlink(path) }

// unixQueue reads what waits in a socket and leaves it there (SO_PEEK_OFF with
// MSG_PEEK), and interns the descriptors that wait in it.
func (c *capturer) unixQueue(d *desc) error {
	row, err := c.unixRow(d)
	if err != nil {
		return err
	}
	if row.state == tcpListen {
		return nil
	}
	old, err := unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF)
	if err != nil {
		return fmt.Errorf("asking how far it was peeked into: %w", err)
	}
	if err := unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, 0); err != nil {
		return fmt.Errorf("looking into its queue: %w", err)
	}
	defer unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, old)
	if c.buffer == nil {
		c.buffer = make([]byte, 1<<20)
	}
	control := make([]byte, 4096)
	total := 0
	for {
		m, err := recvmsg(d.fd, c.buffer, control, unix.MSG_PEEK)
		switch {
		case err == unix.EAGAIN, err == unix.ENOTCONN, err == unix.EINVAL && row.state != tcpEstablished:
			return nil
		case err == unix.ECONNRESET:
			continue // reported once: the other end was closed with something unread
		case err != nil:
			return fmt.Errorf("looking into its queue: %w", err)
		}
		if len(m.data) == 0 && len(m.control) == 0 && (row.kind == unix.SOCK_STREAM || row.shutdown&1 != 0) {
			return nil // its end
		}
		message, err := c.unixMessage(d, &m)
		if err != nil {
			return err
		}
		d.queue = append(d.queue, message)
		total += len(m.data)
		if m.flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || total > maxUnixQueue || len(d.queue) > maxElements {
			return refuse("let the app read it first", "a unix socket with too much waiting in it (%d bytes)", total)
		}
	}
}

func (c *capturer) unixMessage(d *desc, m *message) (unixMessage, error) {
	out := unixMessage{Data: append([]byte(nil), m.data...)}
	if len(m.name) > 2 && d.sock.row.kind == unix.SOCK_DGRAM {
		out.fromName = m.name
	}
	parts, err := unix.ParseSocketControlMessage(m.control)
	if err != nil {
		return out, fmt.Errorf("reading what came with a message: %w", err)
	}
	for i := range parts {
		part := &parts[i]
		const scmPidfd = 4
		if part.Header.Level != unix.SOL_SOCKET || (part.Header.Type != unix.SCM_RIGHTS && part.Header.Type != scmPidfd) {
			continue
		}
		for off := 0; off+4 <= len(part.Data); off += 4 {
			fd := int(int32(le.Uint32(part.Data[off:])))
			if part.Header.Type == scmPidfd {
				unix.Close(fd)
				continue
			}
			from := d.from
			from.Comm += " (in a socket's queue)"
			other, err := c.intern(fd, from)
			if err != nil {
				return out, err
			}
			out.Handles = append(out.Handles, other.id)
		}
	}
	return out, nil
}

// fillUnix puts messages into the new sockets, then shuts down what was shut
// down, and lets go of what only served to get there.
func fillUnix(b *binder, entries []*entry) error {
	room := map[int]int{} // senders by duplicate, and the buffer size they have
	for _, e := range entries {
		if err := b.fillUnix(e, room); err != nil {
			return fmt.Errorf("filling unix socket %d: %w", e.ID, err)
		}
	}
	for dup, size := range room {
		// The kernel doubles what it is given (socket(7)).
		if err := unix.SetsockoptInt(dup, unix.SOL_SOCKET, unix.SO_SNDBUF, size/2); err != nil {
			return fmt.Errorf("setting the buffer of a unix socket: %w", err)
		}
	}
	for _, e := range entries {
		r := e.rec.(*unixRecord)
		err := b.with(b.made[e.ID], func(dup int) error {
			for _, o := range r.Options {
				if o.Name == unix.SO_PEEK_OFF {
					if err := applyOptions(dup, []option{o}); err != nil {
						return err
					}
				}
			}
			if r.Shutdown == 0 || r.Lost {
				return nil
			}
			if err := unix.Shutdown(dup, r.Shutdown-1); err != nil && err != unix.ENOTCONN {
				return fmt.Errorf("shutting it down: %w", err)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("setting unix socket %d: %w", e.ID, err)
		}
	}
	for _, fd := range b.unix.closing {
		if err := b.close(fd); err != nil {
			return fmt.Errorf("closing a unix socket: %w", err)
		}
	}
	return b.unlinkSockets()
}

func (b *binder) fillUnix(e *entry, room map[int]int) error {
	r := e.rec.(*unixRecord)
	for _, m := range r.Queue {
		var control []byte
		if len(m.Handles) > 0 {
			fds := make([]int, len(m.Handles))
			for i, id := range m.Handles {
				fd, ok := b.made[id]
				if !ok {
					return fmt.Errorf("handle %d waits in it, which cannot wait in a queue (%s)", id, b.refs.handles[id])
				}
				var err error
				if fds[i], err = b.fetch(fd); err != nil {
					return err
				}
			}
			control = unix.UnixRights(fds...)
		}
		from, to, err := b.unixRoute(e, r, &m)
		if err != nil {
			return err
		}
		dup, err := b.fetch(from)
		if err != nil {
			return err
		}
		if _, ok := room[dup]; !ok {
			if room[dup], err = unix.GetsockoptInt(dup, unix.SOL_SOCKET, unix.SO_SNDBUF); err != nil {
				return fmt.Errorf("asking for its buffer: %w", err)
			}
			if err := unix.SetsockoptInt(dup, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<30); err != nil {
				return fmt.Errorf("making room: %w", err)
			}
		}
		for rest := m.Data; ; control = nil {
			n, err := sendmsg(dup, rest, control, to)
			if err != nil {
				return fmt.Errorf("%d bytes: %w", len(rest), err)
			}
			rest = rest[n:]
			if len(rest) == 0 {
				break
			}
		}
	}
	return nil
}

// unixRoute finds the descriptor of pid 1 from which a message gets into a
// socket's queue, and the address if that needs one.
func (b *binder) unixRoute(e *entry, r *unixRecord, m *unixMessage) (from int, to []byte, err error) {
	if r.Type != unix.SOCK_DGRAM {
		if fd, ok := b.unix.other[e.ID]; ok {
			return fd, nil, nil
		}
		return -1, nil, fmt.Errorf("it has no other end")
	}
	if fd, ok := b.unix.other[e.ID]; ok && (m.From == 0 || m.From == r.Peer) {
		return fd, nil, nil
	}
	if len(r.Name) == 0 {
		return -1, nil, fmt.Errorf("it has no name to send to")
	}
	to, err = b.unixAddressHere(e, r)
	if err != nil {
		return -1, nil, err
	}
	if fd, ok := b.made[m.From]; m.From != 0 && ok {
		return fd, to, nil
	}
	if b.unix.stranger < 0 {
		if b.unix.stranger, err = b.call(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_DGRAM, 0); err != nil {
			return -1, nil, fmt.Errorf("making a socket to send from: %w", err)
		}
		b.unix.closing = append(b.unix.closing, b.unix.stranger)
	}
	return b.unix.stranger, to, nil
}
