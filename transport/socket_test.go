package transport

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Packets that the kernel joined come out one by one, with their bounds.
func TestSocketCutsApart(t *testing.T) {
	s, err := listenSocket(local)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := net.DialUDP("udp", nil, s.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var want [][]byte
	for i := range 10 {
		want = append(want, bytes.Repeat([]byte{byte('a' + i)}, 1000))
	}
	want = append(want, []byte("short"))
	raw, err := out.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000) })
	if err != nil {
		t.Skipf("this kernel has no UDP_SEGMENT: %v", err)
	}
	if _, err := out.Write(bytes.Join(want, nil)); err != nil {
		t.Fatal(err)
	}
	s.SetReadDeadline(time.Now().Add(5 * time.Second))
	ms := make([]ipv4.Message, 4)
	var batches int
	for i := 0; i < len(want); batches++ {
		for j := range ms {
			ms[j] = ipv4.Message{Buffers: [][]byte{make([]byte, 1452)}, OOB: make([]byte, 128)}
		}
		n, err := s.ReadBatch(ms, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms[:n] {
			if got := m.Buffers[0][:m.N]; !bytes.Equal(got, want[i]) {
				t.Fatalf("packet %d is %d bytes of %q", i, len(got), got[:1])
			}
			if m.Addr.String() != out.LocalAddr().String() {
				t.Fatalf("from %v", m.Addr)
			}
			i++
		}
	}
	if batches != 3 {
		t.Logf("%d batches instead of 3: the kernel did not join the packets", batches)
	}
}

// Sending where no route leads is a lost packet; one that is too large is not.
func TestSocketTolerance(t *testing.T) {
	s, err := listenSocket(local) // an address of lo cannot send to the world
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	far := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:9"))
	if n, _, err := s.WriteMsgUDP([]byte("x"), nil, far); n != 1 || err != nil {
		t.Fatalf("no route: %d %v", n, err)
	}
	if _, _, err := s.WriteMsgUDP(make([]byte, 1<<16), nil, s.LocalAddr().(*net.UDPAddr)); err == nil {
		t.Fatal("a packet that is too large was swallowed")
	}
	s.Close()
	if _, _, err := s.WriteMsgUDP([]byte("x"), nil, far); err == nil {
		t.Fatal("a closed socket was taken for a passing error")
	}
	for err, want := range map[error]bool{
		unix.ENETUNREACH: true, unix.EINVAL: true, unix.EMSGSIZE: false, unix.EIO: false,
		unix.EBADF: false, net.ErrClosed: false,
	} {
		if got := passing(fmt.Errorf("sendmsg: %w", err)); got != want {
			t.Errorf("%v passes: %v", err, got)
		}
	}
}

func TestWithoutSource(t *testing.T) {
	source := (&ipv4.ControlMessage{Src: net.IPv4(10, 0, 0, 1), IfIndex: 3}).Marshal()
	other := unix.UnixRights(1) // any other control message
	free, had := withoutSource(append(bytes.Clone(source), other...))
	if !had || !bytes.Equal(free, other) {
		t.Fatalf("%v %x", had, free)
	}
	if free, had := withoutSource(other); had || !bytes.Equal(free, other) {
		t.Fatalf("%v %x", had, free)
	}
	withoutSource(source[:len(source)-1])
	withoutSource([]byte{1})
}

func FuzzControlMessages(f *testing.F) {
	f.Add((&ipv4.ControlMessage{Src: net.IPv4(10, 0, 0, 1), IfIndex: 3}).Marshal())
	f.Fuzz(func(t *testing.T, oob []byte) {
		if free, _ := withoutSource(oob); len(free) > len(oob) {
			t.Fatal("it grew")
		}
	})
}

// deaf sends but hears nothing, as who sends from an address that is not his.
type deaf struct {
	net.PacketConn
	closed chan struct{}
	once   sync.Once
}

func (d *deaf) ReadFrom([]byte) (int, net.Addr, error) {
	<-d.closed
	return 0, nil, net.ErrClosed
}

func (d *deaf) SetReadDeadline(time.Time) error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// Handshakes that never go on take little, and keep nobody out.
func TestHalfOpen(t *testing.T) {
	// Long enough for an honest handshake on a machine as busy as the flood makes it.
	opts := Options{HandshakeTimeout: 4 * time.Second}
	a, b := newHost(t, "a", local, opts), newHost(t, "b", local, opts)
	pair(t, a, b)
	udp, err := net.ListenPacket("udp", local)
	if err != nil {
		t.Fatal(err)
	}
	flood := &quic.Transport{Conn: &deaf{PacketConn: udp, closed: make(chan struct{})}}
	ctx, cancel := context.WithCancel(context.Background())
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(b.Addresses()[0]))
	const many = 400
	ended := make(chan struct{})
	for range many {
		go func() {
			flood.Dial(ctx, to, a.key.dialTLS(b.Card().Peer(), func() {}), opts.withDefaults().quic())
			ended <- struct{}{}
		}()
	}
	deadline := time.Now().Add(5 * time.Second)
	for b.halfOpen.Load() <= halfOpenSuspicious {
		if time.Now().After(deadline) {
			t.Fatalf("only %d half-open connections", b.halfOpen.Load())
		}
		time.Sleep(time.Millisecond)
	}
	for range 5 {
		if _, _, err := a.Ping(within(t, 5*time.Second), b.Card().Peer()); err != nil {
			t.Fatalf("a paired host is kept out: %v", err)
		}
	}
	if n := b.halfOpen.Load(); n > 4*halfOpenSuspicious {
		t.Errorf("%d half-open connections of who cannot hear", n)
	}
	cancel()
	for range many {
		<-ended
	}
	flood.Close()
	udp.Close()
	for deadline := time.Now().Add(10 * time.Second); b.halfOpen.Load() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d half-open connections stay", b.halfOpen.Load())
		}
	}
	begin := time.Now()
	b.Close()
	if took := time.Since(begin); took > 2*time.Second {
		t.Fatalf("closing took %v", took)
	}
}
