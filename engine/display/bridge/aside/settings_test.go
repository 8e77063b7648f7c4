package aside

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

// insideSettings reads what the capsule's apps read.
func insideSettings(t testing.TB, app *server) (owner xwire.Window, list map[string]setting, resources string) {
	t.Helper()
	c := app.dial(t)
	defer c.Close()
	atoms, err := c.Atoms("_XSETTINGS_S0", "_XSETTINGS_SETTINGS")
	ok(t, err)
	r, err := c.GetSelectionOwner(atoms[0])
	ok(t, err)
	res, err := c.GetProperty(false, c.Root(), xwire.AtomResourceManager, xwire.AtomString, 0, 1<<20)
	ok(t, err)
	if r.Owner == 0 {
		return 0, nil, string(res.Value)
	}
	p, err := c.GetProperty(false, r.Owner, atoms[1], atoms[1], 0, 1<<20)
	ok(t, err)
	all, _, err := parseSettings(p.Value)
	ok(t, err)
	list = map[string]setting{}
	for _, s := range all {
		list[s.name] = s
	}
	return r.Owner, list, string(res.Value)
}

func setResources(t testing.TB, desk *server, text string) {
	c := desk.dial(t)
	ok(t, c.ChangePropertyChecked(xwire.PropModeReplace, c.Root(), xwire.AtomResourceManager, xwire.AtomString, 8, []byte(text)))
}

// awaitSettings waits until the settings inside, or the resources, are as wanted.
func awaitSettings(t testing.TB, app *server, wanted func(list map[string]setting, resources string) bool) {
	t.Helper()
	c := app.dial(t)
	defer c.Close()
	c.ChangeWindowAttributes(c.Root(), xwire.WindowValues{Mask: xwire.CWEventMask, EventMask: xwire.EventMaskPropertyChange})
	watched := xwire.Window(0)
	for {
		owner, list, resources := insideSettings(t, app)
		if owner != watched {
			watched = owner
			c.ChangeWindowAttributes(watched, xwire.WindowValues{Mask: xwire.CWEventMask, EventMask: xwire.EventMaskPropertyChange})
			ok(t, c.Sync())
			continue
		}
		if wanted(list, resources) {
			return
		}
		if _, err := c.NextEvent(testContext(t)); err != nil {
			t.Fatalf("settings %v, resources %q: %v", list, resources, err)
		}
	}
}

// TestNoManager: a desktop without settings still says how large text is.
func TestNoManager(t *testing.T) {
	app, desk := startXvfb(t), startXvnc(t)
	setResources(t, desk, "*cursorTheme: none\nXft.dpi:\t144\nXTerm*background: pink\n")
	open(t, app, desk)
	_, list, resources := insideSettings(t, app)
	if list["Xft/DPI"].number != 144*1024 || list["Gdk/WindowScalingFactor"].number != 1 {
		t.Errorf("settings %v", list)
	}
	if resources != "*cursorTheme: none\nXft.dpi:\t144\nXTerm*background: pink\n" {
		t.Errorf("resources %q", resources)
	}
	setResources(t, desk, "Xft.dpi: 96.5\n")
	awaitSettings(t, app, func(list map[string]setting, resources string) bool {
		return list["Xft/DPI"].number == 98816 && resources == "Xft.dpi: 96.5\n"
	})
}

// awaitHandler waits until a process takes a signal.
func awaitHandler(t testing.TB, pid int, sig syscall.Signal) {
	t.Helper()
	for ctx := testContext(t); ; time.Sleep(time.Millisecond) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		ok(t, err)
		_, caught, _ := strings.Cut(string(status), "SigCgt:\t")
		mask, err := strconv.ParseUint(strings.Fields(caught)[0], 16, 64)
		ok(t, err)
		if mask&(1<<(sig-1)) != 0 {
			return
		}
		ok(t, ctx.Err())
	}
}

// TestManager: the settings of a real manager come, change, outlive us, and go on
// with those of the next desktop, in a window that stays the same.
func TestManager(t *testing.T) {
	program := xservers.Need(t, "xsettingsd")
	app, desk, next := startXvfb(t), startXvnc(t), startXvfb(t)
	config := filepath.Join(t.TempDir(), "xsettingsd.conf")
	write := func(theme string) {
		text := fmt.Sprintf("Net/ThemeName %q\nXft/DPI 196608\nGdk/WindowScalingFactor 2\nGtk/IMModule \"ibus\"\n", theme)
		ok(t, os.WriteFile(config, []byte(text), 0o600))
	}
	a := open(t, app, desk)
	window, list, _ := insideSettings(t, app)
	if window == 0 || list["Xft/DPI"].number != 96*1024 {
		t.Errorf("without a manager: %v", list)
	}
	write("First")
	cmd := exec.Command(program, "-c", config)
	cmd.Env = append(os.Environ(), "DISPLAY="+desk.Display)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	ok(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	awaitSettings(t, app, func(list map[string]setting, _ string) bool {
		return list["Net/ThemeName"].text == "First" && list["Xft/DPI"].number == 196608 && list["Gdk/WindowScalingFactor"].number == 2
	})
	if _, list, _ := insideSettings(t, app); list["Gtk/IMModule"].name != "" {
		t.Error("a setting that has no meaning inside was carried")
	}
	write("Second")
	awaitHandler(t, cmd.Process.Pid, syscall.SIGHUP) // it would end by it
	ok(t, cmd.Process.Signal(syscall.SIGHUP))
	awaitSettings(t, app, func(list map[string]setting, _ string) bool { return list["Net/ThemeName"].text == "Second" })
	ok(t, cmd.Process.Kill()) // and it is as without
	awaitSettings(t, app, func(list map[string]setting, _ string) bool {
		return list["Net/ThemeName"].text == "" && list["Xft/DPI"].number == 96*1024
	})

	ok(t, a.Part())
	a.Close()
	c := app.dial(t)
	if _, err := c.GetGeometry(xwire.Drawable(window)); err != nil {
		t.Errorf("the settings have gone with us: %v", err)
	}
	setResources(t, next, "Xft.dpi: 120\n")
	for range 2 {
		a := open(t, app, next)
		again, list, _ := insideSettings(t, app)
		if again != window || list["Xft/DPI"].number != 120*1024 {
			t.Errorf("on the next desktop: window %#x, before %#x, %v", again, window, list)
		}
		a.Close()
	}
}

func TestSettingsFormat(t *testing.T) {
	list := []setting{
		{name: "Net/ThemeName", kind: kindString, serial: 3, text: "Größe"},
		{name: "Xft/DPI", serial: 7, number: 98304},
		{name: "a", kind: kindColor, serial: 1, color: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}},
	}
	b := encodeSettings(list, 9)
	got, serial, err := parseSettings(b)
	if err != nil || serial != 9 || !reflect.DeepEqual(got, list) {
		t.Errorf("%v %d %v", got, serial, err)
	}
	for i := range b[:len(b)-1] {
		if _, _, err := parseSettings(b[:i]); err == nil {
			t.Errorf("the first %d bytes are taken for all", i)
		}
	}
	big := []byte{1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 'x', 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0}
	got, serial, err = parseSettings(big)
	if err != nil || serial != 5 || len(got) != 1 || got[0] != (setting{name: "x", serial: 2, number: 256}) {
		t.Errorf("big endian: %v %d %v", got, serial, err)
	}
}

func TestChanged(t *testing.T) {
	one := changed(nil, []setting{{name: "b", number: 1}, {name: "a", number: 2}}, 1)
	if again := changed(one, []setting{{name: "a", number: 2}, {name: "b", number: 1}}, 2); again != nil {
		t.Errorf("nothing changed, but %v", again)
	}
	two := changed(one, []setting{{name: "a", number: 3}, {name: "b", number: 1}}, 2)
	if want := []setting{{name: "a", number: 3, serial: 2}, {name: "b", number: 1, serial: 1}}; !reflect.DeepEqual(two, want) {
		t.Errorf("%v", two)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add(encodeSettings(leastSettings(96), 1))
	f.Add(encodeSettings([]setting{{name: "a", kind: kindString, text: "b"}, {name: "c", kind: kindColor}}, 1))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 'x', 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, serial, err := parseSettings(b)
		if err != nil {
			return
		}
		once := encodeSettings(list, serial)
		list, serial, err = parseSettings(once)
		if err != nil || !bytes.Equal(encodeSettings(list, serial), once) {
			t.Errorf("%q is not stable: %v", b, err)
		}
	})
}
