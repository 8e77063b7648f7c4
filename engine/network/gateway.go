package network

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Limits of one capsule.
const (
	maxTCP     = 4096 // connections
	maxUDP     = 1024 // pairs of addresses
	maxPending = 1024 // connections not yet made
	maxQueries = 256  // questions to name servers under way

	udpIdle = 2 * time.Minute

	// window is how much a connection may have under way from the capsule. A
	// packet socket's buffer is small, and what it cannot hold is lost.
	windowTUN    = 1 << 20
	windowPacket = 256 << 10
)

// Host is what a capsule's network reaches. The zero value is this machine.
type Host struct {
	// ResolvConf is the file that names the host's name servers; empty for
	// /etc/resolv.conf.
	ResolvConf string
	// NameServers, if not nil, takes the place of those in that file.
	NameServers []netip.AddrPort
}

// Run is the gateway of the capsule whose Open returned fd and kind. It returns
// when ctx is done, or with an error when the capsule's network is gone. fd
// stays open; another Run, also in another process, may take it over, and all
// connections of this one end with it.
func Run(ctx context.Context, fd int, kind string) error { return Host{}.Run(ctx, fd, kind) }

// Run is the gateway to this host.
func (h Host) Run(ctx context.Context, fd int, kind string) error {
	l, err := newLink(fd, kind)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := &gateway{ctx: ctx, link: l, pending: make(map[stack.TransportEndpointID]uint32)}
	g.names.init(h)
	if err := g.start(kind); err != nil {
		l.file.Close()
		return err
	}
	defer context.AfterFunc(ctx, func() { l.file.Close() })()
	err = l.receive()
	interrupted := ctx.Err()
	cancel()
	g.stack.Close()
	g.flows.Wait()
	g.stack.Wait()
	l.file.Close()
	if interrupted != nil {
		return nil
	}
	return err
}

// gateway is the host's side of one capsule's network.
type gateway struct {
	ctx   context.Context // done: end everything
	link  *link
	stack *stack.Stack
	names names
	flows sync.WaitGroup

	mu       sync.Mutex
	tcp, udp int // flows
	// pending holds the first sequence number of each connection not yet made;
	// an error message has to quote it.
	pending map[stack.TransportEndpointID]uint32
}

const nic tcpip.NICID = 1

func (g *gateway) start(kind string) error {
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{}),
		},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	g.stack = s
	window := windowTUN
	if kind == Packet {
		window = windowPacket
	}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: window, Max: window}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 2 << 20}
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(false)
	recovery := tcpip.TCPRecovery(0)
	timeWait := tcpip.TCPTimeWaitTimeoutOption(5 * time.Second)
	for _, option := range []tcpip.SettableTransportProtocolOption{&receive, &send, &sack, &moderate, &recovery, &timeWait} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("preparing the gateway: %v", err)
		}
	}
	if err := s.CreateNIC(nic, g.link); err != nil {
		return fmt.Errorf("preparing the gateway: %v", err)
	}
	for _, own := range []struct {
		protocol tcpip.NetworkProtocolNumber
		addr     netip.Addr
		bits     int
	}{{ipv4.ProtocolNumber, Gateway4, Capsule4.Bits()}, {ipv6.ProtocolNumber, Gateway6, Capsule6.Bits()}} {
		addr := tcpip.ProtocolAddress{
			Protocol:          own.protocol,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(own.addr), PrefixLen: own.bits},
		}
		if err := s.AddProtocolAddress(nic, addr, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("preparing the gateway's address %s: %v", own.addr, err)
		}
	}
	// Take packets for anybody, and answer in anybody's name.
	if err := s.SetPromiscuousMode(nic, true); err != nil {
		return fmt.Errorf("preparing the gateway: %v", err)
	}
	if err := s.SetSpoofing(nic, true); err != nil {
		return fmt.Errorf("preparing the gateway: %v", err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})

	forward := tcp.NewForwarder(s, window, maxPending, g.acceptTCP)
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		g.note(id, pkt)
		return forward.HandlePacket(id, pkt)
	})
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, g.acceptUDP).HandlePacket)
	return nil
}

// note remembers the sequence number of a connection attempt.
func (g *gateway) note(id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	h := header.TCP(pkt.TransportHeader().Slice())
	if len(h) < header.TCPMinimumSize || h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck) != header.TCPFlagSyn {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.pending) >= 2*maxPending {
		clear(g.pending) // attempts that were never taken up
	}
	g.pending[id] = h.SequenceNumber()
}

// noted returns what note remembers, and forgets it.
func (g *gateway) noted(id stack.TransportEndpointID) uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	seq := g.pending[id]
	delete(g.pending, id)
	return seq
}

// enter counts a flow, if there is room for one more.
func (g *gateway) enter(count *int, limit int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if *count >= limit || g.ctx.Err() != nil {
		return false
	}
	*count++
	g.flows.Add(1)
	return true
}

func (g *gateway) leave(count *int) {
	g.mu.Lock()
	*count--
	g.mu.Unlock()
	g.flows.Done()
}

// target is where the host connects to for the capsule's destination, and
// whether it is one of the gateway's name servers that is asked for.
func (g *gateway) target(id stack.TransportEndpointID) (to netip.AddrPort, dns bool, err error) {
	addr, _ := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	switch {
	case addr == Gateway4 || addr == Gateway6:
		if id.LocalPort == 53 {
			return netip.AddrPort{}, true, nil
		}
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if id.LocalAddress.Len() == 16 {
			addr = netip.IPv6Loopback()
		}
	case Capsule4.Contains(addr) || Capsule6.Contains(addr):
		return netip.AddrPort{}, false, syscall.EHOSTUNREACH
	case addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast() && addr.Is6():
		return netip.AddrPort{}, false, syscall.ENETUNREACH
	}
	return netip.AddrPortFrom(addr, id.LocalPort), false, nil
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }
