package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
			w.t.Fatalf("waited in vain for %s; the window shows:\n%s\nraw: %q", what, w.text(), w.raw.String()[max(0, w.raw.Len()-2000):])
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

var small, large = Winsize{Rows: 24, Cols: 80}, Winsize{Rows: 40, Cols: 120}

func TestFreshOutputAndStatus(t *testing.T) {
	a := start(t, small, "sh", "-c", `printf 'hello\nworld\n'; exit 7`)
	w := a.attach(small, true)
	w.ends(Outcome{Kind: Exited, Status: 7})
	w.shows("hello")
	if got := w.raw.String(); got != "hello\r\nworld\r\n" {
		t.Errorf("a program that only prints made the window get %q", got)
	}
	// Whoever comes late still learns it.
	late := a.attach(small, false)
	late.ends(Outcome{Kind: Exited, Status: 7})
	late.shows("world")
}

func TestJobControl(t *testing.T) {
	a := start(t, small, "bash", "--norc", "-i")
	w := a.attach(small, true)
	w.shows("$")
	w.typeIn("echo one; sleep 1000\n")
	w.shows("one\n")
	a.runs("sleep")
	w.typeIn("\x1a")
	w.shows("Stopped")
	w.typeIn("jobs; fg\n")
	w.shows("\nsleep 1000")
	w.typeIn("\x03")
	w.typeIn("echo status $?\n")
	w.shows("status 130")
	w.typeIn("exit 3\n")
	w.ends(Outcome{Kind: Exited, Status: 3})
}

func TestKilledApp(t *testing.T) {
	a := start(t, small, "sh", "-c", `printf '\033[?1049h\033[?1000h\033[?25lfull screen'; kill -9 $$`)
	w := a.attach(small, true)
	w.ends(Outcome{Kind: Exited, Status: 137})
	w.until("a clean window", func(string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		m := &w.screen.modes
		return w.screen.alt == 0 && !m.on(1000) && m.on(25)
	})
}

func TestVim(t *testing.T) {
	a := start(t, small, "vim", "-u", "NONE", "-i", "NONE", "-N")
	w := a.attach(small, true)
	w.shows("VIM - Vi IMproved")
	w.typeIn(":set termguicolors ruler\r:highlight Normal guifg=#123456\rihello 日本語 wörld\x1b:syntax on\r")
	w.shows("hello 日本語 wörld")
	other := a.attach(small, false)
	other.shows("hello 日本語 wörld")
	other.like(a.term)
	other.typeIn("ofrom the other\x1b")
	other.shows("from the other")
	w.shows("from the other")
	w.like(a.term)
	// Another size: vim draws anew.
	big := a.attach(large, false)
	big.until("vim in 40 lines", func(text string) bool {
		return strings.Count(text, "\n~") > 30
	})
	big.like(a.term)
	big.typeIn("\x1c\x1c")
	big.ends(Outcome{Kind: Detached})
	big.until("the main screen after detaching", func(string) bool {
		big.mu.Lock()
		defer big.mu.Unlock()
		return big.screen.alt == 0
	})
	w.typeIn(":q!\r")
	w.ends(Outcome{Kind: Exited})
	other.ends(Outcome{Kind: Exited})
}

func TestLess(t *testing.T) {
	a := start(t, small, "sh", "-c", "seq 1 1000 | less")
	w := a.attach(small, true)
	w.shows("\n23\n")
	w.typeIn("\x1c\x1c")
	w.ends(Outcome{Kind: Detached})
	again := a.attach(small, false)
	again.shows("\n23\n")
	again.like(a.term)
	again.typeIn(" ")
	again.shows("\n46\n")
	again.like(a.term)
	again.typeIn("q")
	again.ends(Outcome{Kind: Exited})
}

func TestResize(t *testing.T) {
	a := start(t, small, "bash", "--norc", "-i")
	w := a.attach(small, true)
	w.shows("$")
	w.typeIn("stty size\n")
	w.shows("24 80")
	setWinsize(w.master, Winsize{Rows: 30, Cols: 100})
	w.mu.Lock()
	w.screen.resize(Winsize{Rows: 30, Cols: 100})
	w.mu.Unlock()
	// The window's tty belongs to no session of ours, so we pass SIGWINCH on.
	syscall.Kill(os.Getpid(), syscall.SIGWINCH)
	w.typeIn("while [ \"$(stty size)\" != '30 100' ]; do :; done; stty size\n")
	w.shows("\n30 100")
	// The size follows whoever is active.
	other := a.attach(large, false)
	other.typeIn("echo now; stty size\n")
	other.shows("\n40 120")
	w.shows("\n40 120") // drawn for it, cut
	w.typeIn("echo here; stty size\n")
	w.until("its own size again", func(text string) bool {
		return strings.Count(text, "\n30 100") >= 1 && strings.Contains(text, "\nhere")
	})
	w.like(a.term)
	other.shows("\nhere")
}

func TestLeavingAndMoving(t *testing.T) {
	a := start(t, small, "bash", "--norc", "-i")
	w := a.attach(small, true)
	w.shows("$")
	w.typeIn("echo kept\n")
	w.shows("\nkept")
	// One of the detach keys alone reaches the app: SIGQUIT.
	w.typeIn("sleep 1000\n")
	a.runs("sleep")
	w.typeIn("\x1c")
	w.shows("Quit")
	second := a.attach(small, false)
	second.shows("\nkept")
	a.term.End(Outcome{Kind: Moved, Host: "laptop", App: "bash"})
	w.ends(Outcome{Kind: Moved, Host: "laptop", App: "bash"})
	second.ends(Outcome{Kind: Moved, Host: "laptop", App: "bash"})
	if got, want := w.outcome.Notice(), "bash went to laptop; follow with: hither attach bash@laptop"; got != want {
		t.Errorf("notice %q, want %q", got, want)
	}
}

// TestPause: a keeper's pause for a move, and what becomes of bytes meanwhile.
func TestPause(t *testing.T) {
	a := start(t, small, "cat")
	w := a.attach(small, true)
	w.typeIn("before\r")
	w.until("echo and cat's copy", func(text string) bool { return strings.Count(text, "before\n") == 2 })
	for range 100 {
		a.term.Pause()
		a.term.Resume()
	}
	// cat is stopped, and has a line waiting for it.
	a.cmd.Process.Signal(syscall.SIGSTOP)
	a.term.Pause()
	w.typeIn("held\r")
	timeout := time.After(10 * time.Second)
	for string(a.term.Held()) != "held\r" {
		select {
		case <-time.After(time.Millisecond):
		case <-timeout:
			t.Fatalf("held: %q", a.term.Held())
		}
	}
	// Meanwhile on another host.
	picture, held := a.term.Screen(), a.term.Held()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	there := New(master, small)
	defer there.End(Outcome{Kind: Stopped})
	there.Pause()
	there.Restore(picture)
	there.Give(held)
	there.Resume()
	buf := make([]byte, 100)
	if n, _ := tty.Read(buf); string(buf[:n]) != "held\n" {
		t.Errorf("the moved app reads %q", buf[:n])
	}
	v := open(t, small)
	v.attach(there, false)
	v.until("the picture and the echo", func(text string) bool {
		return strings.Contains(text, "before\nbefore\nheld\n")
	})
	// The move failed: here it all goes on.
	a.term.Resume()
	a.cmd.Process.Signal(syscall.SIGCONT)
	w.until("what was held", func(text string) bool { return strings.Count(text, "held\n") == 2 })
}

// TestPauseLosesNothing: bytes in both directions through many pauses.
func TestPauseLosesNothing(t *testing.T) {
	a := start(t, small, "sh", "-c", "stty raw -echo; printf 'ready'; head -c 300000 | cksum; sleep 1000")
	w := a.attach(small, true)
	w.shows("ready")
	data := make([]byte, 300000)
	for i := range data {
		data[i] = byte(i*7 + i>>8)
		if data[i] == 0x1c {
			data[i] = 'x'
		}
	}
	cksum := exec.Command("cksum")
	cksum.Stdin = bytes.NewReader(data)
	want, err := cksum.Output()
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				a.term.Pause()
				a.term.Resume()
			}
		}
	}()
	w.master.Write(data)
	w.shows(strings.TrimSpace(string(want)))
	close(stop)
	<-stopped
}

// TestSlowClients: nobody who looks away holds the app up.
func TestSlowClients(t *testing.T) {
	a := start(t, small, "sh", "-c", "sleep 0.3; seq 1 2000000; echo done; read x; exit 5")
	ours, theirs := pair(t)
	served := make(chan error, 1)
	go func() { served <- a.term.Serve(context.Background(), theirs, Hello{Size: small, Fresh: true}) }()
	watch, theirWatch := pair(t)
	go a.term.Serve(context.Background(), theirWatch, Hello{Size: large, Watch: true})
	defer watch.Close()
	begin := time.Now()
	for !strings.Contains(string(a.term.Screen()), "done") {
		if time.Since(begin) > 30*time.Second {
			t.Fatal("the app does not get on")
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Now it looks again, and has the last picture.
	buf := make([]byte, MaxFrame)
	s := newScreen(small)
	for !strings.Contains(shown(s), "2000000\ndone") {
		kind, payload, err := readFrame(ours, buf)
		if err != nil || kind != frameData {
			t.Fatal(kind, err)
		}
		s.write(payload)
	}
	if _, err := ours.Write(appendFrame(nil, frameData, []byte("\r"))); err != nil {
		t.Fatal(err)
	}
	var end Outcome
	for {
		kind, payload, err := readFrame(ours, buf)
		if err != nil {
			t.Fatal(err)
		}
		if kind == frameEnd {
			if end, err = decodeOutcome(payload); err != nil {
				t.Fatal(err)
			}
			break
		}
		s.write(payload)
	}
	if end != (Outcome{Kind: Exited, Status: 5}) {
		t.Errorf("end %+v", end)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestWholeOutput: a client that keeps up gets every byte.
func TestWholeOutput(t *testing.T) {
	a := start(t, small, "sh", "-c", "seq 1 300000")
	ours, theirs := pair(t)
	go a.term.Serve(context.Background(), theirs, Hello{Size: small, Fresh: true})
	var got bytes.Buffer
	buf := make([]byte, MaxFrame)
	for {
		kind, payload, err := readFrame(ours, buf)
		if err != nil {
			t.Fatal(err)
		}
		if kind == frameEnd {
			break
		}
		got.Write(payload)
	}
	want, _ := exec.Command("seq", "1", "300000").Output()
	if !bytes.Equal(bytes.ReplaceAll(got.Bytes(), []byte("\r\n"), []byte("\n")), want) {
		t.Errorf("got %d bytes that differ from the %d written", got.Len(), len(want))
	}
}

// TestQuestions: the model answers when no terminal is there.
func TestQuestions(t *testing.T) {
	a := start(t, small, "bash", "--norc", "-c", `stty raw -echo; printf 'abc\033[6n'; IFS= read -r -d R x; printf '%q\r\n' "$x"; sleep 1000`)
	timeout := time.After(10 * time.Second)
	for !strings.Contains(string(a.term.Screen()), `[1;4`) {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-timeout:
			t.Fatalf("no answer: %q", a.term.Screen())
		}
	}
}

func TestClientWithoutTerminal(t *testing.T) {
	a := start(t, small, "sh", "-c", "read x; echo got $x; exit 4")
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := pair(t)
	go a.term.Serve(context.Background(), theirs, Hello{Fresh: true})
	typed.WriteString("this\n")
	typed.Close()
	o, err := Client(context.Background(), ours, in, out, Options{})
	if err != nil || o != (Outcome{Kind: Exited, Status: 4}) {
		t.Errorf("%+v, %v", o, err)
	}
	if b, _ := os.ReadFile(out.Name()); string(b) != "this\r\ngot this\r\n" {
		t.Errorf("printed %q", b)
	}
}

func TestClientSignalAndLoss(t *testing.T) {
	a := start(t, small, "sh", "-c", `printf '\033[?1049h\033[?2004hhere'; sleep 1000`)
	clean := func(w *window) {
		t.Helper()
		w.until("a clean window", func(string) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.screen.alt == 0 && !w.screen.modes.on(2004)
		})
	}
	w := a.attach(small, false)
	w.shows("here")
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	w.ends(Outcome{Kind: Detached})
	if !errors.Is(w.err, ErrSignal) {
		t.Errorf("error %v", w.err)
	}
	clean(w)
	w = open(t, small)
	ours, theirs := pair(t)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.term.Serve(ctx, theirs, HelloFor(w.tty, w.tty)) }()
	go func() {
		defer close(w.left)
		w.outcome, w.err = Client(context.Background(), ours, w.tty, w.tty, Options{})
	}()
	w.shows("here")
	cancel()
	w.ends(Outcome{Kind: Lost})
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
	clean(w)
}

// TestSplitCharacters: multi-byte characters and sequences over many reads.
func TestSplitCharacters(t *testing.T) {
	a := start(t, small, "bash", "--norc", "-c", `stty raw; for c in '\xe6' '\x97' '\xa5' '\033' '[' '3' '8;2' ';1;2;3' 'm' '\xe6' '\x9c' '\xac' '\033[m'; do printf "$c"; sleep 0.02; done; echo .; read x`)
	w := a.attach(small, true)
	w.shows("日本.")
	second := a.attach(small, false)
	second.like(a.term)
	if got, want := line(second.screen, second.screen.line(0))[:40], "日<{3010203 0 0 0}本<{0 0 0 0}."; !strings.HasPrefix(got, want) {
		t.Errorf("shows %q, want %q", got, want)
	}
}

func TestDetachKeys(t *testing.T) {
	for _, bad := range []string{"ctrl-", "ctrl-ab", "f1", "a,,b", "ctrl-1", ","} {
		if _, err := parseDetachKeys(bad); err == nil {
			t.Errorf("%q is taken for keys", bad)
		}
	}
	for _, test := range []struct {
		keys, in, pass string
		detach         bool
	}{
		{"", "a\x1c\x1cb", "a", true},
		{"", "a\x1cb\x1c", "a\x1cb", false},
		{"", "\x1b[92;5u\x1b[92;5u", "", true},
		{"none", "\x1c\x1c", "\x1c\x1c", false},
		{"ctrl-p,ctrl-q", "x\x10\x10\x11", "x\x10", true},
		{"ctrl-],d", "\x1dx\x1dd", "\x1dx", true},
		{"a,a,b", "aaab", "a", true},
	} {
		keys, err := parseDetachKeys(test.keys)
		if err != nil {
			t.Fatal(err)
		}
		d := detacher{keys: keys}
		pass, detach := d.filter([]byte(test.in))
		if string(pass) != test.pass || detach != test.detach {
			t.Errorf("%q of %q: %q, %v; want %q, %v", test.in, test.keys, pass, detach, test.pass, test.detach)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, frameData, []byte("x")), frameResize, small.encode()))
	f.Add([]byte{'d', 0xff, 0xff, 0xff, 0xff, 1})
	f.Add(appendFrame(nil, frameEnd, []byte(`{"kind":"exited","status":3}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		buf := make([]byte, MaxFrame)
		for {
			kind, payload, err := readFrame(r, buf)
			if err != nil {
				return
			}
			if w, err := decodeWinsize(payload); err == nil && !bytes.Equal(w.encode(), payload) {
				t.Errorf("size %v of %x", w, payload)
			}
			if kind == frameEnd {
				decodeOutcome(payload)
			}
		}
	})
}

// BenchmarkPty is what 10 MB of output take: from the bare pty, by the model
// alone, and with a client.
func BenchmarkPty(b *testing.B) {
	for _, kind := range []string{"bare", "unattended", "attached"} {
		b.Run(kind, func(b *testing.B) {
			const size = 5_000_000
			b.SetBytes(size)
			for b.Loop() {
				cmd := exec.Command("sh", "-c", "yes 'some words of output' | head -c "+fmt.Sprint(size))
				master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 200})
				if err != nil {
					b.Fatal(err)
				}
				if kind == "bare" {
					buf := make([]byte, 32<<10)
					for err == nil {
						_, err = master.Read(buf)
					}
					cmd.Wait()
					continue
				}
				term := New(master, Winsize{})
				if kind == "attached" {
					fds, _ := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
					var conns [2]net.Conn
					for i := range fds {
						f := os.NewFile(uintptr(fds[i]), "")
						conns[i], _ = net.FileConn(f)
						f.Close()
					}
					null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
					go term.Serve(context.Background(), conns[1], Hello{Fresh: true})
					go func() {
						defer null.Close()
						Client(context.Background(), conns[0], null, null, Options{})
					}()
				}
				cmd.Wait()
				term.End(Outcome{Kind: Exited})
			}
		})
	}
}
