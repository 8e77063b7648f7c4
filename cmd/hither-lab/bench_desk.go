package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/display/xwire"
)

// The half of the group "windows" that runs on a host, as a client of its desktop's
// X server.

const (
	stillFor   = 250 * time.Millisecond // a picture at rest
	keyPause   = 20 * time.Millisecond  // as a very fast typist
	paintTitle = "hither bench painter"
)

// view is a part of the screen and what it shows, as a sum.
type view struct {
	X, Y, W, H int
	Sum        string // hexadecimal: JSON has no integers of 64 bits
}

// deskQuestion is a line to workDesk, deskFigures the line in answer to it.
type deskQuestion struct {
	Op     string
	Window string  `json:",omitempty"` // its title or class
	View   view    `json:",omitzero"`
	Count  int     `json:",omitempty"` // keys
	For    float64 `json:",omitempty"` // seconds
}

type deskFigures struct {
	Error string `json:",omitempty"`
	View  view   `json:",omitzero"`
	// Taken is when the picture was seen, by this machine's CLOCK_MONOTONIC, in ns.
	Taken   int64     `json:",omitempty"`
	Ready   bool      `json:",omitempty"` // the watch has begun; a second line tells its end
	Took    []float64 `json:",omitempty"` // ms, of each key
	Updates float64   `json:",omitempty"` // full ones, per second
	Load    portalUse `json:",omitzero"`
}

// portalUse is what the processes that show an app's windows use.
type portalUse struct {
	Bridge, Server float64 // per cent of one CPU: the bridge, the capsule's X server
	Wakes          float64 // per second, of keeper and bridge
	Rest           float64 // the same, of the app and of all else in the capsule
	RSS            int     // KiB, of the bridge
}

// workDesk answers questions about this host's desktop.
func workDesk([]string) error {
	x, err := openDesktop(xwire.XTest, xwire.XFixes, xwire.Damage)
	if err != nil {
		return err
	}
	defer x.Close()
	d := &deskWork{x: x, hands: &hands{x}, out: json.NewEncoder(os.Stdout)}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var q deskQuestion
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		a, err := d.answer(q)
		if err != nil {
			a = deskFigures{Error: err.Error()}
		}
		if err := d.out.Encode(a); err != nil {
			return err
		}
	}
	return nil
}

type deskWork struct {
	x     *xwire.Conn
	hands *hands
	out   *json.Encoder
}

func (d *deskWork) answer(q deskQuestion) (deskFigures, error) {
	ctx, cancel := context.WithTimeout(context.Background(), desktopWait)
	defer cancel()
	switch q.Op {
	case "look":
		v, err := d.look(ctx, q.Window)
		return deskFigures{View: v}, err
	case "await":
		return d.await(ctx, q.View)
	case "keys":
		took, err := d.keys(ctx, q.Window, q.Count)
		return deskFigures{Took: took}, err
	case "updates":
		return d.updates(ctx, q.Window, q.For)
	case "gone":
		return deskFigures{}, waitGone(ctx, d.x, q.Window)
	case "use":
		use, err := measureUse(time.Duration(q.For * float64(time.Second)))
		return deskFigures{Load: use}, err
	}
	return deskFigures{}, fmt.Errorf("%q: no such question", q.Op)
}

// damage watches what is drawn into a window and all that lies in it.
func (d *deskWork) damage(w xwire.Window, level xwire.DamageReportLevel) (xwire.DamageDamage, func()) {
	id := xwire.NewID[xwire.DamageDamage](d.x)
	d.x.DamageCreate(id, xwire.Drawable(w), level)
	return id, func() {
		d.x.DamageDestroy(id)
		if d.x.Sync() == nil {
			d.x.TakeEvents() //nolint:errcheck // the next question meets the error
		}
	}
}

// drawn waits until something has been drawn since the last time.
func (d *deskWork) drawn(ctx context.Context, id xwire.DamageDamage) error {
	for {
		ev, err := d.x.NextEvent(ctx)
		if err != nil {
			return err
		}
		switch ev := ev.(type) {
		case *xwire.DamageNotifyEvent:
			d.x.DamageSubtract(id, xwire.XFixesRegionNone, xwire.XFixesRegionNone)
			return d.x.Flush()
		case *xwire.Error:
			return ev
		}
	}
}

// quiet waits until nothing has been drawn for a while.
func (d *deskWork) quiet(ctx context.Context, id xwire.DamageDamage, pause time.Duration) error {
	for {
		short, cancel := context.WithTimeout(ctx, pause)
		err := d.drawn(short, id)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// look gives a window the keyboard, puts the pointer aside and waits for a picture
// at rest.
func (d *deskWork) look(ctx context.Context, name string) (view, error) {
	w, err := focusWindow(ctx, d.x, name)
	if err != nil {
		return view{}, err
	}
	screen := d.x.Screen()
	d.x.XTestFakeInput(fakeMotion, 0, xwire.TimeCurrentTime, d.x.Root(), int16(screen.WidthInPixels-1), int16(screen.HeightInPixels-1), 0)
	id, end := d.damage(w.ID, xwire.DamageReportLevelNonEmpty)
	defer end()
	if err := d.quiet(ctx, id, stillFor); err != nil {
		return view{}, fmt.Errorf("waiting for the window %s to be at rest: %w", name, err)
	}
	v := view{X: w.X, Y: w.Y, W: w.Width, H: w.Height}
	v.Sum, err = d.sum(v)
	return v, err
}

// sum is that of what the screen shows there.
func (d *deskWork) sum(v view) (string, error) {
	got, err := d.x.GetImage(xwire.ImageFormatZPixmap, xwire.Drawable(d.x.Root()), int16(v.X), int16(v.Y), uint16(v.W), uint16(v.H), ^uint32(0))
	if err != nil {
		return "", fmt.Errorf("taking a picture of %dx%d at %d,%d: %w", v.W, v.H, v.X, v.Y, err)
	}
	if len(got.Data) < 4*v.W*v.H {
		return "", fmt.Errorf("a picture of %d bytes is not of a lab's screen", len(got.Data))
	}
	for i := 3; i < len(got.Data); i += 4 {
		got.Data[i] = 0 // it has no meaning
	}
	h := fnv.New64a()
	h.Write(got.Data)
	return strconv.FormatUint(h.Sum64(), 16), nil
}

// await says when a part of the screen shows a picture. It looks whenever anything is
// drawn there.
func (d *deskWork) await(ctx context.Context, v view) (deskFigures, error) {
	var none deskFigures
	// On the root: the window is not there yet.
	id, end := d.damage(d.x.Root(), xwire.DamageReportLevelNonEmpty)
	defer end()
	for first := true; ; first = false {
		sum, err := d.sum(v)
		if err != nil {
			return none, err
		}
		if now := monotonicNow(); sum == v.Sum {
			if first {
				return none, errors.New("the picture is there before it can be")
			}
			return deskFigures{Taken: now}, nil
		}
		if first {
			if err := d.out.Encode(deskFigures{Ready: true}); err != nil {
				return none, err
			}
		}
		if err := d.drawn(ctx, id); err != nil {
			return none, fmt.Errorf("waiting for the picture at %d,%d: %w", v.X, v.Y, err)
		}
	}
}

func monotonicNow() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// keys presses a key so often, and measures each time until something is drawn into
// the window.
func (d *deskWork) keys(ctx context.Context, name string, count int) ([]float64, error) {
	w, err := focusWindow(ctx, d.x, name)
	if err != nil {
		return nil, err
	}
	k, err := readKeyboard(d.x)
	if err != nil {
		return nil, err
	}
	key := k['a'].key
	id, end := d.damage(w.ID, xwire.DamageReportLevelNonEmpty)
	defer end()
	var took []float64
	for range count {
		if err := d.quiet(ctx, id, keyPause); err != nil {
			return nil, err
		}
		began := time.Now()
		d.hands.fake(fakeKeyPress, key)
		if err := d.x.Flush(); err != nil {
			return nil, err
		}
		err := d.drawn(ctx, id)
		took = append(took, float64(time.Since(began).Microseconds())/1000)
		d.hands.fake(fakeKeyRelease, key)
		if err := errors.Join(err, d.x.Flush()); err != nil {
			return nil, fmt.Errorf("waiting for what a key draws in the window %s: %w", name, err)
		}
	}
	return took, nil
}

// updates counts how often a window is painted as a whole, and what that costs.
func (d *deskWork) updates(ctx context.Context, name string, seconds float64) (deskFigures, error) {
	var f deskFigures
	w, err := waitWindow(ctx, d.x, name)
	if err != nil {
		return f, err
	}
	_, end := d.damage(w.ID, xwire.DamageReportLevelRawRectangles)
	defer end()
	// The start of the painter is not of interest.
	over := time.Now().Add(time.Second)
	var used <-chan portalUse
	pixels, full := 0.0, 0.0
	var began time.Time
	for {
		ev, err := d.x.NextEvent(ctx)
		if err != nil {
			return f, err
		}
		e, ok := ev.(*xwire.DamageNotifyEvent)
		if now := time.Now(); now.After(over) {
			if used != nil {
				f.Updates = pixels / max(full, 1) / now.Sub(began).Seconds()
				f.Load = <-used
				return f, nil
			}
			began, over = now, now.Add(time.Duration(seconds*float64(time.Second)))
			c := make(chan portalUse, 1)
			go func() {
				// Without a capsule there is nothing to measure.
				use, _ := measureUse(time.Until(over))
				c <- use
			}()
			used = c
		}
		if ok && used != nil {
			area := float64(e.Area.Width) * float64(e.Area.Height)
			pixels += area
			full = max(full, area) // what of it is on the screen
		}
	}
}

// measureUse looks for a while at what shows the windows of the only capsule here.
func measureUse(d time.Duration) (portalUse, error) {
	var u portalUse
	keeper, first, err := findCapsule()
	if err != nil {
		return u, err
	}
	bridge, server := childNamed(keeper, "bridge"), childNamed(first, "Xvfb")
	if bridge == 0 {
		return u, errors.New("the capsule has no bridge")
	}
	_, u.RSS, err = setSizes(bridge)
	if err != nil {
		return u, err
	}
	inside := below(first)
	wakes := func() (outside, in int) {
		for _, pid := range inside {
			in += switches(pid)
		}
		return switches(keeper) + switches(bridge), in
	}
	b, s, began := ticks(bridge), ticks(server), time.Now()
	w, in := wakes()
	time.Sleep(d)
	took := time.Since(began).Seconds()
	w2, in2 := wakes()
	u.Bridge, u.Server = float64(ticks(bridge)-b)/took, float64(ticks(server)-s)/took // a tick is 1/100 s
	u.Wakes, u.Rest = float64(w2-w)/took, float64(in2-in)/took
	return u, nil
}

// childNamed is the child of a process that has a word in its command; 0 if none.
func childNamed(parent int, word string) int {
	for _, pid := range children(parent) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if slices.ContainsFunc(strings.Split(string(text), "\x00"), func(w string) bool { return filepath.Base(w) == word }) {
			return pid
		}
	}
	return 0
}

func children(parent int) []int {
	var pids []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, l := range lists {
		text, _ := os.ReadFile(l)
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// below is a process and all that come from it.
func below(pid int) []int {
	all := []int{pid}
	for _, c := range children(pid) {
		all = append(all, below(c)...)
	}
	return all
}

// ticks is the CPU time that a process has used, in 1/100 s.
func ticks(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// workPaint paints a window of 1280x800 as a whole, so often in a second, or (0) as
// fast as the X server takes it: paint RATE.
func workPaint(args []string) error {
	rate := 0
	if len(args) > 0 {
		var err error
		if rate, err = strconv.Atoi(args[0]); err != nil {
			return err
		}
	}
	x, err := openDesktop()
	if err != nil {
		return err
	}
	defer x.Close()
	const width, height = 1280, 800
	w := xwire.NewID[xwire.Window](x)
	x.CreateWindow(0, w, x.Root(), 0, 0, width, height, 0, xwire.WindowClassInputOutput, 0,
		xwire.WindowValues{Mask: xwire.CWEventMask, EventMask: xwire.EventMaskExposure})
	x.ChangeProperty(xwire.PropModeReplace, w, xwire.AtomWmName, xwire.AtomString, 8, []byte(paintTitle))
	x.MapWindow(w)
	gc := xwire.NewID[xwire.GContext](x)
	x.CreateGC(gc, xwire.Drawable(w), xwire.GCValues{})
	ctx, cancel := context.WithTimeout(context.Background(), desktopWait)
	defer cancel()
	for {
		ev, err := x.NextEvent(ctx)
		if err != nil {
			return err
		}
		if _, ok := ev.(*xwire.ExposeEvent); ok {
			break
		}
	}
	next := time.Now()
	for i := uint32(0); ; i++ {
		x.ChangeGC(gc, xwire.GCValues{Mask: xwire.GCForeground, Foreground: i * 0x10204 & 0xffffff})
		x.PolyFillRectangle(xwire.Drawable(w), gc, []xwire.Rectangle{{Width: width, Height: height}})
		if err := x.Sync(); err != nil {
			return err
		}
		if _, err := x.TakeEvents(); err != nil {
			return err
		}
		if rate > 0 {
			next = next.Add(time.Second / time.Duration(rate))
			doze(time.Until(next))
		}
	}
}
