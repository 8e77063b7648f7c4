package bridge

import "hither/engine/display/xwire"

// feature is a part of the bridge beside its windows: the clipboard, the keymap,
// the settings. Features are made when the bridge takes hold of the app
// (Bridge.attach), with both connections open, and live on the bridge's one
// goroutine, so they need no locks. What else they may use of Bridge:
//
//	b.App, b.Desk        the connections; App is nil after letGo
//	b.appWin, b.deskWin  a window of the bridge's own on each side, never seen;
//	                     property changes of both come as events
//	b.appTime, b.deskTime  each server's time, of its last event that had one
//	b.focused()          whether one of the app's windows has the desktop's focus
//	b.do(f)              runs f on the bridge's goroutine; for other goroutines
//	b.after(d, f)        runs f there in a while, unless it is stopped before
//	b.log
//
// Whoever waits for a reply holds up the windows meanwhile: send what can be sent
// at once, and wait for it together. Both connections are flushed by the loop.
type feature interface {
	// app and desk are given each event of their side, and return true for those
	// that concern nobody else.
	app(ev xwire.Event) bool
	desk(ev xwire.Event) bool
	// focus is told when the desktop's focus comes to the app's windows (true),
	// before any key, and when it goes elsewhere.
	focus(in bool)
	// letGo is the last moment with the app, before it is frozen: it has some
	// 100 ms. Events of the desktop come on until the bridge ends, or until it
	// takes hold of the app again, with new features in the place of these.
	letGo()
}

// busFeature is a feature that uses the app's session bus. It is told when the bus
// starts and ends; b.bus is its socket, "" if it does not run. A connection to it
// must be over when letGo returns.
type busFeature interface {
	bus(socket string)
}

// makeFeatures makes them all.
func (b *Bridge) makeFeatures() {
	b.features = nil
	if !b.arriving { // see arrive
		b.add(newKeymap(b))
	}
	b.add(newSelections(b))
	b.add(newNotify(b))
}

// add adds a feature. One that cannot be made (the desktop's server may lack an
// extension) says so in the log and is left out.
func (b *Bridge) add(f feature, err error) {
	if err != nil {
		b.log.Warn("the bridge does without", "feature", err)
		return
	}
	b.features = append(b.features, f)
}
