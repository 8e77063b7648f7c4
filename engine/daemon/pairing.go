package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hither/discovery"
	"hither/engine/control"
	"hither/transport"
)

// pairings are the attempts to pair, begun here or by others (package transport
// has the conversation). In a nutshell: each has a goroutine (d.negotiate) that
// brings it from state to state and tells each as an event; people answer through
// answer. One that others begin is shown one at a time, and not too often: whoever
// can reach this host can begin one.
type pairings struct {
	mu  sync.Mutex
	all []*pairing // oldest first

	// Those that are shown to a person: so many at once and then one in a while,
	// of each address and of all together.
	ofOne, ofAll limiter
	logged       limiter // those that are refused
}

func newPairings() *pairings {
	return &pairings{ofOne: limiter{burst: 4, every: 30 * time.Second}, ofAll: limiter{burst: 8, every: 10 * time.Second},
		logged: limiter{burst: 10, every: time.Minute}}
}

type pairing struct {
	now    control.Pairing // under pairings.mu
	want   string          // of one begun here: the beginning of the ID, if known
	at     []string        // and where
	ticket bool            // nobody is asked
	ended  time.Time       // zero: it goes on
	answer chan bool       // the first one counts
	cancel context.CancelCauseFunc
}

const (
	pairingLife = 2 * time.Minute
	pairingKept = 3 * time.Minute // after its end
	// maxPairings of this host's own go on at a time.
	maxPairings = 4
	ticketLife  = 10 * time.Minute
)

var (
	errPairingCancelled = errors.New("it was given up here")
	errPairingLate      = errors.New("nobody answered in time")
	errPairingDiffer    = errors.New("the digits differ, so the two are not paired: somebody may stand between them. Try it on another network, or with a ticket (`hither pair --ticket`)")
)

// change changes what is told of a pairing, and tells it.
func (d *Daemon) changePairing(p *pairing, f func(*control.Pairing)) {
	s := d.pairings
	s.mu.Lock()
	f(&p.now)
	if p.ended.IsZero() && (p.now.State == control.PairingDone || p.now.State == control.PairingFailed) {
		p.ended = time.Now()
	}
	now := p.now
	s.mu.Unlock()
	d.events.tell(control.Event{Event: "pairing", Peer: now.Name, State: now.State, Pairing: &now})
}

// addPairing enters one, and forgets old ones. It is nil if there are too many.
func (d *Daemon) addPairing(p *pairing) (context.Context, error) {
	s := d.pairings
	s.mu.Lock()
	s.all = slices.DeleteFunc(s.all, func(o *pairing) bool { return !o.ended.IsZero() && time.Since(o.ended) > pairingKept })
	live := 0
	for _, o := range s.all {
		if o.ended.IsZero() && o.now.Incoming == p.now.Incoming && o.ticket == p.ticket {
			live++
		}
	}
	if p.now.Incoming && !p.ticket && live > 0 {
		s.mu.Unlock()
		return nil, errors.New("it is busy: its person is being asked about another host; try again in a minute")
	}
	if live >= maxPairings {
		s.mu.Unlock()
		return nil, usage("cancel one of them, or wait", "%d pairings are under way already", live)
	}
	ended := slices.IndexFunc(s.all, func(o *pairing) bool { return !o.ended.IsZero() })
	if len(s.all) >= 32 && ended >= 0 {
		s.all = slices.Delete(s.all, ended, ended+1)
	}
	p.now.ID, p.now.State, p.now.Began = strings.ToLower(rand.Text()[:8]), control.PairingConnecting, time.Now()
	p.now.Expires = p.now.Began.Add(pairingLife)
	p.answer = make(chan bool, 1)
	ctx, cancel := context.WithCancelCause(d.ctx)
	p.cancel = cancel
	s.all = append(s.all, p)
	s.mu.Unlock()
	ctx, stop := context.WithDeadlineCause(ctx, p.now.Expires, errPairingLate)
	context.AfterFunc(ctx, stop)
	return ctx, nil
}

func (s *pairings) list() []control.Pairing {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []control.Pairing{}
	for _, p := range s.all {
		if p.ended.IsZero() || time.Since(p.ended) < pairingKept {
			all = append(all, p.now)
		}
	}
	return all
}

func (s *pairings) find(id string) (*pairing, control.Pairing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.all {
		if p.now.ID == id {
			return p, p.now, nil
		}
	}
	return nil, control.Pairing{}, usage("`hither pair` shows what waits", "there is no pairing %s (any more)", id)
}

// begun is one that goes on with this host: begun by it, or from here.
func (s *pairings) begun(incoming bool, fits func(*pairing) bool) *pairing {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.all {
		if p.ended.IsZero() && p.now.Incoming == incoming && fits(p) {
			return p
		}
	}
	return nil
}

// beginPairing is POST /v1/pairings.
func (d *Daemon) beginPairing(r *http.Request) (any, error) {
	var in control.PairingRequest
	if err := read(r, &in); err != nil {
		return nil, err
	}
	if d.endpoint == nil {
		return nil, d.why
	}
	p := &pairing{}
	var begin func(context.Context) (*transport.Pairing, error)
	switch {
	case in.Ticket != "":
		t, err := transport.ParseTicket(in.Ticket)
		if err != nil {
			return nil, usage("`hither pair --ticket` on the other host prints one", "%v", err)
		}
		if t.ID == d.identity.ID() {
			return nil, usage("give it to the other host", "the ticket is this host's own")
		}
		p.now.Name, p.want, p.at, p.ticket = t.Name, string(t.ID), t.Addresses, true
		begin = func(ctx context.Context) (*transport.Pairing, error) { return d.endpoint.JoinPairing(ctx, t) }
	case in.Address != "":
		address, err := withPort(in.Address)
		if err != nil {
			return nil, usage("", "%v", err)
		}
		p.now.Name, p.at = in.Address, []string{address}
	case in.Peer != "":
		if err := d.near(r.Context(), in.Peer, p); err != nil {
			return nil, err
		}
	default:
		return nil, usage("", "neither a host, nor an address, nor a ticket was named")
	}
	if begin == nil {
		name, want, at := p.now.Name, p.want, p.at
		begin = func(ctx context.Context) (*transport.Pairing, error) {
			return d.endpoint.BeginPairing(ctx, name, want, at)
		}
	}
	p.now.Address = strings.Join(p.at, " ")
	// The other side was faster: its digits are those to compare.
	if o := d.pairings.begun(true, func(o *pairing) bool { return in.Ticket == "" && same(p, o) }); o != nil {
		d.pairings.mu.Lock()
		defer d.pairings.mu.Unlock()
		return o.now, nil
	}
	ctx, err := d.addPairing(p)
	if err != nil {
		return nil, err
	}
	d.pairings.mu.Lock()
	now := p.now
	d.pairings.mu.Unlock()
	d.work.Go(func() {
		conv, err := begin(ctx)
		if err == nil {
			err = d.negotiate(ctx, p, conv)
		}
		d.pairingOver(ctx, p, err)
	})
	return now, nil
}

// same says whether a pairing begun here and one begun there are with one host.
// It is called with pairings.mu held, or before the first is in the list.
func same(mine, theirs *pairing) bool {
	if theirs.now.PeerID == "" {
		return false
	}
	if mine.now.PeerID != "" {
		return mine.now.PeerID == theirs.now.PeerID
	}
	if mine.want != "" {
		return strings.HasPrefix(theirs.now.PeerID, mine.want)
	}
	return slices.Contains(mine.at, theirs.now.Address)
}

// near is where a host is that is not paired, or is to be paired anew.
func (d *Daemon) near(ctx context.Context, what string, p *pairing) error {
	var all []discovery.Peer
	if d.book != nil {
		all = d.book.Peers()
	}
	found := slices.DeleteFunc(slices.Clone(all), func(x discovery.Peer) bool {
		return x.Name != what && (len(what) < 4 || !strings.HasPrefix(string(x.ID), what) && !strings.HasPrefix(what, string(x.ID)))
	})
	if strangers := slices.DeleteFunc(slices.Clone(found), func(x discovery.Peer) bool { return x.Paired }); len(strangers) > 0 {
		found = strangers
	}
	switch {
	case len(found) == 1 && len(found[0].Addresses) > 0:
		p.now.Name, p.want, p.at = found[0].Name, string(found[0].ID), found[0].Addresses
		if strings.HasPrefix(what, p.want) {
			p.want = what // more of it
		}
		return nil
	case len(found) > 1:
		var which []string
		for _, x := range found {
			which = append(which, x.Name+" ("+x.ID.Short()+")")
		}
		return usage("say the beginning of its ID instead", "%q may be any of %s", what, strings.Join(which, ", "))
	}
	address, err := withPort(what)
	if err == nil {
		host, _, _ := net.SplitHostPort(address)
		lookup, stop := context.WithTimeout(ctx, 2*time.Second)
		defer stop()
		_, err = net.DefaultResolver.LookupHost(lookup, host)
	}
	if err != nil {
		hint := "start hither there (`hither ls` does), or give its address as host:port, or use a ticket (`hither pair --ticket` there)"
		var names []string
		for _, x := range all {
			if !x.Paired {
				names = append(names, x.Name)
			}
		}
		if len(names) > 0 {
			hint = "near are " + strings.Join(names, ", ") + "; otherwise " + hint
		}
		return usage(hint, "no host %q is near", what)
	}
	p.now.Name, p.at = what, []string{address}
	return nil
}

// withPort is an address host:port of one that may lack the port.
func withPort(address string) (string, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		host := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		address = net.JoinHostPort(host, strconv.Itoa(transport.DefaultPort))
	}
	return address, transport.CheckAddress(address)
}

// acceptPairings serves those who want to be paired with this host.
func (d *Daemon) acceptPairings() {
	for {
		conv, err := d.endpoint.AcceptPairing(d.ctx)
		if err != nil {
			return
		}
		d.work.Go(func() { d.incomingPairing(conv) })
	}
}

func (d *Daemon) incomingPairing(conv *transport.Pairing) {
	peer := conv.Peer()
	from, _, _ := net.SplitHostPort(peer.Addresses[0])
	p := &pairing{ticket: conv.ByTicket(), now: control.Pairing{Incoming: true, Name: peer.Name, PeerID: string(peer.ID), Address: peer.Addresses[0]}}
	refuse := func(reason string) {
		if d.pairings.logged.allow("") {
			log.Printf("%s (%s) at %s wants to be paired: refused: %s", peer.Name, peer.ID.Short(), from, reason)
		}
		conv.Refuse(reason)
	}
	if !conv.ByTicket() {
		if !d.pairings.ofOne.allow(from) || !d.pairings.ofAll.allow("") {
			refuse("it was asked too often lately: try again in some minutes")
			return
		}
		// Both people have begun at the same time: one of the two has to do.
		if d.pairings.begun(false, func(o *pairing) bool { return same(o, p) }) != nil && d.identity.ID() < peer.ID {
			refuse("it pairs with this host already: answer that (`hither pair`)")
			return
		}
	}
	ctx, err := d.addPairing(p)
	if err != nil {
		refuse(err.Error())
		return
	}
	if !conv.ByTicket() {
		err = conv.Exchange()
	}
	if err == nil {
		log.Printf("%s (%s) at %s wants to be paired", peer.Name, peer.ID.Short(), from)
		err = d.negotiate(ctx, p, conv)
	}
	conv.Close()
	d.pairingOver(ctx, p, err)
}

// negotiate waits for both people, and keeps the key when both have agreed.
func (d *Daemon) negotiate(ctx context.Context, p *pairing, conv *transport.Pairing) error {
	defer conv.Close()
	peer := conv.Peer()
	warning := d.known(peer)
	d.changePairing(p, func(now *control.Pairing) {
		now.State, now.Name, now.PeerID, now.Address = control.PairingCompare, peer.Name, string(peer.ID), peer.Addresses[0]
		now.Code, now.Warning = conv.Code(), warning
		if conv.ByTicket() {
			now.State = control.PairingWaiting
		}
	})
	if p.now.Incoming && !conv.ByTicket() {
		shown, stop := context.WithCancel(ctx)
		defer stop()
		d.work.Go(func() { d.noticePairing(shown, p, peer, conv.Code(), warning) })
	}
	heard := make(chan error, 1)
	go func() { heard <- conv.Hear(ctx) }()
	agreed, theirs := false, false
	if conv.ByTicket() {
		agreed = true
		if err := conv.Say(); err != nil {
			return err
		}
	}
	var gone <-chan struct{}
	for !agreed || !theirs {
		select {
		case yes := <-p.answer:
			if !yes {
				conv.Refuse("the digits differ there, so the two are not paired: somebody may stand between them")
				return errPairingDiffer
			}
			if err := conv.Say(); err != nil {
				return err
			}
			agreed = true
		case err := <-heard:
			if err != nil {
				if ctx.Err() != nil {
					return d.givenUp(ctx, conv)
				}
				return err
			}
			theirs, gone = true, conv.Done()
		case <-gone:
			return fmt.Errorf("%s has given it up", peer.Name)
		case <-ctx.Done():
			return d.givenUp(ctx, conv)
		}
	}
	fresh, err := d.pin(conv.Peer())
	if err != nil {
		conv.Refuse("it could not keep the key")
		return err
	}
	if err := conv.Finish(); err != nil {
		if fresh {
			err = errors.Join(err, d.trust.Remove(peer.ID))
		}
		return err
	}
	return nil
}

func (d *Daemon) givenUp(ctx context.Context, conv *transport.Pairing) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errPairingLate):
		conv.Refuse("nobody there answered in time")
	default:
		conv.Refuse("the person there gave it up")
	}
	return cause
}

// pairingOver tells the end.
func (d *Daemon) pairingOver(ctx context.Context, p *pairing, err error) {
	if err != nil && ctx.Err() != nil && d.ctx.Err() == nil {
		err = context.Cause(ctx)
	}
	d.changePairing(p, func(now *control.Pairing) {
		now.State = control.PairingDone
		if err != nil {
			now.State, now.Reason = control.PairingFailed, err.Error()
		}
		log.Printf("pairing with %s: %s %s", now.Name, now.State, now.Reason)
	})
	p.cancel(nil)
	if err == nil {
		d.events.tell(control.Event{Event: "peers", Peer: p.now.Name})
	}
}

// known warns of a host that comes with the name of another one.
func (d *Daemon) known(peer transport.Peer) string {
	list, err := d.trust.List()
	if err != nil {
		return ""
	}
	for _, o := range list {
		if strings.EqualFold(o.Name, peer.Name) && o.ID != peer.ID {
			return fmt.Sprintf("a host called %s is paired already, with another key (%s; this one is %s). Unless %s was set up anew, this is another machine that takes its name",
				o.Name, o.ID.Short(), peer.ID.Short(), o.Name)
		}
	}
	return ""
}

// pin keeps a host that both people have agreed to. It is fresh if it was not
// paired before.
func (d *Daemon) pin(peer transport.Peer) (fresh bool, err error) {
	if _, err := d.trust.Get(peer.ID); err == nil {
		return false, d.trust.Update(peer.ID, func(p *transport.Peer) {
			for _, a := range slices.Backward(peer.Addresses) {
				p.Addresses = firstAddress(a, p.Addresses)
			}
		})
	}
	name := peer.Name
	for n := 2; ; n++ {
		taken, err := d.called(peer.Name, peer.ID)
		if err != nil {
			return false, err
		}
		if !taken {
			break
		}
		peer.Name = fmt.Sprintf("%.58s-%d", name, n)
	}
	for what, said := range d.newPermissions() {
		permit(&peer, what, said)
	}
	return true, d.trust.Put(peer)
}

// called says whether another host is called so here. Names that differ in case only are
// one to people.
func (d *Daemon) called(name string, id transport.ID) (bool, error) {
	list, err := d.trust.List()
	return slices.ContainsFunc(list, func(o transport.Peer) bool { return o.ID != id && strings.EqualFold(o.Name, name) }), err
}

// noticePairing shows the code on the desktop.
func (d *Daemon) noticePairing(ctx context.Context, p *pairing, peer transport.Peer, code, warning string) {
	body := fmt.Sprintf("Does %s show %s %s, too? Say so only if you see it there.", peer.Name, code[:3], code[3:])
	if warning != "" {
		body += " Beware: " + warning + "."
	}
	d.notice(ctx, notice{Title: peer.Name + " wants to be paired with this machine", Body: body,
		Actions: []string{"same", "Both show the same", "differ", "They differ"},
		Chosen:  func(key string) { d.sayPairing(p, key == "same") }, Command: "hither pair"})
}

// sayPairing takes a person's answer; false if it is not asked for (any more).
func (d *Daemon) sayPairing(p *pairing, match bool) bool {
	ok := false
	d.changePairing(p, func(now *control.Pairing) {
		if now.State != control.PairingCompare {
			return
		}
		select {
		case p.answer <- match:
			if ok = true; match {
				now.State = control.PairingWaiting
			}
		default:
		}
	})
	return ok
}

// answerPairing is POST /v1/pairings/ID/answer.
func (d *Daemon) answerPairing(r *http.Request) (any, error) {
	var in control.PairingAnswer
	if err := read(r, &in); err != nil {
		return nil, err
	}
	p, now, err := d.pairings.find(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if !d.sayPairing(p, in.Match) {
		return nil, usage("", "the pairing with %s has nothing to compare: it is %s", now.Name, cmp.Or(now.Reason, now.State))
	}
	_, now, err = d.pairings.find(now.ID)
	return now, err
}

// cancelPairing is DELETE /v1/pairings/ID.
func (d *Daemon) cancelPairing(r *http.Request) (any, error) {
	p, _, err := d.pairings.find(r.PathValue("id"))
	if err == nil {
		p.cancel(errPairingCancelled)
	}
	return nil, err
}

// makeTicket is POST /v1/tickets.
func (d *Daemon) makeTicket(r *http.Request) (any, error) {
	var in control.TicketRequest
	if err := read(r, &in); err != nil {
		return nil, err
	}
	if d.endpoint == nil {
		return nil, d.why
	}
	life := time.Duration(in.Minutes * float64(time.Minute))
	if in.Minutes == 0 {
		life = ticketLife
	}
	if life <= 0 || life > transport.MaxTicketLife {
		return nil, usage("", "a ticket is good for up to %.0f minutes", transport.MaxTicketLife.Minutes())
	}
	t, expires := d.endpoint.MakeTicket(life)
	return control.Ticket{Ticket: t.String(), Expires: expires}, nil
}

// unpair is DELETE /v1/peers/PEER: from now on the host gets nothing. A move with
// it that is decided on one side only may still be settled, for some moments.
func (d *Daemon) unpair(r *http.Request) (any, error) {
	p, err := d.peer(r.PathValue("peer"))
	if err != nil {
		return nil, err
	}
	if err := d.trust.Remove(p.ID); err != nil {
		return nil, err
	}
	d.questions.forget(string(p.ID))
	d.parted(p.ID)
	d.events.tell(control.Event{Event: "peers", Peer: p.Name})
	return nil, nil
}

// parted ends what goes on with a host that is paired no more.
func (d *Daemon) parted(id transport.ID) {
	if d.endpoint == nil {
		return
	}
	for end := time.Now().Add(settlePatience); time.Now().Before(end); {
		decided := false
		for _, m := range d.moves.Pending() {
			decided = decided || m.Peer == string(id) && m.State != "working"
		}
		if !decided {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-d.ctx.Done():
			return
		}
	}
	d.endpoint.Drop(id)
}

const settlePatience = 3 * time.Second
