package handle

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// option is a socket option that differs from a new socket's.
type option struct {
	Level int    `cbor:"1,keyasint"`
	Name  int    `cbor:"2,keyasint"`
	Value []byte `cbor:"3,keyasint"`
}

type optionName struct{ level, name, size int }

// Options that a move keeps, by family. Buffer sizes come first: they say how
// much fits. Times are struct timeval.
var (
	generalOptions = []optionName{
		{unix.SOL_SOCKET, unix.SO_SNDBUF, 4}, {unix.SOL_SOCKET, unix.SO_RCVBUF, 4}, {unix.SOL_SOCKET, unix.SO_RCVLOWAT, 4},
		{unix.SOL_SOCKET, unix.SO_RCVTIMEO, 16}, {unix.SOL_SOCKET, unix.SO_SNDTIMEO, 16}, {unix.SOL_SOCKET, unix.SO_LINGER, 8},
		{unix.SOL_SOCKET, unix.SO_TIMESTAMP, 4}, {unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 4},
	}
	unixOptions = append([]optionName{
		{unix.SOL_SOCKET, unix.SO_PASSCRED, 4}, {unix.SOL_SOCKET, soPassPidfd, 4}, {unix.SOL_SOCKET, unix.SO_PEEK_OFF, 4},
	}, generalOptions...)
	inetOptions = append([]optionName{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 4}, {unix.SOL_SOCKET, unix.SO_REUSEPORT, 4}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 4},
		{unix.SOL_SOCKET, unix.SO_OOBINLINE, 4}, {unix.SOL_SOCKET, unix.SO_PRIORITY, 4}, {unix.SOL_SOCKET, unix.SO_BROADCAST, 4},
		{unix.SOL_SOCKET, unix.SO_DONTROUTE, 4}, {unix.SOL_SOCKET, unix.SO_NO_CHECK, 4},
		{unix.IPPROTO_IP, unix.IP_TOS, 4}, {unix.IPPROTO_IP, unix.IP_TTL, 4}, {unix.IPPROTO_IP, unix.IP_PKTINFO, 4},
		{unix.IPPROTO_IP, unix.IP_RECVTTL, 4}, {unix.IPPROTO_IP, unix.IP_RECVTOS, 4}, {unix.IPPROTO_IP, unix.IP_RECVERR, 4},
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, 4}, {unix.IPPROTO_IP, unix.IP_FREEBIND, 4},
	}, generalOptions...)
	udpOptions   = []optionName{{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 4}, {unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 4}}
	inet6Options = []optionName{
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 4}, {unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 4}, {unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4},
		{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 4}, {unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 4}, {unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 4},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 4}, {unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, 4},
	}
	netlinkOptions = append([]optionName{
		{unix.SOL_NETLINK, unix.NETLINK_PKTINFO, 4}, {unix.SOL_NETLINK, unix.NETLINK_BROADCAST_ERROR, 4},
		{unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 4}, {unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 4},
		{unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 4}, {unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 4},
		{unix.SOL_SOCKET, unix.SO_PASSCRED, 4},
	}, generalOptions...)
	tcpOptions = []optionName{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 4}, {unix.IPPROTO_TCP, unix.TCP_CORK, 4}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 4},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 4}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4}, {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 4},
		{unix.IPPROTO_TCP, unix.TCP_LINGER2, 4}, {unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 4}, {unix.IPPROTO_TCP, unix.TCP_SYNCNT, 4},
		{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 4}, {unix.IPPROTO_TCP, unix.TCP_INQ, 4},
	}
)

func knownOption(o option) bool {
	for _, list := range [][]optionName{unixOptions, inetOptions, inet6Options, tcpOptions, udpOptions, netlinkOptions} {
		for _, n := range list {
			if n.level == o.Level && n.name == o.Name && len(o.Value) == n.size {
				return true
			}
		}
	}
	return false
}

func validOptions(options []option) error {
	if len(options) > 128 {
		return fmt.Errorf("%d socket options", len(options))
	}
	for _, o := range options {
		if !knownOption(o) {
			return fmt.Errorf("socket option %d of level %d in %d bytes", o.Name, o.Level, len(o.Value))
		}
	}
	return nil
}

// captureOptions records what differs from a new socket of the same kind.
func captureOptions(fd int, lists ...[]optionName) ([]option, error) {
	var arg [3]int
	for i, name := range []int{unix.SO_DOMAIN, unix.SO_TYPE, unix.SO_PROTOCOL} {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
		if err != nil {
			return nil, fmt.Errorf("asking for its kind: %w", err)
		}
		arg[i] = n
	}
	fresh, err := unix.Socket(arg[0], arg[1]|unix.SOCK_CLOEXEC, arg[2])
	if err != nil {
		return nil, fmt.Errorf("making a socket to compare with: %w", err)
	}
	defer unix.Close(fresh)
	var out []option
	for _, list := range lists {
		for _, n := range list {
			have, err := getsockopt(fd, n.level, n.name, n.size)
			if err != nil {
				continue // not an option of this kernel or kind
			}
			usual, err := getsockopt(fresh, n.level, n.name, n.size)
			if err == nil && bytes.Equal(have, usual) {
				continue
			}
			if n.level == unix.SOL_SOCKET && (n.name == unix.SO_SNDBUF || n.name == unix.SO_RCVBUF) {
				if arg[2] == unix.IPPROTO_TCP && !bufferLocked(fd, n.name) {
					continue // the kernel tunes it
				}
				// The kernel doubles what it is given (socket(7)).
				le.PutUint32(have, le.Uint32(have)/2)
			}
			out = append(out, option{n.level, n.name, have})
		}
	}
	return out, nil
}

func bufferLocked(fd, name int) bool {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	bit := 1 // SOCK_SNDBUF_LOCK
	if name == unix.SO_RCVBUF {
		bit = 2 // SOCK_RCVBUF_LOCK
	}
	return err != nil || n&bit != 0
}

func applyOptions(fd int, options []option) error {
	for _, o := range options {
		if err := setsockopt(fd, o.Level, o.Name, o.Value); err != nil {
			return fmt.Errorf("setting socket option %d of level %d: %w", o.Name, o.Level, err)
		}
	}
	return nil
}
