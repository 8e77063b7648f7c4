package xwire

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hither/engine/display/xservers"
)

func TestDial(t *testing.T) {
	s := startXvfb(t)
	for _, name := range []string{s.Display, s.Display + ".0", "unix" + s.Display} {
		c, err := Dial(testContext(t), name, s.auth)
		ok(t, err)
		if c.Setup().Vendor == "" || c.Screen().WidthInPixels != 1280 {
			t.Errorf("%s: %+v", name, c.Setup())
		}
		c.Close()
	}
	for _, name := range []string{"", "x", "host:0", ":", ":x", ":0.x", ":-1", s.Display + ".7", ":59999"} {
		t.Setenv("DISPLAY", "")
		if c, err := Dial(testContext(t), name, s.auth); err == nil {
			c.Close()
			t.Errorf("the display %q is open", name)
		}
	}
	t.Setenv("DISPLAY", s.Display)
	t.Setenv("XAUTHORITY", s.auth)
	c, err := Dial(testContext(t), "", "")
	ok(t, err)
	c.Close()

	wrong := filepath.Join(t.TempDir(), "authority")
	ok(t, os.WriteFile(wrong, authorityFile(authEntry{family: familyWild, name: cookieName, data: make([]byte, 16)}), 0o600))
	if c, err := Dial(testContext(t), s.Display, wrong); err == nil {
		c.Close()
		t.Error("a wrong cookie opens the display")
	} else if !strings.Contains(err.Error(), "the server refuses") {
		t.Error(err)
	}
}

// A server without a cookie, reached by its socket's path.
func TestDialPath(t *testing.T) {
	s := xservers.Xvfb(t, "640x480")
	c, err := DialPath(testContext(t), "/proc/self/root/tmp/.X11-unix/X"+s.Number())
	ok(t, err)
	defer c.Close()
	window(t, c, 20, 20, 0)
	if _, err := DialPath(testContext(t), filepath.Join(t.TempDir(), "X0")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a path without a server: %v", err)
	}
}

// A server that accepts and says nothing.
func TestSilentServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "X0")
	l, err := net.Listen("unix", path)
	ok(t, err)
	defer l.Close()
	ctx, cancel := contextWithCancel(t)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 12))
		cancel(errGivenUp)
		_, _ = conn.Read(make([]byte, 1)) // until the other side goes
	}()
	if _, err := DialPath(ctx, path); !errors.Is(err, errGivenUp) {
		t.Errorf("a silent server: %v", err)
	}
}

func TestChooseAuth(t *testing.T) {
	entries := []authEntry{
		{family: 0, address: "\x7f\x00\x00\x01", number: "0", name: cookieName, data: []byte("internet")},
		{family: familyLocal, address: "there", number: "0", name: cookieName, data: []byte("there")},
		{family: familyLocal, address: "here", number: "1", name: cookieName, data: []byte("one")},
		{family: familyLocal, address: "here", number: "0", name: "XDM-AUTHORIZATION-1", data: []byte("xdm")},
		{family: familyLocal, address: "here", number: "0", name: cookieName, data: []byte("zero")},
		{family: familyWild, number: "", name: cookieName, data: []byte("any")},
	}
	parsed, err := parseAuthority(authorityFile(entries...))
	ok(t, err)
	for display, want := range map[int]string{0: "zero", 1: "one", 2: "any"} {
		if got := chooseAuth(parsed, "here", display); string(got.Data) != want {
			t.Errorf("display %d: %q, wanted %q", display, got.Data, want)
		}
	}
	if got := chooseAuth(parsed[:5], "elsewhere", 0); got.Name != "" {
		t.Errorf("elsewhere: %q", got.Data)
	}
	if _, err := parseAuthority(authorityFile(entries...)[:50]); !errors.Is(err, errShort) {
		t.Errorf("half a file: %v", err)
	}
}
