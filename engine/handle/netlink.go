package handle

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// A netlink socket (netlink(7)): its protocol, its port, the groups it listens to
// and its options. Many programs hold one to hear of changes of the network (GLib's
// network monitor, browsers) or of devices (libudev). What waits in it is not
// carried: it told of another machine's network, and is lost as the kernel may lose it.
// Refused: protocols that change or govern the machine.
var netlinkKind = &kind{name: kindNetlink, capture: captureNetlink, blank: func() record { return new(netlinkRecord) }, rebind: rebindNetlinks}

type netlinkRecord struct {
	Type     int      `cbor:"1,keyasint"`
	Protocol int      `cbor:"2,keyasint"`
	Local    []byte   `cbor:"3,keyasint,omitempty"` // struct sockaddr_nl; none: not bound
	Remote   []byte   `cbor:"4,keyasint,omitempty"`
	Groups   []int    `cbor:"5,keyasint,omitempty"` // above the 32 of an address
	Options  []option `cbor:"6,keyasint,omitempty"`
}

// Of linux/netlink.h.
const (
	netlinkAddress     = 12 // struct sockaddr_nl: family, 2 bytes, port, groups
	netlinkMemberships = 9  // NETLINK_LIST_MEMBERSHIPS
	netlinkGroupBytes  = 64
	maxNetlinkGroup    = 8 * netlinkGroupBytes
)

// carriedNetlink are the protocols whose sockets mean the same elsewhere.
var carriedNetlink = map[int]bool{unix.NETLINK_ROUTE: true, unix.NETLINK_SOCK_DIAG: true, unix.NETLINK_KOBJECT_UEVENT: true}

func (r *netlinkRecord) validate(*references) error {
	if !carriedNetlink[r.Protocol] || r.Type != unix.SOCK_RAW && r.Type != unix.SOCK_DGRAM {
		return fmt.Errorf("a netlink socket of type %d and protocol %d", r.Type, r.Protocol)
	}
	for _, raw := range [][]byte{r.Local, r.Remote} {
		if raw != nil && (len(raw) != netlinkAddress || binary.LittleEndian.Uint16(raw) != unix.AF_NETLINK) {
			return fmt.Errorf("an address of a netlink socket in %d bytes", len(raw))
		}
	}
	for _, g := range r.Groups {
		if g < 1 || g > maxNetlinkGroup {
			return fmt.Errorf("netlink group %d", g)
		}
	}
	if len(r.Groups) > maxNetlinkGroup {
		return fmt.Errorf("%d netlink groups", len(r.Groups))
	}
	return validOptions(r.Options)
}

func captureNetlink(c *capturer, d *desc) (record, error) {
	if err := c.inCapsule(d); err != nil {
		return nil, err
	}
	r := new(netlinkRecord)
	var err error
	if r.Type, err = unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil {
		r.Protocol, err = unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	}
	if err != nil {
		return nil, fmt.Errorf("asking for its protocol: %w", err)
	}
	if r.Local, err = getsockname(d.fd); err != nil {
		return nil, fmt.Errorf("asking for its address: %w", err)
	}
	nothing := make([]byte, netlinkAddress-4)
	if len(r.Local) != netlinkAddress || slices.Equal(r.Local[4:], nothing) {
		r.Local = nil
	}
	if r.Remote, err = getpeername(d.fd); err != nil || len(r.Remote) != netlinkAddress || slices.Equal(r.Remote[4:], nothing) {
		r.Remote = nil
	}
	// Groups up to 32 are in the address.
	if groups, err := getsockopt(d.fd, unix.SOL_NETLINK, netlinkMemberships, netlinkGroupBytes); err == nil {
		for g := 33; g <= 8*len(groups); g++ {
			if groups[(g-1)/8]&(1<<((g-1)%8)) != 0 {
				r.Groups = append(r.Groups, g)
			}
		}
	}
	r.Options, err = captureOptions(d.fd, netlinkOptions)
	return r, err
}

func rebindNetlinks(b *binder, entries []*entry) error {
	for _, e := range entries {
		if err := b.netlink(e, e.rec.(*netlinkRecord)); err != nil {
			return fmt.Errorf("making a netlink socket: %w", err)
		}
	}
	return nil
}

func (b *binder) netlink(e *entry, r *netlinkRecord) error {
	fd, dup, err := b.inetSocket(unix.AF_NETLINK, r.Type, r.Protocol)
	if err != nil {
		return err
	}
	b.put(e.ID, fd)
	if err := applyOptions(dup, r.Options); err != nil {
		return err
	}
	if r.Local != nil {
		if err := bindRaw(dup, r.Local); err != nil {
			return fmt.Errorf("binding it to port %d: %w", binary.LittleEndian.Uint32(r.Local[4:]), err)
		}
	}
	for _, g := range r.Groups {
		if err := unix.SetsockoptInt(dup, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return fmt.Errorf("joining group %d: %w", g, err)
		}
	}
	if r.Remote != nil {
		if err := connectRaw(dup, r.Remote); err != nil {
			return fmt.Errorf("connecting it: %w", err)
		}
	}
	_, err = unix.FcntlInt(uintptr(dup), unix.F_SETFL, openFlags(e.Handle)&^unix.O_ACCMODE)
	return err
}
