package daemon

import (
	"context"
	"fmt"
	"slices"

	"hither/engine/control"
	"hither/engine/paths"
)

// doctor says what this host can do, and what a person can do about the rest.
func (d *Daemon) doctor(ctx context.Context) control.Doctor {
	host := thisHost()
	return d.examine(ctx, &host)
}

func (d *Daemon) examine(ctx context.Context, host *surroundings) control.Doctor {
	out := control.Doctor{OK: true, Host: d.self(), Probes: host.kernelProbes()}
	add := func(list ...control.Probe) { out.Probes = append(out.Probes, list...) }
	add(host.services()...)
	desktop := d.atDesktop()
	add(host.desktop(displayOf(desktop), reachable), host.notifications(desktop), host.service(ctx))
	if data, err := paths.Data(); err == nil {
		add(host.space(data))
	}
	peers, err := d.peers(ctx, true)
	reached := slices.ContainsFunc(peers, func(p control.Peer) bool { return p.State == "up" })
	if d.endpoint != nil {
		add(control.Probe{Name: "reachable for peers", OK: true, Detail: fmt.Sprintf("UDP port %d", d.endpoint.Port())},
			host.firewall(ctx, d.endpoint.Port(), reached))
	} else {
		add(control.Probe{Name: "reachable for peers", Detail: fmt.Sprint(d.why),
			Cure: "free the port, or choose another with HITHER_LISTEN=:PORT, then restart the daemon"})
	}
	add(host.multicast(d.settings.get().Discoverable))
	if err != nil {
		add(control.Probe{Name: "book of peers", Detail: err.Error()})
	} else {
		add(control.Probe{Name: "book of peers", OK: true, Detail: fmt.Sprintf("%d paired", len(peers))})
	}
	for _, p := range peers {
		probe := control.Probe{Name: "peer " + p.Name, OK: p.State == "up", Detail: p.Reason}
		if probe.OK {
			probe.Detail = fmt.Sprintf("%.1f ms away, hither %s", p.RTT, p.Version)
		} else {
			probe.Cure = "see that it is on, that `hither daemon` runs there, and that nothing between you drops UDP"
		}
		add(probe)
	}
	for _, m := range d.moves.Pending() {
		switch m.State {
		case "undecided", "waiting":
			out.Moves = append(out.Moves, fmt.Sprintf("%s: a move between here and %s is undecided (%s); it settles itself when that host is reached again", m.Name, m.PeerName, m.Reason))
		case "damaged":
			out.Moves = append(out.Moves, m.Reason)
		}
	}
	for _, p := range out.Probes {
		if p.Need && !p.OK {
			out.OK = false
		}
	}
	return out
}
