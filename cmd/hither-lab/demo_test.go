package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// demoBin is a folder with hither-lab and hither.
func demoBin(t *testing.T) string {
	if _, err := os.Stat(filepath.Join(filepath.Dir(program), "hither")); err == nil {
		return filepath.Dir(program)
	}
	build := exec.Command("go", "build", "-o", filepath.Dir(program), "../hither")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building hither: %v\n%s", err, out)
	}
	return filepath.Dir(program)
}

func TestDemo(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed on this machine")
	}
	l := unmadeLab(t)
	file := filepath.Join(t.TempDir(), "out", "demo.txt")
	cmd := exec.Command(filepath.Join(demoBin(t), "hither-lab"), "--lab", l.name, "demo", "--transcript", file, "--pictures", filepath.Dir(file))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("\n%s", out)
	want := 8
	if !bytes.Contains(out, []byte("Not shown: this machine lacks")) {
		want += 5
		for _, name := range []string{"desktops.png", "1-before-a.png", "2-moved-b.png", "3-home-a.png", "3-home-b.png"} {
			if f, err := os.Open(filepath.Join(filepath.Dir(file), name)); err != nil {
				t.Error(err)
			} else if img, err := png.Decode(f); err != nil || img.Bounds().Dx() < 500 {
				t.Errorf("%s is no picture of a desktop: %v", name, err)
			}
		}
	}
	if n := bytes.Count(out, []byte("\n  yes  ")); n != want {
		t.Errorf("%d checks held instead of %d", n, want)
	}
	for line := range strings.Lines(string(out)) {
		if utf8.RuneCountInString(line) > 80+1 || strings.Contains(line, "\033") {
			t.Errorf("longer than 80 columns, or coloured outside of a terminal: %q", line)
		}
	}
	if text, err := os.ReadFile(file); err != nil || !bytes.Equal(text, out) {
		t.Errorf("the transcript (%v) is not what was shown:\n%s", err, text)
	}
	if _, errs, status := l.try("status"); status != 1 || !strings.Contains(errs, "is not up") {
		t.Errorf("the lab stayed: status %d, %q", status, errs)
	}
}

// goodStory is one in which everything holds.
func goodStory() *story {
	tell := func(question string, n int) account {
		sum := sha256.Sum256([]byte("secret" + question))
		return account{Question: question, Secret: hex.EncodeToString(sum[:]), Pid: 2, Child: 3, Threads: []int{4, 5}, Count: n, Talks: n, Lines: n}
	}
	return &story{
		Stops: []stop{
			{Host: "a", Answer: tell("x", 1), Inside: []int{2, 3}, Pids: []int{10, 11}},
			{Host: "b", Answer: tell("y", 2), Inside: []int{2, 3}, Pids: []int{12, 13}},
			{Host: "a", Answer: tell("z", 3), Inside: []int{2, 3}, Pids: []int{14, 15}},
		},
		Legs:  []leg{{From: "a", To: "b", Address: "2", Sight: sight{Source: "2"}}, {From: "b", To: "a", Address: "1", Sight: sight{Source: "1"}}},
		Final: account{Plain: hex.EncodeToString([]byte("secret")), Lines: 3},
		File:  "line 0\nline 1\nline 2\n",
	}
}

// TestDemoCanFail spoils one thing after the other: each check must see its own.
func TestDemoCanFail(t *testing.T) {
	if !goodStory().report(&bytes.Buffer{}, false) {
		t.Fatalf("a good story fails: %+v", goodStory().checks())
	}
	for name, c := range map[string]struct {
		spoil func(*story)
		want  string
	}{
		"another secret":     {func(s *story) { s.Final.Plain = hex.EncodeToString([]byte("other!")) }, "the secret"},
		"no secret":          {func(s *story) { s.Final.Plain = "" }, "the secret"},
		"a wrong proof":      {func(s *story) { s.Stops[1].Answer.Secret = s.Stops[0].Answer.Secret }, "the secret"},
		"it began again":     {func(s *story) { s.Stops[1].Answer.Count = 0 }, "it counted on"},
		"it stood still":     {func(s *story) { s.Stops[2].Answer.Count = 2 }, "it counted on"},
		"a wrong word":       {func(s *story) { s.Final.Wrong = 1 }, "the child lives"},
		"a dead child":       {func(s *story) { s.Stops[2].Answer.Talks = 2 }, "the child lives"},
		"a missing line":     {func(s *story) { s.File = "line 0\nline 2\n" }, "its file"},
		"a short file":       {func(s *story) { s.File = "line 0\n" }, "its file"},
		"no file":            {func(s *story) { s.File = "" }, "its file"},
		"a clock going back": {func(s *story) { s.Final.Back = 1 }, "its clock"},
		"another thread":     {func(s *story) { s.Stops[1].Answer.Threads = []int{4, 6} }, "pids and thread ids"},
		"a lost process":     {func(s *story) { s.Stops[2].Inside = []int{2} }, "pids and thread ids"},
		"the same process":   {func(s *story) { s.Stops[2].Pids = []int{12, 15} }, "... and others outside"},
		"no process":         {func(s *story) { s.Stops[2].Pids = nil }, "... and others outside"},
		"another source":     {func(s *story) { s.Legs[0].Sight.Source = "1" }, "the witness"},
	} {
		s := goodStory()
		c.spoil(s)
		var failed []string
		for _, x := range s.checks() {
			if !x.Held {
				failed = append(failed, x.What)
			}
		}
		if len(failed) != 1 || !strings.HasPrefix(failed[0], c.want) {
			t.Errorf("%s: these checks fail: %q", name, failed)
		}
		if s.report(&bytes.Buffer{}, false) {
			t.Errorf("%s: the report says that all held", name)
		}
	}
}

func goodWindowStory() *windowStory {
	at := &window{X: 1, Y: 2, Width: 3, Height: 4}
	return &windowStory{
		First: at,
		Legs:  []windowLeg{{From: "a", To: "b", Keys: 20, Place: at}, {From: "b", To: "a", Keys: 20, Place: at}},
		Saved: demoLines[0] + "\n" + pangram[:14] + "\n" + demoLines[1] + "\n" + pangram[:20] + "\n" + demoLines[2] + "\n",
	}
}

// TestDemoWindowCanFail spoils one thing after the other: each check must see its own.
func TestDemoWindowCanFail(t *testing.T) {
	if s := goodWindowStory(); !s.report(&bytes.Buffer{}, false) || s.taken(0) != 14 || s.taken(1) != 20 {
		t.Fatalf("a good story fails: %+v", s.checks())
	}
	for name, c := range map[string]struct {
		spoil func(*windowStory)
		want  int // which check fails
	}{
		"a lost line":        {func(s *windowStory) { s.Saved = strings.Replace(s.Saved, demoLines[1], "x", 1) }, 0},
		"lines in disorder":  {func(s *windowStory) { s.Saved = strings.Replace(s.Saved, demoLines[2], demoLines[0], 1) }, 0},
		"a missing key":      {func(s *windowStory) { s.Saved = strings.Replace(s.Saved, "the quick", "the quck", 1) }, 1},
		"a key twice":        {func(s *windowStory) { s.Saved = strings.Replace(s.Saved, "the quick", "the quiick", 1) }, 1},
		"keys of nobody":     {func(s *windowStory) { s.Legs[0].Keys = 13 }, 1},
		"hardly a key":       {func(s *windowStory) { s.Saved = strings.Replace(s.Saved, pangram[:14]+"\n", "the\n", 1) }, 1},
		"saved too early":    {func(s *windowStory) { s.Unsaved = "x" }, 2},
		"a window elsewhere": {func(s *windowStory) { s.Legs[1].Place = &window{X: 1, Y: 3, Width: 3, Height: 4} }, 3},
		"another size":       {func(s *windowStory) { s.Legs[0].Place = &window{X: 1, Y: 2, Width: 3, Height: 5} }, 3},
		"no window":          {func(s *windowStory) { s.Legs[0].Place = nil }, 3},
		"one stayed behind":  {func(s *windowStory) { s.Legs[1].Left = 1 }, 4},
	} {
		s := goodWindowStory()
		c.spoil(s)
		for i, x := range s.checks() {
			if x.Held == (i == c.want) {
				t.Errorf("%s: %q is %v", name, x.What, x.Held)
			}
		}
	}
	s := goodWindowStory()
	s.Saved = "x\n"
	if c := s.checks(); c[0].Held || c[1].Held {
		t.Error("another text passes for the one that was typed")
	}
}

func TestWitnessMeasuresTheSilence(t *testing.T) {
	var w watch
	at := time.Unix(0, 0)
	number := 0
	beat := func(after time.Duration) {
		at, number = at.Add(after), number+1
		w.beat(number, "a", at)
	}
	beat(time.Second)
	for range 10 {
		beat(time.Millisecond)
	}
	beat(time.Second) // before the mark: does not count
	w.mark()
	for range 10 {
		beat(2 * time.Millisecond)
	}
	number += 3
	beat(50 * time.Millisecond)
	w.beat(number-1, "a", at.Add(time.Millisecond)) // late
	want := sight{Silence: 48, Beats: 12, Missed: 2, Source: "a"}
	if s := w.seen(); s != want {
		t.Errorf("saw %+v instead of %+v", s, want)
	}
	if s := (&watch{}).seen(); s != (sight{}) {
		t.Errorf("a watch without a number saw %+v", s)
	}
}
