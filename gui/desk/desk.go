// Package desk joins the window, the tray and the desktop's notifications into one program.
//
// In a nutshell: Run shows the window, or with Background only the tray. Where a desktop shows the tray, the window's
// cross hides the window and the program goes on; where none does, the person is told so, once, and the
// cross ends the program: there is never one that nobody can reach. While the window is hidden, what a person
// should hear of is told by notifications. It knows no toolkit: Window is all that it wants of one.
package desk

import (
	"context"
	"errors"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hither/engine/control"
	"hither/engine/paths"
	"hither/gui/integration"
	"hither/gui/model"
	"hither/gui/tray"
)

// Window is the window. Its methods may be called from any goroutine.
type Window interface {
	Show() // and bring it to the front
	Hide()
	OpenPairing()
	OpenStart()
}

// Options of a Desk.
type Options struct {
	Background bool          // only the tray is wanted
	Patience   time.Duration // for a tray to come, at the start of a session; 0: the default
	Quit       func()        // ends the program
}

// patience is how long a panel may take to start after this program.
const patience = 10 * time.Second

// Desk is at work from Run on.
type Desk struct {
	o     Options
	win   Window
	model *model.Model

	updater *tray.Updater
	icons   icons
	tray    *tray.Tray // nil: there is no session bus
	notes   *integration.Notifier
	wake    chan struct{} // the model has changed

	mu     sync.Mutex
	hidden bool
	warned bool // that closing ends a move
	before model.State
}

// New makes a Desk; Changed may be called from now on.
func New(win Window, m *model.Model, o Options) *Desk {
	if o.Patience == 0 {
		o.Patience = patience
	}
	d := &Desk{o: o, win: win, model: m, updater: tray.NewUpdater(), wake: make(chan struct{}, 1), hidden: true}
	d.icons = icons{model: m, changed: d.updater.Changed, known: map[string][]byte{}}
	return d
}

// Changed is to be called after each change of the model's State. It never waits.
func (d *Desk) Changed() {
	d.updater.Changed()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run is at work until ctx ends.
func (d *Desk) Run(ctx context.Context) {
	dir, err := paths.Runtime()
	icon := "hither"
	if err == nil {
		dir = filepath.Join(dir, "icons")
	}
	hosted := make(chan bool, 1)
	tell := func(bool) {
		select {
		case hosted <- true:
		default:
		}
	}
	if d.tray, err = tray.Open(ctx, tray.Options{Activate: d.toggle, OnHosted: tell, IconDir: dir}); err != nil {
		log.Print(err)
	}
	if file := filepath.Join(dir, "hither.png"); fileExists(file) {
		icon = file
	}
	notes, err := integration.NewNotifier(icon, d.show)
	if err != nil {
		log.Print(err)
	}
	d.mu.Lock()
	d.notes = notes
	d.mu.Unlock()
	var work sync.WaitGroup
	defer work.Wait()
	if d.tray != nil {
		defer d.tray.Close()
		work.Go(func() { d.updater.Run(ctx, d.tray, d.look) })
		d.updater.Changed()
	}
	if notes != nil {
		defer notes.Close()
	}
	if !d.o.Background {
		d.show()
	}
	// Until a tray has had time to come, its absence means nothing.
	early := time.NewTimer(d.o.Patience)
	defer early.Stop()
	settled := false
	for {
		select {
		case <-hosted:
			if settled && !d.Hosted() {
				d.noTray()
			}
		case <-early.C:
			if settled = true; !d.Hosted() {
				d.noTray()
			}
		case <-d.wake:
			d.tell(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Hosted says whether a desktop shows the tray.
func (d *Desk) Hosted() bool { return d.tray != nil && d.tray.Hosted() }

func (d *Desk) look() tray.Look { return tray.LookOf(d.model.State(), d.icons.get, acts{d}) }

func (d *Desk) show() {
	d.mu.Lock()
	d.hidden, d.warned = false, false
	d.mu.Unlock()
	d.win.Show()
}

func (d *Desk) hide() {
	d.mu.Lock()
	d.hidden = true
	d.mu.Unlock()
	d.win.Hide()
}

// toggle is a click on the icon.
func (d *Desk) toggle() {
	d.mu.Lock()
	hidden := d.hidden
	d.mu.Unlock()
	if hidden {
		d.show()
		return
	}
	d.win.Show() // it may lie below others
}

// Wished is what a second start of the program wants.
func (d *Desk) Wished(w integration.Wish) {
	if w.Show {
		d.show()
	}
}

// Close is the window's cross.
func (d *Desk) Close() {
	if d.Hosted() {
		d.hide()
		return
	}
	d.mu.Lock()
	warned := d.warned
	d.warned = true
	d.mu.Unlock()
	s := d.model.State()
	if own(s) && !warned {
		d.model.Tell(model.Notice{Text: "An app is on its way", Hint: "Without this window its move is cancelled, and it runs on where it was. Close the window once more to do so.", Problem: true})
		return
	}
	d.o.Quit()
}

// own says whether a move is under way that ends with this program.
func own(s model.State) bool {
	for _, m := range s.Moves {
		if m.Running() && !m.Elsewhere {
			return true
		}
	}
	return false
}

// noTray shows the window, and says why, once in this user's life.
func (d *Desk) noTray() {
	d.mu.Lock()
	hidden := d.hidden
	d.mu.Unlock()
	if hidden {
		d.show()
	}
	mark, err := markFile()
	if err != nil || fileExists(mark) {
		return
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		log.Printf("noting that there is no tray: %v", err) // it is told once more, then
	}
	d.model.Tell(model.Notice{Text: "Your desktop shows no tray icons, so hither is in this window only",
		Hint: "On GNOME, the extension \"AppIndicator and KStatusNotifierItem Support\" shows them. Until then, closing the window ends hither's window; your apps and the background service go on.", Problem: true})
}

// markFile is there once a person has been told that there is no tray.
func markFile() (string, error) {
	dir, err := paths.State()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "no-tray-told"), nil
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// tell notifies of what has become of moves, while the window is hidden.
func (d *Desk) tell(ctx context.Context) {
	now := d.model.State()
	d.mu.Lock()
	before, hidden, notes := d.before, d.hidden, d.notes
	d.before = now
	d.mu.Unlock()
	if !hidden || notes == nil {
		return
	}
	for _, n := range integration.Notes(before, now) {
		if err := notes.Show(ctx, n); err != nil && !errors.Is(err, context.Canceled) {
			log.Print(err)
		}
	}
}

// acts are what the menu's lines do.
type acts struct{ d *Desk }

func (a acts) Open()                              { a.d.show() }
func (a acts) Pair()                              { a.d.show(); a.d.win.OpenPairing() }
func (a acts) Start()                             { a.d.show(); a.d.win.OpenStart() }
func (a acts) Quit()                              { a.d.o.Quit() }
func (a acts) StartDaemon()                       { a.d.model.StartDaemon() }
func (a acts) Refresh()                           { a.d.model.Again(model.PartPeerApps) }
func (a acts) Send(app control.App, peer string)  { a.d.model.Send(app, peer) }
func (a acts) Bring(app control.App, peer string) { a.d.model.Bring(app, peer) }
func (a acts) Cancel(move int)                    { a.d.model.Cancel(move) }

func (a acts) Answer(question, answer string) {
	a.d.model.Do("Answering", func(ctx context.Context, d model.Daemon) error { return d.AnswerQuestion(ctx, question, answer) }, nil)
}

func (a acts) Compare(pairing string, match bool) {
	a.d.model.Do("Pairing", func(ctx context.Context, d model.Daemon) error {
		_, err := d.AnswerPairing(ctx, pairing, match)
		return err
	}, nil)
}
