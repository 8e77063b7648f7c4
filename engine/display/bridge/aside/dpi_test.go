package aside

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"hither/engine/display/xservers"
	"hither/engine/display/xsettings"
	"hither/engine/display/xwire"
)

func TestKeepScaleResources(t *testing.T) {
	for _, c := range []struct{ desk, had, want string }{
		{"a: b\nXft.dpi: 192\nXcursor.size: 48\nc: d", "Xft.dpi: 96\ne: f\n", "a: b\nc: d\nXft.dpi: 96\n"},
		{"", "Xcursor.size: 24\nXft.dpi: 96", "Xcursor.size: 24\nXft.dpi: 96\n"},
		{"Xft.dpi: 192\n", "", ""},
	} {
		if got := keepScaleResources(c.desk, c.had); got != c.want {
			t.Errorf("%q with the scale of %q: %q", c.desk, c.had, got)
		}
	}
	for _, c := range []struct{ had, want string }{
		{"", "Xft.dpi:\t144\n"}, {"a: b", "a: b\nXft.dpi:\t144\n"}, {"Xft.dpi: 96\n", "Xft.dpi: 96\n"},
	} {
		if got := withDPI(c.had, 144); got != c.want {
			t.Errorf("%q that say 144: %q", c.had, got)
		}
	}
}

// TestKeepsScale: apps that do not follow are told of everything of a desktop but its
// scale, until they may.
func TestKeepsScale(t *testing.T) {
	program := xservers.Need(t, "xsettingsd")
	app, desk := startXvfb(t), startXvnc(t)
	setResources(t, desk, "XTerm*background: pink\n")
	config := filepath.Join(t.TempDir(), "xsettingsd.conf")
	ok(t, os.WriteFile(config, []byte("Net/ThemeName \"First\"\nXft/DPI 196608\nGdk/WindowScalingFactor 2\n"), 0o600))
	cmd := exec.Command(program, "-c", config)
	cmd.Env = append(os.Environ(), "DISPLAY="+desk.Display)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	ok(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })

	var keeps atomic.Bool
	keeps.Store(true)
	told := make(chan float64, 10)
	a, err := Open(testContext(t), Options{
		Socket:     app.Socket(),
		Desk:       func(ctx context.Context) (*xwire.Conn, error) { return xwire.Dial(ctx, desk.Display, "") },
		KeepsScale: func(desk, had float64) bool { return keeps.Load() && desk != had },
		DPI:        func(dpi float64) { told <- dpi },
	})
	ok(t, err)
	t.Cleanup(a.Close)
	had := ""
	awaitSettings(t, app, func(list map[string]xsettings.Setting, resources string) bool {
		had = fmt.Sprintf("%d %d %s", list["Xft/DPI"].Number/1024, list["Gdk/WindowScalingFactor"].Number, resources)
		return list["Net/ThemeName"].Text == "First"
	})
	if had != "100 1 XTerm*background: pink\n" { // Xvfb's own
		t.Errorf("the scale is %s", had)
	}
	for dpi := 0.0; dpi != 192; dpi = <-told {
	}
	keeps.Store(false)
	a.Refresh()
	awaitSettings(t, app, func(list map[string]xsettings.Setting, resources string) bool {
		return list["Xft/DPI"].Number == 196608 && list["Gdk/WindowScalingFactor"].Number == 2 && resources == "XTerm*background: pink\nXft.dpi:\t192\n"
	})
}
