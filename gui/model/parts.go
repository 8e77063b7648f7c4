package model

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"hither/engine/control"
)

// Parts of the State.
const (
	PartStatus    = "status"
	PartApps      = "apps"
	PartOutside   = "outside"
	PartPeers     = "peers"
	PartPeerApps  = "peer apps"
	PartPairings  = "pairings"
	PartQuestions = "questions"
	PartSettings  = "settings"
	PartDoctor    = "doctor"
)

// pulsing are those that change without an event.
var pulsing = map[string]bool{PartApps: true, PartOutside: true, PartPeers: true, PartPeerApps: true}

var loaders = map[string]func(context.Context, *Model, Daemon) error{
	PartStatus: func(ctx context.Context, m *Model, d Daemon) error {
		st, err := d.Status(ctx)
		if err == nil {
			// With its status the daemon is there: from now on the window is alive.
			m.change(func(s *State) { s.Link, s.LinkError, s.Host = Up, nil, *st })
		}
		return err
	},
	PartApps: loadApps,
	PartOutside: func(ctx context.Context, m *Model, d Daemon) error {
		out, err := d.Outside(ctx)
		if err == nil {
			set(m, func(s *State) *[]control.OutsideApp { return &s.Outside }, out.Apps)
		}
		return err
	},
	PartPeers: func(ctx context.Context, m *Model, d Daemon) error {
		peers, err := d.AllPeers(ctx)
		if err != nil {
			return err
		}
		fresh := false
		m.changeIf(func(s *State) bool {
			ms := make([]Machine, len(peers.Peers))
			for i, p := range peers.Peers {
				ms[i].Peer = p
				known := slices.IndexFunc(s.Machines, func(o Machine) bool { return o.ID == p.ID })
				if known >= 0 {
					ms[i].Apps, ms[i].AppsError = s.Machines[known].Apps, s.Machines[known].AppsError
				}
				fresh = fresh || known < 0 || !s.Machines[known].Up() && ms[i].Up()
			}
			sortMachines(ms)
			if reflect.DeepEqual(s.Machines, ms) {
				return false
			}
			s.Machines = ms
			return true
		})
		if fresh {
			m.Again(PartPeerApps)
		}
		return nil
	},
	PartPeerApps: loadPeerApps,
	PartPairings: func(ctx context.Context, m *Model, d Daemon) error {
		list, err := d.Pairings(ctx)
		if err == nil {
			m.change(func(s *State) { s.Pairings = list.Pairings })
		}
		return err
	},
	PartQuestions: func(ctx context.Context, m *Model, d Daemon) error {
		list, err := d.Questions(ctx)
		if err == nil {
			m.change(func(s *State) { s.Questions = list.Questions })
		}
		return err
	},
	PartSettings: func(ctx context.Context, m *Model, d Daemon) error {
		now, err := d.Settings(ctx)
		if err == nil {
			m.change(func(s *State) { s.Settings = now })
		}
		return err
	},
	PartDoctor: func(ctx context.Context, m *Model, d Daemon) error {
		doc, err := d.Doctor(ctx)
		if err == nil {
			m.change(func(s *State) { s.Doctor = doc })
		}
		return err
	},
}

// set changes a part, if it is another one.
func set[T any](m *Model, part func(*State) *T, now T) {
	m.changeIf(func(s *State) bool {
		old := part(s)
		if reflect.DeepEqual(*old, now) {
			return false
		}
		*old = now
		return true
	})
}

func loadApps(ctx context.Context, m *Model, d Daemon) error {
	got, err := d.LookAtApps(ctx)
	if err != nil {
		return err
	}
	m.changeIf(func(s *State) bool {
		apps := make([]control.App, 0, len(got.Apps))
		for _, a := range got.Apps {
			if a.State != "gone" {
				apps = append(apps, a)
			}
		}
		// One that has just left stays for a moment, to tell how it went.
		for _, a := range s.Apps {
			if slices.ContainsFunc(apps, func(o control.App) bool { return o.ID == a.ID }) {
				continue
			}
			if mv := s.MoveOf(a); mv != nil && !mv.Here && (mv.Running() || mv.Moved()) {
				a.State, a.Host = "gone", mv.Peer
				apps = append(apps, a)
			}
		}
		sortApps(apps)
		if reflect.DeepEqual(s.Apps, apps) {
			return false
		}
		s.Apps = apps
		return true
	})
	return nil
}

// loadPeerApps asks every machine at the same time, so that a slow one holds up none.
func loadPeerApps(ctx context.Context, m *Model, d Daemon) error {
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	var all sync.WaitGroup
	for _, p := range m.State().Machines {
		if !p.Paired {
			continue
		}
		if !p.Up() {
			m.setPeerApps(p.ID, nil, "")
			continue
		}
		all.Go(func() {
			got, err := d.PeerApps(ctx, p.ID)
			var e *control.Error
			switch {
			case err == nil:
				apps := slices.DeleteFunc(got.Apps, func(a control.App) bool { return a.State == "gone" })
				sortApps(apps)
				m.setPeerApps(p.ID, apps, "")
			case errors.As(err, &e):
				m.setPeerApps(p.ID, nil, strings.TrimSpace(e.Text))
			}
		})
	}
	all.Wait()
	return nil
}

func (m *Model) setPeerApps(id string, apps []control.App, problem string) {
	m.changeIf(func(s *State) bool {
		i := slices.IndexFunc(s.Machines, func(o Machine) bool { return o.ID == id })
		if i < 0 || s.Machines[i].AppsError == problem && reflect.DeepEqual(s.Machines[i].Apps, apps) {
			return false
		}
		s.Machines = slices.Clone(s.Machines)
		s.Machines[i].Apps, s.Machines[i].AppsError = apps, problem
		return true
	})
}
