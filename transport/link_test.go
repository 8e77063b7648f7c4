package transport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"strconv"
	"testing"
	"time"

	"hither/transport/twonets"
)

// hostsOn makes a host in each namespace, paired.
func hostsOn(t *testing.T, n *twonets.Nets, opts Options) (a, b *host) {
	n.Do(0, func() { a = newHost(t, "a", ":0", opts) })
	n.Do(1, func() { b = newHost(t, "b", ":0", opts) })
	n.Do(0, func() { b.knows(t, a) }) // Addresses looks at this thread's namespace
	n.Do(1, func() { a.knows(t, b) })
	return a, b
}

func connectOn(t *testing.T, a, b *host) (out, in *Conn) {
	t.Helper()
	peer, err := a.trust.Find("b")
	if err != nil {
		t.Fatal(err)
	}
	if want := net.JoinHostPort(twonets.Address(1), strconv.Itoa(b.Port())); len(peer.Addresses) == 0 || peer.Addresses[0] != want {
		t.Fatalf("b is at %v, not %s", peer.Addresses, want)
	}
	if out, err = a.Dial(within(t, 5*time.Second), peer); err != nil {
		t.Fatal(err)
	}
	if in, err = b.Accept(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	return out, in
}

// transfer sends bytes from one end to the other while trouble happens in the
// middle of it, and checks what arrives.
func transfer(t *testing.T, from, to *Conn, trouble func()) {
	t.Helper()
	// 8 MiB are read before the trouble, and the window lets 16 more come. The rest comes after it.
	data := make([]byte, 40<<20)
	rand.New(rand.NewSource(1)).Read(data)
	sent := make(chan error, 1)
	go func() {
		s, err := from.OpenStream(within(t, 10*time.Second))
		if err == nil {
			_, err = s.Write(data)
		}
		if err == nil {
			err = s.Close()
		}
		sent <- err
	}()
	s, err := to.AcceptStream(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, s, 8<<20); err != nil {
		t.Fatal(err)
	}
	trouble()
	begin := time.Now()
	if _, err := io.Copy(sum, s); err != nil {
		t.Fatalf("after the trouble: %v", err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(want[:], sum.Sum(nil)) {
		t.Fatal("other bytes arrived than were sent")
	}
	t.Logf("the rest took %v", time.Since(begin))
}

func TestLinkDownIsSurvived(t *testing.T) {
	t.Parallel()
	if !twonets.Here(t) {
		return
	}
	n := twonets.New(t)
	a, b := hostsOn(t, n, Options{})
	out, in := connectOn(t, a, b)
	for i, ends := range [][2]*Conn{{out, in}, {in, out}} {
		transfer(t, ends[0], ends[1], func() {
			n.Down(i)
			time.Sleep(3 * time.Second) // the length of the trouble
			n.Up(i)
		})
	}
}

func TestNewAddressIsSurvived(t *testing.T) {
	t.Parallel()
	if !twonets.Here(t) {
		return
	}
	n := twonets.New(t)
	a, b := hostsOn(t, n, Options{})
	out, in := connectOn(t, a, b)
	transfer(t, out, in, func() { n.SetAddress(0, "10.77.0.9") })
	transfer(t, in, out, func() { n.SetAddress(0, "10.77.0.10") })
	if ip := in.RemoteAddr().(*net.UDPAddr).IP.String(); ip != "10.77.0.10" {
		t.Fatalf("b thinks that a is at %s", ip)
	}
}

// The side that was dialled renews its address: the same one comes back, on an
// interface that has gone and come.
func TestLostAddressIsSurvived(t *testing.T) {
	t.Parallel()
	if !twonets.Here(t) {
		return
	}
	n := twonets.New(t)
	a, b := hostsOn(t, n, Options{})
	out, in := connectOn(t, a, b)
	transfer(t, in, out, func() {
		n.SetAddress(1, "10.99.0.1")
		time.Sleep(time.Second)
		n.SetAddress(1, twonets.Address(1))
	})
}

func TestLongCutIsNoticed(t *testing.T) {
	if !twonets.Here(t) {
		return
	}
	n := twonets.New(t)
	a, b := hostsOn(t, n, Options{IdleTimeout: time.Second, HandshakeTimeout: 2 * time.Second})
	out, in := connectOn(t, a, b)
	n.Down(1)
	for name, c := range map[string]*Conn{"dialler": out, "accepter": in} {
		select {
		case <-c.Done():
			if _, ok := errors.AsType[*LostError](c.Err()); !ok {
				t.Errorf("%s: %v", name, c.Err())
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s noticed nothing", name)
		}
	}
	peer := out.Peer()
	_, err := a.Dial(within(t, 10*time.Second), peer)
	if _, ok := errors.AsType[*UnreachableError](err); !ok {
		t.Errorf("dialling over a cut link: %v", err)
	}
	n.Up(1)
	if _, _, err := a.Ping(within(t, 10*time.Second), peer); err != nil {
		t.Errorf("after the link came back: %v", err)
	}
}

func TestUnreachableInWords(t *testing.T) {
	const said = "laptop does not answer at 192.0.2.7:44843: is it switched on, and does hither run there?"
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("dialling: %w", context.DeadlineExceeded), said},
		{errors.New("no route to host"), said + " (no route to host)"},
		{nil, said},
	} {
		if got := (&UnreachableError{Peer: "laptop", Tried: []string{"192.0.2.7:44843"}, Err: c.err}).Error(); got != c.want {
			t.Errorf("%v: %s", c.err, got)
		}
	}
}
