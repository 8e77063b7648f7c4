package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Options of a client.
type Options struct {
	// DetachKeys as `--detach-keys` takes them; empty for DefaultDetachKeys,
	// "none" for none.
	DetachKeys string
	// Watch must be set if the Hello said so: nothing is typed.
	Watch bool
}

// HelloFor returns the Hello of a client on these files.
func HelloFor(in, out *os.File) Hello {
	w, _ := windowOf(in, out)
	return Hello{Size: w}
}

func windowOf(in, out *os.File) (Winsize, bool) {
	for _, f := range []*os.File{out, in} {
		if w, err := getWinsize(f); err == nil && w.Rows > 0 && w.Cols > 0 {
			return w, true
		}
	}
	return Winsize{}, false
}

// Client joins in and out to the terminal behind conn, whose keeper has been
// told the Hello. It returns how the visit ended; with an error the Outcome
// says Lost, or Detached if a signal ended this program's stay. However it
// returns, in and out are as they were, and conn is closed.
func Client(ctx context.Context, conn net.Conn, in, out *os.File, options Options) (Outcome, error) {
	defer conn.Close()
	keys, err := parseDetachKeys(options.DetachKeys)
	if err != nil {
		return Outcome{Kind: Detached}, err
	}
	c := &visit{
		conn: conn, in: in, out: out, watch: options.Watch,
		detacher: detacher{keys: keys},
		printing: make(chan struct{}, 1),
	}
	if w, ok := windowOf(in, out); ok {
		c.size = w
	}
	if err := c.raw(); err != nil {
		return Outcome{Kind: Detached}, err
	}
	defer c.restore()

	fatal := make(chan os.Signal, 4)
	signal.Notify(fatal, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT)
	defer signal.Stop(fatal)
	window := make(chan os.Signal, 4)
	signal.Notify(window, unix.SIGWINCH, unix.SIGCONT)

	stop, err := newStopper()
	if err != nil {
		return Outcome{Kind: Detached}, err
	}
	ended := make(chan ending, 2)
	var typing sync.WaitGroup
	typing.Go(func() {
		if detached := c.input(stop); detached {
			ended <- ending{Outcome{Kind: Detached}, nil}
		}
	})
	go func() {
		o, err := c.output()
		ended <- ending{o, err}
	}()
	typing.Go(func() {
		c.resize() // it may have changed since the Hello
		for sig := range window {
			if sig == unix.SIGCONT {
				c.again()
			} else {
				c.resize()
			}
		}
	})
	defer func() {
		conn.Close() // for those that are sending
		stop.stop()
		signal.Stop(window)
		close(window)
		typing.Wait()
		stop.close()
	}()

	select {
	case e := <-ended:
		c.outcome, err = e.outcome, e.err
	case <-ctx.Done():
		c.outcome, err = Outcome{Kind: Detached}, ctx.Err()
	case sig := <-fatal:
		c.outcome, err = Outcome{Kind: Detached}, fmt.Errorf("%w: %v", ErrSignal, sig)
	}
	return c.outcome, err
}

// ErrSignal is the error of a client that left because of a signal.
var ErrSignal = errors.New("ended by a signal")

type ending struct {
	outcome Outcome
	err     error
}

// visit is a client at work.
type visit struct {
	conn    net.Conn
	in, out *os.File
	watch   bool

	detacher detacher // of the input goroutine

	sending sync.Mutex
	frame   []byte
	size    Winsize

	printing chan struct{} // a lock for out and modes, which can be given up on
	modes    tracker

	before  *term.State // of in
	outcome Outcome
}

func fd(f *os.File) int {
	n := -1
	control(f, func(fd int) error { n = fd; return nil })
	return n
}

func (c *visit) raw() error {
	if n := fd(c.in); !c.watch && term.IsTerminal(n) {
		state, err := term.MakeRaw(n)
		if err != nil {
			return fmt.Errorf("preparing the terminal: %w", err)
		}
		c.before = state
	}
	return nil
}

// again takes the terminal back after this program was stopped and continued.
func (c *visit) again() {
	if c.before != nil {
		term.MakeRaw(fd(c.in))
	}
	c.resize()
	c.send(framePaint, nil)
}

// restore leaves the terminal as a shell expects it. An app that ended by
// itself has cleaned up as it pleased, unless it was on the alternate screen
// or left something on that hurts. A terminal that takes no output does not
// keep us.
func (c *visit) restore() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.printing <- struct{}{} // for good: nothing is printed after this
		if m := &c.modes.modes; c.outcome.Kind != Exited || c.outcome.Status >= 128 || m.dirty() {
			c.leave(m)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	if c.before != nil {
		term.Restore(fd(c.in), c.before)
	}
}

func (c *visit) leave(m *modes) {
	if !term.IsTerminal(fd(c.out)) {
		return
	}
	b := m.leave()
	if c.outcome.Kind != Exited && m.alt == 0 {
		// Below the picture, whose cursor may be anywhere.
		b = fmt.Appendf(b, "\x1b[%d;1H\r\n", max(c.size.Rows, 1))
	} else if m.alt != 0 {
		// The cursor is where the app had saved it, perhaps amid a line.
		b = append(b, "\r\x1b[K"...)
	}
	c.out.Write(b)
}

func (c *visit) send(kind byte, payload []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.frame = appendFrame(c.frame[:0], kind, payload)
	_, err := c.conn.Write(c.frame)
	return err
}

func (c *visit) resize() {
	if w, ok := windowOf(c.in, c.out); ok && w != c.size {
		c.size = w
		c.send(frameResize, w.encode())
	}
}

// output prints what the keeper sends, until the end.
func (c *visit) output() (Outcome, error) {
	buf := make([]byte, MaxFrame)
	r := &reader{r: c.conn, buf: make([]byte, MaxFrame+frameHeader)}
	for {
		kind, payload, err := readFrame(r, buf)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return Outcome{Kind: Lost}, fmt.Errorf("reading from the terminal's keeper: %w", err)
		}
		switch kind {
		case frameData:
			if err := c.print(payload); err != nil {
				return Outcome{Kind: Detached}, fmt.Errorf("printing the app's output: %w", err)
			}
		case frameEnd:
			o, err := decodeOutcome(payload)
			if err != nil {
				return Outcome{Kind: Lost}, err
			}
			return o, nil
		}
	}
}

func (c *visit) print(b []byte) error {
	c.printing <- struct{}{}
	defer func() { <-c.printing }()
	c.modes.write(b)
	_, err := c.out.Write(b)
	return err
}

// reader is a bufio.Reader that never asks for more than is there, without its
// extra copy.
type reader struct {
	r    io.Reader
	buf  []byte
	rest []byte
}

func (r *reader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		n, err := r.r.Read(r.buf)
		if n == 0 {
			return 0, err
		}
		r.rest = r.buf[:n]
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// input sends what is typed, until stop; true means the detach keys.
func (c *visit) input(stop *stopper) bool {
	buf := make([]byte, 32<<10)
	for {
		wait := -1
		if len(c.detacher.held) > 0 {
			wait = int(detachPatience.Milliseconds())
		}
		n, err := stop.read(c.in, buf, wait)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if c.send(frameData, c.detacher.release()) != nil {
				return false
			}
			continue
		case err != nil:
			return false // no more input; the output goes on
		}
		pass, detach := c.detacher.filter(buf[:n])
		if len(pass) > 0 && !c.watch && c.send(frameData, pass) != nil {
			return false
		}
		if detach {
			return true
		}
	}
}
