package daemon

import (
	"sync"
	"time"

	"hither/engine/control"
)

// events hands what happens to everyone who listens. Who listens too slowly
// loses the oldest, never holds anybody up.
type events struct {
	mu        sync.Mutex
	listeners map[chan control.Event]bool
}

func (e *events) listen() (<-chan control.Event, func()) {
	c := make(chan control.Event, 256)
	e.mu.Lock()
	if e.listeners == nil {
		e.listeners = map[chan control.Event]bool{}
	}
	e.listeners[c] = true
	e.mu.Unlock()
	return c, func() {
		e.mu.Lock()
		delete(e.listeners, c)
		e.mu.Unlock()
	}
}

func (e *events) tell(ev control.Event) {
	ev.Time = time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.listeners {
		select {
		case c <- ev:
		default:
			select {
			case <-c:
			default:
			}
			select {
			case c <- ev:
			default:
			}
		}
	}
}
