package terminal

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

var small, large = Winsize{Rows: 24, Cols: 80}, Winsize{Rows: 40, Cols: 120}

func TestFreshOutputAndStatus(t *testing.T) {
	a := start(t, small, "sh", "-c", `printf 'hello\nworld\n'; exit 7`)
	w := a.attach(small, true)
	w.ends(Outcome{Kind: Exited, Status: 7})
	w.shows("world")
	if got := w.received(); got != "hello\r\nworld\r\n" {
		t.Errorf("a program that only prints made the window get %q", got)
	}
	// Whoever comes late still learns it.
	late := a.attach(small, false)
	late.ends(Outcome{Kind: Exited, Status: 7})
	late.shows("world")
}

func TestJobControl(t *testing.T) {
	a := start(t, small, "bash", "--norc", "-i")
	w := a.attach(small, true)
	w.shows("$")
	w.typeIn("echo one; sleep 1000\n")
	w.shows("one\n")
	a.runs("sleep")
	w.typeIn("\x1a")
	w.shows("Stopped")
	w.typeIn("jobs; fg\n")
	w.shows("\nsleep 1000")
	w.typeIn("\x03")
	w.typeIn("echo status $?\n")
	w.shows("status 130")
	w.typeIn("exit 3\n")
	w.ends(Outcome{Kind: Exited, Status: 3})
}

func TestKilledApp(t *testing.T) {
	a := start(t, small, "sh", "-c", `printf '\033[?1049h\033[?1000h\033[?25lfull screen'; kill -9 $$`)
	w := a.attach(small, true)
	w.ends(Outcome{Kind: Exited, Status: 137})
	w.until("a clean window", func(string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		m := &w.screen.modes
		return w.screen.alt == 0 && !m.on(1000) && m.on(25)
	})
}

func TestVim(t *testing.T) {
	a := start(t, small, "vim", "-u", "NONE", "-i", "NONE", "-N")
	w := a.attach(small, true)
	w.shows("VIM - Vi IMproved")
	w.typeIn(":set termguicolors ruler\r:highlight Normal guifg=#123456\rihello 日本語 wörld\x1b:syntax on\r")
	w.shows("hello 日本語 wörld")
	other := a.attach(small, false)
	other.shows("hello 日本語 wörld")
	other.like(a.term)
	other.typeIn("ofrom the other\x1b")
	other.shows("from the other")
	w.shows("from the other")
	w.like(a.term)
	// Another size: vim draws anew.
	big := a.attach(large, false)
	big.until("vim in 40 lines", func(text string) bool {
		return strings.Count(text, "\n~") > 30
	})
	big.like(a.term)
	big.typeIn("\x1c\x1c")
	big.ends(Outcome{Kind: Detached})
	big.until("the main screen after detaching", func(string) bool {
		big.mu.Lock()
		defer big.mu.Unlock()
		return big.screen.alt == 0
	})
	w.typeIn(":q!\r")
	w.ends(Outcome{Kind: Exited})
	other.ends(Outcome{Kind: Exited})
}

func TestLess(t *testing.T) {
	a := start(t, small, "sh", "-c", "seq 1 1000 | less")
	w := a.attach(small, true)
	w.shows("\n23\n")
	w.typeIn("\x1c\x1c")
	w.ends(Outcome{Kind: Detached})
	again := a.attach(small, false)
	again.shows("\n23\n")
	again.like(a.term)
	again.typeIn(" ")
	again.shows("\n46\n")
	again.like(a.term)
	again.typeIn("q")
	again.ends(Outcome{Kind: Exited})
}

func TestResize(t *testing.T) {
	a := start(t, small, "bash", "--norc", "-i")
	w := a.attach(small, true)
	w.shows("$")
	w.typeIn("stty size\n")
	w.shows("24 80")
	setWinsize(w.master, Winsize{Rows: 30, Cols: 100})
	w.mu.Lock()
	w.screen.resize(Winsize{Rows: 30, Cols: 100})
	w.mu.Unlock()
	// The window's tty belongs to no session of ours, so we pass SIGWINCH on.
	syscall.Kill(os.Getpid(), syscall.SIGWINCH)
	w.typeIn("while [ \"$(stty size)\" != '30 100' ]; do :; done; stty size\n")
	w.shows("\n30 100")
	// The size follows whoever is active.
	other := a.attach(large, false)
	other.typeIn("echo now; stty size\n")
	other.shows("\n40 120")
	w.shows("\n40 120") // drawn for it, cut
	w.typeIn("echo here; stty size\n")
	w.until("its own size again", func(text string) bool {
		return strings.Count(text, "\n30 100") >= 1 && strings.Contains(text, "\nhere")
	})
	w.like(a.term)
	other.shows("\nhere")
}

func TestLeavingAndMoving(t *testing.T) {
	a := start(t, small, "bash", "--norc", "-i")
	w := a.attach(small, true)
	w.shows("$")
	w.typeIn("echo kept\n")
	w.shows("\nkept")
	// One of the detach keys alone reaches the app: SIGQUIT.
	w.typeIn("sleep 1000\n")
	a.runs("sleep")
	w.typeIn("\x1c")
	w.shows("Quit")
	second := a.attach(small, false)
	second.shows("\nkept")
	a.term.End(Outcome{Kind: Moved, Host: "laptop", App: "bash"})
	w.ends(Outcome{Kind: Moved, Host: "laptop", App: "bash"})
	second.ends(Outcome{Kind: Moved, Host: "laptop", App: "bash"})
	if got, want := w.outcome.Notice(), "bash went to laptop; `hither attach bash` there joins it, `hither bring bash@laptop` brings it back"; got != want {
		t.Errorf("notice %q, want %q", got, want)
	}
}
