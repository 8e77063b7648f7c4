package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/engine/paths"
)

func TestSlowListener(t *testing.T) {
	var e events
	slow, stop := e.listen()
	for i := range 1000 {
		e.tell(control.Event{Event: "apps", Text: string(rune(i))})
	}
	n := 0
	var last control.Event
	for len(slow) > 0 {
		last = <-slow
		n++
	}
	if n == 0 || n > 256 || last.Text != string(rune(999)) {
		t.Errorf("%d events, the last is %q", n, last.Text)
	}
	stop()
	e.tell(control.Event{})
	if len(slow) != 0 {
		t.Error("told after the end")
	}
}

func TestOneDaemon(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	unlock, err := lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(); !errors.Is(err, ErrRuns) {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	if unlock, err = lock(); err != nil {
		t.Fatal(err)
	}
	unlock()
}

// A daemon that has removed its socket is leaving; the next one waits for it.
func TestNextDaemonWaits(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	unlock, err := lock()
	if err != nil {
		t.Fatal(err)
	}
	socket, err := paths.ControlSocket()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := takeOver(t.Context()); !errors.Is(err, ErrRuns) {
		t.Errorf("beside one that has its socket: %v", err)
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	took := make(chan error, 1)
	go func() {
		next, err := takeOver(t.Context())
		if err == nil {
			next()
		}
		took <- err
	}()
	select {
	case err := <-took:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	unlock()
	if err := <-took; err != nil {
		t.Error(err)
	}
}

func TestDeparted(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d, err := openDeparted()
	if err != nil {
		t.Fatal(err)
	}
	d.add("id1", departure{Name: "vim", Host: "b"})
	d.add("id2", departure{Name: "bc", Host: "c"})
	d.remove("id2")
	again, err := openDeparted()
	if err != nil {
		t.Fatal(err)
	}
	if all := again.list(); len(all) != 1 || all["id1"].Host != "b" {
		t.Errorf("%v", all)
	}
	for i := range 3 * maxDeparted {
		again.apps[string(rune('a'+i))] = departure{When: time.Unix(int64(i), 0)}
	}
	again.add("last", departure{})
	if all := again.list(); len(all) > maxDeparted || all["last"].When.IsZero() {
		t.Errorf("%d remembered", len(all))
	}
	if name := filepath.Base(again.name); name != "departed.json" {
		t.Errorf("in %s", name)
	}
}

// TestSlowCapsule: a capsule whose making takes long gets a guard all the same.
func TestSlowCapsule(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	d := &Daemon{ctx: ctx, guards: map[string]bool{}}
	defer d.work.Wait()
	defer stop()
	told, _ := d.events.listen()
	d.work.Go(d.watchCapsules)
	<-told // it watches
	dir, err := paths.Capsule("slowslowsl")
	if err != nil {
		t.Fatal(err)
	}
	<-told // it has looked at the folder
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	state := fmt.Sprintf(`{"spec":{"id":"slowslowsl"},"keeper":{"pid":%d,"start":%s}}`, os.Getpid(), strings.Fields(rest)[19])
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "state.json")); err != nil {
		t.Fatal(err)
	}
	for end := time.After(20 * time.Second); ; {
		select {
		case <-told:
		case <-end:
			t.Fatal("it has no guard")
		}
		d.mu.Lock()
		has := d.guards["slowslowsl"]
		d.mu.Unlock()
		if has {
			return
		}
	}
}

func TestPending(t *testing.T) {
	status := "Name:\tsleep\nTracerPid:\t0\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n"
	if !pending(status, unix.SIGKILL) || pending(status, unix.SIGTERM) || field(status, "TracerPid") != "0" {
		t.Error("misread")
	}
}

func TestChecked(t *testing.T) {
	if c := checked(&handover.Result{App: "vim"}, "b"); !c.OK || c.Problems == nil {
		t.Errorf("%+v", c)
	}
	if c := checked(&handover.Result{App: "vim", Reason: "lost"}, "b"); c.OK || len(c.Problems) != 1 {
		t.Errorf("%+v", c)
	}
}

// TestNoCopyAfterReboot: a record of another boot speaks of no process.
func TestNoCopyAfterReboot(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	h := copies{&Daemon{boot: "now"}}
	rec := &handover.Record{App: "app1", Boot: "before", Pid: 1}
	if fate, err := h.Fate(rec); fate != handover.FateNone || err != nil {
		t.Errorf("%v, %v", fate, err)
	}
	if err := h.Thaw(rec); !errors.Is(err, handover.ErrNoCopy) {
		t.Errorf("thawing: %v", err)
	}
	rec.Boot = "now"
	if err := h.Thaw(rec); !errors.Is(err, handover.ErrNoCopy) {
		t.Errorf("thawing what was never there: %v", err)
	}
}
