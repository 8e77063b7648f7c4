package bridge

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"hither/engine/display"
	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

// clipboard has xclip copy to a server's clipboard, or paste from it.
func clipboard(t testing.TB, s *xservers.Server, text string) string {
	t.Helper()
	path, err := exec.LookPath("xclip")
	if err != nil {
		t.Skip("xclip is not installed")
	}
	args := []string{"-selection", "clipboard", "-out"}
	if text != "" {
		args[2] = "-in"
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+s.Display)
	if text != "" {
		// It serves on in the background, until another takes the clipboard.
		cmd.Stdin = strings.NewReader(text)
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		return ""
	}
	out, _ := cmd.Output() // nothing to paste is an error of its
	return string(out)
}

// TestClipboard: through a life of the bridge, and its death.
func TestClipboard(t *testing.T) {
	b := newBench(t, xservers.Xvnc(t, size), false)
	set := func(c *xwire.Conn, text string) {
		if err := c.ChangePropertyChecked(xwire.PropModeReplace, c.Root(), xwire.AtomResourceManager, xwire.AtomString, 8, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	set(b.user, "XTerm*background: pink\n")
	pasted := func(where string, s *xservers.Server, text string) {
		t.Helper()
		eventually(t, text+" "+where, func() bool { return clipboard(t, s, "") == text })
	}
	before := clients(t, b.app)
	b.start()
	clipboard(t, b.capsule, "from the app")
	pasted("on the desktop", b.desk, "from the app")
	clipboard(t, b.desk, "from the desktop")
	pasted("in the app", b.capsule, "from the desktop")
	eventually(t, "the desktop's resources", func() bool {
		r, err := b.app.GetProperty(false, b.app.Root(), xwire.AtomResourceManager, xwire.AtomString, 0, 100)
		return err == nil && string(r.Value) == "XTerm*background: pink\n"
	})
	clipboard(t, b.capsule, "stays")
	pasted("on the desktop", b.desk, "stays")
	b.part()
	pasted("on the desktop, while the app is away", b.desk, "stays")
	if n := clients(t, b.app); n != before+2 { // the window of the settings, and xclip
		t.Errorf("%d clients are left in the capsule, %d before", n, before)
	}
	b.back()
	clipboard(t, b.capsule, "goes on")
	pasted("on the desktop", b.desk, "goes on")
	b.stop()
	b.start()
	pasted("on the desktop, by another bridge", b.desk, "goes on")
	b.part()
	b.orders <- display.Order{Op: display.OpLeft}
	<-b.ended
	pasted("in the app", b.capsule, "goes on")
}

// clients are those of the server, with the connection that asks.
func clients(t testing.TB, c *xwire.Conn) int {
	t.Helper()
	r := must(c.ResQueryClients())(t)
	return len(r.Clients)
}
