package files

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// trip is an app that was at a and is at b: a's root, b's layer.
type trip struct {
	t          *testing.T
	root, home string // of a; home as the app knows it
	layer      *Layer
	docs       string // the app's home at b
	data       string // a's layer
}

// away takes an app from a to b with the files in its home.
func away(t *testing.T, prepare func(home string), open ...string) *trip {
	t.Helper()
	tr := &trip{t: t, root: t.TempDir(), home: "/home/alice", data: filepath.Join(t.TempDir(), "id", "layer")}
	if err := os.MkdirAll(tr.root+tr.home, 0o755); err != nil {
		t.Fatal(err)
	}
	prepare(tr.root + tr.home)
	src := NewSource(NewHasher(""))
	s := Survey{Root: tr.root, Self: hostA, Origin: hostA, Home: tr.home, Also: []string{tr.home}, UID: os.Getuid()}
	for _, o := range open {
		s.Held = append(s.Held, Held{Path: tr.home + "/" + o, Writing: true})
	}
	n, err := src.Need(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewIncoming(IncomingOptions{Dir: filepath.Join(t.TempDir(), "id", "layer"), Self: hostB, Root: t.TempDir(), Hasher: NewHasher("")})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	through(t, src, in, n)
	if err := in.Seal(); err != nil {
		t.Fatal(err)
	}
	if tr.layer, err = OpenLayer(in.Layer.Dir()); err != nil {
		t.Fatal(err)
	}
	tr.docs = in.Layer.Dir() + "/docs" + tr.home
	return tr
}

// back brings the files to a and stages them.
func (tr *trip) back(held ...Held) (*Homecoming, error) {
	tr.t.Helper()
	src := NewSource(NewHasher(""))
	s := tr.layer.Survey(hostB)
	s.Root, s.Held = tr.t.TempDir(), held
	for _, h := range held { // what the app would see at b
		name := s.Root + h.Path
		os.MkdirAll(filepath.Dir(name), 0o755)
		if b, err := os.ReadFile(filepath.Join(tr.layer.Dir(), "docs", h.Path)); err == nil {
			os.WriteFile(name, b, 0o600)
		}
	}
	n, err := src.Need(ctx, s)
	if err != nil {
		return nil, err
	}
	in, err := NewIncoming(IncomingOptions{Dir: tr.data, Self: hostA, Root: tr.root, Hasher: NewHasher("")})
	if err != nil {
		return nil, err
	}
	if _, err := try(src, in, n); err != nil {
		return nil, err
	}
	if !in.AtHome() {
		tr.t.Fatal("not at home")
	}
	if err := in.Seal(); err != nil {
		return nil, err
	}
	return in.Stage(ctx)
}

// tree renders a directory, names of conflict copies without their date.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		if a, b, ok := strings.Cut(name, " (from b "); ok {
			_, b, _ = strings.Cut(b, ")")
			name = a + " (from b)" + b
		}
		line := name
		switch {
		case d.IsDir():
			line += "/"
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			line += " -> " + target
		case d.Type()&fs.ModeNamedPipe != 0:
			line += " |"
		default:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			st, _ := d.Info()
			line += fmt.Sprintf(" %o %q", st.Mode().Perm(), b)
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func (tr *trip) at(name string) string    { return tr.root + tr.home + "/" + name }
func (tr *trip) there(name string) string { return tr.docs + "/" + name }

// eventful is a trip on which everything happened that can.
func eventful(t *testing.T) *trip {
	tr := away(t, func(home string) {
		for _, n := range []string{"same", "away", "home", "both", "gone-away", "gone-home", "gone-away-changed-home", "gone-home-changed-away", "mode", "save-by-rename"} {
			write(t, home+"/"+n, n+" at first", 0o644)
		}
		write(t, home+"/dir/inner", "inner", 0o600)
		write(t, home+"/olddir/x", "x", 0o600)
		os.Symlink("same", home+"/link")
		os.Symlink("same", home+"/link-both")
		write(t, home+"/both-same", "first", 0o644)
	})
	// at b
	write(t, tr.there("away"), "changed away", 0o600)
	write(t, tr.there("both"), "changed away", 0o644)
	write(t, tr.there("gone-home-changed-away"), "changed away", 0o644)
	os.Remove(tr.there("gone-away"))
	os.Remove(tr.there("gone-away-changed-home"))
	os.Chmod(tr.there("mode"), 0o755)
	write(t, tr.there("tmp"), "renamed over", 0o644)
	os.Rename(tr.there("tmp"), tr.there("save-by-rename"))
	write(t, tr.there("new"), "new", 0o644)
	write(t, tr.there("new-both"), "new away", 0o644)
	write(t, tr.there("newdir/sub/file"), "deep", 0o640)
	os.RemoveAll(tr.there("olddir"))
	os.Remove(tr.there("link"))
	os.Symlink("away", tr.there("link"))
	os.Remove(tr.there("link-both"))
	os.Symlink("/etc", tr.there("link-both"))
	write(t, tr.there("both-same"), "second", 0o644)
	write(t, tr.there("kind"), "a file", 0o644)
	// at a, meanwhile
	write(t, tr.at("home"), "changed home", 0o644)
	write(t, tr.at("both"), "changed home", 0o644)
	os.Remove(tr.at("gone-home"))
	os.Remove(tr.at("gone-home-changed-away"))
	write(t, tr.at("gone-away-changed-home"), "changed home", 0o644)
	write(t, tr.at("new-both"), "new home", 0o644)
	os.Remove(tr.at("link-both"))
	os.Symlink("new", tr.at("link-both"))
	write(t, tr.at("both-same"), "second", 0o644)
	os.Mkdir(tr.at("kind"), 0o755)
	return tr
}

const afterEventful = `away 600 "changed away"
both (from b) 644 "changed away"
both 644 "changed home"
both-same 644 "second"
dir/
dir/inner 600 "inner"
gone-away-changed-home 644 "changed home"
gone-home-changed-away (from b) 644 "changed away"
home 644 "changed home"
kind (from b) 644 "a file"
kind/
link -> away
link-both (from b) -> /etc
link-both -> new
mode 755 "mode at first"
new 644 "new"
new-both (from b) 644 "new away"
new-both 644 "new home"
newdir/
newdir/sub/
newdir/sub/file 640 "deep"
same 644 "same at first"
save-by-rename 644 "renamed over"`

func TestHome(t *testing.T) {
	tr := eventful(t)
	before := tree(t, tr.root+tr.home)
	mtime := time.Unix(1234567890, 123456789)
	os.Chtimes(tr.there("away"), mtime, mtime)

	h, err := tr.back()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Discard(); err != nil {
		t.Fatal(err)
	}
	if after := tree(t, tr.root+tr.home); after != before {
		t.Errorf("a move that failed left\n%s\ninstead of\n%s", after, before)
	}

	if h, err = tr.back(); err != nil {
		t.Fatal(err)
	}
	// The app opens its files before the commit.
	opens := h.Opens()
	f, err := os.Open(tr.root + opens[tr.home+"/away"])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := h.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, tr.root+tr.home); got != afterEventful {
		t.Errorf("got\n%s\nwant\n%s", got, afterEventful)
	}
	if name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); name != tr.at("away") {
		t.Errorf("a descriptor leads to %s", name)
	}
	if st, _ := os.Stat(tr.at("away")); !st.ModTime().Equal(mtime) {
		t.Errorf("the time is %v", st.ModTime())
	}
	what := map[string]string{}
	for _, o := range out {
		what[filepath.Base(o.Path)] = o.What
		if o.What == "beside" {
			if _, err := os.Lstat(tr.root + o.Where); err != nil {
				t.Error(err)
			}
		}
	}
	for n, w := range map[string]string{"away": "written", "both": "beside", "new": "created", "gone-away": "deleted", "new-both": "beside",
		"home": "", "same": "", "gone-away-changed-home": "", "kind": "beside", "mode": "written"} {
		if what[n] != w {
			t.Errorf("%s: %q, want %q", n, what[n], w)
		}
	}
	for p, at := range h.Opens() {
		if !strings.Contains(at, " (from b ") {
			t.Errorf("%s still opens as %s", p, at)
		}
	}
	if st, err := (&Layer{dir: tr.data, Ledger: Ledger{AtHome: true}}).Status(nil); err != nil || len(st) != 0 {
		t.Errorf("left in the layer: %+v, %v", st, err)
	}
}

// TestHomeKilled kills the coming home before every single change, runs it
// again, and finds the same end each time.
func TestHomeKilled(t *testing.T) {
	for n := 1; ; n++ {
		tr := eventful(t)
		h, err := tr.back()
		if err != nil {
			t.Fatal(err)
		}
		left := n
		h.hook = func() {
			if left--; left == 0 {
				panic("killed")
			}
		}
		killed := func() (k bool) {
			defer func() { k = recover() != nil }()
			if _, err := h.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			if err := h.Finish(); err != nil {
				t.Fatal(err)
			}
			return false
		}()
		if !killed {
			if n < 20 {
				t.Errorf("only %d changes", n)
			}
			return
		}
		if h, err = ReopenHomecoming(tr.data); err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		if _, err := h.Commit(ctx); err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		if err := h.Finish(); err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		if got := tree(t, tr.root+tr.home); got != afterEventful {
			t.Fatalf("killed before change %d: got\n%s\nwant\n%s", n, got, afterEventful)
		}
	}
}

// TestHomeChangedLate: the origin's file changes between Stage and Commit.
func TestHomeChangedLate(t *testing.T) {
	tr := away(t, func(home string) { write(t, home+"/doc", "first", 0o644) })
	write(t, tr.there("doc"), "away", 0o644)
	write(t, tr.there("new"), "new away", 0o644)
	h, err := tr.back()
	if err != nil {
		t.Fatal(err)
	}
	write(t, tr.at("doc"), "late", 0o644)
	write(t, tr.at("new"), "new late", 0o644)
	if _, err := h.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	want := `doc (from b) 644 "away"
doc 644 "late"
new (from b) 644 "new away"
new 644 "new late"`
	if got := tree(t, tr.root+tr.home); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestHomeUnplaceable: links and missing rights at the origin lose nothing.
func TestHomeUnplaceable(t *testing.T) {
	tr := away(t, func(home string) {
		write(t, home+"/d/doc", "first", 0o644)
		write(t, home+"/ro/doc", "first", 0o644)
	})
	write(t, tr.there("d/doc"), "away", 0o644)
	write(t, tr.there("ro/doc"), "away in place", 0o644)
	write(t, tr.there("ro/new"), "new", 0o644)
	outside := t.TempDir()
	write(t, outside+"/doc", "not the app's", 0o644)
	os.RemoveAll(tr.at("d"))
	os.Symlink(outside, tr.at("d"))
	os.Chmod(tr.at("ro"), 0o555)
	defer os.Chmod(tr.at("ro"), 0o755)
	h, err := tr.back()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, outside+"/doc"); got != "not the app's" {
		t.Errorf("written through a link: %q", got)
	}
	if got := read(t, tr.at("ro/doc")); got != "away in place" {
		t.Errorf("in a directory we may not write: %q", got)
	}
	l, err := OpenLayer(tr.data)
	if err != nil {
		t.Fatal(err)
	}
	st, err := l.Status(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{tr.home + "/d/doc"}
	if os.Geteuid() != 0 { // root may write anywhere
		want = append(want, tr.home+"/ro/new")
	}
	var got []string
	for _, f := range st {
		if f.State != Kept {
			t.Errorf("%+v", f)
		}
		got = append(got, f.Path)
	}
	if !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q; outcomes %+v", got, want, out)
	}
	if at := h.Opens()[tr.home+"/d/doc"]; read(t, at) != "away" {
		t.Errorf("the app opens %s", at)
	}
	// Another arrival must not throw it away.
	if _, err := makeLayer(tr.data); err != nil {
		t.Fatal(err)
	}
	if list, err := List(filepath.Dir(filepath.Dir(filepath.Dir(tr.data)))); err != nil || len(list) != 0 {
		t.Log(list, err) // not in a data directory: nothing to find
	}
	if b := read(t, tr.data+".1/docs"+tr.home+"/d/doc"); b != "away" {
		t.Error(b)
	}
}

// TestHomeLostLayer: a layer whose home directory vanished deletes nothing.
func TestHomeLostLayer(t *testing.T) {
	tr := away(t, func(home string) { write(t, home+"/doc", "first", 0o644) })
	if err := os.RemoveAll(tr.docs); err != nil {
		t.Fatal(err)
	}
	h, err := tr.back()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got := read(t, tr.at("doc")); got != "first" {
		t.Error(got)
	}
}

// TestOnwards: a, b, c, and home from c: what was done at b arrives.
func TestOnwards(t *testing.T) {
	tr := away(t, func(home string) { write(t, home+"/doc", "first", 0o644); write(t, home+"/keep", "k", 0o644) })
	write(t, tr.there("doc"), "from b", 0o644)
	write(t, tr.there("new"), "made at b", 0o600)
	src := NewSource(NewHasher(""))
	s := tr.layer.Survey(hostB)
	n, err := src.Need(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewIncoming(IncomingOptions{Dir: filepath.Join(t.TempDir(), "id", "layer"), Self: hostC, Root: t.TempDir(), Hasher: NewHasher("")})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	through(t, src, in, n)
	os.Remove(tr.there("keep")) // after the first survey
	d, err := src.Recheck(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	after(t, src, in, d)
	if err := in.Seal(); err != nil {
		t.Fatal(err)
	}
	if err := tr.layer.Release(nil); err != nil {
		t.Fatal(err)
	}
	if tr.layer, err = OpenLayer(in.Layer.Dir()); err != nil {
		t.Fatal(err)
	}
	st, err := tr.layer.Status(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range st {
		got = append(got, filepath.Base(f.Path)+" "+f.State)
	}
	if want := []string{"doc changed", "keep deleted", "new new"}; !slices.Equal(got, want) {
		t.Errorf("at c: %q", got)
	}
	h, err := tr.back()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, tr.root+tr.home), "doc 644 \"from b\"\nnew 600 \"made at b\""; got != want {
		t.Errorf("at home:\n%s", got)
	}
}
