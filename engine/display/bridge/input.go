package bridge

import (
	"slices"
	"time"

	"hither/engine/display/xwire"
)

// What XTEST plays, by the numbers of the core events.
const (
	fakeKeyPress      = 2
	fakeKeyRelease    = 3
	fakeButtonPress   = 4
	fakeButtonRelease = 5
	fakeMotion        = 6
)

// input is what the app's server was told to be held.
type input struct {
	keys      [256]bool
	buttons   [256]bool
	modifiers map[xwire.Keycode]bool // those that can be held without a lock; nil: not read
}

func (b *Bridge) fake(kind, detail uint8, x, y int16) {
	b.App.XTestFakeInput(kind, detail, 0, b.App.Root(), x, y, 0)
}

// key plays a key. One that is repeated by the desktop comes as presses only;
// the app's server takes them only with releases in between.
func (b *Bridge) key(w *window, code xwire.Keycode, press bool) {
	if b.App == nil || b.arriving {
		b.keepStroke(w, code, press)
		return
	}
	if press && w != nil && b.focus == nil {
		b.focusIn(w) // a desktop without a window manager
	}
	held := b.input.keys[code]
	if held {
		b.fake(fakeKeyRelease, uint8(code), 0, 0)
	}
	if press {
		b.fake(fakeKeyPress, uint8(code), 0, 0)
	}
	b.input.keys[code] = press
}

// button plays a mouse button, at a place of the given window's.
func (b *Bridge) button(at xwire.Window, n xwire.Button, press bool, x, y int16) {
	if b.App == nil {
		return
	}
	b.motion(at, x, y)
	if press == b.input.buttons[n] {
		return
	}
	b.input.buttons[n] = press
	kind := uint8(fakeButtonRelease)
	if press {
		kind = fakeButtonPress
	}
	b.fake(kind, uint8(n), 0, 0)
}

// motion plays the pointer's way. Places are told of a window: popups may be
// elsewhere than inside, if the screen is smaller.
func (b *Bridge) motion(at xwire.Window, x, y int16) {
	if b.App == nil {
		return
	}
	w := b.native[at]
	if w == nil {
		return
	}
	if b.over != w && x >= 0 && y >= 0 && int(x) < w.place.w && int(y) < w.place.h {
		b.over = w
		b.raise(w)
		b.showCursor(w)
	}
	all := w.picture()
	b.fake(fakeMotion, 0, clip16(w.at.x+b.scale.pixel(int(x), w.place.w, all.w)), clip16(w.at.y+b.scale.pixel(int(y), w.place.h, all.h)))
}

// leave parks the pointer where no window is, so that nothing stays lit up.
func (b *Bridge) leave(ev *xwire.LeaveNotifyEvent) {
	w := b.native[ev.Event]
	if w == nil || b.App == nil || ev.Mode == xwire.NotifyModeGrab || ev.Detail == xwire.NotifyDetailInferior {
		return
	}
	b.probe() // the last moment to see a click elsewhere
	if b.grab.held || slices.Contains(b.input.buttons[:], true) {
		return // what is dragged is dragged on
	}
	if b.over == w {
		b.over = nil
	}
	root := b.App.Screen()
	b.fake(fakeMotion, 0, int16(root.WidthInPixels-1), int16(root.HeightInPixels-1))
}

// focusIn gives the keyboard inside to the window that has it on the desktop.
func (b *Bridge) focusIn(w *window) {
	if b.focus == w {
		return
	}
	b.setFocus(w)
	if w.popup || b.App == nil {
		return
	}
	b.raise(w)
	b.App.ChangeProperty(xwire.PropModeReplace, b.App.Root(), b.a["_NET_ACTIVE_WINDOW"], xwire.AtomWindow, 32, xwire.Uint32s(w.app))
	if w.input {
		b.App.SetInputFocus(xwire.InputFocusPointerRoot, w.app, 0)
	}
	if w.takes["WM_TAKE_FOCUS"] {
		// The time must not be before that of the last change of focus.
		b.atAppTime(func() {
			if b.focus == w {
				b.tellApp(w, "WM_TAKE_FOCUS", uint32(b.appTime))
			}
		})
	}
}

// focusOut takes the keyboard from the app. A grab of the window manager's, as
// for Alt+Tab, only lets go of the keys.
func (b *Bridge) focusOut(w *window, mode xwire.NotifyMode) {
	if b.focus != w {
		return
	}
	if b.App != nil {
		b.releaseKeys()
	}
	if mode == xwire.NotifyModeGrab {
		return
	}
	b.setFocus(nil)
	if b.App != nil {
		b.noFocus()
	}
}

// noFocus tells the app that none of its windows has the keyboard.
func (b *Bridge) noFocus() {
	b.App.SetInputFocus(xwire.InputFocusPointerRoot, b.appWin, 0)
	b.App.ChangeProperty(xwire.PropModeReplace, b.App.Root(), b.a["_NET_ACTIVE_WINDOW"], xwire.AtomWindow, 32, xwire.Uint32s[uint32](0))
}

// focusWithin is how long the desktop's window manager has to give a window that has
// arrived the keyboard.
const focusWithin = 500 * time.Millisecond

// checkFocus sees to it that the app does not think it has the keyboard, as it had
// elsewhere, if it has not.
func (b *Bridge) checkFocus() {
	if b.App == nil || b.focus != nil {
		return
	}
	b.active = 0
	b.noFocus()
	for _, w := range b.order {
		b.writeStates(w)
	}
}

// heldKeys is told what is held when the focus comes. Modifiers count; letters
// were typed for somebody else.
func (b *Bridge) heldKeys(keys [31]byte) {
	if b.App == nil || b.focus == nil {
		return
	}
	for code := range b.modifiers() {
		// The event leaves out the first eight keys.
		if i := int(code)/8 - 1; i >= 0 && keys[i]&(1<<(code%8)) != 0 && !b.input.keys[code] {
			b.key(b.focus, code, true)
		}
	}
}

// askHeld asks what is held, where the focus has been all the time.
func (b *Bridge) askHeld() {
	if r, err := b.Desk.QueryKeymap(); err == nil {
		b.heldKeys([31]byte(r.Keys[1:]))
	}
}

// modifiers are the keys that count while they are held.
func (b *Bridge) modifiers() map[xwire.Keycode]bool {
	if b.input.modifiers != nil {
		return b.input.modifiers
	}
	r, err := b.Desk.GetModifierMapping()
	if err != nil {
		return nil
	}
	b.input.modifiers = map[xwire.Keycode]bool{}
	n := int(r.KeycodesPerModifier)
	for i, code := range r.Keycodes {
		// Rows: Shift, Lock, Control, Mod1-5. Lock and Mod2, mostly Num Lock, would
		// change a lock.
		if row := i / max(n, 1); code != 0 && row != 1 && row != 4 {
			b.input.modifiers[code] = true
		}
	}
	return b.input.modifiers
}

func (b *Bridge) releaseKeys() {
	for code, held := range b.input.keys {
		if held {
			b.fake(fakeKeyRelease, uint8(code), 0, 0)
		}
	}
	b.input.keys = [256]bool{}
}

func (b *Bridge) releaseButtons() {
	for n, held := range b.input.buttons {
		if held {
			b.fake(fakeButtonRelease, uint8(n), 0, 0)
		}
	}
	b.input.buttons = [256]bool{}
}

// releaseForgotten lets go of what a predecessor has left held.
func (b *Bridge) releaseForgotten() error {
	keys, pointer := b.App.QueryKeymapAsync(), b.App.QueryPointerAsync(b.App.Root())
	k, err := keys.Wait()
	if err != nil {
		return err
	}
	p, err := pointer.Wait()
	if err != nil {
		return err
	}
	b.input.keys, b.input.buttons = [256]bool{}, [256]bool{}
	for code := range 256 {
		b.input.keys[code] = k.Keys[code/8]&(1<<(code%8)) != 0
	}
	for n := 1; n <= 5; n++ {
		b.input.buttons[n] = uint32(p.Mask)&(0x80<<n) != 0
	}
	b.releaseKeys()
	b.releaseButtons()
	return nil
}
