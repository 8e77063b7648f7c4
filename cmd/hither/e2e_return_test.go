package main

import (
	"strings"
	"testing"

	"hither/engine/control"
)

// holder starts an app that names documents in its arguments, and moves it to b.
func holder(t *testing.T, l *lab, name string) *app {
	t.Helper()
	l.must(t, "a", "sh", "-c", `cd && rm -rf "$0" && mkdir "$0" && cd "$0" && for f in one two three four; do echo "$f" >$f; done`, name)
	a := l.start(t, name, "sh", "-c", "cd; sleep 100000; :", "sh", name+"/one", name+"/two", name+"/three", name+"/four")
	a.move(t)
	return a
}

// giveBack returns the app's files, and says what became of which, by their last names.
func (a *app) giveBack(t *testing.T) map[string]control.File {
	t.Helper()
	var out control.Files
	a.json(t, &out, a.at, "hither", "files", a.name, "--return", "--json")
	if out.Host != "a" {
		t.Errorf("returned to %q", out.Host)
	}
	all := map[string]control.File{}
	for _, f := range out.Files {
		all[f.Path[strings.LastIndexByte(f.Path, '/')+1:]] = f
	}
	return all
}

func TestFilesReturnWithoutTheirApp(t *testing.T) {
	l := theLab(t)
	a := holder(t, l, "giver")
	a.exec(t, "sh", "-c", "cd ~/giver && echo away >one && echo away >two && rm three && mkdir new && echo new >new/five")
	l.put(t, "a", "giver/two", "home\n")

	if d := l.on("a", "hither", "files", "giver", "--return"); d.status != 1 || !strings.Contains(d.err, "is on b") || !strings.Contains(d.err, "hint: `hither files giver --return` there") {
		t.Errorf("returning where the app is not: %+v", d)
	}
	got := a.giveBack(t)
	for name, what := range map[string]string{"one": "written", "two": "beside", "three": "deleted", "five": "created"} {
		if got[name].State != what {
			t.Errorf("%s: %+v, want %s", name, got[name], what)
		}
	}
	if got["one"].Size != 5 || got["five"].Size != 4 {
		t.Errorf("sizes: %+v", got)
	}
	var fetched control.Files
	a.json(t, &fetched, "b", "hither", "files", "giver", "--fetch", "/home/lab/fetched", "--json")
	if len(fetched.Files) == 0 || fetched.Files[0].Size == 0 {
		t.Errorf("fetched: %+v", fetched)
	}
	beside := got["two"].Here
	if !strings.Contains(beside, "/giver/two (from b ") || !strings.Contains(got["two"].Why, "changed at home, too") {
		t.Errorf("what changed on both lies at %q: %q", beside, got["two"].Why)
	}
	see := func(want ...string) {
		t.Helper()
		s := l.must(t, "a", "sh", "-c", `cd ~/giver && for f in $(find . -type f ! -name '* *' | sort); do echo $f $(cat $f); done`)
		if strings.TrimSpace(s) != strings.Join(want, "\n") {
			t.Errorf("at home:\n%swant:\n%s", s, strings.Join(want, "\n"))
		}
	}
	see("./four four", "./new/five new", "./one away", "./two home")
	if s := l.cat(t, "a", beside); s != "away\n" {
		t.Errorf("%s: %q", beside, s)
	}

	// Once more: there is nothing to tell. What changes after it is a change
	// against what was returned.
	if got := a.giveBack(t); len(got) != 0 {
		t.Errorf("returned twice: %+v", got)
	}
	a.exec(t, "sh", "-c", "cd ~/giver && echo more >one")
	a.ended = true
	l.must(t, "b", "hither", "stop", "--grace", "100ms", "giver")
	until(t, "b listing the files of the app that ended", func() (bool, string) {
		d := l.on("b", "hither", "files", "giver")
		return d.status == 0 && strings.Contains(d.out, "changed"), d.out + d.err
	})
	got = a.giveBack(t)
	if len(got) != 1 || got["one"].State != "written" {
		t.Errorf("returned after the end: %+v", got)
	}
	see("./four four", "./new/five new", "./one more", "./two home")
	if d := l.on("b", "hither", "files", "giver"); d.status != 2 {
		t.Errorf("the files of an app that ended are still on b after their return: %+v", d)
	}
	for _, host := range []string{"a", "b"} {
		if s := l.must(t, host, "sh", "-c", `find ~/.local/share/hither/capsules -name return`); s != "" {
			t.Errorf("left on %s: %s", host, s)
		}
	}
}

// TestDocumentsOfManyTrips: what is written away comes home each time, also of
// an app that leaves again.
func TestDocumentsOfManyTrips(t *testing.T) {
	l := theLab(t)
	a := holder(t, l, "commuter")
	for _, day := range []string{"monday", "tuesday", "wednesday"} {
		a.exec(t, "sh", "-c", "cd ~/commuter && echo "+day+" away >one && cat two >>three")
		a.move(t)
		if s := l.cat(t, "a", "commuter/one"); s != day+" away\n" {
			t.Errorf("on %s there came home: %q", day, s)
		}
		l.put(t, "a", "commuter/two", day+"\n")
		a.move(t)
	}
	a.move(t)
	if s := l.cat(t, "a", "commuter/three"); s != "three\ntwo\nmonday\ntuesday\n" {
		t.Errorf("at the end: %q", s)
	}
	if s := l.must(t, "a", "sh", "-c", "ls -A ~/commuter"); s != "four\none\nthree\ntwo\n" {
		t.Errorf("at home lie:\n%s", s)
	}
}

// TestFilesComeHomeOnlyWhereTheAppWasStarted: a host takes no files into its
// home of an app that it did not start, whatever the peer says.
func TestFilesComeHomeOnlyWhereTheAppWasStarted(t *testing.T) {
	l := ownLab(t)
	a := holder(t, l, "claimer")
	a.exec(t, "sh", "-c", "echo away >~/claimer/one")
	if out, err := l.command("kill", "a", "daemon").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.must(t, "a", "sh", "-c", "rm ~/.local/state/hither/departed.json")
	if out, err := l.command("start", "a").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d := l.on("b", "hither", "files", "claimer", "--return")
	if d.status != 1 || !strings.Contains(d.err, "was not started on a") || !strings.Contains(d.err, "still here") {
		t.Errorf("%+v", d)
	}
	if s := l.cat(t, "a", "claimer/one"); s != "one\n" {
		t.Errorf("a's file: %q", s)
	}
	// Without the origin among its peers, the way out is told.
	l.must(t, "b", "hither", "pair", "--remove", "a")
	if d := l.on("b", "hither", "files", "claimer", "--return"); d.status != 1 || !strings.Contains(d.err, "not paired") || !strings.Contains(d.err, "--fetch") {
		t.Errorf("%+v", d)
	}
}
