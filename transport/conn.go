package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// The first byte of a stream.
const (
	streamControl byte = 0 // hello and ping, answered in here
	streamCaller  byte = 1 // AcceptStream hands it out
)

// Conn is a connection to a peer, each side sure of the other's key.
type Conn struct {
	endpoint *Endpoint
	quic     *quic.Conn
	peer     Peer
	theirs   atomic.Pointer[Hello]
	streams  chan *Stream
}

func newConn(e *Endpoint, q *quic.Conn, p Peer) *Conn {
	return &Conn{endpoint: e, quic: q, peer: p, streams: make(chan *Stream)}
}

// Peer is who is at the other end, as the book had it when the connection was
// made.
func (c *Conn) Peer() Peer { return c.peer.clone() }

// Hello is what the peer last said about itself.
func (c *Conn) Hello() Hello {
	if h := c.theirs.Load(); h != nil {
		return *h
	}
	return Hello{}
}

// RemoteAddr is where the peer is now; an address for Peer.Addresses, because
// a host dials from the port it listens on.
func (c *Conn) RemoteAddr() net.Addr { return c.quic.RemoteAddr() }

// Done is closed when the connection has ended; Err then says why.
func (c *Conn) Done() <-chan struct{} { return c.quic.Context().Done() }

// Err is nil as long as the connection lives.
func (c *Conn) Err() error {
	if c.quic.Context().Err() == nil {
		return nil
	}
	return explain(c.peer.Name, context.Cause(c.quic.Context()))
}

// Close ends the connection and all its streams; the peer is told the reason.
// What was written and not yet received is lost: let the peer confirm first.
func (c *Conn) Close(reason string) error {
	return c.quic.CloseWithError(codeClose, reason)
}

// Stats are the numbers of a connection so far.
type Stats struct {
	RTT, MinRTT                           time.Duration
	BytesSent, BytesReceived, BytesLost   uint64 // on the wire, with repeats
	PacketsSent, PacketsReceived, Dropped uint64 // Dropped: sent and lost
	Window                                uint64 // bytes that may be under way
}

// Stats tells how the connection does.
func (c *Conn) Stats() Stats {
	s := c.quic.ConnectionStats()
	return Stats{RTT: s.SmoothedRTT, MinRTT: s.MinRTT,
		BytesSent: s.BytesSent, BytesReceived: s.BytesReceived, BytesLost: s.BytesLost,
		PacketsSent: s.PacketsSent, PacketsReceived: s.PacketsReceived, Dropped: s.PacketsLost,
		Window: s.CongestionWindow}
}

// OpenStream opens a stream to the peer. It waits only if too many are open.
// ctx is for the opening: to bind the stream's life to a context, use
// context.AfterFunc(ctx, stream.Cancel).
func (c *Conn) OpenStream(ctx context.Context) (*Stream, error) {
	return c.open(ctx, streamCaller)
}

func (c *Conn) open(ctx context.Context, kind byte) (*Stream, error) {
	q, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening a stream to %s: %w", c.peer.Name, explain(c.peer.Name, err))
	}
	s := newStream(c, q)
	if _, err := s.Write([]byte{kind}); err != nil { // at once: an unused stream does not exist for the peer
		return nil, fmt.Errorf("opening a stream to %s: %w", c.peer.Name, err)
	}
	return s, nil
}

// AcceptStream waits for a stream that the peer opens. Streams may come in
// another order than they were opened in.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) {
	select {
	case s := <-c.streams:
		return s, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.Done():
		return nil, fmt.Errorf("accepting a stream of %s: %w", c.peer.Name, c.Err())
	}
}

// serve takes the peer's streams: it answers control streams and keeps the
// others for AcceptStream. How many there are at once, the QUIC limit says.
func (c *Conn) serve() {
	for {
		q, err := c.quic.AcceptStream(context.Background()) // ends with the connection
		if err != nil {
			return
		}
		// The book may have changed since: a host that was removed from it
		// gets nothing more.
		if _, err := c.endpoint.trust.Get(c.peer.ID); err != nil {
			_ = c.quic.CloseWithError(codeNoPeer, "not paired any more")
			return
		}
		c.endpoint.work.Go(func() { c.sort(newStream(c, q)) })
	}
}

func (c *Conn) sort(s *Stream) {
	kind, err := s.kind(c.endpoint.opts.HandshakeTimeout)
	if err != nil {
		s.Cancel()
		return
	}
	switch kind {
	case streamControl:
		if err := s.answerHellos(); err != nil {
			s.Cancel()
		}
	case streamCaller:
		select {
		case c.streams <- s:
		case <-c.Done():
		}
	default:
		s.Cancel() // of a later version: the peer learns that we do not know it
	}
}

// Stream is one flow of bytes in each direction. Its Frames and its raw bytes
// may be mixed as the two sides agree. Reading and writing may go on at the
// same time, in one goroutine each.
type Stream struct {
	*Frames
	conn *Conn
	quic *quic.Stream
}

var _ io.ReadWriteCloser = (*Stream)(nil)

func newStream(c *Conn, q *quic.Stream) *Stream {
	s := &Stream{conn: c, quic: q}
	s.Frames = NewFrames(s)
	return s
}

// Conn is the connection of the stream.
func (s *Stream) Conn() *Conn { return s.conn }

func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.quic.Read(p)
	if err != nil && err != io.EOF {
		err = explain(s.conn.peer.Name, err)
	}
	return n, err
}

func (s *Stream) Write(p []byte) (int, error) {
	n, err := s.quic.Write(p)
	if err != nil {
		err = explain(s.conn.peer.Name, err)
	}
	return n, err
}

// Close ends the writing half: the peer reads io.EOF after what was written.
// The stream is over when the peer has done so too and its io.EOF was read;
// who does not want to read that far calls Cancel.
func (s *Stream) Close() error {
	if err := s.quic.Close(); err != nil {
		return explain(s.conn.peer.Name, err)
	}
	return nil
}

// Cancel gives up both halves at once, whatever is on the way in them. After a
// Close and an io.EOF it does nothing.
func (s *Stream) Cancel() {
	s.quic.CancelRead(codeGiveUp)
	s.quic.CancelWrite(codeGiveUp)
}

// SetDeadline lets Read and Write fail with os.ErrDeadlineExceeded from then.
func (s *Stream) SetDeadline(t time.Time) error { return s.quic.SetDeadline(t) }

// SetReadDeadline is SetDeadline for Read.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.quic.SetReadDeadline(t) }

// SetWriteDeadline is SetDeadline for Write.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.quic.SetWriteDeadline(t) }

// kind reads a stream's first byte.
func (s *Stream) kind(patience time.Duration) (byte, error) {
	if err := s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	var b [1]byte
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return 0, fmt.Errorf("reading the kind of a stream: %w", err)
	}
	return b[0], errors.Join(s.SetReadDeadline(time.Time{}))
}
