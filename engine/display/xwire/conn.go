package xwire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultTimeout is how long a server may take to answer or to take what is
// sent to it, unless SetTimeout says otherwise.
const DefaultTimeout = 30 * time.Second

// Conn is a connection to one X server. Its methods may be called from any
// goroutine.
type Conn struct {
	conn    net.Conn
	unix    *net.UnixConn // conn, if it can carry descriptors
	setup   Setup
	screen  int
	timeout atomic.Int64 // nanoseconds
	tables  atomic.Pointer[tables]
	useMu   sync.Mutex // one Use at a time

	ids   idSource
	atoms atomCache

	// out is what goes to the server.
	out         sync.Mutex
	buf         []byte
	seq         uint64 // the last request's
	answered    uint64 // the last request's that has a reply
	maxRequest  int    // in units of four bytes
	bigRequests bool

	// in is what comes from it.
	in          sync.Mutex
	pending     []*pending // in the order of their requests
	events      []Event
	eventMemory int
	end         error // why the connection ended

	ready chan struct{}
	done  chan struct{} // closed at the end
}

// Auth is what a client proves its right by.
type Auth struct {
	Name string // MIT-MAGIC-COOKIE-1, or empty
	Data []byte
}

// NewConn opens the protocol on a socket to an X server, which it closes at the
// end or if it fails. The context bounds the opening only.
func NewConn(ctx context.Context, socket net.Conn, auth Auth) (*Conn, error) {
	c := &Conn{conn: socket, ready: make(chan struct{}, 1), done: make(chan struct{})}
	c.unix, _ = socket.(*net.UnixConn)
	c.timeout.Store(int64(DefaultTimeout))
	c.tables.Store(coreTables())
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	err := c.open(auth)
	if err == nil {
		err = c.enableBigRequests(ctx)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		c.fail(err)
		socket.Close()
		return nil, fmt.Errorf("opening the connection to the X server: %w", err)
	}
	return c, nil
}

// open does the first exchange and starts the reader.
func (c *Conn) open(auth Auth) error {
	deadline := time.Now().Add(DefaultTimeout)
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	e := &encoder{}
	e.u8('l') // little endian
	e.pad(1)
	e.u16(11)
	e.u16(0)
	e.len16(len(auth.Name))
	e.len16(len(auth.Data))
	e.pad(2)
	e.text(auth.Name)
	e.align(4)
	e.bytes(auth.Data)
	e.align(4)
	if e.err != nil {
		return e.err
	}
	if _, err := c.conn.Write(e.b); err != nil {
		return err
	}
	r := newReceiver(c)
	head := make([]byte, 8)
	if err := r.read(head); err != nil {
		return err
	}
	body := make([]byte, 8+4*int(binary.LittleEndian.Uint16(head[6:])))
	copy(body, head)
	if err := r.read(body[8:]); err != nil {
		return err
	}
	if err := c.readSetup(body); err != nil {
		return err
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	go r.run()
	return nil
}

// readSetup takes in the server's answer.
func (c *Conn) readSetup(b []byte) error {
	switch b[0] {
	case 1:
	case 0, 2:
		reason := b[8:]
		if n := int(b[1]); b[0] == 0 && n < len(reason) {
			reason = reason[:n]
		}
		return fmt.Errorf("the server refuses: %q", string(reason))
	default:
		return fmt.Errorf("the server answers with %d, which is none of X", b[0])
	}
	d := &decoder{b: b}
	c.setup.decode(d)
	if d.err != nil {
		return fmt.Errorf("reading what the server says of itself: %w", d.err)
	}
	if len(c.setup.Roots) == 0 {
		return errors.New("the server has no screen")
	}
	if c.setup.ResourceIdMask == 0 {
		return errors.New("the server gives no resource ids")
	}
	c.maxRequest = int(c.setup.MaximumRequestLength)
	c.ids.first(c.setup.ResourceIdBase, c.setup.ResourceIdMask)
	return nil
}

func (c *Conn) enableBigRequests(ctx context.Context) error {
	r, err := c.QueryExtensionAsync(BigReq.name).WaitContext(ctx)
	if err != nil || !r.Present {
		return err
	}
	c.tables.Store(c.tables.Load().with(BigReq, place{major: r.MajorOpcode, firstEvent: r.FirstEvent, firstError: r.FirstError}))
	big, err := c.BigReqEnableAsync().WaitContext(ctx)
	if err != nil {
		return err
	}
	c.out.Lock()
	defer c.out.Unlock()
	// 1 GB is more than anybody sends, and no trouble to count with.
	c.bigRequests, c.maxRequest = true, int(min(big.MaximumRequestLength, 1<<28))
	return nil
}

// Setup is what the server says of itself: formats, screens, visuals.
func (c *Conn) Setup() *Setup { return &c.setup }

// Screen is the screen that the display's name says, mostly the only one.
func (c *Conn) Screen() *Screen { return &c.setup.Roots[c.screen] }

// Root is that screen's root window.
func (c *Conn) Root() Window { return c.Screen().Root }

// SetTimeout says how long the server may take to answer a request that is
// waited for by Wait, or to take what is sent. A server that does not answer
// costs that wait its result; one that does not read ends the connection.
func (c *Conn) SetTimeout(d time.Duration) { c.timeout.Store(int64(d)) }

// Close ends the connection at once. What has not been flushed is lost; whoever
// waits gets ErrClosed.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	return nil
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the connection ended, and nil before.
func (c *Conn) Err() error {
	c.in.Lock()
	defer c.in.Unlock()
	return c.end
}

// fail ends the connection, for the first reason given.
func (c *Conn) fail(err error) {
	c.in.Lock()
	defer c.in.Unlock()
	if c.end != nil {
		return
	}
	c.end = err
	for _, p := range c.pending {
		p.finish(nil, nil, err)
	}
	c.pending = nil
	close(c.done)
	c.signal()
	c.conn.Close()
}

// Cookie stands for a reply that is still to come.
type Cookie[T any] struct {
	c      *Conn
	p      *pending
	decode func(*T, *decoder)
}

func newCookie[T any](c *Conn, r *request, limit int, decode func(*T, *decoder)) Cookie[T] {
	return expectReply(c, r, &pending{limit: limit}, decode)
}

// newFileCookie is for replies that come with descriptors.
func newFileCookie[T any](c *Conn, r *request, limit int, decode func(*T, *decoder)) Cookie[T] {
	return expectReply(c, r, &pending{limit: limit, withFiles: true}, decode)
}

func expectReply[T any](c *Conn, r *request, p *pending, decode func(*T, *decoder)) Cookie[T] {
	p.kind, p.done = waitReply, make(chan struct{})
	c.send(r, p)
	return Cookie[T]{c, p, decode}
}

// Wait sends what is to be sent and waits for the reply. It may be called once.
func (k Cookie[T]) Wait() (*T, error) { return k.WaitContext(context.Background()) }

// WaitContext is Wait, ended also by the context.
func (k Cookie[T]) WaitContext(ctx context.Context) (*T, error) {
	data, files, err := k.c.wait(ctx, k.p)
	if err != nil {
		return nil, err
	}
	v := new(T)
	d := &decoder{b: data, files: files}
	k.decode(v, d)
	closeAll(d.files)
	if d.err != nil {
		return nil, fmt.Errorf("reading a reply of the X server: %w", d.err)
	}
	return v, nil
}

// wait flushes and waits for p to be finished.
func (c *Conn) wait(ctx context.Context, p *pending) ([]byte, []*os.File, error) {
	select {
	case <-p.done: // answered already
	default:
		_ = c.Flush() // a failure ends the connection, and so p
		timer := time.NewTimer(time.Duration(c.timeout.Load()))
		defer timer.Stop()
		select {
		case <-p.done:
		case <-timer.C:
			c.abandon(p, ErrTimeout)
		case <-ctx.Done():
			c.abandon(p, context.Cause(ctx))
		}
	}
	<-p.done
	return p.data, p.files, p.err
}

// abandon stops the wait for a reply, which will be thrown away. It may be
// there by now.
func (c *Conn) abandon(p *pending, err error) {
	c.in.Lock()
	defer c.in.Unlock()
	select {
	case <-p.done:
	default:
		p.finish(nil, nil, err)
		p.abandoned = true
	}
}

// check sends a request without reply and waits until it is done.
func (c *Conn) check(r *request) error {
	p := &pending{kind: waitDone, done: make(chan struct{})}
	c.send(r, p)
	c.sync()
	_, _, err := c.wait(context.Background(), p)
	return err
}

// Sync sends everything and waits until the server has dealt with it; then the
// events and errors of it have come.
func (c *Conn) Sync() error {
	_, err := c.GetInputFocus()
	return err
}

// Sequence is the number of the last request. Events that it causes carry that, and
// so do those that come before the server has taken the next one.
func (c *Conn) Sequence() uint64 {
	c.out.Lock()
	defer c.out.Unlock()
	return c.seq
}
