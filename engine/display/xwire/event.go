package xwire

import "context"

// EventHeader is what all events have.
type EventHeader struct {
	// Sequence counts this connection's requests, from 1: the last one that the
	// server had seen. KeymapNotify has none.
	Sequence uint64
	// Synthetic events were sent by a client, not by the server itself.
	Synthetic bool
}

// Header returns the header itself.
func (h EventHeader) Header() EventHeader { return h }

// Event is a pointer to one of the generated types, such as *KeyPressEvent, or
// *Error for an unchecked request that failed, or *UnknownEvent.
type Event interface{ Header() EventHeader }

// UnknownEvent is an event of an extension that is not in use, or one that is
// damaged.
type UnknownEvent struct {
	EventHeader
	Data []byte
}

// decode turns an event's bytes, at least 32, into its type.
func (t *tables) decode(b []byte, h EventHeader) Event {
	d := &decoder{b: b}
	var ev Event
	if b[0]&127 == genericEvent {
		if ext := t.byMajor[b[1]]; ext != nil {
			number := uint16(b[8]) | uint16(b[9])<<8
			if decode := ext.generic[number]; decode != nil {
				ev = decode(h, d)
			}
		}
	} else if decode := t.events[b[0]&127]; decode != nil {
		ev = decode(h, d)
	}
	if ev == nil || d.err != nil {
		return &UnknownEvent{EventHeader: h, Data: b}
	}
	return ev
}

// maxEventMemory is how much may wait to be taken, counted as each event's
// bytes on the wire and eventOverhead; then the connection is ended. That is
// some 400,000 events.
const (
	maxEventMemory = 64 << 20
	eventOverhead  = 128
)

// Ready has a value whenever events have come since the last TakeEvents, and
// when the connection has ended. It is for select; TakeEvents may find nothing.
func (c *Conn) Ready() <-chan struct{} { return c.ready }

// TakeEvents returns all events that have come, in their order. With none left
// and the connection ended it returns the reason.
func (c *Conn) TakeEvents() ([]Event, error) {
	c.in.Lock()
	defer c.in.Unlock()
	events := c.events
	c.events, c.eventMemory = nil, 0
	if c.end == nil {
		return events, nil
	}
	c.signal() // for others, and for the next time: the end may have come with the last events
	if len(events) == 0 {
		return nil, c.end
	}
	return events, nil
}

// NextEvent sends what is to be sent and waits for the next event.
func (c *Conn) NextEvent(ctx context.Context) (Event, error) {
	for {
		c.in.Lock()
		if len(c.events) > 0 {
			ev := c.events[0]
			c.events[0] = nil
			c.eventMemory -= c.eventMemory / len(c.events) // its share of them all
			c.events = c.events[1:]
			if len(c.events) == 0 {
				c.events, c.eventMemory = nil, 0
			} else {
				c.signal() // for others who wait
			}
			c.in.Unlock()
			return ev, nil
		}
		if err := c.end; err != nil {
			c.signal()
			c.in.Unlock()
			return nil, err
		}
		c.in.Unlock()
		_ = c.Flush() // a failure has ended the connection
		select {
		case <-c.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// queue appends an event; the caller holds c.in. It says whether there is room.
func (c *Conn) queue(ev Event, size int) bool {
	if c.eventMemory += size + eventOverhead; c.eventMemory > maxEventMemory {
		return false
	}
	c.events = append(c.events, ev)
	c.signal()
	return true
}

func (c *Conn) signal() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}
