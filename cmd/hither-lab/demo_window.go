package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// The second part of the demo: an editor moves between two desktops while somebody types into it, and its text is
// in no file until the very end.

const (
	letter    = "letter.txt"
	pangram   = "the quick brown fox jumps over the lazy dog, "
	keyPace   = 45 * time.Millisecond // a brisk typist
	firstKeys = 12                    // are typed before the app is sent away
	mostKeys  = 66                    // that fit into a line of the window
)

// What is typed on each host, in the order of the journey.
var demoLines = []string{
	"Typed on host a, into a window there. Nobody has saved this.",
	"Host b: the same window, the same text. I type on.",
	"And home again on host a.",
}

// demoWindows are the programs that this part needs, beside a desktop.
var demoWindows = []tool{{"mousepad", "mousepad"}}

// windowLeg is one move of the window.
type windowLeg struct {
	From, To string
	Result   moveResult
	Appeared time.Duration // from the command to the window on the other desktop
	Keys     int           // were typed while it left
	Place    *window       // of the window on the other desktop
	Left     int           // windows that stayed behind
}

// windowStory is all that this part learns.
type windowStory struct {
	First   *window // where the window stood at the start
	Legs    []windowLeg
	Unsaved string // the file before it was saved
	Saved   string // and after
}

// wantsWindows tells what is missing for windows; nothing: all is there.
func (d *demo) wantsWindows(ctx context.Context) []string {
	var missing []string
	for _, h := range d.status.Hosts[:2] {
		if h.Desktop == nil {
			return []string{"a desktop"}
		}
		missing = append(missing, h.Desktop.Packages...)
	}
	for _, t := range demoWindows {
		if _, err := d.on(ctx, "a", "sh", "-c", `command -v "$1"`, "sh", t.name); err != nil {
			missing = append(missing, t.pkg)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

// window tells the story of the window.
func (d *demo) window(ctx context.Context) error {
	d.say("\n%s", d.paint.bold("And with a window"))
	if missing := d.wantsWindows(ctx); len(missing) > 0 {
		d.say("  Not shown: this machine lacks %s.", strings.Join(missing, ", "))
		d.say("  `make deps` as root installs what is missing.")
		return nil
	}
	if !d.keep {
		if _, err := d.on(ctx, "a", "hither", "stop", "counter"); err != nil {
			return err
		}
	}
	s, shots, err := d.windowJourney(ctx)
	if err != nil {
		return err
	}
	held := s.report(d.out, d.paint)
	if d.pictures != "" {
		if err := shots.save(d.pictures); err != nil {
			return err
		}
		d.say("\n%s", d.paint.bold("Pictures of both desktops"))
		d.say("  %s/desktops.png, and each by itself beside it", d.pictures)
	}
	if !held {
		return fmt.Errorf("the demo failed: not everything held of the window")
	}
	return nil
}

func (d *demo) windowJourney(ctx context.Context) (*windowStory, *album, error) {
	people := map[string]*typist{}
	for _, host := range []string{"a", "b"} {
		t, err := d.sitDown(ctx, host)
		if err != nil {
			return nil, nil, err
		}
		defer t.close()
		people[host] = t
	}
	if _, err := d.on(ctx, "a", "sh", "-c", ">~/"+letter); err != nil {
		return nil, nil, err
	}
	d.command("a", "hither run -d --name pad mousepad ~/"+letter)
	if _, err := d.on(ctx, "a", "hither", "run", "-d", "--name", "pad", "mousepad", labHome+"/"+letter); err != nil {
		return nil, nil, err
	}
	d.say("%s", d.paint.dim("     Somebody types into its window on the desktop of a, and then into the one\n"+
		"     that stands on the desktop of b. It is not told to save anything."))
	s, shots := &windowStory{}, &album{}
	at := people["a"]
	w, err := at.do("focus " + letter)
	if err == nil {
		s.First = w.Window
		err = at.line(demoLines[0])
	}
	if err == nil {
		err = d.photograph(ctx, shots, "before")
	}
	if err != nil {
		return nil, nil, err
	}
	for i, l := range []windowLeg{{From: "a", To: "b"}, {From: "b", To: "a"}} {
		d.command(l.From, "hither send pad "+l.To+d.paint.dim("   # in the midst of a line"))
		if err := d.moveWindow(ctx, &l, people[l.From], people[l.To]); err != nil {
			return nil, nil, err
		}
		s.Legs = append(s.Legs, l)
		at = people[l.To]
		if _, err = at.do("key Return"); err == nil {
			err = at.line(demoLines[i+1])
		}
		if err == nil {
			err = d.photograph(ctx, shots, []string{"moved", "home"}[i])
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if s.Unsaved, err = d.on(ctx, "a", "cat", labHome+"/"+letter); err != nil {
		return nil, nil, err
	}
	if _, err = at.do("key ctrl+s"); err != nil {
		return nil, nil, err
	}
	for s.Saved == "" { // it takes a moment; the demo's time bounds it
		if s.Saved, err = d.on(ctx, "a", "cat", labHome+"/"+letter); err != nil {
			return nil, nil, err
		}
	}
	return s, shots, nil
}

// moveWindow sends the editor away in the midst of a line.
func (d *demo) moveWindow(ctx context.Context, l *windowLeg, from, to *typist) error {
	for ; l.Keys < firstKeys; l.Keys++ {
		if err := from.press(ctx, l.Keys); err != nil {
			return err
		}
	}
	began := time.Now()
	type seen struct {
		answer
		err error
		at  time.Time
	}
	appeared, sent := make(chan seen, 1), make(chan error, 1)
	go func() {
		a, err := to.do("focus " + letter)
		appeared <- seen{a, err, time.Now()}
	}()
	go func() {
		text, err := d.on(ctx, l.From, "hither", "send", "pad", l.To, "--json")
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if e := json.Unmarshal([]byte(lines[len(lines)-1]), &l.Result); e != nil && err == nil {
			err = fmt.Errorf("reading what `hither send` says: %w", e)
		}
		if l.Result.Outcome != "" && l.Result.Outcome != "moved" {
			err = fmt.Errorf("the editor %s: %s", l.Result.Outcome, l.Result.Reason)
		}
		sent <- err
	}()
	// Typing goes on until there is nothing left to type into.
	var err error
	for moved := false; err == nil && !moved; {
		select {
		case err = <-sent:
			moved = true
		default:
			if l.Keys == mostKeys {
				err, moved = <-sent, true
			} else if err = from.press(ctx, l.Keys); err == nil {
				l.Keys++
			}
		}
	}
	if err != nil {
		return err
	}
	there := <-appeared
	if there.err != nil {
		return there.err
	}
	l.Place, l.Appeared = there.Window, there.at.Sub(began)
	if _, err := from.do("gone " + letter); err != nil {
		return err
	}
	left, err := from.do("windows")
	l.Left = len(left.Windows)
	return err
}

// checks judges the story.
func (s *windowStory) checks() []check {
	inOrder, gapless := s.text()
	stood, alone := true, true
	for _, l := range s.Legs {
		stood = stood && l.Place != nil && s.First != nil && l.Place.frame() == s.First.frame()
		alone = alone && l.Left == 0
	}
	return []check{
		{"it is the same text: a's lines, b's line, and a's again", inOrder},
		{"of the keys pressed as it left, none is missing, double or misplaced", gapless},
		{"the text was in no file, until it was saved at the end", s.Unsaved == "" && s.Saved != ""},
		{"the window stands where it stood, as large as it was", stood},
		{"and nowhere else: the other desktop is empty each time", alone},
	}
}

// text judges what has been saved. A line that was being typed when the app left ends where it left.
func (s *windowStory) text() (inOrder, gapless bool) {
	lines := strings.Split(strings.TrimSuffix(s.Saved, "\n"), "\n")
	if len(lines) != len(demoLines)+len(s.Legs) {
		return false, false
	}
	inOrder, gapless = true, true
	for i, text := range demoLines {
		if n := 2 * i; n < len(lines) {
			inOrder = inOrder && lines[n] == text
		}
	}
	for i, l := range s.Legs {
		got := lines[2*i+1]
		gapless = gapless && len(got) >= firstKeys && len(got) <= l.Keys && strings.HasPrefix(strings.Repeat(pangram, 1+len(got)/len(pangram)), got)
	}
	return inOrder, gapless
}

// taken are the keys of a leg that reached the editor.
func (s *windowStory) taken(leg int) int {
	lines := strings.Split(s.Saved, "\n")
	if n := 2*leg + 1; n < len(lines) {
		return len(lines[n])
	}
	return 0
}

// report prints the table and the checks, no line longer than 80 columns, and tells whether all held.
func (s *windowStory) report(w io.Writer, p paint) bool {
	row := func(name string, f func(i int, l windowLeg) string) {
		var cells strings.Builder
		for i, l := range s.Legs {
			fmt.Fprintf(&cells, "%-16s", f(i, l))
		}
		fmt.Fprintf(w, "  %-31s%s\n", name, strings.TrimRight(cells.String(), " "))
	}
	fmt.Fprintln(w)
	row("", func(_ int, l windowLeg) string { return l.From + " -> " + l.To })
	row("downtime as hither reports it", func(_ int, l windowLeg) string { return milliseconds(l.Result.Down) })
	row("from the command to its window", func(_ int, l windowLeg) string { return fmt.Sprintf("%d ms", l.Appeared.Milliseconds()) })
	row("memory sent, in all rounds", func(_ int, l windowLeg) string { return bytesText(l.Result.Memory) })
	row("bytes sent, all in all", func(_ int, l windowLeg) string { return bytesText(l.Result.Sent) })
	row("keys pressed in that line", func(_ int, l windowLeg) string { return fmt.Sprint(l.Keys) })
	row("... of them the editor got", func(i int, _ windowLeg) string { return fmt.Sprint(s.taken(i)) })

	fmt.Fprintf(w, "\n%s\n", p.bold("Is it the same window?"))
	return tellChecks(w, p, s.checks())
}

func (w *window) frame() image.Rectangle { return image.Rect(w.X, w.Y, w.X+w.Width, w.Y+w.Height) }

// typist sits at a host's desktop, by `hither-lab input`.
type typist struct {
	host  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
	errs  bytes.Buffer
}

func (d *demo) sitDown(ctx context.Context, host string) (*typist, error) {
	t := &typist{host: host, cmd: d.hitherLab(ctx, "input", host)}
	t.cmd.Stderr = &t.errs
	stdout, err := t.cmd.StdoutPipe()
	if err == nil {
		t.stdin, err = t.cmd.StdinPipe()
	}
	if err == nil {
		err = t.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("sitting down at the desktop of %s: %w", host, err)
	}
	t.lines = bufio.NewScanner(stdout)
	t.lines.Buffer(nil, 1<<20)
	return t, nil
}

func (t *typist) do(line string) (answer, error) {
	var a answer
	if _, err := io.WriteString(t.stdin, line+"\n"); err != nil {
		return a, fmt.Errorf("at the desktop of %s: %w", t.host, err)
	}
	if !t.lines.Scan() {
		return a, fmt.Errorf("at the desktop of %s: %s: no answer %s", t.host, line, strings.TrimSpace(t.errs.String()))
	}
	if err := json.Unmarshal(t.lines.Bytes(), &a); err != nil {
		return a, fmt.Errorf("at the desktop of %s: %s: %w", t.host, line, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("at the desktop of %s: %s: %s", t.host, line, a.Error)
	}
	return a, nil
}

// line types a line at once.
func (t *typist) line(text string) error {
	_, err := t.do("type " + text)
	if err == nil {
		_, err = t.do("key Return")
	}
	return err
}

// press types the nth key of a line, at the pace of a hand.
func (t *typist) press(ctx context.Context, n int) error {
	select {
	case <-ctx.Done():
		return ended(ctx)
	case <-time.After(keyPace):
	}
	_, err := t.do("type " + string(pangram[n%len(pangram)]))
	return err
}

func (t *typist) close() {
	t.stdin.Close()
	t.cmd.Wait() //nolint:errcheck // the lab ends anyway
}
