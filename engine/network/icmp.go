package network

import (
	"errors"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// unreachable tells the capsule by ICMP why a packet of id went nowhere. quoted
// is the packet's transport header.
func (g *gateway) unreachable(id stack.TransportEndpointID, protocol tcpip.TransportProtocolNumber, quoted []byte, why error) {
	if id.LocalAddress.Len() == header.IPv4AddressSize {
		g.link.send(unreachable4(id, protocol, quoted, why))
	} else {
		g.link.send(unreachable6(id, protocol, quoted, why))
	}
}

func unreachable4(id stack.TransportEndpointID, protocol tcpip.TransportProtocolNumber, quoted []byte, why error) []byte {
	code := header.ICMPv4PortUnreachable
	switch {
	case errors.Is(why, syscall.EHOSTUNREACH):
		code = header.ICMPv4HostUnreachable
	case errors.Is(why, syscall.ENETUNREACH):
		code = header.ICMPv4NetUnreachable
	case errors.Is(why, syscall.EACCES) || errors.Is(why, syscall.EPERM):
		code = header.ICMPv4HostProhibited
	}
	const ip = header.IPv4MinimumSize
	b := make([]byte, ip+header.ICMPv4MinimumSize+ip+len(quoted))
	encode := func(b []byte, from, to tcpip.Address, protocol tcpip.TransportProtocolNumber) {
		h := header.IPv4(b)
		h.Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(protocol), SrcAddr: from, DstAddr: to})
		h.SetChecksum(^h.CalculateChecksum())
	}
	encode(b, id.LocalAddress, id.RemoteAddress, header.ICMPv4ProtocolNumber)
	message := header.ICMPv4(b[ip:])
	encode(message[header.ICMPv4MinimumSize:], id.RemoteAddress, id.LocalAddress, protocol)
	copy(message[header.ICMPv4MinimumSize+ip:], quoted)
	message.SetType(header.ICMPv4DstUnreachable)
	message.SetCode(code)
	message.SetChecksum(^checksum.Checksum(message, 0))
	return b
}

func unreachable6(id stack.TransportEndpointID, protocol tcpip.TransportProtocolNumber, quoted []byte, why error) []byte {
	code := header.ICMPv6PortUnreachable
	switch {
	case errors.Is(why, syscall.EHOSTUNREACH):
		code = header.ICMPv6AddressUnreachable
	case errors.Is(why, syscall.ENETUNREACH):
		code = header.ICMPv6NetworkUnreachable
	case errors.Is(why, syscall.EACCES) || errors.Is(why, syscall.EPERM):
		code = header.ICMPv6Prohibited
	}
	const ip = header.IPv6MinimumSize
	b := make([]byte, ip+header.ICMPv6DstUnreachableMinimumSize+ip+len(quoted))
	encode := func(b []byte, from, to tcpip.Address, protocol tcpip.TransportProtocolNumber) {
		header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(len(b) - ip), TransportProtocol: protocol, HopLimit: 64, SrcAddr: from, DstAddr: to})
	}
	encode(b, id.LocalAddress, id.RemoteAddress, header.ICMPv6ProtocolNumber)
	message := header.ICMPv6(b[ip:])
	encode(message[header.ICMPv6DstUnreachableMinimumSize:], id.RemoteAddress, id.LocalAddress, protocol)
	copy(message[header.ICMPv6DstUnreachableMinimumSize+ip:], quoted)
	message.SetType(header.ICMPv6DstUnreachable)
	message.SetCode(code)
	message.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: message, Src: id.LocalAddress, Dst: id.RemoteAddress}))
	return b
}
