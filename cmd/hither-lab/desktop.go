package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/display/xwire"
)

// A host's desktop is an X server that draws into memory, a window manager and a session bus. Host a
// has Xvfb, b has Xvnc, and so on in turn: their extensions have different event numbers, so what takes
// one desktop's numbers for another's is found out here. A connection needs the cookie in XAUTHORITY,
// as on most people's desktops.
//
// The window manager is openbox: it speaks the window managers' common language (EWMH) well, wants no
// session, settings daemon or toolkit of its own, is at work 60 ms after its start, and has title
// bars like those that people know.
//
// Displays of different hosts do not meet: each host has its own /tmp, and the abstract sockets belong
// to the network namespace. They are numbered by host all the same, and none is :0, so that nothing works
// because two displays happen to have the same name.

const (
	desktopSize = "1280x800"
	desktopWait = 20 * time.Second // it takes a fraction of a second
)

// tool is a program that a desktop is made of.
type tool struct{ name, pkg string }

var (
	toolXvfb    = tool{"Xvfb", "xvfb"}
	toolXvnc    = tool{"Xtigervnc", "tigervnc-standalone-server"}
	toolManager = tool{"openbox", "openbox"}
	toolBus     = tool{"dbus-daemon", "dbus-daemon"}
)

// backgrounds are plain, and differ from host to host so that pictures of them can be told apart.
var backgrounds = []uint32{0x3b5a75, 0x2f6b5e, 0x6b4f6e, 0x75603b}

// desktop is what a host's desktop is made of; where a program is missing, its path is "".
type desktop struct {
	number              int
	uid                 int
	server              tool
	serverAt, wmAt, bus string
	missing             []tool
}

// planDesktop looks which programs there are. Without a host's own kind of X server it takes the other.
func (w *warden) planDesktop() desktop {
	d := desktop{number: w.spec.Number, uid: w.uid}
	if !w.spec.Desktop {
		return d
	}
	find := func(t tool) string {
		path, err := lookUp(t.name, w.spec.path(), "/")
		if err != nil {
			d.missing = append(d.missing, t)
			return ""
		}
		return path
	}
	servers := []tool{toolXvfb, toolXvnc}
	if d.number%2 == 0 || w.spec.VNC != "" {
		servers = []tool{toolXvnc, toolXvfb}
	}
	d.server = servers[0]
	if d.serverAt = find(servers[0]); d.serverAt == "" {
		if path, err := lookUp(servers[1].name, w.spec.path(), "/"); err == nil {
			d.server, d.serverAt = servers[1], path
		}
	}
	d.wmAt, d.bus = find(toolManager), find(toolBus)
	return d
}

func (d desktop) display() string    { return ":" + strconv.Itoa(d.number) }
func (d desktop) socket() string     { return "/tmp/.X11-unix/X" + strconv.Itoa(d.number) }
func (d desktop) authority() string  { return filepath.Join(runtimeDir(d.uid), "Xauthority") }
func (d desktop) busSocket() string  { return filepath.Join(runtimeDir(d.uid), "bus") }
func (d desktop) busAddress() string { return "unix:path=" + d.busSocket() }
func (d desktop) output() string     { return filepath.Join(wardenFolder, "desktop.out") }
func (d desktop) background() uint32 { return backgrounds[(d.number-1)%len(backgrounds)] }

// environment is what the desktop adds to that of the host's programs.
func (d desktop) environment() []string {
	var env []string
	if d.serverAt != "" {
		env = append(env, "DISPLAY="+d.display(), "XAUTHORITY="+d.authority(), "XDG_SESSION_TYPE=x11")
	}
	if d.bus != "" {
		env = append(env, "DBUS_SESSION_BUS_ADDRESS="+d.busAddress())
	}
	return env
}

// desktopStatus is a host's desktop in `status`.
type desktopStatus struct {
	Display   string   `json:"display,omitempty"`
	Authority string   `json:"xauthority,omitempty"`
	Server    string   `json:"server,omitempty"`
	ServerPID int      `json:"server_pid"` // inside the host; 0: not running
	Bus       string   `json:"bus,omitempty"`
	BusPID    int      `json:"bus_pid"`
	Missing   []string `json:"missing,omitempty"`  // programs that are not on this host
	Packages  []string `json:"packages,omitempty"` // the Debian packages that have them
}

func (d desktop) status() *desktopStatus {
	s := &desktopStatus{}
	if d.serverAt != "" {
		s.Display, s.Authority, s.Server = d.display(), d.authority(), d.server.name
		s.ServerPID = listenerPID(d.socket())
	}
	if d.bus != "" {
		s.Bus, s.BusPID = d.busAddress(), listenerPID(d.busSocket())
	}
	for _, t := range d.missing {
		s.Missing = append(s.Missing, t.name)
		s.Packages = append(s.Packages, t.pkg)
	}
	return s
}

// environment is what a process of this host is given.
func (w *warden) environment() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(w.spec.environment(w.uid), w.desk.environment()...)
}

// beginDesktop starts what is not running of the host's desktop; the answer comes when all of it works.
func (w *warden) beginDesktop() <-chan error {
	d := w.planDesktop()
	w.mu.Lock()
	w.desk = d
	w.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		bus := make(chan error, 1)
		go func() { bus <- w.startBus(d) }()
		err := w.startScreen(d)
		done <- errors.Join(err, <-bus)
	}()
	return done
}

// startScreen starts the X server and the window manager.
func (w *warden) startScreen(d desktop) error {
	if d.serverAt == "" {
		return nil
	}
	if listenerPID(d.socket()) == 0 {
		if err := w.startServer(d); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), desktopWait)
	defer cancel()
	x, err := xwire.Dial(ctx, d.display(), d.authority())
	if err != nil {
		return fmt.Errorf("looking at display %s: %w\n%s", d.display(), err, tail(d.output()))
	}
	defer x.Close()
	if err := paintRoot(x, d.background()); err != nil {
		return fmt.Errorf("painting the background of display %s: %w", d.display(), err)
	}
	if d.wmAt == "" {
		return nil
	}
	if ok, err := managed(x); ok || err != nil {
		return err
	}
	_, err = w.startService(d, d.wmAt, []string{toolManager.name, "--sm-disable"}, nil, cancel)
	if err != nil {
		return err
	}
	if err := waitManaged(ctx, x); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("it ended")
		}
		return fmt.Errorf("waiting for the window manager %s to take over display %s: %w\n%s", d.wmAt, d.display(), err, tail(d.output()))
	}
	return nil
}

func (w *warden) startServer(d desktop) error {
	if err := os.Remove(d.socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clearing away what the last X server left: %w", err)
	}
	if err := os.WriteFile(d.authority(), newCookie(strconv.Itoa(d.number)), 0o600); err != nil {
		return fmt.Errorf("writing the display's cookie: %w", err)
	}
	argv := []string{d.server.name, d.display(), "-displayfd", "3", "-auth", d.authority(), "-nolisten", "tcp", "-noreset", "-dpi", "96"}
	if d.server == toolXvnc {
		// Its VNC side has no port (-1); who wants to see the desktop has a socket.
		argv = append(argv, "-geometry", desktopSize, "-depth", "24", "-rfbport", "-1", "-SecurityTypes", "None", "-desktop", "host "+w.spec.Name)
		if w.spec.VNC != "" {
			argv = append(argv, "-rfbunixpath", filepath.Join(w.spec.VNC, w.spec.Name+".vnc"), "-rfbunixmode", "0600")
		}
	} else {
		argv = append(argv, "-screen", "0", desktopSize+"x24")
	}
	return w.startReady(d, d.serverAt, argv)
}

func (w *warden) startBus(d desktop) error {
	if d.bus == "" || listenerPID(d.busSocket()) != 0 {
		return nil
	}
	if err := os.Remove(d.busSocket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clearing away what the last session bus left: %w", err)
	}
	return w.startReady(d, d.bus, []string{toolBus.name, "--session", "--nofork", "--nopidfile", "--address=" + d.busAddress(), "--print-address=3"})
}

// startReady starts a program that writes a line to descriptor 3 when it is ready, and waits for it.
func (w *warden) startReady(d desktop, path string, argv []string) error {
	r, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("starting %s: %w", path, err)
	}
	defer r.Close()
	pid, err := w.startService(d, path, argv, theirs, nil)
	theirs.Close()
	if err != nil {
		return err
	}
	r.SetReadDeadline(time.Now().Add(desktopWait)) //nolint:errcheck // a pipe takes one
	// To the end of the line: an X server writes it in pieces, and gives up if nobody takes the last.
	if _, err := bufio.NewReader(r).ReadString('\n'); errors.Is(err, io.EOF) {
		return fmt.Errorf("%s ended before it was ready:\n%s", path, tail(d.output()))
	} else if err != nil {
		unix.Kill(pid, unix.SIGKILL)
		return fmt.Errorf("%s was not ready within %v: %w\n%s", path, desktopWait, err, tail(d.output()))
	}
	return nil
}

// startService starts a program that shall run until the host ends; ready, if any, is its descriptor 3.
func (w *warden) startService(d desktop, path string, argv []string, ready *os.File, ended func()) (int, error) {
	fail := func(err error) (int, error) { return 0, fmt.Errorf("starting %s: %w", path, err) }
	out, err := os.OpenFile(d.output(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fail(err)
	}
	defer out.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		return fail(err)
	}
	defer null.Close()
	files := []uintptr{null.Fd(), out.Fd(), out.Fd()}
	if ready != nil {
		files = append(files, ready.Fd())
	}
	attr := &syscall.ProcAttr{Dir: labHome, Env: w.environment(), Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	pid, err := w.nursery.start(path, argv, attr, func(syscall.WaitStatus) {
		if ended != nil {
			ended()
		}
	})
	if err != nil {
		return fail(err)
	}
	return pid, nil
}

// newCookie is an Xauthority file that opens the display of this number to who can read it.
func newCookie(number string) []byte {
	const familyWild = 0xffff // whatever this host is called
	const kind = "MIT-MAGIC-COOKIE-1"
	cookie := make([]byte, 16)
	rand.Read(cookie)
	b := binary.BigEndian.AppendUint16(nil, familyWild)
	for _, field := range []string{"", number, kind, string(cookie)} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
		b = append(b, field...)
	}
	return b
}

// killServer is a crash of the X server: it ends, and with it the window manager and every window. The
// bus lives on, as it would.
func (w *warden) killServer() (int, error) {
	w.mu.Lock()
	d := w.desk
	w.mu.Unlock()
	if d.serverAt != "" {
		if pid := listenerPID(d.socket()); pid != 0 {
			return pid, killAndWait(pid)
		}
	}
	return 0, fmt.Errorf("no desktop runs on host %s", w.spec.Name)
}
