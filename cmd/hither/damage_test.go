package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/files"
	"hither/engine/handover"
	"hither/engine/move"
	"hither/transport"
)

// A peer that speaks the protocol and moves a real app, but whose streams are
// damaged on the way, against a real daemon: the move ends in an error, the app
// runs on, the daemon lives and has nothing of it.

// How a stream is damaged.
const (
	flip   = "a bit flipped"
	cut    = "truncated"
	double = "a piece sent twice"
	swap   = "two pieces swapped"
	extra  = "oversized"
)

// saboteur damages what is written through it at offset at, once.
type saboteur struct {
	w        io.Writer
	how      string
	at, seen int64
	done     bool
	held     []byte
}

func (s *saboteur) Write(p []byte) (int, error) {
	here := s.at - s.seen
	s.seen += int64(len(p))
	out := p
	switch {
	case s.held != nil:
		out, s.held = append(append([]byte{}, p...), s.held...), nil
	case s.done && s.how == cut:
		return len(p), nil
	case s.done || s.how == extra || here < 0 || here >= int64(len(p)):
	default:
		s.done = true
		out = append([]byte{}, p...)
		switch s.how {
		case flip:
			out[here] ^= 0x10
		case cut:
			out = out[:here]
		case double:
			out = append(out, p...)
		case swap:
			s.held = out
			return len(p), nil
		}
	}
	if _, err := s.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// end is called before the stream is closed.
func (s *saboteur) end() {
	if s.how == extra {
		s.done = true
		s.w.Write(make([]byte, 1<<20)) //nolint:errcheck // they may have hung up, as they should
	}
}

// damage says what is to be done to which stream; the control stream is 'C'
// with the kind of its frame.
type damage struct {
	how    string
	stream handover.StreamKind
	frame  uint8
	at     func(size int64) int64
	point  string
}

func (d damage) String() string {
	if d.stream == 'C' {
		return fmt.Sprintf("control frame %d/%s/%s", d.frame, d.how, d.point)
	}
	return fmt.Sprintf("stream %c/%s/%s", d.stream, d.how, d.point)
}

// badLink is a link as the daemons have it, with damage.
type badLink struct {
	conn    *transport.Conn
	control *transport.Stream
	damage  damage
	sizes   map[handover.StreamKind]int64 // of a move that was not damaged
	wire    *saboteur                     // below the control stream's frames
	frames  *transport.Frames

	mu    sync.Mutex
	wrote map[handover.StreamKind]*saboteur
}

const frameMove transport.FrameType = 16

func dialBad(ctx context.Context, e *transport.Endpoint, to transport.Peer, d damage, sizes map[handover.StreamKind]int64) (*badLink, error) {
	c, err := e.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	s, err := c.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	l := &badLink{conn: c, control: s, damage: d, sizes: sizes, wrote: map[handover.StreamKind]*saboteur{}}
	l.wire = &saboteur{w: s, at: -1}
	l.frames = transport.NewFrames(struct {
		io.Reader
		io.Writer
	}{s, l.wire})
	return l, nil
}

func (l *badLink) Peer() string { return string(l.conn.Peer().ID) }

func (l *badLink) Send(ctx context.Context, frame []byte) error {
	var m struct {
		Kind uint8 `cbor:"1,keyasint"`
	}
	if err := cbor.Unmarshal(frame, &m); err != nil {
		return err
	}
	hit := l.damage.stream == 'C' && m.Kind == l.damage.frame
	if hit {
		l.wire.how, l.wire.at = l.damage.how, l.wire.seen+l.damage.at(int64(len(frame)))
	}
	err := l.frames.Send(frameMove, frame)
	if hit && l.damage.how == cut {
		l.control.Close()
	}
	return err
}

func (l *badLink) Receive(ctx context.Context) ([]byte, error) {
	defer context.AfterFunc(ctx, l.control.Cancel)()
	var frame []byte
	err := l.frames.ReceiveInto(frameMove, &frame, handover.MaxFrame+16)
	if errors.Is(err, io.EOF) {
		err = io.EOF
	}
	return frame, err
}

func (l *badLink) OpenStream(ctx context.Context, kind handover.StreamKind) (handover.StreamWriter, error) {
	s, err := l.conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write([]byte{byte(kind)}); err != nil {
		return nil, err
	}
	w := &saboteur{w: s, at: -1}
	if l.damage.stream == kind {
		w.how, w.at = l.damage.how, l.damage.at(l.sizes[kind])
	}
	l.mu.Lock()
	l.wrote[kind] = w
	l.mu.Unlock()
	return badStream{w, s}, nil
}

func (l *badLink) AcceptStream(context.Context, handover.StreamKind) (io.ReadCloser, error) {
	return nil, errors.New("the source accepts no streams")
}

func (l *badLink) CloseSend() error { return l.control.Close() }
func (l *badLink) Close() error     { return l.conn.Close("the conversation is over") }

type badStream struct {
	*saboteur
	s *transport.Stream
}

func (b badStream) Close() error {
	b.end()
	return b.s.Close()
}
func (b badStream) Abort() { b.s.Cancel() }

// noCopies has nothing of a daemon before us.
type noCopies struct{}

func (noCopies) Fate(*handover.Record) (handover.Fate, error) { return handover.FateNone, nil }
func (noCopies) Thaw(*handover.Record) error                  { return nil }
func (noCopies) Release(*handover.Record) ([]byte, error)     { return nil, nil }
func (noCopies) TakeLast(*handover.Record, []byte) error      { return nil }

// badPeer sends host a's apps as a's daemon would.
type badPeer struct {
	t        *testing.T
	a, b     *host
	endpoint *transport.Endpoint
	to       transport.Peer
	moves    *handover.Moves
	env      move.Env
}

func newBadPeer(t *testing.T, a, b *host) *badPeer {
	t.Helper()
	for _, v := range a.env() {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "XDG_") || name == "HOME" {
			t.Setenv(name, value)
		}
	}
	data := filepath.Join(a.dir, "data", "hither")
	id, err := transport.LoadIdentity(data)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := transport.OpenTrust(data)
	if err != nil {
		t.Fatal(err)
	}
	p := &badPeer{t: t, a: a, b: b}
	if p.to, err = trust.Find("b"); err != nil {
		t.Fatal(err)
	}
	if p.endpoint, err = transport.Listen("127.0.0.1:0", id, trust, transport.Options{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.endpoint.Close() })
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	p.moves = &handover.Moves{Journal: handover.FileJournal{Dir: t.TempDir()}, Host: noCopies{}, Boot: strings.TrimSpace(string(boot)), Name: "a"}
	p.env = move.Env{Self: files.Host{ID: string(id.ID()), Name: "a"}, Home: filepath.Join(a.dir, "home"), Hasher: files.NewHasher(""),
		LayerDir: func(id string) string { return filepath.Join(data, "capsules", id, "layer") }}
	return p
}

// send tries to move the app, and gives what went over the streams.
func (p *badPeer) send(id string, d damage, sizes map[handover.StreamKind]int64) (*handover.Result, *badLink) {
	p.t.Helper()
	c, err := capsule.Open(id)
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	ctx, stop := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer stop()
	l, err := dialBad(ctx, p.endpoint, p.to, d, sizes)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.moves.Send(ctx, l, move.NewSource(p.env, c, "b"), handover.SendOptions{App: c.Spec().Name, PeerName: "b"}), l
}

func TestDamagedStreams(t *testing.T) {
	hs := hosts(t, "a", "b")
	a, b := hs[0], hs[1]
	doc := filepath.Join(a.dir, "home", "doc")
	if err := os.WriteFile(doc, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	arg := fmt.Sprintf("91000.%d", os.Getpid())
	a.must("run", "-d", "--name", "victim", "sh", "-c", `exec 3>>"$0"; sleep $1; :`, doc, arg)
	write := func() { // what no host has seen yet
		t.Helper()
		a.must("exec", "victim", "sh", "-c", `head -c 300000 /dev/urandom >"$0"`, doc)
	}
	write()
	p := newBadPeer(t, a, b)
	app := func() control.App {
		t.Helper()
		x, err := a.client.App(t.Context(), "victim")
		if err != nil {
			t.Fatal(err)
		}
		return *x
	}
	id := app().ID
	status, err := b.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	// Undamaged it goes through; so the damage is what the others fail of.
	r, l := p.send(id, damage{}, nil)
	if r.Outcome != handover.Moved {
		t.Fatalf("an undamaged move: %+v", r)
	}
	sizes := map[handover.StreamKind]int64{}
	for kind, w := range l.wrote {
		sizes[kind] = w.seen
	}
	t.Logf("bytes of each stream: %v", sizes)
	if len(sizes) < 3 {
		t.Fatalf("streams: %v", sizes)
	}
	a.must("bring", "victim@b")

	var all []damage
	add := func(stream handover.StreamKind, frame uint8, how string, name string, at func(int64) int64) {
		all = append(all, damage{how: how, stream: stream, frame: frame, point: name, at: at})
	}
	begin := func(int64) int64 { return 3 }
	early := func(size int64) int64 { return min(30, size/3) }
	middle := func(size int64) int64 { return size / 2 }
	late := func(size int64) int64 { return size - size/30 - 1 } // sizes differ a little from move to move
	for _, stream := range []handover.StreamKind{handover.StreamFiles, handover.StreamImage, handover.StreamMemory} {
		for _, how := range []string{flip, cut} {
			for name, at := range map[string]func(int64) int64{"begin": begin, "early": early, "middle": middle} {
				add(stream, 0, how, name, at)
			}
		}
		add(stream, 0, cut, "late", late)
		add(stream, 0, flip, "late", late)
		for _, how := range []string{double, swap} {
			add(stream, 0, how, "middle", middle)
		}
		add(stream, 0, extra, "end", late)
	}
	for _, frame := range []uint8{2, 4, 6, 7} { // offer, prepare, precopy, frozen
		add('C', frame, flip, "length", func(int64) int64 { return 0 })
		add('C', frame, flip, "body", func(size int64) int64 { return 12 + size/2 })
		add('C', frame, cut, "body", func(size int64) int64 { return 12 + size/2 })
		add('C', frame, double, "frame", func(size int64) int64 { return 12 })
	}
	for _, d := range all {
		t.Run(d.String(), func(t *testing.T) {
			p.t = t
			write()
			r, l := p.send(id, d, sizes)
			hit := l.wire.done
			if w := l.wrote[d.stream]; w != nil {
				hit = hit || w.done
			}
			if !hit {
				if r.Outcome == handover.Moved {
					a.must("bring", "victim@b")
				}
				t.Fatalf("there was nothing to damage: %s", r.Outcome)
			}
			if r.Outcome == handover.Moved {
				a.must("bring", "victim@b")
			}
			if r.Outcome != handover.Stayed || r.Reason == "" {
				t.Fatalf("%+v", r)
			}
			t.Logf("%s", r.Reason)
			if strings.Contains(r.Reason, "gave up") || strings.Contains(r.Reason, "context") {
				t.Errorf("this does not tell what was wrong: %s", r.Reason)
			}
			if got := app(); got.State != "running" {
				t.Errorf("the app is %s", got.State)
			}
			if err := oneRuns(arg); err != nil {
				t.Errorf("the app: %v", err)
			}
			if s, err := b.client.Status(t.Context()); err != nil || s.Pid != status.Pid {
				t.Fatalf("b's daemon: %+v, %v", s, err)
			}
			eventually(t, "nothing is left on b", func() error {
				var left []string
				for _, dir := range []string{"run/hither/capsules/*", "data/hither/capsules/*", "state/hither/moves/*"} {
					names, _ := filepath.Glob(filepath.Join(b.dir, dir))
					left = append(left, names...)
				}
				if len(left) > 0 {
					return fmt.Errorf("left: %q", left)
				}
				return nil
			})
		})
		if copies := copiesOf(arg); len(copies) != 1 {
			t.Fatalf("copies: %v", copies)
		}
	}
	p.t = t
	if t.Failed() {
		return
	}
	if r, _ := p.send(id, damage{}, nil); r.Outcome != handover.Moved {
		t.Errorf("undamaged once more: %+v", r)
	}
	b.must("stop", "--grace", "0s", "victim")
}
