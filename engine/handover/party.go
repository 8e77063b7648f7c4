package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// party is one side's end of a link: it reads frames ahead, so that a cancel
// of the other side or the loss of the link ends what is going on.
type party struct {
	link Link
	peer string
	// ctx ends with a cause when the move is cancelled here, by the peer, or by
	// the loss of the link. reading outlives a cancel: decisions are still heard.
	ctx    context.Context
	cancel context.CancelCauseFunc

	meter    *meter
	cause    time.Duration                  // how long an error waits for the frame that explains it
	progress atomic.Pointer[func(Progress)] // of the other side
	touch    atomic.Pointer[func()]         // a word of progress came: see patiently

	sending sync.Mutex
	ended   bool // under sending
	in      chan *message
	lost    chan struct{} // closed when nothing more will come
	stop    context.CancelFunc
	stopped chan struct{}
}

// peerCancelled is the cause of a move's end when the other side ends it.
type peerCancelled struct {
	reason   string
	problems []Problem // if it said more
}

func (p *peerCancelled) Error() string { return p.reason }

func newParty(ctx context.Context, link Link, times Timeouts) *party {
	p := &party{link: link, peer: link.Peer(), cause: times.filled().Cause, in: make(chan *message, 16), lost: make(chan struct{}), stopped: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	go p.read(reading)
	return p
}

func cancelled(m *message) *peerCancelled {
	by := &peerCancelled{reason: m.Reason}
	if m.Answer != nil {
		by.problems = m.Answer.Problems
	}
	return by
}

// setProgress says who is told of the other side's progress.
func (p *party) setProgress(tell func(Progress)) {
	if tell != nil {
		p.progress.Store(&tell)
	}
}

// end ends the link, once the other side has read what was sent, or is gone.
func (p *party) end() {
	p.sending.Lock()
	p.ended = true
	err := p.link.CloseSend()
	p.sending.Unlock()
	if err == nil {
		select {
		case <-p.lost: // it has ended too
		case <-time.After(linger):
		}
	}
	p.stop()
	p.cancel(nil)
	p.link.Close()
	<-p.stopped
}

const linger = time.Second

func (p *party) read(ctx context.Context) {
	defer close(p.stopped)
	defer close(p.lost)
	for {
		frame, err := p.link.Receive(ctx)
		var m *message
		if err == nil {
			m, err = decode(frame)
		}
		if err != nil {
			p.cancel(fmt.Errorf("%w: %w", errLost, err))
			return
		}
		switch m.Kind {
		case kindProgress:
			if touch := p.touch.Load(); touch != nil {
				(*touch)()
			}
			if tell := p.progress.Load(); tell != nil {
				(*tell)(*m.Progress)
			}
			continue
		case kindCancel:
			p.cancel(cancelled(m))
		}
		select {
		case p.in <- m:
		case <-ctx.Done():
			return
		}
	}
}

// send sends one frame.
func (p *party) send(m *message) error {
	b, err := encode(m)
	if err != nil {
		return err
	}
	p.sending.Lock()
	defer p.sending.Unlock()
	if p.ended {
		return errLost
	}
	// A cancel here must still be told there: so not p.ctx.
	ctx, stop := context.WithTimeout(context.WithoutCancel(p.ctx), 10*time.Second)
	defer stop()
	if p.meter != nil {
		p.meter.sent(len(b))
	}
	if err := p.link.Send(ctx, b); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return nil
}

// wait waits for a frame of one of the kinds. A cancel by the peer is an error
// unless it is among them.
func (p *party) wait(ctx context.Context, kinds ...kind) (*message, error) {
	var m *message
	select {
	case m = <-p.in:
	default:
		select {
		case m = <-p.in:
		case <-p.lost:
			select {
			case m = <-p.in: // came just before the end
			default:
				return nil, errLost
			}
		case <-ctx.Done():
			select {
			case m = <-p.in: // said before the end
			default:
				return nil, context.Cause(ctx)
			}
		}
	}
	if slices.Contains(kinds, m.Kind) {
		return m, nil
	}
	if m.Kind == kindCancel {
		return nil, cancelled(m)
	}
	return nil, fmt.Errorf("the other host said %s where %s was due", m.Kind, kinds[0])
}

// within is wait with a limit of time; what says what was waited for.
func (p *party) within(ctx context.Context, d time.Duration, what string, kinds ...kind) (*message, error) {
	ctx, stop := context.WithTimeoutCause(ctx, d, fmt.Errorf("%s: no answer for %v", what, d))
	defer stop()
	return p.wait(ctx, kinds...)
}

// patiently is within, but a word of progress begins the time anew: on the other
// side a person may be thinking.
func (p *party) patiently(ctx context.Context, d time.Duration, what string, kinds ...kind) (*message, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := time.AfterFunc(d, func() { cancel(fmt.Errorf("%s: no answer for %v", what, d)) })
	defer t.Stop()
	touch := func() { t.Reset(d) }
	p.touch.Store(&touch)
	defer p.touch.Store(nil)
	return p.wait(ctx, kinds...)
}

// ownError arose on this host: it did not follow from what the other one did.
type ownError struct{ err error }

func (e *ownError) Error() string { return e.err.Error() }
func (e *ownError) Unwrap() error { return e.err }

// why finds the reason of an error: if the move has been cancelled or the link
// is lost, that, for the error itself is only what followed from it. If a stream
// broke, the other side is about to say why, within the patience.
func (p *party) why(err error, patience time.Duration) error {
	var refused *Refusal
	if err == nil || errors.As(err, &refused) {
		return err // that is the reason
	}
	var own *ownError
	if p.ctx.Err() == nil && errors.As(err, &own) {
		return err
	}
	select {
	case <-p.ctx.Done():
	case <-time.After(patience):
		// A stream broke, and no frame says why.
		return err
	}
	if cause := context.Cause(p.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	} else if cause != nil {
		return ErrCancelled
	}
	return err
}

// patience is a context that ends when nothing is touched for d.
func patience(ctx context.Context, d time.Duration, what string) (_ context.Context, touch func(), stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(d, func() { cancel(fmt.Errorf("%s: nothing has moved for %v", what, d)) })
	return ctx, func() { t.Reset(d) }, func() { t.Stop(); cancel(nil) }
}

// sendStream opens a stream and lets fill write it.
func (p *party) sendStream(kind StreamKind, idle time.Duration, what string, fill func(ctx context.Context, w io.Writer, report Report) error) error {
	ctx, touch, stop := patience(p.ctx, idle, what)
	defer stop()
	w, err := p.link.OpenStream(ctx, kind)
	if err != nil {
		return doing(what, err)
	}
	defer context.AfterFunc(ctx, w.Abort)()
	cw := &countingWriter{w: w, touch: touch, meter: p.meter}
	report := func(done, total uint64) { touch(); p.meter.report(done, total) }
	if err = fill(ctx, cw, report); err != nil && !cw.broke && ctx.Err() == nil {
		err = &ownError{err}
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		w.Abort()
		if ctx.Err() != nil && p.ctx.Err() == nil {
			err = context.Cause(ctx) // patience
		}
	}
	return doing(what, err)
}

// receiveStream accepts a stream and lets drain read it.
func (p *party) receiveStream(kind StreamKind, idle time.Duration, what string, drain func(ctx context.Context, r io.Reader, report Report) error) error {
	ctx, touch, stop := patience(p.ctx, idle, what)
	defer stop()
	r, err := p.link.AcceptStream(ctx, kind)
	if err != nil {
		return doing(what, err)
	}
	defer r.Close()
	defer context.AfterFunc(ctx, func() { r.Close() })()
	cr := &countingReader{r: r, touch: touch}
	err = drain(ctx, cr, func(done, total uint64) { touch() })
	if err == nil {
		// To the very end, so that the other side's Close finds a reader.
		if n, rest := io.Copy(io.Discard, cr); rest != nil {
			err = rest
		} else if n > 0 {
			err = fmt.Errorf("%d bytes too many came", n)
		}
	}
	if err != nil && !cr.broke && ctx.Err() == nil {
		err = &ownError{err}
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil && ctx.Err() != nil && p.ctx.Err() == nil {
		err = context.Cause(ctx)
	}
	return doing(what, err)
}

type countingWriter struct {
	w     io.Writer
	touch func()
	meter *meter
	broke bool
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.broke = c.broke || err != nil
	c.touch()
	c.meter.sent(n)
	return n, err
}

type countingReader struct {
	r     io.Reader
	touch func()
	broke bool
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.broke = c.broke || err != nil && err != io.EOF
	c.touch()
	return n, err
}
