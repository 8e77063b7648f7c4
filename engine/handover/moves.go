package handover

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log"
	"sort"
	"strings"
	"sync"
	"time"
)

// Moves are all moves of one host, under way or undecided.
type Moves struct {
	Journal Journal
	Host    Host
	Boot    string   // this host's boot id
	Name    string   // this host's name
	Gate    Gate     // nil: none
	Times   Timeouts // zero fields get defaults
	// Changed is called, if set, when an undecided move appears or is settled;
	// not from under a lock.
	Changed func()

	mu      sync.Mutex
	entries map[string]*entry        // by move and side
	coming  map[string]chan struct{} // by app: a move brings it here; closed at its end
	damaged []Damage
}

// Timeouts bound every state. Idle bounds the pause between two pieces of a
// transfer, the others the whole of one wait.
type Timeouts struct {
	Answer, Prepared, Ready, Running, Settled, Idle time.Duration
	// Grace is how long a move waits for a new link before it is called undecided.
	Grace time.Duration
	// Cause is how long an error waits for the frame that explains it.
	Cause time.Duration
}

func (t Timeouts) filled() Timeouts {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Answer, 60*time.Second)
	set(&t.Prepared, 120*time.Second)
	set(&t.Ready, 120*time.Second)
	set(&t.Running, 30*time.Second)
	set(&t.Settled, 30*time.Second)
	set(&t.Idle, 30*time.Second)
	set(&t.Grace, 5*time.Second)
	set(&t.Cause, 200*time.Millisecond)
	return t
}

// phase is where an entry is, coarsely.
type phase int

const (
	working   phase = iota // its state machine runs, nothing is decided
	undecided              // source: committed, no answer yet
	waiting                // destination: ready, no commit yet
	running                // destination: the copy runs, the source has not heard it yet
	done
)

// copyAtSource is what is left to do with a held copy, and copyAtDestination
// with a waiting one, whether a live move has it or only a record is left.
type copyAtSource interface {
	Thaw() error
	Release() (last []byte, err error)
}

type copyAtDestination interface {
	Resume() error
	TakeLast(last []byte) error
	Abandon() error
}

// entry is one move on one side.
type entry struct {
	side Side
	id   Record // as it began: move, app, peer; never written again

	mu     sync.Mutex // see the package comment
	phase  phase
	rec    Record
	source copyAtSource
	dest   copyAtDestination
	last   []byte        // source: what the copy was still given; it has been released
	reason string        // why it is undecided
	when   time.Time     // the copy was resumed
	taken  chan struct{} // closed when it is decided elsewhere than on the move's own link
}

// Pending is a move that is under way or not settled.
type Pending struct {
	Move     string    `json:"move"`
	App      string    `json:"app"`
	Name     string    `json:"name"`
	Side     Side      `json:"side"`
	State    string    `json:"state"` // working, undecided, waiting, running
	Peer     string    `json:"peer"`
	PeerName string    `json:"peer_name"`
	Since    time.Time `json:"since"`
	Reason   string    `json:"reason,omitempty"`
}

// NewMoveID makes an id that no other move has.
func NewMoveID() string {
	var b [15]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

func key(move string, side Side) string { return move + "." + string(side) }

// begin enters a new move into the table.
func (m *Moves) begin(side Side, offer *Offer, peer, peerName string) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.damaged {
		if d.Move == offer.Move {
			return nil, d.Err
		}
	}
	for _, e := range m.entries {
		if e.id.Move == offer.Move && e.side == side {
			return nil, fmt.Errorf("move %s is already under way", offer.Move)
		}
		if e.id.App == offer.App && !e.settledHere() {
			return nil, fmt.Errorf("another move of %s is under way or undecided: see `hither inspect %s`", offer.Name, offer.Name)
		}
	}
	e := &entry{side: side, taken: make(chan struct{}), rec: Record{
		Move: offer.Move, Side: side, App: offer.App, Name: offer.Name, Peer: peer, PeerName: peerName,
		Boot: m.Boot, Time: time.Now(),
	}}
	e.id = e.rec
	m.put(e)
	return e, nil
}

// settledHere: a destination's copy that runs hinders no further move of it.
// The phase is read without e.mu, which may be held for long: begin only needs
// to know about phases that do not go back.
func (e *entry) settledHere() bool {
	if !e.mu.TryLock() {
		return false
	}
	defer e.mu.Unlock()
	return e.phase == running || e.phase == done
}

// put is called with m.mu held.
func (m *Moves) put(e *entry) {
	if m.entries == nil {
		m.entries = map[string]*entry{}
	}
	m.entries[key(e.id.Move, e.side)] = e
}

func (m *Moves) find(move string, side Side) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entries[key(move, side)]
}

func (m *Moves) damage(move string, side Side) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.damaged {
		if d.Move == move && d.Side == side {
			return d.Err
		}
	}
	return nil
}

// forget takes a settled move out of the table. It may be called with e.mu held.
func (m *Moves) forget(e *entry) {
	m.mu.Lock()
	delete(m.entries, key(e.id.Move, e.side))
	m.mu.Unlock()
	m.changed()
}

func (m *Moves) changed() {
	if m.Changed != nil {
		go m.Changed()
	}
}

// write puts a decision into the journal. Called with e.mu held.
func (m *Moves) write(e *entry, s RecordState) error {
	rec := e.rec
	rec.State, rec.Time = s, time.Now()
	if err := m.Journal.Write(&rec); err != nil {
		return err
	}
	e.rec = rec
	return nil
}

// moved ends the source's copy: the other one runs. Doing it again is no error.
func (m *Moves) moved(e *entry) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == done {
		return nil
	}
	if e.phase != undecided {
		return fmt.Errorf("ending the copy of %s: it has not been given away", e.id.Name)
	}
	if err := m.write(e, Gone); err != nil {
		// The copy can end all the same: after a crash the record still says
		// 'committed', and the peer is asked once more.
		log.Printf("move %s: %v", e.id.Move, err)
		e.rec.State = Gone
	}
	last, err := e.source.Release()
	if len(last) > 0 {
		e.last = last
	}
	if err != nil {
		e.reason = err.Error()
		return fmt.Errorf("ending the copy of %s that stayed here: %w", e.id.Name, err)
	}
	return m.settle(e)
}

// reverted lets the source's copy run on: the other host has none.
func (m *Moves) reverted(e *entry, why string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == done {
		return nil
	}
	if e.phase != undecided || e.rec.State == Gone {
		return fmt.Errorf("letting %s run on here: it runs at %s", e.id.Name, e.id.PeerName)
	}
	if err := m.write(e, Reverted); err != nil {
		log.Printf("move %s: %v", e.id.Move, err)
	}
	log.Printf("move %s: %s runs on here: %s", e.id.Move, e.id.Name, why)
	if err := e.source.Thaw(); err != nil {
		e.reason = err.Error()
		if errors.Is(err, ErrNoCopy) {
			// The machine was restarted in between; there is nothing left to
			// decide about.
			return errors.Join(err, m.settle(e))
		}
		return fmt.Errorf("letting %s run on here: %w", e.id.Name, err)
	}
	return m.settle(e)
}

// ErrNoCopy is Host.Thaw's error when no process of the copy is left.
var ErrNoCopy = errors.New("no process of the app is left here")

// settle forgets a decided move. Called with e.mu held.
func (m *Moves) settle(e *entry) error {
	err := m.Journal.Remove(e.id.Move, e.side)
	e.phase = done
	close(e.taken)
	m.forget(e)
	return err
}

// resume lets the destination's copy run, once; it returns what to tell the
// source.
func (m *Moves) resume(e *entry) *message {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch e.phase {
	case running:
		return &message{Kind: kindRunning, Move: e.id.Move, Since: m.since(e)}
	case done:
		if !e.when.IsZero() || e.rec.State == Running {
			// Settled over another link in the meantime.
			return &message{Kind: kindRunning, Move: e.id.Move, Since: m.since(e)}
		}
		return &message{Kind: kindDead, Move: e.id.Move, Reason: "the copy has been dropped"}
	case working:
		return &message{Kind: kindUnsure, Move: e.id.Move, Reason: "the copy is not whole yet"}
	}
	if err := e.dest.Resume(); err != nil {
		why := fmt.Sprintf("resuming %s: %v", e.id.Name, err)
		if err := errors.Join(e.dest.Abandon(), m.settle(e)); err != nil {
			log.Printf("move %s: %v", e.id.Move, err)
		}
		return &message{Kind: kindDead, Move: e.id.Move, Reason: why}
	}
	e.phase, e.when = running, time.Now()
	// Were the daemon to die before this is written, the next one finds
	// 'ready' and a living pid 1, and knows as much (Destination.Resume).
	if err := m.write(e, Running); err != nil {
		log.Printf("move %s: %v", e.id.Move, err)
	}
	return &message{Kind: kindRunning, Move: e.id.Move, Since: m.since(e)}
}

func (m *Moves) since(e *entry) int64 {
	if e.when.IsZero() {
		return -1
	}
	return int64(time.Since(e.when))
}

// drop ends a destination's copy that has not run.
func (m *Moves) drop(e *entry) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != waiting {
		return fmt.Errorf("dropping the copy of %s: it is not waiting", e.id.Name)
	}
	return errors.Join(e.dest.Abandon(), m.settle(e))
}

// released is what the destination is told after moved.
func (m *Moves) released(e *entry, r *Result) *message {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &message{Kind: kindReleased, Move: e.id.Move, Result: r, Last: e.last}
}

// heard forgets a move whose source knows that the copy runs here. The app gets
// what the source's was still given, which is told once.
func (m *Moves) heard(e *entry, last []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != running {
		return nil
	}
	if err := e.dest.TakeLast(last); err != nil {
		log.Printf("move %s: %v", e.id.Move, err)
	}
	return m.settle(e)
}

// Pending lists the moves that are under way or not settled.
func (m *Moves) Pending() []Pending {
	m.mu.Lock()
	entries := make([]*entry, 0, len(m.entries))
	for _, e := range m.entries {
		entries = append(entries, e)
	}
	damaged := m.damaged
	m.mu.Unlock()
	var list []Pending
	for _, e := range entries {
		p := Pending{Move: e.id.Move, App: e.id.App, Name: e.id.Name, Side: e.side, State: "working",
			Peer: e.id.Peer, PeerName: e.id.PeerName}
		if e.mu.TryLock() { // else it is being decided right now
			p.Since, p.Reason = e.rec.Time, e.reason
			p.State = [...]string{"working", "undecided", "waiting", "running", "done"}[e.phase]
			e.mu.Unlock()
		}
		list = append(list, p)
	}
	for _, d := range damaged {
		list = append(list, Pending{Move: d.Move, Side: d.Side, State: "damaged", Reason: d.Err.Error()})
	}
	sort.Slice(list, func(i, k int) bool { return list[i].Move < list[k].Move })
	return list
}

// Claim runs the copy that this host holds of an undecided move, because the
// other host is gone for good. If it is not, two copies will run: that is why
// only a person may say so.
func (m *Moves) Claim(move string) error {
	if e := m.find(move, SideDestination); e != nil {
		if r := m.resume(e); r.Kind != kindRunning {
			return fmt.Errorf("claiming %s: %s", e.id.Name, r.Reason)
		}
		m.changed()
		return nil
	}
	if e := m.find(move, SideSource); e != nil {
		return m.reverted(e, "claimed by a person")
	}
	return fmt.Errorf("claiming move %s: %w", move, ErrUnknown)
}

// Drop ends the copy that waits here, because a person says so.
func (m *Moves) Drop(move string) error {
	e := m.find(move, SideDestination)
	if e == nil {
		return fmt.Errorf("dropping move %s: %w", move, ErrUnknown)
	}
	return m.drop(e)
}

func (m *Moves) gate(ctx context.Context, s State) error {
	if m.Gate == nil {
		return nil
	}
	return m.Gate(ctx, s)
}
