//go:build linux && amd64

package handle

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFindWatched: a process that works elsewhere and has nothing open there
// watches folders whose names it keeps in its memory, once as bytes and once as Qt
// does, and one whose name it has forgotten.
func TestFindWatched(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"plain", "wide ü", "lost"}
	for _, n := range names {
		if err := os.Mkdir(filepath.Join(dir, n), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("python3", "-c", `
import ctypes, os, sys
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(0)
os.chdir(sys.stdin.readline()[:-1])
assert libc.inotify_add_watch(fd, b"plain", 2) == 1
assert libc.inotify_add_watch(fd, "wide ü".encode(), 2) == 2
assert libc.inotify_add_watch(fd, b"lost", 2) == 3
keep = [os.getcwdb() + b"/plain", os.path.join(os.getcwd(), "wide ü").encode("utf-16-le") + bytes(2)]
os.chdir("/")
print("ready", flush=True)
sys.stdin.read()
`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("python3: ", err)
	}
	defer func() { in.Close(); cmd.Wait() }()
	if _, err := in.Write([]byte(dir + "\n")); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 16)); n == 0 {
		t.Fatal(err)
	}
	find := func() (Watched, []Problem) {
		return FindWatched([]Proc{{Pid: cmd.Process.Pid, Inner: 7}}, cmd.Process.Pid)
	}
	watched, problems := find()
	for _, n := range names[:2] {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, n), &st); err != nil {
			t.Fatal(err)
		}
		if got := watched[inodeKey{st.Dev, st.Ino}]; got != filepath.Join(dir, n) {
			t.Errorf("%s is found as %q", n, got)
		}
	}
	// By its parent "lost" is found if that is below /tmp; by its name it is not.
	if strings.HasPrefix(dir, "/tmp/") != (len(problems) == 0) {
		t.Errorf("problems: %v", problems)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if watched, problems := find(); len(watched) != 0 || len(problems) != 0 {
		t.Errorf("of removed folders there is no watch any more: %v %v", watched, problems)
	}
}

func FuzzStrings(f *testing.F) {
	f.Add([]byte("a/b\x00/usr/share\x00file:///etc/x\x01/\x00h\x00\xfc\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := &finder{root: "/nowhere", rootFD: -1, missing: 1, tried: map[string]bool{}}
		x.strings(data)
		for path := range x.tried {
			if !filepath.IsAbs(path) {
				t.Errorf("tried %q", path)
			}
		}
	})
}
