package terminal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

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
