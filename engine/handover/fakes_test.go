package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// world is two machines with an app on the first. Every call that a host's
// daemon makes goes through step, before and after its effect, so that a fault
// can be put at each of them.
type world struct {
	t     *testing.T
	mu    sync.Mutex
	n     int               // steps so far
	fault func(n int) fault // what happens at step n
	log   []string
	hosts [2]*machine
	links []*wire
	stop  context.CancelFunc // cancels the move, as Ctrl-C does
	two   bool               // two copies have run at once
	asks  bool               // the destination asks first when the two meet again
}

type fault int

const (
	noFault fault = iota
	crashSource
	crashDestination
	cutLink
	cancelMove
	failHere  // the call fails: disk full, kernel says no
	lastFault = failHere
)

var faultNames = [...]string{"none", "source crash", "destination crash", "link cut", "cancel", "call fails"}

type copyState string

const (
	none    copyState = "none"
	runs    copyState = "runs"
	frozen  copyState = "frozen"  // stopped by ptrace
	held    copyState = "held"    // and SIGSTOP pending
	stopped copyState = "stopped" // by SIGSTOP, no tracer
	built   copyState = "built"   // stopped by ptrace, EXITKILL
)

// machine is what survives the daemon's death.
type machine struct {
	w    *world
	name string
	app  copyState
	last []string // of what the app was given after its move
	disk map[string]Record
	lied bool // a write has failed
	d    *daemon
}

// daemon is one life of a host's daemon.
type daemon struct {
	consent func(ctx context.Context, check bool, waiting func(string)) ([]string, error) // nil: all is allowed
	thought atomic.Int64                                                                  // ns from the offer to Consider
	h       *machine
	dead    bool
	moves   *Moves
}

func newWorld(t *testing.T) *world {
	w := &world{t: t}
	for i, name := range []string{"a", "b"} {
		w.hosts[i] = &machine{w: w, name: name, app: none, disk: map[string]Record{}}
		w.hosts[i].start()
	}
	w.hosts[0].app = runs
	return w
}

func (h *machine) start() *daemon {
	d := &daemon{h: h}
	d.moves = &Moves{Name: h.name, Journal: fakeJournal{d}, Host: fakeHost{d}, Times: Timeouts{
		Answer: 5 * time.Second, Prepared: 5 * time.Second, Ready: 5 * time.Second, Running: 5 * time.Second,
		Settled: time.Second, Idle: 5 * time.Second, Grace: time.Millisecond, Cause: 5 * time.Millisecond}}
	h.d = d
	return d
}

// set changes the app's state on a host and checks what must hold always.
func (h *machine) set(s copyState) {
	h.app = s
	if h.w.hosts[0].app == runs && h.w.hosts[1].app == runs {
		h.w.log = append(h.w.log, "TWO COPIES RUN")
		h.w.two = true
	}
}

// crash is the death of a daemon: what the kernel does then.
func (h *machine) crash() {
	if h.d.dead {
		return
	}
	h.d.dead = true
	h.w.log = append(h.w.log, "crash "+h.name)
	switch h.app {
	case frozen:
		h.set(runs)
	case held:
		h.set(stopped)
	case built:
		h.set(none)
	}
	for _, l := range h.w.links {
		l.cut()
	}
}

var errFault = errors.New("injected failure")

// do is one call of a daemon: fault, effect, fault.
func (d *daemon) do(name string, mayFail bool, effect func()) error {
	if err := d.step(name, mayFail); err != nil {
		return err
	}
	d.h.w.mu.Lock()
	if effect != nil && !d.dead {
		effect()
	}
	d.h.w.mu.Unlock()
	return d.step(name+" done", mayFail)
}

func (d *daemon) step(name string, mayFail bool) error {
	w := d.h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.dead {
		runtime.Goexit()
	}
	w.n++
	w.log = append(w.log, fmt.Sprintf("%d %s %s [%s %s]", w.n, d.h.name, name, w.hosts[0].app, w.hosts[1].app))
	f := noFault
	if w.fault != nil {
		f = w.fault(w.n)
	}
	switch f {
	case crashSource:
		w.hosts[0].crash()
	case crashDestination:
		w.hosts[1].crash()
	case cutLink:
		w.log = append(w.log, "cut")
		for _, l := range w.links {
			l.cut()
		}
	case cancelMove:
		w.log = append(w.log, "cancel")
		w.stop()
	case failHere:
		if mayFail {
			w.log = append(w.log, "fails")
			return errFault
		}
	}
	if d.dead {
		runtime.Goexit()
	}
	return nil
}

type fakeJournal struct{ d *daemon }

func (j fakeJournal) Write(rec *Record) error {
	// A disk that takes a record and says that it has not does so once.
	may := !j.d.h.lied
	err := j.d.do("write "+string(rec.State), may, func() { j.d.h.disk[key(rec.Move, rec.Side)] = *rec })
	j.d.h.lied = j.d.h.lied || err != nil
	return err
}

func (j fakeJournal) Remove(move string, side Side) error {
	return j.d.do("remove", false, func() { delete(j.d.h.disk, key(move, side)) })
}

func (j fakeJournal) All() (all []*Record, _ []Damage, err error) {
	err = j.d.do("read", false, func() {
		for _, r := range j.d.h.disk {
			all = append(all, &r)
		}
	})
	return all, nil, err
}

type fakeHost struct{ d *daemon }

func (f fakeHost) Fate(*Record) (fate Fate, err error) {
	err = f.d.do("fate", false, func() {
		if f.d.h.app != none {
			fate = FateAlive
		}
	})
	return fate, err
}

func (f fakeHost) Thaw(*Record) error {
	var gone error
	err := f.d.do("host thaw", false, func() {
		if f.d.h.app == none {
			gone = ErrNoCopy
		} else {
			f.d.h.set(runs)
		}
	})
	return errors.Join(err, gone)
}

func (f fakeHost) Release(*Record) ([]byte, error) {
	return []byte("last"), f.d.do("host release", false, func() { f.d.h.set(none) })
}

func (f fakeHost) TakeLast(_ *Record, last []byte) error { return f.d.takeLast(last) }

func (d *daemon) takeLast(last []byte) error {
	return d.do("take last", true, func() { d.h.last = append(d.h.last, string(last)) })
}

type fakeSource struct {
	d *daemon
}

func (s *fakeSource) Survey(context.Context) (*Offer, error) {
	return &Offer{App: "app1", Name: "counter"}, s.d.do("survey", true, nil)
}
func (s *fakeSource) SendFiles(_ context.Context, _ *Answer, w io.Writer, report Report) (FileTotals, error) {
	_, err := w.Write(make([]byte, 1000))
	report(1000, 1000)
	return FileTotals{1, 1000}, errors.Join(err, s.d.do("send files", true, nil))
}
func (s *fakeSource) PreCopy(_ context.Context, w io.Writer, round int, _ Report) (RoundTotals, error) {
	_, err := w.Write(make([]byte, 1000))
	return RoundTotals{1000, round < 2}, errors.Join(err, s.d.do("precopy", true, nil))
}
func (s *fakeSource) Freeze(context.Context) (*Frozen, error) {
	return &Frozen{Image: []byte("image")}, s.d.do("freeze", true, func() { s.d.h.set(frozen) })
}
func (s *fakeSource) SendMemory(_ context.Context, w io.Writer, _ Report) (MemoryTotals, error) {
	_, err := w.Write(make([]byte, 5000))
	return MemoryTotals{5000}, errors.Join(err, s.d.do("memory", true, nil))
}
func (s *fakeSource) Hold() error {
	return s.d.do("hold", true, func() { s.d.h.set(held) })
}
func (s *fakeSource) Thaw() error {
	return s.d.do("thaw", false, func() { s.d.h.set(runs) })
}
func (s *fakeSource) Release() ([]byte, error) {
	return []byte("last"), s.d.do("release", false, func() { s.d.h.set(none) })
}

type fakeDestination struct{ d *daemon }

func (f *fakeDestination) Consider(_ context.Context, offer *Offer) (*Answer, error) {
	if !offer.Came.IsZero() {
		f.d.thought.Store(int64(time.Since(offer.Came)))
	}
	return &Answer{WantFiles: 1}, f.d.do("consider", true, nil)
}
func (f *fakeDestination) Prepare(_ context.Context, r io.Reader, _ Report) error {
	_, err := io.Copy(io.Discard, r)
	return errors.Join(err, f.d.do("prepare", true, nil))
}
func (f *fakeDestination) PreCopy(_ context.Context, r io.Reader, _ Report) error {
	_, err := io.Copy(io.Discard, r)
	return errors.Join(err, f.d.do("take precopy", true, nil))
}
func (f *fakeDestination) Restore(_ context.Context, img []byte, r io.Reader, _ Report) error {
	n, err := io.Copy(io.Discard, r)
	if err == nil && (string(img) != "image" || n != 5000) {
		err = fmt.Errorf("image %q and %d bytes of memory", img, n)
	}
	if err != nil {
		return err
	}
	return f.d.do("restore", true, func() { f.d.h.set(built) })
}
func (f *fakeDestination) Resume() error {
	// A Resume that fails has let nothing run.
	if err := f.d.step("resume", true); err != nil {
		return err
	}
	return f.d.do("resume", false, func() { f.d.h.set(runs) })
}
func (f *fakeDestination) Settle(context.Context) ([]string, error) {
	return []string{"settled"}, f.d.do("settle", true, nil)
}
func (f *fakeDestination) TakeLast(last []byte) error { return f.d.takeLast(last) }
func (f *fakeDestination) Abandon() error {
	return f.d.do("abandon", false, func() { f.d.h.set(none) })
}

type fakeAcceptor struct{ d *daemon }

func (f fakeAcceptor) Destination(string, *Offer) (Destination, error) {
	return &fakeDestination{f.d}, nil
}
func (f fakeAcceptor) Source(_, app string) (Source, error) { return &fakeSource{d: f.d}, nil }
func (f fakeAcceptor) Consent(ctx context.Context, _ string, _ *Offer, _ string, check bool, waiting func(string)) ([]string, error) {
	if f.d.consent != nil {
		return f.d.consent(ctx, check, waiting)
	}
	return nil, nil
}
func (f fakeAcceptor) PeerName(id string) string { return id }
func (f fakeAcceptor) Watch(string, *Offer, string) (func(Progress), func(*Result)) {
	return nil, func(*Result) {}
}

// wire is one link in memory.
type wire struct {
	gone    chan struct{}
	once    sync.Once
	frames  [2]chan []byte
	streams map[StreamKind]chan *pipe
	closed  [2]sync.Once
}

func (w *wire) cut() { w.once.Do(func() { close(w.gone) }) }

var errWire = errors.New("wire cut")

// dial links two daemons and lets the far one accept.
func (w *world) dial(from, to *daemon) (Link, <-chan struct{}) {
	l := &wire{gone: make(chan struct{}), streams: map[StreamKind]chan *pipe{}}
	for _, k := range []StreamKind{StreamFiles, StreamPreCopy, StreamImage, StreamMemory} {
		l.streams[k] = make(chan *pipe, 1)
	}
	l.frames[0], l.frames[1] = make(chan []byte, 64), make(chan []byte, 64)
	w.mu.Lock()
	w.links = append(w.links, l)
	dead := to.dead
	w.mu.Unlock()
	served := make(chan struct{})
	if dead {
		l.cut()
		close(served)
	} else {
		go func() {
			defer close(served)
			to.moves.Accept(context.Background(), &end{l, to, 1, from.h.name}, fakeAcceptor{to})
		}()
	}
	return &end{l, from, 0, to.h.name}, served
}

type end struct {
	l    *wire
	d    *daemon
	side int
	peer string
}

func (e *end) Peer() string { return e.peer }

func (e *end) Send(_ context.Context, frame []byte) error {
	m, err := decode(frame)
	if err != nil {
		return err
	}
	if err := e.d.step("send "+m.Kind.String(), false); err != nil {
		return err
	}
	select {
	case <-e.l.gone:
		return errWire
	default:
		e.l.frames[e.side] <- frame
		return e.d.step("sent "+m.Kind.String(), false)
	}
}

func (e *end) Receive(ctx context.Context) ([]byte, error) {
	in := e.l.frames[1-e.side]
	select {
	case f, ok := <-in:
		return received(f, ok)
	default:
	}
	select {
	case f, ok := <-in:
		return received(f, ok)
	case <-e.l.gone:
		// A cut loses what is under way; an orderly end does not, and this
		// fake has only the one kind: what has been sent may arrive or not.
		return nil, errWire
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipe struct {
	*io.PipeReader
	w *io.PipeWriter
}

func (e *end) OpenStream(_ context.Context, k StreamKind) (StreamWriter, error) {
	r, w := io.Pipe()
	p := &pipe{r, w}
	go func() {
		<-e.l.gone
		w.CloseWithError(errWire)
		r.CloseWithError(errWire)
	}()
	select {
	case e.l.streams[k] <- p:
		return pipeEnd{w}, nil
	case <-e.l.gone:
		return nil, errWire
	}
}

type pipeEnd struct{ *io.PipeWriter }

func (p pipeEnd) Abort() { p.CloseWithError(errors.New("aborted")) }

func (e *end) AcceptStream(ctx context.Context, k StreamKind) (io.ReadCloser, error) {
	select {
	case p := <-e.l.streams[k]:
		return p, nil
	case <-e.l.gone:
		return nil, errWire
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func received(f []byte, ok bool) ([]byte, error) {
	if !ok {
		return nil, io.EOF
	}
	return f, nil
}

func (e *end) CloseSend() error {
	e.l.closed[e.side].Do(func() { close(e.l.frames[e.side]) })
	return nil
}

func (e *end) Close() error {
	e.l.cut()
	return nil
}
