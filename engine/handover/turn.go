package handover

import (
	"context"
	"time"
)

// turnPatience is for a move that was broken off to clear up what it left.
const turnPatience = 10 * time.Second

// turn waits until no other move, or question about one, brings the same app to
// this host: both would work on the same folders, and one that was broken off removes
// what is in them. Done gives the turn to the next.
func (m *Moves) turn(ctx context.Context, offer *Offer) (done func(), err error) {
	mine := make(chan struct{})
	patience := time.NewTimer(turnPatience)
	defer patience.Stop()
	for {
		m.mu.Lock()
		other := m.coming[offer.App]
		if other == nil {
			if m.coming == nil {
				m.coming = map[string]chan struct{}{}
			}
			m.coming[offer.App] = mine
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				delete(m.coming, offer.App)
				m.mu.Unlock()
				close(mine)
			}, nil
		}
		m.mu.Unlock()
		select {
		case <-other:
		case <-patience.C:
			return func() {}, &Refusal{[]Problem{{What: "another move brings " + offer.Name + " to " + m.Name + " just now",
				Cure: "wait until that has ended", Side: m.Name}}}
		case <-ctx.Done():
			return func() {}, context.Cause(ctx)
		}
	}
}
