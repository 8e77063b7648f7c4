//go:build linux && amd64

package handle

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTCPInFullFlow: what is captured of a connection has each byte once, in whichever moment its ends were stopped:
// the kernel goes on delivering what they sent, and even a look makes it ask for more.
func TestTCPInFullFlow(t *testing.T) {
	script := filepath.Join(t.TempDir(), "flow.py")
	err := os.WriteFile(script, []byte(`
import ctypes, fcntl, os, socket, struct, sys, threading, time
os.closerange(3, 256)
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x40000000) != 0:
    raise OSError(ctypes.get_errno(), "unshare")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
s.close()
l = socket.create_server(("127.0.0.1", 4001))
a = socket.create_connection(("127.0.0.1", 4001))
b, _ = l.accept()
l.close()

def count():
    n = 0
    while True:
        a.sendall(struct.pack("<65536I", *range(n, n + 65536)))
        n += 65536

threading.Thread(target=count, daemon=True).start()
into = bytearray(1000000)
b.recv_into(into, len(into), socket.MSG_WAITALL)
open(sys.argv[1], "w").write("READY")
while b.recv_into(into):
    time.sleep(0.02)
`), 0600)
	if err != nil {
		t.Fatal(err)
	}
	pid := startScript(t, script).Process.Pid
	most := 0
	for round := range 20 {
		time.Sleep(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		suspend(t, pid)
		got, err := Capture(Input{Procs: []Proc{{Pid: pid, Inner: pid}}, InitPid: pid, Inodes: NewInodes(), Diag: -1})
		if err != nil {
			t.Fatal("capture: ", err)
		}
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for i := range got.Handles {
			h := &got.Handles[i]
			if h.Kind != kindTCP {
				continue
			}
			r := new(tcpRecord)
			if err := decoding.Unmarshal(h.Data, r); err != nil {
				t.Fatal(err)
			}
			most = max(most, len(r.Queue))
			if at, want, is := gapIn(r.Queue); at >= 0 {
				t.Fatalf("round %d: %d bytes wait; at byte %d number %d is followed by %d", round, len(r.Queue), at, want-1, is)
			}
		}
	}
	if most < 1<<20 {
		t.Errorf("never more than %d bytes waited: this shows nothing", most)
	}
}

// gapIn finds where a stream of 4-byte numbers, begun anywhere, is not counted on; at < 0: nowhere.
func gapIn(stream []byte) (at int, want, is uint32) {
	at = -1
	for from := range 4 {
		best := -1
		for i := from; i+8 <= len(stream); i += 4 {
			a, b := binary.LittleEndian.Uint32(stream[i:]), binary.LittleEndian.Uint32(stream[i+4:])
			if b != a+1 {
				best = i + 4
				if best > at {
					at, want, is = best, a+1, b
				}
				break
			}
		}
		if best < 0 {
			return -1, 0, 0
		}
	}
	return at, want, is
}
