package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The group "windows": how soon an app's windows are back after a move, and what the
// way through a capsule's own X server costs. Its lab has desktops, a with Xvfb and b
// with Xvnc.

const (
	keyRounds    = 5
	keysEach     = 21
	paintSeconds = 3
	paintRate    = 60
	restSeconds  = 5
)

// terminalWindow is an xterm without any moving part.
var terminalWindow = []string{"xterm", "-geometry", "80x24+150+120", "-fa", "", "-e", "cat"}

// editorText is long enough that a picture of it tells whether it is there.
const editorText = "printf '%s\\n' 'the first line' 'and the second' >notes.txt && mkdir -p .config/gtk-3.0 && " +
	"printf '[Settings]\\ngtk-cursor-blink=0\\n' >.config/gtk-3.0/settings.ini"

func (b *bench) windows(ctx context.Context) (err error) {
	b.say("\nwindows on two desktops (%s, a: %s, b: %s)", desktopSize, toolXvfb.name, toolXvnc.name)
	for _, t := range []tool{toolXvfb, toolXvnc, toolManager, toolBus} {
		if _, err := exec.LookPath(t.name); err != nil {
			b.say("  left out, %s is missing (package %s)", t.name, t.pkg)
			return nil
		}
	}
	d := &bench{program: b.program, lab: b.lab + "-windows", user: b.user, runs: b.runs, quiet: b.quiet}
	if _, err := d.do(ctx, "up"); err != nil {
		return err
	}
	defer func() {
		b.results = append(b.results, d.results...)
		err = errors.Join(err, d.down())
	}()
	desks := map[string]*desk{}
	for _, host := range []string{"a", "b"} {
		if _, err := d.on(ctx, host, "sh", "-c", `cp "$(command -v hither-lab)" bench`); err != nil {
			return err
		}
		t, err := d.talk(ctx, host, benchProgram, benchWorkCommand, "desk")
		if err != nil {
			return err
		}
		defer t.close()
		desks[host] = &desk{t}
	}
	var errs []error
	for _, part := range []func(context.Context, map[string]*desk) error{d.windowMoves, d.windowKeys, d.windowRest, d.windowUpdates} {
		if err := part(ctx, desks); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// desk answers questions about a host's desktop; see workDesk.
type desk struct{ *talker }

func (d *desk) ask(q deskQuestion) (deskFigures, error) {
	var a deskFigures
	text, err := json.Marshal(q)
	if err == nil {
		err = d.talker.ask(string(text), &a)
	}
	return a, a.or(err)
}

func (a deskFigures) or(err error) error {
	if err == nil && a.Error != "" {
		return errors.New(a.Error)
	}
	return err
}

// watch has it wait for a picture. seen tells when it is there, by CLOCK_MONOTONIC.
func (d *desk) watch(v view) (seen func() (int64, error), err error) {
	a, err := d.ask(deskQuestion{Op: "await", View: v})
	if err == nil && !a.Ready {
		err = errors.New("the watch for a picture has not begun")
	}
	return func() (int64, error) {
		var a deskFigures
		line, err := d.line()
		if err == nil {
			err = json.Unmarshal([]byte(line), &a)
		}
		return a.Taken, a.or(err)
	}, err
}

// end ends a program that shows a window on the desktop itself.
func (d *desk) end(t *talker, window string) error {
	_ = t.cmd.Process.Signal(unix.SIGTERM) // its window tells whether it has ended
	t.close()
	_, err := d.ask(deskQuestion{Op: "gone", Window: window})
	return err
}

// windowMoves measures how soon a window shows what it showed, on the other desktop.
func (b *bench) windowMoves(ctx context.Context, desks map[string]*desk) error {
	for _, app := range []struct {
		name, class, before string
		argv                []string
	}{
		{"xterm", "xterm", "", terminalWindow},
		{"mousepad", "Mousepad", editorText, []string{"mousepad", "notes.txt"}},
	} {
		if _, err := exec.LookPath(app.name); err != nil {
			b.say("  left out, %s is missing", app.name)
			continue
		}
		if app.before != "" {
			if _, err := b.on(ctx, "a", "sh", "-c", app.before); err != nil {
				return err
			}
		}
		moves, pictures, err := b.windowJourney(ctx, desks, app.name, app.class, app.argv...)
		var downs, freezes, restores, sent []float64
		for _, m := range moves {
			downs, freezes, restores = append(downs, m.Down), append(freezes, m.Freeze), append(restores, m.Restore)
			sent = append(sent, m.Memory/1e6)
		}
		b.note("windows", app.name+": freeze to first instruction", "ms", downs, 150)
		b.note("windows", "  freeze", "ms", freezes, 0)
		b.note("windows", "  restore, after the last byte", "ms", restores, 0)
		b.note("windows", "  memory, its X server's included", "MB", sent, 0)
		b.note("windows", app.name+": freeze to first correct picture", "ms", pictures, 400)
		if err != nil {
			return fmt.Errorf("moving %s: %w", app.name, err)
		}
	}
	return nil
}

func (b *bench) windowJourney(ctx context.Context, desks map[string]*desk, name, class string, argv ...string) (moves []benchMove, pictures []float64, err error) {
	if _, err := b.on(ctx, "a", append([]string{"hither", "run", "-d", "--name", name}, argv...)...); err != nil {
		return nil, nil, err
	}
	at, to := "a", "b"
	defer func() {
		_, serr := b.on(ctx, at, "hither", "stop", name)
		err = errors.Join(err, serr)
	}()
	for run := range b.runs + 1 { // the first one fills caches
		v, err := desks[at].ask(deskQuestion{Op: "look", Window: class})
		if err != nil {
			return moves, pictures, err
		}
		seen, err := desks[to].watch(v.View)
		if err != nil {
			return moves, pictures, err
		}
		m, frozen, err := b.sendTimed(ctx, at, to, name)
		if err != nil {
			return moves, pictures, err
		}
		at, to = to, at
		taken, err := seen()
		if err != nil {
			return moves, pictures, err
		}
		if run > 0 {
			moves = append(moves, m)
			pictures = append(pictures, float64(taken-frozen)/1e6)
		}
	}
	return moves, pictures, nil
}

// sendTimed moves an app. frozen is when the source was heard to begin with the
// freeze, before it takes the app off the desktop.
func (b *bench) sendTimed(ctx context.Context, at, to, name string) (m benchMove, frozen int64, err error) {
	cmd := b.hitherLab(ctx, append([]string{"exec", at, "--"}, atHome([]string{"hither", "send", name, to, "--json"})...)...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return m, 0, err
	}
	var last []byte
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = append(last[:0], lines.Bytes()...)
		if frozen == 0 && bytes.Contains(last, []byte(`"source:freeze"`)) {
			frozen = monotonicNow()
		}
	}
	if err := cmd.Wait(); err != nil {
		return m, 0, fmt.Errorf("hither send: %w: %s%s", err, complaint.String(), last)
	}
	if err := json.Unmarshal(last, &m); err != nil {
		return m, 0, fmt.Errorf("reading what hither says of the move: %w", err)
	}
	if m.Outcome != "moved" || frozen == 0 {
		return m, 0, fmt.Errorf("it did not move: %s", m.Reason)
	}
	return m, frozen, nil
}

// windowKeys compares an xterm that draws on the desktop itself with one in a capsule.
func (b *bench) windowKeys(ctx context.Context, desks map[string]*desk) (err error) {
	if _, err := exec.LookPath("xterm"); err != nil {
		return nil // said already
	}
	named := func(title string) []string { return append([]string{"xterm", "-title", title}, terminalWindow[1:]...) }
	// What it lacks of fonts it says on its stderr, and to nobody's use.
	native, err := b.talk(ctx, "a", append([]string{"sh", "-c", `exec "$@" 2>/dev/null`, "sh"}, named("native")...)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, desks["a"].end(native, "native")) }()
	if _, err := b.on(ctx, "a", append([]string{"hither", "run", "-d", "--name", "bridged"}, named("bridged")...)...); err != nil {
		return err
	}
	defer func() {
		_, serr := b.on(ctx, "a", "hither", "stop", "bridged")
		err = errors.Join(err, serr)
	}()
	for _, name := range []string{"native", "bridged"} { // a new window takes the keyboard
		if _, err := desks["a"].ask(deskQuestion{Op: "look", Window: name}); err != nil {
			return err
		}
	}
	var outside, inside, more []float64
	for round := range keyRounds + 1 {
		n, err := desks["a"].ask(deskQuestion{Op: "keys", Window: "native", Count: keysEach})
		if err != nil {
			return err
		}
		i, err := desks["a"].ask(deskQuestion{Op: "keys", Window: "bridged", Count: keysEach})
		if err != nil {
			return err
		}
		if round == 0 {
			continue
		}
		outside, inside = append(outside, n.Took...), append(inside, i.Took...)
		more = append(more, median(i.Took)-median(n.Took))
	}
	b.note("windows", "key to pixel, native", "ms", outside, 0)
	b.note("windows", "key to pixel, in a capsule", "ms", inside, 0)
	b.note("windows", "key to pixel, what the capsule adds", "ms", more, 1)
	return nil
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// windowUpdates counts pictures of a whole window of 1280x800.
func (b *bench) windowUpdates(ctx context.Context, desks map[string]*desk) error {
	for _, way := range []struct {
		what string
		rate int
		in   bool
	}{
		{"full updates, as many as there can be, native", 0, false},
		{"full updates, as many as there can be, in a capsule", 0, true},
		{"full updates, of 60, in a capsule", paintRate, true},
	} {
		f, err := b.paint(ctx, desks["a"], way.rate, way.in)
		if err != nil {
			return fmt.Errorf("%s: %w", way.what, err)
		}
		b.note("windows", way.what, "a second", []float64{f.Updates}, 0)
		if way.in {
			aim := 0.0
			if way.rate > 0 {
				aim = 15
			}
			b.note("windows", "  the bridge's share of a CPU", "%", []float64{f.Load.Bridge}, aim)
			b.note("windows", "  the capsule's X server's", "%", []float64{f.Load.Server}, 0)
		}
	}
	return nil
}

func (b *bench) paint(ctx context.Context, d *desk, rate int, in bool) (f deskFigures, err error) {
	argv := []string{benchProgram, benchWorkCommand, "paint", fmt.Sprint(rate)}
	if in {
		if _, err := b.on(ctx, "a", append([]string{"hither", "run", "-d", "--name", "paint"}, argv...)...); err != nil {
			return f, err
		}
		defer func() {
			_, serr := b.on(ctx, "a", "hither", "stop", "paint")
			err = errors.Join(err, serr)
		}()
	} else {
		t, err := b.talk(ctx, "a", argv...)
		if err != nil {
			return f, err
		}
		defer func() { err = errors.Join(err, d.end(t, paintTitle)) }()
	}
	return d.ask(deskQuestion{Op: "updates", Window: paintTitle, For: paintSeconds})
}

// windowRest is what an app costs whose window nobody looks at.
func (b *bench) windowRest(ctx context.Context, desks map[string]*desk) (err error) {
	if _, err := exec.LookPath("xterm"); err != nil {
		return nil // said already
	}
	if _, err := b.on(ctx, "a", append([]string{"hither", "run", "-d", "--name", "idle"}, terminalWindow...)...); err != nil {
		return err
	}
	defer func() {
		_, serr := b.on(ctx, "a", "hither", "stop", "idle")
		err = errors.Join(err, serr)
	}()
	if _, err := desks["a"].ask(deskQuestion{Op: "look", Window: "xterm"}); err != nil {
		return err
	}
	wait(ctx, 2*time.Second)
	f, err := desks["a"].ask(deskQuestion{Op: "use", For: restSeconds})
	if err != nil {
		return err
	}
	b.note("windows", "xterm at rest, bridge and keeper woke", "a second", []float64{f.Load.Wakes}, 0)
	b.note("windows", "xterm at rest, what is in its capsule woke", "a second", []float64{f.Load.Rest}, 0)
	b.note("windows", "xterm at rest, the bridge, resident (RSS)", "MB", []float64{float64(f.Load.RSS) / 1024}, 0)
	return nil
}
