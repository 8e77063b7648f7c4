package xwire

import (
	"os/exec"
	"reflect"
	"strings"
	"testing"
)

// press sends a key or button by XTEST.
func press(c *Conn, kind, detail uint8) {
	c.XTestFakeInput(kind, detail, 0, c.Root(), 0, 0, 0)
}

func TestKeysAndPointer(t *testing.T) {
	onBoth(t, func(t *testing.T, s *server) {
		c := s.dial(XTest, XInput)
		w := window(t, c, 200, 100, EventMaskKeyPress|EventMaskKeyRelease|EventMaskButtonPress|EventMaskFocusChange|EventMaskKeymapState)
		c.SetInputFocus(InputFocusParent, w, TimeCurrentTime)
		await[*FocusInEvent](t, c, nil)
		await[*KeymapNotifyEvent](t, c, nil)
		press(c, 2, 38)
		press(c, 3, 38)
		if e := await[*KeyPressEvent](t, c, nil); e.Detail != 38 || e.Event != w || e.State != 0 || !e.SameScreen {
			t.Errorf("pressed %+v", e)
		}
		if e := await[*KeyReleaseEvent](t, c, nil); e.Detail != 38 {
			t.Errorf("released %+v", e)
		}

		// XInput2: motion and wheel, as valuators.
		devices := must(c.XIQueryDevice(XIDeviceAll))(t)
		if len(devices.Infos) < 2 || devices.Infos[0].Name == "" || len(devices.Infos[0].Classes) == 0 {
			t.Errorf("devices %+v", devices)
		}
		ok(t, c.Sync())
		c.XISelectEvents(w, []XIDeviceEventMask{{Deviceid: XIDeviceAllMaster, Mask: []XIEventMask{XIEventMaskMotion | XIEventMaskButtonPress | XIEventMaskKeyPress}}})
		c.XTestFakeInput(6, 0, 0, c.Root(), 40, 60, 0)
		e := await[*XIMotionEvent](t, c, nil)
		if e.Event != w || e.RootX.Float() != 40 || e.EventY.Float() != 40 {
			t.Errorf("moved %+v", e)
		}
		if v := Valuators(e.ValuatorMask, e.Axisvalues); v[0] != 40 || v[1] != 60 {
			t.Errorf("valuators %v", v)
		}
		press(c, 4, 5)
		press(c, 5, 5)
		if e := await[*XIButtonPressEvent](t, c, nil); e.Detail != 5 || e.Child != 0 {
			t.Errorf("button %+v", e)
		}
		q := must(c.QueryPointer(w))(t)
		if q.RootX != 40 || q.WinY != 40 || !q.SameScreen {
			t.Errorf("pointer %+v", q)
		}
		grab := must(c.GrabPointer(true, w, EventMaskButtonPress, GrabModeAsync, GrabModeAsync, WindowNone, CursorNone, TimeCurrentTime))(t)
		if grab.Status != GrabStatusSuccess {
			t.Errorf("grab %+v", grab)
		}
		c.UngrabPointer(TimeCurrentTime)
	})
}

// A scrolling device is found by its classes.
func TestScrollClass(t *testing.T) {
	e := &encoder{}
	e.u16(uint16(XIDeviceClassTypeScroll))
	e.u16(6)
	e.u16(2)
	e.u16(3) // valuator
	e.u16(XIScrollTypeVertical)
	e.pad(2)
	e.u32(XIScrollFlagsPreferred)
	e.i32(-15)
	e.u32(1 << 31)
	var class XIDeviceClass
	d := &decoder{b: e.b}
	class.decode(d)
	got, is := class.Scroll()
	if want := (XIScroll{Number: 3, Type: 1, Flags: 2, Increment: -14.5}); !is || got != want || d.left() != 0 || d.err != nil {
		t.Errorf("%+v, wanted %+v", got, want)
	}
}

func TestKeyboard(t *testing.T) {
	program, err := exec.LookPath("setxkbmap")
	if err != nil {
		t.Skip("setxkbmap is not installed")
	}
	from, to := startXvnc(t), startXvfb(t)
	a, b := from.dial(Xkb, XTest), to.dial(Xkb, XTest)
	cmd := exec.Command(program, "-display", from.Display, "-layout", "de,ru", "-option", "grp:alt_shift_toggle,caps:swapescape")
	cmd.Env = append(cmd.Environ(), "XAUTHORITY="+from.auth)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("setxkbmap: %v: %s", err, out)
	}
	b.XkbSelect(0xfff, XkbEventTypeStateNotify|XkbEventTypeMapNotify|XkbEventTypeNewKeyboardNotify|XkbEventTypeNamesNotify)
	k := must(a.ReadKeyboard())(t)
	ok(t, b.WriteKeyboard(k))
	await[*XkbMapNotifyEvent](t, b, nil)
	copied := must(b.ReadKeyboard())(t)
	compareKeyboards(t, copied, k)
	if text, want := dump(t, to), dump(t, from); text != want {
		a, b := strings.Split(text, "\n"), strings.Split(want, "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Errorf("xkbcomp prints another keymap, line %d: %s, wanted %s", i+1, a[i], b[i])
			}
		}
	}

	// AltGr+Q is @, on the third level of the first group.
	w := window(t, b, 50, 50, EventMaskKeyPress)
	b.SetInputFocus(InputFocusParent, w, TimeCurrentTime)
	press(b, 2, 108)
	state := await(t, b, func(e *XkbStateNotifyEvent) bool { return e.Mods != 0 })
	if state.Mods != ModMask5 {
		t.Errorf("AltGr gives the modifiers %#x", state.Mods)
	}
	press(b, 2, 24)
	press(b, 3, 24)
	press(b, 3, 108)
	e := await(t, b, func(e *KeyPressEvent) bool { return e.Detail == 24 })
	if e.State != KeyButMaskMod5 {
		t.Errorf("pressed %+v", e)
	}
	m := must(b.GetKeyboardMapping(24, 1))(t)
	if len(m.Keysyms) < 6 || m.Keysyms[4] != '@' {
		t.Errorf("the key Q has %#x", m.Keysyms)
	}

	// The second group and a lock, set and taken back.
	b.XkbLatchLockState(CoreKeyboard, 0xff, ModMaskLock, true, 1, 0xff, true, 0)
	s := must(b.XkbGetState(CoreKeyboard))(t)
	if s.LockedGroup != 1 || s.LockedMods != ModMaskLock {
		t.Errorf("state %+v", s)
	}
	b.XkbLatchLockState(CoreKeyboard, 0xff, 0, true, 0, 0xff, true, 0)
	if s := must(b.XkbGetState(CoreKeyboard))(t); s.Group != 0 || s.Mods != 0 {
		t.Errorf("state %+v", s)
	}
	flags := must(b.XkbPerClientFlags(CoreKeyboard, XkbPerClientFlagDetectableAutoRepeat, XkbPerClientFlagDetectableAutoRepeat, 0, 0, 0))(t)
	if flags.Value&XkbPerClientFlagDetectableAutoRepeat == 0 {
		t.Errorf("flags %+v", flags)
	}
	// Auto-repeat off.
	controls := must(b.XkbGetControls(CoreKeyboard))(t)
	if controls.EnabledControls&XkbBoolCtrlRepeatKeys == 0 {
		t.Errorf("controls %+v", controls)
	}
	ok(t, b.SetAutoRepeat(false))
	if controls := must(b.XkbGetControls(CoreKeyboard))(t); controls.EnabledControls&XkbBoolCtrlRepeatKeys != 0 {
		t.Errorf("controls %+v", controls)
	}
}

func compareKeyboards(t *testing.T, got, want *Keyboard) {
	t.Helper()
	got.keys.DeviceID, got.compat.DeviceID, got.indicators.DeviceID, got.names.DeviceID = want.keys.DeviceID, want.compat.DeviceID, want.indicators.DeviceID, want.names.DeviceID
	got.indicators.RealIndicators = want.indicators.RealIndicators
	for _, pair := range [][2]any{{got.keys, want.keys}, {got.compat, want.compat}, {got.indicators, want.indicators}, {got.names, want.names}, {got.parts, want.parts}} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("the copy has\n%+v\nwanted\n%+v", pair[0], pair[1])
		}
	}
}

// dump is what xkbcomp prints of a keymap, without the geometry and what it
// says of the display.
func dump(t *testing.T, s *server) string {
	t.Helper()
	cmd := exec.Command("xkbcomp", s.Display, "-")
	cmd.Env = append(cmd.Environ(), "XAUTHORITY="+s.auth)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("xkbcomp: %v", err)
	}
	text, _, _ := strings.Cut(string(out), "xkb_geometry")
	return text
}
