package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hither/engine/control"
)

// What is promised of the lists of hosts, and a second for the machine that the
// tests run on.
const (
	comes    = 2*time.Second + slack
	goes     = 10*time.Second + slack // without a word
	goesNear = 13*time.Second + slack // ... of a host that is not paired
	leaves   = time.Second + slack    // properly
	mends    = 7 * time.Second        // after a link was cut for long
	moves    = 5 * time.Second        // to another address, or name
	slack    = time.Second
)

// watchPeers prints the list of hosts whenever the daemon says that it has changed,
// and null while there is no daemon.
const watchPeers = `
import http.client, json, os, socket, time
class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["XDG_RUNTIME_DIR"] + "/hither/control.sock")
def get(path):
    c = Local("hither")
    c.request("GET", path)
    return c.getresponse()
while True:
    try:
        events = get("/v1/events")
        print(get("/v1/peers?all=1").read().decode().replace("\n", ""), flush=True)
        for line in events:
            if json.loads(line)["event"] == "peers":
                print(get("/v1/peers?all=1").read().decode().replace("\n", ""), flush=True)
    except OSError:
        pass
    print("null", flush=True)
    time.sleep(0.05)
`

// watched is what a host's daemon lists now.
type watched struct {
	host string

	mu    sync.Mutex
	peers []control.Peer
	fresh chan struct{}
}

func (l *lab) watch(t *testing.T, host string) *watched {
	t.Helper()
	w := &watched{host: host, fresh: make(chan struct{}, 1)}
	c := l.command("exec", host, "--", "python3", "-c", watchPeers)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var list control.Peers
			if err := json.Unmarshal(lines.Bytes(), &list); err != nil {
				t.Errorf("%s: %v: %s", host, err, lines.Bytes())
			}
			w.mu.Lock()
			w.peers = list.Peers
			w.mu.Unlock()
			select {
			case w.fresh <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() {
		c.Process.Kill()
		<-ended
		c.Wait() //nolint:errcheck // it was killed
	})
	return w
}

// find is the host with this ID, or with this beginning of one.
func (w *watched) find(id string) *control.Peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.peers {
		if strings.HasPrefix(id, p.ID) {
			return &p
		}
	}
	return nil
}

// by waits until what w lists of a host is so, and fails if that takes too long.
func (w *watched) by(t *testing.T, began time.Time, limit time.Duration, id, what string, ok func(*control.Peer) bool) {
	t.Helper()
	late := time.After(time.Until(began.Add(limit + patience)))
	for !ok(w.find(id)) {
		select {
		case <-w.fresh:
		case <-late:
			t.Fatalf("%s: %s: not even after %v: %+v", w.host, what, limit+patience, w.find(id))
		}
	}
	took := time.Since(began)
	if took > limit {
		t.Errorf("%s: %s: after %v instead of %v", w.host, what, took, limit)
	}
	t.Logf("%s: %s: %v", w.host, what, took.Round(10*time.Millisecond))
}

func up(p *control.Peer) bool   { return p != nil && p.Paired && p.State == "up" }
func down(p *control.Peer) bool { return p != nil && p.Paired && p.State == "down" && p.Reason != "" }
func near(p *control.Peer) bool { return p != nil && !p.Paired }
func away(p *control.Peer) bool { return p == nil }

// Three hosts, of which a and c are not paired with each other: whatever happens
// to one of them, the lists of the others are right in time.
func TestWhoIsThere(t *testing.T) {
	l := &lab{bin: theLab(t).bin, name: fmt.Sprintf("e2e-%d-%d", os.Getpid(), labs.next())}
	if out, err := l.command("up", "--no-desktop", "--hosts", "3").CombinedOutput(); err != nil {
		t.Fatalf("bringing the lab up: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range []string{"a", "b", "c"} {
				d := l.on(h, "sh", "-c", "hither peers; cat ~/.local/state/hither/*.out")
				t.Logf("host %s:\n%s%s", h, d.out, d.err)
			}
		}
		if err := l.down(); err != nil {
			t.Error(err)
		}
	})
	do := func(args ...string) time.Time {
		t.Helper()
		began := time.Now()
		if out, err := l.command(args...).CombinedOutput(); err != nil {
			t.Fatalf("hither-lab %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return began
	}
	ids := map[string]string{}
	for _, h := range []string{"a", "b"} {
		var all control.Peers
		l.json(t, &all, h, "hither", "peers", "--json")
		for _, p := range all.Peers {
			ids[p.Name] = p.ID
		}
	}
	l.must(t, "a", "hither", "pair", "--remove", "c")
	l.must(t, "c", "hither", "pair", "--remove", "a")

	began := time.Now()
	a, b, c := l.watch(t, "a"), l.watch(t, "b"), l.watch(t, "c")
	a.by(t, began, patience, ids["b"], "b is up", up)
	a.by(t, began, patience, ids["c"], "c is near", near)
	b.by(t, began, patience, ids["a"], "a is up", up)
	b.by(t, began, patience, ids["c"], "c is up", up)
	c.by(t, began, patience, ids["b"], "b is up", up)
	c.by(t, began, patience, ids["a"], "a is near", near)
	if p := a.find(ids["c"]); len(p.ID) != 8 || p.Name != "c" || len(p.Addresses) == 0 || p.Abilities != nil || p.Version != "" {
		t.Errorf("what a knows of c, which is not paired: %+v", p)
	}
	b.by(t, began, patience, ids["a"], "what a can take", func(p *control.Peer) bool {
		return up(p) && p.RTT > 0 && p.Abilities != nil && p.Abilities.CPUs > 0 && p.Abilities.MemoryFree > 0
	})

	// c dies, comes again, leaves properly, comes again.
	began = do("kill", "c", "daemon")
	b.by(t, began, goes, ids["c"], "c died", down)
	a.by(t, began, goesNear, ids["c"], "c died", away)
	began = time.Now()
	do("start", "c", "daemon")
	b.by(t, began, comes, ids["c"], "c came", up)
	a.by(t, began, comes, ids["c"], "c came", near)
	began = time.Now()
	l.must(t, "c", "sh", "-c", "kill $1", "sh", l.daemonPid(t, "c"))
	b.by(t, began, leaves, ids["c"], "c left", down)
	a.by(t, began, leaves, ids["c"], "c left", away)
	began = do("start", "c", "daemon")
	b.by(t, began, comes, ids["c"], "c came again", up)
	a.by(t, began, comes, ids["c"], "c came again", near)

	// The link of b is cut, without its or anybody's interface showing it.
	began = do("cut", "b")
	a.by(t, began, goes, ids["b"], "b is cut off", down)
	c.by(t, began, goes, ids["b"], "b is cut off", down)
	b.by(t, began, goes, ids["a"], "a is cut off", down)
	b.by(t, began, goes, ids["c"], "c is cut off", down)
	began = do("heal", "b")
	for _, w := range []*watched{a, c} {
		w.by(t, began, mends, ids["b"], "b is there again", up)
	}
	b.by(t, began, mends, ids["a"], "a is there again", up)
	b.by(t, began, mends, ids["c"], "c is there again", up)

	// a moves to another address: for who is paired with it and for who is not.
	began = do("address", "a", "77")
	there := func(p *control.Peer) bool {
		return p != nil && slices.Contains(p.Addresses, "10.99.0.77:44843")
	}
	b.by(t, began, moves, ids["a"], "a has moved", func(p *control.Peer) bool { return up(p) && there(p) })
	c.by(t, began, moves, ids["a"], "a has moved", func(p *control.Peer) bool { return near(p) && there(p) })
	a.by(t, began, moves, ids["b"], "b is up", up)

	// c calls itself otherwise, then as somebody else.
	began = time.Now()
	l.rename(t, "c", "sea")
	b.by(t, began, moves, ids["c"], "c is sea", func(p *control.Peer) bool { return up(p) && p.Name == "sea" })
	a.by(t, began, comes, ids["c"], "c is sea", func(p *control.Peer) bool { return near(p) && p.Name == "sea" })
	began = time.Now()
	l.rename(t, "c", "b")
	a.by(t, began, comes, ids["b"], "another one is b", func(p *control.Peer) bool { return up(p) && p.Warning != "" })
	a.by(t, began, comes, ids["c"], "this is not b", func(p *control.Peer) bool { return near(p) && p.Name == "b" && p.Warning != "" })

	// a falls asleep and wakes up.
	pid := l.daemonPid(t, "a")
	began = time.Now()
	l.must(t, "a", "kill", "-STOP", pid)
	b.by(t, began, goes, ids["a"], "a sleeps", down)
	c.by(t, began, goesNear, ids["a"], "a sleeps", away)
	began = time.Now()
	l.must(t, "a", "kill", "-CONT", pid)
	b.by(t, began, comes, ids["a"], "a is awake", up)
	c.by(t, began, comes, ids["a"], "a is awake", near)
	a.by(t, began, comes, ids["b"], "b is up", up)
	a.by(t, began, comes, ids["c"], "c is near", near)
}

// daemonPid is the pid of a host's daemon, inside of the host.
func (l *lab) daemonPid(t *testing.T, host string) string {
	t.Helper()
	var status struct {
		Hosts []struct {
			Name   string `json:"name"`
			Daemon int    `json:"daemon_pid"`
		} `json:"hosts"`
	}
	out, err := l.command("status", "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &status)
	}
	for _, h := range status.Hosts {
		if h.Name == host && h.Daemon != 0 {
			return strconv.Itoa(h.Daemon)
		}
	}
	t.Fatalf("no daemon on %s: %v, %s", host, err, out)
	return ""
}

// rename changes what a host calls itself, as its settings do.
func (l *lab) rename(t *testing.T, host, name string) {
	t.Helper()
	l.must(t, host, "python3", "-c", `
import http.client, json, os, socket, sys
c = http.client.HTTPConnection("hither")
c.sock = socket.socket(socket.AF_UNIX)
c.sock.connect(os.environ["XDG_RUNTIME_DIR"] + "/hither/control.sock")
c.request("GET", "/v1/settings")
settings = json.loads(c.getresponse().read())
settings["name"] = sys.argv[1]
c.request("PUT", "/v1/settings", json.dumps(settings))
r = c.getresponse()
assert r.status == 200, r.read()
`, name)
}
