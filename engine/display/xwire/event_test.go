package xwire

import (
	"errors"
	"testing"
)

// TestEndWithEvents: one value of Ready may stand for events and for the connection's end. Who
// takes the events hears of the end, too.
func TestEndWithEvents(t *testing.T) {
	c := &Conn{ready: make(chan struct{}, 1)}
	end := errors.New("the server has ended")
	c.in.Lock()
	c.queue(&UnknownEvent{}, 32)
	c.end = end
	c.signal()
	c.in.Unlock()
	for _, want := range []struct {
		events int
		err    error
	}{{1, nil}, {0, end}, {0, end}} {
		select {
		case <-c.Ready():
		default:
			t.Fatalf("nothing tells of %v", want)
		}
		if events, err := c.TakeEvents(); len(events) != want.events || err != want.err {
			t.Fatalf("%d events and %v, want %v", len(events), err, want)
		}
	}
}
