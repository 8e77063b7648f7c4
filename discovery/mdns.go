package discovery

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grandcat/zeroconf"
	"github.com/vishvananda/netlink"

	"hither/transport"
)

const (
	mdnsService = "_hither._udp"
	mdnsDomain  = "local."

	// A resolver tells of each host once and never of one that went: a new one
	// every so often hears everybody again.
	mdnsRound = 12 * time.Second

	maxLinks = 16 // of a machine full of containers, the first ones
)

// overhear tells the local network about this host and listens to what others
// tell, on each interface for itself, and starts anew where addresses change.
func (b *Book) overhear() {
	changes := make(chan netlink.AddrUpdate, 64)
	done := make(chan struct{})
	defer close(done)
	if err := netlink.AddrSubscribe(changes, done); err != nil {
		changes = nil // the rounds alone notice, only later
	}
	servers := make(map[string]*zeroconf.Server)
	defer func() {
		for _, s := range servers {
			s.Shutdown()
		}
	}()
	for b.ctx.Err() == nil {
		round, cancel := context.WithTimeout(b.ctx, mdnsRound)
		var listening sync.WaitGroup
		links := multicastLinks()
		b.announce(servers, links)
		for _, l := range links {
			listening.Go(func() { b.listen(round, l) })
		}
		select {
		case <-round.Done():
		case _, ok := <-changes:
			if !ok {
				changes = nil
				break
			}
			settle(b.ctx, changes)
			b.kickAll()
		}
		cancel()
		listening.Wait()
	}
}

// settle waits until addresses have stopped changing: they come in bursts.
func settle(ctx context.Context, changes <-chan netlink.AddrUpdate) {
	for {
		select {
		case _, ok := <-changes:
			if !ok {
				return
			}
		case <-time.After(500 * time.Millisecond):
			return
		case <-ctx.Done():
			return
		}
	}
}

// link is an interface that mDNS works on.
type link struct {
	net.Interface
	addresses []string
	ip        zeroconf.IPType // which of the two the link has
}

func multicastLinks() []link {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var links []link
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		var good, linkLocal []string
		var ip zeroconf.IPType
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			if n.IP.To4() != nil {
				ip |= zeroconf.IPv4
			} else {
				ip |= zeroconf.IPv6
			}
			switch {
			case n.IP.IsLinkLocalUnicast():
				linkLocal = append(linkLocal, n.IP.String())
			case n.IP.IsGlobalUnicast():
				good = append(good, n.IP.String())
			}
		}
		if len(good) == 0 {
			good = linkLocal
		}
		if len(good) > 0 && len(links) < maxLinks {
			slices.Sort(good)
			links = append(links, link{i, good[:min(len(good), maxHints)], ip})
		}
	}
	return links
}

// announce has one server for each link and its present addresses, and no
// others. Only the beginning of the ID is told: enough for paired hosts to know
// us by, and for people to compare.
func (b *Book) announce(servers map[string]*zeroconf.Server, links []link) {
	wanted := make(map[string]link)
	for _, l := range links {
		wanted[strconv.Itoa(l.Index)+" "+strings.Join(l.addresses, " ")] = l
	}
	for key, s := range servers {
		if _, ok := wanted[key]; !ok {
			s.Shutdown()
			delete(servers, key)
		}
	}
	short, name := b.endpoint.ID().Short(), b.endpoint.Card().Name
	for key, l := range wanted {
		if servers[key] != nil {
			continue
		}
		// The kernel gives each server the questions of all links, and the
		// answers of two with one name would hide each other.
		instance := "hither-" + short + "-" + strconv.Itoa(l.Index)
		s, err := zeroconf.RegisterProxy(instance, mdnsService, mdnsDomain, b.endpoint.Port(), instance,
			l.addresses, []string{"id=" + short, "name=" + name}, []net.Interface{l.Interface})
		if err == nil { // else the next round tries again
			servers[key] = s
		}
	}
}

// listen passes on what is said on one link until ctx ends.
func (b *Book) listen(ctx context.Context, l link) {
	resolver, err := zeroconf.NewResolver(zeroconf.SelectIfaces([]net.Interface{l.Interface}), zeroconf.SelectIPTraffic(l.ip))
	if err != nil {
		return // the next round tries again
	}
	entries := make(chan *zeroconf.ServiceEntry)
	_ = resolver.Browse(ctx, mdnsService, mdnsDomain, entries) // on an error it closes entries
	for e := range entries {                                   // closed by zeroconf when ctx has ended
		id, name := "", ""
		for _, t := range e.Text[:min(len(e.Text), 8)] {
			if v, ok := strings.CutPrefix(t, "id="); ok {
				id = v
			}
			if v, ok := strings.CutPrefix(t, "name="); ok {
				name = v
			}
		}
		b.notice(transport.ID(id), name, entryAddresses(e, l.Name))
	}
}

// entryAddresses are those of an entry as host:port; link-local IPv6 gets the
// zone that mDNS leaves out, which is that of the link it was heard on.
func entryAddresses(e *zeroconf.ServiceEntry, zone string) []string {
	if e.Port <= 0 || e.Port > 65535 {
		return nil
	}
	var all []string
	for _, ip := range slices.Concat(e.AddrIPv4, e.AddrIPv6) {
		if ip.IsMulticast() || ip.IsUnspecified() || ip.IsLoopback() {
			continue
		}
		host := ip.String()
		if ip.To4() == nil && ip.IsLinkLocalUnicast() {
			host += "%" + zone
		}
		all = append(all, net.JoinHostPort(host, strconv.Itoa(e.Port)))
	}
	return all[:min(len(all), maxHints)]
}
