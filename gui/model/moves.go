package model

import (
	"context"
	"errors"
	"slices"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
)

// Send moves an app of this host to a machine.
func (m *Model) Send(app control.App, peer string) {
	m.move(Move{App: app.ID, Name: app.Name, Peer: m.peerName(peer)}, func(ctx context.Context, d Daemon, told func(handover.Progress)) (*handover.Result, error) {
		return d.Send(ctx, app.ID, peer, told)
	})
}

// Bring moves an app of a machine here.
func (m *Model) Bring(app control.App, peer string) {
	m.move(Move{App: app.ID, Name: app.Name, Peer: m.peerName(peer), Here: true}, func(ctx context.Context, d Daemon, told func(handover.Progress)) (*handover.Result, error) {
		return d.Bring(ctx, control.MoveRequest{Peer: peer, App: app.ID}, told)
	})
}

func (m *Model) peerName(peer string) string {
	s := m.State()
	if p := s.Machine(peer); p != nil {
		return p.Name
	}
	return peer
}

// move runs a move that was begun here.
func (m *Model) move(v Move, run func(context.Context, Daemon, func(handover.Progress)) (*handover.Result, error)) {
	began := false
	m.change(func(s *State) {
		for _, o := range s.Moves {
			if o.App == v.App && o.Running() {
				return // it is on its way already
			}
		}
		began = true
		m.lastID++
		v.ID, v.Began = m.lastID, time.Now()
		s.Moves = append(slices.DeleteFunc(slices.Clone(s.Moves), func(o *Move) bool { return o.App == v.App }), &v)
	})
	if !began {
		return
	}
	m.Do("", func(ctx context.Context, d Daemon) error {
		// When the link to the daemon ends, so does this; the daemon sees that nobody asks any more.
		res, err := run(ctx, d, func(p handover.Progress) {
			m.setMove(v.ID, func(mv *Move) { mv.Progress = &p })
		})
		m.ended(v.ID, res, err)
		return err
	}, func(err error) {
		if errors.Is(err, errNoDaemon) {
			m.ended(v.ID, nil, err)
		}
	})
}

// setMove replaces a move by a changed one.
func (m *Model) setMove(id int, f func(*Move)) {
	m.change(func(s *State) {
		s.Moves = slices.Clone(s.Moves)
		for i, o := range s.Moves {
			if o.ID == id {
				mv := *o
				f(&mv)
				s.Moves[i] = &mv
			}
		}
	})
}

// ended tells how a move ended, and forgets it after a while.
func (m *Model) ended(id int, res *handover.Result, err error) {
	m.setMove(id, func(mv *Move) {
		if mv.Running() {
			mv.Result, mv.Error, mv.Ended = res, err, time.Now()
		}
	})
	m.Again(PartApps, PartPeerApps)
	keep := m.pulse.Keep
	if err != nil || res != nil && res.Outcome != handover.Moved {
		keep *= 5 // there is something to read
	}
	time.AfterFunc(keep, func() { m.Forget(id) })
}

// Forget takes the end of a move away.
func (m *Model) Forget(id int) {
	m.change(func(s *State) {
		s.Moves = slices.DeleteFunc(slices.Clone(s.Moves), func(o *Move) bool { return o.ID == id && !o.Running() })
		s.Apps = slices.DeleteFunc(slices.Clone(s.Apps), func(a control.App) bool { return a.State == "gone" && s.MoveOf(a) == nil })
	})
}

// Cancel ends a move, if it is not too late: its result says.
func (m *Model) Cancel(id int) {
	task := ""
	m.setMove(id, func(mv *Move) { mv.Cancelling, task = true, mv.Task })
	if task != "" {
		m.Do("Cancelling", func(ctx context.Context, d Daemon) error { return d.CancelTask(ctx, task) }, nil)
	}
	// else it has not begun: hearMove cancels it as soon as its task is known.
}

// hearMove takes in what the stream of events tells of a move. Those begun here learn their task
// from it, others are known by it alone.
func (m *Model) hearMove(ev control.Event) {
	var cancel string
	var done int
	m.change(func(s *State) {
		i := slices.IndexFunc(s.Moves, func(o *Move) bool { return o.same(ev) })
		if i < 0 && slices.ContainsFunc(s.Moves, func(o *Move) bool { return o.late(ev) }) {
			return
		}
		if i < 0 {
			if ev.Result != nil {
				return // its end alone says nothing to anyone: the lists tell where the app is
			}
			m.lastID++
			mv := &Move{ID: m.lastID, Task: ev.Task, App: ev.App, Name: ev.App, Peer: ev.Peer, Elsewhere: true, Began: ev.Time}
			if p := ev.Progress; p != nil {
				mv.Here = p.State.Side() == handover.SideDestination
				mv.Name = p.App
			}
			// The id, if the name is only one app's.
			for _, a := range s.Apps {
				if a.Name == ev.App || a.ID == ev.App {
					mv.App, mv.Name = a.ID, a.Name
				}
			}
			s.Moves = append(slices.Clone(s.Moves), mv)
			i = len(s.Moves) - 1
		}
		s.Moves = slices.Clone(s.Moves)
		mv := *s.Moves[i]
		if mv.Task == "" && ev.Task != "" {
			mv.Task = ev.Task
			if mv.Cancelling {
				cancel = ev.Task
			}
		}
		if ev.Progress != nil {
			mv.Progress = ev.Progress
		}
		s.Moves[i] = &mv
		if ev.Result != nil && mv.Elsewhere {
			done = mv.ID
		}
	})
	if cancel != "" {
		m.Do("Cancelling", func(ctx context.Context, d Daemon) error { return d.CancelTask(ctx, cancel) }, nil)
	}
	if done != 0 {
		m.ended(done, ev.Result, nil)
	}
}

// same says whether an event is of this move.
func (m *Move) same(ev control.Event) bool {
	if !m.Running() {
		return false
	}
	if m.Task != "" && ev.Task != "" {
		return m.Task == ev.Task
	}
	return m.named(ev)
}

// late says whether an event is of this move, which has ended: its end came by another way, and was faster.
func (m *Move) late(ev control.Event) bool {
	if m.Running() {
		return false
	}
	if m.Task != "" && ev.Task != "" {
		return m.Task == ev.Task
	}
	return m.named(ev) && time.Since(m.Ended) < lateness
}

const lateness = 2 * time.Second

func (m *Move) named(ev control.Event) bool {
	return (ev.App == m.App || ev.App == m.Name) && (ev.Peer == m.Peer || ev.Peer == "")
}

// Pairing is what is known of an attempt to pair, nil if nothing.
func (m *Model) Pairing(id string) *control.Pairing {
	s := m.State()
	return s.Pairing(id)
}

// PutPairing takes in what the daemon answered of an attempt, unless an event has told of a later
// state.
func (m *Model) PutPairing(p control.Pairing) {
	m.change(func(s *State) {
		if known := s.Pairing(p.ID); known != nil && pairingRank[known.State] > pairingRank[p.State] {
			return
		}
		s.Pairings = put(s.Pairings, p, func(p control.Pairing) string { return p.ID })
	})
}

var pairingRank = map[string]int{control.PairingConnecting: 0, control.PairingCompare: 1, control.PairingWaiting: 2, control.PairingDone: 3, control.PairingFailed: 3}
