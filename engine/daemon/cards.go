package daemon

import (
	"cmp"
	"context"
	"log"
	"sync"
	"time"

	"hither/discovery"
	"hither/engine/control"
	"hither/engine/handover"
	"hither/transport"
)

// peers lists the paired hosts; with ping, those that are not up are asked first.
func (d *Daemon) peers(ctx context.Context, ping bool) ([]control.Peer, error) {
	trusted, err := d.trust.List()
	if err != nil {
		return nil, err
	}
	known := map[transport.ID]discovery.Peer{}
	if d.book != nil {
		for _, p := range d.book.Peers() {
			known[p.ID] = p
		}
	}
	list := make([]control.Peer, len(trusted))
	var all sync.WaitGroup
	for i, p := range trusted {
		k, ok := known[p.ID]
		if !ok { // paired a moment ago, or nothing is looked for at all
			k = discovery.Peer{ID: p.ID, Addresses: p.Addresses}
		}
		k.Name, k.Paired = p.Name, true
		list[i] = card(k)
		list[i].Permissions = permissionsOf(p)
		if ping && !k.Online && d.endpoint != nil {
			all.Go(func() { d.ping(ctx, p, &list[i]) })
		}
	}
	all.Wait()
	return list, nil
}

// strangers lists the hosts on the local network that are not paired with this one.
func (d *Daemon) strangers(ctx context.Context) []control.Peer {
	if d.book == nil {
		return nil
	}
	d.book.Settle(ctx)
	var list []control.Peer
	for _, p := range d.book.Peers() {
		if !p.Paired {
			list = append(list, card(p))
		}
	}
	return list
}

// card is what people are shown of a host.
func card(p discovery.Peer) control.Peer {
	out := control.Peer{ID: string(p.ID), Name: p.Name, Paired: p.Paired, Addresses: p.Addresses, RTT: p.RTT, Rate: p.Rate,
		Version: p.Version, Reason: p.Problem, Warning: p.Warning, LastSeen: p.LastSeen, State: "unknown"}
	switch {
	case p.Online, !p.Paired: // who is not paired is listed only as long as it is heard
		out.State = "up"
	case p.Problem != "":
		out.State = "down"
	}
	if out.Addresses == nil {
		out.Addresses = []string{}
	}
	if p.OS != "" {
		out.Abilities = abilities(p.OS, p.Arch, p.Abilities)
	}
	return out
}

func abilities(os, arch string, a *transport.Abilities) *control.Abilities {
	out := &control.Abilities{OS: os, Arch: arch}
	if a != nil { // an older hither does not say
		out.Kernel, out.CPUs, out.CPUFlags, out.Load = a.Kernel, a.CPUs, a.CPUFlags, a.Load
		out.Memory, out.MemoryFree, out.Display, out.UID, out.GID = a.Memory, a.MemoryFree, a.Display, a.UID, a.GID
	}
	return out
}

func (d *Daemon) ping(ctx context.Context, p transport.Peer, out *control.Peer) {
	ctx, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	if d.book != nil {
		if t, err := d.book.Target(string(p.ID)); err == nil {
			p = t
		}
	}
	rtt, hello, err := d.endpoint.Ping(ctx, p)
	if err != nil {
		out.State, out.Reason = "down", err.Error()
		return
	}
	out.State, out.Reason, out.Version = "up", "", hello.Version
	out.RTT = float64(rtt.Microseconds()) / 1000
	out.LastSeen, out.Abilities = time.Now(), abilities(hello.OS, hello.Arch, hello.Abilities)
}

// peerChanged passes on what discovery finds. It is called one at a time.
func (d *Daemon) peerChanged() func(discovery.Peer) {
	warned := map[transport.ID]string{}
	names := map[transport.ID]string{}
	paired := map[transport.ID]bool{}
	return func(p discovery.Peer) {
		ev := control.Event{Event: "peers", Peer: cmp.Or(p.Name, names[p.ID])}
		switch old := names[p.ID]; {
		case p.Removed:
			delete(warned, p.ID)
			delete(names, p.ID)
			if paired[p.ID] { // perhaps by another process, which wrote the book of peers
				delete(paired, p.ID)
				d.work.Go(func() { d.parted(p.ID) })
			}
		case p.Paired && old != "" && old != p.Name:
			log.Printf("%s is %s now", old, p.Name)
		}
		if !p.Removed {
			names[p.ID] = p.Name
			if p.Paired {
				paired[p.ID] = true
			}
			if p.Paired && p.Warning != warned[p.ID] { // of a stranger it says the same from the other side
				warned[p.ID] = p.Warning
				ev.Text = p.Warning
				if p.Warning != "" {
					log.Printf("peer %s: %s", p.Name, p.Warning)
				}
			}
		}
		d.events.tell(ev)
		if p.Online {
			d.undecided()
		}
	}
}

// largeTransfer is enough to tell how fast the way to a peer is.
const largeTransfer = 16 << 20

// rated has progress also tell how fast the way to a peer is.
func (d *Daemon) rated(peer transport.ID, progress func(handover.Progress)) func(handover.Progress) {
	return func(p handover.Progress) {
		if p.Done >= largeTransfer && p.Rate > 0 && d.book != nil {
			d.book.SetRate(peer, p.Rate)
		}
		if progress != nil {
			progress(p)
		}
	}
}
