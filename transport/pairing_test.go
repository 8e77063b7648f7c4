package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// person is one side's end of a pairing in a test.
type person struct {
	*Pairing
	err error
}

// agree is what a daemon does once its person has said yes.
func (p *person) agree(ctx context.Context, book *Trust) error {
	if err := p.Say(); err != nil {
		return err
	}
	if err := p.Hear(ctx); err != nil {
		return err
	}
	if err := book.Put(p.Peer()); err != nil {
		return err
	}
	return p.Finish()
}

// meet brings two hosts to the moment in which both people compare.
func meet(t testing.TB, a, b *host) (pa, pb *person) {
	t.Helper()
	ctx := within(t, 10*time.Second)
	pb = new(person)
	var side sync.WaitGroup
	side.Go(func() {
		if pb.Pairing, pb.err = b.AcceptPairing(ctx); pb.err == nil {
			pb.err = pb.Exchange()
		}
	})
	p, err := a.BeginPairing(ctx, "b", string(b.ID().Short()), b.Addresses())
	side.Wait()
	if err := errors.Join(err, pb.err); err != nil {
		t.Fatal(err)
	}
	return &person{Pairing: p}, pb
}

func both(f, g func() error) (error, error) {
	var ferr error
	var side sync.WaitGroup
	side.Go(func() { ferr = f() })
	gerr := g()
	side.Wait()
	return ferr, gerr
}

func paired(t testing.TB, a *host, b *host) bool {
	t.Helper()
	_, err := a.trust.Get(b.ID())
	return err == nil
}

func TestPairing(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	pa, pb := meet(t, a, b)
	if pa.Code() != pb.Code() || len(pa.Code()) != 6 || pa.ByTicket() {
		t.Fatalf("a shows %q, b %q", pa.Code(), pb.Code())
	}
	if pa.Peer().ID != b.ID() || pb.Peer().ID != a.ID() || pa.Peer().Name != "b" || pb.Peer().Name != "a" {
		t.Fatalf("a sees %v, b sees %v", pa.Peer(), pb.Peer())
	}
	ctx := within(t, 10*time.Second)
	ea, eb := both(func() error { return pa.agree(ctx, a.trust) }, func() error { return pb.agree(ctx, b.trust) })
	if ea != nil || eb != nil {
		t.Fatal(ea, eb)
	}
	// Each has what it takes to reach the other.
	for _, way := range [][2]*host{{a, b}, {b, a}} {
		peer, err := way[0].trust.Get(way[1].ID())
		if err != nil {
			t.Fatal(err)
		}
		if _, hello, err := way[0].Ping(ctx, peer); err != nil || hello.Name != way[1].opts.Name {
			t.Fatal(hello, err)
		}
	}
	// Another pairing has other digits.
	pa2, pb2 := meet(t, a, b)
	pa3, pb3 := meet(t, a, b)
	if pa2.Code() == pa.Code() && pa3.Code() == pa.Code() {
		t.Fatal("the digits are always the same")
	}
	for _, p := range []*person{pa2, pb2, pa3, pb3} {
		p.Close()
	}
}

// Where a host is to be found is told to who has its person's yes, not to whoever asks.
func TestPairingTellsAddressesLast(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	pa, pb := meet(t, a, b)
	defer pa.Close()
	if got := pb.Peer().Addresses; len(got) != 1 || got[0] != pb.conn.RemoteAddr().String() {
		t.Fatalf("before the yes: %v", got)
	}
	at := pb.Peer().Addresses[0]
	if err := pa.send(framePairYes, pairYes{Addresses: []string{"192.0.2.7:1", "x", at}}); err != nil {
		t.Fatal(err)
	}
	if err := pb.Hear(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := pb.Peer().Addresses; !slices.Equal(got, []string{at, "192.0.2.7:1"}) {
		t.Fatalf("after it: %v", got)
	}
}

// One no is enough, on either side, and said on the other.
func TestPairingRefused(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	for _, dialler := range []bool{true, false} {
		pa, pb := meet(t, a, b)
		yes, no := pa, pb
		book := a.trust
		if dialler {
			yes, no, book = pb, pa, b.trust
		}
		ctx := within(t, 10*time.Second)
		err, _ := both(func() error { defer yes.Close(); return yes.agree(ctx, book) },
			func() error { no.Refuse("the digits\x1b[2J differ"); return nil })
		r, ok := errors.AsType[*PairingRefusedError](err)
		if !ok || r.Reason != "the digits?[2J differ" {
			t.Fatalf("who agreed hears %v", err)
		}
		if paired(t, a, b) || paired(t, b, a) {
			t.Fatal("paired all the same")
		}
	}
}

// A man in the middle has two conversations, whose digits do not agree.
func TestPairingRelayed(t *testing.T) {
	a, b, m := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{}), newHost(t, "m", local, Options{})
	same := 0
	const tries = 20
	for range tries {
		ctx := within(t, 10*time.Second)
		pb := new(person)
		var sides sync.WaitGroup
		sides.Go(func() {
			if pb.Pairing, pb.err = b.AcceptPairing(ctx); pb.err == nil {
				pb.err = pb.Exchange()
			}
		})
		var to, from *Pairing
		var relayed error
		sides.Go(func() {
			// It hears a first, so that it knows all that can be known when it
			// has to choose; b's commitment is all that b shows before that.
			if from, relayed = m.AcceptPairing(ctx); relayed != nil {
				return
			}
			if to, relayed = m.BeginPairing(ctx, "b", "", b.Addresses()); relayed == nil {
				relayed = from.Exchange()
			}
		})
		pa, err := a.BeginPairing(ctx, "b", "", m.Addresses())
		sides.Wait()
		if err := errors.Join(err, pb.err, relayed); err != nil {
			t.Fatal(err)
		}
		if pa.Peer().ID != m.ID() {
			t.Fatal("a key that was not shown")
		}
		if pa.Code() == pb.Code() {
			same++
		}
		for _, p := range []*Pairing{pa, pb.Pairing, to, from} {
			p.Close()
		}
	}
	if same > 1 {
		t.Fatalf("%d of %d times both people saw the same digits", same, tries)
	}
	// Who knows the beginning of the ID finds out at once.
	_, err := a.BeginPairing(within(t, 5*time.Second), "b", b.ID().Short(), m.Addresses())
	if w, ok := errors.AsType[*WrongKeyError](err); !ok || w.Got != m.ID() {
		t.Fatal(err)
	}
}

// A host that chooses its nonce after it has seen the other one is caught.
func TestPairingCommitment(t *testing.T) {
	a, m := newHost(t, "a", local, Options{}), newHost(t, "m", local, Options{})
	ctx := within(t, 10*time.Second)
	_, err := both(func() error {
		p, err := m.AcceptPairing(ctx)
		if err != nil {
			return err
		}
		defer p.Close()
		p.within(5 * time.Second)
		if err := p.send(framePairHello, p.hello(p.sum("commitment", make([]byte, pairNonce)), nil)); err != nil {
			return err
		}
		var theirs []byte
		if err := p.receive(framePairNonce, &theirs); err != nil {
			return err
		}
		if err := p.send(framePairNonce, slices.Repeat([]byte{1}, pairNonce)); err != nil {
			return err
		}
		return p.receive(framePairYes, &struct{}{})
	}, func() error {
		_, err := a.BeginPairing(ctx, "m", "", m.Addresses())
		return err
	})
	if !errors.Is(err, ErrPairingTampered) {
		t.Fatal(err)
	}
}

// What was recorded of a pairing that went well is worth nothing.
func TestPairingReplayed(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	wire := newRecorder(t, b.Addresses()[0])
	ctx := within(t, 10*time.Second)
	pb := new(person)
	go func() {
		if pb.Pairing, pb.err = b.AcceptPairing(ctx); pb.err == nil {
			pb.err = pb.Exchange()
		}
		if pb.err == nil {
			pb.err = pb.agree(ctx, b.trust)
		}
	}()
	p, err := a.BeginPairing(ctx, "b", "", []string{wire.addr})
	if err != nil {
		t.Fatal(err)
	}
	if err := (&person{Pairing: p}).agree(ctx, a.trust); err != nil {
		t.Fatal(err)
	}
	if !paired(t, b, a) {
		t.Fatal("not paired")
	}
	if err := b.trust.Remove(a.ID()); err != nil {
		t.Fatal(err)
	}
	if n := wire.replay(t); n < 5 {
		t.Fatalf("only %d datagrams were recorded", n)
	}
	quiet, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	if p, err := b.AcceptPairing(quiet); err == nil {
		t.Fatalf("a recording of %s is a new pairing", p.Peer().Name)
	}
	if paired(t, b, a) {
		t.Fatal("paired by a recording")
	}
	meetAgain, other := meet(t, a, b) // and honest ones still come through
	meetAgain.Close()
	other.Close()
}

// recorder passes datagrams on, and remembers those that went in.
type recorder struct {
	addr   string
	target *net.UDPAddr
	mu     sync.Mutex
	seen   [][]byte
}

func newRecorder(t testing.TB, target string) *recorder {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		t.Fatal(err)
	}
	in, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.DialUDP("udp", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); out.Close() })
	r := &recorder{addr: in.LocalAddr().String(), target: to}
	var mu sync.Mutex
	var client *net.UDPAddr
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := in.ReadFromUDP(buf)
			if err != nil {
				return
			}
			mu.Lock()
			client = from
			mu.Unlock()
			r.mu.Lock()
			r.seen = append(r.seen, bytes.Clone(buf[:n]))
			r.mu.Unlock()
			out.Write(buf[:n]) //nolint:errcheck // it is UDP
		}
	}()
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := out.Read(buf)
			if err != nil {
				return
			}
			mu.Lock()
			to := client
			mu.Unlock()
			in.WriteToUDP(buf[:n], to) //nolint:errcheck // it is UDP
		}
	}()
	return r
}

// replay sends everything again, from another port, twice.
func (r *recorder) replay(t testing.TB) int {
	t.Helper()
	c, err := net.DialUDP("udp", nil, r.target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for range 2 {
		for _, b := range r.seen {
			c.Write(b) //nolint:errcheck // it is UDP
			time.Sleep(time.Millisecond)
		}
	}
	return len(r.seen)
}

// Whoever is in a pairing can do nothing else, and who is not paired nothing but that.
func TestPairingIsNoWayIn(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	pa, pb := meet(t, a, b)
	defer pb.Close()
	defer pa.Close()
	_ = pa.send(frameHello, a.hello()) // a hello, as peers say it
	if err := pb.Hear(within(t, 5*time.Second)); err == nil {
		t.Fatal("a hello is a yes")
	}
	ctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	if c, err := b.Accept(ctx); err == nil {
		t.Fatalf("a stranger is a peer: %v", c.Peer())
	}
}

// Strangers that say nothing are hung up on, and do not keep others from pairing
// for longer than that.
func TestPairingLimits(t *testing.T) {
	b := newHost(t, "b", local, Options{HandshakeTimeout: 500 * time.Millisecond})
	a := newHost(t, "a", local, Options{})
	ctx := within(t, 10*time.Second)
	var silent []*Pairing
	refused := 0
	for range 3 * maxPairings {
		m := newHost(t, "m", local, Options{})
		p, err := m.dialPairing(ctx, "b", "", b.Addresses())
		if c, ok := errors.AsType[*ClosedError](err); ok && strings.Contains(c.Reason, "too many") {
			refused++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, p)
	}
	for _, p := range silent {
		select {
		case <-p.Done():
		case <-ctx.Done():
			t.Fatal("one that says nothing is never hung up on")
		}
		if c, ok := errors.AsType[*ClosedError](p.conn.Err()); ok && strings.Contains(c.Reason, "too many") {
			refused++
		}
	}
	if refused == 0 {
		t.Fatal("there is no limit")
	}
	eventually(t, "an honest pairing", func() error {
		p, err := a.BeginPairing(ctx, "b", "", b.Addresses())
		if err == nil {
			p.Close()
			return nil
		}
		return err
	}, b)
	b.mu.Lock()
	left := len(b.pairingsFrom)
	b.mu.Unlock()
	if left > 4 {
		t.Fatalf("%d places are remembered", left)
	}
}

// eventually answers pairings at b until f works.
func eventually(t testing.TB, what string, f func() error, b *host) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		for {
			p, err := b.AcceptPairing(ctx)
			if err != nil {
				return
			}
			p.Exchange() //nolint:errcheck // f sees it
		}
	}()
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func TestPairingWithOneself(t *testing.T) {
	a := newHost(t, "a", local, Options{})
	if _, err := a.BeginPairing(within(t, 5*time.Second), "a", "", a.Addresses()); !errors.Is(err, ErrSelf) {
		t.Fatal(err)
	}
}

func TestTicket(t *testing.T) {
	a, b, m := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{}), newHost(t, "m", local, Options{})
	ctx := within(t, 20*time.Second)
	made, expires := b.MakeTicket(10 * time.Minute)
	if left := time.Until(expires); left < 9*time.Minute || left > 10*time.Minute {
		t.Fatalf("good for %v", left)
	}
	ticket, err := ParseTicket(" " + made.String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	join := func(from *host, ticket Ticket) error {
		wait, stop := context.WithCancel(ctx)
		defer stop()
		var side sync.WaitGroup
		side.Go(func() {
			p, err := b.AcceptPairing(wait)
			if err != nil {
				return
			}
			if !p.ByTicket() {
				t.Error("without a ticket")
			}
			if err := (&person{Pairing: p}).agree(ctx, b.trust); err != nil {
				t.Error(err)
			}
		})
		p, err := from.JoinPairing(ctx, ticket)
		if err != nil {
			stop()
			side.Wait()
			return err
		}
		defer side.Wait()
		if p.Code() != "" {
			t.Error("digits to compare")
		}
		return (&person{Pairing: p}).agree(ctx, from.trust)
	}
	// An impostor at the address learns nothing: it has another key.
	elsewhere := ticket
	elsewhere.Addresses = m.Addresses()
	if _, err := a.JoinPairing(ctx, elsewhere); err == nil {
		t.Fatal("an impostor took the ticket")
	} else if _, ok := errors.AsType[*WrongKeyError](err); !ok {
		t.Fatal(err)
	}
	// Another token is worth nothing, and does not use the true one up.
	tampered := ticket
	tampered.Token = slices.Clone(ticket.Token)
	tampered.Token[0] ^= 1
	refusedFor := func(err error, what string) {
		t.Helper()
		if r, ok := errors.AsType[*PairingRefusedError](err); !ok || !strings.Contains(r.Reason, "not good") {
			t.Fatalf("%s: %v", what, err)
		}
	}
	refusedFor(join(m, tampered), "a tampered ticket")
	if err := join(a, ticket); err != nil {
		t.Fatal(err)
	}
	if !paired(t, a, b) || !paired(t, b, a) {
		t.Fatal("not paired")
	}
	refusedFor(join(m, ticket), "a ticket that was used")
	old, _ := b.MakeTicket(time.Nanosecond)
	time.Sleep(time.Millisecond)
	refusedFor(join(m, old), "a ticket whose time is over")
	first, _ := b.MakeTicket(time.Minute)
	for range maxTickets {
		b.MakeTicket(time.Minute)
	}
	refusedFor(join(m, first), "one of too many tickets")
	if paired(t, b, m) {
		t.Fatal("paired all the same")
	}
	line := made.String()
	for i := range line {
		if got, err := ParseTicket(line[:i] + string(line[i]^1) + line[i+1:]); err == nil {
			t.Fatalf("a slip at %d goes unseen: %+v", i, got)
		}
	}
}

func FuzzTicket(f *testing.F) {
	key, err := NewIdentity()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(Ticket{Name: "desk", ID: key.ID(), Token: make([]byte, tokenSize), Addresses: []string{"[fe80::1%eth0]:44843"}}.String())
	f.Add("hither-ticket:1,")
	f.Fuzz(func(t *testing.T, text string) {
		for _, text := range []string{text, ticketPrefix + text + "," + cardSum(ticketPrefix+text)} {
			got, err := ParseTicket(text)
			if err != nil {
				continue
			}
			again, err := ParseTicket(got.String())
			if err != nil || again.String() != got.String() {
				t.Fatal(again, err)
			}
		}
	})
}

// What a stranger says in a pairing is refused or harmless, whatever it is.
func FuzzPairing(f *testing.F) {
	key, err := NewIdentity()
	if err != nil {
		f.Fatal(err)
	}
	say := func(kind FrameType, v any) []byte {
		var b bytes.Buffer
		if err := NewFrames(&b).Send(kind, v); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	f.Add(say(framePairHello, pairHello{Name: "a\x1b", Commitment: []byte{1}, Proof: []byte{2}}))
	f.Add(say(framePairYes, pairYes{Addresses: []string{"10.0.0.1:1", "x"}}))
	f.Add(say(framePairNo, pairNo{Reason: "no\n"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Any body under a good frame, and the bytes as they are.
		for _, data := range [][]byte{data, framed(framePairHello, data), framed(framePairYes, data), framed(framePairNo, data)} {
			var h pairHello
			var y pairYes
			err := receivePairing(NewFrames(bytes.NewBuffer(data)), framePairHello, &h)
			if err != nil {
				err = receivePairing(NewFrames(bytes.NewBuffer(data)), framePairYes, &y)
			}
			if no, ok := errors.AsType[*PairingRefusedError](err); ok && printable(no.Reason) != no.Reason {
				t.Fatalf("a reason plays with the terminal: %q", no.Reason)
			}
			if err != nil {
				continue
			}
			p := Peer{ID: key.ID(), Key: key.Public(), Name: CleanName(h.Name), Addresses: y.added([]string{"10.0.0.9:44843"})}
			if err := p.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// framed is a good frame around any bytes.
func framed(kind FrameType, body []byte) []byte {
	frame := make([]byte, frameHeader)
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	binary.BigEndian.PutUint16(frame[4:], uint16(kind))
	binary.BigEndian.PutUint16(frame[6:], frameVersion)
	binary.BigEndian.PutUint32(frame[8:], frameSum(0, frame[:8], body))
	return append(frame, body...)
}
