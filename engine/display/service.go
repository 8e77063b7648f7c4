package display

import (
	"fmt"
	"os/exec"
	"path"
)

// Service is a server that runs inside a capsule once something has called it.
type Service struct {
	Name    string   // for people
	Argv    []string // it is given its socket as systemd does, sd_listen_fds(3)
	Path    string   // of its socket, inside
	Mode    uint32   // of the socket's file
	Log     string   // where its output goes, inside; "": nowhere
	Litter  string   // what a predecessor that was killed may have left, inside
	Package string   // which has the program, on Debian
	Wants   string   // what the app wants that asks for it
}

// ServerPath is where X clients look for display :0, and ServerLog what the X
// server says. See Xserver(1).
const (
	ServerPath = "/tmp/.X11-unix/X0"
	serverLock = "/tmp/.X0-lock"
)

// Screen is the X server's: as wide as two desktops side by side, since windows
// are where they are on the user's desktop. Xvfb cannot change it later. It
// takes 35 MB of zeros.
const Screen = "4096x2160x24"

// Server is the X server. Only its path is listened on: Xlib and xcb try the abstract
// name first and take the path then, and the path is what can be reached from outside.
//
// Started by a caller it answers within 50 ms, or 95 ms with GLX (measured with
// Xvfb 21.1.7 on 2 slow cores). GLX takes 11 MB more, of which llvmpipe's apps have no other
// way to find their visuals: it stays. MIT-SHM is on, too.
func Server(runtimeDir string) Service {
	return Service{
		Name: "display server",
		// -nolisten local: no abstract name. -noreset: it goes on when the last
		// client has gone. -r: keys are repeated by the desktop's server, not by
		// this one, too. -s 0: no screen saver, which would wake up. -ac: who
		// reaches the socket is the app, or its user.
		Argv: []string{"Xvfb", ":0", "-screen", "0", Screen, "-nolisten", "tcp", "-nolisten", "local",
			"-noreset", "-r", "-s", "0", "-ac"},
		Path: ServerPath, Mode: 0o777, Log: path.Join(runtimeDir, ".hither-display.log"), Litter: serverLock,
		Package: "xvfb", Wants: "a display",
	}
}

// Bus is the session bus. What it starts inherits its output, so that goes nowhere.
func Bus(runtimeDir string) Service {
	return Service{
		Name: "session bus",
		Argv: []string{"dbus-daemon", "--session", "--address=systemd:", "--nofork", "--nopidfile", "--nosyslog"},
		Path: path.Join(runtimeDir, "bus"), Mode: 0o666,
		Package: "dbus-daemon", Wants: "a session bus",
	}
}

// Services are all, in the order of pid 1's descriptors.
func Services(runtimeDir string) []Service {
	return []Service{Server(runtimeDir), Bus(runtimeDir)}
}

// Missing is what a person is told when the program is not there.
func (s *Service) Missing() string {
	return fmt.Sprintf("this app wants %s: install %s (apt-get install %s)", s.Wants, s.Package, s.Package)
}

// Find looks for the program on this host.
func (s *Service) Find() (string, error) {
	p, err := exec.LookPath(s.Argv[0])
	for _, dir := range []string{"/usr/bin/", "/usr/local/bin/"} {
		if err == nil {
			break
		}
		p, err = exec.LookPath(dir + s.Argv[0])
	}
	return p, err
}

// Outside is the path by which a process outside, with this user's rights, reaches
// the server in the capsule whose pid 1 this is. To call it is to start it.
func (s *Service) Outside(initPid int) string { return fmt.Sprintf("/proc/%d/root%s", initPid, s.Path) }
