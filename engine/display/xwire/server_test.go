package xwire

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hither/engine/display/xservers"
)

// server is an X server started for a test, with a cookie of its own.
type server struct {
	*xservers.Server
	t      testing.TB
	auth   string
	cookie []byte
}

func startXvfb(t testing.TB) *server { return startServer(t, xservers.Xvfb, "1280x800") }
func startXvnc(t testing.TB) *server { return startServer(t, xservers.Xvnc, "1024x768") }

func startServer(t testing.TB, start func(t testing.TB, size string, args ...string) *xservers.Server, size string) *server {
	t.Helper()
	s := &server{t: t, auth: filepath.Join(t.TempDir(), "authority"), cookie: make([]byte, 16)}
	_, _ = rand.Read(s.cookie)
	if err := os.WriteFile(s.auth, authorityFile(authEntry{family: familyWild, name: cookieName, data: s.cookie}), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Server = start(t, size, "-auth", s.auth)
	return s
}

func authorityFile(entries ...authEntry) []byte {
	var b []byte
	for _, e := range entries {
		b = binary.BigEndian.AppendUint16(b, e.family)
		for _, s := range []string{e.address, e.number, e.name, string(e.data)} {
			b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
			b = append(b, s...)
		}
	}
	return b
}

// dial connects, with extensions in use.
func (s *server) dial(exts ...*Extension) *Conn {
	s.t.Helper()
	c, err := Dial(testContext(s.t), s.Display, s.auth)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if err := c.Use(exts...); err != nil {
		s.t.Fatal(err)
	}
	return c
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// onBoth runs a test against each kind of server.
func onBoth(t *testing.T, f func(t *testing.T, s *server)) {
	t.Run("Xvfb", func(t *testing.T) { f(t, startXvfb(t)) })
	t.Run("Xvnc", func(t *testing.T) { f(t, startXvnc(t)) })
}

// window creates and maps a window, and waits until it is seen.
func window(t testing.TB, c *Conn, width, height uint16, mask EventMask) Window {
	t.Helper()
	w := NewID[Window](c)
	c.CreateWindow(0, w, c.Root(), 10, 20, width, height, 0, WindowClassInputOutput, 0, WindowValues{
		Mask: CWBackPixel | CWOverrideRedirect | CWEventMask, BackgroundPixel: 0x203040, OverrideRedirect: true, EventMask: mask | EventMaskExposure,
	})
	c.MapWindow(w)
	await(t, c, func(e *ExposeEvent) bool { return e.Window == w })
	return w
}

// await returns the first event of a type that f accepts. Any error that the
// server sends fails the test.
func await[E Event](t testing.TB, c *Conn, f func(E) bool) E {
	t.Helper()
	ctx := testContext(t)
	for {
		ev, err := c.NextEvent(ctx)
		if err != nil {
			var none E
			t.Fatalf("waiting for a %T: %v", none, err)
		}
		if e, ok := ev.(E); ok && (f == nil || f(e)) {
			return e
		}
		if e, ok := ev.(*Error); ok {
			t.Fatal(e)
		}
	}
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var errGivenUp = errors.New("given up")

func contextWithCancel(t *testing.T) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(testContext(t))
	t.Cleanup(func() { cancel(nil) })
	return ctx, cancel
}
