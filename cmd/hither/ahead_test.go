package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/control"
	"hither/engine/handover"
)

// bigProgram holds memory that it knows the hash of, writes to more all the while, and
// says now and then that both are as they must be.
const bigProgram = `
import hashlib, os, random, sys, time
size = int(sys.argv[1])
keep = os.urandom(1 << 20) * size
digest = hashlib.sha256(keep).digest()
busy, want, rnd, n = bytearray(size << 18), {}, random.Random(1), 0
while True:
    for _ in range(200):
        at = rnd.randrange(len(busy) >> 12) << 12
        n += 1
        busy[at:at + 8] = n.to_bytes(8, "little")
        want[at] = n
    time.sleep(0.01)
    if n % 5000 == 0:
        wrong = [at for at, v in want.items() if busy[at:at + 8] != v.to_bytes(8, "little")]
        wrong += [at for at in range(0, len(busy), 4096) if at not in want and any(busy[at:at + 8])]
        same = hashlib.sha256(keep).digest() == digest
        with open(sys.argv[2], "a") as f:
            print("good" if same and not wrong else f"bad {same} {wrong[:5]}", n, file=f)
`

// big is an app with much memory.
type big struct{ name, file string }

func (h *host) big(megabytes int) big {
	apps++
	// In the capsule's own /tmp: a document in a home that these hosts share would change there while it is copied here.
	b := big{fmt.Sprintf("big%d", apps), fmt.Sprintf("/tmp/big%d.%d", apps, os.Getpid())}
	h.must("run", "-d", "--name", b.name, "python3", "-c", bigProgram, strconv.Itoa(megabytes), b.file)
	return b
}

// pids are its processes: one, if all is well.
func (b big) pids() (all []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && bytes.HasSuffix(text, []byte("\x00"+b.file+"\x00")) && bytes.Contains(text, []byte("python3\x00-c\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			all = append(all, pid)
		}
	}
	return all
}

// judge waits until the one copy has looked at its memory again.
func (b big) judge(t *testing.T) {
	t.Helper()
	said := func() []byte {
		for _, pid := range b.pids() {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", pid, b.file))
			return text
		}
		return nil
	}
	before := len(said())
	eventually(t, "it has looked at its memory", func() error {
		if pids := b.pids(); len(pids) != 1 {
			return fmt.Errorf("copies: %v", pids)
		}
		if text := said(); bytes.Count(text[min(len(text), before):], []byte("\n")) < 2 {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
	if text := said(); bytes.Contains(text, []byte("bad")) {
		t.Fatalf("it says\n%s", text)
	}
	for _, pid := range b.pids() {
		if err := unwatched(pid); err != nil {
			t.Error(err)
		}
	}
}

// TestMemoryGoesAhead moves an app with much memory there and back.
func TestMemoryGoesAhead(t *testing.T) {
	hs := hosts(t, "a", "b")
	app := hs[0].big(100)
	app.judge(t)
	for i, from := range hs {
		r, err := from.client.Send(t.Context(), app.name, hs[1-i].name, nil)
		if err != nil || r.Outcome != handover.Moved {
			t.Fatalf("%+v, %v", r, err)
		}
		if r.Rounds < 2 || r.BytesMemory < 100<<20 {
			t.Errorf("%d rounds of %d bytes", r.Rounds, r.BytesMemory)
		}
		t.Logf("%.0f ms, %d rounds, %d bytes in %.0f ms", r.DowntimeMS, r.Rounds, r.BytesMemory, r.TotalMS)
		app.judge(t)
	}
	hs[0].must("stop", "--grace", "0s", app.name)
}

// shortProgram has processes that come, have much memory, and go, or become another program, all the while.
const shortProgram = `
import os, random, sys, time
keep, kids, n = bytearray(os.urandom(6 << 20)), set(), 0
while True:
    while len(kids) < 5:
        pid = os.fork()
        if not pid:
            own, end = bytearray(os.urandom(random.randrange(4, 9) << 20)), time.monotonic() + random.uniform(0.02, 0.5)
            while time.monotonic() < end:
                own[random.randrange(len(own))] += 0
                time.sleep(0.002)
            if random.random() < 0.3:
                os.execvp("sleep", ["sleep", "0.1"])
            os._exit(0)
        kids.add(pid)
    pid, status = os.wait()
    if status:
        sys.exit(f"a process ended by {status}")
    kids.remove(pid)
    n += 1
    with open(sys.argv[1], "a") as f:
        print(n, file=f)
`

// TestEndedAhead: an app moves although its processes end while their memory goes ahead.
func TestEndedAhead(t *testing.T) {
	hs := hosts(t, "a", "b")
	apps++
	b := big{fmt.Sprintf("short%d", apps), fmt.Sprintf("/tmp/short%d.%d", apps, os.Getpid())} // of the capsule
	hs[0].must("run", "-d", "--name", b.name, "python3", "-c", shortProgram, b.file)
	lines := func() int {
		for _, pid := range b.pids() {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", pid, b.file))
			return bytes.Count(text, []byte("\n"))
		}
		return 0
	}
	for n := range 6 {
		before := lines()
		eventually(t, "processes come and go", func() error {
			if now := lines(); now < before+5 {
				return fmt.Errorf("%d ended", now-before)
			}
			return nil
		})
		if n == 5 {
			break
		}
		r, err := hs[n%2].client.Send(t.Context(), b.name, hs[1-n%2].name, nil)
		if err != nil || r.Outcome != handover.Moved || r.Rounds == 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		t.Logf("%.0f ms, %d rounds, %d files", r.DowntimeMS, r.Rounds, r.FilesSent)
	}
	hs[1].must("stop", "--grace", "0s", b.name)
}

// TestBrokenAhead breaks moves in the midst of a round.
func TestBrokenAhead(t *testing.T) {
	hs := hostsOf(t, built(), "a", "b")
	a, b := hs[0], hs[1]
	app := a.big(100)
	app.judge(t)
	for fault, do := range map[string]func(cancel func()){
		"cancel":           func(cancel func()) { cancel() },
		"kill source":      func(func()) { a.kill(); a.start() },
		"kill destination": func(func()) { b.kill(); b.start() },
		"cut": func(func()) {
			relays.cut(true)
			time.AfterFunc(2*time.Second, func() { relays.cut(false) })
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if r, err := midway(ctx, t, a.client, app.name, "b", func() { do(cancel) }); err == nil && r.Outcome != handover.Stayed {
			t.Errorf("%s: %+v", fault, r)
		}
		cancel()
		relays.cut(false)
		eventually(t, "all is settled after "+fault, func() error {
			for _, h := range hs {
				if m, err := h.client.Moves(t.Context()); err != nil || len(m.Moves) > 0 {
					return fmt.Errorf("%s has %+v (%v)", h.name, m, err)
				}
			}
			return nil
		})
		app.judge(t)
	}
	if r, err := a.client.Send(t.Context(), app.name, "b", nil); err != nil || r.Outcome != handover.Moved {
		t.Fatalf("%+v, %v", r, err)
	}
	app.judge(t)
	r, err := midway(t.Context(), t, b.client, app.name, "a", func() { unix.Kill(app.pids()[0], unix.SIGKILL) })
	if err != nil || r.Outcome != handover.Stayed || !strings.HasSuffix(r.Reason, " ended") {
		t.Errorf("of an app that ends meanwhile it is said: %+v, %v", r, err)
	}
}

// midway sends an app, and does something while its memory goes ahead.
func midway(ctx context.Context, t *testing.T, from *control.Client, app, to string, do func()) (*handover.Result, error) {
	t.Helper()
	going := make(chan struct{}, 1)
	type result struct {
		r   *handover.Result
		err error
	}
	ended := make(chan result, 1)
	go func() {
		r, err := from.Send(ctx, app, to, func(p handover.Progress) {
			if p.State == handover.SourcePreCopy && p.Done > 0 {
				select {
				case going <- struct{}{}:
				default:
				}
			}
		})
		ended <- result{r, err}
	}()
	select {
	case <-going:
		do()
	case r := <-ended:
		t.Fatalf("it ended before: %+v, %v", r.r, r.err)
	}
	r := <-ended
	return r.r, r.err
}
