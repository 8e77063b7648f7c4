package bridge

import (
	"context"
	"time"

	"hither/engine/display/bridge/aside"
	"hither/engine/display/xwire"
)

// beside is what runs beside the windows, with connections of its own: the
// clipboard and the settings, see package aside. It outlives a letting go, since
// the desktop is then still served with what it has of the app.
type beside struct {
	b *Bridge
	// turn is taken by whoever uses what follows.
	turn   chan struct{}
	work   *aside.Aside
	over   bool
	cancel context.CancelFunc // of the opening under way
}

const (
	// openPatience is how long a move waits for an opening under way.
	openPatience = 200 * time.Millisecond
	reopenEvery  = time.Second
)

// newSelections takes hold of the app, which goes on while windows are shown.
func newSelections(b *Bridge) (feature, error) {
	if b.beside == nil {
		b.beside = &beside{b: b, turn: make(chan struct{}, 1)}
	}
	b.beside.open(0)
	return b.beside, nil
}

// open connects in a while. It is for the bridge's goroutine.
func (s *beside) open(delay time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), delay+answerWithin)
	if s.cancel != nil {
		s.cancel()
	}
	s.cancel = cancel
	o, log := s.b.o, s.b.log
	go func() {
		defer cancel()
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return
		}
		s.turn <- struct{}{}
		defer func() { <-s.turn }()
		if s.over || ctx.Err() != nil {
			return
		}
		if s.work != nil && s.work.Err() == nil {
			err := s.work.Back(ctx)
			if err == nil {
				return
			}
			log.Warn("sharing the clipboard again", "error", err)
			s.work.Close()
		}
		work, err := aside.Open(ctx, aside.Options{
			Socket: o.Begin.Socket, Log: log, KeepsScale: s.b.keeps, DPI: s.b.toldDPI,
			Desk: func(ctx context.Context) (*xwire.Conn, error) { return xwire.Dial(ctx, o.Display, o.Authority) },
		})
		if err != nil {
			log.Warn("the bridge does without the clipboard", "error", err)
			return
		}
		s.work = work
		go s.attend(work)
	}()
}

// refresh has the settings carried once more.
func (s *beside) refresh() {
	go func() {
		s.turn <- struct{}{}
		defer func() { <-s.turn }()
		if s.work != nil && !s.over {
			s.work.Refresh()
		}
	}()
}

// attend opens another if this one ends by itself while the windows are shown.
func (s *beside) attend(work *aside.Aside) {
	<-work.Done()
	if err := work.Err(); err != nil {
		s.b.log.Info("the clipboard is no longer shared", "error", err)
		s.b.do(func() {
			if s.b.App != nil && s.b.App.Err() == nil && s.b.Desk.Err() == nil {
				s.open(reopenEvery)
			}
		})
	}
}

// finish ends an opening under way, and takes the turn.
func (s *beside) finish() {
	select {
	case s.turn <- struct{}{}:
	case <-time.After(openPatience):
		s.cancel()
		s.turn <- struct{}{}
	}
	s.cancel()
}

func (s *beside) letGo() {
	s.finish()
	defer func() { <-s.turn }()
	if s.work == nil {
		return
	}
	if err := s.work.Part(); err != nil {
		s.b.log.Warn("letting go of the clipboard", "error", err)
	}
}

// close ends it with the bridge.
func (s *beside) close() {
	if s == nil {
		return
	}
	s.finish()
	defer func() { <-s.turn }()
	s.over = true
	if s.work != nil {
		s.work.Close()
	}
}

func (s *beside) app(xwire.Event) bool  { return false }
func (s *beside) desk(xwire.Event) bool { return false }
func (s *beside) focus(bool)            {}
