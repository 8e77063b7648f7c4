package discovery

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"hither/transport"
	"hither/transport/twonets"
)

// node is a host with a book, whose daemon does nothing but accept.
type node struct {
	dir      string
	key      *transport.Identity
	trust    *transport.Trust
	endpoint *transport.Endpoint
	book     *Book
	changes  chan Peer
}

func newNode(t testing.TB, name string) *node {
	t.Helper()
	n := &node{dir: t.TempDir()}
	var err error
	if n.key, err = transport.LoadIdentity(n.dir); err != nil {
		t.Fatal(err)
	}
	if n.trust, err = transport.OpenTrust(n.dir); err != nil {
		t.Fatal(err)
	}
	n.listen(t, name, "127.0.0.1:0")
	return n
}

func (n *node) listen(t testing.TB, name, addr string) {
	t.Helper()
	e, err := transport.Listen(addr, n.key, n.trust, transport.Options{Name: name, Version: "test", IdleTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	n.endpoint = e
	t.Cleanup(func() { e.Close() })
}

func (n *node) start(t testing.TB, opts Options) {
	t.Helper()
	n.changes = make(chan Peer, 1000)
	changes := n.changes
	opts.Changed = func(p Peer) { changes <- p }
	if opts.Interval == 0 {
		opts.Interval = 200 * time.Millisecond
	}
	b, err := Open(n.endpoint, n.trust, opts)
	if err != nil {
		t.Fatal(err)
	}
	n.book = b
	e := n.endpoint
	go func() {
		for {
			c, err := e.Accept(context.Background())
			if err != nil {
				return
			}
			b.Seen(c)
		}
	}()
	t.Cleanup(b.Close)
}

func (n *node) knows(t testing.TB, o *node) {
	t.Helper()
	if err := n.trust.Put(o.endpoint.Card().Peer()); err != nil {
		t.Fatal(err)
	}
}

func pair(t testing.TB, a, b *node) {
	a.knows(t, b)
	b.knows(t, a)
}

// wait is for a change after which ok is true.
func (n *node) wait(t testing.TB, what string, ok func(Peer) bool) Peer {
	t.Helper()
	late := time.After(15 * time.Second)
	for {
		select {
		case p := <-n.changes:
			if ok(p) {
				return p
			}
		case <-late:
			t.Fatalf("waited in vain: %s; now: %+v", what, n.book.Peers())
		}
	}
}

func online(id transport.ID) func(Peer) bool {
	return func(p Peer) bool { return p.ID == id && p.Online }
}

func offline(id transport.ID) func(Peer) bool {
	return func(p Peer) bool { return p.ID == id && !p.Online && p.Problem != "" }
}

var quiet = Options{NoMDNS: true}

func TestOnlineAndBye(t *testing.T) {
	a, b := newNode(t, "a"), newNode(t, "b")
	pair(t, a, b)
	a.start(t, quiet)
	b.start(t, quiet)
	p := a.wait(t, "b online", online(b.key.ID()))
	if p.Name != "b" || !p.Paired || p.Arch != runtime.GOARCH || p.OS != "linux" || p.Version != "test" || p.RTT <= 0 || time.Since(p.LastSeen) > time.Minute {
		t.Fatalf("%+v", p)
	}
	b.wait(t, "a online", online(a.key.ID()))
	addr := b.endpoint.Addresses()[0]
	begin := time.Now()
	b.book.Close()
	b.endpoint.Close()
	p = a.wait(t, "b offline", offline(b.key.ID()))
	if took := time.Since(begin); took > 500*time.Millisecond || !strings.Contains(p.Problem, "b closed") {
		t.Fatalf("after %v: %q", took, p.Problem)
	}
	if p.LastSeen.IsZero() {
		t.Fatal("when it was seen is forgotten")
	}
	// It comes back: its own knocking is what makes a look at once.
	time.Sleep(time.Second) // so that the tries of a have become rare
	b.listen(t, "b", addr)
	begin = time.Now()
	b.start(t, quiet)
	a.wait(t, "b online again", online(b.key.ID()))
	if took := time.Since(begin); took > time.Second {
		t.Errorf("its return was noticed after %v", took)
	}
	c, err := a.book.Dial(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	c.Close("enough")
}

func TestRefusedIsSaid(t *testing.T) {
	a, b := newNode(t, "a"), newNode(t, "b")
	a.knows(t, b)
	a.start(t, quiet)
	b.start(t, quiet)
	begin := time.Now()
	p := a.wait(t, "b refuses", offline(b.key.ID()))
	if !strings.Contains(p.Problem, "not paired") || time.Since(begin) > time.Second {
		t.Fatalf("after %v: %+v", time.Since(begin), p)
	}
	b.knows(t, a) // by another process: the book is read again
	a.wait(t, "b online", online(b.key.ID()))
}

func TestBookFollowsTrust(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, "a"), newNode(t, "b")
	a.start(t, quiet)
	b.start(t, quiet)
	if len(a.book.Peers()) != 0 {
		t.Fatal(a.book.Peers())
	}
	pair(t, a, b)
	a.wait(t, "b online", online(b.key.ID()))
	if err := a.trust.Update(b.key.ID(), func(p *transport.Peer) { p.Name = "bee" }); err != nil {
		t.Fatal(err)
	}
	a.wait(t, "b has another name", func(p Peer) bool { return p.Name == "bee" && p.Online })
	if err := a.trust.Remove(b.key.ID()); err != nil {
		t.Fatal(err)
	}
	a.wait(t, "b removed", func(p Peer) bool { return p.ID == b.key.ID() && p.Removed })
	if len(a.book.Peers()) != 0 {
		t.Fatal(a.book.Peers())
	}
	b.wait(t, "a refuses", offline(a.key.ID()))
}

func TestAddressByHand(t *testing.T) {
	a, b := newNode(t, "a"), newNode(t, "b")
	b.knows(t, a)
	p := b.endpoint.Card().Peer()
	p.Addresses = nil
	if err := a.trust.Put(p); err != nil {
		t.Fatal(err)
	}
	a.start(t, quiet) // b has no book: it does not knock
	q := a.wait(t, "b cannot be found", offline(b.key.ID()))
	if !strings.Contains(q.Problem, "no address") {
		t.Fatal(q.Problem)
	}
	if err := a.book.AddAddress(p.ID, "nonsense"); err == nil {
		t.Fatal("nonsense is taken for an address")
	}
	if err := a.book.AddAddress(p.ID, b.endpoint.Addresses()[0]); err != nil {
		t.Fatal(err)
	}
	a.wait(t, "b online", online(p.ID))
}

// Two machines and a cable: it is pulled, plugged, and an address changes.
func TestCable(t *testing.T) {
	t.Parallel()
	if !twonets.Here(t) {
		return
	}
	nets := twonets.New(t)
	a, b := newNode(t, "a"), newNode(t, "b")
	nets.Do(0, func() { a.listen(t, "a", ":0"); b.knows(t, a) })
	nets.Do(1, func() { b.listen(t, "b", ":0"); a.knows(t, b) })
	a.start(t, quiet)
	b.start(t, quiet)
	a.wait(t, "b online", online(b.key.ID()))
	b.wait(t, "a online", online(a.key.ID()))

	begin := time.Now()
	nets.Down(0)
	p := a.wait(t, "b out of reach", offline(b.key.ID()))
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("one miss was enough: %v: %s", took, p.Problem)
	}
	b.wait(t, "a out of reach", offline(a.key.ID()))
	nets.Up(0)
	a.wait(t, "b online again", online(b.key.ID()))
	b.wait(t, "a online again", online(a.key.ID()))

	// a moves to an address that b has never heard of, while nobody looks.
	nets.Down(0)
	a.wait(t, "b out of reach", offline(b.key.ID()))
	b.wait(t, "a out of reach", offline(a.key.ID()))
	nets.SetAddress(0, "10.77.0.42")
	nets.Up(0)
	a.wait(t, "b online from the new address", online(b.key.ID()))
	b.wait(t, "a online at the new address", online(a.key.ID()))
	b.wait(t, "b remembers it", func(Peer) bool {
		p, err := b.trust.Get(a.key.ID())
		return err == nil && strings.HasPrefix(p.Addresses[0], "10.77.0.42:")
	})
}

// hears has a book hear that a host calls itself so and is at these addresses.
func (n *node) hears(short transport.ID, name string, port int, addresses ...string) {
	t := told{instance: "hither-" + string(short) + "-2", short: string(short), name: name, port: uint16(port)}
	for _, a := range addresses {
		t.addresses = append(t.addresses, netip.MustParseAddr(a))
	}
	n.book.notice(t, "eth0", time.Minute)
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, "a"), newNode(t, "b")
	a.start(t, quiet)
	short := transport.ID(b.key.ID().Short())
	a.hears(short, "evil\x1b[2J name", 7, "10.0.0.1", "127.0.0.1", "224.0.0.1", "fe80::1", "2001:db8::1")
	p := a.wait(t, "a stranger", func(p Peer) bool { return p.ID == short })
	if p.Paired || p.Name != "evil--2J-name" || !slices.Equal(p.Addresses, []string{"10.0.0.1:7", "[fe80::1%eth0]:7", "[2001:db8::1]:7"}) {
		t.Fatalf("%+v", p)
	}
	a.hears(short, "b", 7, "10.0.0.2")
	p = a.wait(t, "its new name", func(p Peer) bool { return p.ID == short && p.Name == "b" })
	if !slices.Equal(p.Addresses, []string{"10.0.0.2:7"}) {
		t.Fatalf("its new address: %+v", p)
	}
	a.hears("not an id", "x", 7)
	a.hears(transport.ID(a.key.ID().Short()), "myself", 7)
	for i := range 2 * maxStrangers {
		a.hears(transport.ID("aaaaaa"+string(rune('a'+i%26))+string(rune('a'+i/26))), "x", 7)
	}
	if n := len(a.book.Peers()); n != maxStrangers {
		t.Fatalf("%d strangers", n)
	}
	// One that says goodbye is gone.
	a.book.notice(told{instance: "hither-aaaaaaaa-2", bye: true}, "eth0", 0)
	a.wait(t, "one has left", func(p Peer) bool { return p.ID == "aaaaaaaa" && p.Removed })
	// Once paired, what is overheard is a hint, and the stranger is gone.
	p2 := b.endpoint.Card().Peer()
	p2.Addresses = nil
	if err := a.trust.Put(p2); err != nil {
		t.Fatal(err)
	}
	b.knows(t, a)
	a.wait(t, "b cannot be found", offline(b.key.ID()))
	for _, p := range a.book.Peers() {
		if p.ID == short {
			t.Fatalf("still a stranger: %+v", p)
		}
	}
	// The loopback is no address for others to tell of: another name for it is.
	a.book.hint(b.key.ID(), b.endpoint.Addresses(), false)
	a.wait(t, "b is found by the hint", online(b.key.ID()))
	a.book.forgetStrangers(time.Now().Add(time.Hour))
	if n := len(a.book.Peers()); n != 1 {
		t.Fatalf("%d peers after an hour", n)
	}
}

// A peer that calls itself otherwise is followed, unless a person here named
// it, or the new name is another host's.
func TestRenamed(t *testing.T) {
	a, b, c := newNode(t, "a"), newNode(t, "b"), newNode(t, "c")
	pair(t, a, b)
	pair(t, a, c)
	for _, n := range []*node{a, b, c} {
		n.start(t, quiet)
	}
	id := b.key.ID()
	a.wait(t, "b online", func(p Peer) bool { return p.ID == id && p.Online })
	// What a host calls itself is kept without a word: nobody is told where nothing else changes.
	called := func(id transport.ID, want string) {
		t.Helper()
		for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if p, err := a.trust.Get(id); err == nil && p.Called == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("that it calls itself %s is not kept: %+v", want, a.book.Peers())
			}
		}
	}
	called(id, "b")
	soon := func() { // as if the last name had been followed long ago
		a.book.mu.Lock()
		defer a.book.mu.Unlock()
		for _, k := range a.book.peers {
			k.renamed = time.Time{}
		}
	}
	soon()
	if err := b.book.SetName("bee"); err != nil {
		t.Fatal(err)
	}
	a.wait(t, "b is bee", func(p Peer) bool { return p.ID == id && p.Name == "bee" && p.Online })
	soon()
	if err := b.book.SetName("c"); err != nil {
		t.Fatal(err)
	}
	p := a.wait(t, "bee wants to be c", func(p Peer) bool { return p.ID == id && p.Warning != "" })
	if p.Name != "bee" || !strings.Contains(p.Warning, "calls itself c now") {
		t.Fatalf("%+v", p)
	}
	soon()
	if err := a.trust.Update(c.key.ID(), func(p *transport.Peer) { p.Name = "sea" }); err != nil {
		t.Fatal(err)
	}
	if err := c.book.SetName("cc"); err != nil {
		t.Fatal(err)
	}
	called(c.key.ID(), "cc")
	if p, err := a.trust.Get(c.key.ID()); err != nil || p.Name != "sea" {
		t.Fatalf("the name that a person gave is gone: %+v, %v", p, err)
	}
	if err := b.book.SetName("no good"); err == nil {
		t.Error("a name that is none was taken")
	}
}

func TestImpostors(t *testing.T) {
	a, b, c := newNode(t, "a"), newNode(t, "b"), newNode(t, "c")
	pair(t, a, b)
	a.start(t, quiet)
	b.start(t, quiet)
	a.wait(t, "b online", online(b.key.ID()))

	// By name.
	short := transport.ID(c.key.ID().Short())
	a.hears(short, "b", 7, "10.0.0.1")
	p := a.wait(t, "a warning of b's name", func(p Peer) bool { return p.ID == b.key.ID() && p.Warning != "" })
	if !strings.Contains(p.Warning, string(short)) || !p.Online {
		t.Fatalf("%+v", p)
	}
	for _, p := range a.book.Peers() {
		if p.ID == short && !strings.Contains(p.Warning, "not the b that is paired") {
			t.Fatalf("%+v", p)
		}
	}
	a.hears(short, "c", 7, "10.0.0.1")
	a.wait(t, "no warning", func(p Peer) bool { return p.ID == b.key.ID() && p.Warning == "" })

	// By address: another key answers where b was.
	addr := b.endpoint.Addresses()[0]
	b.book.Close()
	b.endpoint.Close()
	a.wait(t, "b offline", offline(b.key.ID()))
	c.endpoint.Close()
	c.knows(t, a)
	c.listen(t, "b", addr)
	a.book.kickAll()
	p = a.wait(t, "a warning of b's address", func(p Peer) bool { return p.ID == b.key.ID() && p.Warning != "" })
	if !strings.Contains(p.Warning, c.key.ID().Short()) || p.Online {
		t.Fatalf("%+v", p)
	}
	c.endpoint.Close()
	b.listen(t, "b", addr)
	a.book.kickAll()
	a.wait(t, "b online and no warning", func(p Peer) bool { return p.ID == b.key.ID() && p.Online && p.Warning == "" })
}

// A host that stops without a word is gone within the time that is promised for
// the usual interval: three of them and a bit.
func TestSilence(t *testing.T) {
	t.Parallel()
	if !twonets.Here(t) {
		return
	}
	nets := twonets.New(t)
	a, b := newNode(t, "a"), newNode(t, "b")
	nets.Do(0, func() { a.listen(t, "a", ":0"); b.knows(t, a) })
	nets.Do(1, func() { b.listen(t, "b", ":0"); a.knows(t, b) })
	opts := quiet
	opts.Interval = time.Second
	a.start(t, opts)
	b.start(t, opts)
	a.wait(t, "b online", online(b.key.ID()))
	begin := time.Now()
	nets.Down(1)
	a.wait(t, "b silent", offline(b.key.ID()))
	if took := time.Since(begin); took > 3*opts.Interval+opts.Interval/3 {
		t.Errorf("gone after %v of an interval of %v", took, opts.Interval)
	}
}
