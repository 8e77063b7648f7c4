// Package daemon is the one process of a user and a host that moves apps:
// `hither daemon`.
//
// In a nutshell: Run takes the lock, reads the journal of moves and settles
// what it can, opens the QUIC endpoint on which peers reach this host, looks
// after the capsules that run here (guard.go), and serves the control socket
// (http.go), last, so that who finds the socket finds a daemon that is ready.
// A peer's connection carries one conversation each (peers.go): a move, a
// question about an undecided one, a request for the list of apps, or files that
// come home without their app (return.go). The moves
// themselves are package handover's, what they do to processes and files
// package move's; move.go joins the two.
//
// The daemon holds nothing that an app needs to run: when it ends, or is
// killed, apps and attached terminals go on, and the next one finds them again.
//
// Who is not paired can only ask to be (pairing.go); what a paired host may do, a person
// is asked the first time (permissions.go, questions.go).
//
// What a window shows of apps (look.go, pictures.go, icons.go) and of the desktop (outside.go) is
// read when somebody asks, from outside of the apps.
//
// Locks: Daemon.mu guards the tables of tasks, guards, returns and looks and the desktop, events.mu the list
// of listeners, pairings.mu and questions.mu what people are asked, limiter.mu how often.
// None is held while anything outside of this package is called, or another one is taken,
// except that a limiter's is taken under questions.mu. Three are held while work is done: look.mu while
// an app is looked at (menu.mu may be taken under it), menu.mu while the menu is read, and
// Daemon.starting while an app is started.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"hither/discovery"
	"hither/engine/control"
	"hither/engine/handover"
	"hither/engine/paths"
	"hither/transport"
)

// Options of a daemon.
type Options struct {
	Version, Commit string
	// Listen is the UDP address for peers; "" is every address and the usual
	// port, or any free one if that is taken.
	Listen string
	// Hold names states of the hand-over to stand still in, for tests.
	Hold string
	// Silence is how long a peer may be silent before it is lost.
	Silence time.Duration
}

// Daemon is one life of the daemon.
type Daemon struct {
	opts  Options
	since time.Time
	boot  string
	name  string

	identity *transport.Identity
	trust    *transport.Trust
	endpoint *transport.Endpoint // nil if no socket could be had: why says the reason
	book     *discovery.Book
	why      error

	moves    *handover.Moves
	holds    *handover.Holds
	engine   *engine
	departed *departed
	settings *settings
	history  *history
	events   events
	resolve  chan struct{} // something is undecided, or a peer has come

	menu      menu
	drawing   drawing
	peerIcons peerIcons
	starting  sync.Mutex // one app at a time is given a name

	pairings  *pairings
	questions *questions

	work   sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	tasks   map[string]context.CancelCauseFunc
	guards  map[string]bool
	looks   map[string]*look // by capsule id
	returns map[string]bool  // apps whose files come home just now
	desktop []string         // where hither was last used; nil: on none
	began   []string         // the desktop before that; see desktop.go
	looked  time.Time        // when the session manager was last asked for it
	showing bool             // apps without a desktop are looked for just now
}

// ErrRuns says that another daemon of this user runs.
var ErrRuns = errors.New("a daemon runs already")

// Run is the daemon's life. It returns when ctx ends, and has then left
// properly; ErrRuns says that there is one already.
func Run(ctx context.Context, opts Options) error {
	unlock, err := takeOver(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// Most of a transfer's garbage is short-lived; at rest the heap is small.
	debug.SetGCPercent(400)
	d := &Daemon{opts: opts, since: time.Now(), tasks: map[string]context.CancelCauseFunc{},
		guards: map[string]bool{}, returns: map[string]bool{}, resolve: make(chan struct{}, 1), drawing: make(drawing, 2),
		pairings: newPairings(), questions: newQuestions(), began: control.DesktopOf(os.Environ())}
	d.ctx, d.cancel = context.WithCancel(ctx)
	defer d.cancel()
	if err := d.open(); err != nil {
		return err
	}
	socket, err := paths.ControlSocket()
	if err != nil {
		return err
	}
	l, err := control.Listen(socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: d.meeting(d.routes()), BaseContext: func(net.Listener) context.Context { return d.ctx }, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	log.Printf("hither %s is at work: this host is %s (%s), pid %d", opts.Version, d.name, d.identity.ID().Short(), os.Getpid())
	select {
	case <-d.ctx.Done():
		err = nil
	case err = <-served:
		err = fmt.Errorf("serving the control socket: %w", err)
	}
	// Moves that are not decided are cancelled by their contexts; the others
	// are in the journal.
	if rerr := os.Remove(socket); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	d.cancel()
	stop, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	server.Shutdown(stop) //nolint:errcheck // who still listens is cut off next
	server.Close()
	d.close()
	return err
}

// open makes everything but the control socket.
func (d *Daemon) open() error {
	data, err := paths.Data()
	if err != nil {
		return err
	}
	if d.identity, err = transport.LoadIdentity(data); err != nil {
		return err
	}
	if d.trust, err = transport.OpenTrust(data); err != nil {
		return err
	}
	if d.settings, err = openSettings(); err != nil {
		return err
	}
	if d.history, err = openHistory(); err != nil {
		return err
	}
	d.name = d.self()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("reading this host's boot id: %w", err)
	}
	d.boot = strings.TrimSpace(string(boot))
	if d.departed, err = openDeparted(); err != nil {
		return err
	}
	if d.engine, err = newEngine(d, data); err != nil {
		return err
	}
	journal, err := paths.Journal()
	if err != nil {
		return err
	}
	d.holds = &handover.Holds{Held: func(s handover.State) {
		d.events.tell(control.Event{Event: "held", State: string(s)})
	}}
	if unknown := d.holds.Set(d.opts.Hold); unknown != nil {
		return fmt.Errorf("HITHER_HOLD: no such state: %s", strings.Join(unknown, ", "))
	}
	d.moves = &handover.Moves{Journal: handover.FileJournal{Dir: journal}, Host: copies{d}, Boot: d.boot, Name: d.name,
		Gate: d.holds.Gate, Changed: d.undecided}
	if err := d.moves.Recover(); err != nil {
		log.Printf("settling the moves of the last daemon: %v", err)
	}
	if err := d.sweep(); err != nil {
		log.Printf("looking after the capsules here: %v", err)
	}
	d.listen(data)
	d.work.Go(d.watchCapsules)
	d.work.Go(d.resolveAll)
	return nil
}

// listen opens the endpoint; without it apps still run here.
func (d *Daemon) listen(data string) {
	addr := d.opts.Listen
	if addr == "" {
		addr = fmt.Sprintf(":%d", transport.DefaultPort)
	}
	opts := transport.Options{Name: d.name, Version: d.opts.Version, IdleTimeout: d.opts.Silence,
		Abilities: (&able{desktop: d.hasDesktop}).get}
	d.endpoint, d.why = transport.Listen(addr, d.identity, d.trust, opts)
	if d.why != nil && d.opts.Listen == "" && errors.Is(d.why, syscall.EADDRINUSE) {
		log.Printf("%v; taking any free port", d.why)
		d.endpoint, d.why = transport.Listen(":0", d.identity, d.trust, opts)
	}
	if d.why != nil {
		log.Printf("no peer can reach this host: %v", d.why)
		return
	}
	book, err := discovery.Open(d.endpoint, d.trust, discovery.Options{Changed: d.peerChanged(), Hidden: !d.settings.get().Discoverable})
	if err != nil {
		log.Printf("looking for peers: %v", err)
		d.why = err
		return
	}
	d.book = book
	d.work.Go(d.acceptPeers)
	d.work.Go(d.acceptPairings)
}

func (d *Daemon) close() {
	if d.book != nil {
		d.book.Close()
	}
	if d.endpoint != nil {
		d.endpoint.Close()
	}
	done := make(chan struct{})
	go func() { d.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		// What is decided is in the journal; nothing else is worth waiting for.
		log.Print("leaving, though not everything here has come to its end")
	}
}

// undecided has the unsettled moves looked at.
func (d *Daemon) undecided() {
	d.events.tell(control.Event{Event: "apps"})
	select {
	case d.resolve <- struct{}{}:
	default:
	}
}

// takeOver is lock, patient with a daemon that is on its way out: it has removed
// its socket, and holds the lock until all has come to its end. One that has just
// begun, and has no socket yet, is told from it by waiting for the socket, too.
func takeOver(ctx context.Context) (unlock func(), err error) {
	socket, err := paths.ControlSocket()
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(leaving); ; {
		unlock, err := lock()
		if !errors.Is(err, ErrRuns) {
			return unlock, err
		}
		if _, there := os.Stat(socket); there == nil || time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// leaving is longer than a daemon takes to leave: see Run and close.
const leaving = 20 * time.Second

// lock makes this the only daemon of the user. The lock ends with the process.
func lock() (unlock func(), err error) {
	name, err := paths.DaemonLock()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("taking the daemon's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrRuns
		}
		return nil, fmt.Errorf("taking the daemon's lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}
