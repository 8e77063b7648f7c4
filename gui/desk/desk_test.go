package desk

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hither/gui/integration"
	"hither/gui/model"
	"hither/gui/testbus"
	"hither/gui/tray/panel"
)

const waitTime = 20 * time.Second

// window notes what it is told.
type window struct{ told chan string }

func (w window) Show()        { w.told <- "show" }
func (w window) Hide()        { w.told <- "hide" }
func (w window) OpenPairing() { w.told <- "pairing" }
func (w window) OpenStart()   { w.told <- "start" }

func (w window) next(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-w.told:
		if got != want {
			t.Fatalf("the window was told to %s, not to %s", got, want)
		}
	case <-time.After(waitTime):
		t.Fatalf("the window was not told to %s", want)
	}
}

// rig is a Desk on a session bus of its own, without a daemon.
type rig struct {
	*Desk
	win  window
	quit chan bool
}

func newRig(t *testing.T, o Options) *rig {
	t.Helper()
	r := &rig{win: window{make(chan string, 16)}, quit: make(chan bool, 1)}
	o.Quit = func() { r.quit <- true }
	m := model.New(func(context.Context, bool) (model.Daemon, error) { return nil, nil }, model.DefaultPulse, func() {})
	r.Desk = New(r.win, m, o)
	m.Watch(r.Changed)
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { stop(); work.Wait() })
	return r
}

func desktop(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	t.Setenv("XDG_RUNTIME_DIR", dir)
	testbus.Start(t)
}

func newPanel(t *testing.T) *panel.Panel {
	t.Helper()
	conn, err := integration.SessionBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p, err := panel.Open(conn, true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *rig) notices() string {
	var all []string
	for _, n := range r.model.State().Notices {
		all = append(all, n.Text)
	}
	return strings.Join(all, "; ")
}

// TestInTheTray: where a panel shows the icon, the cross hides the window, and the icon, a second start and the
// menu bring it back; the panel's end does so too.
func TestInTheTray(t *testing.T) {
	desktop(t)
	p := newPanel(t)
	r := newRig(t, Options{Patience: time.Hour})
	r.win.next(t, "show")
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	icon, err := p.Wait(ctx, func(i panel.Icon) bool { _, ok := i.Find("Open hither"); return ok })
	if err != nil {
		t.Fatal(err)
	}
	for _, back := range []func(){
		func() {
			if err := p.Activate(ctx, icon); err != nil {
				t.Error(err)
			}
		},
		func() { r.Wished(integration.Wish{Show: true}) },
		func() {
			l, _ := icon.Find("Open hither")
			if err := p.Click(ctx, icon, l.ID); err != nil {
				t.Error(err)
			}
		},
	} {
		r.Desk.Close()
		r.win.next(t, "hide")
		r.Wished(integration.Wish{}) // a second start of one that wants the tray only
		back()
		r.win.next(t, "show")
	}
	l, _ := icon.Find("Quit")
	if err := p.Click(ctx, icon, l.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.quit:
	case <-ctx.Done():
		t.Fatal("Quit does not end it")
	}
	if n := r.notices(); n != "" {
		t.Errorf("it says %q", n)
	}
}

// TestNoTray: where nobody shows icons, the window comes though only the tray was wanted, the person is told why,
// once in his life, and the cross ends the program.
func TestNoTray(t *testing.T) {
	desktop(t)
	for i, want := range []string{"Your desktop shows no tray icons, so hither is in this window only", ""} {
		r := newRig(t, Options{Background: true, Patience: 50 * time.Millisecond})
		r.win.next(t, "show")
		deadline := time.Now().Add(waitTime)
		for want != "" && r.notices() == "" && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if got := r.notices(); got != want {
			t.Errorf("start %d says %q", i, got)
		}
		r.Desk.Close()
		select {
		case <-r.quit:
		case <-time.After(waitTime):
			t.Fatal("the cross neither hides the window nor ends the program")
		}
	}
}

// TestTrayComesAndGoes: a panel that starts late is in time; when it ends, a hidden window comes.
func TestTrayComesAndGoes(t *testing.T) {
	desktop(t)
	r := newRig(t, Options{Background: true, Patience: 500 * time.Millisecond})
	p := newPanel(t)
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	defer cancel()
	if _, err := p.Wait(ctx, func(panel.Icon) bool { return true }); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-r.win.told:
		t.Fatalf("the window was told to %s, though there is a tray", got)
	case <-time.After(time.Second): // longer than its patience
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	r.win.next(t, "show")
}

// TestCloseInMidMove: without a tray, the cross says first that it cancels what moves.
func TestCloseInMidMove(t *testing.T) {
	s := model.State{Moves: []*model.Move{{ID: 1, Elsewhere: true}, {ID: 2, Ended: time.Now()}}}
	if own(s) {
		t.Error("moves of others and those that have ended do not end with this program")
	}
	s.Moves = append(s.Moves, &model.Move{ID: 3})
	if !own(s) {
		t.Error("a move of its own is not known")
	}
}
