package bridge

import (
	"hither/engine/display"
	"hither/engine/display/xwire"
)

// What is typed at the last pictures, while the app is let go of, is for the app: as
// soon as it is taken hold of again it gets that, in the windows that it was typed at
// and by the keymap of the time. Clicks are not kept, since where they would go
// depends on what the app shows by then.

// keepStroke keeps a key.
func (b *Bridge) keepStroke(w *window, code xwire.Keycode, press bool) {
	if w == nil || w.popup || len(b.typed) >= display.MaxStrokes {
		return
	}
	b.typed = append(b.typed, display.Stroke{Window: uint32(w.app), Code: uint8(code), Press: press})
}

// playTyped gives the app what was typed meanwhile. It must come before the keymap
// of the desktop.
func (b *Bridge) playTyped() error {
	list := b.typed
	b.typed = nil
	if len(list) > display.MaxStrokes {
		list = list[:display.MaxStrokes]
	}
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
