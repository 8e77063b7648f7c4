package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/transport"
)

// strangers are hosts that are not paired; their daemons run.
func strangers(t *testing.T, names ...string) []*host {
	t.Helper()
	all := hostsOf(t, built(), names...)
	for _, h := range all {
		for _, o := range all {
			if o != h {
				h.must("unpair", o.name)
			}
		}
	}
	return all
}

func (h *host) address() string { return fmt.Sprintf("127.0.0.1:%d", h.port) }

// identity is the host's key, as it lies in its folder.
func (h *host) identity() *transport.Identity {
	h.t.Helper()
	id, err := transport.LoadIdentity(filepath.Join(h.dir, "data", "hither"))
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

// pairing waits for one in one of the states.
func (h *host) pairing(incoming bool, states ...string) control.Pairing {
	h.t.Helper()
	var found control.Pairing
	eventually(h.t, fmt.Sprintf("a pairing of %s in %v", h.name, states), func() error {
		all, err := h.client.Pairings(h.t.Context())
		if err != nil {
			return err
		}
		for _, p := range all.Pairings {
			for _, s := range states {
				if p.Incoming == incoming && p.State == s {
					found = p
					return nil
				}
			}
		}
		return fmt.Errorf("there are %+v", all.Pairings)
	})
	return found
}

func (h *host) answer(p control.Pairing, match bool) {
	h.t.Helper()
	if _, err := h.client.AnswerPairing(h.t.Context(), p.ID, match); err != nil {
		h.t.Fatalf("answering on %s: %v", h.name, err)
	}
}

// peer is what the host has of another one; nil if they are not paired.
func (h *host) peer(id transport.ID) *control.Peer {
	h.t.Helper()
	all, err := h.client.Peers(h.t.Context(), false)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, p := range all.Peers {
		if p.ID == string(id) && p.Paired {
			return &p
		}
	}
	return nil
}

// compared brings both to the code.
func compared(t *testing.T, a, b *host) (pa, pb control.Pairing) {
	t.Helper()
	if _, err := a.client.BeginPairing(t.Context(), control.PairingRequest{Address: b.address()}); err != nil {
		t.Fatal(err)
	}
	pa, pb = a.pairing(false, control.PairingCompare), b.pairing(true, control.PairingCompare)
	if pa.Code != pb.Code || len(pa.Code) != 6 || pa.PeerID != string(b.identity().ID()) || pb.PeerID != string(a.identity().ID()) {
		t.Fatalf("a: %+v\nb: %+v", pa, pb)
	}
	return pa, pb
}

func TestPairByCode(t *testing.T) {
	all := strangers(t, "a", "b")
	a, b := all[0], all[1]
	pa, pb := compared(t, a, b)
	// One yes is not enough, on either side.
	a.answer(pa, true)
	if p := a.pairing(false, control.PairingWaiting); p.ID != pa.ID {
		t.Fatalf("%+v", p)
	}
	if a.peer(b.identity().ID()) != nil || b.peer(a.identity().ID()) != nil {
		t.Fatal("paired by one person")
	}
	b.answer(pb, true)
	a.pairing(false, control.PairingDone)
	b.pairing(true, control.PairingDone)
	for _, way := range [][2]*host{{a, b}, {b, a}} {
		p := way[0].peer(way[1].identity().ID())
		if p == nil || p.Permissions["send"] != control.Ask || p.Permissions["bring"] != control.Ask || p.Permissions["watch"] != control.Allow {
			t.Fatalf("%s has of %s: %+v", way[0].name, way[1].name, p)
		}
	}
	if out := a.must("peers"); !strings.Contains(out, b.identity().ID().Short()) || !strings.Contains(out, "up") {
		t.Errorf("a's peers: %s", out)
	}
}

func TestPairWrongCode(t *testing.T) {
	all := strangers(t, "a", "b")
	a, b := all[0], all[1]
	pa, pb := compared(t, a, b)
	a.answer(pa, true)
	wrong := "000000"
	if pb.Code == wrong {
		wrong = "000001"
	}
	if _, errs, code := b.hither("pair", "--code", wrong); code != 1 || !strings.Contains(errs, "somebody may stand between") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if p := a.pairing(false, control.PairingFailed); !strings.Contains(p.Reason, "differ") {
		t.Errorf("a hears %+v", p)
	}
	if a.peer(b.identity().ID()) != nil || b.peer(a.identity().ID()) != nil {
		t.Fatal("paired all the same")
	}
	// The right ones pair.
	_, pb = compared(t, a, b)
	pa = a.pairing(false, control.PairingCompare)
	a.answer(pa, true)
	if out := b.must("pair", "--code", pb.Code[:3]+" "+pb.Code[3:]); !strings.Contains(out, "paired with ") {
		t.Errorf("b says %s", out)
	}
	a.pairing(false, control.PairingDone)
	if _, errs, code := b.hither("pair", "--code", pb.Code); code != 1 || !strings.Contains(errs, "no host waits") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// A host that comes with the name of another one is told from it.
func TestPairImpostor(t *testing.T) {
	all := hostsOf(t, built(), "a", "b")
	a, b := all[0], all[1]
	dir := t.TempDir()
	trust, err := transport.OpenTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err := transport.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	e, err := transport.Listen("127.0.0.1:0", id, trust, transport.Options{Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	// It knows a's key and address, and gets nowhere.
	a_ := transport.Card{Name: "a", Key: a.identity().Public(), Addresses: []string{a.address()}}.Peer()
	if err := trust.Put(a_); err != nil {
		t.Fatal(err)
	}
	if c, err := e.Dial(t.Context(), a_); err == nil {
		t.Fatalf("an impostor is connected: %v", c)
	} else if !strings.Contains(err.Error(), "not paired") {
		t.Fatal(err)
	}
	go e.BeginPairing(t.Context(), "a", "", []string{a.address()}) //nolint:errcheck // a's side is looked at
	p := a.pairing(true, control.PairingCompare)
	if !strings.Contains(p.Warning, "called b is paired already, with another key") || !strings.Contains(p.Warning, b.identity().ID().Short()) {
		t.Errorf("a is shown %+v", p)
	}
	if a.peer(id.ID()) != nil {
		t.Fatal("paired")
	}
	a.answer(p, false)
	a.pairing(true, control.PairingFailed)
	if a.peer(b.identity().ID()) == nil {
		t.Fatal("the true one was lost")
	}
}

func TestPairByTicket(t *testing.T) {
	all := strangers(t, "a", "b", "c")
	a, b, c := all[0], all[1], all[2]
	ticket := strings.TrimSpace(b.must("pair", "--ticket"))
	if out := a.must("pair", "--name", "desk", ticket); !strings.Contains(out, "paired with ") {
		t.Errorf("a says %s", out)
	}
	if p := a.peer(b.identity().ID()); p == nil || p.Name != "desk" {
		t.Fatalf("a has %+v", p)
	}
	if b.peer(a.identity().ID()) == nil {
		t.Fatal("b has nothing")
	}
	for what, bad := range map[string]string{
		"used":     ticket,
		"tampered": strings.Replace(ticket, string(b.identity().ID()), string(a.identity().ID()), 1),
		"cut":      ticket[:len(ticket)-4],
	} {
		out, errs, code := c.hither("pair", bad)
		if code == 0 || !strings.Contains(errs, "ticket") {
			t.Errorf("%s: exit %d: %s%s", what, code, out, errs)
		}
	}
	if list, err := c.client.Peers(t.Context(), false); err != nil || len(list.Peers) > 0 {
		t.Errorf("c has %+v, %v", list, err)
	}
	if _, errs, code := b.hither("pair", strings.TrimSpace(b.must("pair", "--ticket"))); code != 2 || !strings.Contains(errs, "own") {
		t.Errorf("its own: exit %d: %s", code, errs)
	}
	// It does not outlive the daemon.
	ticket = strings.TrimSpace(b.must("pair", "--ticket"))
	b.kill()
	b.start()
	if _, errs, code := c.hither("pair", ticket); code != 1 || !strings.Contains(errs, "started anew") {
		t.Errorf("of an earlier daemon: exit %d: %s", code, errs)
	}
}

// Both people begin at the same time: there is one pairing in the end.
func TestPairBothBegin(t *testing.T) {
	all := strangers(t, "a", "b")
	a, b := all[0], all[1]
	var sides sync.WaitGroup
	for _, way := range [][2]*host{{a, b}, {b, a}} {
		sides.Go(func() {
			if _, err := way[0].client.BeginPairing(t.Context(), control.PairingRequest{Address: way[1].address()}); err != nil {
				t.Error(err)
			}
		})
	}
	sides.Wait()
	// Whatever was faster: each side shows one code, and it is the same.
	var shown map[*host]control.Pairing
	eventually(t, "one code on both", func() error {
		shown = map[*host]control.Pairing{}
		for _, h := range all {
			list, err := h.client.Pairings(t.Context())
			if err != nil {
				return err
			}
			for _, p := range list.Pairings {
				switch p.State {
				case control.PairingConnecting:
					return fmt.Errorf("%s: %+v", h.name, list)
				case control.PairingCompare:
					if shown[h].Code != "" {
						return fmt.Errorf("%s: %+v", h.name, list)
					}
					shown[h] = p
				}
			}
		}
		if shown[a].Code == "" || shown[a].Code != shown[b].Code {
			return fmt.Errorf("%+v", shown)
		}
		return nil
	})
	a.answer(shown[a], true)
	b.answer(shown[b], true)
	eventually(t, "the two are paired", func() error {
		if a.peer(b.identity().ID()) == nil || b.peer(a.identity().ID()) == nil {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// rss is the resident memory of the host's daemon.
func (h *host) rss() int {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.daemon.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	var kb int
	fmt.Sscan(rest, &kb)
	return kb << 10
}

// initials are the first datagrams of so many handshakes that go no further.
func initials(t *testing.T, n int) [][]byte {
	t.Helper()
	sink, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	trust, err := transport.OpenTrust(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	id, err := transport.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	e, err := transport.Listen("127.0.0.1:0", id, trust, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for range n {
		go e.BeginPairing(ctx, "x", "", []string{sink.LocalAddr().String()}) //nolint:errcheck // it goes nowhere
	}
	var all [][]byte
	buf := make([]byte, 1<<16)
	sink.SetReadDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // then there are fewer
	for len(all) < n {
		size, _, err := sink.ReadFromUDP(buf)
		if err != nil {
			break
		}
		all = append(all, append([]byte{}, buf[:size]...))
	}
	return all
}

// TestPairFlood: 10,000 datagrams of garbage, hundreds of half-open handshakes and
// strangers that want to be paired again and again. Peers and honest strangers
// come through, a person is not flooded, and memory is bounded.
func TestPairFlood(t *testing.T) {
	all := hostsOf(t, built(), "a", "b", "c")
	a, b, c := all[0], all[1], all[2]
	b.must("unpair", "c")
	c.must("unpair", "b")
	before := b.rss()
	prompts := 0
	events, stop := context.WithCancel(t.Context())
	defer stop()
	hear, err := b.client.Listen(events)
	if err != nil {
		t.Fatal(err)
	}
	counted := make(chan bool)
	go func() {
		defer close(counted)
		hear(func(e control.Event) error { //nolint:errcheck // it ends with events
			if e.Pairing != nil && e.Pairing.Incoming && e.Pairing.State == control.PairingCompare {
				prompts++
			}
			return nil
		})
	}()
	target, err := net.ResolveUDPAddr("udp", b.address())
	if err != nil {
		t.Fatal(err)
	}
	half := initials(t, 600)
	if len(half) < 300 {
		t.Fatalf("only %d handshakes were begun", len(half))
	}
	var noise sync.WaitGroup
	noise.Go(func() {
		s, err := net.DialUDP("udp", nil, target)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		buf := make([]byte, 1452)
		for i := range 10000 {
			rand.Read(buf)
			switch i % 4 {
			case 1:
				copy(buf, []byte{0xc3, 0, 0, 0, 1, 8}) // a long header of version 1, type initial
			case 2:
				buf[0] = 0x43 // a short header
			}
			s.Write(buf[:20+i%1400]) //nolint:errcheck // it is UDP
		}
	})
	for k := range 4 { // from different ports
		noise.Go(func() {
			s, err := net.DialUDP("udp", nil, target)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for i := k; i < len(half); i += 4 {
				s.Write(half[i]) //nolint:errcheck // it is UDP
			}
		})
	}
	for range 3 {
		noise.Go(func() {
			for range 10 {
				stranger(t, b.address())
			}
		})
	}
	// Peers come through in the midst of it.
	if out := a.must("peers"); !strings.Contains(out, b.identity().ID().Short()) {
		t.Errorf("a's peers: %s", out)
	}
	noise.Wait()
	eventually(t, "a reaches b after the flood", func() error {
		_, err := a.client.PeerApps(t.Context(), "b")
		return err
	})
	after := b.rss()
	t.Logf("b's daemon takes %d MB, before the flood %d", after>>20, before>>20)
	if after-before > 64<<20 {
		t.Errorf("the flood has made b's daemon grow by %d MB", (after-before)>>20)
	}
	stop()
	<-counted
	if prompts > 6 {
		t.Errorf("a person was shown %d pairings", prompts)
	}
	list, err := b.client.Peers(t.Context(), false)
	if err != nil || len(list.Peers) != 1 {
		t.Errorf("b's peers: %+v %v", list, err)
	}
	// Who was not asked too often, pairs: by ticket at once, by digits when the
	// flood has been over for a while.
	if out := c.must("pair", strings.TrimSpace(b.must("pair", "--ticket"))); !strings.Contains(out, "paired with ") {
		t.Errorf("c says %s", out)
	}
}

// stranger wants to be paired, is shown a code if it comes so far, and goes.
func stranger(t *testing.T, address string) {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Error(err)
		return
	}
	trust, err := transport.OpenTrust(dir)
	if err != nil {
		t.Error(err)
		return
	}
	id, err := transport.NewIdentity()
	if err != nil {
		t.Error(err)
		return
	}
	e, err := transport.Listen("127.0.0.1:0", id, trust, transport.Options{Name: "friend", HandshakeTimeout: time.Second})
	if err != nil {
		t.Error(err)
		return
	}
	defer e.Close()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	if p, err := e.BeginPairing(ctx, "x", "", []string{address}); err == nil {
		p.Close()
	}
}

// question waits for what is asked on a host.
func (h *host) question(permit string) control.Question {
	h.t.Helper()
	var found control.Question
	eventually(h.t, "a question on "+h.name, func() error {
		all, err := h.client.Questions(h.t.Context())
		if err != nil {
			return err
		}
		for _, q := range all.Questions {
			if q.Permit == permit {
				found = q
				return nil
			}
		}
		return fmt.Errorf("there are %+v", all.Questions)
	})
	return found
}

// asked moves an app while a person answers on another host. It returns the result
// and the notes of its progress.
func asked(t *testing.T, on *host, permit, answer string, move func(func(handover.Progress)) (*handover.Result, error)) (*handover.Result, string) {
	t.Helper()
	var person sync.WaitGroup
	person.Go(func() {
		q := on.question(permit)
		if answer == control.AnswerOnce {
			time.Sleep(2 * time.Second) // as people do
		}
		if !strings.Contains(q.Text, q.Peer) || q.PeerID == "" || time.Until(q.Expires) > time.Minute {
			t.Errorf("asked is %+v", q)
		}
		if err := on.client.AnswerQuestion(t.Context(), q.ID, answer); err != nil {
			t.Error(err)
		}
	})
	var mu sync.Mutex
	notes := ""
	r, err := move(func(p handover.Progress) {
		mu.Lock()
		defer mu.Unlock()
		notes += p.Note
	})
	person.Wait()
	if err != nil {
		t.Fatal(err)
	}
	all, err := on.client.Questions(t.Context())
	if err != nil || len(all.Questions) > 0 {
		t.Errorf("still asked: %+v %v", all, err)
	}
	mu.Lock()
	defer mu.Unlock()
	return r, notes
}

// send moves with the client, so that progress is seen.
func (h *host) send(app, to string) func(func(handover.Progress)) (*handover.Result, error) {
	return func(progress func(handover.Progress)) (*handover.Result, error) {
		return h.client.Send(h.t.Context(), app, to, progress)
	}
}

func (h *host) bring(app, from string) func(func(handover.Progress)) (*handover.Result, error) {
	return func(progress func(handover.Progress)) (*handover.Result, error) {
		return h.client.Bring(h.t.Context(), control.MoveRequest{App: app, Peer: from}, progress)
	}
}

// kept is what a host has kept of a permission.
func (h *host) kept(peer *host, permit string) string {
	h.t.Helper()
	p := h.peer(peer.identity().ID())
	if p == nil {
		h.t.Fatalf("%s is not paired with %s", h.name, peer.name)
	}
	return p.Permissions[permit]
}

func TestPermitSend(t *testing.T) {
	all := hostsOf(t, built(), "a", "b")
	a, b := all[0], all[1]
	b.must("permit", "a", "all", "ask")
	a.must("permit", "b", "all", "deny")
	a.must("run", "-d", "--name", "clock", "sleep", "1000")
	// A check asks nobody, and says that somebody would be asked.
	c, err := a.client.Check(t.Context(), "clock", "b")
	if err != nil || !c.OK || !strings.Contains(strings.Join(c.Notes, " "), "will be asked") {
		t.Fatalf("%+v %v", c, err)
	}
	if q, err := b.client.Questions(t.Context()); err != nil || len(q.Questions) > 0 {
		t.Fatalf("a check asks %+v %v", q, err)
	}
	stays := func(r *handover.Result, words ...string) {
		t.Helper()
		if r.Outcome != handover.Stayed || len(r.Problems) == 0 || r.Problems[0].Cure == "" {
			t.Errorf("%+v", r)
		}
		for _, w := range words {
			if !strings.Contains(r.Reason, w) {
				t.Errorf("the reason is %q, which does not say %q", r.Reason, w)
			}
		}
	}
	r, notes := asked(t, b, "send", control.AnswerNo, a.send("clock", "b"))
	stays(r, "said no")
	if !strings.Contains(notes, "waiting for a person on ") {
		t.Errorf("progress says %q", notes)
	}
	if k := b.kept(a, "send"); k != control.Ask {
		t.Errorf("after no: %s", k)
	}
	// However long a person thinks, the app does not stand still for it.
	r, _ = asked(t, b, "send", control.AnswerOnce, a.send("clock", "b"))
	if r.Outcome != handover.Moved || r.RestoreMS > 1500 {
		t.Fatalf("%+v", r)
	}
	if k := b.kept(a, "send"); k != control.Ask {
		t.Errorf("after once: %s", k)
	}
	// What is denied is denied, even to an app that comes home; as long as it is
	// not, that one need not ask.
	r, err = b.client.Send(t.Context(), "clock", "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	stays(r, "may not")
	a.must("permit", "b", "send", "ask")
	if r, err := b.client.Send(t.Context(), "clock", "a", nil); err != nil || r.Outcome != handover.Moved {
		t.Fatalf("home: %+v %v", r, err)
	}
	r, _ = asked(t, b, "send", control.AnswerNever, a.send("clock", "b"))
	stays(r, "may not")
	if k := b.kept(a, "send"); k != control.Deny {
		t.Errorf("after never: %s", k)
	}
	if r, err = a.client.Send(t.Context(), "clock", "b", nil); err != nil {
		t.Fatal(err)
	}
	stays(r, "may not")
	if c, err := a.client.Check(t.Context(), "clock", "b"); err != nil || c.OK || len(c.Problems) != 1 || !strings.Contains(c.Problems[0].Cure, "hither permit a send allow") {
		t.Errorf("%+v %v", c, err)
	}
	// To permit it answers the question.
	b.must("permit", "a", "send", "ask")
	done := make(chan *handover.Result, 1)
	go func() {
		r, _ := a.client.Send(t.Context(), "clock", "b", nil)
		done <- r
	}()
	b.question("send")
	b.must("permit", "a", "send", "allow")
	if r := <-done; r == nil || r.Outcome != handover.Moved {
		t.Fatalf("%+v", r)
	}
	if out := b.must("permit"); !strings.Contains(out, "allow") {
		t.Errorf("hither permit: %s", out)
	}
}

func TestPermitBring(t *testing.T) {
	all := hostsOf(t, built(), "a", "b")
	a, b := all[0], all[1]
	b.must("permit", "a", "bring", "ask")
	b.must("run", "-d", "--name", "clock", "sleep", "1000")
	r, notes := asked(t, b, "bring", control.AnswerNo, a.bring("clock", "b"))
	if r.Outcome != handover.Stayed || !strings.Contains(r.Reason, "said no") || len(r.Problems) == 0 || !strings.Contains(notes, "waiting for a person") {
		t.Errorf("%+v, progress says %q", r, notes)
	}
	// Who asks and goes away takes the question along.
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan *handover.Result, 1)
	go func() {
		r, _ := a.client.Bring(ctx, control.MoveRequest{App: "clock", Peer: "b"}, nil)
		done <- r
	}()
	b.question("bring")
	stop()
	if r := <-done; r == nil || r.Outcome != handover.Stayed {
		t.Errorf("cancelled: %+v", r)
	}
	eventually(t, "the question has gone", func() error {
		q, err := b.client.Questions(t.Context())
		if err == nil && len(q.Questions) > 0 {
			err = fmt.Errorf("%+v", q)
		}
		return err
	})
	r, _ = asked(t, b, "bring", control.AnswerAlways, a.bring("clock", "b"))
	if r.Outcome != handover.Moved || b.kept(a, "bring") != control.Allow {
		t.Fatalf("%+v", r)
	}
	// Its own app a host may always have back, unless that is denied.
	a.must("permit", "b", "bring", "ask")
	if r, err := b.client.Bring(t.Context(), control.MoveRequest{App: "clock", Peer: "a"}, nil); err != nil || r.Outcome != handover.Moved {
		t.Fatalf("back: %+v %v", r, err)
	}
}

func TestPermitWatch(t *testing.T) {
	all := hostsOf(t, built(), "a", "b")
	a, b := all[0], all[1]
	b.must("permit", "a", "watch", "ask")
	b.must("run", "-d", "--name", "secret", "sleep", "1000")
	look := func() (string, error) {
		apps, err := a.client.PeerApps(t.Context(), "b")
		if err != nil {
			return "", err
		}
		names := ""
		for _, x := range apps.Apps {
			names += x.Name
		}
		return names, nil
	}
	if names, err := look(); err == nil || !strings.Contains(err.Error(), "has to agree first") {
		t.Fatalf("%q %v", names, err)
	}
	if err := b.client.AnswerQuestion(t.Context(), b.question("watch").ID, control.AnswerOnce); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a sees b's apps", func() error {
		names, err := look()
		if err == nil && names != "secret" {
			err = fmt.Errorf("%q", names)
		}
		return err
	})
	b.must("permit", "a", "watch", "deny")
	if names, err := look(); err == nil || !strings.Contains(err.Error(), "hither permit a watch allow") {
		t.Fatalf("%q %v", names, err)
	}
}

// held sends an app whose destination stands still in a state, and waits for that.
func heldSend(t *testing.T, from, to *host, app string, state handover.State) <-chan *handover.Result {
	t.Helper()
	held := to.hold(state)
	done := make(chan *handover.Result, 1)
	go func() {
		r, _ := from.client.Send(t.Context(), app, to.name, nil)
		done <- r
	}()
	select {
	case <-held:
	case r := <-done:
		t.Fatalf("it did not stand still: %+v", r)
	case <-time.After(20 * time.Second):
		t.Fatal("it did not come so far")
	}
	return done
}

// TestUnpairEnds: a host that is unpaired loses what it has at once.
func TestUnpairEnds(t *testing.T) {
	all := hostsOf(t, built(), "a", "b")
	a, b := all[0], all[1]
	a.must("run", "-d", "--name", "clock", "sleep", "1000")
	done := heldSend(t, a, b, "clock", handover.DestinationPrepare)
	began := time.Now()
	b.must("unpair", "a")
	r := <-done
	if r == nil || r.Outcome != handover.Stayed {
		t.Fatalf("%+v", r)
	}
	t.Logf("it ended %v after: %s", time.Since(began), r.Reason)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	b.release()
	if x, err := a.client.App(t.Context(), "clock"); err != nil || x.State != "running" {
		t.Errorf("%+v %v", x, err)
	}
	for _, what := range [][]string{{"send", "clock", "b"}, {"bring", "clock@b"}} {
		if _, errs, code := a.hither(what...); code != 1 || !strings.Contains(errs, "not paired") {
			t.Errorf("%v: exit %d: %s", what, code, errs)
		}
	}
}

// release lets moves go on, and stand still no more.
func (h *host) release() {
	h.t.Helper()
	if err := h.client.SetHolds(h.t.Context(), ""); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.client.ReleaseHolds(h.t.Context(), ""); err != nil {
		h.t.Fatal(err)
	}
}

// TestUnpairSettles: what has been handed over is settled before the two part.
func TestUnpairSettles(t *testing.T) {
	all := hostsOf(t, built(), "a", "b")
	a, b := all[0], all[1]
	a.must("run", "-d", "--name", "clock", "sleep", "1000")
	done := heldSend(t, a, b, "clock", handover.DestinationResume)
	parted := make(chan error, 1)
	go func() { parted <- a.client.Unpair(t.Context(), "b") }()
	eventually(t, "a has b no more", func() error {
		if a.peer(b.identity().ID()) != nil {
			return fmt.Errorf("it has")
		}
		return nil
	})
	b.release()
	if r := <-done; r == nil || r.Outcome != handover.Moved {
		t.Fatalf("%+v", r)
	}
	if err := <-parted; err != nil {
		t.Fatal(err)
	}
	if x, err := b.client.App(t.Context(), "clock"); err != nil || x.State != "running" {
		t.Errorf("%+v %v", x, err)
	}
}
