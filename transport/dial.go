package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// stagger is how long an address is given before the next one is tried too.
const stagger = 200 * time.Millisecond

// Dial connects to a peer at the first of its addresses that leads to it.
// Its addresses are tried one after the other with a short delay, and all at
// the same time if none answers.
func (e *Endpoint) Dial(ctx context.Context, peer Peer) (*Conn, error) {
	if peer.ID != IDOf(peer.Key) {
		return nil, fmt.Errorf("dialling %s: its ID is not that of its key", peer.Name)
	}
	targets, err := resolve(ctx, peer.Addresses)
	if len(targets) == 0 {
		return nil, &UnreachableError{Peer: peer.Name, Tried: peer.Addresses, Err: err}
	}
	c, failed := race(ctx, targets, func(ctx context.Context, target *net.UDPAddr) (*Conn, error) {
		return e.dialOne(ctx, peer, target)
	}, func(c *Conn) { c.Close("another address was faster") })
	if failed != nil {
		return nil, e.failure(peer, failed)
	}
	if !e.start(c) {
		return nil, fmt.Errorf("dialling %s: %w", peer.Name, net.ErrClosed)
	}
	return c, nil
}

// race tries one target after the other with a short delay, and all at the same
// time if none answers. The first that works wins; what comes later is dropped.
func race[T any](ctx context.Context, targets []*net.UDPAddr, dial func(context.Context, *net.UDPAddr) (T, error), drop func(T)) (won T, failed []error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn T
		err  error
	}
	results := make(chan result)
	running, next := 0, 0
	try := func() {
		target := targets[next]
		next++
		running++
		go func() {
			c, err := dial(ctx, target)
			select {
			case results <- result{c, err}:
			case <-ctx.Done():
				if err == nil {
					drop(c)
				}
			}
		}()
	}
	try()
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	for running > 0 {
		select {
		case r := <-results:
			running--
			if r.err == nil {
				return r.conn, nil
			}
			failed = append(failed, r.err)
			if _, refused := errors.AsType[*RefusedError](r.err); refused {
				return won, failed // by the right host: other addresses lead to no other one
			}
			if next < len(targets) {
				try()
				timer.Reset(stagger)
			}
		case <-timer.C:
			if next < len(targets) {
				try()
				timer.Reset(stagger)
			}
		case <-ctx.Done():
			return won, append(failed, context.Cause(ctx))
		}
	}
	return won, failed
}

// failure picks what tells a person most: being refused by the right host,
// then meeting a wrong one, then silence.
func (e *Endpoint) failure(peer Peer, failed []error) error {
	for _, err := range failed {
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			return refused
		}
		if errors.Is(err, ErrSelf) || errors.Is(err, ErrOtherVersion) {
			return err
		}
	}
	for _, err := range failed {
		if wrong, ok := errors.AsType[*WrongKeyError](err); ok {
			return wrong
		}
	}
	return &UnreachableError{Peer: peer.Name, Tried: peer.Addresses, Err: failed[len(failed)-1]}
}

func (e *Endpoint) dialOne(ctx context.Context, peer Peer, target *net.UDPAddr) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, e.opts.HandshakeTimeout)
	defer cancel()
	var proven atomic.Bool
	q, err := e.quic.Dial(ctx, target, e.identity.dialTLS(peer, func() { proven.Store(true) }), e.opts.quic())
	if err != nil {
		err = explain(peer.Name, err)
		if _, refused := errors.AsType[*RefusedError](err); refused && !proven.Load() {
			// Anybody can say so who is asked: an address may be a stranger's hint.
			err = &LostError{Peer: peer.Name, Err: fmt.Errorf("%s refused, and did not show the key of %s", target, peer.Name)}
		}
		return nil, err
	}
	c := newConn(e, q, peer)
	if _, err := c.hello(ctx); err != nil {
		_ = q.CloseWithError(codeBadTalk, "no hello")
		return nil, err
	}
	return c, nil
}

// resolve turns host:port into addresses, in order, each once.
func resolve(ctx context.Context, addresses []string) ([]*net.UDPAddr, error) {
	var targets []*net.UDPAddr
	var failed []error
	seen := make(map[string]bool)
	for _, a := range addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			failed = append(failed, fmt.Errorf("address %q: %w", a, err))
			continue
		}
		n, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
		if err != nil {
			failed = append(failed, fmt.Errorf("address %q: %w", a, err))
			continue
		}
		ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		for _, ip := range ips {
			t := &net.UDPAddr{IP: ip.IP, Zone: ip.Zone, Port: n}
			if len(targets) < maxAddresses && !seen[t.String()] {
				seen[t.String()] = true
				targets = append(targets, t)
			}
		}
	}
	return targets, errors.Join(failed...)
}
