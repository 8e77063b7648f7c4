package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
)

// The end-to-end tests do what people do: they start real programs with
// `hither run` on the hosts of a lab, move them with `hither send` in the midst
// of their work, and then ask the programs themselves what they remember.
//
// In a nutshell: theLab builds both programs and brings one lab up for all
// tests; start makes an app on host a; app.move moves it and checks the result;
// app.attach looks at its terminal through tmux, which is a terminal that we did
// not write. The tests wait for what they need to see, never for a time.
//
// HITHER_BIN names a folder of programs that are built already.

const (
	patience   = 30 * time.Second // for what takes a moment
	pollPeriod = 20 * time.Millisecond
)

// lab is a lab of this test's own.
type lab struct {
	bin, name string
}

var shared struct {
	once sync.Once
	bin  string // made by us, to be removed
	lab  *lab
	err  error
}

// sources is the folder of this package.
var sources string

func TestMain(m *testing.M) {
	flag.Parse()
	// Apps start where they are started, and a checkout may lie in /tmp, which
	// no host of a lab and no capsule shows.
	var err error
	if sources, err = os.Getwd(); err == nil {
		err = os.Chdir("/")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	if l := shared.lab; l != nil {
		if err := l.down(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	if tmux.used {
		exec.Command("tmux", "-L", tmux.socket, "kill-server").Run() //nolint:errcheck // it ends with its last window
		os.Remove(filepath.Join(tmux.dir, "tmux"))
		os.RemoveAll(tmux.dir)
	}
	if shared.bin != "" {
		os.RemoveAll(shared.bin)
	}
	os.Exit(status)
}

// theLab is the lab that most tests share.
func theLab(t *testing.T) *lab {
	t.Helper()
	shared.once.Do(func() {
		bin := os.Getenv("HITHER_BIN")
		if bin == "" {
			if bin, shared.err = os.MkdirTemp("", "hither-e2e-"); shared.err != nil {
				return
			}
			shared.bin = bin
			// Root's labs run as somebody else, who must be able to run this.
			if shared.err = os.Chmod(bin, 0o755); shared.err != nil {
				return
			}
			for _, p := range []string{"hither", "hither-lab"} {
				if shared.err = goBuild(filepath.Join(bin, p), "hither/cmd/"+p); shared.err != nil {
					return
				}
			}
		}
		l := &lab{bin: bin, name: fmt.Sprintf("e2e-%d", os.Getpid())}
		if shared.err = l.up(); shared.err == nil {
			shared.lab = l
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.lab
}

// ownLab is a lab for one test, which changes what is installed there.
func ownLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{bin: theLab(t).bin, name: fmt.Sprintf("e2e-%d-%d", os.Getpid(), labs.next())}
	if err := l.up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.down(); err != nil {
			t.Error(err)
		}
	})
	return l
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

var labs counter

func goBuild(to, what string) error {
	c := exec.Command("go", "build", "-buildvcs=false", "-o", to, what)
	c.Dir = sources
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", what, err, out)
	}
	return nil
}

func (l *lab) command(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(l.bin, "hither-lab"), append([]string{"--lab", l.name}, args...)...)
}

func (l *lab) up() error {
	if out, err := l.command("up", "--no-desktop").CombinedOutput(); err != nil {
		return fmt.Errorf("bringing the lab up: %w\n%s", err, out)
	}
	return nil
}

// down ends the lab, and looks whether something is left.
func (l *lab) down() error {
	if out, err := l.command("down").CombinedOutput(); err != nil {
		return fmt.Errorf("ending the lab: %w\n%s", err, out)
	}
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	var left []string
	for _, p := range all {
		line, _ := os.ReadFile(p)
		if words := bytes.Split(line, []byte{0}); !bytes.HasPrefix(words[0], []byte("tmux")) && contains(words, l.name) {
			left = append(left, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("left of lab %s: %q", l.name, left)
	}
	return nil
}

func contains(words [][]byte, word string) bool {
	for _, w := range words {
		if string(w) == word {
			return true
		}
	}
	return false
}

// done is how a command ended.
type done struct {
	out, err string
	status   int
}

// in runs a command on a host with something on its stdin.
func (l *lab) in(host, stdin string, argv ...string) done {
	c := l.command(append([]string{"exec", host, "--"}, argv...)...)
	c.Dir = "/"
	c.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	d := done{out: out.String(), err: errs.String()}
	var x *exec.ExitError
	switch {
	case errors.As(err, &x):
		d.status = x.ExitCode()
	case err != nil:
		d.status, d.err = 125, err.Error()
	}
	return d
}

func (l *lab) on(host string, argv ...string) done { return l.in(host, "", argv...) }

// must runs a command that may not fail, and returns what it printed.
func (l *lab) must(t *testing.T, host string, argv ...string) string {
	t.Helper()
	d := l.on(host, argv...)
	if d.status != 0 {
		t.Fatalf("%s on %s: status %d\n%s%s", strings.Join(argv, " "), host, d.status, d.out, d.err)
	}
	return d.out
}

// put writes a file on a host. Its path is relative to the home folder.
func (l *lab) put(t *testing.T, host, path, content string) string {
	t.Helper()
	d := l.in(host, content, "sh", "-c", `cd && cat >"$1" && realpath "$1"`, "sh", path)
	if d.status != 0 {
		t.Fatalf("writing %s on %s: %s", path, host, d.err)
	}
	return strings.TrimSpace(d.out)
}

// cat reads a file of a host.
func (l *lab) cat(t *testing.T, host, path string) string {
	t.Helper()
	return l.must(t, host, "sh", "-c", `cd && cat "$1"`, "sh", path)
}

// needs skips the test if the hosts lack a program.
func (l *lab) needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if l.on("a", "sh", "-c", `command -v "$1"`, "sh", p).status != 0 {
			t.Skipf("%s is not installed on this machine", p)
		}
	}
}

// app is an app under test.
type app struct {
	*lab
	name, at string
	ended    bool
}

// start starts an app on host a. When the test ends, so does the app.
func (l *lab) start(t *testing.T, name string, argv ...string) *app {
	t.Helper()
	l.must(t, "a", append([]string{"hither", "run", "-d", "--name", name}, argv...)...)
	a := &app{lab: l, name: name, at: "a"}
	t.Cleanup(func() {
		if t.Failed() {
			a.tellAll(t)
		}
		if !a.ended {
			if d := l.on(a.at, "hither", "stop", "--grace", "100ms", name); d.status != 0 {
				t.Errorf("stopping %s on %s: %s", name, a.at, d.err)
			}
		}
	})
	return a
}

// tellAll prints what could explain a failure.
func (a *app) tellAll(t *testing.T) {
	for _, host := range []string{"a", "b"} {
		d := a.on(host, "sh", "-c", `hither ls -a; cd ~/.local/state/hither && tail -n 15 *.out *.log 2>/dev/null`)
		t.Logf("host %s:\n%s%s", host, d.out, d.err)
	}
	d := a.on(a.at, "hither", "inspect", a.name)
	t.Logf("%s on %s:\n%s%s", a.name, a.at, d.out, d.err)
}

func (a *app) other() string {
	if a.at == "a" {
		return "b"
	}
	return "a"
}

// send asks for a move and returns its result and exit code.
func (a *app) send(t *testing.T, to string) (handover.Result, int) {
	t.Helper()
	d := a.on(a.at, "hither", "send", a.name, to, "--json")
	lines := strings.Split(strings.TrimSpace(d.out), "\n")
	var r handover.Result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil || r.Outcome == "" {
		t.Fatalf("hither send %s %s: status %d, no result at the end:\n%s%s", a.name, to, d.status, d.out, d.err)
	}
	return r, d.status
}

// move moves the app to the other host.
func (a *app) move(t *testing.T) handover.Result {
	t.Helper()
	from, to := a.at, a.other()
	r, status := a.send(t, to)
	if status != 0 || r.Outcome != handover.Moved || r.From != from || r.To != to || r.App != a.name {
		t.Fatalf("moving %s from %s to %s: status %d, result %+v", a.name, from, to, status, r)
	}
	a.at = to
	if _, here := a.find(t, from); here {
		t.Fatalf("%s is still on %s after it moved to %s", a.name, from, to)
	}
	if got, here := a.find(t, to); !here || got.State != "running" {
		t.Fatalf("%s is not running on %s after it moved there: %+v", a.name, to, got)
	}
	t.Logf("%s -> %s: %.0f ms still, %.0f ms in all, %d bytes", from, to, r.DowntimeMS, r.TotalMS, r.BytesSent)
	return r
}

// find looks for the app in a host's list.
func (a *app) find(t *testing.T, host string) (control.App, bool) {
	t.Helper()
	var list control.Apps
	a.json(t, &list, host, "hither", "ls", "--json")
	for _, x := range list.Apps {
		if x.Name == a.name {
			return x, true
		}
	}
	return control.App{}, false
}

// json runs a command and reads what it prints.
func (l *lab) json(t *testing.T, into any, host string, argv ...string) {
	t.Helper()
	out := l.must(t, host, argv...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%s on %s prints no JSON: %v\n%s", strings.Join(argv, " "), host, err, out)
	}
}

// tour moves the app a -> b -> a -> b, and after each move asks.
func (a *app) tour(t *testing.T, ask func(host string)) {
	t.Helper()
	for range 3 {
		a.move(t)
		ask(a.at)
	}
}

// exec runs a command beside the app.
func (a *app) exec(t *testing.T, argv ...string) string {
	t.Helper()
	return a.must(t, a.at, append([]string{"hither", "exec", a.name}, argv...)...)
}

// until waits for something to hold; what it returns is told if it never does.
func until(t *testing.T, what string, holds func() (bool, string)) {
	t.Helper()
	within(t, patience, what, holds)
}

// within is until with a patience of its own.
func within(t *testing.T, patience time.Duration, what string, holds func() (bool, string)) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	for {
		ok, seen := holds()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v; last seen:\n%s", what, patience, seen)
		case <-time.After(pollPeriod):
		}
	}
}
