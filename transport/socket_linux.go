package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	groBuffer = 64 << 10 // the kernel joins up to 64 KiB of packets of one sender
	groOOB    = 256
)

// socket is the one UDP socket of an endpoint, as quic-go wants to see it
// (quic.OOBCapablePacketConn), with two things quic-go does not do by itself.
//
// It has the kernel join packets of one sender (UDP_GRO) and cuts them apart
// again: a fourth more throughput.
//
// It takes errors that say "not now" as lost packets. quic-go would end the
// connection at the first one, and a link that is down for a second, an
// address that is being renewed or a full queue give plenty. QUIC sends again
// what is lost, and its idle timeout finds out what stays lost.
type socket struct {
	*net.UDPConn

	// Only quic-go's one reading goroutine uses what follows.
	data    []byte // of the last read
	rest    []byte // what of data was not yet handed out
	size    int    // of each packet in rest, except the last
	oob     []byte
	control []byte // what of oob quic-go wants
	from    netip.AddrPort
	addr    *net.UDPAddr // from, as quic-go wants it
}

func listenSocket(addr string) (*socket, error) {
	udp, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: %w", addr, err)
	}
	conn, err := net.ListenUDP("udp", udp)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: %w", addr, err)
	}
	s := &socket{UDPConn: conn, data: make([]byte, groBuffer), oob: make([]byte, groOOB)}
	raw, err := conn.SyscallConn()
	if err == nil {
		// A kernel before 5.0 refuses; packets then come one by one.
		err = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		})
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("setting up the socket on %q: %w", addr, err)
	}
	return s, nil
}

// ReadBatch fills one or more messages with a packet each. quic-go calls it
// because it is there, instead of reading from the descriptor itself.
func (s *socket) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	for len(s.rest) == 0 {
		if err := s.read(); err != nil {
			if passing(err) {
				continue // an error of one packet, which the kernel then forgets
			}
			return 0, err
		}
	}
	n := 0
	for n < len(ms) && len(s.rest) > 0 {
		packet := s.rest[:min(s.size, len(s.rest))]
		s.rest = s.rest[len(packet):]
		m := &ms[n]
		m.N = copy(m.Buffers[0], packet) // longer than QUIC's packets: not QUIC
		m.NN = copy(m.OOB, s.control)
		m.Addr = s.addr
		n++
	}
	return n, nil
}

func (s *socket) read() error {
	n, oobn, _, from, err := s.ReadMsgUDPAddrPort(s.data, s.oob)
	if err != nil {
		return err
	}
	if from != s.from {
		s.from = from
		s.addr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	}
	s.rest, s.size, s.control = s.data[:n], n, s.control[:0]
	each(s.oob[:oobn], func(level, kind int32, body, whole []byte) {
		if level == unix.IPPROTO_UDP && kind == unix.UDP_GRO {
			if len(body) >= 4 {
				if size := int(int32(binary.NativeEndian.Uint32(body))); size > 0 {
					s.size = size
				}
			}
			return
		}
		s.control = append(s.control, whole...)
	})
	return nil
}

// WriteMsgUDP sends a packet, or several of one size (UDP_SEGMENT in oob).
func (s *socket) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (int, int, error) {
	n, oobn, err := s.UDPConn.WriteMsgUDP(b, oob, addr)
	if err == nil || !passing(err) {
		return n, oobn, err
	}
	// quic-go answers from the address it was asked at. If this host has lost
	// that address, any other one will do: the peer knows us by our key.
	if free, had := withoutSource(oob); had {
		if _, _, err := s.UDPConn.WriteMsgUDP(b, free, addr); err != nil && !passing(err) {
			return n, oobn, err
		}
	}
	return len(b), len(oob), nil
}

// passing tells an error that may be over in a moment. EMSGSIZE is not one of
// them: quic-go finds the path's MTU by it.
func passing(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.EADDRNOTAVAIL, unix.ENOBUFS, unix.EPERM, unix.EINVAL,
		unix.ECONNREFUSED, unix.ENODEV:
		return true
	}
	return false
}

// withoutSource takes the source address and interface out of the control
// messages of a packet to be sent.
func withoutSource(oob []byte) (free []byte, had bool) {
	each(oob, func(level, kind int32, _, whole []byte) {
		if level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO || level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO {
			had = true
			return
		}
		free = append(free, whole...)
	})
	return free, had
}

// each walks over control messages. One whose length goes beyond the end is
// left out; the kernel does not make such.
func each(oob []byte, f func(level, kind int32, body, whole []byte)) {
	for len(oob) >= unix.SizeofCmsghdr {
		head, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		f(head.Level, head.Type, body, oob[:len(oob)-len(rest)])
		oob = rest
	}
}
