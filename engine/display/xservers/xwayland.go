package xservers

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Xwayland starts a Wayland desktop that serves X clients by Xwayland, as those of
// today do. What a person there sees and does is the screen's, which is another
// server: Xwayland shows its clients' windows one by one and has no picture of them
// all, nor a keyboard of its own.
func Xwayland(t testing.TB, size string) (desk, screen *Server) {
	t.Helper()
	weston := Need(t, "weston")
	Need(t, "Xwayland")
	width, height, _ := strings.Cut(size, "x")
	screen = Xvfb(t, "1"+width+"x"+height) // wider, so that there is a place outside
	dir := t.TempDir()
	config := filepath.Join(dir, "weston.ini")
	if err := os.WriteFile(config, []byte(westonConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(weston, "--backend=x11-backend.so", "--use-pixman", "--width="+width, "--height="+height, "--config="+config, "--socket=wayland")
	cmd.Env = append(os.Environ(), "DISPLAY="+screen.Display, "XDG_RUNTIME_DIR="+dir, "HOME="+dir, "WAYLAND_DISPLAY=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	write.Close()
	if err != nil {
		read.Close()
		t.Fatal(err)
	}
	desk = over(t, cmd)
	said := ""
	for log := bufio.NewReader(read); ; {
		line, err := log.ReadString('\n')
		said += line
		if err != nil {
			read.Close()
			t.Skipf("weston does not start here: %s", said)
		}
		if _, name, ok := strings.Cut(line, "xserver listening on display "); ok {
			desk.Display = strings.TrimSpace(name)
			go func() {
				_, _ = io.Copy(io.Discard, log)
				read.Close()
			}()
			return desk, screen
		}
	}
}

// westonConfig is one without anything that moves by itself.
const westonConfig = `[core]
idle-time=0
xwayland=true
[shell]
animation=none
close-animation=none
startup-animation=none
focus-animation=none
panel-position=none
locking=false
`
