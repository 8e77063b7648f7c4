package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/transport"
)

// permission is what was said of a peer and a permit.
func permission(p transport.Peer, permit string) string {
	switch may, said := p.Permissions[permit]; {
	case !said:
		return control.Ask
	case may:
		return control.Allow
	}
	return control.Deny
}

// permissionsOf is all that was said of a peer.
func permissionsOf(p transport.Peer) map[string]string {
	all := map[string]string{}
	for _, permit := range permits {
		all[permit] = permission(p, permit)
	}
	return all
}

// permit writes down what was said; nothing for ask.
func permit(p *transport.Peer, what, said string) {
	m := maps.Clone(p.Permissions)
	if m == nil {
		m = map[string]bool{}
	}
	delete(m, what)
	if said != control.Ask {
		m[what] = said == control.Allow
	}
	p.Permissions = m
}

// checkPermissions says what is wrong with permissions of a request.
func checkPermissions(all map[string]string) error {
	for what, said := range all {
		if !slices.Contains(permits, what) {
			return usage("there are send, bring and watch", "%q is nothing that can be permitted", what)
		}
		if said != control.Allow && said != control.Deny && said != control.Ask {
			return usage("say allow, deny or ask", "%q is no answer to whether a host may %s", said, what)
		}
	}
	return nil
}

// newPermissions are those of a host that is paired just now.
func (d *Daemon) newPermissions() map[string]string { return d.settings.get().Permissions }

// changePeer is PATCH /v1/peers/PEER.
func (d *Daemon) changePeer(r *http.Request) (any, error) {
	var in control.PeerChange
	if err := read(r, &in); err != nil {
		return nil, err
	}
	p, err := d.peer(r.PathValue("peer"))
	if err != nil {
		return nil, err
	}
	if err := checkPermissions(in.Permissions); err != nil {
		return nil, err
	}
	if in.Name != "" && in.Name != p.Name {
		if err := transport.CheckName(in.Name); err != nil {
			return nil, usage("", "%v", err)
		}
		if taken, err := d.called(in.Name, p.ID); err != nil {
			return nil, err
		} else if taken {
			return nil, usage("`hither peers` lists their names", "%s is what another host is called here", in.Name)
		}
	}
	var address string
	if in.Address != "" {
		if address, err = withPort(in.Address); err != nil {
			return nil, usage("", "%v", err)
		}
	}
	err = d.trust.Update(p.ID, func(p *transport.Peer) {
		if in.Name != "" {
			p.Name = in.Name
		}
		for what, said := range in.Permissions {
			permit(p, what, said)
		}
		if address != "" {
			p.Addresses = firstAddress(address, p.Addresses)
		}
	})
	if err != nil {
		return nil, err
	}
	for what, said := range in.Permissions {
		d.questions.overtaken(string(p.ID), what, said)
	}
	d.events.tell(control.Event{Event: "peers", Peer: p.Name})
	if p, err = d.trust.Get(p.ID); err != nil {
		return nil, err
	}
	return d.shown(p), nil
}

// shown is a paired host for who changed it: the list says how it is.
func (d *Daemon) shown(p transport.Peer) control.Peer {
	return control.Peer{ID: string(p.ID), Name: p.Name, Paired: true, Addresses: append([]string{}, p.Addresses...), State: "unknown", Permissions: permissionsOf(p)}
}

const maxPeerAddresses = 8

func firstAddress(first string, then []string) []string {
	all := []string{first}
	for _, a := range then {
		if a != first && len(all) < maxPeerAddresses {
			all = append(all, a)
		}
	}
	return all
}

// verbs say what is permitted, in "may it ...?".
var verbs = map[string]string{
	control.PermitSend:  "send apps to",
	control.PermitBring: "take apps of",
	control.PermitWatch: "see what runs on",
}

// may refuses a peer what it may not without a person's word; asked says that a
// person would have to be asked.
func (d *Daemon) may(id, what string) (peer transport.Peer, asked bool, err error) {
	peer, err = d.trust.Get(transport.ID(id))
	if err != nil {
		return peer, false, err
	}
	switch permission(peer, what) {
	case control.Allow:
		return peer, false, nil
	case control.Deny:
		return peer, false, d.refusal(peer, what, "%[1]s may not %[2]s %[3]s", "")
	}
	return peer, true, nil
}

// refusal is a no as the other host shows it; in the format stand the peer's name,
// the verb and this host's name.
func (d *Daemon) refusal(p transport.Peer, what, format, cure string) error {
	if cure == "" {
		cure = fmt.Sprintf("on %s, `hither permit %s %s allow` lets it", d.self(), p.Name, what)
	}
	return &handover.Refusal{Problems: []handover.Problem{{What: fmt.Sprintf(format, p.Name, verbs[what], d.self()), Cure: cure, Side: d.self()}}}
}

// Consent see handover.Acceptor.
func (a acceptor) Consent(ctx context.Context, id string, offer *handover.Offer, app string, check bool, waiting func(string)) ([]string, error) {
	d, what := a.d, control.PermitBring
	if offer != nil {
		what, app = control.PermitSend, offer.Name
	}
	peer, asked, err := d.may(id, what)
	if err != nil || !asked {
		return nil, err
	}
	if offer != nil && d.departed.at(offer.App, id) || offer == nil && d.ownedBy(app, id) {
		return nil, nil // it comes home, from where it was sent; or the other way round
	}
	if offer == nil && permission(peer, control.PermitWatch) == control.Allow {
		// Who may see what runs here is told that it does not; nobody is asked for it.
		if _, err := a.here(app); err != nil {
			return nil, err
		}
	}
	if check {
		return []string{fmt.Sprintf("a person on %s will be asked whether %s may %s it", d.self(), peer.Name, verbs[what])}, nil
	}
	text := fmt.Sprintf("%s wants to send you %s. It would run on this machine, as you.", peer.Name, handover.Plain(app, 80))
	meant, was := app, ""
	if offer == nil {
		if f, err := d.find(app); err == nil {
			app, was = f.app.Name, f.app.ID // the peer may have said no more than the beginning
		}
		text = fmt.Sprintf("%s wants to take %s from this machine to itself.", peer.Name, handover.Plain(app, 80))
	}
	if err := d.ask(ctx, peer, what, handover.Plain(app, 80), text, waiting); err != nil || was == "" {
		return nil, err
	}
	// Another one may have come to fit what the peer said, while the person thought.
	if f, err := d.find(meant); err != nil || f.app.ID != was {
		return nil, fmt.Errorf("%s is not on %s any more", app, d.self())
	}
	return nil, nil
}

// ownedBy says whether an app that is here was first started by the peer.
func (d *Daemon) ownedBy(app, id string) bool {
	f, err := d.find(app)
	return err == nil && f.capsule != nil && id != "" && f.capsule.Spec().Origin.HostID == id
}

// mayReturn says whether a peer may bring files of an app of ours home.
func (d *Daemon) mayReturn(ctx context.Context, id, app, name string) error {
	peer, asked, err := d.may(id, control.PermitSend)
	if err != nil || !asked || d.departed.at(app, id) {
		return err
	}
	return d.ask(ctx, peer, control.PermitSend, handover.Plain(name, 80),
		fmt.Sprintf("%s wants to return the files of %s, which was started here.", peer.Name, handover.Plain(name, 80)), func(string) {})
}

// mayWatch says whether a peer may see the list of apps. It looks at it again and
// again, so a question is only begun, and the answer counts for a while.
func (d *Daemon) mayWatch(id string) error {
	peer, asked, err := d.may(id, control.PermitWatch)
	if err != nil || !asked {
		return err
	}
	may, said := d.questions.watching(id)
	if may {
		return nil
	}
	if !said {
		d.work.Go(func() {
			err := d.ask(d.ctx, peer, control.PermitWatch, "", fmt.Sprintf("%s wants to see which apps run here.", peer.Name), func(string) {})
			if _, gone := d.trust.Get(peer.ID); gone == nil { // else what is said counts for no later pairing
				d.questions.watch(id, err == nil)
			}
		})
	}
	return d.refusal(peer, control.PermitWatch, "a person on %[3]s has to agree first that %[1]s may %[2]s it", "")
}

// withCure puts the cures of a refusal behind it, where there is no other place.
func withCure(err error) string {
	var r *handover.Refusal
	if !errors.As(err, &r) {
		return err.Error()
	}
	text := ""
	for _, p := range r.Problems {
		if text != "" {
			text += "; "
		}
		if text += p.What; p.Cure != "" {
			text += ": " + p.Cure
		}
	}
	return text
}
