package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"hither/engine/handover"
)

// sendHeld begins `hither send` and returns when the move stands still in the
// state; end waits for its result and exit code.
func sendHeld(t *testing.T, from, side *host, name, to string, state handover.State) (end func() (*handover.Result, int)) {
	t.Helper()
	held := side.hold(state)
	cmd := exec.Command(from.bin, "send", name, to, "--json")
	cmd.Env = from.env()
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-held
	return func() (*handover.Result, int) {
		_ = cmd.Wait() // the code is looked at
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		r := new(handover.Result)
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), r); err != nil {
			t.Errorf("the result %q: %v", lines[len(lines)-1], err)
		}
		return r, cmd.ProcessState.ExitCode()
	}
}

// TestClaimAtTheSource: the destination is lost after commit, for good.
func TestClaimAtTheSource(t *testing.T) {
	hs := hosts(t, "a", "b")
	a, b := hs[0], hs[1]
	name, arg := a.app()
	end := sendHeld(t, a, b, name, "b", handover.DestinationResume)
	b.kill()
	r, code := end()
	if code != exitUndecided || r.Outcome != handover.Undecided {
		t.Errorf("exit %d, %+v", code, r)
	}
	if out := a.must("ls"); !strings.Contains(out, "undecided, with b") {
		t.Errorf("a lists %s", out)
	}
	for _, args := range [][]string{{"stop", name}, {"send", name, "b"}} {
		if _, errs, code := a.hither(args...); code != exitFailed || !strings.Contains(errs, "hither claim") {
			t.Errorf("%v of an undecided app: exit %d, %s", args, code, errs)
		}
	}
	if err := oneRuns(arg); err == nil {
		t.Error("an undecided copy runs")
	}
	a.must("claim", name)
	if err := oneRuns(arg); err != nil {
		t.Error(err)
	}
	if _, _, code := a.hither("claim", name); code != exitFailed {
		t.Errorf("claimed twice: exit %d", code)
	}
	b.start()
	a.must("send", name, "b")
	if err := oneRuns(arg); err != nil {
		t.Error(err)
	}
}

// TestClaimAtTheDestination: the source is lost after commit, for a long time.
func TestClaimAtTheDestination(t *testing.T) {
	hs := hosts(t, "a", "b")
	a, b := hs[0], hs[1]
	name, arg := a.app()
	end := sendHeld(t, a, a, name, "b", handover.SourceCommit)
	a.kill()
	end()
	eventually(t, "b waits", func() error {
		if out := b.must("ls"); !strings.Contains(out, "undecided, with a") {
			return fmt.Errorf("b lists %s", out)
		}
		return nil
	})
	b.must("claim", name)
	a.start()
	eventually(t, "the source has let go", func() error { return oneRuns(arg) })
	if out := b.must("ls"); !strings.Contains(out, name) || strings.Contains(out, "undecided") {
		t.Errorf("b lists %s", out)
	}
	if _, errs, code := a.hither("attach", name); code != exitFailed || !strings.Contains(errs, "is on b now") {
		t.Errorf("attach at a: exit %d, %s", code, errs)
	}
}

// TestDropAtTheDestination: the copy that waits is ended, so the source's runs on.
func TestDropAtTheDestination(t *testing.T) {
	hs := hosts(t, "a", "b")
	a, b := hs[0], hs[1]
	name, arg := a.app()
	end := sendHeld(t, a, a, name, "b", handover.SourceCommit)
	a.kill()
	end()
	eventually(t, "b waits", func() error {
		_, errs, code := b.hither("claim", "--drop", name)
		if code != 0 {
			return fmt.Errorf("exit %d: %s", code, errs)
		}
		return nil
	})
	a.start()
	eventually(t, "it runs on at the source", func() error { return oneRuns(arg) })
	if out := a.must("ls"); !strings.Contains(out, name) || strings.Contains(out, "undecided") {
		t.Errorf("a lists %s", out)
	}
}
