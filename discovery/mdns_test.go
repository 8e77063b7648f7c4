package discovery

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"hither/transport"
	"hither/transport/twonets"
)

const mdnsChild = "HITHER_MDNS_CHILD"

// TestMDNSChild is one machine of TestMDNS: a process of its own, because mDNS
// must see nothing but its own network namespace. It writes each change.
func TestMDNSChild(t *testing.T) {
	dir := os.Getenv(mdnsChild)
	if dir == "" {
		t.Skip("a part of TestMDNS")
	}
	key, err := transport.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := transport.OpenTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := transport.Listen(":0", key, trust, transport.Options{Name: os.Getenv("NAME")})
	if err != nil {
		t.Fatal(err)
	}
	defer endpoint.Close()
	out := json.NewEncoder(os.Stdout)
	book, err := Open(endpoint, trust, Options{Interval: time.Second, Changed: func(p Peer) { out.Encode(p) }})
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	orders := bufio.NewScanner(os.Stdin) // until the parent has seen enough
	for orders.Scan() {
		what, arg, _ := strings.Cut(orders.Text(), " ")
		switch what {
		case "name":
			if err := book.SetName(arg); err != nil {
				t.Error(err)
			}
		case "discoverable":
			book.SetDiscoverable(arg == "yes")
		}
	}
}

type child struct {
	name    string
	changes chan Peer
	orders  io.WriteCloser
	process *os.Process
	killed  bool
}

// gone is a change that says that a host is in no list any more.
func gone(id transport.ID) func(Peer) bool {
	return func(p Peer) bool { return p.ID == id && p.Removed }
}

func (c *child) wait(t *testing.T, what string, ok func(Peer) bool) Peer {
	t.Helper()
	n := &node{changes: c.changes, book: &Book{}}
	var last Peer
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s, last seen when waiting for %q: %+v", c.name, what, last)
		}
	})
	return n.wait(t, c.name+": "+what, func(p Peer) bool { last = p; return ok(p) })
}

// startChild starts a machine of a test in namespace net.
func startChild(t *testing.T, nets *twonets.Nets, net int, name, dir string) *child {
	t.Helper()
	c := &child{name: name, changes: make(chan Peer, 1000)}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestMDNSChild$")
	cmd.Env = append(os.Environ(), mdnsChild+"="+dir, "NAME="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	nets.Do(net, func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	c.orders, c.process = in, cmd.Process
	lines := bufio.NewScanner(out)
	go func() {
		for lines.Scan() {
			var p Peer
			if json.Unmarshal(lines.Bytes(), &p) == nil && p.ID != "" {
				c.changes <- p
			}
		}
	}()
	t.Cleanup(func() {
		in.Close()
		stuck := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		if err := cmd.Wait(); err != nil && !c.killed {
			t.Errorf("%s ended with %v", name, err)
		}
	})
	return c
}

// strangersAndPair are the folders and keys of three hosts: a and b are paired and
// know no address of each other, c is a stranger.
func strangersAndPair(t *testing.T) (dirs map[string]string, keys map[string]*transport.Identity) {
	t.Helper()
	dirs, keys = make(map[string]string), make(map[string]*transport.Identity)
	for _, name := range []string{"a", "b", "c"} {
		dirs[name] = t.TempDir()
		key, err := transport.LoadIdentity(dirs[name])
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	for me, other := range map[string]string{"a": "b", "b": "a"} {
		trust, err := transport.OpenTrust(dirs[me])
		if err != nil {
			t.Fatal(err)
		}
		if err := trust.Put((transport.Card{Name: other, Key: keys[other].Public()}).Peer()); err != nil {
			t.Fatal(err)
		}
	}
	return dirs, keys
}

func TestMDNS(t *testing.T) {
	t.Parallel()
	if !twonets.Here(t) {
		return
	}
	nets := twonets.New(t)
	dirs, keys := strangersAndPair(t)
	begin := time.Now()
	a, b := startChild(t, nets, 0, "a", dirs["a"]), startChild(t, nets, 1, "b", dirs["b"])
	a.wait(t, "b online", online(keys["b"].ID()))
	b.wait(t, "a online", online(keys["a"].ID()))
	t.Logf("found each other in %v", time.Since(begin))
	short := transport.ID(keys["c"].ID().Short())
	heard := func(p Peer) bool { return p.ID == short && !p.Removed }
	begin = time.Now()
	c := startChild(t, nets, 1, "c", dirs["c"])
	p := a.wait(t, "c heard", heard)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("c was heard after %v", took)
	}
	if p.Name != "c" || p.Paired || p.Online || len(p.Addresses) == 0 {
		t.Fatalf("%+v", p)
	}
	b.wait(t, "c heard", heard)

	// It is renamed, hides, and shows itself again.
	fmt.Fprintln(c.orders, "name sea")
	a.wait(t, "c has another name", func(p Peer) bool { return heard(p) && p.Name == "sea" })
	fmt.Fprintln(c.orders, "discoverable no")
	a.wait(t, "c hides", gone(short))
	b.wait(t, "c hides", gone(short))
	fmt.Fprintln(c.orders, "discoverable yes")
	a.wait(t, "c shows itself", heard)

	// It leaves properly; its next life ends without a word.
	begin = time.Now()
	c.orders.Close()
	a.wait(t, "c left", gone(short))
	t.Logf("c had left after %v", time.Since(begin))
	c = startChild(t, nets, 1, "c", dirs["c"])
	a.wait(t, "c came again", heard)
	begin = time.Now()
	c.killed = true
	c.process.Kill()

	// Meanwhile a gets another address: b is told of it by a's announcement or knocking.
	nets.SetAddress(0, "10.77.0.42")
	b.wait(t, "a at its new address", func(p Peer) bool {
		return p.ID == keys["a"].ID() && slices.ContainsFunc(p.Addresses, func(s string) bool {
			host, _, _ := net.SplitHostPort(s)
			return host == "10.77.0.42"
		})
	})
	t.Logf("the new address was heard of after %v", time.Since(begin))
	a.wait(t, "c died", gone(short))
	if took := time.Since(begin); took > 12*time.Second {
		t.Errorf("c was gone %v after its death", took)
	} else {
		t.Logf("c was gone %v after its death", took)
	}
}

// Hosts with nothing but addresses of the link find each other; of two links,
// either will do.
func TestLinkLocalAndTwoLinks(t *testing.T) {
	t.Parallel()
	if !twonets.Here(t) {
		return
	}
	nets := twonets.New(t)
	nets.SetAddress(0, "")
	nets.SetAddress(1, "")
	dirs, keys := strangersAndPair(t)
	a, b := startChild(t, nets, 0, "a", dirs["a"]), startChild(t, nets, 1, "b", dirs["b"])
	at := func(id transport.ID, prefix string) func(Peer) bool {
		return func(p Peer) bool {
			return p.ID == id && p.Online && slices.ContainsFunc(p.Addresses, func(s string) bool { return strings.HasPrefix(s, prefix) })
		}
	}
	p := a.wait(t, "b online", at(keys["b"].ID(), "[fe80::"))
	if !strings.Contains(p.Addresses[0], "%cable]:") {
		t.Errorf("b is at %v", p.Addresses)
	}
	b.wait(t, "a online", at(keys["a"].ID(), "[fe80::"))

	nets.Spare()
	a.wait(t, "b on the spare cable too", at(keys["b"].ID(), twonets.SpareAddress(1)))
	b.wait(t, "a on the spare cable too", at(keys["a"].ID(), twonets.SpareAddress(0)))
	nets.Down(0)
	fmt.Fprintln(b.orders, "name bee")
	a.wait(t, "b's new name, over the spare cable", func(p Peer) bool {
		if p.ID == keys["b"].ID() && !p.Online {
			t.Errorf("b was lost: %+v", p)
		}
		return p.ID == keys["b"].ID() && p.Online && p.Name == "bee"
	})
}
