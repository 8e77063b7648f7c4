package aside

import (
	"encoding/binary"
	"errors"
	"time"

	"hither/engine/display/xwire"
)

const (
	// usualKeepTime is how long owners have to give their contents before a move.
	usualKeepTime = 150 * time.Millisecond
	// keepBudget is how many bytes of an app that moves are kept for the desktop
	// that it leaves.
	keepBudget = 16 << 20
	// stashBudget is how many bytes of the desktop travel with an app. They are
	// part of what stands still during the move.
	stashBudget = 1 << 20
	// bequeathTime is how long a clipboard manager may take.
	bequeathTime = time.Second
)

// stashName is the property of the capsule's root window in which contents travel.
const stashName = "_HITHER_CLIPBOARD"

// content is what a selection is in one form.
type content struct {
	target string
	typ    string
	format uint8
	data   []byte
	atom   xwire.Atom // of the type, on the side that it comes from
}

// wanted are the forms that are kept, the most useful ones first: each takes from
// the budget of those that follow.
var wanted = []string{
	"UTF8_STRING", "text/plain;charset=utf-8", "STRING", "TEXT", "text/plain", "text/uri-list",
	"text/html", "image/png", "text/rtf", "application/rtf", "image/svg+xml", "image/jpeg", "image/bmp", "image/tiff",
}

// keep takes in a piece.
func (t *transfer) keep(typ xwire.Atom, format uint8, data []byte) bool {
	if *t.budget -= len(data); *t.budget < 0 {
		return false
	}
	t.kept.atom, t.kept.format = typ, format
	t.kept.data = append(t.kept.data, data...)
	return true
}

// keepAll copies, before the app is frozen, what would be lost.
func (a *Aside) keepAll() {
	for _, sel := range a.selections {
		sel.mirrored = sel.at[&a.desk].mine
	}
	sel := a.selections[0]
	inside, outside := sel.at[&a.app], sel.at[&a.desk]
	switch {
	case inside.owner != 0 && outside.mine:
		if sel.held = a.copy(sel, &a.app, keepBudget, time.Now().Add(a.keepTime)); len(sel.held) == 0 {
			a.desk.disown(sel)
		}
	case outside.owner != 0 && inside.mine:
		a.stash(a.copy(sel, &a.desk, stashBudget, time.Now().Add(a.keepTime)))
	case inside.mine && len(sel.held) > 0:
		a.stash(sel.held)
	}
	a.desk.disown(a.selections[1])
}

// copy asks the owner on one side for its contents, which has until end.
func (a *Aside) copy(sel *selection, from *side, budget int, end time.Time) []content {
	fetch := func(target string, budget *int) *transfer {
		t := &transfer{sel: sel, target: target, from: from, kept: &content{target: target}, budget: budget}
		a.ask(t)
		return t
	}
	small := 4 * maxAtomList
	list := fetch("TARGETS", &small)
	all := []*transfer{list}
	over := func() bool {
		for _, t := range all {
			if a.transfers[t] {
				return false
			}
		}
		return true
	}
	// An error is one of a server that has ended, which run hears too.
	_ = a.until(end, over)
	if !list.ok {
		a.finish(list, false)
		return nil
	}
	names, _ := from.names(list.kept.data)
	has := map[string]bool{}
	for _, name := range names {
		has[name] = true
	}
	all = nil
	for _, name := range wanted {
		if has[name] {
			all = append(all, fetch(name, &budget))
		}
	}
	_ = a.until(end, over)
	var out []content
	for _, t := range all {
		a.finish(t, false)
		types, err := from.conn.AtomNames(t.kept.atom)
		if !t.ok || err != nil || t.kept.format != 8 {
			continue // atoms and numbers are not what is kept
		}
		t.kept.typ = types[0]
		out = append(out, *t.kept)
	}
	return out
}

// serve answers a requestor with what is held.
func (a *Aside) serve(t *transfer) {
	if len(t.sel.held) == 0 {
		t.refuse()
		return
	}
	if t.target == "TARGETS" {
		names := []string{"TARGETS", "TIMESTAMP"}
		for _, c := range t.sel.held {
			names = append(names, c.target)
		}
		list, ok := t.to.atomList(names)
		if !ok {
			t.refuse()
			return
		}
		t.put(xwire.AtomAtom, 32, list)
		t.notify()
		return
	}
	for i := range t.sel.held {
		c := &t.sel.held[i]
		if c.target != t.target {
			continue
		}
		typ, err := t.to.conn.Atom(c.typ)
		if err != nil {
			break
		}
		if len(c.data) <= piece {
			t.put(typ, c.format, c.data)
			t.notify()
			return
		}
		t.held, t.source, t.typ, t.format = c, here, typ, c.format
		a.begin(t)
		a.announce(t, uint32(len(c.data)))
		return
	}
	t.refuse()
}

// stash leaves contents in the capsule's server, which needs no client to keep
// them.
func (a *Aside) stash(list []content) {
	total := 0
	for _, c := range list {
		total += len(c.data)
	}
	name, err := a.app.conn.Atom(stashName)
	if err != nil || len(list) == 0 || total > stashBudget {
		return
	}
	a.app.conn.ChangeProperty(xwire.PropModeReplace, a.app.conn.Root(), name, name, 8, encodeStash(list))
}

// unstash takes up what was left for the clipboard.
func (a *Aside) unstash(sel *selection) []content {
	if sel.name != selectionNames[0] {
		return nil
	}
	name, err := a.app.conn.Atom(stashName)
	if err != nil {
		return nil
	}
	r, err := a.app.conn.GetProperty(true, a.app.conn.Root(), name, name, 0, 2*stashBudget/4)
	if err != nil || len(r.Value) == 0 {
		return nil
	}
	list, err := decodeStash(r.Value)
	if err != nil {
		a.log.Info("taking up the clipboard that came with the app", "error", err)
	}
	return list
}

const stashVersion = 1

// encodeStash writes contents: the version, then for each the lengths of its
// target and its type, its format, the length of its data, and all three.
func encodeStash(list []content) []byte {
	b := []byte{stashVersion}
	for _, c := range list {
		b = append(b, uint8(len(c.target)), uint8(len(c.typ)), c.format)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(c.data)))
		b = append(b, c.target...)
		b = append(b, c.typ...)
		b = append(b, c.data...)
	}
	return b
}

var errStash = errors.New("the contents left in the capsule's X server are damaged")

func decodeStash(b []byte) ([]content, error) {
	if len(b) == 0 || b[0] != stashVersion {
		return nil, errStash
	}
	var out []content
	for b = b[1:]; len(b) > 0; {
		if len(b) < 7 || len(out) == len(wanted) {
			return nil, errStash
		}
		target, typ, format, size := int(b[0]), int(b[1]), b[2], int64(binary.LittleEndian.Uint32(b[3:]))
		b = b[7:]
		if format != 8 || target == 0 || typ == 0 || int64(target)+int64(typ)+size > int64(len(b)) {
			return nil, errStash
		}
		out = append(out, content{target: string(b[:target]), typ: string(b[target : target+typ]), format: format, data: b[target+typ:][:size]})
		b = b[target+typ+int(size):]
	}
	return out, nil
}

// appEnded is when the capsule's server has ended, and with it the app: what it has
// had kept is not lost.
func (a *Aside) appEnded() {
	for t := range a.transfers {
		if t.from == &a.app || t.to == &a.app {
			a.finish(t, false)
		}
	}
	a.app.conn.Close()
	a.app.conn, a.app.socket = nil, nil
	a.bequeath()
}

// bequeath offers what is held to the desktop's clipboard manager, if there is
// one, since it goes with us.
func (a *Aside) bequeath() {
	sel := a.selections[0]
	if a.desk.conn.Err() != nil || len(sel.held) == 0 || !sel.at[&a.desk].mine {
		return
	}
	c := a.desk.conn
	c.SetTimeout(bequeathTime)
	if r, err := c.GetSelectionOwner(a.desk.atom.manager); err != nil || r.Owner == 0 {
		return
	}
	var names []string
	for _, c := range sel.held {
		names = append(names, c.target)
	}
	list, ok := a.desk.atomList(names)
	t := &transfer{sel: &selection{name: managerName}, target: "SAVE_TARGETS", from: &a.desk}
	if !ok || !a.desk.takeSlot(t) {
		return
	}
	c.ChangeProperty(xwire.PropModeReplace, a.desk.win, t.prop(), xwire.AtomAtom, 32, list)
	c.ConvertSelection(a.desk.win, a.desk.atom.manager, a.desk.atom.save, t.prop(), xwire.TimeCurrentTime)
	// It asks for the contents, and then says that it has them, or takes the
	// selection over.
	_ = a.until(time.Now().Add(bequeathTime), func() bool { return a.desk.saved || !sel.at[&a.desk].mine })
}
