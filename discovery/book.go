package discovery

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"hither/transport"
)

const (
	maxHints = 8 // addresses by hint for one host

	// What mDNS says of a peer has it tried no oftener than this.
	hintPause = 2 * time.Second
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
	Rate      float64      `json:"rate,omitempty"`    // bytes a second, of the last large transfer
	Problem   string       `json:"problem,omitempty"` // why it is not online
	Warning   string       `json:"warning,omitempty"` // what to know before trusting it

	// What it said last about itself.
	OS        string               `json:"os,omitempty"`
	Arch      string               `json:"arch,omitempty"`
	Version   string               `json:"version,omitempty"`
	Abilities *transport.Abilities `json:"abilities,omitempty"`

	Permissions map[string]bool `json:"permissions,omitempty"`
	Removed     bool            `json:"removed,omitempty"` // it is in no list any more
}

// Options of a Book. The zero value is good.
type Options struct {
	Interval time.Duration // between two pings of a peer; default 3 s
	Misses   int           // in a row, until a peer is offline; default 3
	NoMDNS   bool
	Hidden   bool // do not tell the local network about this host; SetDiscoverable changes it

	// Changed, if set, is told of peers that came, went or changed.
	Changed func(Peer)
}

// Book knows who is there.
type Book struct {
	endpoint *transport.Endpoint
	trust    *transport.Trust
	opts     Options

	loading sync.Mutex // held from reading the book of trust until that is taken in; before mu

	mu        sync.Mutex
	peers     map[transport.ID]*known
	strangers map[transport.ID]*stranger // by the beginning of their IDs
	dirty     map[transport.ID]bool      // Changed is to be told
	hidden    bool

	ctx     context.Context
	cancel  context.CancelFunc
	tell    chan struct{} // something is dirty
	respeak chan struct{} // the local network is to be told anew
	look    chan struct{} // ... and asked
	opened  time.Time
	work    sync.WaitGroup
}

// known is a paired host; Book.mu guards it.
type known struct {
	trusted transport.Peer
	hints   []string // addresses, newest first
	now     Peer     // without what trusted says
	told    Peer     // what now was when its abilities were last told
	kick    chan struct{}
	knocked time.Time // when mDNS last had it tried
	stop    context.CancelFunc

	instance string                   // its name in mDNS, as heard
	wrongKey *transport.WrongKeyError // who answered in its place
	renamed  time.Time                // when its name was last followed
	usurps   bool                     // it calls itself as another host here, which it did not when it was paired
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
		hidden:    opts.Hidden,
		tell:      make(chan struct{}, 1),
		respeak:   make(chan struct{}, 1),
		look:      make(chan struct{}, 1),
		opened:    time.Now(),
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
		all = append(all, b.show(k))
	}
	for _, s := range b.strangers {
		all = append(all, b.showStranger(s))
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

// SetDiscoverable tells whether the local network is told about this host. Who
// is paired finds it all the same, by its addresses.
func (b *Book) SetDiscoverable(yes bool) {
	b.mu.Lock()
	changed := b.hidden == yes
	b.hidden = !yes
	b.mu.Unlock()
	if changed {
		poke(b.respeak)
	}
}

func (b *Book) isHidden() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hidden
}

// SetName renames this host, to peers and to the local network.
func (b *Book) SetName(name string) error {
	if err := b.endpoint.SetName(name); err != nil {
		return err
	}
	poke(b.respeak)
	return nil
}

// SetRate keeps how fast a large transfer with a peer was, in bytes a second.
func (b *Book) SetRate(id transport.ID, rate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.peers[id]
	if k == nil {
		return
	}
	k.now.Rate = rate
	if math.Abs(rate-k.told.Rate) > 0.2*rate {
		k.told.Rate = rate
		b.mark(id)
	}
}

// Settle waits until a book that was just opened has had the time to hear of
// everybody near.
func (b *Book) Settle(ctx context.Context) {
	const enough = 1200 * time.Millisecond
	if b.opts.NoMDNS {
		return
	}
	select {
	case <-time.After(time.Until(b.opened.Add(enough))):
	case <-ctx.Done():
	case <-b.ctx.Done():
	}
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

// hint adds addresses where a peer may be, and has it tried if they are new or
// it is not online: at once if now is set, for what is known for sure.
func (b *Book) hint(id transport.ID, addresses []string, now bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.peers[id]
	if k == nil {
		return
	}
	all := merge(k.trusted.Addresses, k.hints)
	fresh := len(merge(all, addresses)) > len(all)
	k.hints = merge(addresses, k.hints)
	k.hints = k.hints[:min(len(k.hints), maxHints)]
	if fresh {
		b.mark(id)
	}
	switch {
	case now && (fresh || !k.now.Online):
		k.kickOff()
	case fresh || !k.now.Online: // it has moved, or has come
		k.knock()
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
	poke(k.kick)
}

// knock is kickOff for what anybody may say.
func (k *known) knock() {
	if time.Since(k.knocked) > hintPause {
		k.knocked = time.Now()
		k.kickOff()
	}
}

// show is what others are told of a paired host. Book.mu is held.
func (b *Book) show(k *known) Peer {
	p := k.now
	p.Warning = b.warning(k)
	p.ID, p.Name, p.Paired = k.trusted.ID, k.trusted.Name, true
	p.Addresses = merge(k.trusted.Addresses, k.hints)
	p.Permissions = maps.Clone(k.trusted.Permissions)
	return p
}

func (b *Book) showStranger(s *stranger) Peer {
	p := s.show()
	p.Warning = b.strangeWarning(s)
	return p
}

// watchTrust follows the book of trust, which other processes change too,
// forgets strangers that were not heard for a while, and notices that this
// host has slept: then all that is known is old.
func (b *Book) watchTrust() {
	const asleep = 4 * time.Second
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := wall(time.Now())
	for {
		select {
		case <-tick.C:
			now := wall(time.Now())
			if now.Sub(last) > asleep {
				b.kickAll()
				poke(b.look)
			}
			last = now
			_ = b.reload() // a damaged book: who is known stays known; Dial says what is wrong
			b.forgetStrangers(now)
		case <-b.ctx.Done():
			return
		}
	}
}

// reload starts and stops following peers as the book of trust says.
func (b *Book) reload() error {
	b.loading.Lock()
	defer b.loading.Unlock()
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
			b.markTwins(p.Name)
			for short := range b.strangers { // it was one until now
				if strings.HasPrefix(string(p.ID), string(short)) {
					k.hints = b.strangers[short].show().Addresses
					b.forget(short)
				}
			}
			b.work.Go(func() { b.follow(ctx, k) })
			continue
		}
		if !same(k.trusted, p) {
			old := k.trusted
			k.trusted = p
			b.mark(p.ID)
			if old.Name != p.Name || old.Called != p.Called {
				b.markTwins(old.Name)
				b.markTwins(p.Name)
			}
		}
	}
	for id, k := range gone {
		k.stop()
		delete(b.peers, id)
		b.mark(id)
		b.markTwins(k.trusted.Name)
	}
	if len(gone) > 0 {
		poke(b.look) // it may be near still, as a stranger
	}
	return nil
}

func same(a, b transport.Peer) bool {
	return a.Name == b.Name && a.Called == b.Called && slices.Equal(a.Addresses, b.Addresses) && maps.Equal(a.Permissions, b.Permissions)
}

// mark has Changed told about id. Book.mu is held.
func (b *Book) mark(id transport.ID) {
	b.dirty[id] = true
	poke(b.tell)
}

// poke wakes who reads c, once for all that has come up until then.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
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
				p = b.show(k)
			} else if s := b.strangers[id]; s != nil {
				p = b.showStranger(s)
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
		select { // strangers decide how often it changes
		case <-time.After(20 * time.Millisecond):
		case <-b.ctx.Done():
			return
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
