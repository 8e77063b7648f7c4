package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// tmux is the terminal in which the tests sit: one server for all, with a
// window for each visit.
var tmux struct {
	once   sync.Once
	used   bool
	socket string
	dir    string
	err    error
}

// screen is somebody's terminal.
type screen struct {
	session string
}

var screens counter

// window opens a terminal in which a command of the lab runs.
func (l *lab) window(t *testing.T, args ...string) *screen {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is not installed on this machine: it is the terminal of this test")
	}
	tmux.once.Do(func() {
		tmux.socket = fmt.Sprintf("hither-e2e-%d", os.Getpid())
		tmux.dir, tmux.err = os.MkdirTemp("", "hither-e2e-tmux-")
		os.Setenv("TMUX_TMPDIR", tmux.dir)
		os.Unsetenv("TMUX")
		tmux.used = true
		// A window that stays: with its last one the server would end, just as the
		// next is opened.
		out, err := exec.Command("tmux", "-L", tmux.socket, "-f", "/dev/null", "new-session", "-d", "--", "sleep", "1000000").CombinedOutput()
		if err != nil {
			tmux.err = fmt.Errorf("starting tmux: %w\n%s", err, out)
		}
	})
	if tmux.err != nil {
		t.Fatal(tmux.err)
	}
	s := &screen{session: fmt.Sprintf("s%d", screens.next())}
	c := l.command(args...)
	// The window stays when the command has ended, so that its last words can be read.
	words := append([]string{"-L", tmux.socket, "-f", "/dev/null", "new-session", "-d", "-s", s.session, "-x", "100", "-y", "30",
		"--", "sh", "-c", `"$@"; echo "[ended with $?]"; exec sleep 1000000`, "sh"}, c.Args...)
	if out, err := exec.Command("tmux", words...).CombinedOutput(); err != nil {
		t.Fatalf("opening a terminal: %v\n%s", err, out)
	}
	t.Cleanup(s.close)
	return s
}

// attach joins the app's terminal on the host where it is.
func (a *app) attach(t *testing.T) *screen {
	t.Helper()
	return a.window(t, "exec", a.at, "--", "hither", "attach", a.name)
}

func (s *screen) tmux(args ...string) (string, error) {
	out, err := exec.Command("tmux", append([]string{"-L", tmux.socket}, args...)...).CombinedOutput()
	return string(out), err
}

func (s *screen) close() { s.tmux("kill-session", "-t", s.session) } //nolint:errcheck // it may be closed already

// text is what the screen shows, long lines in one.
func (s *screen) text(t *testing.T) string {
	t.Helper()
	out, err := s.tmux("capture-pane", "-p", "-J", "-t", s.session)
	if err != nil {
		t.Fatalf("reading the screen: %v\n%s", err, out)
	}
	lines := strings.Split(out, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// enter types text.
func (s *screen) enter(t *testing.T, text string) {
	t.Helper()
	keys := text
	if strings.HasSuffix(keys, ";") { // which tmux takes for the end of its command
		keys = keys[:len(keys)-1] + `\;`
	}
	if out, err := s.tmux("send-keys", "-t", s.session, "-l", "--", keys); err != nil {
		t.Fatalf("typing %q: %v\n%s", text, err, out)
	}
}

// line types a line.
func (s *screen) line(t *testing.T, text string) { t.Helper(); s.enter(t, text); s.key(t, "Enter") }

// key presses keys by their names.
func (s *screen) key(t *testing.T, names ...string) {
	t.Helper()
	if out, err := s.tmux(append([]string{"send-keys", "-t", s.session}, names...)...); err != nil {
		t.Fatalf("pressing %v: %v\n%s", names, err, out)
	}
}

// sees waits until the screen shows something, and returns its groups.
func (s *screen) sees(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	var found []string
	until(t, "seeing "+pattern, func() (bool, string) {
		text := s.text(t)
		found = re.FindStringSubmatch(text)
		return found != nil, text
	})
	return found
}

// seesNot waits until the screen does not show something any more.
func (s *screen) seesNot(t *testing.T, pattern string) {
	t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	until(t, "not seeing "+pattern, func() (bool, string) {
		text := s.text(t)
		return !re.MatchString(text), text
	})
}

// ask joins the app's terminal, types a line, waits for an answer and leaves.
func (a *app) ask(t *testing.T, line, pattern string) []string {
	t.Helper()
	s := a.attach(t)
	defer s.close()
	s.line(t, line)
	return s.sees(t, pattern)
}
