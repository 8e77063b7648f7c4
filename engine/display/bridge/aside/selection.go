package aside

import (
	"hither/engine/display/xwire"
)

// selectionNames are what is carried. Others, such as SECONDARY, nobody uses.
var selectionNames = [2]string{"CLIPBOARD", "PRIMARY"}

// selection is one of them on both sides.
type selection struct {
	name string
	at   map[*side]*place
	// held are contents that nobody but us has any more: those of an app that has
	// left, or that came with it. They serve a side that we own while the other
	// side has no owner.
	held []content
	// mirrored: the desktop had it from the app when we parted.
	mirrored bool
}

// place is a selection on one side.
type place struct {
	owner xwire.Window // somebody else's, or none
	mine  bool
	since xwire.Timestamp // mine: since when
	// sets is how many of our wishes to own it the server has not confirmed yet.
	// What it tells of others before was overtaken by ours.
	sets int
}

func (s *selection) atom(at *side) xwire.Atom {
	for i, name := range selectionNames {
		if name == s.name {
			return at.atom.selection[i]
		}
	}
	if s.name == managerName {
		return at.atom.manager
	}
	return 0
}

func (a *Aside) selectionOf(s *side, atom xwire.Atom) *selection {
	for i, sel := range a.selections {
		if s.atom.selection[i] == atom {
			return sel
		}
	}
	return nil
}

// own takes a selection. The present time is right: it is taken because another
// has just done so.
func (s *side) own(sel *selection) {
	if s.conn == nil {
		return
	}
	p := sel.at[s]
	p.owner, p.mine = 0, true
	p.sets++
	s.conn.SetSelectionOwner(s.win, sel.atom(s), xwire.TimeCurrentTime)
}

// disown gives it up, unless another has taken it meanwhile.
func (s *side) disown(sel *selection) {
	p := sel.at[s]
	if s.conn == nil || !p.mine {
		return
	}
	p.mine = false
	if p.sets == 0 {
		s.conn.SetSelectionOwner(0, sel.atom(s), p.since)
	} else {
		// When we came to own it is not known yet.
		s.conn.SetSelectionOwner(0, sel.atom(s), xwire.TimeCurrentTime)
	}
}

// meet brings both sides together when the capsule's server has been connected.
func (a *Aside) meet(again bool) error {
	for _, sel := range a.selections {
		inside, err := a.app.conn.GetSelectionOwner(sel.atom(&a.app))
		if err != nil {
			return err
		}
		outside, err := a.desk.conn.GetSelectionOwner(sel.atom(&a.desk))
		if err != nil {
			return err
		}
		if sel.at == nil {
			sel.at = map[*side]*place{&a.desk: {}}
		}
		sel.at[&a.app] = &place{owner: inside.Owner}
		desk := sel.at[&a.desk]
		held := a.unstash(sel)
		if desk.mine = outside.Owner == a.desk.win; !desk.mine {
			desk.owner = outside.Owner
		}
		switch {
		case inside.Owner != 0 && desk.owner != 0:
			if again && sel.mirrored {
				a.app.own(sel) // the desktop's has come while the app stood still
			} else {
				a.compare(sel)
			}
		case inside.Owner != 0:
			sel.held = nil
			a.desk.own(sel)
		case desk.owner != 0:
			sel.held = nil
			a.app.own(sel)
		default:
			if len(held) > 0 {
				sel.held = held
			}
			if len(sel.held) > 0 {
				a.app.own(sel)
				if !desk.mine {
					a.desk.own(sel)
				}
			} else {
				a.desk.disown(sel)
			}
		}
	}
	return nil
}

// compare is for an app that has come with contents of its own to a desktop that
// has some, too: the newer ones prevail, as far as their owners say how old they
// are. Otherwise each side keeps its own, until something new is copied.
func (a *Aside) compare(sel *selection) {
	var age [2]uint32
	known := 0
	for i, s := range []*side{&a.app, &a.desk} {
		t := &transfer{sel: sel, target: "TIMESTAMP", from: s, kept: &content{}, budget: new(int)}
		*t.budget = 64
		t.then = func() {
			if v := xwire.ToUint32s(t.kept.data); t.ok && t.kept.format == 32 && len(v) == 1 {
				age[i] = uint32(s.now) - v[0] // of the server's time, which goes round
				known++
			}
			inside, outside := sel.at[&a.app], sel.at[&a.desk]
			switch {
			case known < 2 || inside.owner == 0 || outside.owner == 0:
			case age[0] < age[1]:
				a.desk.own(sel)
			case age[1] < age[0]:
				a.app.own(sel)
			}
		}
		a.ask(t)
	}
}

// ownerChanged carries it to the other side that somebody has taken a selection,
// or that its owner has gone.
func (a *Aside) ownerChanged(s *side, ev *xwire.XFixesSelectionNotifyEvent) {
	sel := a.selectionOf(s, ev.Selection)
	if sel == nil || sel.at[s] == nil {
		return
	}
	p := sel.at[s]
	if ev.Owner == s.win {
		if p.sets > 0 {
			p.sets--
		}
		p.since = ev.SelectionTimestamp
		return
	}
	if p.sets > 0 {
		return
	}
	gone := ev.Subtype != xwire.XFixesSelectionEventSetSelectionOwner
	for t := range a.transfers {
		if t.sel == sel && t.from == s && (t.source == asked || gone && t.source == waiting) {
			a.fail(t)
		}
	}
	wasMine := p.mine
	p.owner, p.mine = ev.Owner, false
	other := sel.at[s.other]
	switch {
	case gone || ev.Owner == 0:
		p.owner = 0
		if s == &a.app && len(sel.held) > 0 && other != nil && other.mine {
			s.own(sel) // it was kept
		}
		if !wasMine && other != nil && len(sel.held) == 0 {
			s.other.disown(sel)
		}
	default:
		sel.held = nil
		if other != nil {
			s.other.own(sel)
		}
	}
}

// requested answers somebody who pastes. The time that they give is not compared
// with when we came to own the selection, which was a little later than somebody
// did on the other side.
func (a *Aside) requested(s *side, ev *xwire.SelectionRequestEvent) {
	t := &transfer{to: s, requestor: ev.Requestor, property: ev.Property, toTarget: ev.Target, time: ev.Time}
	if t.property == 0 {
		t.property = ev.Target // as clients of old mean it
	}
	if s == &a.app && ev.Selection == s.atom.manager && ev.Owner == s.win {
		t.sel = &selection{name: managerName}
		a.asksManager(t)
		return
	}
	t.sel = a.selectionOf(s, ev.Selection)
	if t.sel == nil || ev.Owner != s.win || ev.Requestor == s.win {
		t.refuse()
		return
	}
	p := t.sel.at[s]
	name, err := s.conn.AtomNames(ev.Target)
	if err != nil || !p.mine || untranslatable[name[0]] {
		t.refuse()
		return
	}
	t.target = name[0]
	if ev.Target == s.atom.timestamp {
		t.put(xwire.AtomInteger, 32, xwire.Uint32s(p.since))
		t.notify()
		return
	}
	from := t.sel.at[s.other]
	if s.other.conn != nil && from != nil && from.owner != 0 {
		t.from = s.other
		a.ask(t)
		return
	}
	a.serve(t)
}
