package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// program is a test program of ours, put into the home folder of host a.
func (l *lab) program(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(sources, "testdata", "e2e", name))
	if err != nil {
		t.Fatal(err)
	}
	return l.put(t, "a", name, string(text))
}

// answer asks a program for its state, which it prints as one line of JSON.
func (a *app) answer(t *testing.T, s *screen, question string, into any) {
	t.Helper()
	s.line(t, question)
	line := s.sees(t, `^answer `+regexp.QuoteMeta(question)+` (\{.*\})$`)[1]
	if err := json.Unmarshal([]byte(line), into); err != nil {
		t.Fatalf("%v in %q", err, line)
	}
}

// asked is answer from a visit to the terminal.
func (a *app) asked(t *testing.T, question string, into any) {
	t.Helper()
	s := a.attach(t)
	defer s.close()
	a.answer(t, s, question, into)
}

func TestPythonKeepsThreadsGeneratorsRandomAndTimers(t *testing.T) {
	l := theLab(t)
	l.needs(t, "python3")
	path := l.program(t, "everything.py")
	type state struct {
		Secret  string    `json:"secret"`
		Random  []float64 `json:"random"`
		Primes  []int     `json:"primes"`
		Counts  []int     `json:"counts"`
		Threads []int     `json:"threads"`
		Pid     int       `json:"pid"`
		Ticks   int       `json:"ticks"`
		Fired   int       `json:"fired"`
		Asleep  float64   `json:"asleep"`
		Wrong   []string  `json:"wrong"`
		Left    float64   `json:"left"`
	}
	// An unmoved run draws the same numbers.
	var want []state
	out := l.in("a", "q0\nq1\nq2\nq3\n", "python3", path).out
	for _, m := range regexp.MustCompile(`(?m)^answer q\d (\{.*\})$`).FindAllStringSubmatch(out, -1) {
		var st state
		if err := json.Unmarshal([]byte(m[1]), &st); err != nil {
			t.Fatal(err)
		}
		want = append(want, st)
	}
	if len(want) != 4 {
		t.Fatalf("the unmoved run says:\n%s", out)
	}
	a := l.start(t, "python", "python3", path)
	var first, before state
	a.asked(t, "q0", &first)
	before = first
	n := 0
	a.tour(t, func(string) {
		n++
		var st state
		a.asked(t, fmt.Sprintf("q%d", n), &st)
		if st.Secret != first.Secret || st.Pid != first.Pid || fmt.Sprint(st.Threads) != fmt.Sprint(first.Threads) {
			t.Errorf("another process answers: %+v, first %+v", st, first)
		}
		if fmt.Sprint(st.Random) != fmt.Sprint(want[n].Random) {
			t.Errorf("draws %v, unmoved %v", st.Random, want[n].Random)
		}
		if fmt.Sprint(st.Primes) != fmt.Sprint(want[n].Primes) {
			t.Errorf("the generator yields %v, unmoved %v", st.Primes, want[n].Primes)
		}
		for i := range st.Counts {
			if st.Counts[i] <= before.Counts[i] {
				t.Errorf("thread %d stands still: %d, before %d", i, st.Counts[i], before.Counts[i])
			}
		}
		if st.Ticks <= before.Ticks || st.Left > before.Left+0.1 {
			t.Errorf("timers stand still: %d ticks and %.2f s left, before %d and %.2f", st.Ticks, st.Left, before.Ticks, before.Left)
		}
		if len(st.Wrong) > 0 {
			t.Errorf("the program noticed: %q", st.Wrong)
		}
		before = st
	})
	until(t, "the timer of before the moves firing once", func() (bool, string) {
		var st state
		a.asked(t, "timer", &st)
		return st.Fired == 1 && st.Asleep >= 3, fmt.Sprintf("%+v", st)
	})
}

func TestGoProgramKeepsGoroutinesTimersAndALargeMap(t *testing.T) {
	l := theLab(t)
	size := 500
	if testing.Short() {
		size = 50
	}
	dir := t.TempDir()
	if err := goBuild(filepath.Join(dir, "gowork"), "./testdata/e2e/gowork"); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(filepath.Join(dir, "gowork"))
	if err != nil {
		t.Fatal(err)
	}
	path := l.put(t, "a", "gowork", string(binary))
	l.must(t, "a", "chmod", "755", path)
	a := l.start(t, "gowork", path, fmt.Sprint(size))
	type state struct {
		Sum                         string
		Entries, Work, Ticks, Fired int
		Goroutines                  int
		Wrong                       string
	}
	var first, before state
	a.asked(t, "0", &first)
	before = first
	n := 0
	a.tour(t, func(string) {
		n++
		var st state
		a.asked(t, fmt.Sprint(n), &st)
		if st.Sum != first.Sum || st.Entries != first.Entries || st.Goroutines != first.Goroutines || st.Wrong != "" {
			t.Errorf("not as it was: %+v, first %+v", st, first)
		}
		if st.Work <= before.Work || st.Ticks <= before.Ticks {
			t.Errorf("stands still: %+v, before %+v", st, before)
		}
		before = st
	})
}

func TestPerlForkTreeKeepsItsPipes(t *testing.T) {
	l := theLab(t)
	l.needs(t, "perl")
	a := l.start(t, "perl", "perl", l.program(t, "tree.pl"))
	type state struct {
		Rounds, Wrong, Children, Zombies int
		Pids                             string
	}
	var first, before state
	a.asked(t, "0", &first)
	before = first
	n := 0
	a.tour(t, func(string) {
		n++
		var st state
		a.asked(t, fmt.Sprint(n), &st)
		if st.Wrong != 0 || st.Pids != first.Pids || st.Children != 6 {
			t.Errorf("not as it was: %+v, first %+v", st, first)
		}
		if st.Rounds <= before.Rounds {
			t.Errorf("the tree stands still: %+v, before %+v", st, before)
		}
		before = st
	})
	a.ask(t, "end", `^ended: 6 children, status 3 of the last$`)
}

func TestXzWritesTheSameBytes(t *testing.T) {
	l := theLab(t)
	l.needs(t, "xz", "python3")
	size := 50
	if testing.Short() {
		size = 10
	}
	l.must(t, "a", "python3", l.program(t, "deterministic.py"), "/home/lab/big", fmt.Sprint(size))
	want := strings.Fields(l.must(t, "a", "sh", "-c", "xz -3 -T1 </home/lab/big | sha256sum"))[0]
	a := l.start(t, "xz", "sh", "-c", "cd; xz -3 -T1 <big >big.xz; echo status $?; sha256sum big.xz; read wait")
	a.tour(t, func(string) {
		if ps := a.exec(t, "ps", "-e", "-o", "comm"); !strings.Contains(ps, "xz\n") {
			t.Errorf("xz is not at work any more:\n%s", ps)
		}
	})
	s := a.attach(t)
	within(t, 4*patience, "xz being done", func() (bool, string) {
		text := s.text(t)
		return strings.Contains(text, "big.xz"), text
	})
	s.sees(t, `^status 0\n`+want)
	s.close()
	a.move(t)
	if got := strings.Fields(l.must(t, "a", "sha256sum", "/home/lab/big.xz"))[0]; got != want {
		t.Errorf("the output that came home has sha256 %s, want %s", got, want)
	}
	l.must(t, "a", "rm", "/home/lab/big", "/home/lab/big.xz")
}

// TestEverythingFlows: pipes, sockets, terminals, locks and files in full use lose nothing, double nothing, and keep the order.
func TestEverythingFlows(t *testing.T) {
	l := theLab(t)
	l.needs(t, "python3")
	a := l.start(t, "flows", "python3", l.program(t, "flows.py"))
	s := a.attach(t)
	s.sees(t, `^flows$`)
	s.close()
	a.tour(t, func(string) {})
	s = a.attach(t)
	defer s.close()
	var end struct {
		Wrong []string
		Least int
	}
	a.answer(t, s, "end", &end)
	if len(end.Wrong) > 0 || end.Least == 0 {
		t.Errorf("it says %+v", end)
	}
	a.ended = true
}

func TestHTTPServerAndItsClient(t *testing.T) {
	l := theLab(t)
	l.needs(t, "python3")
	client := l.program(t, "client.py")
	a := l.start(t, "http", "sh", "-c", `mkdir /tmp/www && cd /tmp/www && head -c 30000000 /dev/urandom >blob && echo hello >small
		python3 -m http.server 8000 --bind 127.0.0.1 2>/dev/null >&2 & exec python3 `+client)
	type state struct {
		Requests, Bytes, Slow int
		Wrong                 []string
		Server                int
	}
	var first, before state
	a.asked(t, "0", &first)
	before = first
	n := 0
	a.tour(t, func(string) {
		var st state
		until(t, "the client going on", func() (bool, string) {
			n++
			a.asked(t, fmt.Sprint(n), &st)
			return st.Requests > before.Requests && st.Slow > before.Slow || len(st.Wrong) > 0, fmt.Sprintf("%+v, before %+v", st, before)
		})
		if len(st.Wrong) > 0 || st.Server != first.Server {
			t.Errorf("the client says %+v", st)
		}
		before = st
	})
}
