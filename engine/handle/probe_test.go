//go:build linux && amd64

package handle

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/tracee"
)

// probe is a running testdata/probe_*.py.
type probe struct {
	cmd *exec.Cmd
	go_ string
	out string
}

func startProbe(t *testing.T, script, mode, dir string) *probe {
	t.Helper()
	p := &probe{go_: filepath.Join(dir, "go-"+mode), out: filepath.Join(dir, "out")}
	p.cmd = exec.Command("python3", script, mode, p.go_, p.out)
	p.cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if strings.Contains(script, "inet") {
		p.cmd.Env = append(p.cmd.Env, "PROBE_NETWORK=own")
	}
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Skip("python3: ", err)
	}
	t.Cleanup(p.kill)
	return p
}

func (p *probe) pid() int { return p.cmd.Process.Pid }

func (p *probe) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// await waits for the n-th line that begins so, and returns all lines.
func (p *probe) await(t *testing.T, n int, starts ...string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		text, _ := os.ReadFile(p.out)
		if bytes.Contains(text, []byte("FAIL")) && bytes.HasSuffix(text, []byte("\n")) {
			t.Fatalf("the probe says:\n%s", text)
		}
		found := 0
		for _, s := range starts {
			found += bytes.Count(text, []byte(s))
		}
		if found >= n {
			return string(text)
		}
	}
	text, _ := os.ReadFile(p.out)
	t.Fatalf("the probe never said %v:\n%s", starts, text)
	return ""
}

func (p *probe) stop(t *testing.T) {
	t.Helper()
	p.cmd.Process.Signal(unix.SIGSTOP)
	for range 2000 {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid()))
		if _, rest, ok := strings.Cut(string(text), ") "); ok && strings.HasPrefix(rest, "T") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the probe does not stop")
}

func (p *probe) capture(t *testing.T) (*Captured, *image.App) {
	t.Helper()
	before := openFDs(t)
	inodes := NewInodes()
	start := time.Now()
	got, err := Capture(Input{Procs: []Proc{{Pid: p.pid(), Inner: p.pid()}}, InitPid: p.pid(), Inodes: inodes, Diag: -1})
	if err != nil {
		t.Fatal("capture: ", err)
	}
	t.Logf("%d handles: captured in %v", len(got.Handles), time.Since(start))
	if n := len(got.SharedFDs) + len(got.DeletedFDs); openFDs(t) != before+n {
		t.Errorf("%d descriptors open before the capture, %d after it, of which %d are for contents", before, openFDs(t), n)
	}
	app := &image.App{Version: 1, ID: "test", Handles: got.Handles, Locks: got.Locks, Files: inodes.Files(), Shared: inodes.Shared(),
		Processes: []image.Process{{Pid: p.pid(), Descriptors: got.Tables[p.pid()]}}}
	data, err := cbor.Marshal(app)
	if err != nil {
		t.Fatal(err)
	}
	app = new(image.App)
	if err := cbor.Unmarshal(data, app); err != nil {
		t.Fatal(err)
	}
	if err := Check(app); err != nil {
		t.Fatal("check: ", err)
	}
	return got, app
}

func openFDs(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// rebuild gives a fresh process the descriptors of an image.
func (p *probe) rebuild(t *testing.T, got *Captured, app *image.App) {
	t.Helper()
	tr := tracee.New()
	defer tr.Close()
	before := openFDs(t)
	err := tr.Do(func() error {
		proc, err := tr.Seize(p.pid())
		if err != nil {
			return err
		}
		defer tr.Detach(proc)
		if err := proc.Prepare(0); err != nil {
			return err
		}
		before = openFDs(t)
		r := On(proc.Leader())
		start := time.Now()
		larder, err := Rebind(r, app, Env{Pid: p.pid()})
		if err != nil {
			return err
		}
		rebound := time.Since(start)
		if err := contents(p.pid(), larder.DeletedSlots(), got.DeletedFDs); err != nil {
			return err
		}
		shared := map[uint32]int{}
		for id := range got.SharedFDs {
			shared[id], _ = larder.SharedSlot(id)
		}
		if err := contents(p.pid(), shared, got.SharedFDs); err != nil {
			return err
		}
		// The larder goes with its process here: seal before it is emptied by Place.
		if err := larder.seal(r); err != nil {
			return err
		}
		start = time.Now()
		if err := larder.Place(r, &app.Processes[0]); err != nil {
			return err
		}
		if err := larder.Late(r, &app.Processes[0]); err != nil {
			return err
		}
		t.Logf("%d handles: rebound in %v, placed in %v", len(app.Handles), rebound, time.Since(start))
		if now := openFDs(t); now != before {
			t.Errorf("%d descriptors open before the rebind, %d after it", before, now)
		}
		return nil
	})
	if err != nil {
		t.Fatal("rebind: ", err)
	}
	fds, err := descriptors(p.pid())
	if err != nil {
		t.Fatal(err)
	}
	var want []int
	for _, d := range app.Processes[0].Descriptors {
		want = append(want, d.FD)
	}
	if fmt.Sprint(fds) != fmt.Sprint(want) {
		t.Errorf("the process has descriptors %v, it should have %v", fds, want)
	}
}

// renamePid gives what is recorded of a process another pid: a real move keeps it.
func renamePid(t *testing.T, app *image.App, pid int) {
	t.Helper()
	for i := range app.Handles {
		h := &app.Handles[i]
		e, err := decode(h, newReferences(app))
		if err != nil {
			t.Fatal(err)
		}
		switch r := e.rec.(type) {
		case *kernelFileRecord:
			r.Path = strings.Replace(r.Path, fmt.Sprintf("/proc/%d/", app.Processes[0].Pid), fmt.Sprintf("/proc/%d/", pid), 1)
		case *pidfdRecord:
			r.Pid = pid
		}
		if h.Data, err = cbor.Marshal(e.rec); err != nil {
			t.Fatal(err)
		}
		if h.Owner == app.Processes[0].Pid {
			h.Owner = pid
		}
	}
	for i := range app.Locks {
		app.Locks[i].Pid = pid
	}
	app.Processes[0].Pid = pid
}

// contents copies bytes into the slots.
func contents(pid int, slots, from map[uint32]int) error {
	for id, fd := range from {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return err
		}
		to, err := unix.PidfdGetfd(pidfd, slots[id], 0)
		unix.Close(pidfd)
		if err != nil {
			return err
		}
		file := os.NewFile(uintptr(dup(fd)), "")
		data, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<30))
		file.Close()
		if err == nil {
			_, err = unix.Pwrite(to, data, 0)
		}
		unix.Close(to)
		if err != nil {
			return fmt.Errorf("bytes of %d: %w", id, err)
		}
	}
	return nil
}

func dup(fd int) int {
	n, _ := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	return n
}

// TestProbes runs every probe twice: a captured process goes on as if nothing
// had been, and another process, given what was captured, passes the same judgement.
func TestProbes(t *testing.T) {
	scripts, err := filepath.Glob("testdata/probe_*.py")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no probes: ", err)
	}
	for _, script := range scripts {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(script), "probe_"), ".py")
		t.Run(name+"/untouched", func(t *testing.T) {
			a := startProbe(t, script, "both", t.TempDir())
			a.await(t, 1, "READY")
			a.stop(t)
			got, _ := a.capture(t)
			got.Undo()
			got.Close()
			a.cmd.Process.Signal(unix.SIGCONT)
			if err := os.WriteFile(a.go_, nil, 0600); err != nil {
				t.Fatal(err)
			}
			a.await(t, 1, "OK")
		})
		t.Run(name+"/rebuilt", func(t *testing.T) {
			dir := t.TempDir()
			a := startProbe(t, script, "both", dir)
			a.await(t, 1, "READY")
			a.stop(t)
			got, app := a.capture(t)
			defer got.Close()
			a.kill()
			b := startProbe(t, script, "verify", dir)
			b.await(t, 2, "READY")
			renamePid(t, app, b.pid())
			b.rebuild(t, got, app)
			if err := os.WriteFile(b.go_, nil, 0600); err != nil {
				t.Fatal(err)
			}
			b.await(t, 1, "OK")
		})
	}
}
