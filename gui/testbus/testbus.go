// Package testbus gives a test a D-Bus session bus of its own.
package testbus

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Start runs a bus until the end of the test, and says in the environment that it is the
// desktop's. Without dbus-daemon the test is skipped.
func Start(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	socket := filepath.Join(t.TempDir(), "bus")
	cmd := exec.Command(program, "--session", "--address=unix:path="+socket, "--nofork", "--nopidfile", "--nosyslog", "--print-address=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		cmd.Wait()                          //nolint:errcheck // by the signal
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("dbus-daemon did not start: %v", err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+socket)
}
