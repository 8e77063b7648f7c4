package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sampleTree makes one of everything.
func sampleTree(t testing.TB, dir string) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	noise := make([]byte, 3*chunk+17)
	rand.New(rand.NewSource(1)).Read(noise)
	must(os.WriteFile(dir+"/noise", noise, 0o644))
	must(os.WriteFile(dir+"/text", bytes.Repeat([]byte("all work and no play "), 100000), 0o600))
	must(os.WriteFile(dir+"/empty", nil, 0o444))
	must(os.MkdirAll(dir+"/d/e/f", 0o755))
	must(os.WriteFile(dir+"/d/e/\xff odd\nname", []byte("odd"), 0o640))
	must(os.Symlink("/etc/../nowhere", dir+"/d/link"))
	must(os.Link(dir+"/noise", dir+"/z-same-noise"))
	must(unix.Mkfifo(dir+"/fifo", 0o600))
	f, err := os.Create(dir + "/sparse")
	must(err)
	_, err = f.WriteAt([]byte("middle"), 40<<20)
	must(err)
	must(f.Truncate(100 << 20))
	must(f.Close())
	must(os.WriteFile(dir+"/unreadable", []byte("secret"), 0o200))
	must(os.MkdirAll(dir+"/closed", 0o755))
	must(os.WriteFile(dir+"/closed/in", []byte("in"), 0o600))
	must(os.Chmod(dir+"/closed", 0o500))
	must(os.Chtimes(dir+"/d/e", time.Unix(7, 8), time.Unix(7, 8)))
	must(os.Chtimes(dir+"/text", time.Unix(1, 1), time.Unix(1234567890, 987654321)))
	if l, err := net.Listen("unix", dir+"/socket"); err == nil {
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
	}
	unix.Setxattr(dir+"/text", "user.hither", []byte("v"), 0)
}

// compareTrees says how two trees differ, sockets left aside.
func compareTrees(a, b string) error {
	look := func(root string) (map[string]string, error) {
		m := map[string]string{}
		inode := map[uint64]string{}
		return m, filepath.Walk(root, func(p string, fi os.FileInfo, err error) error {
			if err != nil || p == root || fi.Mode()&os.ModeSocket != 0 {
				return err
			}
			name, _ := filepath.Rel(root, p)
			line := fi.Mode().String()
			if fi.Mode()&os.ModeSymlink == 0 {
				line += " " + fi.ModTime().UTC().Format(time.RFC3339Nano)
			} else {
				target, _ := os.Readlink(p)
				line += target
			}
			if fi.Mode().IsRegular() {
				os.Chmod(p, 0o600)
				data, err := os.ReadFile(p)
				os.Chmod(p, fi.Mode().Perm())
				if err != nil {
					return err
				}
				h, _, _ := hashReader(ctx, bytes.NewReader(data))
				st := fi.Sys().(*syscall.Stat_t)
				line += fmt.Sprint(" ", h, " sparse:", st.Blocks*512 < st.Size/2)
				if st.Nlink > 1 {
					if inode[st.Ino] == "" {
						inode[st.Ino] = name
					}
					line += " as " + inode[st.Ino]
				}
				v := make([]byte, 10)
				if n, err := unix.Getxattr(p, "user.hither", v); err == nil {
					line += " x:" + string(v[:n])
				}
			}
			m[name] = line
			return nil
		})
	}
	ma, err := look(a)
	if err != nil {
		return err
	}
	mb, err := look(b)
	if err != nil {
		return err
	}
	var diff []string
	for n := range ma {
		if ma[n] != mb[n] {
			diff = append(diff, fmt.Sprintf("%q: %s | %s", n, ma[n], mb[n]))
		}
		delete(mb, n)
	}
	for n := range mb {
		diff = append(diff, fmt.Sprintf("%q is too many", n))
	}
	if len(diff) > 0 {
		return errors.New(strings.Join(diff, "\n"))
	}
	return nil
}

func TestTree(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	defer os.Chmod(a+"/closed", 0o700)
	defer os.Chmod(b+"/closed", 0o700)
	sampleTree(t, a)
	var wire bytes.Buffer
	_, stats, err := SendTree(ctx, &wire, a, TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Bytes != int64(wire.Len()) || wire.Len() > 2<<20 || len(stats.Skipped) != 1 {
		t.Errorf("%d bytes on the wire, stats %+v", wire.Len(), stats)
	}
	if _, err := ReceiveTree(ctx, &wire, b, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := compareTrees(a, b); err != nil {
		t.Error(err)
	}

	// Again, with what has changed only; compareTrees has touched modes, so ctimes.
	snap, _, err := SendTree(ctx, io.Discard, a, TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(a + "/empty")
	os.RemoveAll(a + "/d/e")
	os.WriteFile(a+"/text", []byte("short"), 0o600)
	os.WriteFile(a+"/fresh", []byte("fresh"), 0o600)
	os.Remove(a + "/fifo")
	os.Mkdir(a+"/fifo", 0o700)
	wire.Reset()
	forced := ""
	_, stats, err = SendTree(ctx, &wire, a, TreeOptions{Since: snap, Always: func(r string) bool {
		if r == "sparse" {
			forced = r
		}
		return r == "sparse"
	}})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Files != 3 || forced == "" { // text, fresh, sparse
		t.Errorf("stats %+v", stats)
	}
	if _, err := ReceiveTree(ctx, &wire, b, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := compareTrees(a, b); err != nil {
		t.Error(err)
	}
}

// TestTreeDamage: a stream that is cut, flipped or shuffled anywhere is an
// error, and every file that is in place is whole.
func TestTreeDamage(t *testing.T) {
	a := t.TempDir()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	for i := range 5 {
		os.WriteFile(fmt.Sprintf("%s/%d", a, i), append([]byte{byte(i)}, content...), 0o600)
	}
	var wire bytes.Buffer
	if _, _, err := SendTree(ctx, &wire, a, TreeOptions{}); err != nil {
		t.Fatal(err)
	}
	whole := wire.Bytes()
	try := func(what string, stream []byte, must bool) {
		t.Helper()
		b := t.TempDir()
		_, err := ReceiveTree(ctx, bytes.NewReader(stream), b, 1<<30, nil)
		if err == nil && must {
			t.Errorf("%s: taken", what)
		}
		list, _ := os.ReadDir(b)
		for _, de := range list {
			got, _ := os.ReadFile(b + "/" + de.Name())
			want, _ := os.ReadFile(a + "/" + de.Name())
			if want == nil || !bytes.Equal(got, want) {
				if must {
					t.Errorf("%s: %s is in place with %d bytes", what, de.Name(), len(got))
				}
			}
		}
	}
	for cut := 0; cut < len(whole); cut += 1 + cut/20 {
		try(fmt.Sprint("cut at ", cut), whole[:cut], true)
	}
	r := rand.New(rand.NewSource(2))
	for range 300 {
		at := r.Intn(len(whole))
		bad := bytes.Clone(whole)
		bad[at] ^= 1 << r.Intn(8)
		if bytes.Equal(bad, whole) {
			continue
		}
		b := t.TempDir()
		if _, err := ReceiveTree(ctx, bytes.NewReader(bad), b, 1<<30, nil); err == nil {
			t.Errorf("flipped at %d: taken", at)
		}
	}
	// Whole frames in another order.
	frames := split5(whole)
	for i := 1; i+1 < len(frames); i++ {
		s := append([][]byte{}, frames...)
		s[i], s[i+1] = s[i+1], s[i]
		b := t.TempDir()
		if _, err := ReceiveTree(ctx, bytes.NewReader(bytes.Join(s, nil)), b, 1<<30, nil); err == nil {
			t.Errorf("frames %d and %d exchanged: taken", i, i+1)
		}
	}
	if _, err := ReceiveTree(ctx, bytes.NewReader(whole), t.TempDir(), 20000, nil); err == nil {
		t.Error("more than the limit: taken")
	}
}

// split5 parts a stream into its head and its frames.
func split5(s []byte) [][]byte {
	out := [][]byte{s[:8]}
	for s = s[8:]; len(s) > 5; {
		n := 5 + int(uint32(s[1])|uint32(s[2])<<8|uint32(s[3])<<16|uint32(s[4])<<24)
		out = append(out, s[:n])
		s = s[n:]
	}
	return out
}

// forged writes a stream of items with small contents.
func forged(t testing.TB, items ...item) *bytes.Buffer {
	t.Helper()
	var w bytes.Buffer
	s, err := newSender(&w, nil)
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(t.TempDir(), "src")
	os.WriteFile(src, []byte("evil"), 0o600)
	f, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range items {
		if items[i].Kind == Regular && items[i].Link == "" {
			items[i].Size = 4
		}
		if err := s.item(&items[i]); err != nil {
			t.Fatal(err)
		}
		if items[i].Kind == Regular && items[i].Link == "" && !items[i].Gone {
			if _, _, err := s.content(f, 4); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	return &w
}

func TestTreeEscape(t *testing.T) {
	outside := t.TempDir()
	write(t, outside+"/victim", "safe", 0o600)
	out, _ := filepath.Rel("/", outside)
	for _, items := range [][]item{
		{{Path: "../x", Kind: Regular}},
		{{Path: outside + "/x", Kind: Regular}},
		{{Path: "a/../../x", Kind: Regular}},
		{{Path: "", Kind: Dir}},
		{{Path: ".", Kind: Dir}},
		{{Path: "l", Kind: Symlink, Target: outside}, {Path: "l/x", Kind: Regular}},
		{{Path: "l", Kind: Symlink, Target: outside}, {Path: "l/victim", Gone: true}},
		{{Path: "l", Kind: Symlink, Target: outside}, {Path: "l/f", Kind: FIFO}},
		{{Path: "l", Kind: Symlink, Target: outside}, {Path: "h", Kind: Regular, Link: "l/victim"}},
		{{Path: "h", Kind: Regular, Link: "../" + filepath.Base(outside) + "/victim"}},
		{{Path: "h", Kind: Regular, Link: "/" + out + "/victim"}},
	} {
		b := t.TempDir()
		if _, err := ReceiveTree(ctx, forged(t, items...), b, 0, nil); err == nil {
			t.Errorf("%+v: taken", items)
		}
	}
	// A link in the place of a file is replaced, not followed.
	b := t.TempDir()
	os.Symlink(outside+"/victim", b+"/f")
	if _, err := ReceiveTree(ctx, forged(t, item{Path: "f", Kind: Regular, Mode: 0o600}), b, 0, nil); err != nil {
		t.Error(err)
	}
	if read(t, outside+"/victim") != "safe" || read(t, b+"/f") != "evil" {
		t.Error("a link was followed")
	}
	if list, _ := os.ReadDir(outside); len(list) != 1 {
		t.Errorf("outside: %v", list)
	}
}

func FuzzReceiveTree(f *testing.F) {
	a := f.TempDir()
	os.WriteFile(a+"/x", []byte("hello"), 0o600)
	os.Symlink("x", a+"/l")
	os.Mkdir(a+"/d", 0o755)
	var wire bytes.Buffer
	if _, _, err := SendTree(ctx, &wire, a, TreeOptions{}); err != nil {
		f.Fatal(err)
	}
	f.Add(wire.Bytes())
	f.Add(forged(f, item{Path: "l", Kind: Symlink, Target: "/tmp"}, item{Path: "l/x", Kind: Regular}).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		dir := top + "/in"
		os.Mkdir(dir, 0o700)
		ReceiveTree(ctx, bytes.NewReader(b), dir, 1<<20, nil)
		if list, _ := os.ReadDir(top); len(list) != 1 {
			t.Fatal("it got out")
		}
		d, err := openFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		d.removeAll("")
	})
}

func FuzzDecodeNeed(f *testing.F) {
	n := Need{From: hostA, Origin: hostA, Home: "/home/x", Private: []string{"/home/x"}, Entries: []Entry{
		{Path: "/home/x/f", Kind: Regular, Use: Document, Size: 1}, {Path: "/usr/l", Kind: Symlink, Target: "x"}}}
	b, _ := n.Encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := DecodeNeed(b)
		if err != nil {
			return
		}
		a, _ := n.Everything().Encode()
		if _, err := DecodeAnswer(a, n); err != nil {
			t.Fatal(err)
		}
		DecodeAnswer(b, n)
	})
}
