package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/gui/model"
	"hither/gui/testbus"
)

const patience = 20 * time.Second

// home gives the test folders of its own.
func home(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("WAYLAND_DISPLAY", "")
	t.Setenv("DISPLAY", ":77")
}

func TestSingle(t *testing.T) {
	home(t)
	wishes := make(chan Wish, 64)
	first, err := Single(t.Context(), Wish{Show: true}, func(w Wish) { wishes <- w })
	if err != nil || first == nil {
		t.Fatal(first, err)
	}
	for _, w := range []Wish{{Show: true}, {Show: false}} {
		second, err := Single(t.Context(), w, func(Wish) { t.Error("the second was wished something") })
		if err != nil || second != nil {
			t.Fatalf("a second one beside the first: %v, %v", second, err)
		}
		if got := <-wishes; got != w {
			t.Errorf("wished %+v, the first heard %+v", w, got)
		}
	}
	// Another desktop of the same user has one of its own.
	t.Setenv("DISPLAY", "host.example:1.0/../x")
	other, err := Single(t.Context(), Wish{Show: true}, func(Wish) {})
	if err != nil || other == nil {
		t.Fatal(other, err)
	}
	other.Close()
	t.Setenv("DISPLAY", ":77")
	// When the first is gone, its socket lies there still.
	first.Close()
	third, err := Single(t.Context(), Wish{Show: true}, func(Wish) {})
	if err != nil || third == nil {
		t.Fatal(third, err)
	}
	third.Close()
}

// TestSingleAtOnce: of many that start at once one is the one, and hears of all others.
func TestSingleAtOnce(t *testing.T) {
	home(t)
	const n = 12
	var mu sync.Mutex
	heard := 0
	var ones []*Instance
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			i, err := Single(t.Context(), Wish{Show: true}, func(Wish) { mu.Lock(); heard++; mu.Unlock() })
			if err != nil {
				t.Error(err)
			}
			if i != nil {
				mu.Lock()
				ones = append(ones, i)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for _, i := range ones {
		i.Close()
	}
	if len(ones) != 1 || heard != n-1 {
		t.Errorf("%d of %d are the one, which heard of %d", len(ones), n, heard)
	}
}

func validate(t *testing.T, file string) {
	t.Helper()
	program, err := exec.LookPath("desktop-file-validate")
	if err != nil {
		t.Log("desktop-file-validate is not installed: the file is not validated")
		return
	}
	if out, err := exec.Command(program, file).CombinedOutput(); err != nil || strings.Contains(string(out), "error") {
		t.Errorf("%s: %v\n%s", file, err, out)
	}
}

func TestAutostart(t *testing.T) {
	home(t)
	is := func(want bool) {
		t.Helper()
		if got, err := Autostart(); err != nil || got != want {
			t.Errorf("started with the session: %v, %v; want %v", got, err, want)
		}
	}
	set := func(on bool) {
		t.Helper()
		if err := SetAutostart(on); err != nil {
			t.Fatal(err)
		}
		is(on)
	}
	is(false)
	set(false)
	set(true)
	file, _ := autostartFile()
	validate(t, file)
	set(true)
	// The desktop's settings switch it off, and hither on again.
	b, _ := os.ReadFile(file)
	if err := os.WriteFile(file, append(b, "Hidden=true\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	is(false)
	set(true)
	set(false)
	if left, _ := filepath.Glob(filepath.Dir(file) + "/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// A file of that name that is not ours stays.
	const theirs = "[Desktop Entry]\nType=Application\nName=mine\nExec=mine\n"
	if err := os.WriteFile(file, []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, on := range []bool{true, false} {
		if err := SetAutostart(on); err == nil {
			t.Errorf("SetAutostart(%v) took somebody else's file", on)
		}
	}
	if b, _ := os.ReadFile(file); string(b) != theirs {
		t.Errorf("somebody else's file is now %q", b)
	}
}

func TestDesktopFile(t *testing.T) { validate(t, "../../assets/hither-gui.desktop") }

// service stands in for the desktop's notifications.
type service struct {
	mu   sync.Mutex
	last uint32
	got  []string
}

func (s *service) Notify(app string, replaces uint32, icon, title, text string, actions []string, hints map[string]dbus.Variant, expire int32) (uint32, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if replaces == 0 {
		s.last++
		replaces = s.last
	}
	s.got = append(s.got, fmt.Sprintf("%d %s|%s|%d", replaces, title, text, expire))
	return replaces, nil
}

func TestNotifier(t *testing.T) {
	testbus.Start(t)
	desk, err := SessionBus()
	if err != nil {
		t.Fatal(err)
	}
	defer desk.Close()
	s := &service{}
	if err := desk.Export(s, notifyPath, notifyName); err != nil {
		t.Fatal(err)
	}
	if _, err := desk.RequestName(notifyName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	clicked := make(chan bool, 8)
	n, err := NewNotifier("hither", func() { clicked <- true })
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, note := range []Note{{Key: "1", Title: "A", Text: "a < b"}, {Key: "2", Title: "B", Asks: true}, {Key: "1", Title: "C"}} {
		if err := n.Show(t.Context(), note); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got, want := strings.Join(s.got, "; "), "1 A|a &lt; b|-1; 2 B||0; 1 C||-1"; got != want {
		t.Errorf("shown: %s; want %s", got, want)
	}
	// A click on somebody else's note, and on ours.
	for _, id := range []uint32{99, 2} {
		if err := desk.Emit(notifyPath, notifyName+".ActionInvoked", id, "default"); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-clicked:
	case <-time.After(patience):
		t.Fatal("a click was not heard")
	}
	if len(clicked) > 0 {
		t.Error("a click on somebody else's note was heard")
	}
}

func TestNotifierWithoutDesktop(t *testing.T) {
	testbus.Start(t)
	n, err := NewNotifier("hither", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Show(t.Context(), Note{Title: "A"}); err == nil {
		t.Error("nobody shows notifications, and that is no error")
	}
}

func TestNotes(t *testing.T) {
	run := func(m model.Move) *model.Move { return &m }
	end := func(m model.Move) *model.Move { m.Ended = time.Now(); return &m }
	moved := &handover.Result{Outcome: handover.Moved, DowntimeMS: 340}
	for _, c := range []struct {
		name string
		m    model.Move
		want string
	}{
		{"sent", model.Move{Result: moved}, "pad is on b: It stood still for 0.3 s."},
		{"sent by a command", model.Move{Result: moved, Elsewhere: true}, ""},
		{"brought", model.Move{Result: moved, Here: true}, "pad is here: It came from b."},
		{"came", model.Move{Result: moved, Here: true, Elsewhere: true}, "pad is here: It came from b."},
		{"refused", model.Move{Result: &handover.Result{Outcome: handover.Stayed, Reason: "r", Problems: []handover.Problem{{What: "it holds a camera"}}}}, "pad was not moved: it holds a camera"},
		{"failed", model.Move{Result: &handover.Result{Outcome: handover.Stayed, Reason: "the link broke"}}, "pad was not moved: the link broke"},
		{"cancelled", model.Move{Cancelling: true, Result: &handover.Result{Outcome: handover.Stayed, Reason: "cancelled"}}, ""},
		{"undecided", model.Move{Result: &handover.Result{Outcome: handover.Undecided}}, "pad waits: b was lost at the last moment. It is settled as soon as both machines meet."},
		{"not asked", model.Move{Error: &control.Error{Text: "no daemon"}}, "pad was not moved: no daemon"},
		{"lost", model.Move{Error: errors.New("lost")}, "pad was not moved: lost"},
	} {
		c.m.ID, c.m.Name, c.m.Peer = 1, "pad", "b"
		before := model.State{Moves: []*model.Move{run(c.m)}}
		after := model.State{Moves: []*model.Move{end(c.m)}}
		got := ""
		for _, n := range Notes(before, after) {
			got += n.Title + ": " + n.Text
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if n := len(Notes(after, after)) + len(Notes(model.State{}, after)); n > 0 {
			t.Errorf("%s: told again", c.name)
		}
	}
}
