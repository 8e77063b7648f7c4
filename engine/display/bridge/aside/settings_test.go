package aside

import (
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
	"hither/engine/display/xsettings"
	"hither/engine/display/xwire"
)

// insideSettings reads what the capsule's apps read.
func insideSettings(t testing.TB, app *server) (owner xwire.Window, list map[string]xsettings.Setting, resources string) {
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
	all, _, err := xsettings.Parse(p.Value)
	ok(t, err)
	list = map[string]xsettings.Setting{}
	for _, s := range all {
		list[s.Name] = s
	}
	return r.Owner, list, string(res.Value)
}

func setResources(t testing.TB, desk *server, text string) {
	c := desk.dial(t)
	ok(t, c.ChangePropertyChecked(xwire.PropModeReplace, c.Root(), xwire.AtomResourceManager, xwire.AtomString, 8, []byte(text)))
}

// awaitSettings waits until the settings inside, or the resources, are as wanted.
func awaitSettings(t testing.TB, app *server, wanted func(list map[string]xsettings.Setting, resources string) bool) {
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
	if list["Xft/DPI"].Number != 144*1024 || list["Gdk/WindowScalingFactor"].Number != 1 {
		t.Errorf("settings %v", list)
	}
	if resources != "*cursorTheme: none\nXft.dpi:\t144\nXTerm*background: pink\n" {
		t.Errorf("resources %q", resources)
	}
	setResources(t, desk, "Xft.dpi: 96.5\n")
	awaitSettings(t, app, func(list map[string]xsettings.Setting, resources string) bool {
		return list["Xft/DPI"].Number == 98816 && resources == "Xft.dpi: 96.5\n"
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
	if window == 0 || list["Xft/DPI"].Number != 96*1024 {
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
	awaitSettings(t, app, func(list map[string]xsettings.Setting, _ string) bool {
		return list["Net/ThemeName"].Text == "First" && list["Xft/DPI"].Number == 196608 && list["Gdk/WindowScalingFactor"].Number == 2
	})
	if _, list, _ := insideSettings(t, app); list["Gtk/IMModule"].Name != "" {
		t.Error("a setting that has no meaning inside was carried")
	}
	write("Second")
	awaitHandler(t, cmd.Process.Pid, syscall.SIGHUP) // it would end by it
	ok(t, cmd.Process.Signal(syscall.SIGHUP))
	awaitSettings(t, app, func(list map[string]xsettings.Setting, _ string) bool { return list["Net/ThemeName"].Text == "Second" })
	ok(t, cmd.Process.Kill()) // and it is as without
	awaitSettings(t, app, func(list map[string]xsettings.Setting, _ string) bool {
		return list["Net/ThemeName"].Text == "" && list["Xft/DPI"].Number == 96*1024
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
		if again != window || list["Xft/DPI"].Number != 120*1024 {
			t.Errorf("on the next desktop: window %#x, before %#x, %v", again, window, list)
		}
		a.Close()
	}
}

func TestChanged(t *testing.T) {
	one := changed(nil, []xsettings.Setting{{Name: "b", Number: 1}, {Name: "a", Number: 2}}, 1)
	if again := changed(one, []xsettings.Setting{{Name: "a", Number: 2}, {Name: "b", Number: 1}}, 2); again != nil {
		t.Errorf("nothing changed, but %v", again)
	}
	two := changed(one, []xsettings.Setting{{Name: "a", Number: 3}, {Name: "b", Number: 1}}, 2)
	if want := []xsettings.Setting{{Name: "a", Number: 3, Serial: 2}, {Name: "b", Number: 1, Serial: 1}}; !reflect.DeepEqual(two, want) {
		t.Errorf("%v", two)
	}
}
