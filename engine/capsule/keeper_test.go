package capsule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
	"hither/engine/terminal"
)

// visitor is somebody attached to a terminal.
type visitor struct {
	t    *testing.T
	init int
	in   *os.File
	end  chan terminal.Outcome
	mu   sync.Mutex
	seen bytes.Buffer
}

func visit(t *testing.T, ctx context.Context, c *Capsule, fresh bool) *visitor {
	t.Helper()
	conn, err := c.Attach(terminal.Hello{Size: terminal.Winsize{Rows: 24, Cols: 80}, Fresh: fresh})
	if err != nil {
		t.Fatal(err)
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t, init: c.first.Init.Pid, in: inW, end: make(chan terminal.Outcome, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := outR.Read(buf)
			v.mu.Lock()
			v.seen.Write(buf[:n])
			v.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() {
		o, _ := terminal.Client(ctx, conn, inR, outW, terminal.Options{DetachKeys: "none"})
		outW.Close()
		v.end <- o
	}()
	t.Cleanup(func() { inW.Close() })
	return v
}

func (v *visitor) types(s string) {
	v.t.Helper()
	if _, err := v.in.WriteString(s); err != nil {
		v.t.Fatal(err)
	}
}

func (v *visitor) sees(text string) {
	v.t.Helper()
	seen := ""
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		v.mu.Lock()
		seen = v.seen.String()
		v.mu.Unlock()
		if strings.Contains(seen, text) {
			return
		}
		if time.Now().After(end) {
			v.t.Fatalf("waited in vain for the terminal to show %q, it shows %q", text, seen)
		}
	}
}

// foreground waits until a program of that name has the terminal: what is typed is for it, and so are the signals.
func (v *visitor) foreground(program string) {
	v.t.Helper()
	waitFor(v.t, program+" to have the foreground", func() bool {
		pids, _ := kernel.Descendants(v.init)
		for _, pid := range pids {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			var state string
			var parent, group, session, device, front int
			_, after, _ := strings.Cut(string(stat), " ("+program+") ")
			fmt.Sscan(after, &state, &parent, &group, &session, &device, &front)
			if pid == group && group == front {
				return true
			}
		}
		return false
	})
}

func (v *visitor) ends() terminal.Outcome {
	v.t.Helper()
	select {
	case o := <-v.end:
		return o
	case <-time.After(10 * time.Second):
		v.t.Fatal("the visit does not end")
	}
	return terminal.Outcome{}
}

// terminalShell is a shell on a terminal of its own.
func terminalShell() Spec {
	s := shell("")
	s.Argv = []string{"sh"}
	s.Env = append(s.Env, "PS1=ready> ", "ENV=")
	s.TTY = true
	return s
}

// TestTerminal: a terminal is one also for who is started by something that heeds no ^C.
func TestTerminal(t *testing.T) {
	ctx := lab(t)
	signal.Ignore(unix.SIGINT)
	defer signal.Reset(unix.SIGINT)
	s := terminalShell()
	s.Winsize = Winsize{Row: 24, Col: 80}
	c, err := Start(ctx, s, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	v := visit(t, ctx, c, true)
	v.sees("ready> ")
	v.types("tty; stty size; echo p$$; sleep 100\n")
	v.sees("/dev/pts/0")
	v.sees("24 80")
	v.sees("p2")
	v.foreground("sleep")
	v.types("\x03")
	v.foreground("sh")
	v.types("echo after-$?\n")
	v.sees("after-130")
	v.types("exit 3\n")
	if o := v.ends(); o.Kind != terminal.Exited || o.Status != 3 {
		t.Errorf("the visit ended with %+v", o)
	}
	if end, err := c.Wait(ctx); err != nil || end.Status != 3 {
		t.Errorf("waited for %+v, %v", end, err)
	}
}

// TestLastOutput: a program that has ended before anybody attached shows all the same.
func TestLastOutput(t *testing.T) {
	ctx := lab(t)
	s := shell("echo this was all")
	s.TTY = true
	c, err := Start(ctx, s, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the program to end", func() bool { st, err := c.State(); return err == nil && st.Status != nil })
	v := visit(t, ctx, c, true)
	v.sees("this was all")
	if o := v.ends(); o.Kind != terminal.Exited || o.Status != 0 {
		t.Errorf("the visit ended with %+v", o)
	}
	if _, err := c.Wait(ctx); err != nil {
		t.Error(err)
	}
}

// TestKeeperKilled: the app does not notice, a new keeper finds everything.
func TestKeeperKilled(t *testing.T) {
	ctx := lab(t)
	s := terminalShell()
	s.Detached = true
	c, err := Start(ctx, s, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	v := visit(t, ctx, c, false)
	v.types("secret=4711\n")
	v.types("(sleep 0.1; exit 5) & echo going\n")
	v.sees("going")
	st, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(st.Keeper.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if o := v.ends(); o.Kind != terminal.Lost {
		t.Errorf("the visit ended with %+v", o)
	}
	waitFor(t, "the keeper to die", func() bool { return !st.Keeper.Alive() })
	if !st.Init.Alive() {
		t.Fatal("the app died with its keeper")
	}
	if _, err := c.Status(ctx); !errors.Is(err, ErrNoKeeper) {
		t.Errorf("status without a keeper: %v", err)
	}
	dir := c.Dir()
	c.Close()
	if c, err = Open(st.Spec.ID); err != nil || c.Dir() != dir {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := c.AdoptKeeper(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.AdoptKeeper(ctx); !errors.Is(err, ErrKept) {
		t.Errorf("a second new keeper: %v", err)
	}
	v = visit(t, ctx, c, false)
	v.types("echo it-is-$secret; exit 9\n")
	v.sees("it-is-4711")
	if o := v.ends(); o.Kind != terminal.Exited || o.Status != 9 {
		t.Errorf("the visit ended with %+v", o)
	}
}

// TestWaitAcrossKeepers: who waits for the app gets its status even if the keeper dies.
func TestWaitAcrossKeepers(t *testing.T) {
	ctx := lab(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c, err := Start(ctx, shell("read x; exit 42"), [3]*os.File{r, nil, nil})
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan Outcome, 1)
	go func() {
		o, err := c.Wait(ctx)
		if err != nil {
			t.Error(err)
		}
		got <- o
	}()
	old, err := readState(c.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(old.Keeper.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a new keeper", func() bool {
		st, err := readState(c.Dir())
		return err == nil && st.Keeper.Pid != old.Keeper.Pid
	})
	w.Close()
	if o := <-got; o.Status != 42 {
		t.Errorf("waited for %+v", o)
	}
}

func TestExec(t *testing.T) {
	ctx := lab(t)
	s := shell("read x")
	s.Env = append(s.Env, "FRUIT=pear")
	s.Detached = true
	c, err := Start(ctx, s, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Stop(ctx, 0); err != nil {
			t.Error(err)
		}
		c.Close()
	}()
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		status, err := c.Exec(ctx, ExecSpec{Argv: []string{"sh", "-c", "echo $FRUIT $PPID; grep CapBnd /proc/self/status; exit 12"}}, [3]*os.File{nil, w, w})
		w.Close()
		if err != nil || status != 12 {
			t.Errorf("status %d, %v", status, err)
		}
		buf := make([]byte, 100)
		n, _ := r.Read(buf)
		if got := string(buf[:n]); got != "pear 1\nCapBnd:\t0000000000000000\n" {
			t.Errorf("got %q", got)
		}
		r.Close()
	}
	_, err = c.Exec(ctx, ExecSpec{Argv: []string{"no-such-command"}}, [3]*os.File{})
	var e *ExecError
	if !errors.As(err, &e) || e.Code != 127 {
		t.Errorf("got %v", err)
	}
	conn, err := c.ExecTerminal(ExecSpec{Argv: []string{"sh", "-c", "tty; exit 4"}}, terminal.Hello{Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	in, _ := os.Open("/dev/null")
	defer in.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	o, err := terminal.Client(ctx, conn, in, w, terminal.Options{})
	w.Close()
	buf := make([]byte, 4096)
	n, _ := r.Read(buf)
	if err != nil || o.Kind != terminal.Exited || o.Status != 4 || !strings.Contains(string(buf[:n]), "/dev/pts/1") {
		t.Errorf("%+v, %v: %q", o, err, buf[:n])
	}
}

func TestNotFound(t *testing.T) {
	ctx := lab(t)
	s := shell("")
	s.Argv = []string{"no-such-command"}
	_, err := Start(ctx, s, [3]*os.File{})
	var e *ExecError
	if !errors.As(err, &e) || e.Code != 127 {
		t.Errorf("not found: %v", err)
	}
	s.Argv = []string{"/etc/passwd"}
	if _, err = Start(ctx, s, [3]*os.File{}); !errors.As(err, &e) || e.Code != 126 {
		t.Errorf("not executable: %v", err)
	}
	s.Argv, s.Dir = []string{"true"}, "/tmp/nowhere"
	if _, err = Start(ctx, s, [3]*os.File{}); err == nil || !strings.Contains(err.Error(), "private") {
		t.Errorf("folder that is not there: %v", err)
	}
}

// TestAnswerBeforeTheEnd: what a child has said of its order counts, also if the keeper sees pid 1's end first.
func TestAnswerBeforeTheEnd(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // then it does
	for range 20 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		bell, ring, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		k := &keeper{pidfd: -1, dead: make(chan struct{}), orders: os.NewFile(uintptr(pair[1]), "orders"), goPipe: ring, exits: map[int]chan int{}}
		go func() { // pid 1, its child, and their end
			defer close(k.dead)
			bell.Read(make([]byte, 1)) //nolint:errcheck // looked at below
			oob := make([]byte, unix.CmsgSpace(8*4))
			_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), oob, 0)
			if err != nil {
				t.Error(err)
				return
			}
			ms, _ := unix.ParseSocketControlMessage(oob[:n])
			fds, err := unix.ParseUnixRights(&ms[0])
			if err != nil {
				t.Error(err)
				return
			}
			unix.Write(fds[1], []byte(`{"pid":2}{"code":127,"error":"not found"}`)) //nolint:errcheck // looked at below
			for _, fd := range fds {
				unix.Close(fd)
			}
		}()
		_, _, err = k.give(&order{}, nil)
		var e *ExecError
		if !errors.As(err, &e) || e.Code != 127 {
			t.Fatalf("it is told %v", err)
		}
		k.orders.Close()
		unix.Close(pair[0])
		bell.Close()
		ring.Close()
	}
}

func TestSignalsAndZombies(t *testing.T) {
	ctx := lab(t)
	if _, status := run(t, ctx, shell("kill -TERM $$")); status != 128+15 {
		t.Errorf("status %d", status)
	}
	// The grandchild becomes pid 1's child, ends, and must not stay as a zombie.
	out, status := run(t, ctx, shell(`
		sh -c 'sh -c "exit 1" & echo $!' > /tmp/pid
		pid=$(cat /tmp/pid)
		while test -e /proc/$pid; do :; done
		echo reaped`))
	if out != "reaped" || status != 0 {
		t.Errorf("%q, status %d", out, status)
	}
	// What outlives the app's first process keeps the capsule.
	s := shell("trap '' HUP; sh -c 'mkfifo /tmp/fifo; read x < /tmp/fifo; kill -9 1; echo end > $HOME/end' & exit 6")
	s.Detached = true
	c, err := Start(ctx, s, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	if o, err := c.Wait(ctx); err != nil || o.Status != 6 {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := c.Exec(ctx, ExecSpec{Argv: []string{"sh", "-c", "while ! test -p /tmp/fifo; do :; done; echo > /tmp/fifo"}}, [3]*os.File{}); err != nil {
		t.Error(err)
	}
	waitFor(t, "the last process' word", func() bool { _, err := os.Stat(os.Getenv("HOME") + "/end"); return err == nil })
}

func TestStop(t *testing.T) {
	ctx := lab(t)
	for name, s := range map[string]Spec{
		"kindly":     shell("trap 'kill $!; echo bye > $HOME/bye; exit' TERM; sleep 1000 & echo > $HOME/up; wait"), // dash drops a signal that comes during a vfork
		"stubbornly": shell("trap '' TERM HUP; echo > $HOME/up; while :; do sleep 0.01; done"),
	} {
		t.Run(name, func(t *testing.T) {
			s.Detached = true
			up := os.Getenv("HOME") + "/up"
			os.Remove(up)
			c, err := Start(ctx, s, [3]*os.File{})
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the app to be up", func() bool { _, err := os.Stat(up); return err == nil })
			grace := 5 * time.Second
			if name == "stubbornly" {
				grace = 50 * time.Millisecond
			}
			v := visit(t, ctx, c, false)
			if err := c.Stop(ctx, grace); err != nil {
				t.Fatal(err)
			}
			c.Close()
			if st := c.first; st.Init.Alive() {
				t.Error("pid 1 lives")
			}
			if o := v.ends(); o.Kind != terminal.Stopped {
				t.Errorf("the visit ended with %+v", o)
			}
			if _, err := os.Stat(os.Getenv("HOME") + "/bye"); (err == nil) != (name == "kindly") {
				t.Errorf("its last word: %v", err)
			}
			os.Remove(os.Getenv("HOME") + "/bye")
		})
	}
}

// TestStopWithoutKeeper: also then nothing is left behind.
func TestStopWithoutKeeper(t *testing.T) {
	ctx := lab(t)
	s := shell("while :; do sleep 1; done")
	s.Detached = true
	c, err := Start(ctx, s, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(c.first.Keeper.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the keeper to die", func() bool { return !c.first.Keeper.Alive() })
	if err := c.Stop(ctx, time.Second); err != nil {
		t.Fatal(err)
	}
	if c.first.Init.Alive() {
		t.Error("pid 1 lives")
	}
}

// TestArrival: an arriving capsule waits; let go without an app it ends.
func TestArrival(t *testing.T) {
	ctx := lab(t)
	c, err := Start(ctx, Spec{ID: NewID(), Name: "guest", Restore: true, Env: os.Environ()}, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if st, err := c.Status(ctx); err != nil || st.Phase != Waiting {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := c.Attach(terminal.Hello{}); err == nil || !strings.Contains(err.Error(), "arriving") {
		t.Errorf("attaching: %v", err)
	}
	pids, err := c.Processes()
	if err != nil || len(pids) != 1 || pids[1] != c.InitPid() {
		t.Errorf("processes: %v, %v", pids, err)
	}
	if err := c.Arrived(ctx, Arrival{Main: 2}); err != nil {
		t.Error(err)
	}
	if st, err := c.Status(ctx); err != nil || st.Phase != Running || st.Main != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := c.Go(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "pid 1 to end", func() bool { return !c.first.Init.Alive() })
}

// TestMoved: who is attached or waits learns where the app went.
func TestMoved(t *testing.T) {
	ctx := lab(t)
	s := terminalShell()
	c, err := Start(ctx, s, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	v := visit(t, ctx, c, true)
	v.sees("ready> ")
	screen, _, err := c.Pause(ctx)
	if err != nil || !strings.Contains(string(screen), "ready>") {
		t.Fatalf("screen %q, %v", screen, err)
	}
	if _, err := c.Exec(ctx, ExecSpec{Argv: []string{"true"}}, [3]*os.File{}); err == nil {
		t.Error("exec in a paused capsule worked")
	}
	if err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	v.types("echo go''ing\n")
	v.sees("going")
	if _, _, err := c.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Moved(ctx, "laptop"); err != nil {
		t.Fatal(err)
	}
	if o := v.ends(); o.Kind != terminal.Moved || o.Host != "laptop" {
		t.Errorf("the visit ended with %+v", o)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if o, err := c.Wait(ctx); err != nil || o.Moved != "laptop" {
		t.Errorf("waited for %+v, %v", o, err)
	}
}

// TestGoneBeforeTheAnswer: the portals stay open if the move that wants them closed is
// cancelled, or its daemon dies, before the keeper comes to it.
func TestGoneBeforeTheAnswer(t *testing.T) {
	ctx := lab(t)
	c, err := Start(ctx, terminalShell(), [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	v := visit(t, ctx, c, true)
	v.sees("ready> ")
	for _, op := range []string{"part", "pause"} {
		// It stays open, so that its inode cannot be the next one's.
		state, err := os.Open(filepath.Join(c.Dir(), stateFile))
		if err != nil {
			t.Fatal(err)
		}
		defer state.Close()
		if err := unix.Kill(c.first.Keeper.Pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		conn, err := c.dial()
		if err != nil {
			t.Fatal(err)
		}
		if err := reply(conn, request{Op: op}); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if err := unix.Kill(c.first.Keeper.Pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the keeper to come to it", func() bool {
			before, err := state.Stat()
			now, err2 := os.Stat(state.Name())
			return errors.Join(err, err2) == nil && !os.SameFile(before, now)
		})
		waitFor(t, "the portals to be open after a "+op+" that nobody waits for", func() bool {
			st, err := c.Status(ctx)
			return err == nil && st.Phase == Running
		})
		if _, err := c.Exec(ctx, ExecSpec{Argv: []string{"true"}}, [3]*os.File{}); err != nil {
			t.Error(err)
		}
		v.types("echo after-" + op + "''-typed\n")
		v.sees("after-" + op + "-typed")
	}
	v.types("exit\n")
	v.ends()
}

func TestConcurrentStarts(t *testing.T) {
	ctx := lab(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if out, status := run(t, ctx, shell(fmt.Sprintf("echo %d $$; exit %d", i, i))); out != fmt.Sprintf("%d 2", i) || status != i {
				t.Errorf("%d: %q, status %d", i, out, status)
			}
		})
	}
	wg.Wait()
}

// TestNothingLeft counts mounts here and processes of the keeper's.
func TestNothingLeft(t *testing.T) {
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	ctx := lab(t)
	s := shell("sleep 1000 & sleep 1000 & wait")
	s.Detached = true
	c, err := Start(ctx, s, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the app's processes", func() bool { p, err := c.Processes(); return err == nil && len(p) == 4 })
	pids, err := c.Processes()
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	pids[-1] = st.Keeper.Pid
	if err := c.Stop(ctx, 0); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for inside, host := range pids {
		waitFor(t, fmt.Sprintf("process %d to go", inside), func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/%d", host))
			return err != nil
		})
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Errorf("mounts changed:\n%s\n%s", before, after)
	}
}

func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	b.Setenv("HOME", dir)
	b.Setenv("XDG_RUNTIME_DIR", dir+"/run")
	ctx := context.Background()
	for b.Loop() {
		c, err := Start(ctx, shell("exit 0"), [3]*os.File{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Wait(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
