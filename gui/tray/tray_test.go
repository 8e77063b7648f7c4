package tray

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/gui/integration"
	"hither/gui/model"
	"hither/gui/testbus"
	"hither/gui/tray/panel"
)

const patience = 20 * time.Second

func newPanel(t *testing.T, host bool) *panel.Panel {
	t.Helper()
	conn, err := integration.SessionBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p, err := panel.Open(conn, host)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func open(t *testing.T, o Options) *Tray {
	t.Helper()
	tr, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// acts notes what was done.
type acts struct {
	mu   sync.Mutex
	done []string
	told chan struct{}
}

func (a *acts) note(format string, args ...any) {
	a.mu.Lock()
	a.done = append(a.done, fmt.Sprintf(format, args...))
	a.mu.Unlock()
	select {
	case a.told <- struct{}{}:
	default:
	}
}

func (a *acts) last(t *testing.T) string {
	t.Helper()
	select {
	case <-a.told:
	case <-time.After(patience):
		t.Fatal("nothing was done")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done[len(a.done)-1]
}

func newActs() *acts                               { return &acts{told: make(chan struct{}, 1)} }
func (a *acts) Open()                              { a.note("open") }
func (a *acts) Pair()                              { a.note("pair") }
func (a *acts) Start()                             { a.note("start") }
func (a *acts) Quit()                              { a.note("quit") }
func (a *acts) StartDaemon()                       { a.note("start daemon") }
func (a *acts) Refresh()                           { a.note("refresh") }
func (a *acts) Send(app control.App, peer string)  { a.note("send %s %s", app.ID, peer) }
func (a *acts) Bring(app control.App, peer string) { a.note("bring %s %s", app.ID, peer) }
func (a *acts) Cancel(move int)                    { a.note("cancel %d", move) }
func (a *acts) Answer(question, answer string)     { a.note("answer %s %s", question, answer) }
func (a *acts) Compare(pairing string, match bool) { a.note("compare %s %v", pairing, match) }

func machine(id, name, state string, apps ...control.App) model.Machine {
	return model.Machine{Peer: control.Peer{ID: id, Name: name, Paired: true, State: state}, Apps: apps}
}

func app(id, name string) control.App { return control.App{ID: id, Name: name, State: "running"} }

func upState(apps []control.App, machines ...model.Machine) model.State {
	return model.State{Link: model.Up, Loaded: map[string]bool{model.PartPeers: true, model.PartApps: true}, Apps: apps, Machines: machines}
}

// outline is a menu in a few words.
func outline(items []Item) string {
	var b strings.Builder
	var write func([]Item, string)
	write = func(items []Item, indent string) {
		for _, it := range items {
			label := it.Label
			if it.Separator {
				label = "--"
			}
			if it.Disabled {
				label = "(" + label + ")"
			}
			b.WriteString(indent + label + "\n")
			write(it.Sub, indent+"  ")
		}
	}
	write(items, "")
	return b.String()
}

func TestLook(t *testing.T) {
	busy := upState([]control.App{app("1", "mousepad"), app("2", "Gimp"), {ID: "3", Name: "clock", State: "undecided", Host: "attic"}},
		machine("A", "attic", "down"), machine("B", "bench", "up", app("7", "xterm"), control.App{ID: "8", Name: "leaving", State: "moving"}),
		model.Machine{Peer: control.Peer{ID: "S", Name: "stranger", State: "up"}})
	busy.Moves = []*model.Move{
		{ID: 4, Task: "T", App: "1", Name: "mousepad", Peer: "bench", Progress: &handover.Progress{State: handover.SourcePreCopy, Done: 42, Total: 100, Left: 12}},
		{ID: 5, App: "9", Name: "vim", Peer: "attic", Here: true, Elsewhere: true},
		{ID: 6, App: "9", Name: "old", Peer: "attic", Ended: time.Now()},
	}
	busy.Questions = []control.Question{{ID: "q", Text: "bench wants to send you vim"}}
	busy.Pairings = []control.Pairing{{ID: "p", State: control.PairingCompare, Name: "tower", Code: "123456"}, {ID: "o", State: control.PairingDone, Name: "old"}}
	for _, c := range []struct {
		name  string
		s     model.State
		state State
		menu  string
	}{
		{"nothing known yet", model.State{}, Idle, "(Looking around…)\n--\nOpen hither\nQuit\n"},
		{"no daemon", model.State{Link: model.NotRunning}, Idle, "Start the background service\n--\nOpen hither\nQuit\n"},
		{"nobody paired", upState(nil, model.Machine{Peer: control.Peer{ID: "S", Name: "stranger", State: "up"}}), Idle, "Pair a machine…\n--\nOpen hither\nQuit\n"},
		{"nothing runs", upState(nil, machine("B", "bench", "up")), Idle, `Move here
  (Nothing runs on your other machines)
Send
  (No app of yours runs in hither)
  --
  Start an app…
--
Open hither
Quit
`},
		{"all at once", busy, Attention, `bench wants to send you vim
  Yes, this time
  Yes, always
  No
  No, never
Pair with tower? Code 123 456
  The other machine shows the same code
  It shows another code
  --
  Show
clock waits for attic to be reached…
--
mousepad → bench: 42 %, 10 s left
  Show
  Cancel
vim ← attic: begins
  Show
--
Move here
  xterm @ bench
Send
  Gimp
    bench
    (attic (not reachable))
  mousepad
    bench
    (attic (not reachable))
  --
  Start an app…
--
Open hither
Quit, and cancel what moves
`},
	} {
		l := LookOf(c.s, nil, newActs())
		if got := outline(l.Menu); got != c.menu || l.State != c.state {
			t.Errorf("%s: %s\n%s\nwant %s\n%s", c.name, l.State, got, c.state, c.menu)
		}
	}
	busy.Questions, busy.Pairings, busy.Apps = nil, nil, nil
	if l := LookOf(busy, nil, newActs()); l.State != Moving || l.Text != "mousepad → bench\nvim ← attic" {
		t.Errorf("while apps move: %s, %q", l.State, l.Text)
	}
}

// TestMenuOnTheBus reads and clicks the menu as a panel does.
func TestMenuOnTheBus(t *testing.T) {
	testbus.Start(t)
	p := newPanel(t, true)
	do := newActs()
	icons := filepath.Join(t.TempDir(), "hither", "icons")
	tr := open(t, Options{Activate: do.Open, IconDir: icons})
	if !tr.Hosted() {
		t.Error("a panel is there, and the icon does not know")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	png := func(app, peer string) []byte { return []byte(app + peer) }
	s := upState([]control.App{app("1", "my_app")}, machine("B", "bench", "up", app("7", "xterm")))
	tr.Show(LookOf(s, png, do))
	icon, err := p.Wait(ctx, func(i panel.Icon) bool { _, ok := i.Find("Move here", "xterm @ bench"); return ok })
	if err != nil {
		t.Fatal(err)
	}
	if icon.Status != "Active" || icon.IconName != "hither-idle-symbolic" || icon.Title != "hither" {
		t.Errorf("the icon is %+v", icon)
	}
	if _, err := os.Stat(filepath.Join(icons, icon.IconName+".svg")); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		path []string
		does string
	}{
		{[]string{"Move here", "xterm @ bench"}, "bring 7 B"},
		{[]string{"Send", "my_app", "bench"}, "send 1 B"},
		{[]string{"Send", "Start an app…"}, "start"},
		{[]string{"Open hither"}, "open"},
		{[]string{"Quit"}, "quit"},
	} {
		l, ok := icon.Find(c.path...)
		if !ok {
			t.Fatalf("no line %q in %+v", c.path, icon.Menu)
		}
		if c.does == "bring 7 B" && l.Icon != len("7B") {
			t.Errorf("%q has an icon of %d bytes", c.path, l.Icon)
		}
		if err := p.Click(ctx, icon, l.ID); err != nil {
			t.Fatal(err)
		}
		if got := do.last(t); got != c.does {
			t.Errorf("a click on %q did %q, not %q", c.path, got, c.does)
		}
	}
	if err := p.Activate(ctx, icon); err != nil {
		t.Fatal(err)
	}
	if got := do.last(t); got != "open" {
		t.Errorf("a click on the icon did %q", got)
	}
	if err := p.Open(ctx, icon, 0); err != nil {
		t.Fatal(err)
	}
	if got := do.last(t); got != "refresh" {
		t.Errorf("the opening of the menu did %q", got)
	}
	if err := p.Click(ctx, icon, 12345); err == nil {
		t.Error("a click on a line that is not there is no error")
	}
}

// TestNothingFlickers: a change of a label is told as that, a line keeps its number, and nothing is told
// when nothing has changed.
func TestNothingFlickers(t *testing.T) {
	testbus.Start(t)
	p := newPanel(t, true)
	do := newActs()
	tr := open(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := upState([]control.App{app("1", "pad")}, machine("B", "bench", "up", app("7", "xterm")))
	at := func(done uint64) *model.Move {
		return &model.Move{ID: 4, Task: "T", App: "1", Name: "pad", Peer: "bench", Progress: &handover.Progress{State: handover.SourcePreCopy, Done: done, Total: 1000, Left: -1}}
	}
	s.Moves = []*model.Move{at(10)}
	show := func() { tr.Show(LookOf(s, nil, do)) }
	wait := func(path ...string) (panel.Icon, panel.Line) {
		t.Helper()
		i, err := p.Wait(ctx, func(i panel.Icon) bool { _, ok := i.Find(path...); return ok })
		if err != nil {
			t.Fatal(err)
		}
		l, _ := i.Find(path...)
		return i, l
	}
	show()
	icon, first := wait("pad → bench: 1 %")
	_, xterm := wait("Move here", "xterm @ bench")
	layouts, tips := p.Signals("LayoutUpdated"), p.Signals("NewToolTip")
	if icon.IconName != "" || icon.Status != "Active" {
		t.Errorf("the icon is %+v", icon)
	}

	s.Moves = []*model.Move{at(500)}
	show()
	_, second := wait("pad → bench: 50 %")
	if first.ID != second.ID {
		t.Errorf("the line of the move was %d and is %d", first.ID, second.ID)
	}
	if n := p.Signals("LayoutUpdated"); n != layouts {
		t.Errorf("a change of a label was told as a new layout, %d times", n-layouts)
	}
	if n := p.Signals("NewToolTip"); n != tips {
		t.Errorf("the tooltip changed %d times", n-tips)
	}

	// Nothing has changed; what comes after it is heard after it.
	props := p.Signals("ItemsPropertiesUpdated")
	for range 5 {
		show()
	}
	s.Moves = []*model.Move{at(600)}
	show()
	wait("pad → bench: 60 %")
	if n := p.Signals("ItemsPropertiesUpdated"); n != props+1 {
		t.Errorf("one change was told %d times", n-props)
	}

	// The move ends: lines come and go, the others stay what they are.
	s.Moves = nil
	s.Machines = []model.Machine{machine("B", "bench", "up", app("7", "xterm"), app("1", "pad"))}
	show()
	icon, _ = wait("Move here", "pad @ bench")
	if l, ok := icon.Find("Move here", "xterm @ bench"); !ok || l.ID != xterm.ID {
		t.Errorf("xterm's line was %d and is %d", xterm.ID, l.ID)
	}
	if n := p.Signals("LayoutUpdated"); n != layouts+1 {
		t.Errorf("one change of the layout was told %d times", n-layouts)
	}
	if err := p.Click(ctx, icon, second.ID); err == nil {
		t.Error("a click on a line that has gone is no error")
	}
}

// TestHosted: whether there is anybody who shows icons, from the beginning and when it changes.
func TestHosted(t *testing.T) {
	testbus.Start(t)
	told := make(chan bool, 8)
	tr := open(t, Options{OnHosted: func(h bool) { told <- h }})
	if tr.Hosted() {
		t.Fatal("there is no panel, and the icon says there is one")
	}
	wait := func(want bool) {
		t.Helper()
		select {
		case got := <-told:
			if got != want || tr.Hosted() != want {
				t.Fatalf("told %v, not %v", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("not told that it is %v now", want)
		}
	}
	for range 2 { // a panel is started late, and once more
		p := newPanel(t, true)
		wait(true)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		wait(false)
	}
	newPanel(t, false) // a watcher that nobody looks at
	select {
	case got := <-told:
		t.Fatalf("told %v when a watcher without a host came", got)
	case <-time.After(50 * time.Millisecond):
	}
}

// TestNoBus: without a session bus there is no tray, and none is started.
func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if tr, err := Open(t.Context(), Options{}); err == nil {
		tr.Close()
		t.Fatal("a tray without a bus")
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if tr, err := Open(t.Context(), Options{}); err == nil {
		tr.Close()
		t.Fatal("a tray on a bus that is not there")
	}
}

func TestPixmaps(t *testing.T) {
	idle, moving, attention := pixmaps(Idle), pixmaps(Moving), pixmaps(Attention)
	if len(idle) != 4 || len(moving) != 4 || len(attention) != 4 {
		t.Fatalf("%d, %d, %d pictures", len(idle), len(moving), len(attention))
	}
	for i, p := range idle {
		if int(p.W*p.H)*4 != len(p.Data) {
			t.Errorf("%dx%d with %d bytes", p.W, p.H, len(p.Data))
		}
		if bytes.Equal(p.Data, moving[i].Data) || bytes.Equal(p.Data, attention[i].Data) || bytes.Equal(moving[i].Data, attention[i].Data) {
			t.Errorf("at %dx%d two states look alike", p.W, p.H)
		}
	}
}

// TestUpdater: what comes in a storm is shown a few times, the last of it always.
func TestUpdater(t *testing.T) {
	testbus.Start(t)
	p := newPanel(t, true)
	tr := open(t, Options{})
	var mu sync.Mutex
	n := 0
	u := NewUpdater()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go u.Run(ctx, tr, func() Look {
		mu.Lock()
		defer mu.Unlock()
		return Look{State: Idle, Title: "hither", Menu: []Item{{Key: "n", Label: fmt.Sprint(n)}}}
	})
	for i := range 1000 {
		mu.Lock()
		n = i + 1
		mu.Unlock()
		u.Changed()
	}
	if _, err := p.Wait(ctx, func(i panel.Icon) bool { _, ok := i.Find("1000"); return ok }); err != nil {
		t.Fatal(err)
	}
	if n := p.Signals("ItemsPropertiesUpdated") + p.Signals("LayoutUpdated"); n > 10 {
		t.Errorf("1000 changes were told %d times", n)
	}
}
