package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"hither/engine/picture"
	"hither/transport"
)

// Icons of a peer's apps are asked for, one conversation each, and kept for a while.
// What comes is a PNG from elsewhere: it is bounded and looked through before it is
// handed on.

type iconAsk struct {
	App  string `cbor:"1,keyasint"` // its id, or a name
	Size int    `cbor:"2,keyasint"`
}

const (
	maxIconBytes  = 1 << 20
	peerIconEvery = 5 * time.Minute
	// Where there was none, it is asked for again sooner.
	peerIconRetry = 30 * time.Second
	maxPeerIcons  = 500
)

type peerIconKey struct {
	peer transport.ID
	app  string
	size int
}

type peerIcons struct {
	mu    sync.Mutex
	known map[peerIconKey]*peerIconAnswer
}

// peerIconAnswer is open until done is closed.
type peerIconAnswer struct {
	done chan struct{}
	icon *pictured
	err  error
	when time.Time
}

func (a *peerIconAnswer) stale() bool {
	select {
	case <-a.done:
	default:
		return false // it is on its way
	}
	if a.err != nil {
		return time.Since(a.when) > peerIconRetry
	}
	return time.Since(a.when) > peerIconEvery
}

func (d *Daemon) peerIcon(ctx context.Context, peer transport.Peer, app string, size int) (*pictured, error) {
	key := peerIconKey{peer.ID, app, size}
	c := &d.peerIcons
	c.mu.Lock()
	a := c.known[key]
	if a == nil || a.stale() {
		if c.known == nil || len(c.known) >= maxPeerIcons {
			c.known = map[peerIconKey]*peerIconAnswer{}
		}
		a = &peerIconAnswer{done: make(chan struct{})}
		c.known[key] = a
		d.work.Go(func() {
			defer close(a.done)
			a.icon, a.err = d.askPeerIcon(d.ctx, peer, app, size)
			a.when = time.Now()
		})
	}
	c.mu.Unlock()
	select {
	case <-a.done:
		return a.icon, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Daemon) askPeerIcon(ctx context.Context, peer transport.Peer, app string, size int) (*pictured, error) {
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	s, end, err := d.converseWith(ctx, peer, frameIconAsk, iconAsk{app, size})
	if err != nil {
		return nil, err
	}
	defer end()
	var b []byte
	if err := s.ReceiveInto(frameIcon, &b, maxIconBytes); err != nil {
		return nil, fmt.Errorf("asking %s for an icon: %w", peer.Name, err)
	}
	if err := picture.Check(b, maxIcon); err != nil {
		return nil, fmt.Errorf("the icon that %s sent: %w", peer.Name, err)
	}
	return &pictured{png: b, of: xxh3.Hash(b), width: size, height: size, when: time.Now()}, nil
}

// giveIcon answers a peer.
func (d *Daemon) giveIcon(c *transport.Conn, s *transport.Stream, first transport.Frame) error {
	var ask iconAsk
	if err := first.Decode(&ask); err != nil {
		return err
	}
	if ask.Size < 1 || ask.Size > maxIcon {
		return fmt.Errorf("an icon of %d pixels is asked for", ask.Size)
	}
	f, err := d.running(ask.App)
	if err != nil {
		return err
	}
	p, err := d.icon(d.ctx, f, ask.Size)
	if err != nil {
		return err
	}
	if err := s.Frames.Send(frameIcon, p.png); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	untilRead(c)
	return nil
}
