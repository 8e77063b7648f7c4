package main

import (
	"regexp"
	"strings"
	"sync"
	"testing"

	"hither/engine/control"
)

// TestPeoplePair is what two people do: they pair by digits, one sends the other an
// app, who is asked, and in the end they part.
func TestPeoplePair(t *testing.T) {
	l := ownLab(t)
	l.must(t, "a", "hither", "unpair", "b")
	l.must(t, "b", "hither", "unpair", "a")
	digits := regexp.MustCompile(`(\d{3}) (\d{3})`)
	var there sync.WaitGroup
	there.Go(func() {
		var code string
		until(t, "b showing the code", func() (bool, string) {
			var all control.Pairings
			l.json(t, &all, "b", "hither", "pair", "--json")
			for _, p := range all.Pairings {
				if p.State == control.PairingCompare {
					code = p.Code
				}
			}
			return code != "", ""
		})
		// It is asked for on the other side's terminal, too.
		if d := l.in("b", "y\n", "hither", "pair"); d.status != 0 || !strings.Contains(d.out, "paired with a ") ||
			strings.Join(digits.FindStringSubmatch(d.err)[1:], "") != code {
			t.Errorf("b: %+v, and not %s", d, code)
		}
	})
	d := l.in("a", "y\n", "hither", "pair", "b")
	there.Wait()
	if d.status != 0 || !strings.Contains(d.out, "paired with b ") || !digits.MatchString(d.err) {
		t.Fatalf("a: %+v", d)
	}
	l.must(t, "a", "hither", "peers", "rename", "b", "desk")
	l.must(t, "a", "hither", "run", "-d", "--name", "clock", "sleep", "1000")
	answer := func(host, said string) {
		there.Go(func() {
			var all control.Questions
			l.json(t, &all, host, "hither", "answer", "--wait", "--json")
			if len(all.Questions) != 1 {
				t.Errorf("asked on %s: %+v", host, all)
				return
			}
			l.must(t, host, "hither", "answer", all.Questions[0].ID, said)
		})
	}
	answer("b", "never")
	d = l.on("a", "hither", "send", "clock", "desk")
	there.Wait()
	if d.status != 1 || !strings.Contains(d.err, "waiting for a person on b to agree") || !strings.Contains(d.err, "hint: on b, `hither permit a send allow`") {
		t.Fatalf("a: %+v", d)
	}
	l.must(t, "b", "hither", "permit", "a", "send", "ask")
	answer("b", "always")
	l.must(t, "a", "hither", "send", "clock", "desk")
	there.Wait()
	if out := l.must(t, "b", "hither", "permit", "a"); !regexp.MustCompile(`a +allow +ask +allow`).MatchString(out) {
		t.Errorf("b permits %s", out)
	}
	l.must(t, "a", "hither", "bring", "clock@desk") // its own
	if d := l.on("b", "hither", "permit", "a", "fly", "allow"); d.status != 2 || !strings.Contains(d.err, "fly") {
		t.Errorf("%+v", d)
	}
	l.must(t, "b", "hither", "unpair", "a")
	if d := l.on("a", "hither", "send", "clock", "desk"); d.status != 1 || !strings.Contains(d.err, "not paired") {
		t.Errorf("%+v", d)
	}
	// A ticket, through a pipe, as over ssh.
	ticket := l.must(t, "b", "hither", "pair", "--ticket", "--minutes", "1")
	if d := l.in("a", ticket, "hither", "pair", "-"); d.status != 0 || !strings.Contains(d.out, "paired with b ") {
		t.Errorf("%+v", d)
	}
	if out := l.must(t, "a", "hither", "peers"); !strings.Contains(out, "desk") {
		t.Errorf("a's peers: %s", out)
	}
	if d := l.on("a", "hither", "pair", "nobody-here"); d.status != 2 || !strings.Contains(d.err, "is near") || !strings.Contains(d.err, "--ticket") {
		t.Errorf("%+v", d)
	}
	l.must(t, "a", "hither", "stop", "clock")
}
