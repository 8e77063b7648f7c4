package discovery

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"hither/transport"
)

const (
	maxStrangers = 256
	maxHints     = 8 // addresses by hint for one peer
	strangerLife = 45 * time.Second
)

// Peer is what is known about another host.
type Peer struct {
	Name      string       `json:"name"`
	ID        transport.ID `json:"id"` // of a host that is not paired: only the beginning
	Paired    bool         `json:"paired"`
	Online    bool         `json:"online"`
	Addresses []string     `json:"addresses,omitempty"`
	RTT       float64      `json:"rtt_ms,omitempty"`
	LastSeen  time.Time    `json:"last_seen,omitzero"`
	Problem   string       `json:"problem,omitempty"` // why it is not online

	OS      string `json:"os,omitempty"`
	Arch    string `json:"arch,omitempty"`
	Version string `json:"version,omitempty"`

	Permissions map[string]bool `json:"permissions,omitempty"`
	Removed     bool            `json:"removed,omitempty"` // it is in no list any more
}

// Options of a Book. The zero value is good.
type Options struct {
	Interval time.Duration // between two pings of a peer; default 3 s
	Misses   int           // in a row, until a peer is offline; default 3
	NoMDNS   bool

	// Changed, if set, is told of peers that came, went or changed.
	Changed func(Peer)
}

// Book knows who is there.
type Book struct {
	endpoint *transport.Endpoint
	trust    *transport.Trust
	opts     Options

	mu        sync.Mutex
	peers     map[transport.ID]*known
	strangers map[transport.ID]*stranger // by the beginning of their IDs
	dirty     map[transport.ID]bool      // Changed is to be told

	ctx    context.Context
	cancel context.CancelFunc
	tell   chan struct{} // something is dirty
	work   sync.WaitGroup
}

// known is a paired host; Book.mu guards it.
type known struct {
	trusted transport.Peer
	hints   []string // addresses, newest first
	now     Peer     // without what trusted says
	kick    chan struct{}
	stop    context.CancelFunc
}

type stranger struct {
	peer  Peer
	heard time.Time
}

// Open begins to look around.
func Open(endpoint *transport.Endpoint, trust *transport.Trust, opts Options) (*Book, error) {
	if opts.Interval <= 0 {
		opts.Interval = 3 * time.Second
	}
	if opts.Misses <= 0 {
		opts.Misses = 3
	}
	b := &Book{endpoint: endpoint, trust: trust, opts: opts,
		peers:     make(map[transport.ID]*known),
		strangers: make(map[transport.ID]*stranger),
		dirty:     make(map[transport.ID]bool),
		tell:      make(chan struct{}, 1),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	if err := b.reload(); err != nil {
		b.cancel()
		return nil, err
	}
	b.work.Go(b.watchTrust)
	b.work.Go(b.tellChanges)
	if !opts.NoMDNS {
		b.work.Go(b.overhear)
	}
	return b, nil
}

// Close ends it. The peers are told by the endpoint when that is closed.
func (b *Book) Close() {
	b.cancel()
	b.work.Wait()
}

// Peers is everybody: paired hosts by name, then strangers by name.
func (b *Book) Peers() []Peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Peer
	for _, k := range b.peers {
		all = append(all, k.show())
	}
	for _, s := range b.strangers {
		all = append(all, s.peer)
	}
	slices.SortFunc(all, func(x, y Peer) int {
		if x.Paired != y.Paired {
			if x.Paired {
				return -1
			}
			return 1
		}
		return strings.Compare(x.Name+" "+string(x.ID), y.Name+" "+string(y.ID))
	})
	return all
}

// Target is the peer that a person means (a name, an ID or its beginning),
// with all addresses that are known now, best first.
func (b *Book) Target(what string) (transport.Peer, error) {
	p, err := b.trust.Find(what)
	if err != nil {
		return transport.Peer{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.peers[p.ID]; k != nil {
		p.Addresses = merge(p.Addresses, k.hints)
	}
	return p, nil
}

// Dial connects to the peer that a person means.
func (b *Book) Dial(ctx context.Context, what string) (*transport.Conn, error) {
	p, err := b.Target(what)
	if err != nil {
		return nil, err
	}
	c, err := b.endpoint.Dial(ctx, p)
	if err != nil {
		return nil, err
	}
	b.Seen(c)
	return c, nil
}

// Seen tells of a connection that a peer has made, or answered: it is there.
func (b *Book) Seen(c *transport.Conn) {
	b.hint(c.Peer().ID, []string{address(c.RemoteAddr())}, true)
}

// AddAddress keeps an address that a person gave for a peer; it is tried first.
func (b *Book) AddAddress(id transport.ID, address string) error {
	if err := transport.CheckAddress(address); err != nil {
		return err
	}
	if err := b.remember(id, address); err != nil {
		return fmt.Errorf("keeping an address: %w", err)
	}
	b.hint(id, nil, true)
	return nil
}

// remember puts an address first in the book of trust, and drops the last one
// if there are too many.
func (b *Book) remember(id transport.ID, address string) error {
	const most = 8
	return b.trust.Update(id, func(p *transport.Peer) {
		p.Addresses = merge([]string{address}, p.Addresses)
		p.Addresses = p.Addresses[:min(len(p.Addresses), most)]
	})
}

// hint adds addresses where a peer may be, and has it tried at once if it is
// not online or at all events if now is set.
func (b *Book) hint(id transport.ID, addresses []string, now bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.peers[id]
	if k == nil {
		return
	}
	before := len(k.hints)
	k.hints = merge(addresses, k.hints)
	fresh := len(k.hints) > before
	k.hints = k.hints[:min(len(k.hints), maxHints)]
	if now && !k.now.Online || fresh && !k.now.Online {
		k.kickOff()
	}
}

// kickAll has every peer tried at once: this host's own addresses changed.
func (b *Book) kickAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.peers {
		k.kickOff()
	}
}

func (k *known) kickOff() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

func (k *known) show() Peer {
	p := k.now
	p.ID, p.Name, p.Paired = k.trusted.ID, k.trusted.Name, true
	p.Addresses = merge(k.trusted.Addresses, k.hints)
	p.Permissions = maps.Clone(k.trusted.Permissions)
	return p
}

// watchTrust follows the book of trust, which other processes change too, and
// forgets strangers that were not heard for a while.
func (b *Book) watchTrust() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = b.reload() // a damaged book: who is known stays known; Dial says what is wrong
			b.forgetStrangers(time.Now())
		case <-b.ctx.Done():
			return
		}
	}
}

// reload starts and stops following peers as the book of trust says.
func (b *Book) reload() error {
	list, err := b.trust.List()
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	gone := maps.Clone(b.peers)
	for _, p := range list {
		delete(gone, p.ID)
		k := b.peers[p.ID]
		if k == nil {
			ctx, stop := context.WithCancel(b.ctx)
			k = &known{trusted: p, kick: make(chan struct{}, 1), stop: stop}
			b.peers[p.ID] = k
			b.mark(p.ID)
			b.work.Go(func() { b.follow(ctx, k) })
			continue
		}
		if !same(k.trusted, p) {
			k.trusted = p
			b.mark(p.ID)
		}
	}
	for id, k := range gone {
		k.stop()
		delete(b.peers, id)
		b.mark(id)
	}
	return nil
}

func same(a, b transport.Peer) bool {
	return a.Name == b.Name && slices.Equal(a.Addresses, b.Addresses) && maps.Equal(a.Permissions, b.Permissions)
}

// mark has Changed told about id. Book.mu is held.
func (b *Book) mark(id transport.ID) {
	b.dirty[id] = true
	select {
	case b.tell <- struct{}{}:
	default:
	}
}

// tellChanges calls Changed with what is true when it is called: changes that
// come faster than it works are told as one.
func (b *Book) tellChanges() {
	for {
		select {
		case <-b.tell:
		case <-b.ctx.Done():
			return
		}
		b.mu.Lock()
		var changed []Peer
		for id := range b.dirty {
			p := Peer{ID: id, Removed: true}
			if k := b.peers[id]; k != nil {
				p = k.show()
			} else if s := b.strangers[id]; s != nil {
				p = s.peer
			}
			changed = append(changed, p)
		}
		clear(b.dirty)
		b.mu.Unlock()
		for _, p := range changed {
			if b.opts.Changed != nil {
				b.opts.Changed(p)
			}
		}
	}
}

// merge is all addresses, each once, the first ones first.
func merge(first, then []string) []string {
	var all []string
	for _, list := range [][]string{first, then} {
		for _, a := range list {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

// address is host:port of an address of the net package.
func address(a net.Addr) string {
	if u, ok := a.(*net.UDPAddr); ok {
		p := u.AddrPort()
		if p.Addr().Is4In6() {
			u = &net.UDPAddr{IP: u.IP.To4(), Port: u.Port}
		}
		return u.String()
	}
	return a.String()
}
