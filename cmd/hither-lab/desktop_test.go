package main

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// desktopLab is a lab with desktops, and without daemons.
func desktopLab(t testing.TB, upArgs ...string) testLab {
	t.Helper()
	for _, p := range []tool{toolXvfb, toolXvnc, toolManager, toolBus, {"xterm", "xterm"}, {"xprop", "x11-utils"}} {
		if _, err := exec.LookPath(p.name); err != nil {
			t.Skipf("%s is not installed: `make deps` does it", p.name)
		}
	}
	l := unmadeLab(t)
	l.ok(append([]string{"up", "--no-daemon"}, upArgs...)...)
	return l
}

// shot is a picture of a host's desktop.
func (l testLab) shot(host string) image.Image {
	l.t.Helper()
	img, err := png.Decode(strings.NewReader(l.ok("shot", host, "-")))
	if err != nil {
		l.t.Fatalf("the picture of host %s: %v", host, err)
	}
	return img
}

// count is how many pixels have a colour, 0xRRGGBB.
func count(img image.Image, colour uint32) int {
	want := color.RGBA{byte(colour >> 16), byte(colour >> 8), byte(colour), 0xff}
	n := 0
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			if color.RGBAModel.Convert(img.At(x, y)) == want {
				n++
			}
		}
	}
	return n
}

const (
	testRed = 0xe01020
	// An xterm of 40 columns and 10 rows of 6x13 pixels, all of one colour.
	redXterm     = "setsid xterm -geometry 40x10+100+100 -bg '#e01020' -fg '#e01020' -e sleep 31415 >/dev/null 2>&1 &"
	redXtermArea = 40 * 6 * 10 * 13
)

func TestDesktops(t *testing.T) {
	before := traces(t)
	l := desktopLab(t)
	const damage = "xdpyinfo -queryExtensions | grep DAMAGE"
	if a, b := l.sh("a", damage), l.sh("b", damage); a == b {
		t.Errorf("both X servers have the same numbers: %s", a)
	}
	for i, h := range l.status().Hosts {
		other := l.status().Hosts[1-i].Name
		if d := h.Desktop; d == nil || d.ServerPID == 0 || d.BusPID == 0 || len(d.Missing) != 0 {
			t.Fatalf("host %s: desktop %+v", h.Name, d)
		}
		env := l.ok("exec", h.Name, "--", "env")
		for _, want := range []string{"DISPLAY=" + h.Desktop.Display, "XAUTHORITY=" + h.Desktop.Authority, "DBUS_SESSION_BUS_ADDRESS=" + h.Desktop.Bus} {
			if !strings.Contains(env, want+"\n") {
				t.Errorf("host %s: no %s in:\n%s", h.Name, want, env)
			}
		}
		if got := l.sh(h.Name, "xdpyinfo"); strings.Contains(got, "VNC-EXTENSION") != (h.Name == "b") {
			t.Errorf("host %s has the X server\n%s", h.Name, got)
		}
		if _, _, status := l.try("exec", "-e", "XAUTHORITY=/dev/null", h.Name, "--", "xprop", "-root"); status == 0 {
			t.Errorf("host %s: the display opens without its cookie", h.Name)
		}
		if got := l.sh(h.Name, "xprop -root _NET_WORKAREA; dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetId"); !strings.Contains(got, "1280, 800") || !strings.Contains(got, "string") {
			t.Errorf("host %s: window manager and bus say %q", h.Name, got)
		}
		l.sh(h.Name, redXterm)
		eventually(t, "a red window is in the picture of host "+h.Name, func() bool {
			n := count(l.shot(h.Name), testRed)
			return n >= redXtermArea && n < 2*redXtermArea
		})
		img := l.shot(h.Name)
		if size := img.Bounds().Size(); size != image.Pt(1280, 800) || count(img, backgrounds[i]) < 800_000 {
			t.Errorf("host %s: a picture of %v with %d pixels of background", h.Name, size, count(img, backgrounds[i]))
		}
		if i == 0 && count(l.shot(other), testRed) != 0 {
			t.Errorf("the window of host %s is on host %s", h.Name, other)
		}
	}
	namespaces := l.namespaces()
	l.ok("down")
	l.allGone(before, namespaces)
}

func TestDesktopEndsAndStarts(t *testing.T) {
	t.Parallel()
	l := desktopLab(t)
	old := l.status().Hosts[0].Desktop
	l.sh("a", redXterm)
	l.ok("kill", "a", "desktop")
	if s := l.status(); s.Hosts[0].Desktop.ServerPID != 0 || s.Hosts[1].Desktop.ServerPID == 0 {
		t.Errorf("after the end of a's X server: %+v, %+v", s.Hosts[0].Desktop, s.Hosts[1].Desktop)
	}
	if _, errs, status := l.try("shot", "a", "-"); status != 1 || !strings.Contains(errs, "start") {
		t.Errorf("a picture of no desktop: %d %q", status, errs)
	}
	if _, errs, status := l.try("kill", "a", "desktop"); status != 1 || !strings.Contains(errs, "no desktop runs") {
		t.Errorf("killing no desktop: %d %q", status, errs)
	}
	l.ok("start", "a", "desktop")
	now := l.status().Hosts[0].Desktop
	if now.ServerPID == 0 || now.ServerPID == old.ServerPID || now.BusPID != old.BusPID {
		t.Errorf("the desktop was %+v and is %+v", old, now)
	}
	if got := l.sh("a", "xprop -root _NET_SUPPORTING_WM_CHECK"); !strings.Contains(got, "window id") {
		t.Errorf("the new desktop has no window manager: %q", got)
	}

	// The window manager alone is started again too.
	l.sh("a", "p=$(xprop -root -notype _OPENBOX_PID | sed 's/.*= //'); kill -9 $p; while kill -0 $p 2>/dev/null; do sleep 0.01; done")
	l.ok("start", "a", "desktop")
	l.sh("a", redXterm)
	if w := l.person("a").do("focus xterm").Window; w.Y < 110 { // it is put at 100
		t.Errorf("a window without a title bar: %+v", w)
	}

	l.ok("kill", "a", "all")
	l.ok("start", "a")
	if d := l.status().Hosts[0].Desktop; d.ServerPID == 0 || d.BusPID == 0 {
		t.Errorf("after the boot: %+v", d)
	}
	if n := count(l.shot("a"), backgrounds[0]); n != 1280*800 {
		t.Errorf("after the boot %d pixels of background", n)
	}
}

func TestDesktopLacksPrograms(t *testing.T) {
	t.Parallel()
	l := desktopLab(t)
	// As on a machine where they are not installed.
	reboot := func(host string, hidden ...tool) *desktopStatus {
		t.Helper()
		l.ok("kill", host, "all")
		for _, p := range hidden {
			path, err := exec.LookPath(p.name)
			if err != nil {
				t.Fatal(err)
			}
			l.ok("hide", host, path)
		}
		l.ok("start", host)
		for _, h := range l.status().Hosts {
			if h.Name == host {
				return h.Desktop
			}
		}
		return nil
	}
	d := reboot("b", toolXvnc)
	if d.Server != toolXvfb.name || d.ServerPID == 0 || strings.Join(d.Packages, " ") != toolXvnc.pkg {
		t.Errorf("without Xvnc: %+v", d)
	}
	d = reboot("b", toolXvfb, toolManager, toolBus)
	if d.Display != "" || d.Bus != "" || strings.Join(d.Missing, " ") != "Xtigervnc openbox dbus-daemon" {
		t.Errorf("without anything: %+v", d)
	}
	if env := l.ok("exec", "b", "--", "env"); strings.Contains(env, "DISPLAY") || strings.Contains(env, "DBUS") {
		t.Errorf("without a desktop the environment is:\n%s", env)
	}
	if got := l.ok("status"); !strings.Contains(got, "apt-get install tigervnc-standalone-server openbox dbus-daemon") || !strings.Contains(got, "no desktop") {
		t.Errorf("status: %s", got)
	}
	if _, errs, status := l.try("shot", "b", "-"); status != 1 || !strings.Contains(errs, "no desktop") {
		t.Errorf("a picture of no desktop: %d %q", status, errs)
	}
}

func TestNoDesktop(t *testing.T) {
	l := newLab(t) // --no-desktop
	if h := l.status().Hosts[0]; h.Desktop != nil || h.Procs != 0 {
		t.Errorf("a host without a desktop: %+v", h)
	}
	if _, errs, status := l.try("start", "a", "desktop"); status != 1 || !strings.Contains(errs, "--no-desktop") {
		t.Errorf("starting a desktop that was not wanted: %d %q", status, errs)
	}
	if env := l.ok("exec", "a", "--", "env"); strings.Contains(env, "DISPLAY") {
		t.Errorf("environment: %s", env)
	}
}

func TestShotFile(t *testing.T) {
	l := desktopLab(t, "--hosts", "1")
	// A folder that only who calls can write.
	file := filepath.Join(t.TempDir(), "a.png")
	l.ok("shot", "a", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.DecodeConfig(bytes.NewReader(data)); err != nil {
		t.Errorf("%d bytes are no picture: %v", len(data), err)
	}
	if part, err := png.Decode(strings.NewReader(l.ok("shot", "a", "-", "1270", "0", "10", "20"))); err != nil || part.Bounds() != image.Rect(0, 0, 10, 20) {
		t.Errorf("a part of a picture: %v, %v", part, err)
	}
	if _, errs, status := l.try("shot", "a", "-", "1270", "0", "11", "20"); status != 1 || !strings.Contains(errs, "no part") {
		t.Errorf("a part that is beyond the desktop: %d %q", status, errs)
	}
	if _, errs, status := l.try("shot", "z", file); status != 1 || !strings.Contains(errs, `no host "z"`) {
		t.Errorf("a picture of a host that is not there: %d %q", status, errs)
	}
}

func BenchmarkUpDownDesktop(b *testing.B) {
	l := desktopLab(b)
	l.ok("down")
	for b.Loop() {
		l.ok("up", "--no-daemon")
		l.ok("down")
	}
}
