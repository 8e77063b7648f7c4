package aside

import (
	"net"
	"slices"
	"strconv"
	"time"

	"hither/engine/display/xwire"
)

// slots is how many conversions may be asked for at a time on one side.
const slots = 64

// side is one of the two servers, with what is ours there.
type side struct {
	name   string
	other  *side
	socket *net.UnixConn // the capsule's: to hang up on
	conn   *xwire.Conn   // nil: parted

	win     xwire.Window // owns selections and is given what was asked for
	atom    atoms
	slot    [slots]xwire.Atom // properties of win that conversions go to
	busy    [slots]*transfer
	next    int // the slot to try first, so that one is long unused when it comes again
	watched map[xwire.Window]int
	now     xwire.Timestamp // the server's, of the last change of a property
	saved   bool            // the clipboard manager has answered
}

// atoms are those that mean something here.
type atoms struct {
	selection                                     [2]xwire.Atom
	targets, timestamp, incr, atomPair            xwire.Atom
	manager, save, xsettings, settings, settings0 xwire.Atom
	root                                          [2]xwire.Atom
}

var fixedAtoms = []string{
	selectionNames[0], selectionNames[1], "TARGETS", "TIMESTAMP", "INCR", "ATOM_PAIR",
	managerName, "SAVE_TARGETS", "_XSETTINGS_S0", "_XSETTINGS_SETTINGS", "_HITHER_XSETTINGS",
	rootProperties[0], rootProperties[1],
}

// attach makes a connection a side.
func (s *side) attach(c *xwire.Conn) error {
	c.SetTimeout(answerWithin)
	if err := c.Use(xwire.XFixes); err != nil {
		return err
	}
	names := slices.Clone(fixedAtoms)
	for i := range slots {
		names = append(names, "_HITHER_"+strconv.Itoa(i))
	}
	got, err := c.Atoms(names...)
	if err != nil {
		return err
	}
	copy(s.atom.selection[:], got)
	for i, p := range []*xwire.Atom{
		&s.atom.targets, &s.atom.timestamp, &s.atom.incr, &s.atom.atomPair,
		&s.atom.manager, &s.atom.save, &s.atom.xsettings, &s.atom.settings, &s.atom.settings0,
		&s.atom.root[0], &s.atom.root[1],
	} {
		*p = got[len(selectionNames)+i]
	}
	copy(s.slot[:], got[len(fixedAtoms):])
	s.conn, s.busy, s.watched = c, [slots]*transfer{}, map[xwire.Window]int{}
	s.win = xwire.NewID[xwire.Window](c)
	c.CreateWindow(0, s.win, c.Root(), -10, -10, 1, 1, 0, xwire.WindowClassInputOnly, 0, xwire.WindowValues{
		Mask: xwire.CWOverrideRedirect | xwire.CWEventMask, OverrideRedirect: true, EventMask: xwire.EventMaskPropertyChange,
	})
	for _, sel := range s.atom.selection {
		c.XFixesSelectSelectionInput(s.win, sel, allOwnerChanges)
	}
	return c.Sync()
}

const allOwnerChanges = xwire.XFixesSelectionEventMaskSetSelectionOwner |
	xwire.XFixesSelectionEventMaskSelectionWindowDestroy | xwire.XFixesSelectionEventMaskSelectionClientClose

func (s *side) ready() <-chan struct{} {
	if s.conn == nil {
		return nil
	}
	return s.conn.Ready()
}

// hangUp returns when the server has closed its end, too.
func (s *side) hangUp() {
	if s.socket.CloseWrite() == nil {
		select {
		case <-s.conn.Done():
		case <-time.After(hangUpPatience):
		}
	}
	s.conn.Close()
	s.conn, s.socket = nil, nil
}

// takeSlot reserves one.
func (s *side) takeSlot(t *transfer) bool {
	for range slots {
		i := s.next
		s.next = (s.next + 1) % slots
		if s.busy[i] == nil {
			s.busy[i] = t
			t.slot = i
			return true
		}
	}
	return false
}

// watch is told when properties of another's window go, and when it goes.
func (s *side) watch(w xwire.Window) {
	if s.watched[w]++; s.watched[w] == 1 {
		s.conn.ChangeWindowAttributes(w, xwire.WindowValues{
			Mask: xwire.CWEventMask, EventMask: xwire.EventMaskPropertyChange | xwire.EventMaskStructureNotify,
		})
	}
}

func (s *side) unwatch(w xwire.Window) {
	if s.watched[w]--; s.watched[w] > 0 {
		return
	}
	delete(s.watched, w)
	if s.conn != nil {
		s.conn.ChangeWindowAttributes(w, xwire.WindowValues{Mask: xwire.CWEventMask})
	}
}

// untranslatable are types whose values mean something on their own server only.
var untranslatable = map[string]bool{
	"WINDOW": true, "DRAWABLE": true, "PIXMAP": true, "BITMAP": true, "COLORMAP": true, "CURSOR": true, "FONT": true,
	"VISUALID": true, "MULTIPLE": true, "INSERT_SELECTION": true, "INSERT_PROPERTY": true, "SAVE_TARGETS": true,
}

// maxAtomList bounds lists of targets.
const maxAtomList = 4096

// translate gives data as the other side understands it.
func (s *side) translate(typ xwire.Atom, format uint8, data []byte) (xwire.Atom, []byte, bool) {
	name, err := s.conn.AtomNames(typ)
	if err != nil || untranslatable[name[0]] {
		return 0, nil, false
	}
	to, err := s.other.conn.Atom(name[0])
	if err != nil {
		return 0, nil, false
	}
	if format != 32 || typ != xwire.AtomAtom && typ != s.atom.atomPair && typ != s.atom.targets {
		return to, data, true
	}
	names, ok := s.names(data)
	if !ok {
		return 0, nil, false
	}
	list, ok := s.other.atomList(names)
	return to, list, ok
}

// names reads a list of atoms, without those that cannot be carried.
func (s *side) names(data []byte) ([]string, bool) {
	values := xwire.ToUint32s(data)
	if len(values) > maxAtomList {
		return nil, false
	}
	list := make([]xwire.Atom, len(values))
	for i, v := range values {
		list[i] = xwire.Atom(v)
	}
	names, err := s.conn.AtomNames(list...)
	if err != nil {
		return nil, false
	}
	out := names[:0]
	for _, name := range names {
		if name != "" && !untranslatable[name] {
			out = append(out, name)
		}
	}
	return out, true
}

// atomList is the reverse.
func (s *side) atomList(names []string) ([]byte, bool) {
	list, err := s.conn.Atoms(names...)
	return xwire.Uint32s(list...), err == nil
}
