package handle

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// tcpWork is what the rebuilding of TCP sockets keeps.
type tcpWork struct {
	*binder
	other map[uint32]int // a duplicate of the end that sends to a socket
	gone  []int          // ends in pid 1 that close when all is filled
	done  map[uint32]bool
}

func rebindTCP(b *binder, entries []*entry) error {
	w := &tcpWork{b, map[uint32]int{}, nil, map[uint32]bool{}}
	// Connections before listeners: they are made by listeners for the time being.
	for _, step := range []func(*entry, *tcpRecord) error{w.connection, w.rest, w.pending, w.fill} {
		for _, e := range entries {
			if err := step(e, e.rec.(*tcpRecord)); err != nil {
				return fmt.Errorf("making TCP socket %d: %w", e.ID, err)
			}
		}
	}
	for _, fd := range w.gone {
		if err := b.close(fd); err != nil {
			return fmt.Errorf("closing a TCP socket: %w", err)
		}
	}
	for _, e := range entries {
		if err := w.settle(e, e.rec.(*tcpRecord)); err != nil {
			return fmt.Errorf("setting TCP socket %d: %w", e.ID, err)
		}
	}
	return nil
}

func (w *tcpWork) connection(e *entry, r *tcpRecord) error {
	if _, done := w.made[e.ID]; done || r.Listens || (r.Peer == 0 && !r.Lost) {
		return nil
	}
	peer := w.byID[r.Peer]
	if peer == nil {
		return w.lost(e, r)
	}
	pr := peer.rec.(*tcpRecord)
	if peer == e || pr.Peer != e.ID || pr.Listens || inetAddress(pr.Local) != inetAddress(r.Remote) || inetAddress(r.Local) != inetAddress(pr.Remote) {
		return fmt.Errorf("its other end is not connected to it")
	}
	// Who called whom shows only where a listener still has the address.
	server, client := e, peer
	if w.listenerAt(inetAddress(pr.Local)) {
		server, client = peer, e
	}
	sr, cr := server.rec.(*tcpRecord), client.rec.(*tcpRecord)
	called, calling, err := w.tcpCall(sr.Domain, sr.Local, sr.Options, cr.Domain, cr.Local, cr.Options)
	if err != nil {
		return err
	}
	w.put(server.ID, called)
	w.put(client.ID, calling)
	if w.other[server.ID], err = w.fetch(calling); err != nil {
		return err
	}
	w.other[client.ID], err = w.fetch(called)
	return err
}

func (w *tcpWork) listenerAt(a netip.AddrPort) bool {
	for _, e := range w.byKind[kindTCP] {
		r := e.rec.(*tcpRecord)
		if at := inetAddress(r.Local); r.Listens && at.Port() == a.Port() && (at.Addr() == a.Addr() || at.Addr().IsUnspecified()) {
			return true
		}
	}
	return false
}

// lost makes a connection whose other end closes as soon as it is filled.
func (w *tcpWork) lost(e *entry, r *tcpRecord) error {
	local, remote := r.Local, r.Remote
	if len(remote) == 0 {
		// It does not even have addresses any more.
		local, remote = nil, sockaddr(r.Domain, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0))
	}
	there, here, err := w.tcpCall(r.Domain, remote, nil, r.Domain, local, r.Options)
	if err != nil {
		return err
	}
	w.put(e.ID, here)
	w.gone = append(w.gone, there)
	w.other[e.ID], err = w.fetch(there)
	return err
}

// tcpCall connects two new sockets of pid 1 that have these addresses.
func (w *tcpWork) tcpCall(serverDomain int, server []byte, serverOptions []option, clientDomain int, client []byte, clientOptions []option) (called, calling int, err error) {
	listener, l, err := w.inetSocket(serverDomain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return -1, -1, err
	}
	defer w.close(listener)
	if err := w.tcpBind(l, server, serverOptions); err != nil {
		return -1, -1, err
	}
	if err := unix.Listen(l, 1); err != nil {
		return -1, -1, fmt.Errorf("listening: %w", err)
	}
	address, err := getsockname(l)
	if err != nil {
		return -1, -1, fmt.Errorf("asking for an address: %w", err)
	}
	calling, c, err := w.inetSocket(clientDomain, unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err != nil {
		return -1, -1, err
	}
	if err := w.tcpBind(c, client, clientOptions); err != nil {
		return -1, -1, err
	}
	to := inetAddress(address)
	if err := connectRaw(c, sockaddr(clientDomain, to)); err != nil {
		return -1, -1, fmt.Errorf("connecting to %s: %w", to, err)
	}
	set := []unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}}
	if _, err := unix.Poll(set, 2000); err != nil && err != unix.EINTR {
		return -1, -1, fmt.Errorf("waiting for the connection to %s: %w", to, err)
	}
	called, err = w.call(unix.SYS_ACCEPT4, uint64(listener), 0, 0, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("accepting the connection to %s: %w", to, err)
	}
	return called, calling, nil
}

// tcpBind binds a socket, if it has an address.
func (w *tcpWork) tcpBind(dup int, local []byte, options []option) error {
	if err := applySome(dup, options, beforeBind); err != nil {
		return err
	}
	// A size that the app has set is a little larger until all is in: what waits may have lain closer together.
	for _, o := range options {
		if isOption(o, unix.SOL_SOCKET, unix.SO_RCVBUF) && len(o.Value) == 4 {
			size := int(le.Uint32(o.Value))
			if err := unix.SetsockoptInt(dup, unix.SOL_SOCKET, unix.SO_RCVBUF, size+size/4); err != nil {
				return err
			}
		}
	}
	if len(local) == 0 {
		return nil
	}
	return bindTo(dup, local)
}

// rest makes listeners and what is not connected.
func (w *tcpWork) rest(e *entry, r *tcpRecord) error {
	if _, done := w.made[e.ID]; done {
		return nil
	}
	fd, dup, err := w.inetSocket(r.Domain, unix.SOCK_STREAM, r.Protocol)
	if err != nil {
		return err
	}
	w.put(e.ID, fd)
	if err := applySome(dup, r.Options, beforeBind); err != nil {
		return err
	}
	for _, l := range w.byKind[kindTCP] {
		for _, id := range l.rec.(*tcpRecord).Pending {
			if id == e.ID && len(r.Local) > 0 {
				return bindTo(dup, r.Local)
			}
		}
	}
	if len(r.Local) > 0 {
		if err := bindTo(dup, r.Local); err != nil {
			return err
		}
	}
	if !r.Listens {
		return nil
	}
	if err := unix.Listen(dup, max(r.Backlog, len(r.Pending))); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	return nil
}

// pending lets callers call again.
func (w *tcpWork) pending(_ *entry, r *tcpRecord) error {
	for _, id := range r.Pending {
		caller := w.byID[id].rec.(*tcpRecord)
		if w.done[id] || caller.Listens || len(caller.Remote) == 0 || !inetAddress(caller.Remote).Addr().IsValid() {
			return fmt.Errorf("caller %d calls twice, or nobody", id)
		}
		w.done[id] = true
		dup, err := w.fetch(w.made[id])
		if err != nil {
			return err
		}
		if err := connectRaw(dup, caller.Remote); err != nil {
			return fmt.Errorf("connecting to %s: %w", inetAddress(caller.Remote), err)
		}
	}
	return nil
}

// fill sends a socket what waited for it.
func (w *tcpWork) fill(e *entry, r *tcpRecord) error {
	if len(r.Queue) == 0 {
		return nil
	}
	from, ok := w.other[e.ID]
	if !ok {
		return fmt.Errorf("%d bytes wait in it, and it is not connected", len(r.Queue))
	}
	// For all of it: how much the sending end takes is tuned, too, by what has passed already. So the buffer of one that
	// is always full becomes larger with each move, up to net.ipv4.tcp_rmem. More room later would not help: the kernel
	// offers none until a sixteenth of all is free.
	if err := w.with(w.made[e.ID], func(dup int) error { return makeRoom(dup, max(r.Room/2, len(r.Queue))+roomMore) }); err != nil {
		return fmt.Errorf("making room for %d bytes: %w", len(r.Queue), err)
	}
	for rest := r.Queue; len(rest) > 0; {
		n, err := sendmsg(from, rest, nil, nil)
		if err == unix.EAGAIN {
			// The kernel makes room as acknowledgements come in.
			set := []unix.PollFd{{Fd: int32(from), Events: unix.POLLOUT}}
			if ready, err := unix.Poll(set, 500); err == nil && ready == 0 {
				return fmt.Errorf("%d of %d bytes that waited in it find no room: let the app read them, and move it again", len(rest), len(r.Queue))
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("sending %d bytes: %w", len(rest), err)
		}
		rest = rest[n:]
	}
	return nil
}

// roomMore is for what lay closer together in the old connection.
const roomMore = 512 << 10

// makeRoom gives a connection room for n bytes or more: a buffer of twice that size if nothing has come yet, about half
// of which is for what the kernel needs itself (tcp_set_rcvlowat in net/ipv4/tcp.c). SO_RCVBUF is bounded by
// net.core.rmem_max, usually 208 kB; this goes up to net.ipv4.tcp_rmem, as when the kernel tunes the size itself, which
// it goes on to do, and leaves alone a size that the app has set. A buffer should not become smaller again: the other end
// has been told of it, and what it sends then is dropped, and comes late.
func makeRoom(fd, n int) error {
	lowat, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, n); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, lowat); err != nil {
		return err
	}
	_, _, err = peekTCP(fd) // a look has the kernel tell the other end
	return err
}

func (w *tcpWork) settle(e *entry, r *tcpRecord) error {
	return w.with(w.made[e.ID], func(dup int) error {
		if err := afterBind(dup, r.Options); err != nil {
			return err
		}
		if r.Shutdown != 0 {
			if err := unix.Shutdown(dup, r.Shutdown-1); err != nil && err != unix.ENOTCONN {
				return fmt.Errorf("shutting it down: %w", err)
			}
		}
		_, err := unix.FcntlInt(uintptr(dup), unix.F_SETFL, openFlags(e.Handle)&^unix.O_ACCMODE)
		return err
	})
}
