package discovery

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	maxLinks     = 16 // of a machine full of containers, the first ones
	maxAddresses = 8  // of a link that are told
)

// multicastLinks are the interfaces to look around on: those that have a
// carrier, somebody else at the other end, and an address that this host
// listens at: if at is an address, only that one.
func multicastLinks(at netip.Addr) []link {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	const want = net.FlagUp | net.FlagRunning | net.FlagMulticast
	var links []link
	for _, i := range all {
		if i.Flags&want != want || i.Flags&net.FlagLoopback != 0 || len(links) == maxLinks {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		var found []netip.Addr
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, ok := netip.AddrFromSlice(n.IP)
			if ip = ip.Unmap(); ok && tellable(ip) && (!at.IsValid() || ip == at) {
				found = append(found, ip)
			}
		}
		if len(found) == 0 {
			continue
		}
		rank := func(a netip.Addr) int {
			switch {
			case a.IsLinkLocalUnicast():
				return 2
			case a.Is6():
				return 1
			}
			return 0
		}
		slices.SortFunc(found, func(a, b netip.Addr) int {
			if d := rank(a) - rank(b); d != 0 {
				return d
			}
			return a.Compare(b)
		})
		links = append(links, link{i, found[:min(len(found), maxAddresses)]})
	}
	return links
}

// tellable is an address by which another machine of the link may reach a host.
func tellable(ip netip.Addr) bool {
	return ip.IsGlobalUnicast() || ip.IsLinkLocalUnicast()
}

// watchLinks tells, until ctx ends, that an address or a carrier of this host
// has come or gone. Such changes come in bursts: a burst is told as one, when
// it is over. Where the kernel tells nothing, the rounds of mdns.go look.
func watchLinks(ctx context.Context) <-chan struct{} {
	changed := make(chan struct{}, 1)
	addrs := make(chan netlink.AddrUpdate, 64)
	links := make(chan netlink.LinkUpdate, 64)
	if netlink.AddrSubscribe(addrs, ctx.Done()) != nil {
		addrs = nil
	}
	if netlink.LinkSubscribe(links, ctx.Done()) != nil {
		links = nil
	}
	go func() {
		const quiet = 200 * time.Millisecond
		var over <-chan time.Time
		up := make(map[int32]uint32)
		for {
			select {
			case _, ok := <-addrs:
				if !ok {
					addrs = nil
					continue
				}
				over = time.After(quiet)
			case u, ok := <-links:
				if !ok {
					links = nil
					continue
				}
				// Of the many things that a link tells of itself, only whether it works.
				const works = uint32(net.FlagUp) | 0x40 // IFF_UP, IFF_RUNNING
				now := u.IfInfomsg.Flags & works
				if was, known := up[u.Index]; known && was == now {
					continue
				}
				up[u.Index] = now
				over = time.After(quiet)
			case <-over:
				over = nil
				select {
				case changed <- struct{}{}:
				default:
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return changed
}
