package main

import (
	"fmt"
	"strings"
	"testing"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/transport"
)

// Whatever is wrong at the destination or with the peer: the move ends with
// exit code 1 and a text that names what is wrong, the app runs on at its source
// with all that it remembers, and nothing of it is left at the destination.

// remembers is a program with a secret that exists nowhere but in its memory;
// it keeps telling it, with a number that grows.
const remembers = `
import os, time
secret, n = os.urandom(8).hex(), 0
hoard = os.urandom(4 << 20)
kept = open("adversity.txt", "a+")
while True:
    n += 1
    with open("/tmp/new", "w") as f:
        f.write("%s%d %d" % (secret, hash(hoard), n))
    os.rename("/tmp/new", "/tmp/told")
    time.sleep(0.01)
`

// witness is an app that remembers, and what it told first.
type witness struct {
	*app
	secret string
}

func (l *lab) witness(t *testing.T) *witness {
	t.Helper()
	l.needs(t, "python3")
	w := &witness{app: l.start(t, "witness", "sh", "-c", `cd && exec python3 -c "$0" adversity/*`, remembers)}
	w.secret, _ = w.told(t)
	return w
}

func (w *witness) told(t *testing.T) (secret string, n int) {
	t.Helper()
	until(t, "the app telling what it remembers", func() (bool, string) {
		d := w.on(w.at, "hither", "exec", w.name, "cat", "/tmp/told")
		_, err := fmt.Sscan(d.out, &secret, &n)
		return d.status == 0 && err == nil, d.out + d.err
	})
	return secret, n
}

// unharmed checks that the app runs on where it was, with what it remembers.
func (w *witness) unharmed(t *testing.T) {
	t.Helper()
	secret, n := w.told(t)
	if secret != w.secret {
		t.Errorf("it remembers %s, not %s", secret, w.secret)
	}
	until(t, "the app counting on", func() (bool, string) {
		s, m := w.told(t)
		return s == w.secret && m > n, fmt.Sprint(s, m, " after ", n)
	})
	if got, here := w.find(t, w.at); !here || got.State != "running" {
		t.Errorf("%s is not running on %s: %+v", w.name, w.at, got)
	}
}

// stays tries a move that must not come about, and looks for each of the words
// in what is said.
func (w *witness) stays(t *testing.T, to string, words ...string) handover.Result {
	t.Helper()
	r, status := w.send(t, to)
	said := r.Reason
	for _, p := range r.Problems {
		said += "; " + p.What + "; " + p.Cure
	}
	if status != 1 || r.Outcome != handover.Stayed {
		t.Fatalf("status %d, outcome %s: %s", status, r.Outcome, said)
	}
	for _, word := range words {
		if !strings.Contains(said, word) {
			t.Errorf("it does not say %q: %s", word, said)
		}
	}
	t.Logf("it says: %s", said)
	w.unharmed(t)
	return r
}

// nothingOn checks that a host has nothing of any app: no process, no capsule
// and no files.
func (l *lab) nothingOn(t *testing.T, host string) {
	t.Helper()
	until(t, "nothing being left on "+host, func() (bool, string) {
		left := l.must(t, host, "sh", "-c", `
			ps -eo pid=,args= | grep -v -e __warden -e 'hither daemon' -e 'ps -eo' -e 'sh -c' -e grep -e HITHER_
			pid=$(pgrep -o -f 'hither daemon')
			ls /proc/$pid/root$XDG_RUNTIME_DIR/hither/capsules
			find /proc/$pid/root$HOME/.local/share/hither/capsules -mindepth 1
			find /proc/$pid/root$HOME/.local/state/hither/moves -type f
			:`)
		return left == "", left
	})
}

// daemon starts a host's daemon by a script.
func (l *lab) daemon(t *testing.T, host, script string) {
	t.Helper()
	l.command("kill", host, "daemon").Run() //nolint:errcheck // it may be dead already
	l.must(t, host, "sh", "-c", `rm -f $XDG_RUNTIME_DIR/hither/control.sock; mkdir -p ~/.local/share/hither/capsules; setsid -f sh -c "$0" </dev/null >>~/.local/state/hither/odd.out 2>&1`, script)
	until(t, "the daemon of "+host+" answering", func() (bool, string) {
		d := l.on(host, "sh", "-c", `test -S $XDG_RUNTIME_DIR/hither/control.sock || { cat ~/.local/state/hither/odd.out; exit 1; }`)
		return d.status == 0, d.out
	})
}

// confined is a daemon that runs after a command as root of its own namespaces.
func confined(command string) string {
	return `exec unshare -cm --keep-caps sh -c "` + command + ` && exec setpriv --inh-caps=-all --ambient-caps=-all hither daemon"`
}

// room gives the apps' files so much room and no more.
func room(options string) string {
	return confined("mount -t tmpfs -o mode=700," + options + " tmpfs ~/.local/share/hither/capsules")
}

func TestAdverseDestination(t *testing.T) {
	l := ownLab(t)
	w := l.witness(t)
	l.must(t, "a", "sh", "-c", "head -c 3000000 /dev/urandom >~/adversity.txt")
	for _, c := range []struct {
		name, script string
		words        []string
	}{
		{"disk full", room("size=1m"), []string{"room", "no space left", "make room there"}},
		{"no inodes", room("nr_inodes=3"), []string{"no space left", "make room there"}},
		{"hard limit", `ulimit -n 64; hither daemon`, []string{"64", "limit"}},
		{"no user namespaces", confined("echo 0 >/proc/sys/user/max_user_namespaces"), []string{"user namespaces", "max_user_namespaces"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.daemon(t, "b", c.script)
			w.stays(t, "b", c.words...)
			l.nothingOn(t, "b")
		})
	}
	l.daemon(t, "b", "hither daemon")
	w.move(t)
	w.unharmed(t)
}

// TestDiskFullWhileFilesTravel: when the move began there seemed to be room.
func TestDiskFullWhileFilesTravel(t *testing.T) {
	l := ownLab(t)
	l.must(t, "a", "sh", "-c", "cd && mkdir adversity && for i in $(seq 100); do echo $i >adversity/$i; done")
	w := l.witness(t)
	l.daemon(t, "b", room("nr_inodes=50"))
	w.stays(t, "b", "no space left", "make room there")
	l.nothingOn(t, "b")
	l.daemon(t, "b", "hither daemon")
	w.move(t)
	w.unharmed(t)
}

func TestWrongPeers(t *testing.T) {
	l := ownLab(t)
	w := l.witness(t)
	var peers control.Peers
	l.json(t, &peers, "a", "hither", "peers", "--json")
	if len(peers.Peers) != 1 || len(peers.Peers[0].Addresses) == 0 {
		t.Fatalf("a's peers: %+v", peers)
	}
	card := func(host string) string { return strings.TrimSpace(l.must(t, host, "hither", "pair", "--export")) }
	pair := func(host, card, name string) {
		t.Helper()
		l.on(host, "hither", "pair", "--remove", name)
		l.must(t, host, "hither", "pair", "--name", name, card)
	}
	a, b := card("a"), card("b")

	t.Run("another key", func(t *testing.T) {
		id, err := transport.LoadIdentity(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		pair("a", transport.Card{Name: "b", Key: id.Public(), Addresses: peers.Peers[0].Addresses}.String(), "b")
		w.stays(t, "b", "key")
		l.nothingOn(t, "b")
		pair("a", b, "b")
	})
	t.Run("an impostor", func(t *testing.T) {
		l.daemon(t, "b", `XDG_DATA_HOME=$HOME/impostor hither daemon`)
		l.must(t, "b", "hither", "pair", "--name", "a", a)
		w.stays(t, "b", "key")
		l.nothingOn(t, "b")
		l.daemon(t, "b", "hither daemon")
	})
	t.Run("not paired there", func(t *testing.T) {
		l.must(t, "b", "hither", "pair", "--remove", "a")
		w.stays(t, "b", "pair")
		l.nothingOn(t, "b")
		pair("b", a, "a")
		l.must(t, "b", "hither", "permit", "a", "send", "allow")
	})
	t.Run("not paired here", func(t *testing.T) {
		l.must(t, "a", "hither", "pair", "--remove", "b")
		if d := l.on("a", "hither", "send", w.name, "b"); d.status != 2 || !strings.Contains(d.err, "no host") {
			t.Errorf("%+v", d)
		}
		w.unharmed(t)
		pair("a", b, "b")
	})
	t.Run("down", func(t *testing.T) {
		if out, err := l.command("kill", "b", "daemon").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		w.stays(t, "b", "b")
		l.daemon(t, "b", "hither daemon")
	})
	w.move(t)
	w.unharmed(t)
}

// TestRefusedByName: an app that holds what cannot move is not touched, and a
// person learns what it is and what to do.
func TestRefusedByName(t *testing.T) {
	l := theLab(t)
	l.needs(t, "python3")
	refused := func(t *testing.T, a *app, words ...string) {
		t.Helper()
		for _, argv := range [][]string{{"send", a.name, "b"}, {"check", a.name, "b"}} {
			d := l.on("a", append([]string{"hither"}, argv...)...)
			said := d.out + d.err
			if d.status != 1 || !strings.Contains(said, "hint:") {
				t.Errorf("hither %s: status %d, %s", argv[0], d.status, said)
			}
			for _, word := range words {
				if !strings.Contains(said, word) {
					t.Errorf("hither %s does not say %q: %s", argv[0], word, said)
				}
			}
			t.Logf("hither %s: %s", argv[0], said)
		}
		r, status := a.send(t, "b")
		if status != 1 || r.Outcome != handover.Stayed || len(r.Problems) == 0 || r.Problems[0].Cure == "" || r.DowntimeMS != 0 || r.FreezeMS != 0 {
			t.Errorf("status %d: %+v", status, r)
		}
		if got, here := a.find(t, "a"); !here || got.State != "running" {
			t.Errorf("it is not running: %+v", got)
		}
		if _, there := a.find(t, "b"); there {
			t.Error("it is on b")
		}
	}
	t.Run("netlink", func(t *testing.T) {
		a := l.start(t, "netlinked", "python3", "-c", `
import socket, time
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
open("/tmp/ready", "w")
while True: time.sleep(1000)`)
		until(t, "the app holding its socket", func() (bool, string) {
			return l.on("a", "hither", "exec", a.name, "test", "-e", "/tmp/ready").status == 0, ""
		})
		refused(t, a, "netlink", "python3")
	})
	t.Run("a pipe from outside", func(t *testing.T) {
		c := l.command("exec", "a", "--", "sh", "-c", "sleep 100000 | hither run --name piped cat")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		a := &app{lab: l, name: "piped", at: "a"}
		defer func() {
			l.on("a", "hither", "stop", "--grace", "100ms", "piped")
			l.on("a", "pkill", "-f", "sleep 100000")
			c.Wait() //nolint:errcheck // killed
		}()
		until(t, "the app running", func() (bool, string) {
			got, here := a.find(t, "a")
			return here && got.State == "running", fmt.Sprint(got)
		})
		refused(t, a, "pipe", "cat")
	})
}
