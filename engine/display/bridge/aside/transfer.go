package aside

import (
	"time"

	"hither/engine/display/xwire"
)

const (
	// piece is how many bytes are carried at a time; more are given as INCR, one
	// piece after the other, so that neither we nor the servers hold it all.
	piece = 256 << 10
	// usualPatience is how long each of both ends may take over its next step.
	usualPatience = 10 * time.Second
)

// state is how far the source of a transfer is.
type state uint8

const (
	asked   state = iota // for the conversion
	waiting              // for the next piece of an INCR
	here                 // there is something to be taken
	ended                // all has been taken
)

// transfer is one conversion of a selection. It comes from an owner on one side,
// or from what we hold; it goes to a requestor on the other, or to what we hold.
type transfer struct {
	sel    *selection
	target string

	from   *side // nil: it is out of held
	slot   int
	source state
	incr   bool
	offset int // of what comes next in the property or in held
	held   *content

	to        *side // nil: it goes into kept
	requestor xwire.Window
	property  xwire.Atom
	toTarget  xwire.Atom
	time      xwire.Timestamp
	typ       xwire.Atom // on the requestor's side
	format    uint8
	announced bool // as INCR
	taken     bool // what was given; the next piece may follow

	kept   *content
	budget *int // bytes that may still be kept
	ok     bool // when it is over: all has come
	then   func()

	deadline time.Time
}

func (t *transfer) prop() xwire.Atom { return t.from.slot[t.slot] }

// ask begins a transfer from the owner on the side from.
func (a *Aside) ask(t *transfer) {
	target, err := t.from.conn.Atom(t.target)
	if err != nil || !t.from.takeSlot(t) {
		t.refuse()
		return
	}
	a.begin(t)
	t.from.conn.DeleteProperty(t.from.win, t.prop()) // of a predecessor given up
	t.from.conn.ConvertSelection(t.from.win, t.sel.atom(t.from), target, t.prop(), xwire.TimeCurrentTime)
}

func (a *Aside) begin(t *transfer) {
	a.transfers[t] = true
	t.deadline = time.Now().Add(a.patience)
}

// answered is told by an owner that what was asked for is there, or is not.
func (a *Aside) answered(s *side, ev *xwire.SelectionNotifyEvent) {
	if ev.Selection == s.atom.manager {
		s.saved = true
		return
	}
	for t := range a.transfers {
		if t.from != s || t.source != asked || ev.Selection != t.sel.atom(s) || ev.Property != 0 && ev.Property != t.prop() {
			continue
		}
		target, err := s.conn.Atom(t.target)
		if err != nil || ev.Target != target {
			continue
		}
		if ev.Property == 0 {
			// It does not say whose; with equal targets the answers are equal.
			a.fail(t)
			return
		}
		a.opened(t)
		return
	}
}

// opened looks at what an owner has given.
func (a *Aside) opened(t *transfer) {
	s := t.from
	r, err := s.conn.GetProperty(false, s.win, t.prop(), 0, 0, piece/4)
	if err != nil || r.Type == 0 {
		a.fail(t)
		return
	}
	if r.Type == s.atom.incr {
		size := uint32(0)
		if v := xwire.ToUint32s(r.Value); len(v) > 0 {
			size = v[0]
		}
		t.incr, t.source = true, waiting
		a.announce(t, size)
		s.conn.DeleteProperty(s.win, t.prop()) // which is the sign to begin
		return
	}
	t.source = here
	if t.to != nil && r.BytesAfter == 0 {
		s.conn.DeleteProperty(s.win, t.prop())
		a.putWhole(t, r.Type, r.Format, r.Value)
		return
	}
	a.announce(t, uint32(len(r.Value))+r.BytesAfter)
	a.pump(t)
}

// putWhole gives the requestor all at once.
func (a *Aside) putWhole(t *transfer, typ xwire.Atom, format uint8, data []byte) {
	typ, data, ok := t.from.translate(typ, format, data)
	if !ok {
		a.fail(t)
		return
	}
	if t.target == "TARGETS" {
		data = withOurs(t.to, data)
	}
	t.put(typ, format, data)
	t.notify()
	a.finish(t, true)
}

// withOurs adds to a list of targets those that we answer ourselves.
func withOurs(s *side, list []byte) []byte {
	ours := []uint32{uint32(s.atom.targets), uint32(s.atom.timestamp)}
	for _, v := range xwire.ToUint32s(list) {
		if v != ours[0] && v != ours[1] {
			ours = append(ours, v)
		}
	}
	return xwire.Uint32s(ours...)
}

// announce tells the requestor that pieces will come.
func (a *Aside) announce(t *transfer, size uint32) {
	t.deadline = time.Now().Add(a.patience)
	if t.to == nil {
		t.taken = true
		return
	}
	t.announced = true
	t.to.watch(t.requestor)
	t.put(t.to.atom.incr, 32, xwire.Uint32s(size))
	t.notify()
}

// propertyChanged moves on those transfers that waited for it.
func (a *Aside) propertyChanged(s *side, ev *xwire.PropertyNotifyEvent) {
	s.now = ev.Time
	for t := range a.transfers {
		switch {
		case t.from == s && ev.Window == s.win && ev.Atom == t.prop() && ev.State == xwire.PropertyNewValue && t.source == waiting:
			t.source, t.offset = here, 0
			a.pump(t)
		case t.to == s && t.announced && ev.Window == t.requestor && ev.Atom == t.property && ev.State == xwire.PropertyDelete:
			t.taken = true
			a.pump(t)
		}
	}
}

// windowGone gives up on requestors that have gone.
func (a *Aside) windowGone(s *side, w xwire.Window) {
	for t := range a.transfers {
		if t.to == s && t.requestor == w {
			a.finish(t, false)
		}
	}
	delete(s.watched, w)
}

// pump carries pieces while there are some and the requestor takes them.
func (a *Aside) pump(t *transfer) {
	for t.taken && (t.source == here || t.source == ended) {
		t.deadline = time.Now().Add(a.patience)
		if t.source == ended {
			a.end(t)
			return
		}
		typ, format, data, more, ok := t.read()
		if !ok {
			a.fail(t)
			return
		}
		if len(data) == 0 && t.incr {
			t.from.conn.DeleteProperty(t.from.win, t.prop())
			a.end(t)
			return
		}
		if t.to == nil {
			ok = t.keep(typ, format, data)
		} else {
			if t.from != nil {
				typ, data, ok = t.from.translate(typ, format, data)
			}
			t.typ, t.format, t.taken = typ, format, false
			if ok && len(data) > 0 {
				t.put(typ, format, data)
			}
		}
		if !ok {
			a.fail(t)
			return
		}
		t.offset += len(data)
		if more {
			continue
		}
		t.source = ended
		if t.from != nil {
			t.from.conn.DeleteProperty(t.from.win, t.prop())
			if t.incr {
				t.source = waiting
			}
		}
	}
}

// read is the next piece, and whether more of it is there.
func (t *transfer) read() (typ xwire.Atom, format uint8, data []byte, more, ok bool) {
	if t.from == nil {
		end := min(t.offset+piece, len(t.held.data))
		return t.typ, t.format, t.held.data[t.offset:end], end < len(t.held.data), true
	}
	r, err := t.from.conn.GetProperty(false, t.from.win, t.prop(), 0, uint32(t.offset/4), piece/4)
	if err != nil || r.Type == 0 {
		return 0, 0, nil, false, false
	}
	return r.Type, r.Format, r.Value, r.BytesAfter > 0, true
}

// end tells the requestor that this was all.
func (a *Aside) end(t *transfer) {
	if t.to != nil {
		if t.typ == 0 {
			t.typ, t.format = t.toTarget, 8 // nothing came at all
		}
		t.put(t.typ, t.format, nil)
	}
	a.finish(t, true)
}

func (t *transfer) put(typ xwire.Atom, format uint8, data []byte) {
	t.to.conn.ChangeProperty(xwire.PropModeReplace, t.requestor, t.property, typ, format, data)
}

// notify tells the requestor that its property is there.
func (t *transfer) notify() {
	ev := xwire.SelectionNotifyEvent{Time: t.time, Requestor: t.requestor, Selection: t.sel.atom(t.to), Target: t.toTarget, Property: t.property}
	t.to.conn.SendEvent(false, t.requestor, 0, ev.Encode())
}

// refuse tells the requestor that there is nothing.
func (t *transfer) refuse() {
	if t.to == nil || t.to.conn == nil || t.announced {
		return // of a transfer that is under way the protocol has no way to say it
	}
	ev := xwire.SelectionNotifyEvent{Time: t.time, Requestor: t.requestor, Target: t.toTarget}
	if t.sel != nil {
		ev.Selection = t.sel.atom(t.to)
	}
	t.to.conn.SendEvent(false, t.requestor, 0, ev.Encode())
}

func (a *Aside) fail(t *transfer) {
	t.refuse()
	a.finish(t, false)
}

func (a *Aside) finish(t *transfer, ok bool) {
	if !a.transfers[t] {
		return
	}
	delete(a.transfers, t)
	t.ok = ok
	if t.from != nil {
		t.from.busy[t.slot] = nil
	}
	if t.announced {
		t.to.unwatch(t.requestor)
	}
	if t.then != nil {
		t.then()
	}
}

// expire gives up on those that do not go on.
func (a *Aside) expire(now time.Time) {
	for t := range a.transfers {
		if !now.Before(t.deadline) {
			a.fail(t)
		}
	}
}
