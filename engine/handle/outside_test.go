//go:build linux && amd64

package handle

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hither/engine/tracee"
)

// TestOutside: a process in a network namespace of its own that talks to this
// one, and has a socket of this namespace.
func TestOutside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "server")
	server, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	script := filepath.Join(dir, "outside.py")
	err = os.WriteFile(script, []byte(`
import ctypes, os, socket, sys, time
os.closerange(3, 256)
def at(s, n):
    os.dup2(s.detach(), n)
at(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 40)  # of the old namespace
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x40000000) != 0:
    raise OSError(ctypes.get_errno(), "unshare")
a, b = socket.socketpair()
at(a, 41), at(b, 42)
c = socket.socket(socket.AF_UNIX)
c.connect(sys.argv[2])
at(c, 43)
at(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 44)
os.closerange(3, 40)
open(sys.argv[1], "w").write("READY")
time.sleep(60)
`), 0600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := startScript(t, script, path)
	pid := cmd.Process.Pid
	procs := []Proc{{Pid: pid, Inner: 2}}
	found := Survey(procs, pid)
	if len(found) != 1 || found[0].FD != 43 || !strings.Contains(found[0].What, path) {
		t.Errorf("the survey finds %v", found)
	}
	tr := tracee.New()
	defer tr.Close()
	err = tr.Do(func() error {
		p, err := tr.Seize(pid)
		if err != nil {
			return err
		}
		defer tr.Detach(p)
		if err := p.Prepare(0); err != nil {
			return err
		}
		diag, err := OpenDiag(p.Leader())
		if err != nil {
			return err
		}
		defer unix.Close(diag)
		_, err = Capture(Input{Procs: procs, InitPid: pid, Inodes: NewInodes(), Diag: diag})
		return err
	})
	var refused Refused
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	for fd, word := range map[int]string{40: "outside the capsule", 43: path} {
		if !slices.ContainsFunc(refused, func(p Problem) bool { return p.FD == fd && strings.Contains(p.What, word) }) {
			t.Errorf("the capture does not refuse descriptor %d: %v", fd, refused)
		}
	}
	if len(refused) != 2 {
		t.Errorf("the capture refuses more: %v", refused)
	}
}
