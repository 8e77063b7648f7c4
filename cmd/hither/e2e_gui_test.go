package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests of the window do what two people do who never read a manual: each has hither-gui on his desktop, they
// find each other, and then one drags. The mouse is xdotool's. Where things lie is told by the window itself
// (package gui/probe), what has become of the apps by the daemons.
//
// Pictures of each step lie in the folder that `go test -artifacts` names.

// thing is what a probe tells of one.
type thing struct {
	Kind     string  `json:"kind"`
	Text     string  `json:"text"`
	X        int     `json:"x"`
	Y        int     `json:"y"`
	W        int     `json:"w"`
	H        int     `json:"h"`
	Disabled bool    `json:"disabled"`
	Within   []thing `json:"within"`
}

// each calls f with the thing and all in it, what lies on top last.
func (t *thing) each(f func(*thing)) {
	f(t)
	for i := range t.Within {
		t.Within[i].each(f)
	}
}

// words are all words in it.
func (t *thing) words() string {
	var all []string
	t.each(func(c *thing) {
		if c.Text != "" && c.Kind == "Text" {
			all = append(all, c.Text)
		}
	})
	return strings.Join(all, " ")
}

// find is the topmost thing of one of these kinds that has such words in it.
func (t *thing) find(words string, kinds ...string) *thing {
	re := regexp.MustCompile("(?s)" + words)
	var found *thing
	t.each(func(c *thing) {
		if slices.Contains(kinds, c.Kind) && re.MatchString(c.words()) {
			found = c
		}
	})
	return found
}

// glass is a hither-gui on a host's desktop, and who sits in front of it.
type glass struct {
	*person
	conn  net.Conn
	lines *bufio.Scanner
	tray  *deskTray
	shots *int
}

// guiLab is a lab of hosts that do not know each other, with hither-gui on a and b.
func guiLab(t *testing.T) (*lab, map[string]*glass) {
	t.Helper()
	if os.Getenv("HITHER_TEST_DIR") != "" {
		t.Skip("root's run of this test had hosts of the same ordinary user")
	}
	shared := theLab(t)
	if _, err := os.Stat(filepath.Join(shared.bin, "hither-gui")); err != nil {
		const why = "the desktop program is not built (`make gui` does it, and tells what it needs): the tests of it are left out"
		if os.Getenv("HITHER_TEST_AGAIN") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	shared.needs(t, "Xvfb", "Xtigervnc", "openbox", "dbus-daemon", "xdotool", "mousepad")
	sockets, err := os.MkdirTemp("/var/tmp", "hither-gui-")
	if err == nil {
		err = os.Chmod(sockets, 0o777) // root's hosts run as somebody else
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	l := &lab{bin: shared.bin, name: fmt.Sprintf("%s-%d", shared.name, labs.next())}
	if out, err := l.command("up", "--strangers", "--share", sockets).CombinedOutput(); err != nil {
		t.Fatalf("bringing a lab with desktops up: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if err := l.down(); err != nil {
			t.Error(err)
		}
	})
	shots := 0
	all := map[string]*glass{}
	for _, host := range []string{"a", "b"} {
		g := &glass{person: l.person(t, host), shots: &shots, tray: l.tray(t, host)}
		c := l.command("exec", "-e", "HITHER_GUI_TEST="+filepath.Join(sockets, host), host, "--", "hither-gui")
		c.Dir = "/"
		log, err := os.Create(filepath.Join(t.TempDir(), host))
		if err == nil {
			c.Stdout, c.Stderr = log, log
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			g.tray.close()
			c.Wait() //nolint:errcheck // it was told to quit, or ends with its desktop
			if text, _ := os.ReadFile(log.Name()); t.Failed() {
				t.Logf("hither-gui on %s said:\n%s", host, text)
			}
			log.Close()
		})
		all[host] = g
	}
	for host, g := range all {
		until(t, "hither-gui on "+host, func() (bool, string) {
			conn, err := net.Dial("unix", filepath.Join(sockets, host))
			if err != nil {
				return false, err.Error()
			}
			t.Cleanup(func() { conn.Close() })
			g.conn, g.lines = conn, bufio.NewScanner(conn)
			g.lines.Buffer(nil, 16<<20)
			return true, ""
		})
		g.do(t, "wait hither")
	}
	t.Cleanup(func() {
		if t.Failed() {
			for host, g := range all {
				w := g.look(t)
				t.Logf("the window of %s says: %s", host, w.words())
				g.shot(t, "failed")
				d := l.on(host, "sh", "-c", "hither ls -a; hither peers; tail -n 30 ~/.local/state/hither/daemon.*")
				t.Logf("%s:\n%s%s", host, d.out, d.err)
			}
		}
	})
	return l, all
}

// ask asks the window's probe.
func (g *glass) ask(t *testing.T, what string) (a struct {
	Window *thing
	MS     float64
}) {
	t.Helper()
	if _, err := io.WriteString(g.conn, what+"\n"); err != nil {
		t.Fatalf("asking the window of %s: %v", g.host, err)
	}
	if !g.lines.Scan() {
		t.Fatalf("asking the window of %s: it has ended: %v", g.host, g.lines.Err())
	}
	if err := json.Unmarshal(g.lines.Bytes(), &a); err != nil {
		t.Fatalf("asking the window of %s: %v: %.200s", g.host, err, g.lines.Bytes())
	}
	return a
}

// look is what the window shows now.
func (g *glass) look(t *testing.T) *thing {
	t.Helper()
	return g.ask(t, "look").Window
}

// sees waits for something in the window that stands still.
func (g *glass) sees(t *testing.T, words string, kinds ...string) thing {
	t.Helper()
	var last thing
	until(t, fmt.Sprintf("%s with %q in the window of %s", kinds, words, g.host), func() (bool, string) {
		w := g.look(t)
		f := w.find(words, kinds...)
		if f == nil || f.Disabled {
			last = thing{}
			return false, w.words()
		}
		still := *f
		still.Within = nil
		same := still.X == last.X && still.Y == last.Y && still.W == last.W && still.H == last.H && last.W > 0
		last = still
		return same, "it moves"
	})
	return last
}

// without waits until there is no such thing in the window.
func (g *glass) without(t *testing.T, words string, kinds ...string) {
	t.Helper()
	until(t, fmt.Sprintf("no %s with %q in the window of %s", kinds, words, g.host), func() (bool, string) {
		w := g.look(t)
		return w.find(words, kinds...) == nil, w.words()
	})
}

// middle is where a thing's middle is on the desktop.
func (g *glass) middle(t *testing.T, c thing) image.Point {
	t.Helper()
	w := g.do(t, "wait hither").Window
	return image.Pt(w.X+c.X+c.W/2, w.Y+c.Y+c.H/2)
}

func (g *glass) xdotool(t *testing.T, args ...any) {
	t.Helper()
	argv := []string{"xdotool"}
	for _, a := range args {
		argv = append(argv, fmt.Sprint(a))
	}
	g.lab.must(t, g.host, argv...)
}

// click clicks on a button that says so.
func (g *glass) click(t *testing.T, words string) {
	t.Helper()
	g.press(t, g.middle(t, g.sees(t, words, "button", "press")))
}

// press goes to a point and clicks there, as soon as the window knows where the pointer is.
func (g *glass) press(t *testing.T, p image.Point) {
	t.Helper()
	g.xdotool(t, "mousemove", p.X, p.Y)
	g.ask(t, "frame")
	g.xdotool(t, "click", 1)
	g.ask(t, "frame")
}

// drag takes one thing to another one, at the pace of a hand, and holds it there.
func (g *glass) drag(t *testing.T, what, to thing) {
	t.Helper()
	from, end := g.middle(t, what), g.middle(t, to)
	from.Y -= what.H / 4 // the picture, not the buttons below
	g.xdotool(t, "mousemove", from.X, from.Y)
	g.ask(t, "frame")
	args := []any{"mousedown", 1}
	const steps = 20
	for i := 1; i <= steps; i++ {
		p := from.Add(end.Sub(from).Mul(i).Div(steps))
		args = append(args, "sleep", 0.02, "mousemove", p.X, p.Y)
	}
	g.xdotool(t, args...)
	g.ask(t, "frame")
}

func (g *glass) drop(t *testing.T) { g.xdotool(t, "mouseup", 1) }

// shot takes a picture of the desktop, on which more must be than a background.
func (g *glass) shot(t *testing.T, name string) {
	t.Helper()
	*g.shots++
	g.ask(t, "frame") // what has changed is drawn in the next one,
	g.ask(t, "frame") // which has ended when yet another begins
	file := filepath.Join(t.ArtifactDir(), fmt.Sprintf("%02d-%s-%s.png", *g.shots, name, g.host))
	out, err := g.lab.command("shot", g.host, "-").Output()
	if err == nil {
		err = os.WriteFile(file, out, 0o644)
	}
	if err != nil {
		t.Fatalf("taking a picture of %s: %v", g.host, err)
	}
	img, err := png.Decode(strings.NewReader(string(out)))
	if err != nil {
		t.Fatalf("the picture of %s: %v", g.host, err)
	}
	colors := map[color.RGBA]int{}
	whole := img.(*image.RGBA)
	b := whole.Rect
	for y := b.Min.Y; y < b.Max.Y; y += 4 {
		for x := b.Min.X; x < b.Max.X; x += 4 {
			colors[whole.RGBAAt(x, y)]++
		}
	}
	most := 0
	for _, n := range colors {
		most = max(most, n)
	}
	if len(colors) < 100 || most > b.Dx()*b.Dy()/16*9/10 {
		t.Errorf("the picture %s has %d colours, and %d%% of it is of one", file, len(colors), most*1600/(b.Dx()*b.Dy()))
	}
}

// deskTray is the panel on a host's desktop.
type deskTray struct {
	host  string
	stdin io.WriteCloser
	lines *bufio.Scanner
	wait  func()
}

func (l *lab) tray(t *testing.T, host string) *deskTray {
	t.Helper()
	c := l.command("tray", host)
	c.Dir = "/"
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	d := &deskTray{host: host, stdin: stdin, lines: bufio.NewScanner(stdout), wait: func() { c.Wait() }} //nolint:errcheck // what it answered counts
	d.lines.Buffer(nil, 1<<20)
	t.Cleanup(d.close)
	return d
}

func (d *deskTray) close() {
	if d.stdin == nil {
		return
	}
	fmt.Fprintln(d.stdin, "click Quit*") //nolint:errcheck // it may be gone with its desktop
	d.lines.Scan()
	d.stdin.Close()
	d.stdin = nil
	d.wait()
}

// do carries out a command of `hither-lab tray`, which must succeed.
func (d *deskTray) do(t *testing.T, command string) {
	t.Helper()
	fmt.Fprintln(d.stdin, command) //nolint:errcheck // then there is no answer
	var a struct{ Error string }
	if !d.lines.Scan() || json.Unmarshal(d.lines.Bytes(), &a) != nil || a.Error != "" {
		t.Fatalf("in the tray of %s: %s: %.2000s", d.host, command, d.lines.Bytes())
	}
}

// runs waits until an app runs on a host, and on it alone.
func (l *lab) runs(t *testing.T, app, host string) {
	t.Helper()
	until(t, app+" runs on "+host, func() (bool, string) {
		text, right := "", true
		for _, h := range []string{"a", "b"} {
			d := l.on(h, "hither", "ls", "--json")
			var list struct {
				Apps []struct{ Name, State string }
			}
			if err := json.Unmarshal([]byte(d.out), &list); err != nil {
				return false, d.out + d.err
			}
			here := false
			for _, a := range list.Apps {
				text += fmt.Sprintf("%s on %s: %s; ", a.Name, h, a.State)
				here = here || a.Name == app && a.State == "running"
			}
			right = right && here == (h == host)
		}
		return right, text
	})
}

// title is what the editor's window is called now: with a star it holds what nobody saved.
func (g *glass) title(t *testing.T, want string) {
	t.Helper()
	until(t, fmt.Sprintf("the window %q on %s", want, g.host), func() (bool, string) {
		windows, _ := g.all(t)
		return slices.ContainsFunc(windows, func(w *deskWindow) bool { return w.Shown && w.Title == want }), describe(windows...)
	})
}

func (g *glass) front(t *testing.T) {
	t.Helper()
	g.do(t, "focus hither")
}

// TestGUI: two people find each other, pair, and one drags an app onto the other's machine and brings it back.
func TestGUI(t *testing.T) {
	l, on := guiLab(t)
	a, b := on["a"], on["b"]
	began := time.Now()
	step := func(name string) {
		t.Logf("%5.1f s: %s", time.Since(began).Seconds(), name)
	}

	step("they see each other")
	a.sees(t, `\bb\b.*not paired`, "machineCard")
	b.sees(t, `\ba\b.*not paired`, "machineCard")
	a.tray.do(t, "wait Pair a machine…")
	a.shot(t, "discovered")

	step("they pair")
	card := a.sees(t, `\bb\b.*Pair$`, "machineCard")
	a.clickIn(t, card, "Pair")
	digits := regexp.MustCompile(`\d{3} \d{3}`)
	code := func(g *glass) string {
		g.sees(t, `\d{3} \d{3}.*Yes, the same`, "PopUp")
		return digits.FindString(g.look(t).words())
	}
	if x, y := code(a), code(b); x != y || x == "" {
		t.Fatalf("a shows %q, b shows %q", x, y)
	}
	b.tray.do(t, "state attention")
	a.shot(t, "code")
	b.shot(t, "code")
	a.click(t, "Yes, the same")
	b.click(t, "Yes, the same")
	for _, g := range []*glass{a, b} {
		g.tray.do(t, "wait Move here")
		g.click(t, "Done")
		g.without(t, "Pair with", "PopUp")
	}
	a.shot(t, "paired")

	step("an app is started from the window")
	a.front(t)
	a.click(t, "Start an app")
	a.sees(t, "Which app", "field")
	a.do(t, "type mousepad")
	a.sees(t, "Mousepad", "PopUp")
	a.do(t, "key Return")
	l.runs(t, "mousepad", "a")
	a.title(t, "Untitled 1 - Mousepad")
	a.do(t, "focus Mousepad")
	a.do(t, "type written on a")
	a.title(t, "*Untitled 1 - Mousepad")
	a.shot(t, "started")

	step("it is dragged onto b, whose person allows it")
	dragTo := func(card string) {
		t.Helper()
		a.front(t)
		a.drag(t, a.sees(t, card, "appCard"), a.sees(t, `^b\b`, "machineCard"))
	}
	dragTo("ousepad")
	a.sees(t, "Move it to b", "machineCard")
	a.shot(t, "dragged")
	a.drop(t)
	b.tray.do(t, "state attention")
	b.front(t)
	b.sees(t, "mousepad.*Yes, this time", "PopUp")
	b.shot(t, "question")
	b.click(t, "Yes, this time")
	l.runs(t, "mousepad", "b")
	b.title(t, "*Untitled 1 - Mousepad")
	b.do(t, "focus Mousepad")
	b.do(t, "type , and on b")
	b.shot(t, "arrived")
	a.shot(t, "left")

	step("it is brought back by the tray")
	a.tray.do(t, "click Move here / mousepad @ b") // who sent it may have it back without a question
	l.runs(t, "mousepad", "a")
	a.title(t, "*Untitled 1 - Mousepad")
	a.tray.do(t, "wait Send / mousepad / b")
	a.shot(t, "back")

	step("the window goes into the tray, and comes back")
	a.do(t, "close hither")
	a.do(t, "gone hither")
	a.tray.do(t, "activate")
	a.do(t, "wait hither")
	a.do(t, "close hither")
	a.do(t, "gone hither")
	l.must(t, "a", "hither-gui") // a second one shows the first, and ends
	a.do(t, "wait hither")

	step("b's person refuses another one")
	// It knows nothing of the other one, whose unsaved text it would offer to restore as that of a crash if half a minute
	// has gone by.
	l.must(t, "a", "hither", "run", "-d", "--name", "letter", "env", "GSETTINGS_BACKEND=memory", "mousepad", l.put(t, "a", "letter.txt", ""))
	a.title(t, "~/letter.txt - Mousepad") // no part of the other one's title
	dragTo("letter")
	a.drop(t)
	b.front(t)
	b.sees(t, "letter.*Not now", "PopUp")
	b.click(t, "Not now")
	a.sees(t, "letter.*said no", "appCard")
	a.shot(t, "refused")
	l.runs(t, "letter", "a")

	step("it is cancelled in mid-move")
	l.must(t, "b", "hither", "permit", "a", "send", "allow")
	halfway := func() {
		t.Helper()
		l.shape(t, "link", "--rate", "12mbit")
		dragTo("letter")
		a.drop(t)
		a.sees(t, `letter.*[kM]B of \d`, "appCard")
		l.shape(t, "link", "--rate", "4mbit") // half a minute for the rest
	}
	halfway()
	a.tray.do(t, "state moving")
	a.shot(t, "moving")
	// The window answers while the app moves. On a busy machine single frames may be late.
	var late []float64
	for range 50 {
		late = append(late, a.ask(t, "frame").MS) // 17 ms apart at best
	}
	slices.Sort(late)
	t.Logf("a frame takes %.1f ms, at most %.1f", late[len(late)/2], late[len(late)-1])
	if late[len(late)/2] > 100 {
		t.Errorf("the window stands still: %.1f ms for a frame", late[len(late)/2])
	}
	a.click(t, "^Cancel$")
	a.without(t, "^Cancel$", "press")
	a.tray.do(t, "state idle")
	a.shot(t, "cancelled")
	l.runs(t, "letter", "a")

	step("it is cancelled by the tray")
	halfway()
	a.tray.do(t, "click letter → b* / Cancel")
	a.without(t, "^Cancel$", "press")
	a.tray.do(t, "state idle")

	step("b vanishes in mid-move")
	halfway()
	l.shape(t, "cut", "b")
	within(t, 2*patience, "letter goes on at a", func() (bool, string) {
		w := a.look(t)
		return w.find("letter", "appCard") != nil && w.find("^Cancel$", "press") == nil && w.find("Out of reach", "machineCard") != nil, w.words()
	})
	a.shot(t, "vanished")
	a.do(t, "focus letter.txt") // it runs, and does what it is told
	a.do(t, "type .")
	a.title(t, "*~/letter.txt - Mousepad")
	a.do(t, "key ctrl+s")
	a.title(t, "~/letter.txt - Mousepad")
	a.do(t, "close letter.txt")
	a.do(t, "gone letter.txt")
	a.title(t, "*Untitled 1 - Mousepad") // which nobody has asked
	step("done")
}

// shape is a command of the lab that may not fail.
func (l *lab) shape(t *testing.T, args ...string) {
	t.Helper()
	if out, err := l.command(args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// clickIn clicks on a button inside of a thing.
func (g *glass) clickIn(t *testing.T, in thing, words string) {
	t.Helper()
	w := g.look(t)
	var found *thing
	w.each(func(c *thing) {
		if (c.Kind == "button" || c.Kind == "press") && strings.TrimSpace(c.words()) == words && c.X >= in.X && c.Y >= in.Y && c.X+c.W <= in.X+in.W && c.Y+c.H <= in.Y+in.H {
			found = c
		}
	})
	if found == nil {
		t.Fatalf("no button %q in the window of %s: %s", words, g.host, w.words())
	}
	g.press(t, g.middle(t, *found))
}
