package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// host is one end of a test: an endpoint with its own identity and book.
type host struct {
	*Endpoint
	trust *Trust
	key   *Identity
}

func newHost(t testing.TB, name, addr string, opts Options) *host {
	t.Helper()
	dir := t.TempDir()
	key, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	return startHost(t, dir, key, name, addr, opts)
}

func startHost(t testing.TB, dir string, key *Identity, name, addr string, opts Options) *host {
	t.Helper()
	trust, err := OpenTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	opts.Name, opts.Version = name, "test"
	e, err := Listen(addr, key, trust, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return &host{Endpoint: e, trust: trust, key: key}
}

// knows puts each of others into the book of h.
func (h *host) knows(t testing.TB, others ...*host) {
	t.Helper()
	for _, o := range others {
		card, err := ParseCard(o.Card().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := h.trust.Put(card.Peer()); err != nil {
			t.Fatal(err)
		}
	}
}

func pair(t testing.TB, a, b *host) {
	t.Helper()
	a.knows(t, b)
	b.knows(t, a)
}

const local = "127.0.0.1:0"

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// connect gives both ends of a connection from a to b.
func connect(t testing.TB, a, b *host) (*Conn, *Conn) {
	t.Helper()
	ctx := within(t, 10*time.Second)
	out, err := a.Dial(ctx, b.Card().Peer())
	if err != nil {
		t.Fatal(err)
	}
	in, err := b.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

func TestStreams(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	pair(t, a, b)
	out, in := connect(t, a, b)
	if out.Peer().ID != b.ID() || in.Peer().ID != a.ID() || in.Peer().Name != "a" {
		t.Fatalf("the ends are %v and %v", out.Peer(), in.Peer())
	}
	if h := out.Hello(); h.Name != "b" || h.Version != "test" || h.OS != runtime.GOOS || h.Arch != runtime.GOARCH {
		t.Fatalf("b said %+v", h)
	}
	if h := in.Hello(); h.Name != "a" {
		t.Fatalf("a said %+v", h)
	}
	ctx := within(t, 20*time.Second)
	for name, ends := range map[string][2]*Conn{"dialler": {out, in}, "accepter": {in, out}} {
		t.Run(name+" opens", func(t *testing.T) {
			data := make([]byte, 3<<20)
			rand.Read(data)
			type note struct {
				Size int `cbor:"1,keyasint"`
			}
			go func() {
				s, err := ends[0].OpenStream(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				// A frame, raw bytes, a frame: nothing reads ahead.
				s.Send(7, note{len(data)})
				s.Write(data)
				s.Send(8, note{1})
				s.Close()
				if _, err := io.Copy(io.Discard, s); err != nil {
					t.Error(err)
				}
			}()
			s, err := ends[1].AcceptStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var n note
			if err := s.ReceiveInto(7, &n, 100); err != nil || n.Size != len(data) {
				t.Fatal(n, err)
			}
			got := make([]byte, n.Size)
			if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, data) {
				t.Fatal("the bytes differ", err)
			}
			if err := s.ReceiveInto(8, &n, 100); err != nil || n.Size != 1 {
				t.Fatal(n, err)
			}
			if _, err := s.Receive(100); err != io.EOF {
				t.Fatalf("at the end: %v", err)
			}
			s.Close()
		})
	}
	if rtt, err := in.Ping(ctx); err != nil || rtt <= 0 {
		t.Fatal(rtt, err)
	}
	if st := out.Stats(); st.BytesSent < 3<<20 || st.RTT <= 0 {
		t.Fatalf("stats %+v", st)
	}
	out.Close("enough\x1b[2J")
	<-in.Done()
	closed, ok := errors.AsType[*ClosedError](in.Err())
	if !ok || !closed.Remote || closed.Bye || closed.Reason != "enough?[2J" {
		t.Fatalf("closed with %v", in.Err())
	}
	if _, err := in.AcceptStream(ctx); !errors.As(err, &closed) {
		t.Fatalf("accepting after the end: %v", err)
	}
	if _, err := out.OpenStream(ctx); !errors.As(err, &closed) || closed.Remote {
		t.Fatalf("opening after the end: %v", err)
	}
}

func TestCancelStream(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	pair(t, a, b)
	out, in := connect(t, a, b)
	s, err := out.OpenStream(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	peer, err := in.AcceptStream(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	s.Cancel()
	_, err = peer.Receive(10)
	if c, ok := errors.AsType[*CanceledError](err); !ok || !c.Remote {
		t.Fatalf("after the other side's Cancel: %v", err)
	}
	if _, err := out.Ping(within(t, 5*time.Second)); err != nil {
		t.Fatalf("the connection did not outlive its stream: %v", err)
	}
}

func TestDeadline(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	pair(t, a, b)
	out, _ := connect(t, a, b)
	s, err := out.OpenStream(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := s.Receive(10); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after the deadline: %v", err)
	}
}

func TestUnpairedIsRefused(t *testing.T) {
	refused := make(chan error, 10)
	b := newHost(t, "b", local, Options{Refused: func(_ net.Addr, err error) { refused <- err }})
	a := newHost(t, "a", local, Options{})
	a.knows(t, b) // but b does not know a
	_, err := a.Dial(within(t, 5*time.Second), b.Card().Peer())
	if r, ok := errors.AsType[*RefusedError](err); !ok || r.Peer != "b" {
		t.Fatalf("an unpaired host got: %v", err)
	}
	select {
	case err := <-refused:
		if n, ok := errors.AsType[*NotPairedError](err); !ok || n.ID != a.ID() {
			t.Fatalf("the refusing host saw: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the refusing host was told nothing")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if c, err := b.Accept(ctx); err == nil {
		t.Fatalf("it was accepted as %v", c.Peer())
	}
}

func TestImpostor(t *testing.T) {
	a, b, other := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{}), newHost(t, "other", local, Options{})
	pair(t, a, b)
	pair(t, a, other) // even a paired host is not another paired host
	peer := b.Card().Peer()
	peer.Addresses = other.Addresses()
	_, err := a.Dial(within(t, 5*time.Second), peer)
	w, ok := errors.AsType[*WrongKeyError](err)
	if !ok || w.Want != b.ID() || w.Got != other.ID() {
		t.Fatalf("an impostor got: %v", err)
	}
	// With the true address beside the wrong one the peer is found.
	peer.Addresses = append(other.Addresses(), b.Addresses()...)
	if _, _, err := a.Ping(within(t, 5*time.Second), peer); err != nil {
		t.Fatal(err)
	}
}

func TestUnreachable(t *testing.T) {
	a := newHost(t, "a", local, Options{HandshakeTimeout: 300 * time.Millisecond})
	silent, err := net.ListenPacket("udp", local)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	key, _ := NewIdentity()
	peer := Card{Name: "nobody", Key: key.Public(), Addresses: []string{silent.LocalAddr().String()}}.Peer()
	_, err = a.Dial(within(t, 5*time.Second), peer)
	if u, ok := errors.AsType[*UnreachableError](err); !ok || !strings.Contains(err.Error(), "does not answer") {
		t.Fatal(u, err)
	}
	peer.Addresses = nil
	if _, err = a.Dial(within(t, time.Second), peer); !strings.Contains(err.Error(), "no address") {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	peer.Addresses = []string{silent.LocalAddr().String()}
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err = a.Dial(ctx, peer); !errors.Is(err, context.Canceled) {
		t.Fatalf("after a cancel: %v", err)
	}
}

// A dead address first must cost a moment, not a timeout.
func TestDeadAddressFirst(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	pair(t, a, b)
	silent, err := net.ListenPacket("udp", local)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	peer := b.Card().Peer()
	peer.Addresses = append([]string{silent.LocalAddr().String()}, peer.Addresses...)
	begin := time.Now()
	if _, _, err := a.Ping(within(t, 10*time.Second), peer); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Fatalf("took %v", took)
	}
}

func TestRemovedFromBook(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	pair(t, a, b)
	out, in := connect(t, a, b)
	if err := b.trust.Remove(a.ID()); err != nil {
		t.Fatal(err)
	}
	_, err := out.Ping(within(t, 5*time.Second))
	if _, ok := errors.AsType[*RefusedError](err); !ok {
		t.Fatalf("a host that was removed got: %v", err)
	}
	<-in.Done()
	_, err = a.Dial(within(t, 5*time.Second), b.Card().Peer())
	if _, ok := errors.AsType[*RefusedError](err); !ok {
		t.Fatalf("a host that was removed, dialling again, got: %v", err)
	}
}

func TestByeIsNoticedAtOnce(t *testing.T) {
	a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
	pair(t, a, b)
	out, _ := connect(t, a, b)
	b.Close()
	select {
	case <-out.Done():
	case <-time.After(2 * time.Second):
		t.Fatal("nothing noticed")
	}
	if c, ok := errors.AsType[*ClosedError](out.Err()); !ok || !c.Remote || !c.Bye {
		t.Fatal(out.Err())
	}
	if _, err := b.Accept(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("accepting on a closed endpoint: %v", err)
	}
}

// A peer that dies without a word is noticed after the idle timeout.
func TestDeadPeerIsNoticed(t *testing.T) {
	opts := Options{IdleTimeout: time.Second}
	a, b := newHost(t, "a", local, opts), newHost(t, "b", local, opts)
	pair(t, a, b)
	out, _ := connect(t, a, b)
	b.socket.UDPConn.Close() // as a kill does: nothing goes out any more
	begin := time.Now()
	select {
	case <-out.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("nothing noticed")
	}
	if l, ok := errors.AsType[*LostError](out.Err()); !ok {
		t.Fatal(l, out.Err())
	}
	t.Logf("noticed after %v", time.Since(begin))
}

// A peer that died and came back on its port resets old connections at once.
func TestRestartIsNoticed(t *testing.T) {
	dir := t.TempDir()
	key, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, b := newHost(t, "a", local, Options{}), startHost(t, dir, key, "b", local, Options{})
	pair(t, a, b)
	out, _ := connect(t, a, b)
	addr := b.Addresses()[0]
	b.socket.UDPConn.Close()
	again := startHost(t, dir, key, "b", addr, Options{})
	begin := time.Now()
	_, err = out.Ping(within(t, 5*time.Second))
	if _, ok := errors.AsType[*LostError](err); !ok {
		t.Fatalf("talking to a peer that restarted: %v", err)
	}
	t.Logf("noticed after %v: %v", time.Since(begin), err)
	if _, _, err := a.Ping(within(t, 5*time.Second), again.Card().Peer()); err != nil {
		t.Fatal(err)
	}
}

func TestGarbage(t *testing.T) {
	var refusals atomic.Int64
	b := newHost(t, "b", local, Options{Refused: func(net.Addr, error) { refusals.Add(1) }})
	a := newHost(t, "a", local, Options{})
	pair(t, a, b)
	out, _ := connect(t, a, b)
	before := heap()
	noise, err := net.Dial("udp", b.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer noise.Close()
	buf := make([]byte, 60000)
	for i := range 30000 {
		rand.Read(buf[:64])
		size := []int{0, 1, 20, 1200, 1252, 1452, 9000, 60000}[i%8]
		switch i / 8 % 4 {
		case 1:
			buf[0] = 0xc3 // a long header of version 1, type initial
			copy(buf[1:], []byte{0, 0, 0, 1, 8})
		case 2:
			buf[0] = 0x43 // a short header
		case 3:
			buf[0], buf[5] = 0xff, 0xff // a version to negotiate, a long id
		}
		noise.Write(buf[:size])
	}
	if _, err := out.Ping(within(t, 10*time.Second)); err != nil {
		t.Fatalf("an old connection after garbage: %v", err)
	}
	if _, _, err := a.Ping(within(t, 10*time.Second), b.Card().Peer()); err != nil {
		t.Fatalf("a new connection after garbage: %v", err)
	}
	if grown := int64(heap()) - int64(before); grown > 64<<20 {
		t.Fatalf("garbage takes %d MB of memory", grown>>20)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestCloseIsPromptAndLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 5 {
		a, b := newHost(t, "a", local, Options{}), newHost(t, "b", local, Options{})
		pair(t, a, b)
		out, in := connect(t, a, b)
		for range 10 {
			if _, err := out.OpenStream(within(t, 5*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := in.AcceptStream(within(t, 5*time.Second)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		a.Close()
		b.Close()
		if took := time.Since(begin); took > 3*time.Second {
			t.Fatalf("closing took %v", took)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+3; {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}
