package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"hither/engine/display"
	"hither/engine/display/xwire"
)

// Options say what to show where.
type Options struct {
	Begin display.Begin
	// Orders are those of the keeper; when the channel is closed, the bridge takes
	// its windows away and ends.
	Orders <-chan display.Order
	// Parted is called when the app has been let go of, and Typed with what was typed
	// since, when it has left.
	Parted func() error
	Typed  func([]display.Stroke) error
	// Display and Authority name the desktop as in xwire.Dial; empty: those of
	// the environment.
	Display, Authority string
	Log                *slog.Logger
	// NoSharedMemory sends all pictures over the sockets.
	NoSharedMemory bool

	typed []display.Stroke // elsewhere; told when there was no desktop
}

// The app's server may be stopped by somebody else than its keeper.
const (
	answerWithin = 5 * time.Second
	redialEvery  = time.Second
)

// Main is the bridge of a keeper, until it says that it is done.
func Main() error {
	k, begin, err := display.OpenKeeper()
	if err != nil {
		return err
	}
	orders := make(chan display.Order)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() {
		defer close(orders)
		for {
			o, err := k.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					cancel(err)
				}
				return
			}
			select {
			case orders <- *o:
			case <-ctx.Done():
				return
			}
		}
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("bridge", begin.Name)
	return Run(ctx, Options{Begin: *begin, Orders: orders, Parted: k.Parted, Typed: k.Typed, Log: log})
}

var (
	errDone     = errors.New("the keeper is done with the bridge")
	errDeskGone = errors.New("the desktop is gone")
)

// Run shows the app's windows until the keeper or the context ends it, or the
// app's X server does. While there is no desktop it waits for one.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	told := false
	for {
		b := &Bridge{o: o, log: o.Log, bus: o.Begin.Bus, typed: o.typed, arriving: o.Begin.Arrived, calls: make(chan func(), 64)}
		err := b.openDesk(ctx)
		if err == nil {
			told = false
			err = b.run(ctx)
			b.close()
			o.Begin.Bus, o.Begin.Arrived, o.typed = b.bus, false, nil
		} else if !told {
			o.Log.Warn("waiting for the desktop", "error", err)
			told = true
		}
		switch {
		case errors.Is(err, errDone):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, errDeskGone):
			return err
		}
		// Without a desktop there is nothing to let go of.
		select {
		case <-time.After(redialEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		case order, ok := <-o.Orders:
			if !ok {
				return nil
			}
			switch order.Op {
			case display.OpLeft:
				return o.tellTyped(nil)
			case display.OpBus:
				o.Begin.Bus = order.Bus
			case display.OpTyped:
				o.typed, o.Begin.Arrived = order.Typed, false
			case display.OpPart:
				if err := o.parted(); err != nil {
					return err
				}
				if err := o.awaitBack(ctx); err != nil {
					return endOf(err)
				}
			}
		}
	}
}

func endOf(err error) error {
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

func (o *Options) parted() error {
	if o.Parted == nil {
		return nil
	}
	return o.Parted()
}

// awaitBack waits, without the app and without a desktop.
func (o *Options) awaitBack(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case order, ok := <-o.Orders:
			switch {
			case !ok:
				return errDone
			case order.Op == display.OpLeft:
				if err := o.tellTyped(nil); err != nil {
					return err
				}
				return errDone
			case order.Op == display.OpBack:
				return nil
			case order.Op == display.OpBus:
				o.Begin.Bus = order.Bus
			case order.Op == display.OpPart:
				if err := o.parted(); err != nil {
					return err
				}
			}
		}
	}
}

func (o *Options) tellTyped(list []display.Stroke) error {
	if o.Typed == nil {
		return nil
	}
	return o.Typed(list)
}

// openDesk connects to the desktop.
func (b *Bridge) openDesk(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	c, err := xwire.Dial(dial, b.o.Display, b.o.Authority)
	if err != nil {
		return fmt.Errorf("%w: %w", errDeskGone, err)
	}
	b.Desk = c
	c.SetTimeout(answerWithin)
	if err := b.prepareDesk(); err != nil {
		b.close()
		if c.Err() != nil {
			return fmt.Errorf("%w: %w", errDeskGone, err)
		}
		return fmt.Errorf("preparing the desktop: %w", err)
	}
	return nil
}

// openApp connects to the app's server and takes it over. A predecessor that was
// killed may not have been noticed yet, so some patience is in place.
func (b *Bridge) openApp(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var dialer net.Dialer
	for {
		s, err := dialer.DialContext(dial, "unix", b.o.Begin.Socket)
		if err != nil {
			return fmt.Errorf("connecting to the app's X server: %w", err)
		}
		b.socket = s.(*net.UnixConn)
		if b.App, err = xwire.NewConn(dial, s, xwire.Auth{}); err != nil {
			b.App = nil
			return err
		}
		b.App.SetTimeout(answerWithin)
		if err = b.prepareApp(); err == nil {
			return nil
		}
		b.App.Close()
		b.App = nil
		if !errors.Is(err, xwire.ErrAccess) {
			return fmt.Errorf("taking over the app's X server: %w", err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-dial.Done():
			return fmt.Errorf("the app's X server has another window manager, end that first: %w", err)
		}
	}
}

// run serves with a desktop at hand.
func (b *Bridge) run(ctx context.Context) error {
	if err := b.attach(ctx); err != nil {
		return b.whose(err)
	}
	for {
		b.Desk.Flush() //nolint:errcheck // its end is seen by TakeEvents
		var appReady <-chan struct{}
		if b.App != nil {
			b.App.Flush() //nolint:errcheck // the same
			appReady = b.App.Ready()
		}
		var err error
		select {
		case <-appReady:
			err = b.takeApp()
		case <-b.Desk.Ready():
			err = b.takeDesk()
		case f := <-b.calls:
			f()
		case <-ctx.Done():
			return context.Cause(ctx)
		case order, ok := <-b.o.Orders:
			err = b.obey(ctx, order, ok)
		}
		if err == nil && b.App != nil {
			err = b.settle()
		}
		if err != nil {
			return b.whose(err)
		}
	}
}

// whose says which of the two servers an error is about.
func (b *Bridge) whose(err error) error {
	if errors.Is(err, errDone) || errors.Is(err, errDeskGone) {
		return err
	}
	if cause := b.Desk.Err(); cause != nil {
		return fmt.Errorf("%w: %w", errDeskGone, cause)
	}
	if b.App != nil && b.App.Err() != nil {
		return fmt.Errorf("the app's X server: %w", err)
	}
	return err
}

func (b *Bridge) takeApp() error {
	events, err := b.App.TakeEvents()
	if err != nil {
		return err
	}
	for _, ev := range events {
		b.appTook(ev)
		handled := false
		for _, f := range b.features {
			handled = handled || f.app(ev)
		}
		if !handled {
			b.appEvent(ev)
		}
	}
	return nil
}

func (b *Bridge) takeDesk() error {
	events, err := b.Desk.TakeEvents()
	if err != nil {
		return fmt.Errorf("%w: %w", errDeskGone, err)
	}
	for i, ev := range events {
		if i+1 < len(events) && overtaken(ev, events[i+1]) {
			continue
		}
		b.deskTook(ev)
		handled := false
		for _, f := range b.features {
			handled = handled || f.desk(ev)
		}
		if !handled {
			b.deskEvent(ev)
		}
	}
	return nil
}

// left takes the windows away: what is typed from then on is for nobody, or another
// window.
func (b *Bridge) left() error {
	for native := range b.native {
		b.Desk.DestroyWindow(native)
	}
	b.hearDesk() //nolint:errcheck // what came before its end counts
	if err := b.o.tellTyped(b.typed); err != nil {
		return err
	}
	return errDone
}

// hearDesk takes all that has happened on the desktop until now.
func (b *Bridge) hearDesk() error {
	if err := b.Desk.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errDeskGone, err)
	}
	return b.takeDesk()
}

// obey does what the keeper says.
func (b *Bridge) obey(ctx context.Context, o display.Order, ok bool) error {
	switch {
	case !ok:
		return errDone
	case o.Op == display.OpLeft:
		return b.left()
	case o.Op == display.OpPart:
		if b.App != nil {
			b.letGo()
		}
		if err := b.o.parted(); err != nil {
			return err
		}
		b.dim()
	case o.Op == display.OpTyped:
		return b.arrive(o.Typed)
	case o.Op == display.OpBack && b.App == nil:
		// Clicks that came meanwhile and still wait are not played later.
		if err := b.hearDesk(); err != nil {
			return err
		}
		return b.attach(ctx)
	case o.Op == display.OpProgress:
		b.progress.text, b.progress.share = o.Text, o.Share
		for _, w := range b.order {
			b.showProgress(w)
		}
	case o.Op == display.OpBus:
		b.bus = o.Bus
		b.o.Begin.Bus = o.Bus
		for _, f := range b.features {
			if f, ok := f.(busFeature); ok {
				f.bus(o.Bus)
			}
		}
	}
	return nil
}
