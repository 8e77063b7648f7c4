package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

const (
	frameHello FrameType = 1 // asks for the other side's
	frameReply FrameType = 2
	maxHello             = 4096
	maxLoad              = 1e6
)

// Hello is what a host says about itself to paired hosts.
type Hello struct {
	Name    string `cbor:"1,keyasint" json:"name"`
	Version string `cbor:"2,keyasint,omitempty" json:"version,omitempty"`
	OS      string `cbor:"3,keyasint" json:"os"`
	Arch    string `cbor:"4,keyasint" json:"arch"`

	Abilities *Abilities `cbor:"5,keyasint,omitempty" json:"abilities,omitempty"` // nil: an older hither
}

// Abilities are what a host can take just now. Later versions add fields, and
// none of them is trusted: they help a person choose, a move asks for itself.
type Abilities struct {
	Kernel     string  `cbor:"1,keyasint,omitempty"`
	CPUs       int     `cbor:"2,keyasint,omitempty"`
	CPUFlags   string  `cbor:"3,keyasint,omitempty"` // hash of the features that apps use, to compare
	Load       float64 `cbor:"4,keyasint,omitempty"` // processes that want to run, over the last minute
	Memory     uint64  `cbor:"5,keyasint,omitempty"` // bytes
	MemoryFree uint64  `cbor:"6,keyasint,omitempty"` // bytes
	Display    bool    `cbor:"7,keyasint,omitempty"` // there is a desktop for windows
	UID        int     `cbor:"8,keyasint,omitempty"`
	GID        int     `cbor:"9,keyasint,omitempty"`
}

func (e *Endpoint) hello() Hello {
	h := Hello{Name: e.Name(), Version: e.opts.Version, OS: runtime.GOOS, Arch: runtime.GOARCH}
	if e.opts.Abilities != nil {
		a := e.opts.Abilities()
		h.Abilities = &a
	}
	return h
}

// Name is what this host calls itself.
func (e *Endpoint) Name() string { return *e.name.Load() }

// SetName renames this host. Peers learn of it with the next hello.
func (e *Endpoint) SetName(name string) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("renaming this host: %w", err)
	}
	e.name.Store(&name)
	return nil
}

// clean makes a hello of another machine safe to show.
func (h Hello) clean() Hello {
	short := func(s string) string { return printable(s[:min(len(s), maxName)]) }
	c := Hello{Name: CleanName(h.Name), Version: short(h.Version), OS: short(h.OS), Arch: short(h.Arch)}
	if h.Abilities != nil {
		a := *h.Abilities
		a.Kernel, a.CPUFlags = short(a.Kernel), short(a.CPUFlags)
		a.CPUs = max(0, a.CPUs)
		if !(a.Load >= 0 && a.Load <= maxLoad) { // NaN neither
			a.Load = 0
		}
		a.MemoryFree = min(a.MemoryFree, a.Memory)
		c.Abilities = &a
	}
	return c
}

// Ping measures the way to the peer and back, through its hither.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	rtt, err := c.hello(ctx)
	if err != nil {
		return 0, fmt.Errorf("pinging %s: %w", c.peer.Name, err)
	}
	return rtt, nil
}

// hello says hello and waits for the answer.
func (c *Conn) hello(ctx context.Context) (time.Duration, error) {
	s, err := c.open(ctx, streamControl)
	if err != nil {
		return 0, err
	}
	defer s.Cancel()
	defer context.AfterFunc(ctx, s.Cancel)()
	begin := time.Now()
	var theirs Hello
	if err = s.Send(frameHello, c.endpoint.hello()); err == nil {
		err = s.ReceiveInto(frameReply, &theirs, maxHello)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return 0, err
	}
	rtt := time.Since(begin)
	theirs = theirs.clean()
	c.theirs.Store(&theirs)
	_ = s.Close()
	return rtt, nil
}

// answerFirst waits for the hello that begins a connection and answers it.
func (c *Conn) answerFirst(ctx context.Context) error {
	q, err := c.quic.AcceptStream(ctx)
	if err != nil {
		return explain(c.peer.Name, err)
	}
	s := newStream(c, q)
	kind, err := s.kind(c.endpoint.opts.HandshakeTimeout)
	if err != nil {
		return err
	}
	if kind != streamControl {
		return fmt.Errorf("the first stream is of kind %d, not a hello", kind)
	}
	if err := s.answer(); err != nil {
		return err
	}
	_ = s.Close()                 // the peer has the answer, and may have given the stream up already
	s.quic.CancelRead(codeGiveUp) // nothing more is due in it
	return nil
}

// answerHellos answers until the peer closes its half.
func (s *Stream) answerHellos() error {
	for {
		if err := s.answer(); err != nil {
			if errors.Is(err, io.EOF) {
				return s.Close()
			}
			return err
		}
	}
}

func (s *Stream) answer() error {
	var theirs Hello
	if err := s.ReceiveInto(frameHello, &theirs, maxHello); err != nil {
		return err
	}
	theirs = theirs.clean()
	s.conn.theirs.Store(&theirs)
	return s.Send(frameReply, s.conn.endpoint.hello())
}

// Ping dials the peer if need be, and asks for a hello: the proof that the
// peer is there, is itself, and would talk with this host.
func (e *Endpoint) Ping(ctx context.Context, peer Peer) (time.Duration, Hello, error) {
	c, err := e.Dial(ctx, peer)
	if err != nil {
		return 0, Hello{}, err
	}
	defer c.Close("pinged")
	rtt, err := c.Ping(ctx)
	return rtt, c.Hello(), err
}
