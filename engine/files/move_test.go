package files

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var (
	hostA = Host{"id-a", "a"}
	hostB = Host{"id-b", "b"}
	hostC = Host{"id-c", "c"}
	ctx   = context.Background()
)

// through carries a need's bytes from source to destination, everything
// encoded as on the wire, and gives the answer.
func through(t *testing.T, src *Source, in *Incoming, n *Need) *Answer {
	t.Helper()
	a, err := try(src, in, n)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(src *Source, in *Incoming, n *Need) (*Answer, error) {
	b, err := n.Encode()
	if err != nil {
		return nil, err
	}
	there, err := DecodeNeed(b)
	if err != nil {
		return nil, err
	}
	a, err := in.Answer(ctx, there)
	if err != nil {
		return nil, err
	}
	if b, err = a.Encode(); err != nil {
		return nil, err
	}
	here, err := DecodeAnswer(b, n)
	if err != nil {
		return nil, err
	}
	var wire bytes.Buffer
	if _, err := src.Send(ctx, &wire, n, here, nil); err != nil {
		return nil, err
	}
	if _, err := in.Receive(ctx, &wire, nil); err != nil {
		return nil, err
	}
	if wire.Len() > 0 {
		panic("the receiver left bytes on the wire")
	}
	return a, nil
}

// after carries what changed, as after the freeze.
func after(t *testing.T, src *Source, in *Incoming, d *Need) {
	t.Helper()
	b, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	there, err := DecodeNeed(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Update(ctx, there); err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	if _, err := src.Send(ctx, &wire, d, d.Everything(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Receive(ctx, &wire, nil); err != nil {
		t.Fatal(err)
	}
}

// TestMoveAway: an app with a document, a program and a library that the
// destination lacks or has otherwise, as they look inside its capsule.
func TestMoveAway(t *testing.T) {
	a := t.TempDir() // the source's root
	home := filepath.Join(t.TempDir(), "home", "alice")
	write(t, a+home+"/docs/notes.txt", "dear diary", 0o640)
	write(t, a+home+"/docs/.notes.txt.swp", "swap", 0o600)
	os.Symlink("docs/notes.txt", a+home+"/n")
	write(t, a+"/usr/bin/hither-test-app", "#!/usr/bin/hither-test-sh\n", 0o755)
	write(t, a+"/usr/bin/hither-test-sh", "the interpreter", 0o755)
	write(t, a+"/usr/lib/hither-test/plug.so", "a plug", 0o644)
	write(t, a+"/nix/store/x/lib.so", "a lib", 0o644)
	write(t, a+"/etc/debian_version", "from a\n", 0o644)
	passwd := read(t, "/etc/passwd")
	write(t, a+"/etc/passwd", passwd, 0o644)
	os.Symlink("hither-test-app", a+"/usr/bin/hither-test-alias")
	for _, d := range []string{"/usr/bin", "/usr/lib/hither-test", "/etc", "/nix/store/x"} {
		os.Chmod(a+d, 0o555)
		defer os.Chmod(a+d, 0o755)
	}
	for _, f := range []string{"/usr/bin/hither-test-app", "/usr/lib/hither-test/plug.so", "/nix/store/x/lib.so", "/etc/debian_version", "/etc/passwd"} {
		os.Chmod(a+f, 0o555)
	}

	src := NewSource(NewHasher(""))
	survey := Survey{
		Root: a, Self: hostA, Origin: hostA, Home: home,
		Held: []Held{
			{Path: home + "/docs/.notes.txt.swp", Writing: true},
			{Path: "/usr/bin/hither-test-app", Mapped: true},
			{Path: "/usr/lib/hither-test/plug.so", Mapped: true},
			{Path: "/nix/store/x/lib.so", Mapped: true},
			{Path: "/etc/debian_version"},
			{Path: "/etc/passwd"},
			{Path: "/dev/null"},
		},
		Args: []Args{{Cwd: home, Argv: []string{"vim", "-u", "NONE", "n", "docs/notes.txt"}}},
	}
	n, err := src.Need(ctx, survey)
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewIncoming(IncomingOptions{Dir: filepath.Join(t.TempDir(), "layer"), Self: hostB, Home: "/home/nobody-here", Hasher: NewHasher("")})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	ans := through(t, src, in, n)
	if len(ans.Refused) != 0 || ans.Rebound != 1 { // passwd
		t.Errorf("answer %+v", ans)
	}
	plan, err := in.Plan()
	if err != nil {
		t.Fatal(err)
	}

	// While it ran on, it wrote, made and removed files.
	write(t, a+home+"/docs/.notes.txt.swp", "swap, longer", 0o600)
	write(t, a+home+"/new", "new", 0o600)
	survey.Held = append(survey.Held, Held{Path: home + "/new", Writing: true})
	os.Remove(a + home + "/n")
	d, err := src.Recheck(ctx, survey)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Gone) == 0 || len(d.Entries) != 2 {
		t.Errorf("delta: gone %q, entries %+v", d.Gone, d.Entries)
	}
	after(t, src, in, d)
	if err := in.Seal(); err != nil {
		t.Fatal(err)
	}
	again, err := in.Plan()
	if err != nil || !reflect.DeepEqual(plan, again) {
		t.Errorf("the plan moved: %v\n%+v\n%+v", err, plan, again)
	}

	got := inside(t, plan, strings.ReplaceAll(`
		cd HOME; cat new; echo; cat docs/.notes.txt.swp; echo; ls -A; ls -A ..; stat -c %a docs/notes.txt
		/usr/bin/head -c 5 /usr/bin/hither-test-app; echo
		cat /usr/bin/hither-test-alias | head -1; cat /usr/bin/hither-test-sh; echo
		cat /usr/lib/hither-test/plug.so; echo; cat /nix/store/x/lib.so; echo; cat /etc/debian_version
		head -1 /etc/passwd; ls /usr/lib | grep -c x86_64-linux-gnu
		echo more > docs/added; mv docs/added docs/.notes.txt.swp; cat docs/.notes.txt.swp
		{ echo x > /usr/bin/hither-test-app; } 2>/dev/null || echo read-only
	`, "HOME", home))
	want := lines("new", "swap, longer", "docs", "new", "alice", "640", "#!/us", "#!/usr/bin/hither-test-sh", "the interpreter",
		"a plug", "a lib", "from a", strings.SplitN(passwd, "\n", 2)[0], "1", "more", "read-only")
	if got != want {
		t.Errorf("inside:\n%s\nwant:\n%s\nplan %+v", got, want, plan)
	}
	if g := read(t, in.Layer.Dir()+"/docs"+home+"/docs/.notes.txt.swp"); g != "more\n" {
		t.Errorf("the layer has %q", g)
	}
	if _, err := os.Lstat("/usr/bin/hither-test-app"); err == nil {
		t.Error("the host was written to")
	}
}

// TestTrees: a destination without an interpreter gets its library too, one
// that has it gets nothing.
func TestTrees(t *testing.T) {
	a := t.TempDir()
	write(t, a+"/usr/bin/python3.99", "the interpreter", 0o755)
	write(t, a+"/usr/lib/python3.99/json/__init__.py", "import re", 0o644)
	write(t, a+"/usr/lib/python3.99/lib-dynload/_x.so", "mapped", 0o644)
	os.Symlink("json", a+"/usr/lib/python3.99/link")
	for _, has := range []bool{false, true} {
		b := t.TempDir()
		os.MkdirAll(b+"/usr/lib", 0o755)
		if has {
			os.MkdirAll(b+"/usr/lib/python3.99", 0o755)
		}
		src := NewSource(NewHasher(""))
		n, err := src.Need(ctx, Survey{Root: a, Self: hostA, Origin: hostA, Held: []Held{
			{Path: "/usr/bin/python3.99", Mapped: true}, {Path: "/usr/lib/python3.99/lib-dynload/_x.so", Mapped: true}}})
		if err != nil {
			t.Fatal(err)
		}
		in, err := NewIncoming(IncomingOptions{Dir: filepath.Join(t.TempDir(), "id", "layer"), Self: hostB, Root: b, Hasher: NewHasher("")})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		through(t, src, in, n)
		got := tree(t, in.Layer.dir+"/sys")
		want := strings.Join([]string{`usr/`, `usr/bin/`, `usr/bin/python3.99 755 "the interpreter"`, `usr/lib/`, `usr/lib/python3.99/`,
			`usr/lib/python3.99/json/`, `usr/lib/python3.99/json/__init__.py 644 "import re"`, `usr/lib/python3.99/lib-dynload/`,
			`usr/lib/python3.99/lib-dynload/_x.so 644 "mapped"`, `usr/lib/python3.99/link -> json`}, "\n")
		if has {
			want = strings.Join([]string{`usr/`, `usr/bin/`, `usr/bin/python3.99 755 "the interpreter"`, `usr/lib/`, `usr/lib/python3.99/`,
				`usr/lib/python3.99/lib-dynload/`, `usr/lib/python3.99/lib-dynload/_x.so 644 "mapped"`}, "\n")
		}
		if got != want {
			t.Errorf("has %v: got\n%s\nwant\n%s", has, got, want)
		}
		if d, err := src.Recheck(ctx, Survey{Root: a, Self: hostA, Origin: hostA}); err != nil || len(d.Entries)+len(d.Gone)+len(d.Trees) != 0 {
			t.Errorf("at rest: %+v %v", d, err)
		}
	}
}
