package gui

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"

	"hither/engine/control"
	"hither/engine/handover"
	"hither/gui/model/fake"
)

// TestLook draws the window in many states, sizes and themes: nothing may fail, nothing may want more
// room than there is, and with HITHER_GUI_PICTURES it can be looked at.
func TestLook(t *testing.T) {
	full := func(d *fake.Daemon) {
		usual(d)
		for i := range 12 {
			a := app(fmt.Sprint("app", i), "app"+fmt.Sprint(i), "A document with a name that is far too long to fit into any card at all.odt")
			a.Since = a.Since.Add(time.Duration(i) * time.Second)
			switch i {
			case 1:
				a.Problems = []handover.Problem{{What: "it plays sound: the device /dev/snd/pcmC0D0p", Cure: "Close what plays, and try again."}}
			case 2:
				a.State, a.Host, a.Move = "undecided", "laptop", "m1"
			case 3:
				a.Terminal = true
			}
			d.Apps = append(d.Apps, a)
		}
		for i := range 10 {
			p := laptop()
			p.ID, p.Name = fmt.Sprint("peer", i), fmt.Sprint("machine-", i)
			switch i {
			case 2:
				p.Name = "a-machine-with-a-remarkably-long-name.example.internal"
				p.Abilities = &control.Abilities{CPUs: 2, Load: 5, MemoryFree: 100 << 20}
			case 3:
				p.Warning = "A machine of this name has come with another key: it may be another one. Pair anew only if you know why."
			}
			d.Peers = append(d.Peers, p)
			d.Remote[p.ID] = []control.App{app(p.ID+"x", "libreoffice", "Letter to the editor of the evening newspaper.odt - LibreOffice Writer"), app(p.ID+"y", "xterm", "")}
		}
		d.OutsideOf = []control.OutsideApp{{Pid: 5, Name: "Firefox", Title: "News - Mozilla Firefox", Restart: true, Memory: 700 << 20}, {Pid: 6, Name: "Steam", Why: "it cannot be closed from here"}}
		d.Doc = control.Doctor{OK: false, Probes: []control.Probe{{Name: "user namespaces", Need: true, Detail: "not allowed", Cure: "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"}, {Name: "userfaultfd", OK: true}}}
	}
	for _, view := range []struct {
		name    string
		prepare func(*fake.Daemon)
		size    fyne.Size
	}{{"empty", nil, fyne.NewSize(1120, 740)}, {"usual", usual, fyne.NewSize(1120, 740)}, {"small", full, fyne.NewSize(800, 600)}, {"large", full, fyne.NewSize(1920, 1080)}} {
		for _, look := range []Appearance{AppearLight, AppearDark} {
			t.Run(view.name+"-"+string(look), func(t *testing.T) {
				r := newRig(t, view.prepare)
				r.w.setAppearance(look)
				r.w.win.Resize(view.size)
				if size := r.w.win.Canvas().Size(); size.Width > view.size.Width || size.Height > view.size.Height {
					t.Errorf("wants %v of %v", size, view.size)
				}
				if min := r.w.win.Canvas().Content().MinSize(); min.Width > 800 || min.Height > 600 {
					t.Errorf("does not fit into 800x600: %v", min)
				}
				r.w.watchFor(r)
				r.shot(view.name + "-" + string(look))
			})
		}
	}
}

// watchFor fetches the thumbnails once.
func (w *Window) watchFor(r *rig) {
	done := make(chan bool)
	go func() { w.watchOnce(context.Background()); close(done) }()
	over := false
	r.until("thumbnails", func() bool {
		select {
		case <-done:
			over = true
		default:
		}
		if !over {
			select {
			case r.queue <- func() {}:
			default:
			}
			time.Sleep(time.Millisecond)
		}
		return over
	})
	for len(r.queue) > 0 {
		(<-r.queue)()
	}
}

// TestLookSheets opens every sheet.
func TestLookSheets(t *testing.T) {
	r := newRig(t, func(d *fake.Daemon) {
		usual(d)
		d.Took = map[string]control.Files{"pad": {Files: []control.File{{Path: "/home/you/notes/plan.txt", State: "changed", Size: 2300}}, Notes: []string{"They come home with it."}}}
		d.Past = []control.PastMove{{When: time.Now(), Result: handover.Result{App: "gimp", From: "desk", To: "laptop", Outcome: handover.Moved, TotalMS: 1300, DowntimeMS: 35, BytesSent: 80 << 20}},
			{When: time.Now().Add(-time.Hour), Result: handover.Result{App: "mousepad", From: "desk", To: "laptop", Outcome: handover.Stayed, Reason: "cancelled"}}}
		d.Apps[0].Problems = []handover.Problem{{What: "a TCP connection to 10.0.0.7:443", Cure: "Close the connection; most programs connect again."}}
		d.Apps[0].State, d.Apps[0].Host = "running", "laptop"
	})
	a := r.w.state.Apps[0]
	m := *r.w.state.Machine("laptopid")
	sheets := map[string]func(){
		"start": r.w.openStart, "pair": r.w.openPair, "ticket": r.w.openTicket, "move": func() { r.w.openMove(r.w.state.Apps[1]) }, "why": func() { r.w.openWhy(a) },
		"decide": func() { r.w.openDecide(a) }, "files": func() { r.w.openFiles(a) }, "stop": func() { r.w.openStop(a) }, "history": r.w.openHistory, "settings": r.w.openSettings,
		"doctor": r.w.openDoctor, "keys": r.w.openKeys, "machine": func() { r.w.openMachine(m.ID) }, "rename": func() { r.w.openRename(m) }, "unpair": func() { r.w.openUnpair(m) },
		"unsandboxed": func() { r.w.launch(control.InstalledApp{ID: "firefox", Name: "Firefox", Sandboxed: true}) },
	}
	for _, size := range []fyne.Size{fyne.NewSize(1120, 740), fyne.NewSize(800, 600)} {
		r.w.win.Resize(size)
		for name, open := range sheets {
			open()
			s := r.top()
			r.until(name+" has loaded", func() bool {
				for _, said := range texts(s.popup.Content) {
					if strings.HasPrefix(said, "Looking") || strings.HasPrefix(said, "Making") || said == "Asking…" {
						return false
					}
				}
				return true
			})
			frame := s.popup.Content
			if min, room := frame.MinSize(), r.w.win.Canvas().Size(); min.Width > room.Width || min.Height > room.Height {
				t.Errorf("%s wants %v of %v", name, min, room)
			}
			r.shot(fmt.Sprintf("sheet-%s-%.0f", name, size.Width))
			r.key(fyne.KeyEscape)
			if len(r.w.sheets) != 0 {
				t.Fatalf("%s: Escape does not close it", name)
			}
		}
	}
}
