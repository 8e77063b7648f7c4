package network

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link carries IP packets between the stack and the capsule's descriptor. It
// takes the place of gVisor's fdbased endpoint, which would put a packet socket
// in a fanout group; a second keeper could then never take the socket over.
type link struct {
	file   *os.File
	prefix []byte // Ethernet header of what is sent; empty for TUN

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
}

var _ stack.LinkEndpoint = (*link)(nil)

const ethernetHeader = 14

// newLink makes a link of a duplicate of fd.
func newLink(fd int, kind string) (*link, error) {
	l := &link{}
	switch kind {
	case TUN:
	case Packet:
		l.prefix = append(append([]byte{}, capsuleMAC...), gatewayMAC...)
	default:
		return nil, fmt.Errorf("opening the capsule's network: a descriptor of kind %q is not known", kind)
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("opening the capsule's network: %w", err)
	}
	if err := unix.SetNonblock(own, true); err != nil {
		unix.Close(own)
		return nil, fmt.Errorf("opening the capsule's network: %w", err)
	}
	l.file = os.NewFile(uintptr(own), "network")
	return l, nil
}

var packets = sync.Pool{New: func() any { return new([1 << 16]byte) }}

// receive gives the stack what the capsule sends, until the descriptor is
// closed.
func (l *link) receive() error {
	buf := make([]byte, 1<<16+ethernetHeader)
	for {
		n, err := l.file.Read(buf)
		if err != nil {
			// A packet socket tells here that its interface went down once.
			if errors.Is(err, syscall.ENETDOWN) || errors.Is(err, syscall.ENOBUFS) {
				continue
			}
			return fmt.Errorf("reading the capsule's packets: %w", err)
		}
		b := buf[:n]
		if l.prefix != nil {
			if n < ethernetHeader {
				continue
			}
			b = b[ethernetHeader:]
		}
		protocol, ok := admit(b)
		if !ok {
			continue
		}
		l.mu.RLock()
		d := l.dispatcher
		l.mu.RUnlock()
		if d == nil {
			continue
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(buffer.NewViewWithData(b))})
		d.DeliverNetworkPacket(protocol, pkt)
		pkt.DecRef()
	}
}

// admit tells a packet's protocol, and whether the stack may see it. Pings it
// would answer in the name of the whole world; only the gateway does.
func admit(b []byte) (tcpip.NetworkProtocolNumber, bool) {
	if len(b) == 0 {
		return 0, false
	}
	switch b[0] >> 4 {
	case 4:
		ip := header.IPv4(b)
		if len(b) < header.IPv4MinimumSize {
			return 0, false
		}
		ping := ip.TransportProtocol() == header.ICMPv4ProtocolNumber
		return header.IPv4ProtocolNumber, !ping || ip.DestinationAddress() == address(Gateway4)
	case 6:
		ip := header.IPv6(b)
		if len(b) < header.IPv6MinimumSize {
			return 0, false
		}
		// Neighbour discovery goes to multicast addresses.
		to := ip.DestinationAddress()
		ping := ip.TransportProtocol() == header.ICMPv6ProtocolNumber
		return header.IPv6ProtocolNumber, !ping || to == address(Gateway6)
	}
	return 0, false
}

// send writes one IP packet, given in parts. Packets that cannot be sent are
// lost, as packets are.
func (l *link) send(parts ...[]byte) {
	out := packets.Get().(*[1 << 16]byte)
	defer packets.Put(out)
	b := append(out[:0], l.prefix...)
	if l.prefix != nil {
		b = append(b, 0x08, 0x00)
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	if l.prefix != nil && len(b) > ethernetHeader && b[ethernetHeader]>>4 == 6 {
		b[12], b[13] = 0x86, 0xdd
	}
	l.file.Write(b)
}

// WritePackets implements stack.LinkWriter.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	all := list.AsSlice()
	for _, pkt := range all {
		l.send(pkt.AsSlices()...)
	}
	return len(all), nil
}

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// What follows completes stack.LinkEndpoint. The Ethernet header, if there is
// one, is hidden from the stack; checksums of what comes are not looked at,
// because the packets never left this machine and a veth pair leaves them out.

func (l *link) MTU() uint32                      { return MTU }
func (l *link) SetMTU(uint32)                    {}
func (l *link) MaxHeaderLength() uint16          { return 0 }
func (l *link) LinkAddress() tcpip.LinkAddress   { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) AddHeader(*stack.PacketBuffer)           {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) Close()                                  {}
func (l *link) Wait()                                   {}
func (l *link) SetOnCloseAction(func())                 {}
