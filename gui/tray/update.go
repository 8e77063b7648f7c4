package tray

import (
	"context"
	"time"
)

// updateTime is the least between two changes of what is shown: more is for nobody's eyes.
const updateTime = 200 * time.Millisecond

// Updater shows what look says each time it is told that something has changed.
type Updater struct {
	wake chan struct{}
}

// NewUpdater shows nothing until Run.
func NewUpdater() *Updater { return &Updater{wake: make(chan struct{}, 1)} }

// Changed says that look may say something else now. It never waits.
func (u *Updater) Changed() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Run shows until ctx ends.
func (u *Updater) Run(ctx context.Context, t *Tray, look func() Look) {
	for {
		select {
		case <-u.wake:
			t.Show(look())
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(updateTime):
		case <-ctx.Done():
			return
		}
	}
}
