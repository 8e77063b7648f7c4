package terminal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// client is one attached client. Its fields are guarded by Terminal.mu, but
// for those that never change.
type client struct {
	conn  net.Conn
	hello Hello
	size  Winsize

	// raw: the client gets the app's bytes, through the queue. Else it gets
	// pictures. Only the leader is raw.
	raw   bool
	queue bytes.Buffer

	painter painter
	painted uint64    // Terminal.version of the last picture
	when    time.Time // of the last picture
	// mainGen is screen.mainGen if the main screen of the client's terminal,
	// shown or not, is what the app's bytes made of it.
	mainGen uint64

	wakeup chan struct{} // there is something to write
	space  chan struct{} // the queue got shorter
	gone   bool
}

func (c *client) wake() { signalTo(c.wakeup) }

func signalTo(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// output queues the app's bytes, which have been fed to s already; before is
// the generation of the main screen before them.
func (c *client) output(data []byte, s *screen, before uint64) {
	switch {
	case c.mainGen == before:
		c.mainGen = s.mainGen
	case s.alt == 0:
		// The app went back to a main screen that this terminal never had.
		c.queue.Write(data)
		c.picture()
		return
	}
	c.queue.Write(data)
}

// picture makes the client get a picture, after what is queued.
func (c *client) picture() {
	c.raw = false
	c.painter.known = false
	c.painted = 0
	c.when = time.Time{}
	c.wake()
}

// dropBacklog makes the client get a picture instead of what is queued.
func (c *client) dropBacklog() {
	c.queue.Reset()
	c.mainGen = 0
	c.picture()
}

func (c *client) repaint() { c.dropBacklog() }

// leader is the client that leads, or nil.
func (t *Terminal) leader() *client {
	for _, c := range t.clients {
		if !c.hello.Watch {
			return c
		}
	}
	return nil
}

// lead makes c the leader. mu is held.
func (t *Terminal) lead(c *client) {
	if c.hello.Watch || c.gone {
		return
	}
	if old := t.leader(); old != c {
		i := slices.Index(t.clients, c)
		t.clients = slices.Insert(slices.Delete(t.clients, i, i+1), 0, c)
		if old != nil {
			old.picture()
		}
	}
	t.resize(c.size)
}

// resize gives the app's terminal a new size. mu is held.
func (t *Terminal) resize(w Winsize) {
	if w.Rows == 0 || w.Cols == 0 || w == t.size {
		return
	}
	t.size = w
	before := t.screen.mainGen
	t.screen.resize(w)
	t.version++
	for _, c := range t.clients {
		if c.mainGen == before {
			c.mainGen = t.screen.mainGen
		}
	}
	if t.master != nil && !t.paused && t.ended == nil {
		setWinsize(t.master, w)
	}
	for _, c := range t.clients {
		c.wake()
	}
}

// nudge makes a full-screen program draw itself anew, if the model's picture of
// it may be wrong. mu is held.
func (t *Terminal) nudge() {
	if !t.screen.doubt || t.paused || t.master == nil || t.ended != nil || t.size.Rows < 2 {
		return
	}
	other := t.size
	other.Rows--
	setWinsize(t.master, other)
	setWinsize(t.master, t.size)
}

// Serve serves a client that said hello, over conn, until it detaches, the
// terminal ends, the connection breaks or ctx is done. It closes conn.
func (t *Terminal) Serve(ctx context.Context, conn net.Conn, hello Hello) error {
	defer conn.Close()
	if t.broken != nil {
		return t.broken
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c := t.attach(conn, hello)
	written := make(chan error, 1)
	go func() {
		written <- t.serveOutput(c)
		conn.Close() // ends serveInput, too
	}()
	err := t.serveInput(c)
	t.mu.Lock()
	c.gone = true
	t.cond.Broadcast()
	t.mu.Unlock()
	conn.Close()
	c.wake()
	signalTo(c.space)
	<-written
	t.detach(c)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (t *Terminal) attach(conn net.Conn, hello Hello) *client {
	c := &client{
		conn: conn, hello: hello, size: hello.Size,
		wakeup: make(chan struct{}, 1), space: make(chan struct{}, 1),
	}
	c.setWindow()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clients = append(t.clients, c)
	if t.ended != nil {
		conn.SetWriteDeadline(time.Now().Add(farewell))
	}
	if hello.Fresh && t.keepEarly && !hello.Watch {
		c.raw, c.painter.owned, c.mainGen = true, true, t.screen.mainGen
		c.queue.Write(t.early)
	}
	t.early, t.keepEarly = nil, false
	t.lead(c)
	if !c.raw {
		t.nudge()
	}
	c.wake()
	return c
}

func (t *Terminal) detach(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	led := t.leader() == c
	t.clients = slices.DeleteFunc(t.clients, func(o *client) bool { return o == c })
	if next := t.leader(); led && next != nil {
		t.resize(next.size)
		next.picture()
	}
	t.cond.Broadcast()
}

// setWindow tells the painter the window's size.
func (c *client) setWindow() {
	c.painter.rows, c.painter.cols = int(c.size.Rows), int(c.size.Cols)
}

// serveInput carries out what the client sends. A connection that ends or
// breaks is a detach like any other.
func (t *Terminal) serveInput(c *client) error {
	buf := make([]byte, MaxFrame)
	for {
		kind, payload, err := readFrame(c.conn, buf)
		if err != nil {
			var broken net.Error
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
				errors.Is(err, io.ErrClosedPipe) || errors.As(err, &broken) {
				return nil
			}
			return err
		}
		switch kind {
		case frameData:
			if c.hello.Watch {
				continue
			}
			t.mu.Lock()
			t.lead(c)
			t.mu.Unlock()
			t.typed(c, payload)
		case frameResize:
			w, err := decodeWinsize(payload)
			if err != nil {
				return err
			}
			t.mu.Lock()
			c.size = w
			c.setWindow()
			if !c.raw {
				c.picture()
			}
			t.lead(c)
			t.mu.Unlock()
		case framePaint:
			t.mu.Lock()
			c.repaint()
			t.nudge()
			t.mu.Unlock()
		}
	}
}

// serveOutput writes to the client what there is for it, up to the end.
func (t *Terminal) serveOutput(c *client) error {
	var frame []byte
	for {
		t.mu.Lock()
		data, more := t.next(c)
		frame = frame[:0]
		for len(data) > 0 {
			n := min(len(data), MaxFrame)
			frame = appendFrame(frame, frameData, data[:n])
			data = data[n:]
		}
		ended, gone := t.ended, c.gone
		t.mu.Unlock()
		signalTo(c.space)
		switch {
		case gone:
			return nil
		case len(frame) > 0:
			if ended != nil {
				c.conn.SetWriteDeadline(time.Now().Add(farewell))
			}
			if _, err := c.conn.Write(frame); err != nil {
				return fmt.Errorf("writing to a terminal's client: %w", err)
			}
		case ended != nil:
			text, err := json.Marshal(*ended)
			if err != nil {
				return err
			}
			_, err = c.conn.Write(appendFrame(frame, frameEnd, text))
			return err
		case more > 0:
			timer := time.AfterFunc(more, c.wake)
			<-c.wakeup
			timer.Stop()
		default:
			<-c.wakeup
		}
	}
}

// next returns what to write to c, or how long to wait before asking again.
// What it returns is valid as long as mu is held.
func (t *Terminal) next(c *client) (data []byte, wait time.Duration) {
	if c.queue.Len() > 0 {
		return c.queue.Next(MaxFrame), 0
	}
	if c.raw {
		return nil, 0
	}
	s := t.screen
	if c == t.leader() && s.parser.settled() {
		c.raw = true
		if s.alt == 0 {
			c.mainGen = s.mainGen
		}
		return c.painter.whole(nil, s), 0
	}
	if c.painted == t.version && c.painter.known {
		return nil, 0
	}
	if wait := paintEvery - time.Since(c.when); wait > 0 && t.ended == nil {
		return nil, wait
	}
	c.painted, c.when = t.version, time.Now()
	return c.painter.changes(nil, s), 0
}
