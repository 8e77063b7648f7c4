package gui

import (
	"context"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"hither/engine/control"
	"hither/gui/model"
	"hither/gui/model/fake"
)

// rig is a window on a fake daemon. The test's goroutine is the main one: what the window wants done
// on it is done while the test waits.
type rig struct {
	t     *testing.T
	w     *Window
	d     *fake.Daemon
	queue chan func()
}

var testPulse = model.Pulse{Seen: 20 * time.Millisecond, Unseen: time.Hour, Redial: 5 * time.Millisecond, Keep: time.Hour}

// newRig opens a window on a daemon that was prepared, and waits until it shows it.
func newRig(t *testing.T, prepare func(*fake.Daemon)) *rig {
	t.Helper()
	d := fake.New()
	if prepare != nil {
		prepare(d)
	}
	r := newRigOn(t, d.Dial())
	r.d = d
	r.until("the window is alive", func() bool {
		s := &r.w.state
		for id, apps := range d.Remote {
			if m := s.Machine(id); m == nil || len(m.Apps) != len(apps) {
				return false
			}
		}
		return s.Link == model.Up && s.Loaded[model.PartApps] && s.Loaded[model.PartPeers] && s.Loaded[model.PartOutside] && s.Loaded[model.PartSettings] && s.Loaded[model.PartPeerApps] && s.Loaded[model.PartPairings] && s.Loaded[model.PartQuestions]
	})
	return r
}

func newRigOn(t *testing.T, dial model.Dial) *rig {
	app := test.NewTempApp(t)
	r := &rig{t: t, queue: make(chan func(), 4096)}
	r.w = newWindow(app, dial, testPulse, func(f func()) { r.queue <- f })
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.w.Model.Run(ctx, true) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return r
}

// until does what the window wants done, until something holds.
func (r *rig) until(what string, holds func() bool) {
	r.t.Helper()
	patience := time.After(30 * time.Second)
	for !holds() {
		select {
		case f := <-r.queue:
			f()
		case <-patience:
			r.t.Fatalf("waiting in vain: %s; the daemon was asked %q", what, r.calls())
		}
	}
}

func (r *rig) calls() []string {
	if r.d == nil {
		return nil
	}
	return r.d.Calls()
}

// called waits until the daemon was asked something.
func (r *rig) called(what string) {
	r.t.Helper()
	patience := time.After(30 * time.Second)
	for !slices.Contains(r.d.Calls(), what) {
		select {
		case f := <-r.queue:
			f()
		case <-r.d.Called():
		case <-patience:
			r.t.Fatalf("the daemon was not asked %q but %q", what, r.d.Calls())
		}
	}
}

// begun waits for a move.
func (r *rig) begun() *fake.Move {
	r.t.Helper()
	patience := time.After(30 * time.Second)
	for {
		select {
		case f := <-r.queue:
			f()
		case m := <-r.d.Begun():
			return m
		case <-patience:
			r.t.Fatalf("no move began; the daemon was asked %q", r.d.Calls())
		}
	}
}

func (r *rig) card(id string) *appCard {
	r.t.Helper()
	c := r.w.here.cards[id]
	if c == nil {
		r.t.Fatalf("no card of %s", id)
	}
	return c
}

// at is the middle of something, in the window.
func (r *rig) at(o fyne.CanvasObject) fyne.Position {
	p := fyne.CurrentApp().Driver().AbsolutePositionForObject(o)
	return p.AddXY(o.Size().Width/2, o.Size().Height/2)
}

// drag moves something that can be dragged from its middle onto the middle of something else, and
// does not let go.
func (r *rig) drag(o fyne.CanvasObject, to fyne.CanvasObject) {
	from, end := r.at(o), r.at(to)
	for i := range 10 {
		p := fyne.NewPos(from.X+(end.X-from.X)*float32(i+1)/10, from.Y+(end.Y-from.Y)*float32(i+1)/10)
		o.(fyne.Draggable).Dragged(&fyne.DragEvent{PointEvent: fyne.PointEvent{AbsolutePosition: p}, Dragged: fyne.NewDelta((end.X-from.X)/10, (end.Y-from.Y)/10)})
	}
}

// top is the upper sheet.
func (r *rig) top() *sheet {
	r.t.Helper()
	if len(r.w.sheets) == 0 {
		r.t.Fatal("no sheet is open")
	}
	return r.w.sheets[len(r.w.sheets)-1]
}

// press presses the button of this name in the upper overlay or the window.
func (r *rig) press(label string) {
	r.t.Helper()
	var root fyne.CanvasObject = r.w.win.Content()
	if top := r.w.win.Canvas().Overlays().Top(); top != nil {
		root = top
	}
	for _, o := range test.LaidOutObjects(root) {
		switch b := o.(type) {
		case *button:
			if b.Text == label && b.Visible() && !b.Disabled() {
				test.Tap(b)
				return
			}
		case *press:
			if b.label != nil && b.label.said == label && b.Visible() {
				test.Tap(b)
				return
			}
		}
	}
	r.t.Fatalf("no button %q", label)
}

// says finds a text in the upper overlay or the window.
func (r *rig) says(said string) bool {
	var root fyne.CanvasObject = r.w.win.Content()
	if top := r.w.win.Canvas().Overlays().Top(); top != nil {
		root = top
	}
	return slices.Contains(texts(root), said)
}

// texts are all texts that can be seen.
func texts(root fyne.CanvasObject) []string {
	var list []string
	for _, o := range test.LaidOutObjects(root) {
		if t, ok := o.(*text); ok && t.Visible() {
			list = append(list, t.said)
		}
	}
	return list
}

// key presses a key where the focus is.
func (r *rig) key(name fyne.KeyName) {
	ev := &fyne.KeyEvent{Name: name}
	if f := r.w.win.Canvas().Focused(); f != nil {
		f.TypedKey(ev)
		return
	}
	if f := r.w.win.Canvas().OnTypedKey(); f != nil {
		f(ev)
	}
}

// shot takes a picture if somebody wants to look: HITHER_GUI_PICTURES=FOLDER go test -run Look
func (r *rig) shot(name string) {
	dir := os.Getenv("HITHER_GUI_PICTURES")
	if dir == "" {
		return
	}
	f, err := os.Create(filepath.Join(dir, name+".png"))
	if err == nil {
		err = png.Encode(f, r.w.win.Canvas().Capture())
		f.Close()
	}
	if err != nil {
		r.t.Error(err)
	}
}

// Hosts and apps that tests have.
func laptop() control.Peer {
	return control.Peer{ID: "laptopid", Name: "laptop", Paired: true, State: "up", RTT: 3.2, Addresses: []string{"192.168.1.20:44843"},
		Abilities:   &control.Abilities{OS: "linux", Arch: "amd64", CPUs: 8, Load: 0.4, Memory: 16 << 30, MemoryFree: 9 << 30, Display: true},
		Permissions: map[string]string{control.PermitSend: control.Allow, control.PermitBring: control.Ask, control.PermitWatch: control.Allow}}
}

func app(id, name, title string) control.App {
	return control.App{ID: id, Name: name, Title: title, State: "running", Memory: 78 << 20, Since: time.Now().Add(-12 * time.Minute), Windows: 1}
}

func usual(d *fake.Daemon) {
	d.Apps = []control.App{app("pad", "mousepad", "Untitled 1 - Mousepad"), app("calc", "gnome-calculator", "Calculator")}
	d.Peers = []control.Peer{laptop(), {ID: "strang", Name: "stranger", State: "up", Addresses: []string{"192.168.1.33:44843"}},
		{ID: "atticid", Name: "attic", Paired: true, State: "down", Reason: "it does not answer", LastSeen: time.Now().Add(-3 * time.Hour)}}
	d.Remote = map[string][]control.App{"laptopid": {app("far", "gimp", "photo.xcf - GIMP")}}
	for i := range 14 {
		name := []string{"Mousepad", "Calculator", "Firefox", "GIMP Image Editor", "LibreOffice Writer", "Terminal", "Files"}[i%7]
		d.Menu = append(d.Menu, control.InstalledApp{ID: fmt.Sprintf("%s%d", name, i), Name: name, Sandboxed: name == "Firefox"})
	}
}
