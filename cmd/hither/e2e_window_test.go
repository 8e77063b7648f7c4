package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tests of windows sit in front of two desktops: they press keys and buttons there, look for windows in the
// window manager's list, and compare pictures of what a window shows.

// desktopLab is a lab for one test whose hosts have desktops; the test is skipped where one cannot be had, or
// where a program is missing.
func desktopLab(t *testing.T, programs ...string) *lab {
	t.Helper()
	shared := theLab(t)
	shared.needs(t, append([]string{"Xvfb", "Xtigervnc", "openbox", "dbus-daemon"}, programs...)...)
	l := &lab{bin: shared.bin, name: fmt.Sprintf("%s-%d", shared.name, labs.next())}
	if out, err := l.command("up").CombinedOutput(); err != nil {
		t.Fatalf("bringing a lab with desktops up: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if err := l.down(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// startWindow starts an app with windows. When the test fails, pictures of both desktops stay behind.
func (l *lab) startWindow(t *testing.T, name string, argv ...string) *app {
	t.Helper()
	a := l.start(t, name, argv...)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, host := range []string{"a", "b"} {
			file := filepath.Join(os.TempDir(), fmt.Sprintf("hither-%d-%s-%s.png", os.Getuid(), t.Name(), host)) // another user may have one of before
			out, err := l.command("shot", host, file).CombinedOutput()
			t.Logf("the desktop of %s: %s %s(%v)", host, file, out, err)
		}
	})
	return a
}

// place is where a window stands and how large it is.
type place struct {
	X      int `json:"x"`
	Y      int `json:"y"`
	Width  int `json:"width"`
	Height int `json:"height"`
}

// deskWindow is a window as `hither-lab input` tells of it.
type deskWindow struct {
	place
	ID       uint32   `json:"id"`
	Title    string   `json:"title"`
	Instance string   `json:"instance"`
	Class    string   `json:"class"`
	Shown    bool     `json:"shown"`
	Active   bool     `json:"active"`
	Popup    bool     `json:"popup"`
	States   []string `json:"states"`
}

type deskAnswer struct {
	Error   string        `json:"error"`
	Window  *deskWindow   `json:"window"`
	Windows []*deskWindow `json:"windows"`
}

// person sits in front of a host's desktop.
type person struct {
	lab   *lab
	host  string
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func (l *lab) person(t *testing.T, host string) *person {
	t.Helper()
	c := l.command("input", host)
	c.Dir = "/"
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		c.Wait() //nolint:errcheck // what it answered counts
	})
	return &person{l, host, stdin, bufio.NewScanner(stdout)}
}

// people sit in front of both desktops.
func (l *lab) people(t *testing.T) map[string]*person {
	return map[string]*person{"a": l.person(t, "a"), "b": l.person(t, "b")}
}

// do carries out a command of `hither-lab input`, which must succeed.
func (p *person) do(t *testing.T, format string, args ...any) deskAnswer {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		t.Fatalf("on the desktop of %s: %s: %v", p.host, line, err)
	}
	var a deskAnswer
	if !p.lines.Scan() {
		t.Fatalf("on the desktop of %s: %s: no answer: %v", p.host, line, p.lines.Err())
	}
	if err := json.Unmarshal(p.lines.Bytes(), &a); err != nil {
		t.Fatalf("on the desktop of %s: %s: %q: %v", p.host, line, p.lines.Bytes(), err)
	}
	if a.Error != "" {
		t.Fatalf("on the desktop of %s: %s: %s\nthere are %s", p.host, line, a.Error, p.lab.on(p.host, "hither-lab", "__input", "windows").out)
	}
	return a
}

func describe(windows ...*deskWindow) string {
	text, _ := json.Marshal(windows)
	return string(text)
}

// window is one that is there, or will be soon, by its title or class.
func (p *person) window(t *testing.T, name string) deskWindow {
	t.Helper()
	return *p.do(t, "wait %s", name).Window
}

// enter types a line into the window that has the keyboard.
func (p *person) enter(t *testing.T, text string) {
	t.Helper()
	p.do(t, "type %s", text)
	p.do(t, "key Return")
}

// terminal starts an xterm whose title tells which prompt its shell has printed last.
func (l *lab) terminal(t *testing.T, geometry string) *app {
	t.Helper()
	return l.startWindow(t, "term", "xterm", "-geometry", geometry, "-fa", "", "-e",
		"env", `PS1=$ \[\e]2;prompt \#.\a\]`, "bash", "--norc", "--noprofile")
}

// run has a terminal's shell carry out a line, and waits until it asks for the next one: what is typed before that is
// echoed amid what the line prints.
func (p *person) run(t *testing.T, line string) {
	t.Helper()
	title := p.window(t, "prompt ").Title
	n := 0
	if _, err := fmt.Sscanf(title, "prompt %d.", &n); err != nil {
		t.Fatalf("a terminal called %q: %v", title, err)
	}
	p.enter(t, line)
	p.window(t, fmt.Sprintf("prompt %d.", n+1))
}

// selected is the text that is selected on the desktop, or why none is.
func (p *person) selected() string {
	d := p.lab.on(p.host, "timeout", "5", "xclip", "-o", "-selection", "primary")
	return d.out + d.err
}

// all are the desktop's windows; popups are menus and the like.
func (p *person) all(t *testing.T) (windows, popups []*deskWindow) {
	t.Helper()
	for _, w := range p.do(t, "windows").Windows {
		if w.Popup {
			popups = append(popups, w)
		} else {
			windows = append(windows, w)
		}
	}
	return windows, popups
}

// menus waits until so many menus are open.
func (p *person) menus(t *testing.T, n int) []*deskWindow {
	t.Helper()
	var open []*deskWindow
	until(t, fmt.Sprintf("%d menus on %s", n, p.host), func() (bool, string) {
		_, open = p.all(t)
		return len(open) == n, describe(open...)
	})
	return open
}

// nothing waits until the desktop is empty.
func (p *person) nothing(t *testing.T) {
	t.Helper()
	until(t, "an empty desktop on "+p.host, func() (bool, string) {
		windows, popups := p.all(t)
		return len(windows)+len(popups) == 0, describe(append(windows, popups...)...)
	})
}

// picture is what a window shows now.
func (p *person) picture(t *testing.T, at place) *image.RGBA {
	t.Helper()
	c := p.lab.command("shot", p.host, "-", fmt.Sprint(at.X), fmt.Sprint(at.Y), fmt.Sprint(at.Width), fmt.Sprint(at.Height))
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("taking a picture of %s: %v\n%s", p.host, err, errs.Bytes())
	}
	img, err := png.Decode(bytes.NewReader(out))
	if err != nil {
		t.Fatalf("the picture of %s: %v", p.host, err)
	}
	return img.(*image.RGBA) // as it is where nothing can be seen through
}

// differ counts the pixels that are not the same.
func differ(a, b *image.RGBA) int {
	if a.Rect != b.Rect {
		return a.Rect.Dx()*a.Rect.Dy() + b.Rect.Dx()*b.Rect.Dy()
	}
	n := 0
	for i := 0; i < len(a.Pix); i += 4 {
		if !bytes.Equal(a.Pix[i:i+3], b.Pix[i:i+3]) {
			n++
		}
	}
	return n
}

// shows waits until a window shows what a picture does.
func (p *person) shows(t *testing.T, at place, want *image.RGBA) {
	t.Helper()
	until(t, "the same picture on "+p.host, func() (bool, string) {
		n := differ(p.picture(t, at), want)
		return n == 0, fmt.Sprintf("%d of %d pixels differ", n, at.Width*at.Height)
	})
}

// still waits until a window's picture changes no more, which is when three in a row are the same and show something, and
// returns it. That it is another than before is for the caller to see.
func (p *person) still(t *testing.T, at place) *image.RGBA {
	t.Helper()
	last, same := p.picture(t, at), 0
	until(t, "a picture at rest on "+p.host, func() (bool, string) {
		now := p.picture(t, at)
		if differ(now, last) == 0 {
			same++
		} else {
			same = 0
		}
		last = now
		return same >= 2 && !bytes.Equal(now.Pix[4:], now.Pix[:len(now.Pix)-4]), "" // else it is all of one colour
	})
	return last
}

// changes is what a window shows after something that changes it.
func (p *person) changes(t *testing.T, at place, by func()) *image.RGBA {
	t.Helper()
	before := p.still(t, at)
	by()
	until(t, "another picture on "+p.host, func() (bool, string) { return differ(p.picture(t, at), before) > 0, "" })
	return p.still(t, at)
}

func sum(img *image.RGBA) uint64 { h := fnv.New64(); h.Write(img.Pix); return h.Sum64() }

// reads waits until a file in the capsule has a content.
func (a *app) reads(t *testing.T, path, want string) {
	t.Helper()
	until(t, fmt.Sprintf("%q in %s of %s", want, path, a.name), func() (bool, string) {
		d := a.on(a.at, "hither", "exec", a.name, "cat", path)
		return d.out == want, d.out + d.err
	})
}

// TestWindowsXterm: what is on the screen, what has scrolled off it, a line that is half typed and a job in the
// background are there after a move, and keys reach it.
func TestWindowsXterm(t *testing.T) {
	l := desktopLab(t, "xterm")
	people := l.people(t)
	a := l.terminal(t, "80x24+150+120")
	p := people["a"]
	p.do(t, "focus xterm")
	p.run(t, "(while sleep 0.05; do echo >>/tmp/ticks; done) & seq 200")
	p.run(t, "seq -s ' ' 150; echo $$")
	w := p.window(t, "xterm")
	var top, bottom *image.RGBA
	half := func() {
		t.Helper()
		bottom = p.changes(t, w.place, func() { p.do(t, "type echo half") })
		top = p.changes(t, w.place, func() { p.do(t, "key shift+Prior") })
		p.do(t, "key shift+Next")
		p.shows(t, w.place, bottom)
	}
	half()
	ticks := 0
	for n := range 3 {
		a.move(t)
		p = people[a.at]
		got := *p.do(t, "focus xterm").Window
		if got.place != w.place || got.Title != w.Title || got.Class != w.Class || got.Instance != w.Instance {
			t.Errorf("on %s the window is %+v, it was %+v", a.at, got, w)
		}
		people[a.other()].nothing(t)
		p.shows(t, w.place, bottom)
		p.do(t, "key shift+Prior")
		p.shows(t, w.place, top)
		p.do(t, "key shift+Next")
		p.shows(t, w.place, bottom)
		until(t, "the job runs on", func() (bool, string) {
			now := strings.Count(a.exec(t, "cat", "/tmp/ticks"), "\n")
			defer func() { ticks = now }()
			return ticks > 0 && now > ticks, fmt.Sprint(now)
		})
		p.run(t, fmt.Sprintf("way-%d >/tmp/state", n)) // after "echo half"
		a.reads(t, "/tmp/state", fmt.Sprintf("halfway-%d\n", n))
		w = p.window(t, "xterm") // by the title that it has now
		half()
	}
}

// TestWindowsEditor: text that nobody has saved, and what can be undone of it, move along; saved at home it is in
// the file.
func TestWindowsEditor(t *testing.T) {
	l := desktopLab(t, "mousepad")
	people := l.people(t)
	path := l.put(t, "a", "notes.txt", "")
	a := l.startWindow(t, "pad", "mousepad", path)
	people["a"].window(t, "notes.txt")
	people["a"].do(t, "focus Mousepad")
	people["a"].do(t, "type written on a, regret")
	unsaved := func(title string) bool { return strings.HasPrefix(title, "*") }
	until(t, "the editor knows of unsaved text", func() (bool, string) {
		title := people["a"].window(t, "Mousepad").Title
		return unsaved(title), title
	})
	home := people["a"].window(t, "Mousepad")
	for _, step := range []struct{ keys, text string }{{"ctrl+z", " kept on b"}, {"End", ", and back"}} {
		a.move(t)
		p := people[a.at]
		w := *p.do(t, "focus Mousepad").Window
		if !unsaved(w.Title) || w.place != home.place {
			t.Errorf("on %s the window is %+v, it was %+v", a.at, w, home)
		}
		p.do(t, "key %s", step.keys)
		p.do(t, "type %s", step.text)
	}
	if got := l.cat(t, "a", "notes.txt"); got != "" {
		t.Errorf("the file is saved before anybody asked: %q", got)
	}
	people["a"].do(t, "key ctrl+s")
	const want = "written on a, kept on b, and back"
	until(t, "the file is saved", func() (bool, string) {
		got := l.cat(t, "a", "notes.txt")
		return strings.TrimSuffix(got, "\n") == want, got
	})
	// Asked to close, it does, and its capsule ends with it.
	people["a"].do(t, "close Mousepad")
	people["a"].nothing(t)
	until(t, "the end of the app", func() (bool, string) { _, here := a.find(t, "a"); return !here, "" })
	a.ended = true
}

// TestWindowsMenus: a menu stands where it belongs, and a click beside it closes it, also one that has moved.
func TestWindowsMenus(t *testing.T) {
	l := desktopLab(t, "mousepad")
	people := l.people(t)
	a := l.startWindow(t, "pad", "mousepad")
	for range 3 {
		p := people[a.at]
		w := *p.do(t, "focus Mousepad").Window
		p.do(t, "key alt+e")
		menu := p.menus(t, 1)[0]
		if dx, dy := menu.X-w.X, menu.Y-w.Y; dx < 0 || dx > 120 || dy < 15 || dy > 60 {
			t.Errorf("on %s the menu opens at %+v, of a window at %+v", a.at, menu.place, w.place)
		}
		p.do(t, "move 40 700") // the bare desktop
		p.do(t, "click")
		p.menus(t, 0)
		// By the mouse, and moved while it is open.
		p.do(t, "move %d %d", w.X+20, w.Y+12)
		p.do(t, "click")
		p.menus(t, 1)
		a.move(t)
		people[a.other()].nothing(t)
		p = people[a.at]
		w = *p.do(t, "focus Mousepad").Window
		p.do(t, "key Escape")
		p.menus(t, 0)
		p.do(t, "move %d %d", w.X+w.Width/2, w.Y+w.Height/2)
		p.do(t, "click")
		p.do(t, "type x")
		until(t, "the editor takes a key", func() (bool, string) {
			title := p.window(t, "Mousepad").Title
			return strings.HasPrefix(title, "*"), title
		})
		p.do(t, "key ctrl+z")
		until(t, "the editor takes another", func() (bool, string) {
			title := p.window(t, "Mousepad").Title
			return !strings.HasPrefix(title, "*"), title
		})
	}
}
