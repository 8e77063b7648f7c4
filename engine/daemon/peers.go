package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"slices"
	"sync"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/transport"
)

const maxApps = 4 << 20 // bytes of a peer's list of apps

// acceptPeers serves what peers begin: one conversation each connection.
func (d *Daemon) acceptPeers() {
	for {
		c, err := d.endpoint.Accept(d.ctx)
		if err != nil {
			return
		}
		if d.book != nil {
			d.book.Seen(c)
		}
		d.work.Go(func() {
			why := "the conversation is over"
			if err := d.converse(c); err != nil && d.ctx.Err() == nil && c.Err() == nil {
				log.Printf("serving %s: %v", c.Peer().Name, err)
				why = fmt.Sprintf("%.200v", err)
			}
			if d.ctx.Err() == nil { // else the endpoint says goodbye, which tells the peer more
				c.Close(why)
			}
		})
	}
}

func (d *Daemon) converse(c *transport.Conn) error {
	// A connection without a stream is one that only pings.
	s, err := c.AcceptStream(d.ctx)
	if err != nil {
		return nil
	}
	first, err := s.Receive(handover.MaxFrame + 16)
	if err != nil {
		return err
	}
	switch first.Type {
	case frameList:
		if err := d.mayWatch(string(c.Peer().ID)); err != nil {
			return d.lastWord(c, s, frameNo, withCure(err), err)
		}
		b, err := json.Marshal(control.Apps{Apps: d.here()})
		if err != nil {
			return err
		}
		if err := errors.Join(s.Frames.Send(frameApps, b), s.Close()); err != nil {
			return err
		}
		untilRead(c)
		return nil
	case frameIconAsk:
		if err := d.mayWatch(string(c.Peer().ID)); err != nil {
			return d.lastWord(c, s, frameNo, withCure(err), err)
		}
		return d.giveIcon(c, s, first)
	case frameMove:
		l := &link{conn: c, control: s, came: map[handover.StreamKind]*transport.Stream{}}
		if err := first.Decode(&l.first); err != nil {
			return err
		}
		return d.moves.Accept(d.ctx, l, acceptor{d})
	case frameHome:
		return d.takeHome(c, s, first)
	}
	return fmt.Errorf("it begins with a frame of type %d; it may run another version of hither", first.Type)
}

// untilRead waits for the peer to have read the last answer, and to hang up.
func untilRead(c *transport.Conn) {
	select {
	case <-c.Done():
	case <-time.After(2 * time.Second):
	}
}

// dial opens a link to a peer, for one conversation.
func (d *Daemon) dial(ctx context.Context, peer transport.Peer) (*link, error) {
	c, err := d.connect(ctx, peer)
	if err != nil {
		return nil, err
	}
	return newLink(ctx, c)
}

func (d *Daemon) connect(ctx context.Context, peer transport.Peer) (*transport.Conn, error) {
	if d.endpoint == nil {
		return nil, fmt.Errorf("this host has no socket for peers: %w", d.why)
	}
	if d.book != nil {
		return d.book.Dial(ctx, string(peer.ID))
	}
	return d.endpoint.Dial(ctx, peer)
}

// converseWith begins a conversation with a peer by its first frame; end ends it, as ctx does.
func (d *Daemon) converseWith(ctx context.Context, peer transport.Peer, first transport.FrameType, v any) (s *transport.Stream, end func(), err error) {
	c, err := d.connect(ctx, peer)
	if err != nil {
		return nil, nil, err
	}
	if s, err = c.OpenStream(ctx); err != nil {
		c.Close("thank you")
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, s.Cancel)
	end = func() { stop(); c.Close("thank you") }
	if err := s.Frames.Send(first, v); err != nil {
		end()
		return nil, nil, err
	}
	return s, end, nil
}

// peerApps asks a peer for its apps.
func (d *Daemon) peerApps(ctx context.Context, peer transport.Peer) (*control.Apps, error) {
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	s, end, err := d.converseWith(ctx, peer, frameList, struct{}{})
	if err != nil {
		return nil, err
	}
	defer end()
	first, err := s.Receive(maxApps)
	if err == nil && first.Type == frameNo {
		var why string
		if err = first.Decode(&why); err == nil {
			return nil, errors.New(handover.Plain(why, 500))
		}
	}
	var b []byte
	if err == nil && first.Type != frameApps {
		err = &transport.FrameTypeError{Got: first.Type, Want: frameApps}
	}
	if err == nil {
		err = first.Decode(&b)
	}
	if err != nil {
		return nil, fmt.Errorf("asking %s for its apps: %w", peer.Name, err)
	}
	apps := new(control.Apps)
	if err := json.Unmarshal(b, apps); err != nil {
		return nil, fmt.Errorf("reading the apps of %s: %w", peer.Name, err)
	}
	for i := range apps.Apps {
		plain(&apps.Apps[i])
	}
	return apps, nil
}

// plain makes what a peer says of an app fit to be shown.
func plain(a *control.App) {
	for _, text := range []*string{&a.ID, &a.Name, &a.Title, &a.State, &a.Dir, &a.Origin, &a.Host, &a.Move, &a.Reason, &a.Notice} {
		*text = handover.Plain(*text, 1000)
	}
	for i := range a.Command {
		a.Command[i] = handover.Plain(a.Command[i], 1000)
	}
	for i := range a.Processes {
		p := &a.Processes[i]
		p.Name, p.State, p.Service = handover.Plain(p.Name, 100), handover.Plain(p.State, 100), handover.Plain(p.Service, 100)
	}
	handover.PlainProblems(a.Problems)
}

// resolveAll settles undecided moves: at once when a peer comes or a move has
// become undecided, and now and then as long as there are any.
func (d *Daemon) resolveAll() {
	pause := time.Second
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.resolve:
			pause = time.Second
		case <-timer.C:
		}
		left := 0
		var peers []string
		for _, p := range d.moves.Pending() {
			if !slices.Contains(peers, p.Peer) && len(d.moves.Unsettled(p.Peer)) > 0 {
				peers = append(peers, p.Peer)
			}
		}
		var all sync.WaitGroup
		for _, id := range peers {
			left++
			all.Go(func() { d.settleWith(id) })
		}
		all.Wait()
		timer.Stop()
		if left > 0 {
			timer.Reset(pause)
			pause = min(2*pause, 30*time.Second)
		}
	}
}

func (d *Daemon) settleWith(id string) {
	peer, err := d.trust.Get(transport.ID(id))
	if err != nil {
		return // it was unpaired: a person may claim
	}
	for _, move := range d.moves.Unsettled(id) {
		ctx, stop := context.WithTimeout(d.ctx, 15*time.Second)
		l, err := d.dial(ctx, peer)
		if err == nil {
			err = d.moves.Resolve(ctx, l, move)
		}
		stop()
		if err != nil {
			d.events.tell(control.Event{Event: "undecided", Peer: peer.Name, Text: err.Error()})
			return
		}
		log.Printf("move %s with %s is settled", move, peer.Name)
		d.events.tell(control.Event{Event: "apps"})
	}
}
