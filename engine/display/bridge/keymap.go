package bridge

import (
	"errors"
	"fmt"

	"hither/engine/display/xwire"
)

// keymap makes the desktop's keyboard that of the app's server: the whole of its
// XKB map, key by key, so that keys are played by their codes and mean the same;
// and its locks, whose state two servers otherwise disagree about for good.
type keymap struct {
	b *Bridge
	// read is the last event of the desktop that the map in the app's server is
	// sure to be newer than. A change of the map comes as several events.
	read uint64
	// group and mods are what is locked on the desktop.
	group xwire.XkbGroup
	mods  xwire.ModMask
}

const (
	keymapEvents = xwire.XkbEventTypeNewKeyboardNotify | xwire.XkbEventTypeMapNotify | xwire.XkbEventTypeCompatMapNotify |
		xwire.XkbEventTypeStateNotify
	allXkbEvents xwire.XkbEventType = 0xfff

	allMods xwire.ModMask = 0xff
)

func newKeymap(b *Bridge) (feature, error) {
	if !b.Desk.Has(xwire.Xkb) {
		return nil, errors.New("the desktop's keymap: its X server lacks XKB")
	}
	k := &keymap{b: b}
	b.Desk.XkbSelect(allXkbEvents, keymapEvents)
	if err := k.carry(); err != nil {
		return nil, err
	}
	state, err := b.Desk.XkbGetState(xwire.CoreKeyboard)
	if err != nil {
		return nil, fmt.Errorf("asking which keys are locked on the desktop: %w", err)
	}
	k.group, k.mods = state.LockedGroup, state.LockedMods
	k.lock(true)
	// Keys that are held are repeated by the desktop's server.
	if err := b.App.SetAutoRepeat(false); err != nil {
		return nil, fmt.Errorf("ending the repeat of keys in the capsule: %w", err)
	}
	return k, nil
}

// carry copies the map.
func (k *keymap) carry() error {
	m, err := k.b.Desk.ReadKeyboard()
	if err != nil {
		return err
	}
	return k.b.App.WriteKeyboard(m)
}

// lock locks what is locked on the desktop. Latches, which hold for one key, are
// left alone while keys are played, and otherwise forgotten.
func (k *keymap) lock(fresh bool) {
	latches := xwire.ModMask(0)
	if fresh {
		latches = allMods
	}
	k.b.App.XkbLatchLockState(xwire.CoreKeyboard, allMods, k.mods, true, k.group, latches, fresh, 0)
}

func (k *keymap) app(xwire.Event) bool { return false }

func (k *keymap) desk(ev xwire.Event) bool {
	switch ev := ev.(type) {
	case *xwire.XkbStateNotifyEvent:
		if ev.LockedGroup == k.group && ev.LockedMods == k.mods {
			break
		}
		k.group, k.mods = ev.LockedGroup, ev.LockedMods
		// The key that did it came before this event, and was played: the app's
		// server has locked the same. But it may also have been no key, or one
		// that the desktop kept for itself.
		if k.b.App != nil && k.b.focused() {
			k.lock(false)
		}
	case *xwire.XkbMapNotifyEvent, *xwire.XkbNewKeyboardNotifyEvent, *xwire.XkbCompatMapNotifyEvent:
		at := ev.Header().Sequence
		if at <= k.read || k.b.App == nil {
			break
		}
		// All events that carry this number were before the reading.
		k.read = at
		if err := k.carry(); err != nil {
			k.b.log.Warn("carrying the desktop's keymap", "error", err)
		}
	default:
		return false
	}
	return true
}

func (k *keymap) focus(in bool) {
	if in && k.b.App != nil {
		k.lock(true)
	}
}

func (k *keymap) letGo() {}
