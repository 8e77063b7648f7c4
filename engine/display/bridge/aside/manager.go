package aside

import (
	"time"

	"hither/engine/display/xwire"
)

// In the capsule we are the clipboard manager: apps that are about to end ask one to
// keep what they have copied (SAVE_TARGETS of the ICCCM's CLIPBOARD_MANAGER, see
// https://www.freedesktop.org/wiki/ClipboardManager/). It stays on the desktop's
// clipboard as long as the capsule lives, and is then offered to the desktop's own
// manager.

const managerName = "CLIPBOARD_MANAGER"

// manage takes the part, if nobody inside has it.
func (a *Aside) manage() error {
	c := a.app.conn
	r, err := c.GetSelectionOwner(a.app.atom.manager)
	if err != nil || r.Owner != 0 {
		return err
	}
	c.SetSelectionOwner(a.app.win, a.app.atom.manager, xwire.TimeCurrentTime)
	return nil
}

// asksManager answers somebody who asks for a clipboard manager; to save takes a
// while, and is done behind the events that have come.
func (a *Aside) asksManager(t *transfer) {
	switch name, err := t.to.conn.AtomNames(t.toTarget); {
	case err != nil:
		t.refuse()
	case name[0] == "SAVE_TARGETS":
		a.saves = append(a.saves, t)
	case name[0] == "TARGETS":
		list, _ := t.to.atomList([]string{"TARGETS", "SAVE_TARGETS"})
		t.put(xwire.AtomAtom, 32, list)
		t.notify()
	default:
		t.refuse()
	}
}

// save keeps the app's clipboard.
func (a *Aside) save() {
	list := a.saves
	a.saves = nil
	for _, t := range list {
		sel := a.selections[0]
		inside := sel.at[&a.app]
		if owner := inside.owner; owner != 0 {
			held := a.copy(sel, &a.app, keepBudget, time.Now().Add(bequeathTime))
			if inside.owner == owner && sel.at[&a.desk].mine {
				sel.held = held
			}
		}
		none, err := a.app.conn.Atom("NULL")
		if err != nil {
			return // it has ended
		}
		t.put(none, 32, nil)
		t.notify()
	}
}
