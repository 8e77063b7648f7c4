package handle

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What TCP and UDP share: addresses, and the check that a socket is of the
// capsule's own network.

// inetAddress reads a struct sockaddr_in or sockaddr_in6; addresses of IPv4 in
// IPv6 come as IPv4.
func inetAddress(raw []byte) netip.AddrPort {
	if len(raw) < 8 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(raw[2:])
	switch family := binary.NativeEndian.Uint16(raw); {
	case family == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[4:8])), port)
	case family == unix.AF_INET6 && len(raw) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(raw[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// sockaddr writes an address for a socket of a family.
func sockaddr(domain int, a netip.AddrPort) []byte {
	if domain == unix.AF_INET {
		raw := make([]byte, 16)
		binary.NativeEndian.PutUint16(raw, unix.AF_INET)
		binary.BigEndian.PutUint16(raw[2:], a.Port())
		if a.Addr().Is4() {
			ip := a.Addr().As4()
			copy(raw[4:], ip[:])
		}
		return raw
	}
	raw := make([]byte, 28)
	binary.NativeEndian.PutUint16(raw, unix.AF_INET6)
	binary.BigEndian.PutUint16(raw[2:], a.Port())
	if a.IsValid() {
		ip := a.Addr().As16()
		copy(raw[8:], ip[:])
	}
	return raw
}

// validSockaddr: none, or as long as its family wants it.
func validSockaddr(raw []byte, domain int) error {
	if len(raw) == 0 {
		return nil
	}
	want := map[int]int{unix.AF_INET: 16, unix.AF_INET6: 28}[domain]
	if len(raw) != want || int(binary.NativeEndian.Uint16(raw)) != domain {
		return fmt.Errorf("an address of %d bytes for family %d", len(raw), domain)
	}
	return nil
}

// soNetnsCookie names a socket's network namespace, asm-generic/socket.h.
const soNetnsCookie = 71

// inCapsule refuses sockets of another network namespace than the capsule's.
func (c *capturer) inCapsule(d *desc) error {
	if c.in.Diag < 0 {
		return nil
	}
	theirs, err := getsockopt(d.fd, unix.SOL_SOCKET, soNetnsCookie, 8)
	if err != nil {
		return nil // a kernel that does not tell
	}
	ours, err := getsockopt(c.in.Diag, unix.SOL_SOCKET, soNetnsCookie, 8)
	if err == nil && string(ours) != string(theirs) {
		return refuse(cureClose, "a network socket that was made outside the capsule")
	}
	return nil
}

// inetSocket makes a socket in pid 1 and a duplicate of it here.
func (b *binder) inetSocket(domain, kind, protocol int) (fd, dup int, err error) {
	if fd, err = b.call(unix.SYS_SOCKET, uint64(domain), uint64(kind), uint64(protocol)); err != nil {
		return -1, -1, fmt.Errorf("making it: %w", err)
	}
	dup, err = b.fetch(fd)
	return fd, dup, err
}

func isOption(o option, level, name int) bool { return o.Level == level && o.Name == name }

// beforeBind are options that decide how binding goes, and how much fits.
func beforeBind(o option) bool {
	return isOption(o, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) || isOption(o, unix.SOL_SOCKET, unix.SO_REUSEPORT) ||
		isOption(o, unix.IPPROTO_IP, unix.IP_FREEBIND) || isOption(o, unix.SOL_SOCKET, unix.SO_RCVBUF) || isOption(o, unix.SOL_SOCKET, unix.SO_SNDBUF)
}

func applySome(fd int, options []option, which func(option) bool) error {
	for _, o := range options {
		if which(o) {
			if err := applyOptions(fd, []option{o}); err != nil {
				return err
			}
		}
	}
	return nil
}

// afterBind sets the rest, and SO_REUSEADDR, which rebinding set everywhere.
func afterBind(fd int, options []option) error {
	reuse := option{unix.SOL_SOCKET, unix.SO_REUSEADDR, make([]byte, 4)}
	if err := applyOptions(fd, []option{reuse}); err != nil {
		return err
	}
	return applySome(fd, options, func(o option) bool { return !isOption(o, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) })
}

func bindTo(dup int, local []byte) error {
	if err := unix.SetsockoptInt(dup, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := bindRaw(dup, local); err != nil {
		a := inetAddress(local)
		if err == unix.EADDRNOTAVAIL {
			return fmt.Errorf("binding it to %s, an address that the capsule does not have here: %w", a, err)
		}
		return fmt.Errorf("binding it to %s: %w", a, err)
	}
	return nil
}
