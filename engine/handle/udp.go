package handle

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A UDP socket: its address, whom it is connected to, its options, and the
// datagrams that wait in it, sent again from the address they came from where that is
// inside. Those of senders outside are lost, as datagrams may be. Not carried:
// memberships of multicast groups.
var udpKind = &kind{name: kindUDP, capture: captureUDP, blank: func() record { return new(udpRecord) }, rebind: rebindUDP}

type udpRecord struct {
	Domain  int        `cbor:"1,keyasint"`
	Local   []byte     `cbor:"2,keyasint,omitempty"` // struct sockaddr
	Remote  []byte     `cbor:"3,keyasint,omitempty"`
	Queue   []datagram `cbor:"4,keyasint,omitempty"`
	Options []option   `cbor:"5,keyasint,omitempty"`
}

type datagram struct {
	From []byte `cbor:"1,keyasint"`
	Data []byte `cbor:"2,keyasint"`
}

func (r *udpRecord) validate(*references) error {
	if r.Domain != unix.AF_INET && r.Domain != unix.AF_INET6 {
		return fmt.Errorf("a UDP socket of family %d", r.Domain)
	}
	for _, raw := range [][]byte{r.Local, r.Remote} {
		if err := validSockaddr(raw, r.Domain); err != nil {
			return err
		}
	}
	for _, d := range r.Queue {
		if err := validSockaddr(d.From, r.Domain); err != nil {
			return err
		}
		if len(d.Data) > 1<<16 {
			return fmt.Errorf("a datagram of %d bytes", len(d.Data))
		}
	}
	return validOptions(r.Options)
}

func captureUDP(c *capturer, d *desc) (record, error) {
	if err := c.inCapsule(d); err != nil {
		return nil, err
	}
	r := new(udpRecord)
	var err error
	if r.Domain, err = unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return nil, fmt.Errorf("asking for its family: %w", err)
	}
	local, err := getsockname(d.fd)
	if err != nil {
		return nil, fmt.Errorf("asking for its address: %w", err)
	}
	if inetAddress(local).Port() != 0 {
		r.Local = local
	}
	if remote, err := getpeername(d.fd); err == nil {
		r.Remote = remote
	}
	if r.Options, err = captureOptions(d.fd, inetOptions, inet6Options, udpOptions); err != nil {
		return nil, err
	}
	old, err := unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF)
	if err != nil {
		return nil, fmt.Errorf("looking into its queue: %w", err)
	}
	if err := unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, 0); err != nil {
		return nil, fmt.Errorf("looking into its queue: %w", err)
	}
	defer unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, old)
	buf, control := make([]byte, 1<<16), make([]byte, 1024)
	for len(r.Queue) < maxElements {
		m, err := recvmsg(d.fd, buf, control, unix.MSG_PEEK)
		if err != nil {
			break // nothing more, or an ICMP error, which passes
		}
		if validSockaddr(m.name, r.Domain) == nil && len(m.name) > 0 {
			r.Queue = append(r.Queue, datagram{m.name, append([]byte(nil), m.data...)})
		}
	}
	return r, nil
}

func rebindUDP(b *binder, entries []*entry) error {
	dups := map[uint32]int{}
	bound := map[netip.AddrPort]int{}
	each := func(doing string, fn func(e *entry, r *udpRecord, dup int) error) error {
		for _, e := range entries {
			if err := fn(e, e.rec.(*udpRecord), dups[e.ID]); err != nil {
				return fmt.Errorf("%s a UDP socket: %w", doing, err)
			}
		}
		return nil
	}
	err := each("making", func(e *entry, r *udpRecord, _ int) error {
		fd, dup, err := b.inetSocket(r.Domain, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
		if err != nil {
			return err
		}
		b.put(e.ID, fd)
		dups[e.ID] = dup
		if err := applySome(dup, r.Options, beforeBind); err != nil {
			return err
		}
		if len(r.Local) > 0 {
			err := bindTo(dup, r.Local)
			if errors.Is(err, unix.EADDRNOTAVAIL) && len(r.Remote) > 0 {
				// The address was chosen for it when it connected, and will be again.
				err = bindTo(dup, sockaddr(r.Domain, netip.AddrPortFrom(netip.IPv6Unspecified(), inetAddress(r.Local).Port())))
			}
			if err != nil {
				return err
			}
			bound[inetAddress(r.Local)] = dup
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := each("filling", func(_ *entry, r *udpRecord, _ int) error { return b.fillUDP(r, bound) }); err != nil {
		return err
	}
	return each("setting", func(e *entry, r *udpRecord, dup int) error {
		if len(r.Remote) > 0 {
			if err := connectRaw(dup, r.Remote); err != nil {
				return fmt.Errorf("connecting it to %s: %w", inetAddress(r.Remote), err)
			}
		}
		if err := afterBind(dup, r.Options); err != nil {
			return err
		}
		_, err := unix.FcntlInt(uintptr(dup), unix.F_SETFL, openFlags(e.Handle)&^unix.O_ACCMODE)
		return err
	})
}

// fillUDP sends again what waited. Bound sockets are not connected yet.
func (b *binder) fillUDP(r *udpRecord, bound map[netip.AddrPort]int) error {
	for _, d := range r.Queue {
		from, to := inetAddress(d.From), inetAddress(r.Local)
		if !to.IsValid() || to.Port() == 0 {
			continue
		}
		if to.Addr().IsUnspecified() {
			to = netip.AddrPortFrom(from.Addr(), to.Port())
		}
		sender, ok := bound[from]
		if !ok {
			fd, dup, err := b.inetSocket(r.Domain, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
			if err != nil {
				return err
			}
			b.temporary(fd)
			if bindTo(dup, d.From) != nil {
				continue // its sender is outside
			}
			sender, bound[from] = dup, dup
		}
		domain, err := unix.GetsockoptInt(sender, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return err
		}
		if _, err := sendmsg(sender, d.Data, nil, sockaddr(domain, to)); err != nil {
			continue // as the network may do
		}
	}
	return nil
}
