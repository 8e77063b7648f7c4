package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"hither/engine/handover"
	"hither/transport"
)

// Frames of the daemons' streams. The first frame of a connection says what it
// is for: a hand-over, a list of apps, or files that come home.
const (
	frameMove transport.FrameType = 16 // one message of package handover
	frameList transport.FrameType = 17 // asks for this host's apps
	frameApps transport.FrameType = 18 // control.Apps in JSON

	frameNo transport.FrameType = 22 // instead of an answer: why there is none

	frameHome     transport.FrameType = 19 // homeAsk: brings an app's files home
	frameHomeWant transport.FrameType = 20 // homeWant
	frameHomeDone transport.FrameType = 21 // homeDone

	frameIconAsk transport.FrameType = 32 // iconAsk: asks for an app's icon
	frameIcon    transport.FrameType = 33 // a PNG
)

// link is a handover.Link over a connection of its own.
type link struct {
	conn    *transport.Conn
	control *transport.Stream

	mu    sync.Mutex
	first []byte // a frame that was read to see what the connection is for
	came  map[handover.StreamKind]*transport.Stream
}

var _ handover.Link = (*link)(nil)

// newLink opens the control stream of a connection that this host has made.
func newLink(ctx context.Context, c *transport.Conn) (*link, error) {
	s, err := c.OpenStream(ctx)
	if err != nil {
		c.Close("no stream")
		return nil, err
	}
	return &link{conn: c, control: s, came: map[handover.StreamKind]*transport.Stream{}}, nil
}

func (l *link) Peer() string { return string(l.conn.Peer().ID) }

func (l *link) Send(ctx context.Context, frame []byte) error {
	defer context.AfterFunc(ctx, l.control.Cancel)()
	return l.control.Frames.Send(frameMove, frame)
}

func (l *link) Receive(ctx context.Context) ([]byte, error) {
	l.mu.Lock()
	first := l.first
	l.first = nil
	l.mu.Unlock()
	if first != nil {
		return first, nil
	}
	defer context.AfterFunc(ctx, l.control.Cancel)()
	var frame []byte
	if err := l.control.ReceiveInto(frameMove, &frame, handover.MaxFrame+16); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, err
	}
	return frame, nil
}

func (l *link) OpenStream(ctx context.Context, kind handover.StreamKind) (handover.StreamWriter, error) {
	s, err := l.conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write([]byte{byte(kind)}); err != nil {
		s.Cancel()
		return nil, err
	}
	return outgoing{s}, nil
}

// AcceptStream keeps what comes before its turn: streams may overtake.
func (l *link) AcceptStream(ctx context.Context, kind handover.StreamKind) (io.ReadCloser, error) {
	for {
		l.mu.Lock()
		s := l.came[kind]
		delete(l.came, kind)
		l.mu.Unlock()
		if s != nil {
			return incoming{s}, nil
		}
		s, err := l.conn.AcceptStream(ctx)
		if err != nil {
			return nil, err
		}
		var k [1]byte
		if _, err := io.ReadFull(s, k[:]); err != nil {
			s.Cancel()
			return nil, fmt.Errorf("reading what a stream is for: %w", err)
		}
		l.mu.Lock()
		if l.came[handover.StreamKind(k[0])] != nil {
			l.mu.Unlock()
			s.Cancel()
			return nil, fmt.Errorf("two streams %q came", k[0])
		}
		l.came[handover.StreamKind(k[0])] = s
		l.mu.Unlock()
	}
}

func (l *link) CloseSend() error { return l.control.Close() }
func (l *link) Close() error     { return l.conn.Close("the conversation is over") }

type outgoing struct{ s *transport.Stream }

func (o outgoing) Write(p []byte) (int, error) { return o.s.Write(p) }
func (o outgoing) Close() error                { return o.s.Close() }
func (o outgoing) Abort()                      { o.s.Cancel() }

type incoming struct{ s *transport.Stream }

func (i incoming) Read(p []byte) (int, error) { return i.s.Read(p) }
func (i incoming) Close() error {
	err := i.s.Close() // our unused half
	i.s.Cancel()
	return err
}
