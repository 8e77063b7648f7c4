package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

func TestBytesPassThrough(t *testing.T) {
	l := newLab(t)
	data := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	cmd := l.command("exec", "b", "--", "sh", "-c", "echo to stderr >&2; tee /dev/shm/copy; sha256sum </dev/shm/copy >&2")
	cmd.Stdin = bytes.NewReader(data)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	if !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%d bytes came back, changed, of %d", out.Len(), len(data))
	}
	if want := fmt.Sprintf("to stderr\n%x  -\n", sha256.Sum256(data)); errs.String() != want {
		t.Errorf("stderr is %q instead of %q", errs.String(), want)
	}
}

func TestSignalsPassThrough(t *testing.T) {
	l := newLab(t, "--hosts", "1")
	for sig, name := range map[syscall.Signal]string{syscall.SIGINT: "INT", syscall.SIGTERM: "TERM", syscall.SIGHUP: "HUP"} {
		// No shell: one that has just forked a child loses signals, and the child does.
		cmd := l.command("exec", "a", "--", "python3", "-c", "import signal as s; n = s.SIG"+name+"; s.pthread_sigmask(s.SIG_BLOCK, {n}); "+
			"print('ready', flush=True); s.sigwait({n}); print('got "+name+"', flush=True); exit(42)")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 6)
		if _, err := io.ReadFull(out, line); err != nil || string(line) != "ready\n" {
			t.Fatalf("%q, %v", line, err)
		}
		cmd.Process.Signal(sig)
		stuck := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		rest, _ := io.ReadAll(out)
		cmd.Wait()
		stuck.Stop()
		if got := cmd.ProcessState.ExitCode(); got != 42 || string(rest) != "got "+name+"\n" {
			t.Errorf("%s: status %d, output %q", name, got, rest)
		}
	}
}

func TestClientKilled(t *testing.T) {
	l := newLab(t, "--hosts", "1")
	cmd := l.command("exec", "a", "--", "sh", "-c", "echo ready; sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(out, make([]byte, 6))
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, "the command ends with its client", func() bool { return l.status().Hosts[0].Procs == 0 })
}

// terminalSession runs a command on host a in a terminal.
type terminalSession struct {
	t      *testing.T
	tty    *os.File
	seen   chan []byte
	all    string
	status chan int
}

func (l testLab) terminal(t *testing.T, argv ...string) *terminalSession {
	t.Helper()
	cmd := l.command(append([]string{"exec", "a", "--"}, argv...)...)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	s := &terminalSession{t: t, tty: tty, seen: make(chan []byte, 1000), status: make(chan int, 1)}
	go func() {
		defer close(s.seen)
		for {
			buf := make([]byte, 4096)
			n, err := tty.Read(buf)
			if n > 0 {
				s.seen <- buf[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		cmd.Wait()
		s.status <- cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		tty.Close()
		cmd.Process.Kill()
	})
	return s
}

// expect reads until the text has been shown since the last call.
func (s *terminalSession) expect(text string) {
	s.t.Helper()
	limit := time.After(10 * time.Second)
	for !strings.Contains(s.all, text) {
		select {
		case b, ok := <-s.seen:
			if !ok {
				s.t.Fatalf("the terminal ended without %q: %q", text, s.all)
			}
			s.all += string(b)
		case <-limit:
			s.t.Fatalf("no %q in %q", text, s.all)
		}
	}
	s.all = s.all[strings.Index(s.all, text)+len(text):]
}

func (s *terminalSession) typed(keys string) {
	if _, err := s.tty.WriteString(keys); err != nil {
		s.t.Error(err)
	}
}

func (s *terminalSession) ends(want int) {
	s.t.Helper()
	select {
	case got := <-s.status:
		if got != want {
			s.t.Errorf("status %d instead of %d", got, want)
		}
	case <-time.After(10 * time.Second):
		s.t.Fatal("the command does not end")
	}
}

func TestTerminal(t *testing.T) {
	l := newLab(t, "--hosts", "1")

	s := l.terminal(t, "sh", "-c", "tty; stty size; echo $TERM; exit 3")
	s.expect("/dev/pts/0")
	s.expect("24 80")
	s.expect("xterm-256color")
	s.ends(3)

	s = l.terminal(t, "sh", "-c", "trap 'kill $!; stty size; exit 0' WINCH; sleep 1000 & echo ready; wait")
	s.expect("ready")
	pty.Setsize(s.tty, &pty.Winsize{Rows: 50, Cols: 132})
	s.expect("50 132")
	s.ends(0)

	s = l.terminal(t, "sleep", "1000")
	eventually(t, "sleep runs", func() bool { return l.status().Hosts[0].Procs > 0 })
	s.typed("\x03")
	s.ends(128 + 2)
}

func TestJobControl(t *testing.T) {
	if executable("/bin/bash") != nil {
		t.Skip("no bash here")
	}
	l := newLab(t, "--hosts", "1")
	s := l.terminal(t, "bash", "--norc", "--noprofile", "-i")
	s.typed("PS1='$ '; echo go$((1+1))\n")
	s.expect("go2")
	s.typed("sleep 1000\n")
	eventually(t, "sleep runs", func() bool { return l.status().Hosts[0].Procs == 2 })
	s.typed("\x1a")
	s.expect("Stopped")
	s.typed("kill %1; echo done$((1+1))\n")
	s.expect("done2")
	// Until bash has heard of the job's end, it says once that there are stopped jobs.
	s.typed("exit 5\nexit 5\n")
	s.ends(5)
}

// eventually waits for what cannot be awaited by an event.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestDaemonAndKeeper(t *testing.T) {
	l := unmadeLab(t)
	l.ok("up", "--no-desktop")
	for _, h := range l.status().Hosts {
		if h.Daemon == 0 {
			t.Errorf("no daemon on host %s", h.Name)
		}
	}
	killed := func(args ...string) int {
		t.Helper()
		var result struct{ Killed []int }
		if err := json.Unmarshal([]byte(l.ok(append([]string{"kill", "--json"}, args...)...)), &result); err != nil || len(result.Killed) != 1 {
			t.Fatalf("kill %q: %+v, %v", args, result, err)
		}
		return result.Killed[0]
	}
	before := l.status().Hosts[0].Daemon
	if pid := killed("a", "daemon"); pid != before {
		t.Errorf("killed %d, the daemon was %d", pid, before)
	}
	if s := l.status(); s.Hosts[0].Daemon != 0 || s.Hosts[1].Daemon == 0 {
		t.Errorf("after the death of a's daemon: %+v", s.Hosts)
	}
	l.ok("start", "a", "daemon")
	if got := l.status().Hosts[0].Daemon; got == 0 || got == before {
		t.Errorf("the new daemon is %d, the old one was %d", got, before)
	}
	l.ok("exec", "a", "--", "hither", "run", "-d", "--name", "sleeper", "sleep", "1000")
	keeper := killed("a", "keeper", "sleeper")
	if got := l.sh("a", fmt.Sprintf("cat /proc/%d/stat 2>/dev/null || echo dead", keeper)); got != "dead\n" {
		t.Errorf("the killed keeper: %q", got)
	}
	if _, errs, status := l.try("kill", "a", "keeper", "no-such-app"); status != 1 || !strings.Contains(errs, "no-such-app") {
		t.Errorf("killing the keeper of no app: %d %q", status, errs)
	}
	l.ok("kill", "a", "all")
	l.ok("start", "a")
	if l.status().Hosts[0].Daemon == 0 {
		t.Error("no daemon after the boot")
	}
}

func TestPowerOffAndBoot(t *testing.T) {
	l := newLab(t)
	l.sh("a", "echo kept >~/f; echo lost >/tmp/f; echo lost >/run/user/$(id -u)/f; setsid sleep 1000 >/dev/null 2>&1 & sleep 1000 >/dev/null 2>&1 &")
	if n := l.status().Hosts[0].Procs; n < 2 {
		t.Errorf("%d processes run", n)
	}
	l.ok("kill", "a", "all")
	s := l.status()
	if !s.Hosts[0].Down || s.Hosts[0].Procs != 0 || s.Hosts[1].Down {
		t.Errorf("after the power cut: %+v", s.Hosts)
	}
	if _, errs, status := l.try("exec", "a", "--", "true"); status != 125 || !strings.Contains(errs, "powered off") {
		t.Errorf("exec on a host without power: %d %q", status, errs)
	}
	l.ok("start", "a")
	if got := l.sh("a", "cat ~/f; find /tmp /run/user /dev/shm -name f"); got != "kept\n" {
		t.Errorf("after the boot: %q", got)
	}
	if _, errs, status := l.try("kill", "a", "daemon"); status != 1 || !strings.Contains(errs, "no daemon") {
		t.Errorf("killing a daemon that does not run: %d %q", status, errs)
	}
}
