package capsule

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/paths"
)

// The test binary stands in for hither.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "capsule-init":
			time.AfterFunc(time.Hour, func() {}) // as a package of hither's has one from before main: Go begins to poll
			becoming = hesitate
			InitMain()
		case "capsule-exec":
			ExecMain()
		case "keeper":
			BridgeCommand = func() *exec.Cmd {
				time.Sleep(lateBridge()) // nobody is told anything meanwhile
				return exec.Command("/proc/self/exe", "bridge")
			}
			KeeperMain()
			os.Exit(0)
		case "probe":
			probeMain()
			os.Exit(0)
		case "dial":
			if err := dialMain(os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "bridge":
			bridgeMain()
			os.Exit(0)
		case "greet":
			if err := greetMain(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "sleep":
			time.Sleep(time.Hour)
		}
	}
	os.Exit(m.Run())
}

// hesitate is a loaded machine: threads go on for a while, and poll, before exec.
func hesitate(s *Spec) {
	if s.Hostname != "hesitant" {
		return
	}
	for range 4 {
		go func() {
			runtime.LockOSThread() // a new one
			for {
				time.Sleep(time.Millisecond)
			}
		}()
	}
	for began := time.Now(); time.Since(began) < 50*time.Millisecond; {
		unix.Getppid()
	}
}

// TestHesitant: a capsule is made however long the step to its pid 1 takes.
func TestHesitant(t *testing.T) {
	ctx := lab(t)
	s := shell("echo $$")
	s.Hostname = "hesitant"
	if out, status := run(t, ctx, s); status != 0 || out != "2" {
		t.Errorf("status %d, %q", status, out)
	}
}

// lateBridge is how long the start of a bridge takes longer.
func lateBridge() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("LATE_BRIDGE"))
	return d
}

// lab gives a test folders of its own.
func lab(t *testing.T) context.Context {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(home, "run"))
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("DISPLAY", "") // no bridge unless the test wants one
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	t.Cleanup(func() {
		dir, err := paths.Capsules()
		if err != nil {
			t.Fatal(err)
		}
		if gone(dir) {
			return
		}
		left, err := List(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Error("a capsule's folder is left behind")
		for _, c := range left {
			t.Errorf("capsule %s is left behind", c.ID)
			c.Stop(context.Background(), 0) //nolint:errcheck // the test has failed already
		}
	})
	return ctx
}

// gone waits until no capsule has a folder.
func gone(dir string) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if entries, err := os.ReadDir(dir); err == nil && len(entries) == 0 {
			return true
		}
	}
	return false
}

// waitFor asks until something is so.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// shell is a spec that runs a script.
func shell(script string) Spec {
	return Spec{Argv: []string{"sh", "-c", script}, Env: os.Environ(), Dir: "/", Umask: 0o022}
}

// run runs a script in a capsule and returns its output and exit status.
func run(t *testing.T, ctx context.Context, s Spec) (string, int) {
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
	c, err := Start(ctx, s, [3]*os.File{null, w, w})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() { _, err := io.Copy(&out, r); done <- err }()
	end, err := c.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(out.String(), "\n"), end.Status
}

func TestRun(t *testing.T) {
	ctx := lab(t)
	out, status := run(t, ctx, shell("echo hello; exit 7"))
	if out != "hello" || status != 7 {
		t.Fatalf("got %q, status %d", out, status)
	}
}
