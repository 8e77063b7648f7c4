package bridge

import (
	"time"

	"hither/engine/display/xwire"
)

// While a window is resized by hand, its app draws slower than the hand moves. So it
// is told of the next size only when it has drawn the one before, and that picture is
// shown as a whole (_NET_WM_SYNC_REQUEST of the EWMH): the app counts up when it is
// done. The desktop's window manager waits for the native window in the same way.
//
//	the desktop's          ------ value, size ------>  bridge  ------ value, size ----->  the app
//	window manager         <-- counter, once shown --          <-- counter, once drawn --

// synced is what is known of it for one window.
type synced struct {
	// Inside.
	counter xwire.SyncCounter // the app's; 0: it does not take part
	alarm   xwire.SyncAlarm   // tells when it has reached value
	value   int64             // of the last request
	waits   func()            // ends the patience with the app; nil: nothing is waited for

	// On the desktop.
	own   xwire.SyncCounter
	asked int64 // what the window manager waits for; 0: nothing
	sized bool  // and the size has come that it was asked with
}

// drawWithin is how long an app may take to draw a size. One that takes longer is
// not waited for any more.
const drawWithin = 500 * time.Millisecond

// learnSync is told the app's counters.
func (b *Bridge) learnSync(w *window, p property) {
	v := p.numbers(1)
	if v == nil || !w.takes["_NET_WM_SYNC_REQUEST"] || !b.App.Has(xwire.Sync) {
		w.sync.counter = 0
		return
	}
	counter := xwire.SyncCounter(v[0])
	if counter == w.sync.counter {
		return
	}
	r, err := b.App.SyncQueryCounter(counter)
	if err != nil {
		counter = 0
	} else {
		w.sync.value = int64(r.CounterValue.Hi)<<32 | int64(r.CounterValue.Lo)
	}
	w.sync.counter = counter
}

// forgetSync drops what the app's server held.
func (b *Bridge) forgetSync(w *window) {
	if w.sync.waits != nil {
		w.sync.waits()
	}
	if w.sync.alarm != 0 && b.App != nil {
		b.App.SyncDestroyAlarm(w.sync.alarm)
	}
	w.sync.counter, w.sync.alarm, w.sync.waits = 0, 0, nil
}

func syncValue(v int64) xwire.SyncInt64 { return xwire.SyncInt64{Hi: int32(v >> 32), Lo: uint32(v)} }

// askSync tells the app that a size follows, and has it waited for.
func (b *Bridge) askSync(w *window) {
	s := &w.sync
	if s.counter == 0 {
		return
	}
	s.value++
	v := syncValue(s.value)
	b.tellApp(w, "_NET_WM_SYNC_REQUEST", uint32(b.appTime), v.Lo, uint32(v.Hi))
	values := xwire.SyncAlarmValues{Mask: xwire.SyncCACounter | xwire.SyncCAValueType | xwire.SyncCAValue | xwire.SyncCATestType | xwire.SyncCADelta | xwire.SyncCAEvents,
		Counter: s.counter, ValueType: xwire.SyncValueTypeAbsolute, Value: v, TestType: xwire.SyncTestTypePositiveComparison, Events: 1}
	if s.alarm == 0 {
		s.alarm = xwire.NewID[xwire.SyncAlarm](b.App)
		b.App.SyncCreateAlarm(s.alarm, values)
	} else {
		b.App.SyncChangeAlarm(s.alarm, values)
	}
	s.waits = b.after(drawWithin, func() {
		s.waits, s.counter = nil, 0
		b.drawn(w)
	})
}

// syncAlarm is told that an app has drawn.
func (b *Bridge) syncAlarm(ev *xwire.SyncAlarmNotifyEvent) {
	for _, w := range b.order {
		s := &w.sync
		if s.alarm != ev.Alarm || s.waits == nil || int64(ev.CounterValue.Hi)<<32|int64(ev.CounterValue.Lo) < s.value {
			continue
		}
		s.waits()
		s.waits = nil
		b.drawn(w)
	}
}

// drawn goes on with a window whose app has drawn its size.
func (b *Bridge) drawn(w *window) {
	if b.App != nil && b.windows[w.app] == w {
		b.follow(w)
	}
}

// offerSync has the desktop's window manager wait for a new native window.
func (b *Bridge) offerSync(w *window) {
	if !b.Desk.Has(xwire.Sync) || w.sync.own != 0 {
		return
	}
	w.sync.own = xwire.NewID[xwire.SyncCounter](b.Desk)
	b.Desk.SyncCreateCounter(w.sync.own, xwire.SyncInt64{})
	b.Desk.ChangeProperty(xwire.PropModeReplace, w.desk, b.d["_NET_WM_SYNC_REQUEST_COUNTER"], xwire.AtomCardinal, 32, xwire.Uint32s(w.sync.own))
}

// deskAsks is told what the window manager waits for.
func (b *Bridge) deskAsks(w *window, lo, hi uint32) {
	w.sync.asked, w.sync.sized = int64(int32(hi))<<32|int64(lo), false
}

// answerSync tells the desktop's window manager which windows show what it has asked
// for. It comes behind the pictures.
func (b *Bridge) answerSync() {
	for _, w := range b.order {
		s := &w.sync
		if s.asked == 0 || b.App != nil && (!s.sized || s.waits != nil || w.whole || w.at != b.scale.keep(w.place, w.want)) {
			continue
		}
		b.Desk.SyncSetCounter(s.own, syncValue(s.asked))
		s.asked, s.sized = 0, false
	}
}
