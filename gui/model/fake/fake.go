// Package fake is a daemon for tests of the window: it answers from its fields, and a test tells its
// events and how its moves go.
package fake

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"slices"
	"sync"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/gui/model"
)

// Daemon is a model.Daemon. Its fields are changed by With while it runs.
type Daemon struct {
	mu sync.Mutex

	Host      control.Status
	Apps      []control.App
	OutsideOf []control.OutsideApp
	Menu      []control.InstalledApp
	Peers     []control.Peer
	Remote    map[string][]control.App // by the peer's ID
	Pairs     []control.Pairing
	Asked     []control.Question
	Set       control.Settings
	Doc       control.Doctor
	Past      []control.PastMove
	Took      map[string]control.Files

	// Checks are answers to Check, by app/peer; else it is yes. Gate, if set, holds each of them until it is closed.
	Checks map[string]control.Check
	Gate   chan struct{}

	// Fails are errors of requests, by what Calls calls them.
	Fails map[string]error

	// Calls are the requests that change something, in words.
	calls  []string
	called chan struct{}

	moves  map[string]*Move // by app ID
	begun  chan *Move
	tasks  int
	stream map[chan control.Event]bool
	heard  *sync.Cond // a stream was opened
	down   chan struct{}
	thumbs int
}

// Move is a move that was asked for, which the test leads.
type Move struct {
	App, Peer string
	Here      bool
	Task      string
	tell      chan handover.Progress
	end       chan *handover.Result
	Cancelled chan struct{}
	once      sync.Once
}

// Tell tells progress; End ends it.
func (m *Move) Tell(p handover.Progress)  { m.tell <- p }
func (m *Move) End(r handover.Result)     { m.end <- &r }
func (m *Move) cancel()                   { m.once.Do(func() { close(m.Cancelled) }) }
func (d *Daemon) Begun() <-chan *Move     { return d.begun }
func (d *Daemon) Called() <-chan struct{} { return d.called }
func New() *Daemon                        { d := &Daemon{}; d.init(); return d }
func (d *Daemon) Dial() model.Dial {
	return func(context.Context, bool) (model.Daemon, error) { return d, nil }
}
func (d *Daemon) init() {
	d.begun = make(chan *Move, 16)
	d.called = make(chan struct{}, 1)
	d.moves = map[string]*Move{}
	d.stream = map[chan control.Event]bool{}
	d.down = make(chan struct{})
	d.heard = sync.NewCond(&d.mu)
	d.Host = control.Status{Name: "desk", ID: "deskid", Version: "test"}
	d.Doc = control.Doctor{OK: true, Host: "desk"}
	d.Set = control.Settings{Name: "desk", Discoverable: true, Permissions: map[string]string{}}
}

// With changes fields, and tells an event if it is not "".
func (d *Daemon) With(event string, f func(*Daemon)) {
	d.mu.Lock()
	f(d)
	d.mu.Unlock()
	if event != "" {
		d.Event(control.Event{Event: event})
	}
}

// Event tells an event.
func (d *Daemon) Event(ev control.Event) {
	ev.Time = time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := ev.Pairing; p != nil {
		d.Pairs = append(slices.DeleteFunc(slices.Clone(d.Pairs), func(o control.Pairing) bool { return o.ID == p.ID }), *p)
	}
	for c := range d.stream {
		c <- ev
	}
}

// Lose ends the stream of events, as the daemon's end does, once somebody listens to it.
func (d *Daemon) Lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.stream) == 0 {
		d.heard.Wait()
	}
	close(d.down)
	d.down = make(chan struct{})
}

// Calls are the requests so far that change something.
func (d *Daemon) Calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// Thumbnails is how many were asked for.
func (d *Daemon) Thumbnails() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.thumbs
}

func (d *Daemon) call(format string, args ...any) error {
	said := fmt.Sprintf(format, args...)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, said)
	select {
	case d.called <- struct{}{}:
	default:
	}
	return d.Fails[said]
}

func get[T any](d *Daemon, f func() T) (*T, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := f()
	return &v, nil
}

func (d *Daemon) Status(context.Context) (*control.Status, error) {
	return get(d, func() control.Status { return d.Host })
}
func (d *Daemon) Doctor(context.Context) (*control.Doctor, error) {
	return get(d, func() control.Doctor { return d.Doc })
}
func (d *Daemon) Settings(context.Context) (*control.Settings, error) {
	return get(d, func() control.Settings { return d.Set })
}
func (d *Daemon) ChangeSettings(_ context.Context, s control.Settings) (*control.Settings, error) {
	if err := d.call("settings %s %v", s.Name, s.Discoverable); err != nil {
		return nil, err
	}
	return get(d, func() control.Settings { d.Set = s; return s })
}
func (d *Daemon) LookAtApps(context.Context) (*control.Apps, error) {
	return get(d, func() control.Apps { return control.Apps{Apps: slices.Clone(d.Apps)} })
}
func (d *Daemon) Installed(context.Context) (*control.InstalledApps, error) {
	return get(d, func() control.InstalledApps { return control.InstalledApps{Apps: slices.Clone(d.Menu)} })
}
func (d *Daemon) Outside(context.Context) (*control.OutsideApps, error) {
	return get(d, func() control.OutsideApps { return control.OutsideApps{Apps: slices.Clone(d.OutsideOf)} })
}
func (d *Daemon) History(context.Context) (*control.History, error) {
	return get(d, func() control.History { return control.History{Moves: slices.Clone(d.Past)} })
}
func (d *Daemon) AllPeers(context.Context) (*control.Peers, error) {
	return get(d, func() control.Peers { return control.Peers{Peers: slices.Clone(d.Peers)} })
}
func (d *Daemon) PeerApps(_ context.Context, peer string) (*control.Apps, error) {
	return get(d, func() control.Apps { return control.Apps{Apps: slices.Clone(d.Remote[peer])} })
}
func (d *Daemon) Pairings(context.Context) (*control.Pairings, error) {
	return get(d, func() control.Pairings { return control.Pairings{Pairings: slices.Clone(d.Pairs)} })
}
func (d *Daemon) Questions(context.Context) (*control.Questions, error) {
	return get(d, func() control.Questions { return control.Questions{Questions: slices.Clone(d.Asked)} })
}
func (d *Daemon) Files(_ context.Context, app string) (*control.Files, error) {
	return get(d, func() control.Files { return d.Took[app] })
}
func (d *Daemon) ActOnFiles(ctx context.Context, app string, r control.FilesRequest) (*control.Files, error) {
	if err := d.call("files %s %s", app, r.Action); err != nil {
		return nil, err
	}
	return d.Files(ctx, app)
}
func (d *Daemon) RestartOutside(_ context.Context, pid int) (*control.App, error) {
	return &control.App{}, d.call("restart %d", pid)
}
func (d *Daemon) Start(_ context.Context, r control.StartRequest) (*control.App, error) {
	what := r.Installed
	if what == "" {
		what = fmt.Sprint(r.Command)
	}
	if r.Unsandboxed {
		what += " unsandboxed"
	}
	return &control.App{ID: "new", Name: what, State: "running"}, d.call("start %s", what)
}
func (d *Daemon) Stop(_ context.Context, app string, _ control.StopRequest) error {
	return d.call("stop %s", app)
}
func (d *Daemon) Raise(_ context.Context, app string) error { return d.call("raise %s", app) }
func (d *Daemon) CancelTask(_ context.Context, task string) error {
	err := d.call("cancel %s", task)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.moves {
		if m.Task == task {
			m.cancel()
		}
	}
	return err
}
func (d *Daemon) Claim(_ context.Context, move string) error { return d.call("claim %s", move) }
func (d *Daemon) Drop(_ context.Context, move string) error  { return d.call("drop %s", move) }
func (d *Daemon) ChangePeer(_ context.Context, peer string, ch control.PeerChange) (*control.Peer, error) {
	return &control.Peer{}, d.call("change %s %s%v", peer, ch.Name, ch.Permissions)
}
func (d *Daemon) Unpair(_ context.Context, peer string) error { return d.call("unpair %s", peer) }
func (d *Daemon) BeginPairing(_ context.Context, r control.PairingRequest) (*control.Pairing, error) {
	if err := d.call("pair %s%s%s", r.Peer, r.Address, r.Ticket); err != nil {
		return nil, err
	}
	return &control.Pairing{ID: "pairing", State: control.PairingConnecting, Name: r.Peer}, nil
}
func (d *Daemon) AnswerPairing(_ context.Context, id string, match bool) (*control.Pairing, error) {
	err := d.call("answer %s %v", id, match)
	state := control.PairingWaiting
	if !match {
		state = control.PairingFailed
	}
	return &control.Pairing{ID: id, State: state, Name: "laptop", Reason: "the digits differ"}, err
}
func (d *Daemon) CancelPairing(_ context.Context, id string) error {
	return d.call("cancel pairing %s", id)
}
func (d *Daemon) MakeTicket(context.Context, control.TicketRequest) (*control.Ticket, error) {
	return &control.Ticket{Ticket: "hither-ticket:" + string(bytes.Repeat([]byte("abcdefgh"), 20)), Expires: time.Now().Add(10 * time.Minute)}, d.call("ticket")
}
func (d *Daemon) AnswerQuestion(_ context.Context, id, answer string) error {
	return d.call("answer question %s %s", id, answer)
}

func (d *Daemon) Check(ctx context.Context, app, peer string) (*control.Check, error) {
	d.mu.Lock()
	gate := d.Gate
	d.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return get(d, func() control.Check {
		if c, ok := d.Checks[app+"/"+peer]; ok {
			return c
		}
		return control.Check{App: app, Peer: peer, OK: true}
	})
}

func (d *Daemon) Send(ctx context.Context, app, peer string, progress func(handover.Progress)) (*handover.Result, error) {
	if err := d.call("send %s %s", app, peer); err != nil {
		return nil, err
	}
	return d.run(ctx, &Move{App: app, Peer: peer}, progress)
}

func (d *Daemon) Bring(ctx context.Context, r control.MoveRequest, progress func(handover.Progress)) (*handover.Result, error) {
	if r.Check {
		d.mu.Lock()
		defer d.mu.Unlock()
		return &handover.Result{Outcome: handover.Stayed, Problems: d.Checks[r.App+"/"].Problems}, nil
	}
	if err := d.call("bring %s %s", r.App, r.Peer); err != nil {
		return nil, err
	}
	return d.run(ctx, &Move{App: r.App, Peer: r.Peer, Here: true}, progress)
}

func (d *Daemon) run(ctx context.Context, m *Move, progress func(handover.Progress)) (*handover.Result, error) {
	m.tell, m.end, m.Cancelled = make(chan handover.Progress), make(chan *handover.Result, 1), make(chan struct{})
	d.mu.Lock()
	d.tasks++
	m.Task = fmt.Sprintf("task%d", d.tasks)
	d.moves[m.App] = m
	name := m.App
	for _, a := range d.Apps {
		if a.ID == m.App {
			name = a.Name
		}
	}
	peer := m.Peer
	for _, p := range d.Peers {
		if p.ID == peer {
			peer = p.Name
		}
	}
	d.mu.Unlock()
	d.begun <- m
	for {
		select {
		case p := <-m.tell:
			d.Event(control.Event{Event: "progress", App: name, Peer: peer, Task: m.Task, Progress: &p})
			progress(p)
		case r := <-m.end:
			d.Event(control.Event{Event: "result", App: name, Peer: peer, Task: m.Task, Result: r})
			d.Event(control.Event{Event: "apps"})
			return r, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (d *Daemon) Listen(ctx context.Context) (func(func(control.Event) error) error, error) {
	c := make(chan control.Event, 256)
	d.mu.Lock()
	d.stream[c] = true
	d.heard.Broadcast()
	down := d.down
	d.mu.Unlock()
	return func(f func(control.Event) error) error {
		defer func() {
			d.mu.Lock()
			delete(d.stream, c)
			d.mu.Unlock()
		}()
		for {
			select {
			case ev := <-c:
				if err := f(ev); err != nil {
					return err
				}
			case <-down:
				return fmt.Errorf("the daemon is gone")
			case <-ctx.Done():
				return nil
			}
		}
	}, nil
}

// PNG draws a picture of one colour with a frame.
func PNG(w, h int, c color.Color) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err) // into memory, of a picture that is one
	}
	return b.Bytes()
}

func (d *Daemon) Icon(_ context.Context, app string, size int) ([]byte, error) {
	return nil, &control.Error{Text: "no icon"}
}
func (d *Daemon) PeerIcon(context.Context, string, string, int) ([]byte, error) {
	return nil, &control.Error{Text: "no icon"}
}
func (d *Daemon) InstalledIcon(context.Context, string, int) ([]byte, error) {
	return nil, &control.Error{Text: "no icon"}
}
func (d *Daemon) Thumbnail(_ context.Context, app string, w, h int) ([]byte, error) {
	d.mu.Lock()
	d.thumbs++
	d.mu.Unlock()
	return PNG(w, h, color.NRGBA{R: 240, G: 240, B: 235, A: 255}), nil
}
