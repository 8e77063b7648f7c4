package discovery

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func example() told {
	return told{instance: "hither-abcdefgh-2", short: "abcdefgh", name: "desk", port: 44843,
		addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::1")}}
}

// announcement is a packet that says t, in one of the ways that are allowed.
func announcement(t told) ([]byte, error) {
	service := dnsmessage.MustNewName(mdnsService)
	instance, err1 := dnsmessage.NewName(t.instance + "." + mdnsService)
	host, err2 := dnsmessage.NewName(t.instance + ".local.")
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("announcing this host as %q: %w", t.instance, err)
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true, Authoritative: true})
	b.EnableCompression()
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	head := func(name dnsmessage.Name, class dnsmessage.Class) dnsmessage.ResourceHeader {
		h := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET | class, TTL: 120}
		if t.bye {
			h.TTL = 0
		}
		return h
	}
	err := errors.Join(
		b.PTRResource(head(service, 0), dnsmessage.PTRResource{PTR: instance}),
		b.SRVResource(head(instance, mdnsFlush), dnsmessage.SRVResource{Port: t.port, Target: host}),
		b.TXTResource(head(instance, mdnsFlush), dnsmessage.TXTResource{TXT: []string{"id=" + t.short, "name=" + t.name}}))
	for _, a := range t.addresses {
		if a.Is4() {
			err = errors.Join(err, b.AResource(head(host, mdnsFlush), dnsmessage.AResource{A: a.As4()}))
		} else {
			err = errors.Join(err, b.AAAAResource(head(host, mdnsFlush), dnsmessage.AAAAResource{AAAA: a.As16()}))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("announcing this host: %w", err)
	}
	return b.Finish()
}

func TestAnnouncement(t *testing.T) {
	for _, bye := range []bool{false, true} {
		want := example()
		want.bye = bye
		data, err := announcement(want)
		if err != nil {
			t.Fatal(err)
		}
		if asks, got := understand(data); asks || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%v, %+v; want %+v", asks, got, want)
		}
		if len(data) > 400 {
			t.Errorf("an announcement has %d bytes", len(data))
		}
	}
	long := example()
	long.name = strings.Repeat("x", 64)
	if _, err := announcement(long); err != nil {
		t.Error(err)
	}
	data, err := question()
	if err != nil {
		t.Fatal(err)
	}
	if asks, got := understand(data); !asks || got != nil {
		t.Errorf("%v, %v", asks, got)
	}
}

// A packet tells of so many hosts and no more, and records of others do not
// become those of ours.
func TestForeignRecords(t *testing.T) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true})
	b.EnableCompression()
	if err := b.StartAnswers(); err != nil {
		t.Fatal(err)
	}
	head := func(name string) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: 10}
	}
	texts := dnsmessage.TXTResource{TXT: []string{"id=abcdefgh"}}
	for _, name := range []string{"x._ipp._tcp.local.", "_hither._udp.local.", "x._hither._udp.example."} {
		if err := b.TXTResource(head(name), texts); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 * maxTold {
		if err := b.TXTResource(head(strings.Repeat("x", i+1)+"."+mdnsService), texts); err != nil {
			t.Fatal(err)
		}
	}
	data, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if _, got := understand(data); len(got) != maxTold {
		t.Errorf("%d hosts in a packet", len(got))
	}
}

func FuzzUnderstand(f *testing.F) {
	q, _ := question()
	a, _ := announcement(example())
	f.Add(q)
	f.Add(a)
	f.Fuzz(func(t *testing.T, data []byte) {
		asks, all := understand(data)
		if asks && all != nil || len(all) > maxTold {
			t.Fatalf("%v, %d", asks, len(all))
		}
		for _, got := range all {
			if got.short == "" && !got.bye || got.instance == "" || len(got.addresses) > maxRecords {
				t.Fatalf("%+v", got)
			}
			for _, at := range addressesOf(got, "eth0") {
				if strings.Contains(at, "127.0.0.1") {
					t.Fatal(at)
				}
			}
		}
	})
}

// Who hears the question of another one does not ask himself, and many hosts make
// for long rounds.
func TestRounds(t *testing.T) {
	now := time.Now()
	four := link{addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1")}}
	c := &channel{link: four, round: round, asked: atFirst}
	c.endRound(now)
	if d := c.ask.Sub(now); d < round || d > round*11/10 {
		t.Errorf("asks after %v", d)
	}
	c.heard = 80
	c.endRound(now)
	if c.round != 20*time.Second || c.heard != 0 {
		t.Errorf("with 80 hosts a round is %v", c.round)
	}
	c.heard = 1e6
	c.endRound(now)
	if c.round != longest {
		t.Errorf("with a flood a round is %v", c.round)
	}
	six := &channel{link: four, six: true, round: round, asked: atFirst}
	six.endRound(now)
	if !six.ask.IsZero() {
		t.Error("asks over IPv6 who can be asked over IPv4")
	}
}

// Whatever is told, and however often, what is kept of it is bounded.
func TestFlood(t *testing.T) {
	a, b := newNode(t, "a"), newNode(t, "b")
	pair(t, a, b)
	a.start(t, quiet)
	b.start(t, quiet)
	a.wait(t, "b online", online(b.key.ID()))
	go func() {
		for range a.changes { // whom it is told listens
		}
	}()
	defer a.book.Close()
	c := &channel{link: link{addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}, round: round}
	c.link.Index, c.link.Name = 2, "eth0"
	channels := []*channel{c}
	junk := make([]byte, 1500)
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	for i := range 10000 {
		tale := example()
		tale.short, tale.instance = "aaaaa"+string([]byte{letters[i%32], letters[i/32%32], letters[i/1024]}), fmt.Sprintf("x%d", i)
		if i%2 == 0 { // a paired host, and a stranger, at ever new places
			tale.short = b.key.ID().Short()
		} else if i%3 == 0 {
			tale.short = "zzzzzzzz"
		}
		tale.addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}
		data, err := announcement(tale)
		if err != nil {
			t.Fatal(err)
		}
		a.book.take(channels, packet{data: data, link: 2})
		for k := range junk {
			junk[k] = byte(i * (k + 7))
		}
		a.book.take(channels, packet{data: junk, link: 2})
		a.book.take(channels, packet{data: data[:len(data)/2], link: 2})
	}
	peers := a.book.Peers()
	if len(peers) != maxStrangers+1 {
		t.Errorf("%d hosts are listed", len(peers))
	}
	for _, p := range peers {
		if len(p.Addresses) > 2*maxHints {
			t.Errorf("%s has %d addresses", p.Name, len(p.Addresses))
		}
	}
	if peers[0].ID != b.key.ID() || !peers[0].Online {
		t.Errorf("b was lost in the flood: %+v", peers[0])
	}
	a.book.mu.Lock()
	defer a.book.mu.Unlock()
	for id, s := range a.book.strangers {
		if len(s.spots) > maxSpots {
			t.Errorf("%s is heard at %d places", id, len(s.spots))
		}
	}
	if c.endRound(time.Now()); c.round > longest {
		t.Errorf("a round is %v", c.round)
	}
}
