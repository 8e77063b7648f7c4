package restore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hither/engine/capsule"
	"hither/engine/checkpoint"
	"hither/engine/handle"
	"hither/engine/tracee"
)

// TestProbes moves programs that hold one kind of handle each and judge for
// themselves whether they still have what they had.
func TestProbes(t *testing.T) {
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	probes, err := filepath.Glob("../*/testdata/probe_*.py")
	if err != nil || len(probes) == 0 {
		t.Fatal("no probes: ", err)
	}
	for _, probe := range probes {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(probe), "probe_"), ".py")
		t.Run(name, func(t *testing.T) { moveProbe(t, probe) })
	}
}

// TestSlowIDs has the ids of System V objects come back on a kernel that lets nobody choose.
func TestSlowIDs(t *testing.T) {
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	handle.ForceSlowIDs = true
	defer func() { handle.ForceSlowIDs = false }()
	moveProbe(t, "testdata/probe_sysv.py")
}

// TestUnharmed freezes and captures probes, changes its mind, and asks them what
// they think of that.
func TestUnharmed(t *testing.T) {
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	for _, probe := range []string{"testdata/probe_sysv.py", "testdata/probe_memory.py"} {
		t.Run(filepath.Base(probe), func(t *testing.T) { judge(t, probe, 2, thaw) })
	}
}

// thaw captures an app and lets it run on.
func thaw(t *testing.T, ctx context.Context, c *capsule.Capsule) *capsule.Capsule {
	t.Helper()
	tr := tracee.New()
	defer tr.Close()
	err := tr.Do(func() error {
		frozen, err := checkpoint.Freeze(tr, c.InitPid())
		if err != nil {
			return err
		}
		_, err = frozen.Capture(checkpoint.Identity{ID: "x", Name: "x"})
		return errors.Join(err, frozen.Thaw())
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// moveProbe moves a probe three times and asks it what it thinks of that.
func moveProbe(t *testing.T, probe string) { judge(t, probe, 3, clone) }

// judge does something to a probe a few times and asks it what it thinks of that.
func judge(t *testing.T, probe string, times int, do func(*testing.T, context.Context, *capsule.Capsule) *capsule.Capsule) {
	t.Helper()
	ctx := house(t)
	// A checkout in /tmp is not seen in a capsule, the home is.
	path := copyTo(t, os.Getenv("HOME"), probe)
	copyTo(t, os.Getenv("HOME"), "../handle/testdata/probe.py")
	// In the capsule's own /tmp, which goes along.
	a := start(t, ctx, "/usr/bin/python3", path, "both", "/tmp/go", "/tmp/out")
	inside := func(c *capsule.Capsule, name string) string {
		return fmt.Sprintf("/proc/%d/root/tmp/%s", c.InitPid(), name)
	}
	for a.out = inside(a.c, "out"); ctx.Err() == nil; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(a.out); err == nil {
			break
		}
	}
	a.await(t, "READY")
	c := a.c
	for range times {
		c = do(t, ctx, c)
	}
	a.out = inside(c, "out")
	out, err := os.Open(a.out) // it outlives the capsule
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := os.WriteFile(inside(c, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(ctx); err != nil {
		t.Error(err)
	}
	said, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(said), "\nOK\n") {
		t.Errorf("%s", said)
	}
}

// copyTo copies a file into a folder.
func copyTo(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, filepath.Base(name))
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}
