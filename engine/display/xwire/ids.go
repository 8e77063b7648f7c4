package xwire

import "sync"

// idSource gives out resource ids: first those of the connection's own range in
// order, then what XC-MISC finds unused.
type idSource struct {
	mu         sync.Mutex
	next, step uint32
	left       uint64
	base       uint32
}

func (s *idSource) first(base, mask uint32) {
	s.step = mask & -mask
	s.base = base
	s.next = base | s.step // base itself is not used, as in Xlib
	s.left = uint64(mask / s.step)
}

// NewID returns an id for a new window, pixmap, region and so on:
//
//	pixmap := xwire.NewID[xwire.Pixmap](c)
//
// It is 0 when the connection has ended or the server has no id left; the
// request that uses it then fails.
func NewID[T ~uint32](c *Conn) T { return T(c.newID()) }

func (c *Conn) newID() uint32 {
	s := &c.ids
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		r, err := c.XCMiscGetXIDRange()
		// A range of one id that is 0 says that there are none.
		if err != nil || r.Count == 0 || r.StartId == 0 {
			return 0
		}
		s.next, s.left = r.StartId, uint64(r.Count)
	}
	id := s.next
	s.next += s.step
	s.left--
	return id
}
