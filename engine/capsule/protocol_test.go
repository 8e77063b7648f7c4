package capsule

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// connected is a pair of unix sockets.
func connected(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out [2]*net.UnixConn
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		out[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return out[0], out[1]
}

// TestReadLine: exactly one line is taken, with its descriptors, however it is cut.
func TestReadLine(t *testing.T) {
	a, b := connected(t)
	long := strings.Repeat("x", 300<<10)
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	go func() {
		n, _, err := a.WriteMsgUnix([]byte(long+"\nrest"), unix.UnixRights(int(null.Fd())), nil)
		if err == nil {
			a.Write([]byte(long + "\nrest")[n:]) //nolint:errcheck // the reader sees it
		}
		a.Close()
	}()
	line, files, err := readLineFDs(b)
	if err != nil || string(line) != long+"\n" || len(files) != 1 {
		t.Fatalf("%d bytes, %d files, %v", len(line), len(files), err)
	}
	closeAll(files)
	rest := make([]byte, 10)
	if n, _ := b.Read(rest); string(rest[:n]) != "rest" {
		t.Errorf("left over: %q", rest[:n])
	}
	if _, err := readLine(b); err == nil {
		t.Error("a line after the end")
	}
}

// TestTooLong: a line without an end is refused.
func TestTooLong(t *testing.T) {
	a, b := connected(t)
	go func() {
		chunk := bytes.Repeat([]byte("x"), 1<<20)
		for {
			if _, err := a.Write(chunk); err != nil {
				return
			}
		}
	}()
	if _, err := readLine(b); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
	b.Close()
}

// FuzzRequest: whatever a client sends, the keeper reads a line and decodes it
// or refuses it.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"op":"attach","hello":{"size":{"rows":1,"cols":2}}}` + "\n"))
	f.Add([]byte(`{"op":"exec","exec":{"argv":["a"]},"std":[0,1,-1]}` + "\nmore"))
	f.Add([]byte("\n\x00{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := connected(t)
		go func() {
			a.Write(data) //nolint:errcheck // the reader sees it
			a.Close()
		}()
		line, err := readLine(b)
		if i := bytes.IndexByte(data, '\n'); (err == nil) != (i >= 0) || err == nil && !bytes.Equal(line, data[:i+1]) {
			t.Fatalf("of %q got %q, %v", data, line, err)
		}
		var r request
		json.Unmarshal(line, &r) //nolint:errcheck // that it returns is all
	})
}
