package restore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hither/engine/capsule"
	"hither/engine/checkpoint"
	"hither/engine/files"
	"hither/engine/handle"
	"hither/engine/image"
	"hither/engine/memory"
	"hither/engine/paths"
	"hither/engine/restore"
	"hither/engine/tracee"
)

// The test binary stands in for hither.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "capsule-init":
			capsule.InitMain()
		case "capsule-exec":
			capsule.ExecMain()
		case "keeper":
			capsule.KeeperMain()
			os.Exit(0)
		case "capture-and-wait":
			captureAndWait(os.Args[2])
		}
	}
	os.Exit(m.Run())
}

// house gives a test folders of its own and ends all its capsules.
func house(t *testing.T) context.Context {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(home, "run"))
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("XDG_STATE_HOME", "")
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	t.Cleanup(func() {
		dir, err := paths.Capsules()
		if err != nil {
			t.Fatal(err)
		}
		left, _ := capsule.List(dir)
		for _, c := range left {
			c.Stop(context.Background(), 0) //nolint:errcheck // the end of the test
		}
		// The keepers clear away behind them; the test's folder must outlast that.
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
				return
			}
			if time.Now().After(end) {
				t.Error("a capsule is left behind")
				return
			}
		}
	})
	return ctx
}

// clone moves an app from one capsule to another on this host, by the same
// steps as a move between hosts.
func clone(t *testing.T, ctx context.Context, from *capsule.Capsule) *capsule.Capsule {
	t.Helper()
	return cloneAhead(t, ctx, from, 0)
}

// ahead sends all memory that can go ahead while the app runs, in so many rounds.
func ahead(ctx context.Context, from *checkpoint.Ahead, to *restore.Builder, tr *tracee.Tracer, rounds int) (sum memory.Totals, err error) {
	looker := tracee.New()
	defer looker.Close()
	for range rounds {
		next, err := from.Round(looker)
		if err != nil {
			return sum, err
		}
		if err := tr.Do(func() error { return to.Stage(from.Budget, next.Drop, next.Areas) }); err != nil {
			return sum, err
		}
		r, w := io.Pipe()
		go func() {
			_, err := memory.Send(ctx, w, next.Sources, memory.Options{Live: true})
			w.CloseWithError(err)
		}()
		totals, err := memory.Receive(ctx, r, to.StagePlace)
		if err != nil {
			return sum, err
		}
		sum.Bytes += totals.Bytes
	}
	return sum, nil
}

// cloneAhead is clone, with rounds of memory ahead of the freeze.
func cloneAhead(t *testing.T, ctx context.Context, from *capsule.Capsule, rounds int) *capsule.Capsule {
	t.Helper()
	state, err := from.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	src, dst := tracee.New(), tracee.New()
	defer src.Close()
	defer dst.Close()
	var frozen *checkpoint.Frozen
	var app *image.App
	start := time.Now()
	must := func(doing string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", doing, err)
		}
	}
	spec := state.Spec
	spec.ID, spec.Restore = "", true
	to, err := capsule.Start(ctx, spec, [3]*os.File{})
	must("starting the empty capsule", err)
	t.Cleanup(to.Close)
	var b *restore.Builder
	must("taking the empty capsule", dst.Do(func() (err error) {
		b, err = restore.Take(dst, to.InitPid())
		return err
	}))
	var before *checkpoint.Ahead
	var early memory.Totals
	if rounds > 0 {
		before = checkpoint.NewAhead(from.InitPid())
		before.Budget = 1 << 30
		defer before.Close()
		early, err = ahead(ctx, before, b, dst, rounds)
		must("sending memory ahead", err)
		// As when the capsule has to be made anew.
		must("keeping it", dst.Do(func() error {
			kept, err := b.Keep()
			if err != nil {
				return err
			}
			return errors.Join(b.StageOnly(nil), b.Return(kept), kept.Close())
		}))
	}
	prepared := time.Now()
	must("freezing", src.Do(func() (err error) {
		frozen, err = checkpoint.Freeze(src, from.InitPid())
		return err
	}))
	froze := time.Now()
	screen, held, err := from.Pause(ctx)
	must("closing the portals", err)
	must("capturing", src.Do(func() (err error) {
		id := checkpoint.Identity{ID: state.Spec.ID, Name: state.Spec.Name, Main: state.Main, OtherVDSO: restore.ForceForeignVDSO}
		if state.Spec.TTY {
			id.Portals = []int{capsule.FDTerminal}
		}
		frozen.Ahead = before
		app, err = frozen.Capture(id)
		return err
	}))
	captured := time.Now()
	encoded, err := app.Encode()
	must("encoding", err)
	app, err = image.Decode(encoded)
	must("decoding", err)
	for _, p := range app.Processes {
		for _, v := range p.VMAs {
			if v.Shared && v.End-v.Start == tracee.TrainSize {
				t.Errorf("process %d takes along what injected calls are made from, at %#x", p.Pid, v.Start)
			}
		}
	}
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := memory.Send(ctx, w, frozen.Memory, memory.Options{})
		w.CloseWithError(err)
		sent <- err
	}()
	tr, tw := io.Pipe()
	go func() {
		_, _, err := files.SendTree(ctx, tw, fmt.Sprintf("/proc/%d/root/tmp", from.InitPid()), files.TreeOptions{})
		tw.CloseWithError(err)
	}()
	_, err = files.ReceiveTree(ctx, tr, fmt.Sprintf("/proc/%d/root/tmp", to.InitPid()), 0, nil)
	must("carrying /tmp", err)
	var totals memory.Totals
	must("restoring", dst.Do(func() (err error) {
		if err := b.StageOnly(frozen.AheadOf); err != nil {
			return fmt.Errorf("ahead: %w", err)
		}
		if err := b.Begin(app, handle.Env{Pid: to.InitPid()}); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		if totals, err = memory.Receive(ctx, r, b.Place); err != nil {
			return fmt.Errorf("memory: %w", err)
		}
		if err := errors.Join(b.Furnish(), b.Finish()); err != nil {
			return fmt.Errorf("finish: %w", err)
		}
		return nil
	}))
	must("sending memory", <-sent)
	restored := time.Now()
	must("ending the old capsule", from.Kill())
	from.Close() // its keeper waits for that
	must("ending the old processes", src.Do(func() error {
		frozen.Close()
		return src.Kill(frozen.Procs)
	}))
	must("arriving", to.Arrived(ctx, capsule.Arrival{Main: state.Main, TTY: state.Spec.TTY, Screen: screen, Held: held}))
	must("resuming", dst.Do(b.Resume))
	must("going", to.Go())
	t.Logf("image %d bytes, memory %d bytes ahead and %d bytes; prepare %v, freeze %v, capture %v, restore %v, resume %v", len(encoded), early.Bytes, totals.Bytes,
		prepared.Sub(start), froze.Sub(prepared), captured.Sub(froze), restored.Sub(captured), time.Since(restored))
	return to
}

// app is a program in a capsule with its standard output in a file.
type app struct {
	c   *capsule.Capsule
	out string
}

func start(t *testing.T, ctx context.Context, argv ...string) *app {
	t.Helper()
	out := filepath.Join(os.Getenv("HOME"), "out")
	f, err := os.OpenFile(out, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c, err := capsule.Start(ctx, capsule.Spec{Argv: argv, Env: os.Environ(), Dir: "/", Umask: 0o022}, [3]*os.File{null, f, f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &app{c, out}
}

// await waits until the output has a line that begins with the text, and
// returns all lines.
func (a *app) await(t *testing.T, text string) []string {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		f, err := os.Open(a.out)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		found := false
		for s := bufio.NewScanner(f); s.Scan(); {
			lines = append(lines, s.Text())
			found = found || strings.HasPrefix(s.Text(), text)
		}
		f.Close()
		if found {
			return lines
		}
	}
	b, _ := os.ReadFile(a.out)
	t.Fatalf("waited in vain for %q in\n%s", text, b)
	return nil
}

// TestPython moves a program that counts with threads and holds a secret
// that exists nowhere else.
func TestPython(t *testing.T) {
	ctx := house(t)
	a := start(t, ctx, "/usr/bin/python3", "-u", "-c", `
import threading, time, os, random
secret = os.urandom(16).hex()
print("secret", secret, os.getpid(), threading.get_native_id())
gen = (i*i for i in range(1000000))
next(gen)
random.seed(7)
n = [0, 0, 0]
def count(k):
    while True:
        n[k] += 1
        time.sleep(0.001)
for k in range(3):
    threading.Thread(target=count, args=(k,), daemon=True).start()
last = time.monotonic()
for i in range(100000):
    time.sleep(0.05)
    now = time.monotonic()
    print("tick", i, next(gen), "%.6f" % random.random(), secret, os.getpid(), *n, "%.3f" % (now - last))
    last = now
`)
	lines := a.await(t, "tick 3 ")
	c := a.c
	for hop := range 3 {
		c = clone(t, ctx, c)
		seen := len(lines)
		lines = a.await(t, fmt.Sprintf("tick %d ", 3+(hop+1)*10))
		if len(lines) < seen+5 {
			t.Fatalf("only %d lines", len(lines))
		}
	}
	secret := strings.Fields(lines[0])[1]
	for i, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) != 10 || f[1] != fmt.Sprint(i) || f[2] != fmt.Sprint((i+1)*(i+1)) || f[4] != secret {
			t.Fatalf("line %d: %s", i, line)
		}
	}
	t.Log(lines[len(lines)-1])
}

// TestCrowd moves 50 processes of 4 threads.
func TestCrowd(t *testing.T) {
	ctx := house(t)
	a := start(t, ctx, "/usr/bin/python3", "-u", "-c", `
import os, threading, time
kids = []
for i in range(50):
    r, w = os.pipe()
    r2, w2 = os.pipe()
    pid = os.fork()
    if pid == 0:
        n = [0, 0, 0]
        def count(k):
            while True:
                n[k] += 1
                time.sleep(0.01)
        for k in range(3):
            threading.Thread(target=count, args=(k,), daemon=True).start()
        while os.read(r, 1):
            os.write(w2, b"%d %d " % (i, min(n)))
    kids.append((w, r2))
last = [0] * 50
for turn in range(100000):
    for i, (w, r) in enumerate(kids):
        os.write(w, b"?")
        who, n = map(int, os.read(r, 100).split())
        assert who == i and n >= last[i], (i, who, n, last[i])
        last[i] = n
    print("turn", turn, min(last))
    time.sleep(0.05)
`)
	a.await(t, "turn 3 ")
	c := a.c
	for hop := range 2 {
		c = clone(t, ctx, c)
		lines := a.await(t, "turn "+fmt.Sprint((hop+1)*15)+" ")
		t.Log(lines[len(lines)-1])
	}
}

// captureAndWait is a tracer that is about to be killed.
func captureAndWait(pid string) {
	tr := tracee.New()
	err := tr.Do(func() error {
		init, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		frozen, err := checkpoint.Freeze(tr, init)
		if err != nil {
			return err
		}
		_, err = frozen.Capture(checkpoint.Identity{ID: "0123456789abcdef", Name: "dies", Main: 2})
		return err
	})
	fmt.Println("captured", err)
	select {}
}

// TestTracerDies moves an app whose tracer was killed when it had just captured it: the
// app runs on, and takes nothing of that along.
func TestTracerDies(t *testing.T) {
	ctx := house(t)
	a := start(t, ctx, "/usr/bin/python3", "-u", "-c", `
import os, time
os.fork()
for i in range(100000):
    print("tick", i)
    time.sleep(0.01)
`)
	a.await(t, "tick 3")
	tracer := exec.Command("/proc/self/exe", "capture-and-wait", strconv.Itoa(a.c.InitPid()))
	says, err := tracer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(says).ReadString('\n')
	_ = tracer.Process.Kill()
	_ = tracer.Wait()
	if line != "captured <nil>\n" {
		t.Fatal(line, err)
	}
	clone(t, ctx, a.c)
	a.await(t, fmt.Sprintf("tick %d", len(a.await(t, "tick 3"))))
}

// TestForeignVDSO moves a program as if between kernels with different vdsos,
// twice, and home again to the same one: it reads the clock all the time, so that it is likely to
// be stopped inside the vdso.
func TestForeignVDSO(t *testing.T) {
	ctx := house(t)
	a := start(t, ctx, "/usr/bin/python3", "-u", "-c", `
import time
from itertools import repeat, starmap
last = time.monotonic()
i = 0
while True:
    for now in starmap(time.monotonic, repeat((), 100000)):
        assert now >= last, (now, last)
        last = now
    assert abs(time.clock_gettime(time.CLOCK_BOOTTIME) - last) < 1e6
    i += 1
    print("clock", i)
`)
	a.await(t, "clock 3")
	defer func() { restore.ForceForeignVDSO = false }()
	c := a.c
	for _, foreign := range []bool{true, true, true, false, false} {
		restore.ForceForeignVDSO = foreign
		c = clone(t, ctx, c)
		lines := a.await(t, fmt.Sprintf("clock %d", len(a.await(t, "clock"))+20))
		if strings.Contains(strings.Join(lines, "\n"), "Error") {
			t.Fatal(lines[len(lines)-1])
		}
	}
}
