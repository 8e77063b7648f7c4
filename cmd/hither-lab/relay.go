package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// packetRelay delays and loses packets where the kernel has no netem: it stands between the switch
// and a host's port, and carries each packet by hand.
//
//	switch == in-a ==veth== out-a -- delayed, some lost --> port-a == host
//	                        out-a <------ at once --------- port-a
//
// Packets keep their offloads (PACKET_VNET_HDR): a bundle of up to 64 kB that one host sent is one
// packet here, as it is to netem.
type packetRelay struct {
	inner, outer *os.File // sockets on out-a and port-a
	shape        shape
	queue        chan delayed
	wg           sync.WaitGroup
}

type delayed struct {
	due    time.Time
	packet []byte
}

const (
	maxPacket = 10 + 14 + 8 + 65536 // virtio header, Ethernet header, room for tags, the rest
	// relayQueue is how many packets can be under way at once; a home's line holds less.
	relayQueue = 16384
)

func innerName(host string) string { return "in-" + host }
func outerName(host string) string { return "out-" + host }

// openRelay puts a relay between the switch and a host's port.
func openRelay(host string, s shape, bridge, port netlink.Link, cut bool) (*packetRelay, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = innerName(host)
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: outerName(host)}
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("making room for the relay: %w", err)
	}
	r := &packetRelay{shape: s, queue: make(chan delayed, relayQueue)}
	err := r.join(host, pair, bridge, port, cut)
	if err != nil {
		r.shut(host)
		return nil, err
	}
	r.wg.Add(3)
	go r.back()
	go r.take()
	go r.deliver()
	return r, nil
}

func (r *packetRelay) join(host string, pair, bridge, port netlink.Link, cut bool) error {
	out, err := netlink.LinkByName(outerName(host))
	if err != nil {
		return fmt.Errorf("finding the relay's own link: %w", err)
	}
	if err := errors.Join(netlink.LinkSetNoMaster(port), netlink.LinkSetUp(out), netlink.LinkSetUp(pair)); err != nil {
		return fmt.Errorf("setting the relay's links up: %w", err)
	}
	if !cut {
		if err := netlink.LinkSetMaster(pair, bridge); err != nil {
			return fmt.Errorf("joining the relay to the switch: %w", err)
		}
	}
	if r.inner, err = packetSocket(out.Attrs().Index); err != nil {
		return err
	}
	r.outer, err = packetSocket(port.Attrs().Index)
	return err
}

// close takes the relay away and puts the port back to the switch, unless it is cut.
func (r *packetRelay) close(host string, bridge, port netlink.Link, cut bool) error {
	r.shut(host)
	r.wg.Wait()
	if cut {
		return nil
	}
	if err := netlink.LinkSetMaster(port, bridge); err != nil {
		return fmt.Errorf("joining the port of host %s to the switch again: %w", host, err)
	}
	return nil
}

func (r *packetRelay) shut(host string) {
	for _, f := range []*os.File{r.inner, r.outer} {
		if f != nil {
			f.Close()
		}
	}
	if l, err := netlink.LinkByName(innerName(host)); err == nil {
		netlink.LinkDel(l) // its other end goes with it
	}
}

func packetSocket(index int) (*os.File, error) {
	// No protocol yet: nothing may arrive before the socket is bound to its link.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the relay's socket: this kernel has neither netem nor packet sockets: %w", err)
	}
	f := os.NewFile(uintptr(fd), "relay")
	all := uint16(unix.ETH_P_ALL)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20),
	)
	if errors.Is(err, unix.EPERM) {
		err = nil // larger buffers are for those who own the machine; the rest worked or fails below
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index})
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("setting the relay's socket up: %w", err)
	}
	return f, nil
}

// back carries what the host sends.
func (r *packetRelay) back() {
	defer r.wg.Done()
	buf := make([]byte, maxPacket)
	for {
		n, err := r.outer.Read(buf)
		if stopped(err) {
			return
		}
		if err == nil {
			r.inner.Write(buf[:n]) // what does not fit is lost, as on any link
		}
	}
}

// take receives what goes to the host, and loses some of it.
func (r *packetRelay) take() {
	defer r.wg.Done()
	defer close(r.queue)
	buf := make([]byte, maxPacket)
	for {
		n, err := r.inner.Read(buf)
		if stopped(err) {
			return
		}
		if err != nil || rand.Float64()*100 < r.shape.Loss {
			continue
		}
		select {
		case r.queue <- delayed{time.Now().Add(time.Duration(r.shape.Delay) * time.Microsecond), append([]byte(nil), buf[:n]...)}:
		default:
		}
	}
}

// deliver hands packets on when their time has come; all wait equally long, so they stay in order.
func (r *packetRelay) deliver() {
	defer r.wg.Done()
	for d := range r.queue {
		if wait := time.Until(d.due); wait > 0 {
			time.Sleep(wait)
		}
		r.outer.Write(d.packet)
	}
}

// stopped tells a closed relay from a link that is down for now.
func stopped(err error) bool {
	return err != nil && (errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ENODEV))
}
