package bridge

import (
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

// setLayout gives a server a keymap as desktops do.
func setLayout(t testing.TB, s *xservers.Server, args ...string) {
	t.Helper()
	path, err := exec.LookPath("setxkbmap")
	if err != nil {
		t.Skip("setxkbmap is not installed")
	}
	if out, err := exec.Command(path, append([]string{"-display", s.Display}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("setxkbmap %v: %v: %s", args, err, out)
	}
}

// keymapOf is what xkbcomp prints of a keymap, without the geometry.
func keymapOf(t testing.TB, s *xservers.Server) string {
	t.Helper()
	out, err := exec.Command("xkbcomp", s.Display, "-").Output()
	if err != nil {
		t.Skipf("xkbcomp: %v", err)
	}
	text, _, _ := strings.Cut(string(out), "xkb_geometry")
	return text
}

// sameKeymap fails unless each key has the same symbols in both servers, in each
// group and on each level, and all else is the same too.
func sameKeymap(t testing.TB, got, want *xservers.Server) {
	t.Helper()
	a, b := strings.Split(keymapOf(t, got), "\n"), strings.Split(keymapOf(t, want), "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Errorf("the keymaps differ in line %d: %q, wanted %q", i+1, a[min(i, len(a)-1)], b[min(i, len(b)-1)])
			return
		}
	}
	core := func(s *xservers.Server) []xwire.Keysym {
		c := dial(t, s)
		defer c.Close()
		setup := c.Setup()
		m := must(c.GetKeyboardMapping(setup.MinKeycode, uint8(setup.MaxKeycode-setup.MinKeycode)+1))(t)
		return m.Keysyms
	}
	if x, y := core(got), core(want); !slices.Equal(x, y) {
		t.Errorf("clients of the core protocol see other keys")
	}
}

// keymapBench is a keymap without windows, whose events are given to it by drive.
func keymapBench(t testing.TB, app, desk *xservers.Server) (*Bridge, *keymap) {
	t.Helper()
	b := &Bridge{App: dial(t, app, xwire.Xkb, xwire.XTest), Desk: dial(t, desk, xwire.Xkb, xwire.XTest), log: slog.New(slog.DiscardHandler)}
	f, err := newKeymap(b)
	if err != nil {
		t.Fatal(err)
	}
	return b, f.(*keymap)
}

// drive has the keymap see all that has happened on the desktop.
func drive(t testing.TB, k *keymap) (events int) {
	t.Helper()
	if err := k.b.Desk.Sync(); err != nil {
		t.Fatal(err)
	}
	list, err := k.b.Desk.TakeEvents()
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range list {
		if k.desk(ev) {
			events++
		}
	}
	if err := k.b.App.Sync(); err != nil {
		t.Fatal(err)
	}
	return events
}

func TestKeymap(t *testing.T) {
	for name, start := range map[string]func(testing.TB, string, ...string) *xservers.Server{"Xvfb": xservers.Xvfb, "Xvnc": xservers.Xvnc} {
		t.Run(name, func(t *testing.T) {
			app, desk := xservers.Xvfb(t, size), start(t, size)
			setLayout(t, desk, "-layout", "de,us", "-option", "grp:alt_shift_toggle")
			b, k := keymapBench(t, app, desk)
			sameKeymap(t, app, desk)
			if m := must(b.App.GetKeyboardMapping(21, 1))(t); m.Keysyms[0] != 0xfe51 {
				t.Errorf("the acute accent is %#x and not dead", m.Keysyms)
			}
			if c := must(b.App.XkbGetControls(xwire.CoreKeyboard))(t); c.EnabledControls&xwire.XkbBoolCtrlRepeatKeys != 0 {
				t.Error("the app's server repeats keys")
			}
			// Each change is followed, and the end of many as well.
			for _, args := range [][]string{
				{"-layout", "fr", "-option", ""}, {"-layout", "us", "-variant", "dvorak"}, {"-layout", "ru,de,gr,us"},
				{"-layout", "us", "-option", "caps:swapescape,compose:ralt,level3:menu_switch"}, {"-layout", "us", "-option", ""},
			} {
				setLayout(t, desk, args...)
				if drive(t, k) == 0 {
					t.Errorf("no event tells of %v", args)
				}
				sameKeymap(t, app, desk)
			}
			for _, layout := range []string{"fr", "es", "ch", "jp", "de"} {
				setLayout(t, desk, "-layout", layout)
			}
			drive(t, k)
			sameKeymap(t, app, desk)
			// One key, as xmodmap changes it.
			if err := b.Desk.ChangeKeyboardMappingChecked(1, 24, 2, []xwire.Keysym{'x', 'X'}); err != nil {
				t.Fatal(err)
			}
			drive(t, k)
			sameKeymap(t, app, desk)
			if m := must(b.App.GetKeyboardMapping(24, 1))(t); m.Keysyms[0] != 'x' {
				t.Errorf("the key has %#x", m.Keysyms)
			}
		})
	}
}

func locks(t testing.TB, c *xwire.Conn) (xwire.XkbGroup, xwire.ModMask) {
	t.Helper()
	s := must(c.XkbGetState(xwire.CoreKeyboard))(t)
	return s.LockedGroup, s.LockedMods
}

func TestLocks(t *testing.T) {
	app, desk := xservers.Xvfb(t, size), xservers.Xvnc(t, size)
	setLayout(t, desk, "-layout", "de,us")
	lock := func(c *xwire.Conn, mods xwire.ModMask, group xwire.XkbGroup) {
		t.Helper()
		if err := c.XkbLatchLockStateChecked(xwire.CoreKeyboard, allMods, mods, true, group, 0, false, 0); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, mods xwire.ModMask, group xwire.XkbGroup) {
		t.Helper()
		c := dial(t, app, xwire.Xkb)
		defer c.Close()
		if g, m := locks(t, c); g != group || m != mods {
			t.Errorf("%s: group %d, locks %#x, wanted %d, %#x", when, g, m, group, mods)
		}
	}
	user, inside := dial(t, desk, xwire.Xkb), dial(t, app, xwire.Xkb)
	lock(user, xwire.ModMaskLock|xwire.ModMask2, 1)
	lock(inside, xwire.ModMaskShift, 3) // left behind by another desktop
	b, k := keymapBench(t, app, desk)
	if err := b.App.Sync(); err != nil {
		t.Fatal(err)
	}
	want("after the attach", xwire.ModMaskLock|xwire.ModMask2, 1)
	lock(user, 0, 0)
	drive(t, k)
	want("without the focus", xwire.ModMaskLock|xwire.ModMask2, 1)
	b.focus = &window{}
	k.focus(true)
	if err := b.App.Sync(); err != nil {
		t.Fatal(err)
	}
	want("with the focus", 0, 0)
	lock(user, xwire.ModMask2, 1)
	drive(t, k)
	want("while it has the focus", xwire.ModMask2, 1)
}

// TestTyped: keys that lock, shift levels and groups, played on the desktop, mean
// the same inside, again and again.
func TestTyped(t *testing.T) {
	b := newBench(t, xservers.Xvnc(t, size), true)
	setLayout(t, b.desk, "-layout", "de,us", "-option", "grp:caps_toggle,lv3:ralt_switch")
	b.start()
	w := b.appWindow("typed", rect{0, 0, 200, 100}, 0x808080, nil)
	_, at := b.ready("typed", w)
	b.click(at.x+10, at.y+10)
	b.focused(w)
	if err := b.app.Use(xwire.Xkb); err != nil {
		t.Fatal(err)
	}
	if err := b.user.Use(xwire.Xkb); err != nil {
		t.Fatal(err)
	}
	const caps, q, altGr, numLock = 66, 24, 108, 77
	tap := func(key uint8) {
		b.hand(fakeKeyPress, key, 0, 0)
		b.hand(fakeKeyRelease, key, 0, 0)
	}
	// The group and the modifiers that come with Q decide what it is.
	typed := func() (group, state uint16) {
		t.Helper()
		tap(q)
		e := await(t, b.app, func(e *xwire.KeyPressEvent) bool { return e.Event == w && e.Detail == q })
		return uint16(e.State) >> 13 & 3, uint16(e.State) & 0xff
	}
	for i := range 6 {
		if group, state := typed(); group != uint16(i%2) || state&0x80 != 0 {
			t.Errorf("round %d: Q came with the group %d and %#x", i, group, state)
		}
		b.hand(fakeKeyPress, altGr, 0, 0)
		_, state := typed()
		b.hand(fakeKeyRelease, altGr, 0, 0)
		if state&0x80 == 0 {
			t.Errorf("round %d: AltGr is not seen: %#x", i, state)
		}
		tap(caps)
		tap(numLock)
		if _, err := b.user.GetInputFocus(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the same locks", func() bool {
			g1, m1 := locks(t, b.user)
			g2, m2 := locks(t, b.app)
			return g1 == g2 && m1 == m2 && g1 == xwire.XkbGroup((i+1)%2)
		})
	}
}

// BenchmarkKeymap is what carrying the desktop's keymap costs an attach.
func BenchmarkKeymap(b *testing.B) {
	_, k := keymapBench(b, xservers.Xvfb(b, size), xservers.Xvnc(b, size))
	for b.Loop() {
		if err := k.carry(); err != nil {
			b.Fatal(err)
		}
	}
}
