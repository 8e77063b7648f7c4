package transport

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// localAddresses are the addresses of this machine's interfaces that are up,
// with the port: private IPv4 first (a local network's), then other global
// ones, then, if there is nothing else, the loopback. Link-local IPv6 is left
// out, because its zone means nothing on another machine.
func localAddresses(port int) []string {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var found, loopback []netip.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, ok := netip.AddrFromSlice(n.IP)
			ip = ip.Unmap()
			switch {
			case !ok || ip.IsLinkLocalUnicast() || ip.IsMulticast():
			case ip.IsLoopback():
				loopback = append(loopback, ip)
			default:
				found = append(found, ip)
			}
		}
	}
	if len(found) == 0 {
		found = loopback
	}
	rank := func(a netip.Addr) int {
		switch {
		case a.Is4() && a.IsPrivate():
			return 0
		case a.Is4():
			return 1
		}
		return 2
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int { return rank(a) - rank(b) })
	found = slices.Compact(found)
	var out []string
	for _, a := range found[:min(len(found), maxAddresses)] {
		out = append(out, net.JoinHostPort(a.String(), strconv.Itoa(port)))
	}
	return out
}
