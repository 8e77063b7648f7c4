package capsule

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNetwork: a program in a capsule reaches a server of the host through the
// gateway, under a first and under a second keeper.
func TestNetwork(t *testing.T) {
	ctx := lab(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello from outside\n") //nolint:errcheck // the test sees it
			c.Close()
		}
	}()
	s := shell("read x")
	s.Argv = []string{probePath(t), "sleep"}
	s.Detached = true
	c, err := Start(ctx, s, [3]*os.File{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Stop(ctx, 0); err != nil {
			t.Error(err)
		}
	}()
	st, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	if st.Net == "" {
		t.Skipf("no network here: %s", st.NoNet)
	}
	c.Close()
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		status, err := c.Exec(ctx, ExecSpec{Argv: []string{s.Argv[0], "dial", fmt.Sprintf("10.113.0.1:%d", l.Addr().(*net.TCPAddr).Port)}}, [3]*os.File{nil, w, w})
		w.Close()
		out, _ := io.ReadAll(r)
		r.Close()
		if err != nil || status != 0 || !strings.Contains(string(out), "hello from outside") || !strings.Contains(string(out), "nameserver 10.113.0.1") {
			t.Fatalf("status %d, %v: %s", status, err, out)
		}
		if st, err = c.State(); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(st.Keeper.Pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the keeper to die", func() bool { return !st.Keeper.Alive() })
		if err := c.AdoptKeeper(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// dialMain shows what a server says, and who answers for names.
func dialMain(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.Copy(os.Stdout, c); err != nil {
		return err
	}
	b, err := os.ReadFile("/etc/resolv.conf")
	os.Stdout.Write(b) //nolint:errcheck // the test sees what is missing
	return err
}
