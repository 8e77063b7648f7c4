package daemon

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"hither/engine/control"
)

// manager answers as systemd's manager of a user does.
type manager struct{ env []string }

func (m manager) Get(iface, property string) (dbus.Variant, *dbus.Error) {
	if iface != "org.freedesktop.systemd1.Manager" || property != "Environment" {
		return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
	}
	return dbus.MakeVariant(m.env), nil
}

// TestDesktopOfTheSession: a daemon that was started without a desktop, as a service is at login, finds
// the one that the session manager knows of.
func TestDesktopOfTheSession(t *testing.T) {
	server, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is missing")
	}
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	address := "unix:path=" + filepath.Join(dir, "bus")
	bus := exec.Command(server, "--session", "--nofork", "--address="+address, "--print-address=1")
	said, err := bus.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Process.Kill(); bus.Wait() })
	if _, err := said.Read(make([]byte, 256)); err != nil {
		t.Fatal(err)
	}
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	// A desktop is there if something listens where its X server would; no such number is in use.
	x, err := net.Listen("unix", "@/tmp/.X11-unix/X58231")
	if err != nil {
		t.Skip("another run has the display:", err)
	}
	defer x.Close()
	env := []string{"LANG=C", "DISPLAY=:58231", "XAUTHORITY=/nowhere", "DBUS_SESSION_BUS_ADDRESS=" + address}
	if err := conn.Export(manager{env}, "/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties"); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{}
	d.ctx, d.cancel = context.WithCancel(t.Context())
	defer d.cancel()
	if got := d.atDesktop(); got != nil {
		t.Fatalf("without a session manager: %q", got)
	}
	d.work.Wait()
	if _, err := conn.RequestName("org.freedesktop.systemd1", 0); err != nil {
		t.Fatal(err)
	}
	if got := d.atDesktop(); got != nil {
		t.Fatalf("asked again at once: %q", got)
	}
	d.looked = time.Now().Add(-2 * desktopPause)
	d.atDesktop()
	d.work.Wait()
	if got, want := d.atDesktop(), env[1:]; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if !d.hasDesktop() {
		t.Error("windows would be seen here, and it says no")
	}
	x.Close()
	if d.hasDesktop() {
		t.Error("the desktop has ended, and it says that windows would be seen")
	}
}

// TestDesktopOfTheStart: before hither is used, the desktop is the one that the daemon was started on.
func TestDesktopOfTheStart(t *testing.T) {
	x, err := net.Listen("unix", "@/tmp/.X11-unix/X58232")
	if err != nil {
		t.Skip("another run has the display:", err)
	}
	defer x.Close()
	t.Setenv("DISPLAY", ":58232")
	d := &Daemon{began: control.DesktopOf(os.Environ())}
	if got := displayOf(d.atDesktop()); got != ":58232" {
		t.Errorf("the desktop is %q", got)
	}
	d.desktop = []string{"DISPLAY=:58233"} // has ended
	if got := displayOf(d.atDesktop()); got != ":58232" {
		t.Errorf("after the one that was used has ended, the desktop is %q", got)
	}
}
