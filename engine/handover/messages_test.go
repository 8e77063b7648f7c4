package handover

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// samples is one message of each kind.
func samples() []*message {
	const move = "abcdefgh12345678"
	return []*message{
		{Kind: kindBring, App: "vim", Check: true},
		{Kind: kindOffer, Move: move, Offer: &Offer{Move: move, App: "app1", Name: "vim", Needs: []string{"x"}, Files: []byte{1, 2}}},
		{Kind: kindAnswer, Answer: &Answer{Problems: []Problem{{"what", "cure", "a"}}, WantBytes: 1 << 40}},
		{Kind: kindPrepare}, {Kind: kindPrepared}, {Kind: kindPreCopy}, {Kind: kindFrozen},
		{Kind: kindReady, Restore: 12345}, {Kind: kindCommit, Move: move}, {Kind: kindRunning, Move: move, Since: -1},
		{Kind: kindDead, Move: move, Reason: "no"}, {Kind: kindReleased, Move: move, Result: &Result{App: "vim", Outcome: Moved, DowntimeMS: 1.5}, Last: []byte{3}},
		{Kind: kindCancel, Reason: "why"}, {Kind: kindProgress, Progress: &Progress{State: SourceMemory, Done: 5}},
		{Kind: kindAsk, Move: move}, {Kind: kindVerdict, Move: move, Verdict: verdictStayed}, {Kind: kindUnsure, Reason: "?"},
		{Kind: kindSettled, Notes: []string{"n"}},
	}
}

func TestMessages(t *testing.T) {
	seen := map[kind]bool{}
	for _, m := range samples() {
		seen[m.Kind] = true
		b, err := encode(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(b)
		if err != nil {
			t.Fatalf("%s: %v", m.Kind, err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("%s: sent %+v, got %+v", m.Kind, m, got)
		}
		for n := range b {
			if m, err := decode(b[:n]); err == nil {
				t.Errorf("%s cut to %d bytes was taken", m.Kind, n)
			}
		}
	}
	for k := kind(1); k <= kindLast; k++ {
		if !seen[k] || strings.HasPrefix(k.String(), "frame ") {
			t.Errorf("%s (%d) has no sample or no name", k, k)
		}
	}
}

func TestMessagesThatMakeNoSense(t *testing.T) {
	for _, m := range []*message{
		{Kind: 0}, {Kind: kindLast + 1}, {Kind: kindOffer}, {Kind: kindOffer, Offer: &Offer{App: "x"}},
		{Kind: kindOffer, Offer: &Offer{App: "x", Move: "../../etc/passwd"}}, {Kind: kindAnswer}, {Kind: kindProgress}, {Kind: kindBring},
		{Kind: kindCommit}, {Kind: kindCommit, Move: "short"}, {Kind: kindAsk, Move: "ABCDEFGHIJKL"},
	} {
		b, err := cbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(b); err == nil {
			t.Errorf("%+v was taken", m)
		}
	}
	if _, err := encode(&message{Kind: kindOffer, Offer: &Offer{Files: make([]byte, MaxFrame)}}); err == nil {
		t.Error("a frame that is too large was encoded")
	}
	// What is not needed for the move does not break it.
	b, err := encode(&message{Kind: kindReleased, Last: make([]byte, MaxLast+1)})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := decode(b); err != nil || m.Last != nil {
		t.Errorf("more than a person gives an app as it moves was taken: %d bytes, %v", len(m.Last), err)
	}
}

// TestWords: nothing that another host says for people plays with their terminal.
func TestWords(t *testing.T) {
	const evil = "\x1b[2J\x1b]0;you\x07\u009b31m\u202eb"
	problems := []Problem{{What: evil, Cure: evil, Side: evil}}
	m := &message{Kind: kindOffer, Reason: evil + "\nmore", Notes: []string{evil},
		Offer:    &Offer{Move: "abcdefgh", App: "x", Name: evil, From: evil, Notes: []string{evil}, Needs: []string{evil}},
		Answer:   &Answer{Host: evil, Problems: problems, Notes: []string{evil}},
		Progress: &Progress{App: evil, State: evil, Note: evil + strings.Repeat("ü", 200)},
		Result:   &Result{App: evil, From: evil, To: evil, Reason: evil, Problems: problems, Notes: []string{evil}}}
	b, err := cbor.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = cbor.Marshal(got); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"\x1b", "\u009b", "\u202e"} {
		if strings.Contains(string(b), bad) {
			t.Errorf("%q comes through", bad)
		}
	}
	if n := got.Progress.Note; len(n) > maxNames || !utf8.ValidString(n) || !strings.HasSuffix(got.Reason, "b more") {
		t.Errorf("a note of %d bytes, the reason %q", len(n), got.Reason)
	}
}

func FuzzMessage(f *testing.F) {
	for _, m := range samples() {
		b, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(m)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if m2, err := decode(again); err != nil || m2.Kind != m.Kind {
			t.Fatalf("decoded once but not twice: %v", err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, s := range []RecordState{Holding, Committed, Gone, Reverted, Ready, Running} {
		b, err := encodeRecord(&Record{Move: "abcdefgh12345678", Side: s.side(), State: s, App: "app1", Stopped: []int{7}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := decodeRecord(b)
		if err != nil {
			return
		}
		if rec.State.side() != rec.Side || !validMove(rec.Move) {
			t.Fatalf("taken: %+v", rec)
		}
	})
}

func TestJournal(t *testing.T) {
	j := FileJournal{t.TempDir()}
	rec := &Record{Move: NewMoveID(), Side: SideSource, State: Holding, App: "app1", Name: "vim", Stopped: []int{3, 4}}
	for _, s := range []RecordState{Holding, Committed} {
		rec.State = s
		if err := j.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	other := &Record{Move: NewMoveID(), Side: SideDestination, State: Ready, App: "app2"}
	if err := j.Write(other); err != nil {
		t.Fatal(err)
	}
	all, damaged, err := j.All()
	if err != nil || len(damaged) != 0 || len(all) != 2 {
		t.Fatalf("%v, %v, %v", all, damaged, err)
	}
	for _, r := range all {
		if r.Move == rec.Move && !reflect.DeepEqual(r, rec) {
			t.Errorf("wrote %+v, read %+v", rec, r)
		}
	}
	// A new name for a record, or any bit of it changed, is damage.
	if err := replace(j.path(other.Move, SideSource), readFile(t, j.path(rec.Move, SideSource))); err != nil {
		t.Fatal(err)
	}
	b := readFile(t, j.path(rec.Move, SideSource))
	for _, bad := range [][]byte{nil, b[:len(b)/2], bytes.Replace(b, []byte("committed"), []byte("holding"), 1), append(b, 'x')} {
		if err := replace(j.path(rec.Move, SideSource), bad); err != nil {
			t.Fatal(err)
		}
		all, damaged, err = j.All()
		if err != nil || len(all) != 1 || len(damaged) != 2 || damaged[0].Err == nil {
			t.Fatalf("%q: %v, %v, %v", bad, all, damaged, err)
		}
	}
	for range 2 {
		if err := j.Remove(rec.Move, SideSource); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Write(&Record{Move: "../evil00", Side: SideSource, State: Holding, App: "x"}); err == nil {
		t.Error("a hostile move id was written")
	}
}

// TestDamagedJournal: a record that cannot be read lets nothing run or end.
func TestDamagedJournal(t *testing.T) {
	w := newWorld(t)
	move := "abcdefgh12345678"
	w.hosts[0].app, w.hosts[1].app = stopped, built
	a, b := w.hosts[0].d.moves, w.hosts[1].d.moves
	b.damaged = []Damage{{move, SideDestination, errFault}}
	e := &entry{side: SideSource, rec: Record{Move: move, Side: SideSource, State: Committed, App: "app1", Peer: "b"},
		phase: undecided, source: recovered{a.Host, &Record{}}, taken: make(chan struct{})}
	e.id = e.rec
	a.mu.Lock()
	a.put(e)
	a.mu.Unlock()
	l, served := w.dial(w.hosts[0].d, w.hosts[1].d)
	if err := a.Resolve(t.Context(), l, move); err == nil {
		t.Error("settled with a damaged journal at the other side")
	}
	<-served
	if w.hosts[0].app != stopped || w.hosts[1].app != built {
		t.Errorf("the copies are %s and %s", w.hosts[0].app, w.hosts[1].app)
	}
	if p := b.Pending(); len(p) != 1 || p[0].State != "damaged" {
		t.Errorf("pending: %+v", p)
	}
	// The other way round: the destination waits, the source's record is damaged.
	a.forget(e)
	a.damaged = []Damage{{move, SideSource, errFault}}
	b.damaged = nil
	e = &entry{side: SideDestination, rec: Record{Move: move, Side: SideDestination, State: Ready, App: "app1", Peer: "a"},
		phase: waiting, dest: &fakeDestination{w.hosts[1].d}, taken: make(chan struct{})}
	e.id = e.rec
	b.mu.Lock()
	b.put(e)
	b.mu.Unlock()
	l, served = w.dial(w.hosts[1].d, w.hosts[0].d)
	if err := b.Resolve(t.Context(), l, move); err == nil {
		t.Error("settled with a damaged journal at the source")
	}
	<-served
	if w.hosts[0].app != stopped || w.hosts[1].app != built {
		t.Errorf("the copies are %s and %s", w.hosts[0].app, w.hosts[1].app)
	}
	// A person may claim.
	if err := b.Claim(move); err != nil || w.hosts[1].app != runs {
		t.Errorf("claiming: %v, the copy %s", err, w.hosts[1].app)
	}
}

// TestForeignHost: a host that is not the move's other side decides nothing.
func TestForeignHost(t *testing.T) {
	w := newWorld(t)
	move := "abcdefgh12345678"
	w.hosts[0].app, w.hosts[1].app = stopped, built
	b := w.hosts[1].d.moves
	e := &entry{side: SideDestination, rec: Record{Move: move, Side: SideDestination, State: Ready, App: "app1", Peer: "somebody else"},
		phase: waiting, dest: &fakeDestination{w.hosts[1].d}, taken: make(chan struct{})}
	e.id = e.rec
	b.mu.Lock()
	b.put(e)
	b.mu.Unlock()
	l, served := w.dial(w.hosts[0].d, w.hosts[1].d)
	p := newParty(t.Context(), l, Timeouts{})
	if err := p.send(&message{Kind: kindCommit, Move: move}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.wait(t.Context(), kindUnsure); err != nil {
		t.Error(err)
	}
	p.end()
	<-served
	if w.hosts[1].app != built {
		t.Errorf("the copy %s", w.hosts[1].app)
	}
}
func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
