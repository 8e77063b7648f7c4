package files

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// TestSurveyReal: what a real program needs, from this host's files.
func TestSurveyReal(t *testing.T) {
	sh := "/bin/sh"
	exe, err := filepath.EvalSymlinks(sh)
	if err != nil {
		t.Skip(err)
	}
	home := t.TempDir()
	write(t, home+"/script", "#!"+sh+"\n", 0o755)
	src := NewSource(NewHasher(""))
	n, err := src.Need(ctx, Survey{Root: "/", Self: hostA, Origin: hostA, Home: home, UID: os.Getuid(),
		Held: []Held{{Path: exe, Mapped: true}}, Args: []Args{{Cwd: home, Argv: []string{sh, "script", "--in=script", "-x", "/etc/shadow-none"}}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range n.Entries {
		got = append(got, n.Entries[i].Path)
	}
	for _, want := range []string{exe, home, home + "/script"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not needed", want)
		}
	}
	loader := slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, "/ld-linux") })
	if !loader {
		t.Error("the dynamic loader is not needed")
	}
	if sh != exe && !slices.Contains(got, sh) {
		if d, _ := filepath.EvalSymlinks(filepath.Dir(sh)); !slices.Contains(got, filepath.Join(d, filepath.Base(sh))) {
			t.Errorf("the link %s is not needed; %q", sh, got)
		}
	}
	if e := byPath(n.Entries)[exe]; e.Use&Document != 0 {
		t.Error("a program of the system as a document")
	}
	if e := byPath(n.Entries)[home+"/script"]; e.Use&Document == 0 || e.Mode != 0o755 {
		t.Errorf("%+v", e)
	}
}

// TestSurveyLinksStayInside: a link of the app cannot lead the survey out of
// the app's root.
func TestSurveyLinksStayInside(t *testing.T) {
	root := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "secret", 0o600)
	os.MkdirAll(root+"/home/a", 0o755)
	os.Symlink(secret, root+"/home/a/abs")
	os.Symlink(strings.Repeat("../", 20)+secret[1:], root+"/home/a/up")
	n, err := NewSource(NewHasher("")).Need(ctx, Survey{Root: root, Self: hostA, Origin: hostA, Home: "/home/a",
		Args: []Args{{Cwd: "/home/a", Argv: []string{"x", "abs", "up"}}}, Held: []Held{{Path: secret}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n.Entries {
		if n.Entries[i].Kind == Regular {
			t.Errorf("%+v", n.Entries[i])
		}
	}
}

// TestGrowing: a file that grows between survey, sending and freeze arrives
// as it was at the freeze.
func TestGrowing(t *testing.T) {
	root := t.TempDir()
	log := root + "/home/a/log"
	write(t, log, "1\n", 0o644)
	grow := func(s string) {
		f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(s)
		f.Close()
	}
	src := NewSource(NewHasher(""))
	s := Survey{Root: root, Self: hostA, Origin: hostA, Home: "/home/a", Held: []Held{{Path: "/home/a/log", Writing: true}}}
	n, err := src.Need(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewIncoming(IncomingOptions{Dir: filepath.Join(t.TempDir(), "id", "layer"), Self: hostB, Root: t.TempDir(), Hasher: NewHasher("")})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	grow("2\n")
	through(t, src, in, n)
	arrived := in.Layer.dir + "/docs/home/a/log"
	ino := func() uint64 {
		d, err := openFolder(filepath.Dir(arrived))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		st, err := d.lstat("log")
		if err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	was := ino()
	grow("3\n")
	d, err := src.Recheck(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Entries) != 1 || d.Entries[0].Have {
		t.Errorf("delta %+v", d.Entries)
	}
	after(t, src, in, d)
	if got := read(t, arrived); got != "1\n2\n3\n" {
		t.Errorf("arrived %q", got)
	}
	if ino() != was {
		t.Error("the file is another one: a mount would show the old")
	}
	if d, err = src.Recheck(ctx, s); err != nil || len(d.Entries) != 0 || len(d.Gone) != 0 {
		t.Errorf("at rest: %+v, %v", d, err)
	}
	if err := in.Seal(); err != nil {
		t.Fatal(err)
	}
	if b := byPath(in.Layer.Ledger.Base)["/home/a/log"]; b == nil || b.Size != 6 {
		t.Errorf("ledger: %+v", b)
	}
}

// TestNeededUntilRemoved: what has travelled is not taken away at the freeze, as long as it is there: neither what
// the app has closed since, nor the links that lead to its programs, nor a directory with more below it.
func TestNeededUntilRemoved(t *testing.T) {
	root := t.TempDir()
	own := root + "/srv/own/env"
	write(t, own+"/bin/python3.99", "the interpreter", 0o755)
	write(t, own+"/lib/python3.99/lib-dynload/_x.so", "mapped", 0o755)
	write(t, own+"/lib/python3.99/lib-dynload/_y.so", "mapped", 0o755)
	write(t, own+"/lib/libpython.so.1", "mapped", 0o755)
	write(t, own+"/notes", "closed", 0o644)
	write(t, own+"/draft", "removed", 0o644)
	os.Symlink("python3.99", own+"/bin/python")
	os.Symlink("libpython.so.1", own+"/lib/libpython.so")
	held := []Held{{Path: "/srv/own/env/bin/python3.99", Mapped: true}, {Path: "/srv/own/env/lib/libpython.so.1", Mapped: true},
		{Path: "/srv/own/env/lib/python3.99/lib-dynload/_x.so", Mapped: true}, {Path: "/srv/own/env/lib/python3.99/lib-dynload/_y.so", Mapped: true}}
	for range 20 { // what is found first differs
		write(t, own+"/draft", "removed", 0o644)
		src := NewSource(NewHasher(""))
		s := Survey{Root: root, Self: hostA, Origin: hostA, Held: append([]Held{{Path: "/srv/own/env/notes"}, {Path: "/srv/own/env/draft"}}, held...)}
		n, err := src.Need(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"/srv/own/env/bin/python", "/srv/own/env/lib/libpython.so", "/srv/own/env/lib/python3.99"} {
			if byPath(n.Entries)[p] == nil {
				t.Errorf("%s is not needed", p)
			}
		}
		os.Remove(own + "/draft")
		s.Held = held
		d, err := src.Recheck(ctx, s)
		if err != nil || !slices.Equal(d.Gone, []string{"/srv/own/env/draft"}) || !slices.Equal(d.Private, n.Private) {
			t.Fatalf("needed no more: %q, private %q and %q, %v", d.Gone, n.Private, d.Private, err)
		}
		for _, e := range d.Entries {
			if e.Kind == Regular && !e.Have {
				t.Errorf("sent again: %+v", e)
			}
		}
	}
}

func TestHasherRemembers(t *testing.T) {
	dir := t.TempDir()
	name, cache := dir+"/f", dir+"/cache/hashes"
	write(t, name, "content", 0o600)
	h := NewHasher(cache)
	sum := func(fresh bool) Hash {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s, _, err := h.File(ctx, f, fresh)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := sum(false)
	if len(h.known) != 0 {
		t.Error("a file that has just changed is remembered")
	}
	if isTmpfs(mustOpen(t, name)) {
		t.Skip("on a tmpfs nothing is remembered")
	}
	// As if it had rested: the cache is filled by hand.
	d, _ := openFolder(dir)
	defer d.Close()
	st, _ := d.lstat("f")
	h.known[identityOf(&st)] = Hash{1}
	h.dirty = true
	if sum(false) != (Hash{1}) || sum(true) != first {
		t.Error("memory is not used, or used where it must not be")
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if h = NewHasher(cache); sum(false) != (Hash{1}) {
		t.Error("forgotten over a restart")
	}
	b := []byte(read(t, cache))
	b[20] ^= 1
	os.WriteFile(cache, b, 0o600)
	if h = NewHasher(cache); sum(false) != first {
		t.Error("a damaged memory is believed")
	}
	h = NewHasher(cache)
	h.known[identityOf(&st)] = Hash{1}
	os.WriteFile(name, []byte("CONTENT"), 0o600)
	now := time.Now()
	os.Chtimes(name, now, time.Unix(0, st.Mtim.Nano())) // the time put back: ctime tells
	if sum(false) == (Hash{1}) {
		t.Error("a change went unnoticed")
	}
}

func mustOpen(t *testing.T, name string) *os.File {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestCacheSavesBytes: what was here before does not travel again.
func TestCacheSavesBytes(t *testing.T) {
	cache, err := OpenCache(t.TempDir(), 10<<20)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	write(t, root+"/home/a/big", strings.Repeat("x", 1<<20), 0o600)
	layer := filepath.Join(t.TempDir(), "id", "layer")
	for round := range 3 {
		src := NewSource(NewHasher(""))
		n, err := src.Need(ctx, Survey{Root: root, Self: hostA, Origin: hostA, Home: "/home/a", Held: []Held{{Path: "/home/a/big"}}})
		if err != nil {
			t.Fatal(err)
		}
		in, err := NewIncoming(IncomingOptions{Dir: layer, Self: hostB, Root: t.TempDir(), Hasher: NewHasher(""), Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		a := through(t, src, in, n)
		if (a.Bytes != 0) != (round == 0) {
			t.Errorf("round %d: %d bytes", round, a.Bytes)
		}
		if read(t, in.Layer.dir+"/docs/home/a/big") != read(t, root+"/home/a/big") {
			t.Error("not the same")
		}
		if err := in.Seal(); err != nil {
			t.Fatal(err)
		}
		in.Close()
		if err := in.Layer.Release(cache); err != nil {
			t.Fatal(err)
		}
		if round == 1 { // damage is noticed
			list, _ := os.ReadDir(cache.dir)
			for _, de := range list {
				os.WriteFile(filepath.Join(cache.dir, de.Name()), bytes.Repeat([]byte("y"), 1<<20), 0o600)
			}
			src := NewSource(NewHasher(""))
			n, _ := src.Need(ctx, Survey{Root: root, Self: hostA, Origin: hostA, Home: "/home/a", Held: []Held{{Path: "/home/a/big"}}})
			in, _ := NewIncoming(IncomingOptions{Dir: layer, Self: hostB, Root: t.TempDir(), Hasher: NewHasher(""), Cache: cache})
			if _, err := try(src, in, n); err == nil {
				t.Error("a damaged cache was believed")
			}
			in.Discard()
			cache.trim()
			for _, de := range list {
				os.WriteFile(filepath.Join(cache.dir, de.Name()), []byte(read(t, root+"/home/a/big")), 0o600)
			}
		}
	}
}

// TestFull: a full disk is a clear error, and nothing half-written is left in place.
func TestFull(t *testing.T) {
	if dir := os.Getenv("HITHER_FILES_TEST_FULL"); dir != "" {
		root := t.TempDir()
		noise := make([]byte, 3<<20)
		for i := range noise {
			noise[i] = byte(i * i >> 7)
		}
		write(t, root+"/home/a/big", string(noise), 0o600)
		src := NewSource(NewHasher(""))
		n, err := src.Need(ctx, Survey{Root: root, Self: hostA, Origin: hostA, Home: "/home/a", Held: []Held{{Path: "/home/a/big"}}})
		if err != nil {
			t.Fatal(err)
		}
		in, err := NewIncoming(IncomingOptions{Dir: dir + "/id/layer", Self: hostB, Root: root + "/home", Hasher: NewHasher("")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Answer(ctx, n); err == nil || !strings.Contains(err.Error(), "room") {
			t.Errorf("answer: %v", err)
		}
		var wire bytes.Buffer
		if _, err := src.Send(ctx, &wire, n, n.Everything(), nil); err != nil {
			t.Fatal(err)
		}
		for i := range n.Entries {
			in.want[uint32(i)] = n.Entries[i].Kind == Regular
		}
		_, err = in.Receive(ctx, &wire, nil)
		if err == nil || !strings.Contains(err.Error(), "make room there") {
			t.Errorf("receive: %v", err)
		}
		if _, err := os.Lstat(dir + "/id/layer/docs/home/a/big"); err == nil {
			t.Error("half of it is in place")
		}
		if err := in.Discard(); err != nil {
			t.Error(err)
		}
		wire.Reset()
		SendTree(ctx, &wire, root, TreeOptions{})
		os.Mkdir(dir+"/tree", 0o700)
		if _, err := ReceiveTree(ctx, &wire, dir+"/tree", 0, nil); err == nil || !strings.Contains(err.Error(), "no space") {
			t.Errorf("tree: %v", err)
		}
		if list, _ := filepath.Glob(dir + "/tree/home/a/*"); len(list) != 0 {
			t.Errorf("in the tree: %q", list)
		}
		return
	}
	full := t.TempDir()
	exe, _ := os.Executable()
	out := inside(t, nil, "mount -t tmpfs -o size=1m none "+full+" && HITHER_FILES_TEST_FULL="+full+" "+exe+" -test.run '^TestFull$' -test.v")
	if !strings.Contains(out, "PASS: TestFull") {
		t.Error(out)
	}
}

func BenchmarkHash(b *testing.B) {
	name := filepath.Join(b.TempDir(), "f")
	if err := os.WriteFile(name, make([]byte, 64<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetBytes(64 << 20)
	for b.Loop() {
		if _, _, err := NewHasher("").File(ctx, f, true); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSurvey is what an offer costs for an app like python3.
func BenchmarkSurvey(b *testing.B) {
	var held []Held
	list, _ := filepath.Glob("/usr/lib/x86_64-linux-gnu/*.so*")
	for _, p := range list[:min(len(list), 60)] {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			held = append(held, Held{Path: real, Mapped: true})
		}
	}
	h := NewHasher("")
	for b.Loop() {
		if _, err := NewSource(h).Need(ctx, Survey{Root: "/", Self: hostA, Origin: hostA, Held: held}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecheck is what the files add to the downtime if nothing changed.
func BenchmarkRecheck(b *testing.B) {
	var held []Held
	list, _ := filepath.Glob("/usr/lib/x86_64-linux-gnu/*.so*")
	for _, p := range list[:min(len(list), 60)] {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			held = append(held, Held{Path: real, Mapped: true})
		}
	}
	src := NewSource(NewHasher(""))
	s := Survey{Root: "/", Self: hostA, Origin: hostA, Held: held}
	if _, err := src.Need(ctx, s); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if d, err := src.Recheck(ctx, s); err != nil || len(d.Entries) != 0 {
			b.Fatal(err, d)
		}
	}
}
