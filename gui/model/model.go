package model

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"hither/engine/control"
)

// Model follows a daemon.
type Model struct {
	dial Dial
	// Changed is called after each change of the State, from any goroutine; it must not wait.
	changed func()

	start chan struct{}
	pulse Pulse

	mu      sync.Mutex
	state   State
	daemon  Daemon
	ctx     context.Context // of the link to the daemon
	visible bool
	parts   map[string]*part // of this link
	lastID  int

	watchers []func() // replaced, never changed
}

// Pulse is how often things are asked for that change without an event.
type Pulse struct {
	Seen   time.Duration // while somebody looks
	Unseen time.Duration
	Redial time.Duration
	Keep   time.Duration // how long the end of a move is told
}

// DefaultPulse is the program's.
var DefaultPulse = Pulse{Seen: 3 * time.Second, Unseen: 30 * time.Second, Redial: time.Second, Keep: 12 * time.Second}

// New makes a model; Run sets it going.
func New(dial Dial, pulse Pulse, changed func()) *Model {
	return &Model{dial: dial, changed: changed, pulse: pulse, start: make(chan struct{}, 1), ctx: context.Background(),
		parts: map[string]*part{}}
}

// Watch has f called after each change, too; f must not wait.
func (m *Model) Watch(f func()) {
	m.mu.Lock()
	m.watchers = append(slices.Clone(m.watchers), f)
	m.mu.Unlock()
}

// State is what is known now.
func (m *Model) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Daemon is the daemon, nil if it does not answer, and a context that ends with the link to it.
func (m *Model) Daemon() (context.Context, Daemon) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ctx, m.daemon
}

// change makes a new State. f must replace what it changes in slices and maps, not write into them.
func (m *Model) change(f func(s *State)) {
	m.changeIf(func(s *State) bool { f(s); return true })
}

// changeIf is change; f says whether it has changed anything.
func (m *Model) changeIf(f func(s *State) bool) {
	m.mu.Lock()
	changed := f(&m.state)
	watchers := m.watchers
	m.mu.Unlock()
	if !changed {
		return
	}
	m.changed()
	for _, w := range watchers {
		w()
	}
}

// SetVisible says whether somebody looks.
func (m *Model) SetVisible(visible bool) {
	m.mu.Lock()
	was := m.visible
	m.visible = visible
	parts := slices.Collect(maps.Values(m.parts))
	m.mu.Unlock()
	if visible && !was {
		for _, p := range parts {
			p.again()
		}
	}
}

// StartDaemon starts the daemon, if it does not run.
func (m *Model) StartDaemon() {
	select {
	case m.start <- struct{}{}:
	default:
	}
}

// Run follows the daemon until ctx ends: each time it is lost, it is looked for again. With
// start it is started at the beginning, if it does not run.
func (m *Model) Run(ctx context.Context, start bool) {
	for ctx.Err() == nil {
		if start {
			m.change(func(s *State) { s.Link, s.LinkError = Starting, nil })
		}
		d, err := m.dial(ctx, start)
		if d != nil {
			m.follow(ctx, d)
			if ctx.Err() != nil {
				return
			}
		}
		failed := start
		m.change(func(s *State) {
			s.Link = NotRunning
			if err != nil || failed || d != nil {
				s.LinkError = err
			}
		})
		start = false
		select {
		case <-m.start:
			start = true
		case <-time.After(m.pulse.Redial):
		case <-ctx.Done():
		}
	}
}

// follow follows the events of one daemon until it is lost.
func (m *Model) follow(ctx context.Context, d Daemon) {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	// First of all, so that nothing happens between what is asked for and what is told.
	hear, err := d.Listen(ctx)
	if err != nil {
		return
	}
	m.mu.Lock()
	m.daemon, m.ctx = d, ctx
	m.parts = map[string]*part{}
	for name, load := range loaders {
		p := &part{name: name, load: load, due: make(chan struct{}, 1)}
		p.again()
		m.parts[name] = p
		running.Go(func() { m.keep(ctx, d, p) })
	}
	m.mu.Unlock()
	// An error only says that the daemon went. Whoever looks learns that from the Link.
	_ = hear(func(ev control.Event) error {
		m.hear(ev)
		return nil
	})
	m.mu.Lock()
	m.daemon = nil
	m.parts = map[string]*part{}
	m.mu.Unlock()
	m.change(func(s *State) {
		// What was going on is not known any more; what is wanted of a person cannot be answered.
		s.Link, s.LinkError = NotRunning, nil
		s.Moves = slices.DeleteFunc(slices.Clone(s.Moves), (*Move).Running)
		s.Pairings, s.Questions = nil, nil
		s.Loaded = nil
	})
}

// part is a part of the State that is asked for as a whole.
type part struct {
	name string
	load func(context.Context, *Model, Daemon) error
	due  chan struct{}
}

func (p *part) again() {
	select {
	case p.due <- struct{}{}:
	default:
	}
}

// keep asks for a part each time it is due.
func (m *Model) keep(ctx context.Context, d Daemon, p *part) {
	for {
		wait := m.pulse.Unseen
		m.mu.Lock()
		if m.visible {
			wait = m.pulse.Seen
		}
		m.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-p.due:
		case <-t.C:
			if !pulsing[p.name] {
				continue
			}
		case <-ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
		asking, stop := context.WithTimeout(ctx, 20*time.Second)
		err := p.load(asking, m, d)
		stop()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			m.loaded(p.name)
		}
		// An error of one part is no error of the window: it shows what it knows, and asks again.
		select {
		case <-time.After(least): // a storm of events is one change
		case <-ctx.Done():
			return
		}
	}
}

// least is between two requests for the same part.
const least = 50 * time.Millisecond

func (m *Model) loaded(name string) {
	m.mu.Lock()
	known := m.state.Loaded[name]
	m.mu.Unlock()
	if known {
		return
	}
	m.change(func(s *State) {
		s.Loaded = maps.Clone(s.Loaded)
		if s.Loaded == nil {
			s.Loaded = map[string]bool{}
		}
		s.Loaded[name] = true
	})
}

// Again asks for parts anew.
func (m *Model) Again(names ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if p := m.parts[name]; p != nil {
			p.again()
		}
	}
}

// hear takes in one event.
func (m *Model) hear(ev control.Event) {
	switch ev.Event {
	case "apps":
		m.Again(PartApps)
		m.Again(PartPeerApps)
	case "undecided":
		m.Again(PartApps)
	case "peers":
		m.Again(PartPeers, PartPeerApps)
	case "settings":
		m.Again(PartSettings, PartStatus, PartPeers)
	case "pairing":
		if ev.Pairing == nil {
			m.Again(PartPairings)
			break
		}
		m.change(func(s *State) {
			s.Pairings = put(s.Pairings, *ev.Pairing, func(p control.Pairing) string { return p.ID })
		})
		if ev.Pairing.State == control.PairingDone {
			m.Again(PartPeers)
		}
	case "question":
		if ev.Question == nil {
			m.Again(PartQuestions)
			break
		}
		m.change(func(s *State) {
			s.Questions = put(s.Questions, *ev.Question, func(q control.Question) string { return q.ID })
		})
	case "progress", "result":
		m.hearMove(ev)
	}
}

// put replaces what has the same key, or adds it.
func put[T any](list []T, v T, key func(T) string) []T {
	list = slices.Clone(list)
	if i := slices.IndexFunc(list, func(o T) bool { return key(o) == key(v) }); i >= 0 {
		list[i] = v
		return list
	}
	return append(list, v)
}

// Tell shows a notice.
func (m *Model) Tell(n Notice) {
	m.change(func(s *State) {
		m.lastID++
		n.ID, n.When = m.lastID, time.Now()
		// The same thing once more is no news.
		s.Notices = slices.DeleteFunc(slices.Clone(s.Notices), func(o Notice) bool { return o.Text == n.Text })
		s.Notices = append(s.Notices, n)
		if len(s.Notices) > maxNotices {
			s.Notices = s.Notices[len(s.Notices)-maxNotices:]
		}
	})
	if !n.Problem {
		time.AfterFunc(m.pulse.Keep, func() { m.dismiss(func(o Notice) bool { return o.Text == n.Text && !o.Problem }) })
	}
}

const maxNotices = 3

// Dismiss takes a notice away.
func (m *Model) Dismiss(id int) { m.dismiss(func(n Notice) bool { return n.ID == id }) }

func (m *Model) dismiss(match func(Notice) bool) {
	m.change(func(s *State) { s.Notices = slices.DeleteFunc(slices.Clone(s.Notices), match) })
}

// Fail tells of an error in words, with the cure.
func (m *Model) Fail(doing string, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	n := Notice{Problem: true}
	n.Text, n.Hint = Words(err)
	if doing != "" {
		n.Text = doing + ": " + n.Text
	}
	m.Tell(n)
}

// Words are an error's words and its cure.
func Words(err error) (text, hint string) {
	var e *control.Error
	if errors.As(err, &e) {
		return e.Text, e.Hint
	}
	return err.Error(), ""
}

// errNoDaemon is the error of everything that is asked while the daemon does not answer.
var errNoDaemon = &control.Error{Text: "hither's background service does not run", Hint: "Start it with the button in the window."}

// Do asks something of the daemon in the background. An error becomes a notice that says what was
// being done. then, if any, is called at the end, from that goroutine.
func (m *Model) Do(doing string, ask func(context.Context, Daemon) error, then func(error)) {
	ctx, d := m.Daemon()
	go func() {
		err := error(errNoDaemon)
		if d != nil {
			err = ask(ctx, d)
		}
		if doing != "" {
			m.Fail(doing, err)
		}
		if then != nil {
			then(err)
		}
	}()
}
