package terminal

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

func TestDetachKeys(t *testing.T) {
	for _, bad := range []string{"ctrl-", "ctrl-ab", "f1", "a,,b", "ctrl-1", ","} {
		if _, err := parseDetachKeys(bad); err == nil {
			t.Errorf("%q is taken for keys", bad)
		}
	}
	for _, test := range []struct {
		keys, in, pass string
		detach         bool
	}{
		{"", "a\x1c\x1cb", "a", true},
		{"", "a\x1cb\x1c", "a\x1cb", false},
		{"", "\x1b[92;5u\x1b[92;5u", "", true},
		{"none", "\x1c\x1c", "\x1c\x1c", false},
		{"ctrl-p,ctrl-q", "x\x10\x10\x11", "x\x10", true},
		{"ctrl-],d", "\x1dx\x1dd", "\x1dx", true},
		{"a,a,b", "aaab", "a", true},
	} {
		keys, err := parseDetachKeys(test.keys)
		if err != nil {
			t.Fatal(err)
		}
		d := detacher{keys: keys}
		pass, detach := d.filter([]byte(test.in))
		if string(pass) != test.pass || detach != test.detach {
			t.Errorf("%q of %q: %q, %v; want %q, %v", test.in, test.keys, pass, detach, test.pass, test.detach)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, frameData, []byte("x")), frameResize, small.encode()))
	f.Add([]byte{'d', 0xff, 0xff, 0xff, 0xff, 1})
	f.Add(appendFrame(nil, frameEnd, []byte(`{"kind":"exited","status":3}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		buf := make([]byte, MaxFrame)
		for {
			kind, payload, err := readFrame(r, buf)
			if err != nil {
				return
			}
			if w, err := decodeWinsize(payload); err == nil && !bytes.Equal(w.encode(), payload) {
				t.Errorf("size %v of %x", w, payload)
			}
			if kind == frameEnd {
				decodeOutcome(payload)
			}
		}
	})
}

// BenchmarkPty is what 10 MB of output take: from the bare pty, by the model
// alone, and with a client.
func BenchmarkPty(b *testing.B) {
	for _, kind := range []string{"bare", "unattended", "attached"} {
		b.Run(kind, func(b *testing.B) {
			const size = 5_000_000
			b.SetBytes(size)
			for b.Loop() {
				cmd := exec.Command("sh", "-c", "yes 'some words of output' | head -c "+fmt.Sprint(size))
				master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 200})
				if err != nil {
					b.Fatal(err)
				}
				if kind == "bare" {
					buf := make([]byte, 32<<10)
					for err == nil {
						_, err = master.Read(buf)
					}
					cmd.Wait()
					continue
				}
				term := New(master, Winsize{})
				if kind == "attached" {
					fds, _ := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
					var conns [2]net.Conn
					for i := range fds {
						f := os.NewFile(uintptr(fds[i]), "")
						conns[i], _ = net.FileConn(f)
						f.Close()
					}
					null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
					go term.Serve(context.Background(), conns[1], Hello{Fresh: true})
					go func() {
						defer null.Close()
						Client(context.Background(), conns[0], null, null, Options{})
					}()
				}
				cmd.Wait()
				term.End(Outcome{Kind: Exited})
			}
		})
	}
}
