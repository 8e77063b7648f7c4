package gui

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/test"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/gui/model"
	"hither/gui/model/fake"
)

func TestNotRunningAndBack(t *testing.T) {
	d := fake.New()
	usual(d)
	var there atomic.Bool
	var starts atomic.Int32
	r := newRigOn(t, func(_ context.Context, start bool) (model.Daemon, error) {
		if start {
			if starts.Add(1) == 1 {
				return nil, &control.Error{Text: "starting the daemon: it ended at once"}
			}
			there.Store(true)
		}
		if !there.Load() {
			return nil, nil
		}
		return d, nil
	})
	r.d = d
	r.until("it says that hither does not run, and why", func() bool {
		return r.w.away.all.Visible() && r.w.away.head.said == "hither is not running" && r.w.away.why.said == "starting the daemon: it ended at once" && !r.w.body.Visible()
	})
	r.shot("away")
	r.press("Start it")
	r.until("it is alive", func() bool { return r.w.body.Visible() && len(r.w.here.shown) == 2 })
	there.Store(false)
	d.Lose()
	r.until("it says so when it is lost", func() bool { return r.w.away.all.Visible() && r.w.away.button.Visible() })
	there.Store(true)
	r.until("it comes back by itself", func() bool { return r.w.body.Visible() })
}

func TestCardsKeepTheirPlaces(t *testing.T) {
	r := newRig(t, usual)
	first := r.w.here.shown[0]
	r.d.With("apps", func(d *fake.Daemon) {
		young := app("new", "xterm", "new")
		young.Since = time.Now()
		d.Apps = append([]control.App{young}, d.Apps...)
		d.Apps[1].Title = "Another title"
	})
	r.until("the new one is the last", func() bool { return len(r.w.here.shown) == 3 && r.w.here.shown[2].app.ID == "new" })
	if r.w.here.shown[0] != first || first.title.said != "Another title" && r.w.here.shown[1].title.said != "Another title" {
		t.Error("a card was made anew, or has not its new title")
	}
}

func TestBadgeSaysWhyNot(t *testing.T) {
	r := newRig(t, func(d *fake.Daemon) {
		usual(d)
		d.Apps[0].Problems = []handover.Problem{{What: "a device: /dev/dri/card0", Cure: "Close what uses it."}}
	})
	c := r.card("pad")
	if c.badge.label.said != "Can't move now" || !c.why.Visible() || c.send.Visible() {
		t.Errorf("the badge says %q", c.badge.label.said)
	}
	c.why.Tapped(nil)
	if !r.says("a device: /dev/dri/card0") || !r.says("Close what uses it.") {
		t.Error("the reason is not told")
	}
}

func TestSearch(t *testing.T) {
	r := newRig(t, usual)
	r.w.win.Canvas().Focus(r.card("pad"))
	// What is typed on a card is searched for.
	for _, c := range "calc" {
		if f := r.w.win.Canvas().Focused(); f != nil {
			f.TypedRune(c)
		}
	}
	if r.w.header.search.Text != "calc" || len(r.w.here.shown) != 1 || r.w.here.shown[0].app.ID != "calc" {
		t.Fatalf("%q shows %d cards", r.w.header.search.Text, len(r.w.here.shown))
	}
	r.w.header.search.SetText("nothing of the kind")
	if !r.says("Nothing here is called “nothing of the kind”") {
		t.Error("it does not say that nothing was found")
	}
	r.key(fyne.KeyEscape)
	if r.w.search != "" || len(r.w.here.shown) != 2 {
		t.Error("Escape does not show all again")
	}
}

func TestKeyboardMovesAnApp(t *testing.T) {
	r := newRig(t, usual)
	r.w.win.Canvas().Focus(r.card("pad"))
	r.key(fyne.KeyRight)
	if f := r.w.win.Canvas().Focused(); f != r.card("calc") {
		t.Fatalf("Right goes to %T", f)
	}
	r.key(fyne.KeyRight)
	if f := r.w.win.Canvas().Focused(); f == nil || f == r.card("calc") {
		t.Fatalf("a second Right stays at %T", f)
	}
	r.w.win.Canvas().Focus(r.card("calc"))
	r.w.shortcut(&desktop.CustomShortcut{KeyName: fyne.KeyM, Modifier: fyne.KeyModifierControl})
	r.until("the laptop can take it", func() bool {
		for _, said := range texts(r.top().popup.Content) {
			if strings.HasPrefix(said, "Can take it") {
				return true
			}
		}
		return false
	})
	r.key(fyne.KeyReturn) // the first machine that may be able has the focus
	if m := r.begun(); m.App != "calc" || m.Peer != "laptopid" {
		t.Fatalf("another move: %+v", m)
	}
}

func TestMenuOfACard(t *testing.T) {
	r := newRig(t, usual)
	menu := r.w.appMenu(r.card("pad").app)
	var labels []string
	for _, i := range menu.Items {
		if !i.IsSeparator {
			labels = append(labels, i.Label)
		}
	}
	if got := strings.Join(labels, ", "); got != "Show its window, Move to…, Files it took along…, Stop it…" {
		t.Error(got)
	}
	test.TapSecondary(r.card("pad"))
	if r.w.win.Canvas().Overlays().Top() == nil {
		t.Error("no menu")
	}
}

func TestTerminalOpens(t *testing.T) {
	r := newRig(t, func(d *fake.Daemon) {
		usual(d)
		d.Apps[0].Terminal, d.Apps[1].Terminal, d.Apps[0].Windows = true, true, 0
	})
	var ran []string
	r.w.spawn = func(argv []string) error { ran = argv; return nil }
	t.Setenv("PATH", makeProgram(t, "hither"))
	r.card("calc").DoubleTapped(nil)
	r.called("raise calc")
	r.card("pad").DoubleTapped(nil)
	if len(ran) != 3 || ran[1] != "attach" || ran[2] != "pad" {
		t.Errorf("%q", ran)
	}
}

func TestStartAnApp(t *testing.T) {
	r := newRig(t, usual)
	r.w.openStart()
	r.until("the menu is there", func() bool { return r.says("Calculator") })
	search := r.w.win.Canvas().Focused().(*field)
	search.SetText("calcu")
	search.OnSubmitted("")
	r.called("start Calculator1")
	// A browser asks for a choice that can be seen, and starting it is not the one that Enter takes.
	r.w.openStart()
	r.until("the menu is there", func() bool { return r.says("Firefox") })
	search = r.w.win.Canvas().Focused().(*field)
	search.SetText("firef")
	search.OnSubmitted("")
	if b, ok := r.w.win.Canvas().Focused().(*button); !ok || b.Text != "Don't start it" {
		t.Error("the focus is not on the safe choice")
	}
	r.press("Start it without its sandbox")
	r.called("start Firefox2 unsandboxed")
}

func TestOutside(t *testing.T) {
	r := newRig(t, func(d *fake.Daemon) {
		usual(d)
		d.OutsideOf = []control.OutsideApp{{Pid: 42, Name: "Firefox", Title: "News", Restart: true}, {Pid: 43, Name: "Shell", Why: "it is the desktop itself"}}
	})
	if !r.says("Running outside of hither") || !r.says("it is the desktop itself") {
		t.Error("they are not shown")
	}
	r.press("Restart it in hither")
	r.press("Restart it")
	r.called("restart 42")
}

func TestUndecided(t *testing.T) {
	r := newRig(t, func(d *fake.Daemon) {
		usual(d)
		d.Apps[0].State, d.Apps[0].Host, d.Apps[0].Move = "undecided", "laptop", "move1"
	})
	c := r.card("pad")
	if c.badge.label.said != "Needs you" || !c.act.Visible() || c.send.Visible() {
		t.Errorf("the card says %q", c.badge.label.said)
	}
	c.act.Tapped(nil)
	if b, ok := r.w.win.Canvas().Focused().(*button); !ok || b.Text != "Wait" {
		t.Error("the focus is not on the safe choice")
	}
	r.press("Let it run here")
	if len(r.d.Calls()) != 0 {
		t.Error("it was claimed without asking once more")
	}
	r.press("Let it run here")
	r.called("claim move1")
	c.act.Tapped(nil)
	r.press("Give up this copy")
	r.press("Give it up")
	r.called("drop move1")
}

func TestSettings(t *testing.T) {
	r := newRig(t, usual)
	r.w.openSettings()
	var name *field
	for _, o := range test.LaidOutObjects(r.top().popup.Content) {
		if f, ok := o.(*field); ok {
			name = f
		}
	}
	name.SetText("studio")
	r.press("Done")
	r.called("settings studio true")
	r.w.setAppearance(AppearDark)
	if r.w.appearance() != AppearDark {
		t.Error("the choice is not kept")
	}
}

func TestDoctorIsTold(t *testing.T) {
	r := newRig(t, func(d *fake.Daemon) {
		usual(d)
		d.Doc = control.Doctor{Probes: []control.Probe{{Name: "ptrace", OK: true}, {Name: "user namespaces", Need: true, Detail: "closed to ordinary users", Cure: "sudo sysctl -w user.max_user_namespaces=10000"}}}
	})
	r.until("the banner", func() bool { return r.w.here.banner.all.Visible() })
	r.press("Look…")
	r.until("the cure", func() bool { return r.says("sudo sysctl -w user.max_user_namespaces=10000") })
}

// TestThumbnailsRest: none is asked for that nobody sees.
func TestThumbnailsRest(t *testing.T) {
	r := newRig(t, usual)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan bool)
	go func() { r.w.watch(ctx); close(ended) }()
	defer func() { stop(); <-ended }()
	r.w.glance()
	r.w.Model.Again(model.PartApps)
	r.until("something else has happened", func() bool { return len(r.queue) == 0 })
	if n := r.d.Thumbnails(); n != 0 {
		t.Errorf("%d thumbnails of a hidden window", n)
	}
	r.w.visible.Store(true)
	r.w.glance()
	r.until("both cards have one", func() bool { return r.card("pad").seen != nil && r.card("calc").seen != nil })
}

func TestWrap(t *testing.T) {
	measure := func(s string) float32 { return float32(len([]rune(s))) }
	for _, c := range []struct {
		said  string
		n     int
		width float32
		want  string
	}{
		{"one two three", 2, 7, "one two|three"}, {"one two three", 1, 8, "one two…"}, {"unbreakable", 3, 4, "unbr|eaka|ble"}, {"a  b\nc", 1, 20, "a b c"},
		{"", 2, 10, ""}, {"x", 1, 0, ""}, {"wide", 1, 1, "w…"}, {"aa bb cc dd", 2, 5, "aa bb|cc dd"}, {"ää öö üü", 2, 5, "ää öö|üü"},
	} {
		if got := strings.Join(wrap(c.said, c.n, c.width, measure), "|"); got != c.want {
			t.Errorf("%q in %d lines of %v: %q, not %q", c.said, c.n, c.width, got, c.want)
		}
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{bytesText(0), "0 bytes"}, {bytesText(936_300), "936 kB"}, {bytesText(999_600), "1.0 MB"}, {bytesText(5e6), "5.0 MB"}, {bytesText(300e6), "300 MB"}, {bytesText(9e9), "9.0 GB"}, {bytesText(25_300e6), "25 GB"}, {span(35), "35 ms"}, {span(1234), "1.2 s"}, {span(61_000), "1 min 1 s"},
		{age(90 * time.Second), "1 min"}, {age(50 * time.Hour), "2 days"}, {spaced("123456"), "123 456"},
	} {
		if c.got != c.want {
			t.Errorf("%q, not %q", c.got, c.want)
		}
	}
	said, hint := model.Words(errors.New("plain"))
	if said != "plain" || hint != "" {
		t.Error(said, hint)
	}
}
