package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	mdnsPort    = 5353
	maxPacket   = 9000 // RFC 6762, section 17
	maxPackets  = 500  // a second, of each IP version; a flood gets lost above that
	waitForNext = 100 * time.Millisecond
)

var (
	mdnsGroup4 = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: mdnsPort}
	mdnsGroup6 = &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: mdnsPort}
)

// radio is the two sockets of multicast DNS, one for each IP version, on a set
// of links. Other programs of this machine, such as avahi, have the port too:
// everybody hears all.
type radio struct {
	v4      *ipv4.PacketConn
	v6      *ipv6.PacketConn
	packets chan packet
	done    chan struct{}
	work    sync.WaitGroup
}

// packet is one that was heard.
type packet struct {
	data []byte
	link int // index of the interface
	six  bool
}

// tune opens a radio. It is an error only if nothing can be heard at all.
func tune(links []link) (*radio, error) {
	r := &radio{packets: make(chan packet, 64), done: make(chan struct{})}
	// The net package knows from a multicast address that the port is to be
	// shared, and listens on all addresses.
	c4, err4 := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(224, 0, 0, 0), Port: mdnsPort})
	if err4 == nil {
		r.v4 = ipv4.NewPacketConn(c4)
		err4 = errors.Join(r.v4.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true), r.v4.SetMulticastTTL(255))
	}
	c6, err6 := net.ListenUDP("udp6", &net.UDPAddr{IP: net.ParseIP("ff02::"), Port: mdnsPort})
	if err6 == nil {
		r.v6 = ipv6.NewPacketConn(c6)
		err6 = errors.Join(r.v6.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true), r.v6.SetMulticastHopLimit(255))
	}
	if err4 != nil && err6 != nil {
		r.close()
		return nil, fmt.Errorf("listening to the local network: %w", errors.Join(err4, err6))
	}
	for _, l := range links { // a link that cannot be joined is silent
		if r.v4 != nil && l.four() {
			_ = r.v4.JoinGroup(&l.Interface, mdnsGroup4)
		}
		if r.v6 != nil && l.six() {
			_ = r.v6.JoinGroup(&l.Interface, mdnsGroup6)
		}
	}
	if r.v4 != nil {
		r.work.Go(func() {
			r.hear(false, func(b []byte) (n, link int, to net.IP, from net.Addr, err error) {
				n, c, from, err := r.v4.ReadFrom(b)
				if c != nil {
					link, to = c.IfIndex, c.Dst
				}
				return n, link, to, from, err
			})
		})
	}
	if r.v6 != nil {
		r.work.Go(func() {
			r.hear(true, func(b []byte) (n, link int, to net.IP, from net.Addr, err error) {
				n, c, from, err := r.v6.ReadFrom(b)
				if c != nil {
					link, to = c.IfIndex, c.Dst
				}
				return n, link, to, from, err
			})
		})
	}
	return r, nil
}

// hear passes on what comes by multicast, from the port of multicast DNS: so
// it comes from the link, not from far away.
func (r *radio) hear(six bool, read func([]byte) (int, int, net.IP, net.Addr, error)) {
	buffer := make([]byte, maxPacket)
	second, heard := time.Now(), 0
	for {
		n, link, to, from, err := read(buffer)
		if err != nil {
			select {
			case <-r.done:
				return
			case <-time.After(waitForNext): // an error of one packet
				continue
			}
		}
		if u, ok := from.(*net.UDPAddr); !ok || u.Port != mdnsPort || !to.IsMulticast() {
			continue
		}
		if now := time.Now(); now.Sub(second) > time.Second {
			second, heard = now, 0
		}
		if heard++; heard > maxPackets {
			continue
		}
		select {
		case r.packets <- packet{data: append([]byte(nil), buffer[:n]...), link: link, six: six}:
		case <-r.done:
			return
		}
	}
}

// say sends a packet on one link. What cannot be sent now is said again later.
func (r *radio) say(data []byte, index int, six bool) {
	if six && r.v6 != nil {
		_, _ = r.v6.WriteTo(data, &ipv6.ControlMessage{IfIndex: index}, mdnsGroup6)
	}
	if !six && r.v4 != nil {
		_, _ = r.v4.WriteTo(data, &ipv4.ControlMessage{IfIndex: index}, mdnsGroup4)
	}
}

func (r *radio) close() {
	close(r.done)
	if r.v4 != nil {
		r.v4.Close()
	}
	if r.v6 != nil {
		r.v6.Close()
	}
	r.work.Wait()
}

// link is an interface that multicast works on, with its addresses.
type link struct {
	net.Interface
	addresses []netip.Addr // best first
}

func (l link) four() bool { return l.has(netip.Addr.Is4) }
func (l link) six() bool  { return l.has(netip.Addr.Is6) }

func (l link) has(kind func(netip.Addr) bool) bool {
	for _, a := range l.addresses {
		if kind(a) {
			return true
		}
	}
	return false
}
