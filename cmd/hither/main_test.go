package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hither/engine/control"
	"hither/engine/kernel"
	"hither/transport"
)

// The test binary is hither itself in all of its roles, so that these tests
// need no other program. (TestMain is that of the end-to-end tests.)
func init() {
	kernel.ProbeChild()
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		main()
		os.Exit(0)
	}
}

// host is one of several hosts on this machine: folders and a port of its own.
type host struct {
	t      *testing.T
	name   string
	dir    string
	bin    string   // hither
	extra  []string // in its environment
	port   int
	client *control.Client
	daemon *exec.Cmd
	out    *bytes.Buffer
}

// hosts makes hosts that are paired with each other; their daemons run.
func hosts(t *testing.T, names ...string) []*host {
	t.Helper()
	return hostsOf(t, "/proc/self/exe", names...)
}

// built is the hither of `make build`, if there is one: the race detector makes
// each start of a program cost a second, and the tests of faults start many.
func built() string {
	if dir := os.Getenv("HITHER_BIN"); dir != "" {
		if bin := filepath.Join(dir, "hither"); exec.Command(bin, "help").Run() == nil {
			return bin
		}
	}
	return "/proc/self/exe"
}

func hostsOf(t *testing.T, bin string, names ...string) []*host {
	t.Helper()
	return hostsWith(t, bin, nil, names...)
}

// hostsWith are hosts whose daemons have something in their environment.
func hostsWith(t *testing.T, bin string, env []string, names ...string) []*host {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real processes")
	}
	var all []*host
	var cards []transport.Peer
	for _, name := range names {
		h := &host{t: t, name: name, bin: bin, extra: env, dir: filepath.Join(t.TempDir(), name)}
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h.port = c.LocalAddr().(*net.UDPAddr).Port
		c.Close()
		data := filepath.Join(h.dir, "data", "hither")
		for _, dir := range []string{data, filepath.Join(h.dir, "run"), filepath.Join(h.dir, "home")} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		id, err := transport.LoadIdentity(data)
		if err != nil {
			t.Fatal(err)
		}
		cards = append(cards, transport.Peer{ID: id.ID(), Name: name, Key: id.Public(), Addresses: []string{relays.to(t, h.port)}})
		h.client = control.New(filepath.Join(h.dir, "run", "hither", "control.sock"))
		all = append(all, h)
	}
	for i, h := range all {
		trust, err := transport.OpenTrust(filepath.Join(h.dir, "data", "hither"))
		if err != nil {
			t.Fatal(err)
		}
		for k, c := range cards {
			if k != i {
				c.Permissions = map[string]bool{transport.PermitSend: true, transport.PermitBring: true, transport.PermitWatch: true}
				if err := trust.Put(c); err != nil {
					t.Fatal(err)
				}
			}
		}
		h.start()
		t.Cleanup(h.end)
	}
	return all
}

func (h *host) env() []string {
	return append([]string{"HOME=" + filepath.Join(h.dir, "home"), "PATH=" + os.Getenv("PATH"), "TERM=xterm",
		"XDG_RUNTIME_DIR=" + filepath.Join(h.dir, "run"), "XDG_DATA_HOME=" + filepath.Join(h.dir, "data"), "XDG_STATE_HOME=" + filepath.Join(h.dir, "state"),
		"HITHER_LISTEN=127.0.0.1:" + strconv.Itoa(h.port), "HITHER_SILENCE=1s", "GORACE=" + os.Getenv("GORACE")}, h.extra...)
}

// start runs the daemon, and returns when it answers.
func (h *host) start() {
	h.t.Helper()
	h.out = new(bytes.Buffer)
	h.daemon = exec.Command(h.bin, "daemon")
	h.daemon.Env, h.daemon.Stdout, h.daemon.Stderr = h.env(), h.out, h.out
	h.daemon.WaitDelay = time.Second // keepers hold the pipe
	if err := h.daemon.Start(); err != nil {
		h.t.Fatal(err)
	}
	eventually(h.t, h.name+"'s daemon answers", func() error {
		_, err := h.client.Status(context.Background())
		return err
	})
}

// kill is kill -9, and the end of it.
func (h *host) kill() {
	h.daemon.Process.Kill()
	h.daemon.Wait() //nolint:errcheck // killed
	h.client = control.New(filepath.Join(h.dir, "run", "hither", "control.sock"))
}

// end stops what runs on the host, and checks that nothing is left.
func (h *host) end() {
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	apps, err := h.client.Apps(ctx)
	if err != nil {
		h.t.Errorf("%s: %v", h.name, err)
	} else {
		for _, a := range apps.Apps {
			if a.State != "gone" {
				h.client.Stop(ctx, a.ID, control.StopRequest{}) //nolint:errcheck // looked at below
			}
		}
	}
	h.daemon.Process.Signal(syscall.SIGTERM) //nolint:errcheck // looked at below
	if err := h.daemon.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		h.t.Errorf("%s's daemon: %v", h.name, err)
	}
	eventually(h.t, h.name+" is empty", func() error {
		left, err := filepath.Glob(filepath.Join(h.dir, "run", "hither", "capsules", "*"))
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("left: %v", left)
		}
		return err
	})
	if h.t.Failed() {
		h.t.Logf("daemon of %s:\n%s", h.name, h.out)
	}
}

// hither runs a command on the host: stdout, stderr, exit code.
func (h *host) hither(args ...string) (string, string, int) {
	h.t.Helper()
	cmd := exec.Command(h.bin, args...)
	cmd.Env = h.env()
	cmd.Dir = "/"
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var x *exec.ExitError
	if err != nil && !errors.As(err, &x) {
		h.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must is hither that has to go well.
func (h *host) must(args ...string) string {
	h.t.Helper()
	out, errs, code := h.hither(args...)
	if code != 0 {
		h.t.Fatalf("on %s: hither %s: exit %d: %s%s", h.name, strings.Join(args, " "), code, out, errs)
	}
	return out
}

// eventually waits for something that no event tells of.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func TestRunAndTheRest(t *testing.T) {
	a := hosts(t, "a")[0]
	check := func(wantOut, wantErr string, wantCode int, args ...string) {
		t.Helper()
		out, errs, code := a.hither(args...)
		if !strings.Contains(out, wantOut) || !strings.Contains(errs, wantErr) || code != wantCode {
			t.Errorf("hither %s: exit %d\nout: %s\nerr: %s", strings.Join(args, " "), code, out, errs)
		}
		for line := range strings.Lines(errs) {
			if !strings.HasPrefix(line, "hither: ") && !strings.HasPrefix(line, "hint: ") || strings.HasSuffix(line, ".\n") {
				t.Errorf("hither %s: says %q", strings.Join(args, " "), line)
			}
		}
	}
	check("daemon", "", 0, "help")
	check("hello\n", "", 0, "run", "echo", "hello")
	check("", "", 7, "run", "sh", "-c", "exit 7")
	check("", "", 143, "run", "sh", "-c", "kill $$")
	check("", "not found", 127, "run", "no-such-command")
	check("", "hint: `hither --help`", 2, "bogus")
	check("", "hint: `hither send --help`", 2, "send", "x")
	check("", "--bogus", 2, "ls", "--bogus")
	check("clock\n", "", 0, "run", "-d", "--name", "clock", "sleep", "1000")
	check("", "runs here already", 2, "run", "-d", "--name", "clock", "sleep", "1000")
	check("sleep\n", "", 0, "run", "-d", "sleep", "1000")
	check("sleep-2\n", "", 0, "run", "-d", "sleep", "1000")
	check("clock", "", 0, "ls")
	check(`"name": "clock"`, "", 0, "inspect", "clo", "--json")
	check("", "may be any of", 2, "inspect", "sl")
	check("sleep 1000", "", 0, "exec", "clock", "ps", "-ef")
	check("", "", 3, "exec", "clock", "sh", "-c", "exit 3")
	check("", "no app", 2, "attach", "nobody")
	check("", "no app", 2, "stop", "nobody")
	check("", "no host", 2, "send", "clock", "nowhere")
	check("", "APP@PEER", 2, "bring", "clock")
	check("", "", 0, "stop", "clock")
	check("user namespaces", "", 0, "doctor")
	out, _, _ := a.hither("__complete", "stop", "")
	if !strings.Contains(out, "sleep-2") {
		t.Errorf("completion says %s", out)
	}
}

func TestDaemonStartsByItself(t *testing.T) {
	a := hosts(t, "a")[0]
	a.must("run", "-d", "--name", "clock", "sleep", "1000")
	a.kill()
	if out := a.must("ls"); !strings.Contains(out, "clock") {
		t.Errorf("a new daemon lists %s", out)
	}
	s, err := a.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// It leaves properly on SIGTERM, and takes no app along.
	if err := syscall.Kill(s.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the daemon has ended", func() error {
		if _, err := os.Stat(filepath.Join(a.dir, "run/hither/control.sock")); err == nil {
			return errors.New("its socket is there")
		}
		return nil
	})
	a.start()
	if out := a.must("ls"); !strings.Contains(out, "clock") {
		t.Errorf("a third daemon lists %s", out)
	}
}
