package terminal

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// app is a program on a Terminal, as a keeper would have it.
type app struct {
	t    *testing.T
	term *Terminal
	cmd  *exec.Cmd
	done chan struct{} // End was called
}

func start(t *testing.T, size Winsize, name string, args ...string) *app {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s here", name)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8", "PS1=$ ", "HISTFILE=", "HOME="+cmd.Dir, "LESS=", "VIMINIT=")
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: size.Rows, Cols: size.Cols})
	if err != nil {
		t.Fatal(err)
	}
	a := &app{t: t, term: New(master, size), cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		cmd.Wait()
		status := cmd.ProcessState.ExitCode()
		if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
			status = 128 + int(ws.Signal())
		}
		a.term.End(Outcome{Kind: Exited, Status: status})
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-a.done
	})
	return a
}

// window is a person's terminal emulator with a client in it.
type window struct {
	t           *testing.T
	master, tty *os.File
	mu          sync.Mutex
	screen      *screen
	raw         bytes.Buffer
	changed     chan struct{}
	left        chan struct{}
	outcome     Outcome
	err         error
	conn        net.Conn
}

func open(t *testing.T, size Winsize) *window {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	setWinsize(tty, size)
	w := &window{t: t, master: master, tty: tty, screen: newScreen(size), changed: make(chan struct{}, 1), left: make(chan struct{})}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		buf := make([]byte, 64<<10)
		for {
			n, err := master.Read(buf)
			w.mu.Lock()
			w.screen.write(buf[:n])
			if w.raw.Len() < 1<<20 {
				w.raw.Write(buf[:n])
			}
			w.mu.Unlock()
			signalTo(w.changed)
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		if w.conn != nil {
			w.conn.Close()
			<-w.left
		}
		tty.Close()
		master.Close()
		<-drained
	})
	return w
}

// received is what the window has been sent so far.
func (w *window) received() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.raw.String()
}

// attach runs a client in a new window.
func (a *app) attach(size Winsize, fresh bool) *window {
	a.t.Helper()
	w := open(a.t, size)
	w.attach(a.term, fresh)
	return w
}

func (w *window) attach(term *Terminal, fresh bool) {
	ours, theirs := pair(w.t)
	w.conn = ours
	hello := HelloFor(w.tty, w.tty)
	hello.Fresh = fresh
	go term.Serve(context.Background(), theirs, hello)
	w.left = make(chan struct{})
	go func() {
		defer close(w.left)
		w.outcome, w.err = Client(context.Background(), ours, w.tty, w.tty, Options{})
	}()
	left := w.left
	for w.lflags()&unix.ECHO != 0 { // what is typed now, the window itself would show
		select {
		case <-left:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return conns[0], conns[1]
}

// runs waits until the app has a child of that name.
func (a *app) runs(name string) {
	a.t.Helper()
	for range 2000 {
		out, _ := exec.Command("ps", "--ppid", fmt.Sprint(a.cmd.Process.Pid), "-o", "comm=").Output()
		if strings.Contains(string(out), name) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	a.t.Fatalf("%s does not start", name)
}

// lflags of the window's terminal.
func (w *window) lflags() (flags uint32) {
	control(w.tty, func(fd int) error {
		got, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			flags = got.Lflag
		}
		return err
	})
	return flags
}

func (w *window) typeIn(s string) {
	w.t.Helper()
	if _, err := w.master.WriteString(s); err != nil {
		w.t.Fatal(err)
	}
}

func (w *window) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return shown(w.screen)
}

func shown(s *screen) string {
	var b strings.Builder
	for y := range s.rows {
		var l strings.Builder
		for x := range s.cols {
			if c := s.line(y).at(x); c.r != wideTail {
				l.WriteString(s.marks.string(c.r))
			}
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	return b.String()
}

// until waits until the window shows what is asked for.
func (w *window) until(what string, ok func(text string) bool) {
	w.t.Helper()
	timeout := time.After(20 * time.Second)
	for !ok(w.text()) {
		select {
		case <-w.changed:
		case <-timeout:
			w.t.Fatalf("waited in vain for %s; the window shows:\n%s\nraw: %q", what, w.text(), tail(w.received(), 2000))
		}
	}
}

func (w *window) shows(s string) {
	w.t.Helper()
	w.until(fmt.Sprintf("%q", s), func(text string) bool { return strings.Contains(text, s) })
}

func (w *window) ends(want Outcome) {
	w.t.Helper()
	select {
	case <-w.left:
	case <-time.After(20 * time.Second):
		w.t.Fatal("the client does not end")
	}
	if w.outcome != want {
		w.t.Errorf("outcome %+v (%v), want %+v", w.outcome, w.err, want)
	}
	if flags := w.lflags(); flags&unix.ICANON == 0 || flags&unix.ECHO == 0 {
		w.t.Error("the window was left in raw mode")
	}
}

// like waits until the window shows what the model has.
func (w *window) like(term *Terminal) {
	w.t.Helper()
	w.until("the model's picture", func(text string) bool {
		term.mu.Lock()
		defer term.mu.Unlock()
		if text != shown(term.screen) {
			return false
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.screen.alt != term.screen.alt {
			return false
		}
		for y := range w.screen.rows {
			if line(w.screen, w.screen.line(y)) != line(term.screen, term.screen.line(y)) {
				return false
			}
		}
		return true
	})
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
