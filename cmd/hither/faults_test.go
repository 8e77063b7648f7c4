package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/control"
	"hither/engine/handover"
)

// copiesOf finds the processes of an app by its command, which no other has,
// and says in which state of /proc/PID/stat each is.
func copiesOf(arg string) map[int]string {
	all := map[int]string{}
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || string(b) != "sleep\x00"+arg+"\x00" {
			continue
		}
		stat, err := os.ReadFile(filepath.Dir(name) + "/stat")
		if err != nil {
			continue
		}
		text := string(stat)
		var pid int
		fmt.Sscan(text, &pid)
		all[pid] = text[strings.LastIndexByte(text, ')')+2:][:1]
	}
	return all
}

// everywhere are the processors that this process might use when it began.
var everywhere = func() (set unix.CPUSet) {
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		panic(err)
	}
	return set
}()

// oneRuns checks that exactly one copy is left, and that it runs, on any processor
// that it may.
func oneRuns(arg string) error {
	all := copiesOf(arg)
	for pid, state := range all {
		if state != "S" && state != "R" {
			return fmt.Errorf("copies: %v", all)
		}
		if err := onAllProcessors(pid); err != nil {
			return err
		}
		if err := unwatched(pid); err != nil {
			return err
		}
	}
	if len(all) != 1 {
		return fmt.Errorf("copies: %v", all)
	}
	return nil
}

// settled checks that no host has a move under way, and that exactly one copy is left.
func settled(t *testing.T, hs []*host, arg string) error {
	for _, h := range hs {
		m, err := h.client.Moves(t.Context())
		if err != nil {
			return err
		}
		if len(m.Moves) > 0 {
			return fmt.Errorf("%s has %+v", h.name, m.Moves)
		}
	}
	return oneRuns(arg)
}

// runsOn waits until one of two hosts says that an app runs there: the other one may still be clearing away what came of it.
func runsOn(t *testing.T, name string, hs ...*host) (where string) {
	t.Helper()
	eventually(t, "one host says that it runs there", func() error {
		where = ""
		for _, h := range hs {
			list, err := h.client.Apps(t.Context())
			if err != nil {
				return err
			}
			for _, x := range list.Apps {
				if x.Name == name && x.State == "running" {
					where += h.name
				}
			}
		}
		if where != "a" && where != "b" {
			return fmt.Errorf("it runs on %q", where)
		}
		return nil
	})
	return where
}

func onAllProcessors(pid int) error {
	var its unix.CPUSet
	if err := unix.SchedGetaffinity(pid, &its); err != nil || its != everywhere {
		return fmt.Errorf("process %d may run on processors %v instead of %v (%v)", pid, its, everywhere, err)
	}
	return nil
}

// unwatched checks that nothing of what tells of written pages is left in a process.
func unwatched(pid int) error {
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(smaps)) {
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && (strings.Contains(flags, " uw") || strings.Contains(flags, " um")) {
			return fmt.Errorf("the memory of process %d is watched: %s", pid, line)
		}
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); strings.Contains(to, "userfaultfd") || strings.Contains(to, "memfd") {
			return fmt.Errorf("process %d has %s open", pid, to)
		}
	}
	return err
}

var apps int

// app starts a process that no other test has, and that outlasts each.
func (h *host) app() (name, arg string) {
	apps++
	arg = fmt.Sprintf("90%03d.%d", apps, os.Getpid())
	name = fmt.Sprintf("app%d", apps)
	h.must("run", "-d", "--name", name, "sleep", arg)
	return name, arg
}

// hold has moves stand still in a state of the host's; held is closed when the first one does.
func (h *host) hold(state handover.State) (held <-chan struct{}) {
	h.t.Helper()
	hear, err := h.client.Listen(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.client.SetHolds(h.t.Context(), string(state)); err != nil {
		h.t.Fatal(err)
	}
	c := make(chan struct{})
	go hear(func(e control.Event) error { //nolint:errcheck // it ends with the daemon
		if e.Event == "held" && e.State == string(state) {
			close(c)
			return io.EOF // enough
		}
		return nil
	})
	return c
}

func TestMoveThereAndBack(t *testing.T) {
	hs := hosts(t, "a", "b")
	a, b := hs[0], hs[1]
	name, arg := a.app()
	for range 2 {
		out := a.must("send", name, "b", "--json")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		var p handover.Progress
		if err := json.Unmarshal([]byte(lines[0]), &p); err != nil || p.State != handover.SourceOffer {
			t.Errorf("first line %s: %v", lines[0], err)
		}
		var raw map[string]any
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &raw); err != nil {
			t.Fatal(err)
		}
		for _, key := range strings.Fields("app from to outcome reason downtime_ms total_ms freeze_ms restore_ms rounds bytes_sent bytes_memory files_sent bytes_files") {
			if _, ok := raw[key]; !ok {
				t.Errorf("the result has no %s: %v", key, raw)
			}
		}
		if raw["outcome"] != "moved" || raw["downtime_ms"].(float64) <= 0 {
			t.Errorf("result %v", raw)
		}
		if err := oneRuns(arg); err != nil {
			t.Error(err)
		}
		if _, errs, code := a.hither("attach", name); code != 1 || !strings.Contains(errs, "is on b now") {
			t.Errorf("attach after the move: exit %d: %s", code, errs)
		}
		if out := b.must("ls"); !strings.Contains(out, name) {
			t.Errorf("b lists %s", out)
		}
		a.must("bring", name+"@b")
	}
	if err := oneRuns(arg); err != nil {
		t.Error(err)
	}
}

// TestFaultsInEveryState holds a move still in each state of both sides and
// then breaks something: in the end exactly one copy runs, and nothing is left.
func TestFaultsInEveryState(t *testing.T) {
	faults := []string{"none", "cancel", "kill source", "kill destination", "kill both", "kill keeper", "cut"}
	// The memory of each app goes ahead of the freeze.
	hs := hostsWith(t, built(), []string{"HITHER_PRECOPY=1"}, "a", "b")
	for _, state := range handover.States {
		for _, fault := range faults {
			if !t.Run(fmt.Sprintf("%s/%s", state, fault), func(t *testing.T) { faultIn(t, hs[0], hs[1], state, fault) }) {
				return // what is left of it would spoil the others
			}
		}
	}
}

func faultIn(t *testing.T, a, b *host, state handover.State, fault string) {
	for _, h := range []*host{a, b} {
		parent := h.t
		h.t = t
		defer func() { h.t = parent }()
	}
	defer func() {
		if t.Failed() {
			t.Logf("daemon of a:\n%s\ndaemon of b:\n%s", a.out, b.out)
		}
	}()
	name, arg := a.app()
	side := a
	if state.Side() == handover.SideDestination {
		side = b
	}
	held := side.hold(state)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type result struct {
		r   *handover.Result
		err error
	}
	results := make(chan result, 1)
	client := a.client
	go func() {
		r, err := client.Send(ctx, name, "b", nil)
		results <- result{r, err}
	}()
	select {
	case <-held:
	case r := <-results:
		t.Fatalf("the move ended before %s: %+v, %v", state, r.r, r.err)
	case <-time.After(20 * time.Second):
		t.Fatalf("the move does not come to %s", state)
	}
	ended := func() (r result) {
		t.Helper()
		select {
		case r = <-results:
		case <-time.After(40 * time.Second):
			t.Fatal("the move does not end")
		}
		return r
	}
	revive := func(hs ...*host) {
		for _, h := range hs {
			h.kill()
		}
		for _, h := range hs {
			h.start()
		}
	}
	switch fault {
	case "cancel":
		cancel()
		switch {
		case state.Side() != handover.SideSource:
		case state.Cancellable():
			results <- ended() // held as it is: let go, it might be faster than the cancel
		default:
			time.Sleep(50 * time.Millisecond) // no event tells that the daemon has heard it
		}
	case "kill source":
		a.kill()
		if state == handover.SourceMemory { // it was gathered on one processor
			eventually(t, "it runs on where it could, with no daemon", func() error {
				for pid := range copiesOf(arg) {
					if err := onAllProcessors(pid); err != nil {
						return err
					}
				}
				return nil
			})
		}
		revive(a)
	case "kill destination":
		revive(b)
	case "kill both":
		revive(a, b)
	case "kill keeper":
		killKeeper(t, a, name)
	case "cut":
		relays.cut(true)
		time.AfterFunc(2*time.Second, func() { relays.cut(false) }) // longer than a peer may be silent
	}
	for _, h := range []*host{a, b} {
		if _, err := h.client.ReleaseHolds(t.Context(), ""); err != nil {
			t.Errorf("letting go: %v", err)
		}
	}
	r := ended()
	relays.cut(false)
	eventually(t, "all is settled", func() error { return settled(t, []*host{a, b}, arg) })
	where := runsOn(t, name, a, b)
	if r.err == nil && (r.r.Outcome == handover.Moved && where != "b" || r.r.Outcome == handover.Stayed && where != "a") {
		t.Errorf("it runs on %s; the result says %+v", where, r.r)
	}
	switch fault {
	case "none":
		if r.err != nil || r.r.Outcome != handover.Moved || r.r.Rounds == 0 {
			t.Errorf("%+v, %v", r.r, r.err)
		}
	case "cancel":
		if state.Side() == handover.SideSource && r.err == nil && state.Cancellable() != (r.r.Outcome == handover.Stayed) {
			t.Errorf("cancelled in %s: %+v", state, r.r)
		}
	}
	// It must be able to move on: nothing half done stands in the way.
	if where == "a" {
		a.must("send", name, "b")
	} else {
		a.must("bring", name+"@b")
	}
	if err := oneRuns(arg); err != nil {
		t.Error(err)
	}
	for _, h := range []*host{a, b} {
		h.hither("stop", "--grace", "0s", name)
	}
	if left := copiesOf(arg); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestKillAtAnyMoment kills the source's daemon at any moment of a move, amid the calls that it has the
// app make, too.
func TestKillAtAnyMoment(t *testing.T) {
	hs := hostsWith(t, built(), []string{"HITHER_PRECOPY=1"}, "a", "b")
	a := hs[0]
	name, arg := a.app()
	for round := range 40 {
		after := time.Duration(rand.IntN(80)) * time.Millisecond
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.client.Send(t.Context(), name, "b", nil) //nolint:errcheck // the daemon dies
		}()
		select {
		case <-done:
		case <-time.After(after):
		}
		a.kill()
		<-done
		a.start()
		eventually(t, fmt.Sprintf("all is settled (round %d, killed after %v)", round, after), func() error { return settled(t, hs, arg) })
		if runsOn(t, name, hs...) == "b" {
			a.must("bring", name+"@b")
		}
	}
}

// killKeeper kills the keeper of an app that is on the host; if the app has
// left already, that is no fault to make.
func killKeeper(t *testing.T, h *host, name string) {
	t.Helper()
	a, err := h.client.App(t.Context(), name)
	var e *control.Error
	if err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	if err == nil && a.Keeper > 0 {
		syscall.Kill(a.Keeper, syscall.SIGKILL) //nolint:errcheck // it may have ended
	}
}
