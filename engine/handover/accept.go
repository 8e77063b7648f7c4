package handover

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Acceptor is what this host does when a peer begins something.
type Acceptor interface {
	// Destination makes the receiving side for an offer of the peer.
	Destination(peer string, offer *Offer) (Destination, error)
	// Source makes the sending side for an app that the peer wants to have
	// ("bring"). The app is a name, an id or a prefix.
	Source(peer, app string) (Source, error)
	// Consent says whether the peer may send us the app of the offer, or, with
	// offer nil, bring the app of this host to itself. It may ask a person; as
	// long as it does, it calls waiting now and then with what is waited for.
	// Of a check nobody is asked: notes then say that somebody would be. An error
	// is a no; a *Refusal has a cure.
	Consent(ctx context.Context, peer string, offer *Offer, app string, check bool, waiting func(note string)) (notes []string, err error)
	// PeerName is what people here call the peer.
	PeerName(peer string) string
	// Watch is told of a move that the peer has begun; it returns who is told
	// of its progress (or nil). Done is called with the result.
	Watch(peer string, offer *Offer, app string) (progress func(Progress), done func(*Result))
}

// Accept serves one link that a peer has opened: a move that comes, a move
// that is asked for, or a question about an undecided one.
func (m *Moves) Accept(ctx context.Context, link Link, a Acceptor) error {
	p := newParty(ctx, link, m.Times)
	defer p.end()
	first, err := p.within(p.ctx, 20*time.Second, "waiting for what the peer wants", kindOffer, kindBring, kindCommit, kindAsk)
	if err != nil {
		return err
	}
	waiting := func(note string) {
		p.send(&message{Kind: kindProgress, Progress: &Progress{Note: note}}) // only news
	}
	switch first.Kind {
	case kindOffer:
		offer := first.Offer
		offer.Came = time.Now()
		var dst Destination
		notes, err := a.Consent(p.ctx, p.peer, offer, "", offer.Check, waiting)
		if err == nil {
			dst, err = a.Destination(p.peer, offer)
		}
		if err != nil {
			return p.send(&message{Kind: kindAnswer, Answer: &Answer{Host: m.Name, Problems: m.problems(err)}})
		}
		_, done := a.Watch(p.peer, offer, "")
		done(m.receive(p, offer, dst, a.PeerName(p.peer), notes))
		return nil
	case kindBring:
		var src Source
		notes, err := a.Consent(p.ctx, p.peer, nil, first.App, first.Check, waiting)
		if err == nil {
			src, err = a.Source(p.peer, first.App)
		}
		if err != nil {
			return p.send(&message{Kind: kindCancel, Reason: err.Error(), Answer: &Answer{Host: m.Name, Problems: m.problems(err)}})
		}
		progress, done := a.Watch(p.peer, nil, first.App)
		done(m.sendOver(p, src, SendOptions{App: first.App, PeerName: a.PeerName(p.peer), Check: first.Check, Progress: progress, relay: true, notes: notes}))
		return nil
	}
	return m.serve(p, first)
}

// problems is an error as an answer says it.
func (m *Moves) problems(err error) []Problem {
	var refused *Refusal
	if errors.As(err, &refused) {
		return refused.Problems
	}
	return []Problem{{What: err.Error(), Side: m.Name}}
}

// Bring asks the host at the other end of the link for an app, and takes it.
// It closes the link.
func (m *Moves) Bring(ctx context.Context, link Link, app string, a Acceptor, opt SendOptions) *Result {
	begun := time.Now()
	p := newParty(ctx, link, m.Times)
	defer p.end()
	p.setProgress(opt.Progress)
	fail := func(err error) *Result {
		err = p.why(err, p.cause)
		r := &Result{App: app, From: opt.PeerName, To: m.Name, Outcome: Stayed, Reason: reason(err), TotalMS: ms(time.Since(begun))}
		var by *peerCancelled
		if errors.As(err, &by) {
			r.Problems = by.problems
		}
		return r
	}
	if err := p.send(&message{Kind: kindBring, App: app, Check: opt.Check}); err != nil {
		return fail(err)
	}
	first, err := p.patiently(p.ctx, m.Times.filled().Answer, "waiting for the app's offer", kindOffer)
	if err != nil {
		return fail(err)
	}
	if first.Offer.Check != opt.Check {
		return fail(fmt.Errorf("the peer offers something else than was asked"))
	}
	dst, err := a.Destination(p.peer, first.Offer)
	if err != nil {
		p.send(&message{Kind: kindAnswer, Answer: &Answer{Host: m.Name, Problems: m.problems(err)}})
		return fail(err)
	}
	r := m.receive(p, first.Offer, dst, opt.PeerName, nil)
	if r.TotalMS == 0 {
		r.TotalMS = ms(time.Since(begun))
	}
	return r
}
