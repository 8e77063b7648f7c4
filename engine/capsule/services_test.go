package capsule

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/display"
	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

// greet speaks the X protocol's first words to a server and returns the width
// and height of its screen. See "Connection Setup" in the protocol's appendix.
func greet(path string) (c net.Conn, width, height int, err error) {
	c, err = net.Dial("unix", path)
	if err != nil {
		return nil, 0, 0, err
	}
	c.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // a socket
	if _, err = c.Write([]byte{'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		return c, 0, 0, err
	}
	head := make([]byte, 8)
	if _, err = io.ReadFull(c, head); err != nil {
		return c, 0, 0, err
	}
	body := make([]byte, 4*int(binary.LittleEndian.Uint16(head[6:])))
	if _, err = io.ReadFull(c, body); err != nil {
		return c, 0, 0, err
	}
	if head[0] != 1 {
		return c, 0, 0, fmt.Errorf("the server refuses: %q", body)
	}
	vendor, formats := int(binary.LittleEndian.Uint16(body[16:])), int(body[21])
	screen := body[32+(vendor+3)&^3+8*formats:]
	return c, int(binary.LittleEndian.Uint16(screen[20:])), int(binary.LittleEndian.Uint16(screen[22:])), nil
}

// greetMain is an X client inside: it says what it sees, and stays until its
// input ends.
func greetMain() error {
	begin := time.Now()
	c, w, h, err := greet(display.ServerPath)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Printf("%dx%d after %d ms\n", w, h, time.Since(begin).Milliseconds())
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // its end counts
	return nil
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("no %s here", p)
		}
	}
}

// waiting is an app that does nothing until its input ends.
func waiting(t *testing.T, ctx context.Context, change func(*Spec)) (*Capsule, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := shell("read x; exit 3")
	if change != nil {
		change(&s)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c, err := Start(ctx, s, [3]*os.File{r, null, null})
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		c.Close()
	})
	return c, w
}

// inside runs a command in a capsule and returns its output.
func inside(t *testing.T, ctx context.Context, c *Capsule, argv ...string) (string, int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	status, err := c.Exec(ctx, ExecSpec{Argv: argv}, [3]*os.File{null, w, w})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out)), status
}

// services are the servers that run, by name.
func services(t *testing.T, c *Capsule) map[string]int {
	t.Helper()
	st, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int{}
	for _, s := range st.Services {
		m[s.Name] = s.Pid
	}
	return m
}

// TestDisplay: the X server runs once a client wants it, is found from outside,
// is started again if it dies, and ends with the app, whose status counts.
func TestDisplay(t *testing.T) {
	need(t, "Xvfb")
	ctx := lab(t)
	probe := probePath(t)
	c, in := waiting(t, ctx, nil)
	if pids, err := c.Processes(); err != nil || len(pids) != 2 {
		t.Errorf("processes before a client came: %v, %v", pids, err)
	}
	out, status := inside(t, ctx, c, probe, "greet")
	if status != 0 || !strings.HasPrefix(out, "4096x2160 after ") {
		t.Fatalf("status %d: %s", status, out)
	}
	t.Log(out)
	first := services(t, c)["display server"]
	if first == 0 {
		t.Errorf("the state names the servers %v", services(t, c))
	}
	server := display.Server("")
	conn, w, h, err := greet(server.Outside(c.InitPid()))
	if err != nil || w != 4096 || h != 2160 {
		t.Errorf("from outside: %dx%d, %v", w, h, err)
	}
	conn.Close()

	pids, err := c.Processes()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pids[first], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the server to be missed", func() bool { return services(t, c)["display server"] == 0 })
	if out, status = inside(t, ctx, c, probe, "greet"); status != 0 || !strings.HasPrefix(out, "4096x2160") {
		t.Fatalf("after it was killed: status %d: %s", status, out)
	}
	in.Close()
	if o, err := c.Wait(ctx); err != nil || o.Status != 3 {
		t.Errorf("waited for %+v, %v", o, err)
	}
	waitFor(t, "the capsule to end", func() bool { return !c.first.Init.Alive() })
}

// TestDisplayOutlived: what outlives the app's first process keeps the capsule, the
// server does not.
func TestDisplayOutlived(t *testing.T) {
	need(t, "Xvfb")
	ctx := lab(t)
	probe := probePath(t)
	s := shell("trap '' HUP; mkfifo /tmp/end; (read x < /tmp/end; exec sleep 0) & " + probe + " greet </dev/null; exit 4")
	s.Detached = true
	c, err := Start(ctx, s, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	if o, err := c.Wait(ctx); err != nil || o.Status != 4 {
		t.Errorf("waited for %+v, %v", o, err)
	}
	if !c.first.Init.Alive() {
		t.Fatal("the capsule ended with the app's first process")
	}
	if _, status := inside(t, ctx, c, "sh", "-c", "echo > /tmp/end"); status != 0 {
		t.Errorf("status %d", status)
	}
	waitFor(t, "the capsule to end", func() bool { return !c.first.Init.Alive() })
}

// TestBus: the same for the session bus.
func TestBus(t *testing.T) {
	need(t, "dbus-daemon", "dbus-send")
	ctx := lab(t)
	c, _ := waiting(t, ctx, nil)
	out, status := inside(t, ctx, c, "dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetId")
	if status != 0 || !strings.Contains(out, "string") {
		t.Fatalf("status %d: %s", status, out)
	}
	if services(t, c)["session bus"] == 0 || services(t, c)["display server"] != 0 {
		t.Errorf("the state names the servers %v", services(t, c))
	}
}

// TestBusDaemon: what the bus has started does not keep the capsule, unless it has
// a window, so to speak.
func TestBusDaemon(t *testing.T) {
	need(t, "Xvfb", "dbus-daemon", "dbus-send")
	ctx := lab(t)
	probe := probePath(t)
	t.Setenv("XDG_DATA_HOME", os.Getenv("HOME")+"/share")
	dir := os.Getenv("XDG_DATA_HOME") + "/dbus-1/services"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string]string{"Idle": probe + " sleep", "Window": "/bin/sh -c '" + probe + " greet < " + os.Getenv("HOME") + "/window; exit 0'"} {
		text := "[D-BUS Service]\nName=org.hither." + name + "\nExec=" + command + "\n"
		if err := os.WriteFile(dir+"/org.hither."+name+".service", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(os.Getenv("HOME")+"/window", 0o600); err != nil {
		t.Fatal(err)
	}
	c, in := waiting(t, ctx, nil)
	start := func(name string) {
		if out, status := inside(t, ctx, c, "dbus-send", "--session", "--dest=org.hither."+name, "/", "org.hither.Go"); status != 0 {
			t.Fatalf("status %d: %s", status, out)
		}
	}
	start("Idle")
	start("Window")
	// Both ends, so that it is there before its reader.
	window, err := os.OpenFile(os.Getenv("HOME")+"/window", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the window's server", func() bool { return services(t, c)["display server"] != 0 })
	in.Close()
	if o, err := c.Wait(ctx); err != nil || o.Status != 3 {
		t.Errorf("waited for %+v, %v", o, err)
	}
	// The keeper hears of this command's end when it has made up its mind on the app's.
	if _, status := inside(t, ctx, c, "true"); status != 0 {
		t.Errorf("status %d: the capsule ended though a window was there", status)
	}
	window.Close()
	waitFor(t, "the capsule to end", func() bool { return !c.first.Init.Alive() })
}

func TestNoDisplay(t *testing.T) {
	ctx := lab(t)
	for without, want := range map[bool]string{
		true:  "- disabled: 2 2",
		false: ":0 unix:path=" + RuntimeDir(os.Getuid()) + "/bus 0 0",
	} {
		s := shell("test -S /tmp/.X11-unix/X0; x=$?; test -S $XDG_RUNTIME_DIR/bus; echo ${DISPLAY:--} $DBUS_SESSION_BUS_ADDRESS $((2*x)) $((2*$?))")
		s.NoDisplay = without
		if out, status := run(t, ctx, s); status != 0 || out != want {
			t.Errorf("status %d, got %q, want %q", status, out, want)
		}
	}
}

// TestNoServer: where it is not installed, clients are sent away at once, and a
// person is told what to install.
func TestNoServer(t *testing.T) {
	ctx := lab(t)
	probe := probePath(t)
	// Where it is installed it is covered by what is no file.
	c, in := waiting(t, ctx, func(s *Spec) {
		for _, dir := range []string{"/usr/bin", "/usr/local/bin"} {
			if p := filepath.Join(dir, "Xvfb"); isFile(p) {
				s.Mounts = append(s.Mounts, Mount{Kind: "bind", Target: p, Sources: []string{"/dev/null"}})
			}
		}
	})
	told := make(chan string, 1)
	c.Notice = func(text string) { told <- text }
	ended := make(chan Outcome, 1)
	go func() {
		o, err := c.Wait(ctx)
		if err != nil {
			t.Error(err)
		}
		ended <- o
	}()
	begin := time.Now()
	out, status := inside(t, ctx, c, probe, "greet")
	if status == 0 {
		t.Errorf("a client was served: %s", out)
	}
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("it was sent away after %v", d)
	}
	select {
	case text := <-told:
		if text != "this app wants a display: install xvfb (apt-get install xvfb)" {
			t.Errorf("a person is told %q", text)
		}
	case <-time.After(5 * time.Second):
		t.Error("nobody is told")
	}
	in.Close()
	if o := <-ended; o.Status != 3 {
		t.Errorf("waited for %+v", o)
	}
}

func isFile(p string) bool { st, err := os.Stat(p); return err == nil && st.Mode().IsRegular() }

// TestDisplayAdopted: a new keeper finds the server that runs, and sees its end and the app's.
func TestDisplayAdopted(t *testing.T) {
	need(t, "Xvfb")
	ctx := lab(t)
	probe := probePath(t)
	c, in := waiting(t, ctx, nil)
	if out, status := inside(t, ctx, c, probe, "greet"); status != 0 {
		t.Fatal(out)
	}
	before := services(t, c)["display server"]
	st, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(st.Keeper.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the keeper to die", func() bool { return !st.Keeper.Alive() })
	if err := c.AdoptKeeper(ctx); err != nil && !errors.Is(err, ErrKept) {
		t.Fatal(err)
	}
	if after := services(t, c)["display server"]; after != before {
		t.Errorf("the new keeper finds the server as %d, it is %d", after, before)
	}
	if out, status := inside(t, ctx, c, probe, "greet"); status != 0 {
		t.Error(out)
	}
	if pids, err := c.Processes(); err != nil || len(pids) != 3 {
		t.Errorf("processes: %v, %v", pids, err)
	}
	in.Close()
	waitFor(t, "the capsule to end", func() bool { return !c.first.Init.Alive() })
}

// A bridge for tests: it holds a connection to the X server and writes down what it
// is told.
func bridgeMain() {
	k, begin, err := display.OpenKeeper()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	log, err := os.OpenFile(os.Getenv("HOME")+"/bridge", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		os.Exit(1)
	}
	note := func(what string) { fmt.Fprintf(log, "%s %d\n", what, os.Getpid()) }
	var conn net.Conn
	hold := func() {
		if conn, _, _, err = greet(begin.Socket); err != nil {
			note("failed: " + err.Error())
		}
	}
	knows := func(bus string) { os.WriteFile(os.Getenv("HOME")+"/bus", []byte(bus), 0o600) } //nolint:errcheck // a test
	knows(begin.Bus)
	hold()
	note("begin " + begin.Name + " on " + os.Getenv("DISPLAY"))
	for {
		o, err := k.Next()
		switch {
		case err != nil:
			note("end")
			return
		case o.Op == display.OpPart && os.Getenv("STUBBORN") != "":
			select {} // killed in the end
		case o.Op == display.OpPart:
			err := display.HangUp(conn.(*net.UnixConn), time.Second)
			note(fmt.Sprint("part ", err))
			k.Parted() //nolint:errcheck // a test
		case o.Op == display.OpBus, o.Op == display.OpProgress:
			note(fmt.Sprint(o.Op, " ", o.Bus, o.Text, o.Share))
			if o.Op == display.OpBus {
				knows(o.Bus)
			}
		case o.Op == display.OpBack:
			hold()
			note("back")
		case o.Op == display.OpTyped:
			note(fmt.Sprint("typed ", len(o.Typed)))
		case o.Op == display.OpLeft:
			note("left " + o.Host)
			k.Typed(make([]display.Stroke, 3)) //nolint:errcheck // a test
		}
	}
}

// bridgeLog is what bridges wrote down, without pids, and the last one's pid.
func bridgeLog(t *testing.T) (lines []string, pid int) {
	t.Helper()
	b, err := os.ReadFile(os.Getenv("HOME") + "/bridge")
	if err != nil {
		return nil, 0
	}
	for line := range strings.Lines(string(b)) {
		i := strings.LastIndexByte(line, ' ')
		lines = append(lines, line[:i])
		fmt.Sscan(line[i:], &pid) //nolint:errcheck // the test sees 0
	}
	return lines, pid
}

func waitLog(t *testing.T, want ...string) int {
	t.Helper()
	var lines []string
	var pid int
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if lines, pid = bridgeLog(t); slices.Equal(lines, want) {
			return pid
		}
	}
	t.Fatalf("the bridges noted %q, want %q", lines, want)
	return 0
}

// TestBridge: a bridge comes with the server, comes back when it dies, lets go
// before a move, and goes with the app.
func TestBridge(t *testing.T) {
	need(t, "Xvfb", "dbus-daemon", "dbus-send")
	ctx := lab(t)
	t.Setenv("DISPLAY", ":42")
	probe := probePath(t)
	c, in := waiting(t, ctx, func(s *Spec) { s.Name = "app" })
	if out, status := inside(t, ctx, c, probe, "greet"); status != 0 {
		t.Fatal(out)
	}
	pid := waitLog(t, "begin app on :42")
	killed := time.Now()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitLog(t, "begin app on :42", "begin app on :42")
	if d := time.Since(killed); d > time.Second {
		t.Errorf("the second bridge came after %v", d)
	}
	pids, err := c.Processes()
	if err != nil {
		t.Fatal(err)
	}
	server := pids[services(t, c)["display server"]]
	if !holdsOutside(server) {
		t.Error("the bridge's connection is not seen")
	}
	if err := c.Part(ctx); err != nil {
		t.Fatal(err)
	}
	if holdsOutside(server) {
		t.Error("the server holds a connection to the outside after all has parted")
	}
	if err := c.Part(ctx); err != nil { // once more does no harm
		t.Fatal(err)
	}
	if err := c.Progress(ctx, "half", 0.5); err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	log := []string{"begin app on :42", "begin app on :42", "part <nil>", "progress half0.5", "back"}
	waitLog(t, log...)
	if out, status := inside(t, ctx, c, "dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetId"); status != 0 {
		t.Fatal(out)
	}
	log = append(log, fmt.Sprintf("bus /proc/%d/root%s/bus0", c.InitPid(), RuntimeDir(os.Getuid())))
	waitLog(t, log...)
	if err := c.Desktop(ctx, []string{"DISPLAY=:43", "HOME=/nowhere"}); err != nil {
		t.Fatal(err)
	}
	log = append(log, "end", "begin app on :43")
	waitLog(t, log...)
	// What a peer says was typed may be anything.
	if err := c.Type(ctx, make(Typed, 20*display.MaxStrokes)); err != nil {
		t.Fatal(err)
	}
	log = append(log, fmt.Sprint("typed ", display.MaxStrokes))
	waitLog(t, log...)
	if err := c.Part(ctx); err != nil {
		t.Fatal(err)
	}
	if typed, err := c.Moved(ctx, "laptop"); err != nil || len(typed) != 3 {
		t.Fatalf("at its windows was typed %v, %v", typed, err)
	}
	in.Close()
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	waitLog(t, append(log, "part <nil>", "left laptop", "end")...)
}

// TestBridgeStubborn: one that does not let go is killed for it.
func TestBridgeStubborn(t *testing.T) {
	need(t, "Xvfb")
	ctx := lab(t)
	t.Setenv("DISPLAY", ":42")
	t.Setenv("STUBBORN", "1")
	probe := probePath(t)
	c, _ := waiting(t, ctx, func(s *Spec) { s.Name = "app" })
	if out, status := inside(t, ctx, c, probe, "greet"); status != 0 {
		t.Fatal(out)
	}
	waitLog(t, "begin app on :42")
	if err := c.Part(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	waitLog(t, "begin app on :42", "begin app on :42")
}

// TestBridgeHearsOfTheBus: of one that is found while the bridge is being started, too, as when an app arrives.
func TestBridgeHearsOfTheBus(t *testing.T) {
	need(t, "Xvfb", "dbus-daemon", "dbus-send")
	ctx := lab(t)
	t.Setenv("DISPLAY", ":42")
	probe := probePath(t)
	c, _ := waiting(t, ctx, func(s *Spec) { s.Name = "app" })
	if out, status := inside(t, ctx, c, probe, "greet"); status != 0 {
		t.Fatal(out)
	}
	waitLog(t, "begin app on :42")
	if out, status := inside(t, ctx, c, "dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetId"); status != 0 {
		t.Fatal(out)
	}
	bus := fmt.Sprintf("/proc/%d/root%s/bus", c.InitPid(), RuntimeDir(os.Getuid()))
	knows := func() bool { b, err := os.ReadFile(os.Getenv("HOME") + "/bus"); return err == nil && string(b) == bus }
	waitFor(t, "the bridge to know of the bus", knows)
	// Which of them comes first is chance.
	t.Setenv("LATE_BRIDGE", "50ms")
	for i := range 6 {
		st, err := c.State()
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(st.Keeper.Pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the keeper to die", func() bool { return !st.Keeper.Alive() })
		if err := c.AdoptKeeper(ctx); err != nil && !errors.Is(err, ErrKept) {
			t.Fatal(err)
		}
		waitFor(t, "the next bridge", func() bool {
			lines, _ := bridgeLog(t)
			begun := 0
			for _, line := range lines {
				if strings.HasPrefix(line, "begin") {
					begun++
				}
			}
			return begun == i+2
		})
		waitFor(t, "it to know of the bus", knows)
	}
}

// TestDisplayDPI: the X server starts with the dots per inch of the desktop, for the first app looks at once.
func TestDisplayDPI(t *testing.T) {
	need(t, "Xvfb")
	ctx := lab(t)
	desk := xservers.Xvfb(t, "640x480")
	user, err := xwire.DialPath(ctx, desk.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	if err := user.ChangePropertyChecked(xwire.PropModeReplace, user.Root(), xwire.AtomResourceManager, xwire.AtomString, 8, []byte("XTerm*background: black\nXft.dpi:\t192\n")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DISPLAY", desk.Display)
	c, _ := waiting(t, ctx, nil)
	app, err := xwire.DialPath(ctx, display.Services("/run")[0].Outside(c.InitPid()))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	s := app.Screen()
	if dpi := float64(s.WidthInPixels) * 25.4 / float64(s.WidthInMillimeters); dpi < 190 || dpi > 194 {
		t.Errorf("the display has %.1f dots per inch", dpi)
	}
}
