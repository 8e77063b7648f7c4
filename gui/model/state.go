package model

import (
	"cmp"
	"slices"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
)

// Link is how the window stands with the daemon.
type Link int

const (
	Looking    Link = iota // not known yet
	NotRunning             // nobody answers
	Starting               // it is being started
	Up
)

// State is all that is shown. It is not changed once it has been handed out.
type State struct {
	Link      Link
	LinkError error // why it could not be reached or started

	Host      control.Status
	Apps      []control.App // that are here, come or go; the oldest first
	Outside   []control.OutsideApp
	Machines  []Machine // the paired first, each by name
	Moves     []*Move
	Pairings  []control.Pairing
	Questions []control.Question
	Settings  *control.Settings
	Doctor    *control.Doctor
	Notices   []Notice

	Loaded map[string]bool // parts that were heard of at least once
}

// Machine is another host, with the apps that run there.
type Machine struct {
	control.Peer
	Apps []control.App
	// AppsError says why they are not known, if they are not.
	AppsError string
}

// Up says whether it answers.
func (m Machine) Up() bool { return m.State == "up" }

// Move is one that is under way, or has just ended.
type Move struct {
	ID   int // of this Move in this program
	Task string
	App  string // id, or name if the id is not known
	Name string
	Peer string // the other machine
	Here bool   // it comes here
	// Elsewhere: it was begun by another program or host.
	Elsewhere  bool
	Progress   *handover.Progress
	Cancelling bool
	Result     *handover.Result
	Error      error
	Began      time.Time
	Ended      time.Time
}

// Of says whether it is this app's.
func (m *Move) Of(a control.App) bool { return m.App == a.ID || m.Name == a.Name && m.App == m.Name }

// Under way.
func (m *Move) Running() bool { return m.Ended.IsZero() }

// Moved says that it ended well.
func (m *Move) Moved() bool { return m.Result != nil && m.Result.Outcome == handover.Moved }

// Notice is something that a person should know; it goes when it is dismissed, or by itself.
type Notice struct {
	ID      int
	Text    string
	Hint    string // the cure
	Problem bool   // stays until it is dismissed
	When    time.Time
}

// MoveOf is the app's last move, nil if it has none.
func (s *State) MoveOf(a control.App) *Move {
	for i := len(s.Moves) - 1; i >= 0; i-- {
		if s.Moves[i].Of(a) {
			return s.Moves[i]
		}
	}
	return nil
}

// Machine finds a machine by its ID or name.
func (s *State) Machine(peer string) *Machine {
	for i := range s.Machines {
		if s.Machines[i].ID == peer {
			return &s.Machines[i]
		}
	}
	for i := range s.Machines {
		if s.Machines[i].Name == peer && s.Machines[i].Paired {
			return &s.Machines[i]
		}
	}
	return nil
}

// App finds an app of this host.
func (s *State) App(id string) *control.App {
	for i := range s.Apps {
		if s.Apps[i].ID == id {
			return &s.Apps[i]
		}
	}
	return nil
}

// Pairing finds an attempt to pair.
func (s *State) Pairing(id string) *control.Pairing {
	for i := range s.Pairings {
		if s.Pairings[i].ID == id {
			return &s.Pairings[i]
		}
	}
	return nil
}

// Undecided are the apps whose move nobody can decide but the two hosts together, or a person.
func (s *State) Undecided() []control.App {
	var list []control.App
	for _, a := range s.Apps {
		if a.State == "undecided" || a.State == "waiting" {
			list = append(list, a)
		}
	}
	return list
}

// sortApps orders apps so that none changes its place while it lives.
func sortApps(apps []control.App) {
	slices.SortStableFunc(apps, func(a, b control.App) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
}

func sortMachines(ms []Machine) {
	slices.SortStableFunc(ms, func(a, b Machine) int {
		if a.Paired != b.Paired {
			if a.Paired {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
}
