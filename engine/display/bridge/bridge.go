package bridge

import (
	"log/slog"
	"time"

	"hither/engine/display/xwire"
)

// Bridge shows one capsule's windows on one desktop. One goroutine owns it all;
// only do and after may be called by others.
type Bridge struct {
	log *slog.Logger

	App, Desk         *xwire.Conn // App is nil while the app is let go of
	appWin, deskWin   xwire.Window
	appTime, deskTime xwire.Timestamp

	calls chan func()
	focus *window
}

// do has the bridge's goroutine run f.
func (b *Bridge) do(f func()) { b.calls <- f }

// after runs f on the bridge's goroutine in a while. It is for that goroutine.
func (b *Bridge) after(d time.Duration, f func()) (stop func()) {
	stopped := false
	t := time.AfterFunc(d, func() {
		b.do(func() {
			if !stopped {
				f()
			}
		})
	})
	return func() { stopped = true; t.Stop() }
}

// focused says whether one of the app's windows has the desktop's focus.
func (b *Bridge) focused() bool { return b.focus != nil }

type window struct{}
