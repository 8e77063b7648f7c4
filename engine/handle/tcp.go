package handle

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A TCP socket: a listener with its backlog, a connection whose other end is
// in the capsule too, or one that is not connected. What waits in a connection, received
// or not yet sent, is recorded with the end that will read it.
//
// Rebound: by calling again from and to the same addresses. Nobody can see that
// sequence numbers differ, for both ends are inside. Refused: connections to peers outside,
// connections being made, and callers that sent something before they were accepted.
var tcpKind = &kind{name: kindTCP, capture: captureTCP, blank: func() record { return new(tcpRecord) }, rebind: rebindTCP}

type tcpRecord struct {
	Domain   int      `cbor:"1,keyasint"`
	Protocol int      `cbor:"2,keyasint"`           // TCP, or MPTCP for listeners
	Local    []byte   `cbor:"3,keyasint,omitempty"` // struct sockaddr
	Remote   []byte   `cbor:"4,keyasint,omitempty"`
	Listens  bool     `cbor:"5,keyasint,omitempty"`
	Backlog  int      `cbor:"6,keyasint,omitempty"`
	Pending  []uint32 `cbor:"7,keyasint,omitempty"` // callers to be accepted
	Peer     uint32   `cbor:"8,keyasint,omitempty"`
	Lost     bool     `cbor:"9,keyasint,omitempty"` // the other end is closed
	// Queue will be read here: received, and sent by the peer but not received.
	Queue    []byte   `cbor:"10,keyasint,omitempty"`
	Shutdown int      `cbor:"11,keyasint,omitempty"` // 1: receiving, 2: sending
	Options  []option `cbor:"12,keyasint,omitempty"`
	// Room is how large its receive buffer has become, in bytes as of SO_RCVBUF; 0: the app has set the size.
	Room int `cbor:"13,keyasint,omitempty"`
}

// maxTCPQueue is more than the usual limits of both ends together (net.ipv4.tcp_rmem: 32 MB at most, tcp_wmem: 4 MB).
const maxTCPQueue = 48 << 20

// More TCP states, net/tcp_states.h.
const (
	tcpSynSent  = 2
	tcpSynRecv  = 3
	tcpFinWait1 = 4
	tcpFinWait2 = 5
	tcpClose    = 7
	tcpLastAck  = 9
	tcpClosing  = 11

	protocolMPTCP = 262 // IPPROTO_MPTCP
	siocOutQ      = unix.TIOCOUTQ
)

func (r *tcpRecord) validate(refs *references) error {
	if (r.Domain != unix.AF_INET && r.Domain != unix.AF_INET6) || (r.Protocol != unix.IPPROTO_TCP && r.Protocol != protocolMPTCP) {
		return fmt.Errorf("a TCP socket of family %d and protocol %d", r.Domain, r.Protocol)
	}
	for _, raw := range [][]byte{r.Local, r.Remote} {
		if err := validSockaddr(raw, r.Domain); err != nil {
			return err
		}
	}
	if r.Backlog < 0 || r.Room < 0 || r.Room > 1<<30 || r.Shutdown < 0 || r.Shutdown > 3 || len(r.Queue) > maxTCPQueue {
		return fmt.Errorf("a backlog of %d, %d bytes waiting with room for %d, shut down to %d", r.Backlog, len(r.Queue), r.Room, r.Shutdown)
	}
	for _, id := range append([]uint32{r.Peer}, r.Pending...) {
		if id != 0 && refs.handles[id] != kindTCP {
			return fmt.Errorf("its other end is handle %d, which is no TCP socket", id)
		}
	}
	return validOptions(r.Options)
}

func captureTCP(c *capturer, d *desc) (record, error) {
	if err := c.inCapsule(d); err != nil {
		return nil, err
	}
	r := new(tcpRecord)
	var err error
	if r.Domain, err = unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return nil, fmt.Errorf("asking for its family: %w", err)
	}
	if r.Protocol, err = unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil {
		return nil, fmt.Errorf("asking for its protocol: %w", err)
	}
	if r.Local, err = getsockname(d.fd); err != nil {
		return nil, fmt.Errorf("asking for its address: %w", err)
	}
	if inetAddress(r.Local).Port() == 0 {
		r.Local = nil
	}
	if r.Options, err = captureOptions(d.fd, inetOptions, inet6Options, tcpOptions); err != nil {
		return nil, err
	}
	info, err := unix.GetsockoptTCPInfo(d.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return nil, fmt.Errorf("asking for its state: %w", err)
	}
	listens, err := unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return nil, fmt.Errorf("asking for its state: %w", err)
	}
	if listens != 0 {
		r.Listens, r.Backlog = true, int(info.Sacked) // tcp_get_info: the backlog of a listener
		return r, c.tcpPending(r, int(info.Unacked))
	}
	// The app stands still, the kernel does not: it goes on delivering what was sent. Only a look at both ends
	// during which nothing came has each byte once. It ends, for nobody reads.
	tuned := !bufferLocked(d.fd, unix.SO_RCVBUF)
	for deadline := time.Now().Add(time.Second); ; {
		seen := *r
		err := c.tcpConnection(d, &seen, info)
		after, failed := unix.GetsockoptTCPInfo(d.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		switch {
		case failed != nil:
			return nil, fmt.Errorf("asking for its state: %w", failed)
		case err == errStillSends && tuned && time.Now().Before(deadline):
			if err := letIn(d.fd); err != nil {
				return nil, fmt.Errorf("making room for what its other end has sent: %w", err)
			}
		case err == errStillSends:
			return nil, refuse(cureAgain, "a connection to %s, whose other end is closed and still sends", inetAddress(seen.Remote))
		case after.Bytes_received == info.Bytes_received && after.State == info.State:
			if err == nil && tuned {
				if seen.Room, err = unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil {
					err = fmt.Errorf("asking for the size of its buffer: %w", err)
				}
			}
			return &seen, err
		case time.Now().After(deadline):
			return nil, refuse(cureAgain, "a network connection in which bytes are still arriving")
		}
		info = after
	}
}

// errStillSends: the other end has been closed, and what was written there before is not all here.
var errStillSends = errors.New("its other end is closed and still sends")

// letIn has the kernel deliver what waits at an end that nobody has any more, so that it can be seen at this one. That
// does not help if the app has set the size of its buffer, or more waits there than the kernel gives room for.
func letIn(fd int) error {
	err := makeRoom(fd, maxTCPQueue)
	time.Sleep(time.Millisecond)
	return err
}

// tcpConnection finds the other end of a connection, and what waits in it.
func (c *capturer) tcpConnection(d *desc, r *tcpRecord, info *unix.TCPInfo) error {
	switch info.State {
	case tcpSynSent, tcpSynRecv:
		return refuse(cureAgain, "a network connection that is being made")
	case tcpFinWait1, tcpFinWait2, tcpClosing, tcpLastAck:
		r.Shutdown = 2
	}
	if r.Protocol == protocolMPTCP && info.State != tcpClose {
		return refuse(cureClose, "a multi-path network connection (MPTCP)")
	}
	remote, err := getpeername(d.fd)
	if err != nil && err != unix.ENOTCONN {
		return fmt.Errorf("asking a socket for its peer: %w", err)
	}
	ended := false
	if r.Queue, ended, err = peekTCP(d.fd); err != nil {
		return err
	}
	if remote == nil {
		// Not connected, or over altogether.
		r.Lost = ended || len(r.Queue) > 0
		return nil
	}
	r.Remote = remote
	local, there := inetAddress(r.Local), inetAddress(remote)
	if peer := c.tcpAt(there, local); peer != nil {
		r.Peer = peer.id
		unsent, err := c.tcpUnsent(peer, d)
		if err != nil {
			return err
		}
		if len(r.Queue)+len(unsent) > maxTCPQueue {
			return refuse("let the app read it first", "a network connection with %d bytes waiting in it", len(r.Queue)+len(unsent))
		}
		r.Queue = append(r.Queue, unsent...)
		if info.State == tcpEstablished && ended {
			r.Shutdown |= 1
		}
		return nil
	}
	if !there.Addr().IsLoopback() && there.Addr() != local.Addr() {
		return refuseConnection(there.String())
	}
	if info.State == tcpEstablished && !ended {
		if c.tcpWaiting(d) {
			return nil // the listener's record names it
		}
		return errStillSends // for nothing but the capsule is in its network
	}
	r.Lost = true
	return nil
}

// tcpAt finds a captured connection by its two addresses.
func (c *capturer) tcpAt(local, remote netip.AddrPort) *desc {
	for _, d := range c.descs {
		if d.kind == nil || d.kind.name != kindTCP {
			continue
		}
		l, err := getsockname(d.fd)
		if err != nil || inetAddress(l) != local {
			continue
		}
		if r, err := getpeername(d.fd); err == nil && inetAddress(r) == remote {
			return d
		}
	}
	return nil
}

// tcpListener finds the captured listener that an address belongs to.
func (c *capturer) tcpListener(a netip.AddrPort) *desc {
	for _, d := range c.descs {
		if d.kind == nil || d.kind.name != kindTCP {
			continue
		}
		if n, err := unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || n == 0 {
			continue
		}
		l, err := getsockname(d.fd)
		at := inetAddress(l)
		if err == nil && at.Port() == a.Port() && (at.Addr() == a.Addr() || at.Addr().IsUnspecified()) {
			return d
		}
	}
	return nil
}

// tcpWaiting reports whether a caller may still wait to be accepted.
func (c *capturer) tcpWaiting(d *desc) bool {
	r, err := getpeername(d.fd)
	if err != nil {
		return false
	}
	l := c.tcpListener(inetAddress(r))
	if l == nil {
		return false
	}
	info, err := unix.GetsockoptTCPInfo(l.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.Unacked > 0
}

// tcpPending finds the callers that wait for a listener.
func (c *capturer) tcpPending(r *tcpRecord, waiting int) error {
	if waiting == 0 {
		return nil
	}
	me := inetAddress(r.Local)
	for _, d := range c.descs {
		if d.kind == nil || d.kind.name != kindTCP {
			continue
		}
		remote, err := getpeername(d.fd)
		if err != nil {
			continue
		}
		to := inetAddress(remote)
		local, err := getsockname(d.fd)
		if err != nil || to.Port() != me.Port() || (to.Addr() != me.Addr() && !me.Addr().IsUnspecified()) || c.tcpAt(to, inetAddress(local)) != nil {
			continue
		}
		info, err := unix.GetsockoptTCPInfo(d.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil || info.State != tcpEstablished {
			continue
		}
		if info.Bytes_sent > 0 {
			return refuse(cureAgain, "a connection to %s that waits to be accepted, with bytes in it already", me)
		}
		r.Pending = append(r.Pending, d.id)
	}
	if len(r.Pending) != waiting {
		return refuse(cureAgain, "a connection to %s that waits to be accepted, whose caller has gone or is outside the capsule", me)
	}
	return nil
}

// peekTCP reads what was received and leaves it there. ended: nothing follows.
func peekTCP(fd int) (data []byte, ended bool, err error) {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return nil, false, fmt.Errorf("asking how much waits in it: %w", err)
	}
	if n > maxTCPQueue {
		return nil, false, refuse("let the app read it first", "a network connection with %d bytes waiting in it", n)
	}
	// One byte more than there is: then the answer also tells of an end.
	m, err := recvmsg(fd, make([]byte, n+1), nil, unix.MSG_PEEK)
	switch {
	case err == unix.EAGAIN, err == unix.ENOTCONN:
		return nil, false, nil
	case err == unix.ECONNRESET, err == unix.EPIPE, err == unix.ETIMEDOUT:
		return nil, true, nil
	case err != nil:
		return nil, false, fmt.Errorf("looking into it: %w", err)
	}
	return m.data, len(m.data) == 0, nil
}
