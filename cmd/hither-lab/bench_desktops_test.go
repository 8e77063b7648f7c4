package main

import (
	"bufio"
	"testing"
)

// deskOf asks as the benchmark does, on a host of a lab.
func (l testLab) deskOf(host string) *desk {
	l.t.Helper()
	cmd := l.command("exec", host, "--", "hither-lab", benchWorkCommand, "desk")
	in, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	d := &desk{&talker{cmd: cmd, in: in, out: bufio.NewScanner(out)}}
	l.t.Cleanup(d.close)
	return d
}

func (l testLab) answer(d *desk, q deskQuestion) deskFigures {
	l.t.Helper()
	a, err := d.ask(q)
	if err != nil {
		l.t.Fatalf("%+v: %v", q, err)
	}
	return a
}

// A picture is seen when it comes, not before; keys and updates are measured.
func TestDesktopFigures(t *testing.T) {
	l := desktopLab(t)
	a, b := l.deskOf("a"), l.deskOf("b")
	start := func(host string) {
		l.sh(host, "cd /; setsid xterm -geometry 40x10+100+100 -fa '' -title twin -e cat >/dev/null 2>&1 &")
	}
	start("a")
	v := l.answer(a, deskQuestion{Op: "look", Window: "twin"}).View
	if v.W < 200 || v.H < 100 || v.Sum == "" {
		t.Fatalf("the window is seen as %+v", v)
	}
	if _, err := a.watch(v); err == nil {
		t.Error("a picture that is there already can be waited for")
	}
	seen, err := b.watch(v)
	if err != nil {
		t.Fatal(err)
	}
	before := monotonicNow()
	start("b")
	p := l.person("b")
	p.do("focus twin")
	p.do("move 1279 799")
	if at, err := seen(); err != nil || at < before || at > monotonicNow() {
		t.Errorf("the picture was seen at %d, the window began at %d: %v", at, before, err)
	}

	took := l.answer(a, deskQuestion{Op: "keys", Window: "twin", Count: 5}).Took
	if len(took) != 5 {
		t.Errorf("5 keys took %v", took)
	}
	if after := l.answer(a, deskQuestion{Op: "look", Window: "twin"}).View; after.Sum == v.Sum {
		t.Error("keys draw nothing")
	}

	l.sh("a", "cd /; setsid hither-lab "+benchWorkCommand+" paint 20 >/dev/null 2>&1 &")
	f := l.answer(a, deskQuestion{Op: "updates", Window: paintTitle, For: 1})
	if f.Updates < 5 || f.Updates > 25 {
		t.Errorf("a window that is painted 20 times a second is seen painted %v times", f.Updates)
	}
	for _, q := range []deskQuestion{{Op: "dance"}, {Op: "use", For: 0.1}} { // no capsule runs here
		if a, err := a.ask(q); err == nil {
			t.Errorf("%+v: %+v", q, a)
		}
	}
}
