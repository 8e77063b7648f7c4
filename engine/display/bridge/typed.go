package bridge

import (
	"slices"
	"time"

	"hither/engine/display"
	"hither/engine/display/xwire"
)

// What is typed at the last pictures, while the app is let go of, is for the app: as
// soon as it is taken hold of again it gets that, in the windows that it was typed at
// and by the keymap of the time. If it has left, the host that it came to is told when
// the last pictures go (Bridge.left), which mostly is after the windows stand there. So
// an app that arrives is given no key until that has come. Clicks are not kept, since
// where they would go depends on what the app shows by then.

// arriveWithin is how long an app that arrives waits for what was typed elsewhere. The
// person who went on typing here is not to be held up for long, nor surprised later on.
const arriveWithin = 2 * time.Second

// keepHeld notes which modifiers are held when the app is let go of: they count for
// what is typed next.
func (b *Bridge) keepHeld() {
	b.held = nil
	for code, held := range b.input.keys {
		if held && b.modifiers()[xwire.Keycode(code)] {
			b.held = append(b.held, xwire.Keycode(code))
		}
	}
}

// keepStroke keeps a key.
func (b *Bridge) keepStroke(w *window, code xwire.Keycode, press bool) {
	if w == nil || w.popup {
		return
	}
	keep := func(code xwire.Keycode, press bool) {
		if len(b.typed) < display.MaxStrokes {
			b.typed = append(b.typed, display.Stroke{Window: uint32(w.app), Code: uint8(code), Press: press})
		}
	}
	if i := slices.Index(b.held, code); i >= 0 && !press {
		b.held = slices.Delete(b.held, i, i+1) // nothing was typed with it
		return
	}
	if press {
		for _, modifier := range b.held {
			keep(modifier, true)
		}
		b.held = nil
	}
	keep(code, press)
}

// playTyped gives the app what was typed meanwhile. It must come before the keymap
// of the desktop.
func (b *Bridge) playTyped() error {
	if b.arriving {
		return nil
	}
	list := b.typed
	b.typed, b.held = nil, nil
	return b.play(list)
}

// arrive gives the app what was typed at its windows on the host that it left, and
// what has been typed here since, each by its own keymap. From now on it is given
// each key at once.
func (b *Bridge) arrive(elsewhere []display.Stroke) error {
	if !b.arriving {
		return nil // too late
	}
	b.arriving = false
	here := b.typed
	if b.App == nil {
		b.typed = append(elsewhere, here...)
		b.typed = b.typed[:min(len(b.typed), display.MaxStrokes)]
		return nil
	}
	b.typed = nil
	if err := b.play(elsewhere); err != nil {
		return err
	}
	b.add(newKeymap(b))
	if err := b.play(here); err != nil {
		return err
	}
	b.focusAgain()
	return nil
}

// play types, and lets go of what is held at the end.
func (b *Bridge) play(list []display.Stroke) error {
	var at xwire.Window
	for _, s := range list {
		if w := xwire.Window(s.Window); w != at {
			if err := b.focusInside(w); err != nil {
				return err
			}
			at = w
		}
		if s.Press || b.input.keys[s.Code] {
			b.key(nil, xwire.Keycode(s.Code), s.Press)
		}
	}
	b.releaseKeys()
	return nil
}

// focusInside gives a window the keyboard, unless it or a part of it has that already.
func (b *Bridge) focusInside(w xwire.Window) error {
	focus, err := b.App.GetInputFocus()
	if err != nil {
		return err
	}
	for in := focus.Focus; in > 1; { // neither none nor whoever has the pointer
		if in == w {
			return nil
		}
		tree, err := b.App.QueryTree(in)
		if err != nil {
			break // it has gone
		}
		in = tree.Parent
	}
	b.App.SetInputFocus(xwire.InputFocusPointerRoot, w, 0)
	return nil
}
