// Package handover is the protocol by which a capsule stops being one host's
// and becomes another's. At every instant, whatever breaks, at most one copy
// of the app may run, and as long as the machines live one always can.
//
// In a nutshell: the source's daemon calls Moves.Send with a Link to the peer
// and a Source, the peer's daemon calls Moves.Receive with a Destination. The
// two run the state machine that is drawn in machine.go. What is decided is
// written to the Journal first. What could not be decided (the link was lost
// between commit and answer) stays in Moves and in the journal, and is settled
// by Moves.Resolve as soon as the two hosts meet again, or by a person with
// Moves.Claim.
//
// The package knows neither processes nor QUIC: Source, Destination and Host
// do the work on this host, Link carries frames and streams. So all of it is
// tested with fakes, every fault at every step.
//
// Lock order: entry.mu (one for each move: it makes a decision happen once, and
// is held while a copy is resumed, thawed or ended), then Moves.mu (the table
// of moves, held for look-ups only).
package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"hither/engine/image"
)

// Source is the app on the host that it leaves. Calls come one at a time, in
// the order of the methods. Whatever fails before Hold, Thaw follows, and the
// app runs on as if nothing had been.
type Source interface {
	// Survey tells what the app needs. What cannot be carried is refused here,
	// with a *Refusal, before the app is touched.
	Survey(ctx context.Context) (*Offer, error)

	// SendFiles writes the files that the answer asks for. It reports bytes
	// done and bytes in all as it goes.
	SendFiles(ctx context.Context, answer *Answer, w io.Writer, report Report) (FileTotals, error)

	// PreCopy sends one round of memory while the app runs on. Round counts
	// from 1. It says whether another round would pay.
	PreCopy(ctx context.Context, w io.Writer, round int, report Report) (RoundTotals, error)

	// Freeze stops every thread and records every handle. From here on the
	// app stands still.
	Freeze(ctx context.Context) (*Frozen, error)

	// SendMemory writes what PreCopy has not sent yet, straight from the
	// frozen processes.
	SendMemory(ctx context.Context, w io.Writer, report Report) (MemoryTotals, error)

	// Hold makes sure that the frozen copy does not run even if the daemon,
	// its tracer, dies: a SIGSTOP is made pending in every process.
	Hold() error

	// Thaw lets the app run on here: after a failure before Hold, or, after
	// Hold, once the destination is known not to run it. It undoes Hold. It
	// may be called at any time before Release, also if nothing is frozen.
	Thaw() error

	// Release ends this copy, because the destination's runs. What people gave it
	// until then goes after the app, to Destination.TakeLast.
	Release() (last []byte, err error)
}

// Destination is the app on the host that it comes to. Calls come one at a
// time, in the order of the methods.
type Destination interface {
	// Consider says what this host has, lacks and will take. It may not change
	// anything yet.
	Consider(ctx context.Context, offer *Offer) (*Answer, error)

	// Prepare takes the files and builds the capsule, with nothing in it.
	Prepare(ctx context.Context, files io.Reader, report Report) error

	// PreCopy takes all rounds of memory, until the stream ends.
	PreCopy(ctx context.Context, r io.Reader, report Report) error

	// Restore rebuilds everything from the encoded image and the rest of the
	// memory. When it returns, the copy is whole but has not run: every
	// process of it dies with this daemon (PTRACE_O_EXITKILL).
	Restore(ctx context.Context, image []byte, memory io.Reader, report Report) error

	// Resume lets the copy run. The capsule's pid 1 is let go last, so that
	// after a crash of the daemon in between, pid 1 (and with it the whole
	// capsule) is dead unless all of it runs. If Resume fails, nothing of the
	// copy is left.
	Resume() error

	// Settle re-opens the portals: terminal, network, windows. It returns what
	// a person should know: residual dependencies, conflicts.
	Settle(ctx context.Context) (notes []string, err error)

	// TakeLast gives the running app what the source's copy was still given, see
	// Source.Release: often nothing. It is called at the same time as Settle or later,
	// and heeded once.
	TakeLast(last []byte) error

	// Abandon undoes everything so far: nothing of the copy is left. It may be
	// called at any time before Resume has succeeded.
	Abandon() error
}

// Host does what must be done to copies of which a dead daemon has left only
// a Record.
type Host interface {
	// Fate says what has become of the copy that the record names. An error
	// means: not known.
	Fate(rec *Record) (Fate, error)
	// Thaw lets a held copy run on (SIGCONT), except for the processes that
	// were stopped before the freeze. No copy left is an error.
	Thaw(rec *Record) error
	// Release ends a held copy. No copy left is no error.
	Release(rec *Record) (last []byte, err error)
	// TakeLast gives a running copy what Source.Release has returned elsewhere.
	TakeLast(rec *Record, last []byte) error
}

// Fate is what has become of a copy.
type Fate int

const (
	FateNone  Fate = iota // there is none, and none has run here by this move
	FateAlive             // its pid 1 lives
	FateEnded             // it ran here, and came to its own end
)

// Report takes progress: bytes done, and bytes in all as far as known (0: not
// known). It returns quickly and may be called from any goroutine.
type Report func(done, total uint64)

// StreamKind says what travels on a stream.
type StreamKind byte

const (
	StreamFiles   StreamKind = 'F'
	StreamPreCopy StreamKind = 'P'
	StreamImage   StreamKind = 'I'
	StreamMemory  StreamKind = 'M'
)

// Link is one move's connection to the other side: a control stream of frames,
// and one-way streams from source to destination.
type Link interface {
	// Peer is the other host's id, as its key proved it.
	Peer() string

	// Send and Receive move one frame each on the control stream. One
	// goroutine may send while another receives.
	Send(ctx context.Context, frame []byte) error
	Receive(ctx context.Context) ([]byte, error)

	// OpenStream is the source's, AcceptStream the destination's side of a
	// one-way stream. There is one of each kind in a move.
	OpenStream(ctx context.Context, kind StreamKind) (StreamWriter, error)
	AcceptStream(ctx context.Context, kind StreamKind) (io.ReadCloser, error)

	// CloseSend tells the other side that no frame follows: its Receive then
	// returns io.EOF.
	CloseSend() error
	// Close ends the link at once; calls under way return an error, and what
	// is under way may be lost.
	Close() error
}

// StreamWriter is the source's end of a stream. Close tells the other side
// that all has been said; Abort that it has not.
type StreamWriter interface {
	io.WriteCloser
	Abort()
}

// Gate is called when a side enters a state, before it does anything there.
// It may wait; an error ends the move as a failure of that state would. It is
// how tests hold a move still.
type Gate func(ctx context.Context, state State) error

// Offer is what the app needs, from source to destination.
type Offer struct {
	Move string `cbor:"1,keyasint"` // id of this move
	App  string `cbor:"2,keyasint"` // id of the capsule, the same on every host
	Name string `cbor:"3,keyasint"` // what people call it
	From string `cbor:"4,keyasint"` // name of the source's host

	Machine   image.Machine  `cbor:"5,keyasint"`
	Limits    []image.Rlimit `cbor:"6,keyasint,omitempty"` // the highest hard limits of its processes; index: RLIMIT_*
	Processes int            `cbor:"7,keyasint,omitempty"`
	Threads   int            `cbor:"8,keyasint,omitempty"`
	Memory    uint64         `cbor:"9,keyasint,omitempty"` // bytes, about
	Needs     []string       `cbor:"10,keyasint,omitempty"`

	// Capsule and Files are the records of packages capsule and files; this
	// package only carries them.
	Capsule []byte `cbor:"11,keyasint,omitempty"`
	Files   []byte `cbor:"12,keyasint,omitempty"`

	Origin string `cbor:"13,keyasint,omitempty"` // peer id of the host where it was first started
	Check  bool   `cbor:"14,keyasint,omitempty"` // only a question: nothing will follow
	// Notes are what the person at the destination should know, who asked for it.
	Notes []string `cbor:"15,keyasint,omitempty"`

	// Came is when it came to this host. A person who is asked first may think about it for long, and
	// what it says of the app's clocks is of that moment.
	Came time.Time `cbor:"-"`
}

// Answer is what the destination has, lacks and will take. With a problem in
// it the move ends here.
type Answer struct {
	Problems []Problem `cbor:"1,keyasint,omitempty"`
	// Files is package files' record of what is missing here.
	Files     []byte `cbor:"2,keyasint,omitempty"`
	WantFiles int    `cbor:"3,keyasint,omitempty"`
	WantBytes uint64 `cbor:"4,keyasint,omitempty"`
	Host      string `cbor:"5,keyasint,omitempty"` // the destination's name
	// Notes are things that are no obstacle, but that a person should know.
	Notes []string `cbor:"6,keyasint,omitempty"`
	// Ahead is how much memory, in bytes, may come before the freeze.
	Ahead uint64 `cbor:"7,keyasint,omitempty"`
	// VDSO is the hash of the destination's vdso, as in image.Machine.
	VDSO []byte `cbor:"8,keyasint,omitempty"`
}

// Problem is something that stands in the way of a move.
type Problem struct {
	What string `cbor:"1,keyasint" json:"what"`           // "process 7 (gdb) traces process 9"
	Cure string `cbor:"2,keyasint" json:"cure,omitempty"` // what a person can do about it
	Side string `cbor:"3,keyasint" json:"side,omitempty"` // name of the host that says so
}

func (p Problem) String() string { return p.What }

// Refusal is the error of a move that will not be tried.
type Refusal struct{ Problems []Problem }

func (r *Refusal) Error() string {
	said := make([]string, len(r.Problems))
	for i, p := range r.Problems {
		said[i] = p.What
	}
	return strings.Join(said, "; ")
}

// Frozen is a frozen app, except its memory.
type Frozen struct {
	Image []byte // encoded by package image
	// Stopped are the processes, by pid outside the capsule, that were stopped
	// before the freeze and must stay so.
	Stopped []int
	// Pid and Start name the capsule's pid 1 outside: pid, and start time of
	// /proc/PID/stat, so that no other process is ever taken for it.
	Pid   int
	Start uint64
	// Since is when the first of its processes was stopped; zero: when Freeze was called.
	Since time.Time
}

// FileTotals, RoundTotals and MemoryTotals are what was sent.
type FileTotals struct {
	Files int
	Bytes uint64 // of content
}

type RoundTotals struct {
	Bytes uint64 // of memory, before compression
	Again bool   // another round would pay
}

type MemoryTotals struct {
	Bytes uint64 // of memory, before compression
}

// errLost is the cause of a move's end when the link breaks.
var errLost = errors.New("the connection to the other host was lost")

// ErrCancelled is the cause of a move's end when a person ends it.
var ErrCancelled = errors.New("cancelled")

// ErrUnknown says that a move is not known here.
var ErrUnknown = errors.New("no such move here")

func doing(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
