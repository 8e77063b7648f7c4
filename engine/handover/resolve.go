package handover

import (
	"context"
	"errors"
	"fmt"
	"log"
)

// recovered stands for the copy of which only a record is left.
type recovered struct {
	host Host
	rec  *Record
}

func (r recovered) Thaw() error                { return r.host.Thaw(r.rec) }
func (r recovered) Release() ([]byte, error)   { return r.host.Release(r.rec) }
func (r recovered) TakeLast(last []byte) error { return r.host.TakeLast(r.rec, last) }

// Resume and Abandon are never reached with a copy to work on: a copy that
// had not run has died with the daemon that made it.
func (r recovered) Resume() error  { return errors.New("its copy has died with the daemon") }
func (r recovered) Abandon() error { return nil }

// Recover reads the journal when the daemon starts, before it listens, and
// settles what can be settled without the other host.
func (m *Moves) Recover() error {
	records, damaged, err := m.Journal.All()
	if err != nil {
		return err
	}
	for _, d := range damaged {
		log.Printf("%v", d.Err)
	}
	m.mu.Lock()
	m.damaged = damaged
	m.mu.Unlock()
	var errs []error
	for _, rec := range records {
		if err := m.recover(rec); err != nil {
			errs = append(errs, fmt.Errorf("move %s of %s: %w", rec.Move, rec.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (m *Moves) recover(rec *Record) error {
	r := recovered{m.Host, rec}
	e := &entry{side: rec.Side, id: *rec, rec: *rec, source: r, dest: r, taken: make(chan struct{})}
	switch rec.State {
	case Holding:
		// Nothing was decided, so the app is ours; it stands still only if the
		// daemon died in between Hold and 'committed'.
		if err := m.Host.Thaw(rec); err != nil && !errors.Is(err, ErrNoCopy) {
			return err
		}
		return m.Journal.Remove(rec.Move, rec.Side)
	case Committed, Gone, Reverted:
		e.phase, e.reason = undecided, "the daemon was restarted in between"
		m.mu.Lock()
		m.put(e)
		m.mu.Unlock()
		switch rec.State {
		case Gone:
			return m.moved(e)
		case Reverted:
			return m.reverted(e, "as decided before the restart")
		}
	case Ready:
		fate, err := m.Host.Fate(rec)
		if err != nil {
			// Not known is not permission: it stays as it is, and says so.
			m.mu.Lock()
			m.damaged = append(m.damaged, Damage{rec.Move, rec.Side, fmt.Errorf("what became of the copy of %s is not known: %w", rec.Name, err)})
			m.mu.Unlock()
			return err
		}
		if fate == FateNone {
			return m.Journal.Remove(rec.Move, rec.Side)
		}
		// It runs, whether that can be written down or not: the table first.
		e.phase = running
		m.mu.Lock()
		m.put(e)
		m.mu.Unlock()
		return m.write(e, Running)
	case Running:
		e.phase = running
		m.mu.Lock()
		m.put(e)
		m.mu.Unlock()
	}
	return nil
}

// Unsettled are the moves about which the peer should be asked.
func (m *Moves) Unsettled(peer string) []string {
	var moves []string
	for _, p := range m.Pending() {
		if p.Peer == peer && (p.State == "undecided" || p.State == "waiting" || p.State == "running") {
			moves = append(moves, p.Move)
		}
	}
	return moves
}

// Resolve settles one undecided move with the peer, over a new link. It
// returns nil when the move is settled.
func (m *Moves) Resolve(ctx context.Context, link Link, move string) error {
	ctx, cancel := context.WithTimeout(ctx, m.Times.filled().Running)
	defer cancel()
	p := newParty(ctx, link, m.Times)
	defer p.end()
	var errs []error
	found := false
	if e := m.find(move, SideSource); e != nil {
		found = true
		errs = append(errs, m.resolveSource(p, e))
	}
	if e := m.find(move, SideDestination); e != nil {
		found = true
		errs = append(errs, m.resolveDestination(p, e))
	}
	if !found {
		return nil // settled in the meantime
	}
	return errors.Join(errs...)
}

// resolveSource says commit once more.
func (m *Moves) resolveSource(p *party, e *entry) error {
	if !m.is(e, undecided) {
		return nil
	}
	if err := p.send(&message{Kind: kindCommit, Move: e.id.Move}); err != nil {
		return err
	}
	return m.verdictOfDestination(p, e)
}

// verdictOfDestination waits for what the destination says about a commit, and
// acts on it.
func (m *Moves) verdictOfDestination(p *party, e *entry) error {
	r, err := p.wait(p.ctx, kindRunning, kindDead, kindUnsure)
	if err != nil {
		return err
	}
	switch r.Kind {
	case kindRunning:
		if err := m.moved(e); err != nil {
			return err
		}
		return p.send(m.released(e, nil))
	case kindDead:
		return m.reverted(e, r.Reason)
	}
	return errors.New(r.Reason)
}

// resolveDestination asks what was decided.
func (m *Moves) resolveDestination(p *party, e *entry) error {
	if !m.is(e, waiting) && !m.is(e, running) {
		return nil
	}
	if err := p.send(&message{Kind: kindAsk, Move: e.id.Move}); err != nil {
		return err
	}
	r, err := p.wait(p.ctx, kindVerdict)
	if err != nil {
		return err
	}
	switch r.Verdict {
	case verdictCommitted:
		return m.answerCommit(p, e)
	case verdictStayed:
		if m.is(e, running) {
			return m.heard(e, nil)
		}
		return m.drop(e)
	}
	return errors.New("the source has not decided yet")
}

// answerCommit resumes the copy, says so, and forgets the move once the source
// has heard it.
func (m *Moves) answerCommit(p *party, e *entry) error {
	r := m.resume(e)
	if err := p.send(r); err != nil {
		return err
	}
	if r.Kind != kindRunning {
		return nil
	}
	said, err := p.wait(p.ctx, kindReleased)
	if err != nil {
		return err
	}
	return m.heard(e, said.Last)
}

const (
	verdictCommitted = "committed"
	verdictStayed    = "stayed"
	verdictWait      = "wait"
)

// serve answers the other side's Resolve. The first frame has been read.
func (m *Moves) serve(p *party, first *message) error {
	switch first.Kind {
	case kindCommit:
		if err := m.damage(first.Move, SideDestination); err != nil {
			return p.send(&message{Kind: kindUnsure, Move: first.Move, Reason: err.Error()})
		}
		e := m.find(first.Move, SideDestination)
		if e == nil {
			// Never had it, or dropped it, or it has died with a daemon: and
			// from here on it can never come to be.
			return p.send(&message{Kind: kindDead, Move: first.Move, Reason: "the destination has no copy"})
		}
		if e.id.Peer != p.peer {
			return p.send(&message{Kind: kindUnsure, Move: first.Move, Reason: "this move is with another host"})
		}
		return m.answerCommit(p, e)
	case kindAsk:
		v := &message{Kind: kindVerdict, Move: first.Move, Verdict: verdictWait}
		e := m.find(first.Move, SideSource)
		switch {
		case e != nil && e.id.Peer != p.peer, m.damage(first.Move, SideSource) != nil:
		case e == nil || m.is(e, done):
			v.Verdict = verdictStayed
		case m.is(e, undecided):
			v.Verdict = verdictCommitted
		}
		if err := p.send(v); err != nil || v.Verdict != verdictCommitted {
			return err
		}
		return m.verdictOfDestination(p, e)
	}
	return fmt.Errorf("a link that begins with %s", first.Kind)
}

// is reads the phase.
func (m *Moves) is(e *entry, ph phase) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.phase == ph
}
