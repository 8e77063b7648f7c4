package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"hither/engine/control"
	"hither/engine/handover"
)

func TestRunPassesStatusAndStdio(t *testing.T) {
	l := theLab(t)
	for _, c := range []struct {
		argv   []string
		stdin  string
		out    string
		errout string
		status int
	}{
		{[]string{"true"}, "", "", "", 0},
		{[]string{"sh", "-c", "exit 7"}, "", "", "", 7},
		{[]string{"sh", "-c", "kill -TERM $$"}, "", "", "", 128 + 15},
		{[]string{"sh", "-c", "cat; echo said >&2; echo $0 $1", "name", "two words"}, "one\ntwo\n", "one\ntwo\nname two words\n", "said\n", 0},
		{[]string{"no-such-program"}, "", "", "no-such-program", 127},
		{[]string{"/etc/passwd"}, "", "", "/etc/passwd", 126},
	} {
		d := l.in("a", c.stdin, append([]string{"hither", "run"}, c.argv...)...)
		if d.status != c.status || d.out != c.out || !strings.Contains(d.err, c.errout) || c.errout == "" && d.err != "" {
			t.Errorf("hither run %q: status %d, %q, %q; want status %d, %q, %q", c.argv, d.status, d.out, d.err, c.status, c.out, c.errout)
		}
	}
	// Much of it, through pipes, unharmed.
	text := strings.Repeat("0123456789abcde\n", 1<<18)
	if d := l.in("a", text, "hither", "run", "cat"); d.status != 0 || d.out != text {
		t.Errorf("4 MB through cat: status %d, %d bytes back: %s", d.status, len(d.out), d.err)
	}
}

func TestInTerminalItEndsWithTheStatus(t *testing.T) {
	l := theLab(t)
	s := l.window(t, "exec", "a", "--", "hither", "run", "--name", "shell", "sh")
	s.sees(t, `^\$$`) // its prompt
	s.line(t, `stty size; tty; echo "$((6*7)) answers"`)
	s.sees(t, `^30 100\n/dev/pts/\d+\n42 answers$`)
	s.line(t, "sleep 1000")
	until(t, "sleep being at work", func() (bool, string) {
		out := l.on("a", "hither", "exec", "shell", "ps", "-e").out
		return strings.Contains(out, "sleep"), out
	})
	s.key(t, "C-c")
	s.sees(t, `^\^C\s+\$$`)
	s.line(t, `echo "st""atus $?"; exit 9`)
	s.sees(t, `^status 130\n(.*\n)*\[ended with 9\]$`)
}

func TestDetachAndAttachAgain(t *testing.T) {
	l := theLab(t)
	s := l.window(t, "exec", "a", "--", "hither", "run", "--name", "leave", "sh")
	s.sees(t, `^\$$`)
	s.line(t, `echo "fi""rst"`)
	s.sees(t, `^first$`)
	s.key(t, `C-\`, `C-\`)
	s.sees(t, `detached; leave runs on`)
	s.sees(t, `^\[ended with 0\]$`)
	a := &app{lab: l, name: "leave", at: "a"}
	one, two := a.attach(t), a.attach(t)
	one.sees(t, `^first$`)
	one.line(t, `echo "se""cond"`)
	one.sees(t, `^second$`)
	two.sees(t, `^second$`) // both look at the same
	// When it moves, those who are attached are told.
	a.move(t)
	for _, s := range []*screen{one, two} {
		s.sees(t, `leave went to b`)
		s.sees(t, `^\[ended with 0\]$`)
	}
	d := l.on("a", "hither", "attach", "leave")
	if d.status == 0 || !strings.Contains(d.err, "on b") {
		t.Errorf("attaching where it is no more: status %d, %s", d.status, d.err)
	}
	three := a.attach(t)
	three.sees(t, `^second$`)
	a.must(t, "b", "hither", "stop", "--grace", "100ms", "leave")
	three.sees(t, `leave was stopped`)
	if _, here := a.find(t, "b"); here {
		t.Error("it is still there after stop")
	}
}

func TestExecEntersTheCapsule(t *testing.T) {
	l := theLab(t)
	a := l.start(t, "inside", "sh", "-c", "echo private >/tmp/mine; exec sleep 1000000")
	until(t, "the file", func() (bool, string) {
		d := l.on("a", "hither", "exec", "inside", "cat", "/tmp/mine")
		return d.out == "private\n", d.out + d.err
	})
	if d := l.on("a", "cat", "/tmp/mine"); d.status == 0 {
		t.Error("the capsule's /tmp is the host's")
	}
	a.tour(t, func(host string) {
		d := l.in(host, "in", "hither", "exec", "inside", "sh", "-c", `cat; cat /tmp/mine; ps -o comm= -p 2; echo err >&2; exit 5`)
		if d.status != 5 || d.out != "inprivate\nsleep\n" || d.err != "err\n" {
			t.Errorf("on %s: %+v", host, d)
		}
	})
}

func TestJSONAndExitCodes(t *testing.T) {
	l := theLab(t)
	a := l.start(t, "shapes", "sleep", "1000000")
	// Programs rely on these names.
	has := func(what, out string, names ...string) map[string]any {
		t.Helper()
		var m map[string]any
		if err := json.Unmarshal([]byte(out), &m); err != nil {
			t.Fatalf("%s: %v\n%s", what, err, out)
		}
		for _, n := range names {
			if _, ok := m[n]; !ok {
				t.Errorf("%s has no %q:\n%s", what, n, out)
			}
		}
		return m
	}
	ls := has("ls", l.must(t, "a", "hither", "ls", "--json"), "apps")
	if len(ls["apps"].([]any)) == 0 {
		t.Error("ls lists nothing")
	}
	peers := has("peers", l.must(t, "a", "hither", "peers", "--json"), "peers")["peers"].([]any)
	if len(peers) != 1 || peers[0].(map[string]any)["name"] != "b" || peers[0].(map[string]any)["state"] != "up" {
		t.Errorf("peers of a: %v", peers)
	}
	var seen control.App
	inspect := l.must(t, "a", "hither", "inspect", "shapes", "--json")
	has("inspect", inspect, "id", "name", "state", "command", "processes", "memory")
	if err := json.Unmarshal([]byte(inspect), &seen); err != nil || len(seen.Processes) != 1 || seen.Processes[0].Name != "sleep" || seen.Processes[0].Pid != 2 {
		t.Errorf("inspect: %v\n%s", err, inspect)
	}
	if c := has("check", l.must(t, "a", "hither", "check", "shapes", "b", "--json"), "app", "peer", "ok", "problems"); c["ok"] != true {
		t.Errorf("check: %v", c)
	}
	d := l.on("a", "hither", "send", "shapes", "b", "--json")
	lines := strings.Split(strings.TrimSpace(d.out), "\n")
	if d.status != 0 || len(lines) < 3 {
		t.Fatalf("send: %+v", d)
	}
	a.at = "b"
	for _, line := range lines[:len(lines)-1] {
		has("progress", line, "state", "done", "total", "sent", "rate", "left")
	}
	has("the result", lines[len(lines)-1], "app", "from", "to", "outcome", "reason", "downtime_ms", "total_ms", "freeze_ms", "restore_ms", "rounds",
		"bytes_sent", "bytes_memory", "files_sent", "bytes_files")
	var moved control.Apps
	l.json(t, &moved, "a", "hither", "ls", "--all", "--json")
	found := false
	for _, x := range moved.Apps {
		found = found || x.Name == "shapes" && x.State == "gone" && x.Host == "b"
	}
	if !found {
		t.Errorf("ls --all of a does not say where it is: %+v", moved)
	}
	// bring is send from the other side.
	d = l.on("a", "hither", "bring", "shapes@b", "--json")
	if d.status != 0 {
		t.Fatalf("bring: %+v", d)
	}
	a.at = "a"

	for _, c := range []struct {
		argv   []string
		status int
		says   string
	}{
		{[]string{"send", "shapes", "nowhere"}, 2, "nowhere"},
		{[]string{"send", "nothing", "b"}, 2, "nothing"},
		{[]string{"send", "shapes"}, 2, "hint"},
		{[]string{"check", "nothing", "b"}, 2, "nothing"},
		{[]string{"bring", "shapes"}, 2, "APP@PEER"},
		{[]string{"run", "-d", "--name", "shapes", "true"}, 2, "shapes"},
		{[]string{"no-such-command"}, 2, "no-such-command"},
		{[]string{"ls", "--no-such-flag"}, 2, "no-such-flag"},
	} {
		d := l.on("a", append([]string{"hither"}, c.argv...)...)
		if d.status != c.status || !strings.Contains(d.err, c.says) {
			t.Errorf("hither %s: status %d, %q; want %d and %q", strings.Join(c.argv, " "), d.status, d.err, c.status, c.says)
		}
	}
}

func TestRefusedThingsAreNamedFirst(t *testing.T) {
	l := theLab(t)
	l.needs(t, "python3")
	for name, c := range map[string]struct{ program, says string }{
		"netlink": {"import socket,time; s=socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16); print('re'+'ady'); time.sleep(1e6)", "netlink"},
		"vsock":   {"import socket,time; s=socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); print('re'+'ady'); time.sleep(1e6)", "vsock"},
		"ring":    {"import ctypes,time; c=ctypes.CDLL(None); fd=c.syscall(425, 4, (ctypes.c_char*120)()); print('re'+'ady' if fd >= 0 else 'no ring'); time.sleep(1e6)", "io_uring"},
	} {
		t.Run(name, func(t *testing.T) {
			a := l.start(t, "has-"+name, "python3", "-c", c.program)
			s := a.attach(t)
			if s.sees(t, `^(ready|no ring)$`)[1] != "ready" {
				t.Skip("the kernel gives the program no such thing")
			}
			s.close()
			a.refuses(t, c.says)
		})
	}
	t.Run("pipe", func(t *testing.T) {
		cmd := l.command("exec", "a", "--", "hither", "run", "--name", "has-pipe", "cat")
		cmd.Dir = "/"
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("cat ended with %v", err)
			}
		}()
		lines := bufio.NewReader(out)
		echo := func(word string) {
			t.Helper()
			fmt.Fprintln(in, word)
			if got, err := lines.ReadString('\n'); err != nil || got != word+"\n" {
				t.Errorf("cat says %q, %v", got, err)
			}
		}
		echo("before")
		a := &app{lab: l, name: "has-pipe", at: "a"}
		a.refuses(t, "pipe")
		echo("after") // as if nothing had been
	})
}

// refuses asks for a move that cannot be: it is told why, before the app is stopped.
func (a *app) refuses(t *testing.T, says string) {
	t.Helper()
	d := a.on("a", "hither", "check", a.name, "b", "--json")
	var c control.Check
	if err := json.Unmarshal([]byte(d.out), &c); err != nil || d.status != 1 || c.OK || len(c.Problems) == 0 ||
		!strings.Contains(c.Problems[0].What, says) || c.Problems[0].Cure == "" {
		t.Errorf("check: status %d, %v, %s%s", d.status, err, d.out, d.err)
	}
	r, status := a.send(t, "b")
	if status != 1 || r.Outcome != handover.Stayed || !strings.Contains(r.Reason, says) || len(r.Problems) == 0 || r.DowntimeMS != 0 || r.FreezeMS != 0 {
		t.Errorf("send: status %d, %+v", status, r)
	}
	if got, here := a.find(t, "a"); !here || got.State != "running" {
		t.Errorf("the app is %+v", got)
	}
	d = a.on("a", "hither", "send", a.name, "b") // as people see it
	if d.status != 1 || !strings.Contains(d.err, says) || !strings.Contains(d.err, "hint: ") {
		t.Errorf("send: %+v", d)
	}
}

func TestDestinationWithoutTheProgram(t *testing.T) {
	l := ownLab(t)
	l.needs(t, "bc")
	hide := []string{"hide", "b"}
	real, err := exec.Command("sh", "-c", `realpath "$(command -v bc)"; ldd "$(command -v bc)" | grep -o '/[^ ]*libreadline[^ ]*' | while read f; do echo "$f"; realpath "$f"; done`).Output()
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for _, p := range strings.Fields(string(real)) {
		if !paths[p] {
			paths[p] = true
			hide = append(hide, p)
		}
	}
	if out, err := l.command(hide...).CombinedOutput(); err != nil {
		t.Fatalf("hiding %v: %v\n%s", hide[2:], err, out)
	}
	if d := l.on("b", "bc", "--version"); d.status == 0 {
		t.Fatal("bc runs on b, where it should be hidden")
	}
	a := l.start(t, "bc", "bc", "-q")
	a.ask(t, "x = 42; 1+1", `^2$`)
	first := true
	a.tour(t, func(host string) {
		a.ask(t, "x*1000+1", `^42001$`)
		if first && host == "b" {
			first = false
			// Its own executable, by its own path, inside and only there.
			if out := a.exec(t, "sh", "-c", "echo '6*7' | bc"); out != "42\n" {
				t.Errorf("bc inside the capsule says %q", out)
			}
		}
	})
	if d := l.on("b", "bc", "--version"); d.status == 0 {
		t.Error("bc is on b now, outside the capsule")
	}
}

func TestDocumentChangedOnBothSides(t *testing.T) {
	l := theLab(t)
	l.put(t, "a", "both.txt", "as it was\n")
	a := l.start(t, "both", "sh", "-c", `exec 3<>~/both.txt; while read line; do echo "$line" >&3; echo "wrote $line"; done`)
	until(t, "the document being open", func() (bool, string) {
		d := l.on("a", "hither", "exec", "both", "sh", "-c", "readlink /proc/2/fd/3")
		return strings.Contains(d.out, "both.txt"), d.out + d.err
	})
	a.move(t)
	a.ask(t, "from b", `^wrote from b`)
	l.put(t, "a", "both.txt", "changed at home\n")
	r := a.move(t)
	if got := l.cat(t, "a", "both.txt"); got != "changed at home\n" {
		t.Errorf("the origin's document is %q", got)
	}
	names := l.must(t, "a", "sh", "-c", "cd; ls | grep both")
	m := regexp.MustCompile(`(?m)^both \(from b \d{4}-\d\d-\d\d [^)]*\)\.txt$|^both\.txt \(from b \d{4}-\d\d-\d\d[^)]*\)$`).FindString(names)
	if m == "" {
		t.Fatalf("no copy beside the document: %s", names)
	}
	if got := l.cat(t, "a", m); !strings.HasPrefix(got, "from b\n") {
		t.Errorf("the copy beside it is %q", got)
	}
	if !strings.Contains(strings.Join(r.Notes, "\n"), "both") {
		t.Errorf("the result does not say so: %+v", r)
	}
	l.must(t, "a", "sh", "-c", `cd; rm both*`)
}

func TestSavedDocumentComesHome(t *testing.T) {
	l := theLab(t)
	l.put(t, "a", "home.txt", "as it was\n")
	l.must(t, "a", "chmod", "640", "/home/lab/home.txt")
	a := l.start(t, "home", "sh", "-c", `exec 3>>~/home.txt; while read line; do echo "$line" >&3; echo "wrote $line"; done`)
	a.ask(t, "one", `^wrote one$`)
	a.move(t)
	a.ask(t, "two", `^wrote two$`)
	if d := l.on("b", "cat", "/home/lab/home.txt"); d.status == 0 {
		t.Errorf("the document lies in b's own home: %q", d.out)
	}
	var f control.Files
	l.json(t, &f, "b", "hither", "files", "home", "--json")
	found := false
	for _, x := range f.Files {
		found = found || x.Path == "/home/lab/home.txt" && x.Here != ""
	}
	if !found {
		t.Errorf("hither files on b does not tell of the document: %+v", f)
	}
	a.move(t)
	if got := l.cat(t, "a", "home.txt"); got != "as it was\none\ntwo\n" {
		t.Errorf("at home after the move: %q", got)
	}
	a.ask(t, "three", `^wrote three$`)
	if got := l.cat(t, "a", "home.txt"); got != "as it was\none\ntwo\nthree\n" {
		t.Errorf("at home, written there again: %q", got)
	}
	if mode := strings.TrimSpace(l.must(t, "a", "stat", "-c", "%a", "/home/lab/home.txt")); mode != "640" {
		t.Errorf("its mode is %s, was 640", mode)
	}
}

func TestHelpTeaches(t *testing.T) {
	l := theLab(t)
	d := l.on("a", "hither", "--help")
	for _, word := range strings.Fields("run ls peers inspect check send bring attach exec stop files pair unpair permit answer daemon doctor") {
		if !regexp.MustCompile(`(?m)^  ` + word + ` +\S`).MatchString(d.out) {
			t.Errorf("--help does not tell of %s", word)
		}
		if h := l.on("a", "hither", word, "--help"); h.status != 0 || !bytes.Contains([]byte(h.out), []byte("Usage:")) {
			t.Errorf("hither %s --help: status %d", word, h.status)
		}
	}
	if d := l.on("a", "hither", "--version"); d.status != 0 || d.out == "" {
		t.Errorf("--version: %+v", d)
	}
	if d := l.on("a", "hither", "completion", "bash"); d.status != 0 || !strings.Contains(d.out, "hither") {
		t.Errorf("completion: status %d", d.status)
	}
}
