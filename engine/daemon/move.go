package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"time"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/files"
	"hither/engine/handover"
	"hither/engine/move"
	"hither/engine/paths"
	"hither/transport"
)

// engine makes the two sides of a move: package move does the work, this adds
// what the daemon wants to know of it.
type engine struct {
	d   *Daemon
	env move.Env
}

// cacheBudget bounds the files kept for apps that come back.
const cacheBudget = 2 << 30

func newEngine(d *Daemon, data string) (*engine, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("finding your home folder: %w", err)
	}
	cache, err := files.OpenCache(filepath.Join(data, "cache"), cacheBudget)
	if err != nil {
		return nil, err
	}
	return &engine{d, move.Env{
		Self:   files.Host{ID: string(d.identity.ID()), Name: d.name},
		Home:   home,
		Hasher: files.NewHasher(filepath.Join(data, "hashes")),
		Cache:  cache,
		LayerDir: func(id string) string {
			dir, err := layerDir(id)
			if err != nil {
				log.Printf("%v", err)
				return filepath.Join(data, "nowhere", id)
			}
			return dir
		},
		Started: d.departed.started,
		Arrived: func(c *capsule.Capsule) {
			d.departed.remove(c.ID)
			d.show(c)
			d.events.tell(control.Event{Event: "apps", App: c.Spec().Name})
		},
	}}, nil
}

// source is the leaving side: when its copy here has ended, where it went is
// written down.
type source struct {
	handover.Source
	d   *Daemon
	dep departure
	id  string
	cap *capsule.Capsule

	barred bool // by this move: another one may have done so, too
}

func (e *engine) source(c *capsule.Capsule, peer transport.ID, peerName string) handover.Source {
	if origin := c.Spec().Origin.HostID; origin == "" || origin == string(e.d.identity.ID()) {
		e.d.departed.leaving(c.ID)
	}
	return &source{Source: move.NewSource(e.env, c, peerName), d: e.d,
		dep: departure{Name: c.Spec().Name, Peer: string(peer), Host: peerName}, id: c.ID, cap: c}
}

// known is why a step failed: of an app that ends meanwhile, any file of /proc may be missing.
func (s *source) known(err error) error {
	if err == nil {
		return nil
	}
	if left, gone := s.cap.Processes(); errors.Is(gone, fs.ErrNotExist) || gone == nil && len(left) <= 1 { // pid 1 at most
		log.Printf("%s has ended while it moved: %v", s.dep.Name, err)
		return capsule.ErrEnded
	}
	return err
}

// Survey see handover.Source.
func (s *source) Survey(ctx context.Context) (*handover.Offer, error) {
	offer, err := s.Source.Survey(ctx)
	return offer, s.known(err)
}

// PreCopy see handover.Source.
func (s *source) PreCopy(ctx context.Context, w io.Writer, round int, report handover.Report) (handover.RoundTotals, error) {
	r, err := s.Source.PreCopy(ctx, w, round, report)
	return r, s.known(err)
}

// Freeze waits until nobody looks at the app from outside, see look.go.
func (s *source) Freeze(ctx context.Context) (*handover.Frozen, error) {
	s.d.lookAt(s.id).bar(true)
	s.barred = true
	f, err := s.Source.Freeze(ctx)
	if err != nil {
		s.unbar()
	}
	return f, s.known(err)
}

// unbar is for every end of a move, also of one that never came to its freeze: of the app that it
// asked for, another one may be under way.
func (s *source) unbar() {
	if s.barred {
		s.barred = false
		s.d.lookAt(s.id).bar(false)
	}
}

func (s *source) Thaw() error {
	defer s.unbar()
	return s.Source.Thaw()
}

func (s *source) Release() ([]byte, error) {
	defer s.unbar()
	last, err := s.Source.Release()
	if err != nil {
		return last, err
	}
	s.d.departed.add(s.id, s.dep)
	s.d.events.tell(control.Event{Event: "apps", App: s.dep.Name, Peer: s.dep.Host, State: "gone"})
	return last, nil
}

// acceptor is what this host does when a peer begins something.
type acceptor struct{ d *Daemon }

var _ handover.Acceptor = acceptor{}

func (a acceptor) PeerName(id string) string {
	if p, err := a.d.trust.Get(transport.ID(id)); err == nil {
		return p.Name
	}
	return transport.ID(id).Short()
}

func (a acceptor) Destination(peer string, offer *handover.Offer) (handover.Destination, error) {
	if !paths.ValidID(offer.App) {
		return nil, errors.New("the offer's app has an id that is none")
	}
	a.d.gone(offer.App)
	return move.NewDestination(a.d.engine.env), nil
}

// gone waits for the keeper of a copy that was here a moment ago to leave: it
// still has the capsule's folder.
func (d *Daemon) gone(id string) {
	all, err := paths.Capsules()
	if err != nil {
		return
	}
	for range 150 {
		if _, err := os.Lstat(filepath.Join(all, id)); err != nil {
			return
		}
		if c, err := capsule.Open(id); err == nil {
			st, err := c.State()
			c.Close()
			if err == nil && st.Init.Alive() && st.Moved == "" {
				return // a copy that lives is refused later; one that has been killed may take its time
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-d.ctx.Done():
			return
		}
	}
}

// here finds an app that a peer wants to have from here.
func (a acceptor) here(app string) (*found, error) {
	f, err := a.d.find(app)
	if err != nil {
		return nil, err
	}
	if f.capsule == nil {
		return nil, fmt.Errorf("%s is not on %s", app, a.d.self())
	}
	return f, nil
}

func (a acceptor) Source(peer, app string) (handover.Source, error) {
	found, err := a.here(app)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(a.d.ctx, 10*time.Second)
	defer stop()
	if err := Adopt(ctx, found.capsule); err != nil {
		return nil, err
	}
	return a.d.engine.source(found.capsule, transport.ID(peer), a.PeerName(peer)), nil
}

func (a acceptor) Watch(peer string, offer *handover.Offer, app string) (func(handover.Progress), func(*handover.Result)) {
	side := handover.SideSource
	if offer != nil {
		app, side = offer.Name, handover.SideDestination
	}
	name := a.PeerName(peer)
	return a.d.rated(transport.ID(peer), func(p handover.Progress) {
			a.d.events.tell(control.Event{Event: "progress", App: app, Peer: name, Progress: &p})
		}), func(r *handover.Result) {
			a.d.ended(side, r, offer != nil && offer.Check || offer == nil && refused(r))
			a.d.events.tell(control.Event{Event: "result", App: app, Peer: name, Result: r})
		}
}

// send moves an app of this host to a peer; with check it only asks.
func (d *Daemon) send(ctx context.Context, c *capsule.Capsule, peer transport.Peer, check bool, progress func(handover.Progress)) *handover.Result {
	var l *link
	err := Adopt(ctx, c)
	if err == nil {
		l, err = d.dial(ctx, peer)
	}
	var r *handover.Result
	if err != nil {
		r = &handover.Result{App: c.Spec().Name, From: d.name, To: peer.Name, Outcome: handover.Stayed, Reason: cause(ctx, err)}
	} else {
		r = d.moves.Send(ctx, l, d.engine.source(c, peer.ID, peer.Name), handover.SendOptions{App: c.Spec().Name, PeerName: peer.Name, Check: check, Progress: d.rated(peer.ID, progress)})
	}
	d.ended(handover.SideSource, r, check)
	return r
}

// bring moves an app of a peer to this host.
func (d *Daemon) bring(ctx context.Context, peer transport.Peer, app string, check bool, progress func(handover.Progress)) *handover.Result {
	l, err := d.dial(ctx, peer)
	var r *handover.Result
	if err != nil {
		r = &handover.Result{App: app, From: peer.Name, To: d.name, Outcome: handover.Stayed, Reason: cause(ctx, err)}
	} else {
		r = d.moves.Bring(ctx, l, app, acceptor{d}, handover.SendOptions{PeerName: peer.Name, Check: check, Progress: d.rated(peer.ID, progress)})
	}
	d.ended(handover.SideDestination, r, check)
	return r
}

// ended remembers a move, unless it was only asked for. This host's name in it is
// the one of now, should it have got another since the daemon started.
func (d *Daemon) ended(side handover.Side, r *handover.Result, asked bool) {
	host := &r.From
	if side == handover.SideDestination {
		host = &r.To
	}
	if *host == d.name {
		*host = d.self()
	}
	if asked {
		return
	}
	d.history.add(string(side), r)
	switch r.Outcome {
	case handover.Moved:
		log.Printf("%s moved from %s to %s: it stood still for %.0f ms", r.App, r.From, r.To, r.DowntimeMS)
	case handover.Stayed:
		log.Printf("%s stayed on %s, it was to move to %s: %s", r.App, r.From, r.To, r.Reason)
	default:
		log.Printf("%s is undecided between %s and %s: %s", r.App, r.From, r.To, r.Reason)
	}
}

// refused tells what a peer's question, or a move that it was told why not, comes to
// here: nothing has happened.
func refused(r *handover.Result) bool {
	return r.Outcome == handover.Stayed && (r.Reason == "" || len(r.Problems) > 0)
}

// cause is why something under ctx failed.
func cause(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err.Error()
}
