package daemon

import (
	"context"
	"fmt"

	"hither/engine/control"
	"hither/engine/display"
)

// doctor says what this host can do, and what a person can do about the rest.
func (d *Daemon) doctor(ctx context.Context) control.Doctor {
	out := control.Doctor{OK: true, Host: d.self(), Probes: kernelProbes()}
	add := func(p control.Probe) { out.Probes = append(out.Probes, p) }
	if d.endpoint != nil {
		add(control.Probe{Name: "reachable for peers", OK: true, Detail: fmt.Sprintf("UDP port %d", d.endpoint.Port())})
	} else {
		add(control.Probe{Name: "reachable for peers", Detail: fmt.Sprint(d.why),
			Cure: "free the port, or choose another with HITHER_LISTEN=:PORT, then restart the daemon"})
	}
	for _, s := range display.Services("") {
		p := control.Probe{Name: s.Name + " for apps"}
		if at, err := s.Find(); err == nil {
			p.OK, p.Detail = true, at
		} else {
			p.Detail = s.Argv[0] + " is not installed: apps that want " + s.Wants + " do not find one"
			p.Cure = "apt-get install " + s.Package
		}
		add(p)
	}
	peers, err := d.peers(ctx, true)
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
