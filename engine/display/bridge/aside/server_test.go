package aside

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

// server is an X server started for a test.
type server struct {
	*xservers.Server
	t testing.TB
}

func startXvfb(t testing.TB) *server { return &server{xservers.Xvfb(t, "640x480"), t} }
func startXvnc(t testing.TB) *server { return &server{xservers.Xvnc(t, "640x480"), t} }

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (s *server) dial(t testing.TB) *xwire.Conn {
	t.Helper()
	c, err := xwire.Dial(testContext(t), s.Display, "")
	if err == nil {
		err = c.Use(xwire.XFixes)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// open starts what is tested.
func open(t testing.TB, app, desk *server) *Aside {
	t.Helper()
	a, err := Open(testContext(t), Options{
		Socket: app.Socket(),
		Desk:   func(ctx context.Context) (*xwire.Conn, error) { return xwire.Dial(ctx, desk.Display, "") },
		Log:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	// Owners in these tests answer, however late a loaded machine lets them.
	ok(t, a.call(func() error { a.keepTime = usualPatience; return nil }))
	return a
}

// windows are those that own selections for a.
func windows(t testing.TB, a *Aside) (app, desk xwire.Window) {
	t.Helper()
	if err := a.call(func() error { app, desk = a.app.win, a.desk.win; return nil }); err != nil {
		t.Fatal(err)
	}
	return app, desk
}

// awaitOwner waits until a selection's owner on a server is as wanted.
func awaitOwner(t testing.TB, s *server, name string, wanted func(xwire.Window) bool) {
	t.Helper()
	ctx := testContext(t)
	c, err := xwire.Dial(ctx, s.Display, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ok(t, c.Use(xwire.XFixes))
	sel, err := c.Atom(name)
	ok(t, err)
	c.XFixesSelectSelectionInput(c.Root(), sel, allOwnerChanges)
	for {
		r, err := c.GetSelectionOwner(sel)
		ok(t, err)
		if wanted(r.Owner) {
			return
		}
		if _, err := c.NextEvent(ctx); err != nil {
			t.Fatalf("the owner of %s is %#x: %v", name, r.Owner, err)
		}
	}
}

func is(w xwire.Window) func(xwire.Window) bool {
	return func(o xwire.Window) bool { return o == w }
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// copyTo has xclip own a selection; it ends with the test, or when another owns it.
func copyTo(t testing.TB, s *server, selection, target string, data []byte) *exec.Cmd {
	t.Helper()
	args := []string{"-quiet", "-in", "-selection", selection}
	if target != "" {
		args = append(args, "-target", target)
	}
	cmd := exec.Command(xservers.Need(t, "xclip"), args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+s.Display)
	cmd.Stdin = bytes.NewReader(data)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	ok(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	return cmd
}

func pasteFrom(t testing.TB, s *server, selection, target string) []byte {
	t.Helper()
	args := []string{"-out", "-selection", selection}
	if target != "" {
		args = append(args, "-target", target)
	}
	ctx := testContext(t)
	cmd := exec.CommandContext(ctx, xservers.Need(t, "xclip"), args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+s.Display)
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	return out
}
