package gui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"hither/engine/control"
	"hither/gui/model"
)

// What can be done with an app of this machine.

// openMove asks where to. Each machine says whether it can take the app.
func (w *Window) openMove(a control.App) {
	list := vstack(4)
	body := scrolled(list, w.room())
	ctx, stop := context.WithCancel(context.Background())
	var s *sheet
	var first *choice
	for _, m := range w.state.Machines {
		if !m.Paired {
			continue
		}
		icon, said := newSign(theme.ComputerIcon(), 22, colorAccent), newText(2, "Asking…", small, muted)
		c := w.choice(padded(8, row(gap*1.25, icon, vstack(1, newText(1, m.Name, bold), said), container.NewWithoutLayout())), nil)
		c.resting = colorWell
		c.paint()
		list.Add(c)
		tell := func(v answer) {
			t, text := toneGood, "Can take it · "+machineFacts(m, w.now())
			if !v.ok {
				t, text = toneWarn, sentence(v.why, v.cure)
				c.chosen = nil
			}
			said.paint(t.front())
			said.set(text)
			c.paint()
		}
		if v, asked := without(m); !asked {
			tell(v)
			continue
		}
		c.chosen = func(*fyne.PointEvent) { s.close(); stop(); w.Model.Send(a, m.ID) }
		if first == nil {
			first = c
		}
		go func() {
			v := w.askSend(ctx, a, m.ID)
			w.do(func() { tell(v) })
		}()
	}
	if len(list.Objects) == 0 {
		list.Add(paragraph("No machine is paired with this one yet. Pair one first; then "+appTitle(a)+" can move there.", muted))
		s = w.openSheet("move", "Move "+appTitle(a), body, sheetWidth, w.button("Pair a machine", func() { s.close(); w.OpenPairing() }).primary(), w.button("Close", func() { s.cancel() }))
	} else {
		s = w.openSheet("move", "Move "+appTitle(a)+" to…", body, sheetWidth, w.button("Cancel", func() { s.cancel() }))
	}
	s.closed = stop
	if first != nil {
		w.win.Canvas().Focus(first)
	}
}

// openWhy tells what keeps an app from moving, and what helps.
func (w *Window) openWhy(a control.App) {
	list := vstack(gap)
	for _, p := range a.Problems {
		list.Add(callout(toneWarn, theme.InfoIcon(), p.What, p.Cure))
	}
	var s *sheet
	s = w.openSheet("why", "What keeps "+appTitle(a)+" here", scrolled(vstack(gap, paragraph("It can move as soon as nothing of this stands in the way:"), list), 320), sheetWidth,
		w.button("Close", func() { s.cancel() }))
}

// openEnd tells all of a move that did not go well.
func (w *Window) openEnd(a control.App, mv *model.Move) {
	said, hint, t := moveEnd(mv)
	body := vstack(gap, callout(t, theme.InfoIcon(), said, hint))
	if r := mv.Result; r != nil {
		for i, p := range r.Problems {
			if i > 0 {
				body.Add(callout(t, theme.InfoIcon(), p.What, p.Cure))
			}
		}
		for _, n := range r.Notes {
			body.Add(paragraph(n, small, muted))
		}
	}
	var s *sheet
	again := w.button("Try again", func() {
		s.close()
		if mv.Here {
			if m := w.state.Machine(mv.Peer); m != nil {
				w.Model.Bring(a, m.ID)
			}
		} else if m := w.state.Machine(mv.Peer); m != nil {
			w.Model.Send(a, m.ID)
		}
	})
	s = w.openSheet("end", appTitle(a), scrolled(body, w.room()), sheetWidth, w.button("Close", func() { s.cancel() }).primary(), again)
}

// sentence puts a reason and its cure into one text.
func sentence(why, cure string) string {
	if cure == "" {
		return why
	}
	return strings.TrimRight(why, ". ") + ". " + strings.ToUpper(cure[:1]) + cure[1:]
}

// room is how high the body of a sheet may be.
func (w *Window) room() float32 { return min(420, max(160, w.win.Canvas().Size().Height-220)) }

// scrolled scrolls what is higher than so much.
func scrolled(o fyne.CanvasObject, high float32) fyne.CanvasObject {
	return container.New(&upTo{high}, container.NewVScroll(inset(2, 2, 2, gap, o)))
}

// upTo is as high as its content, which it scrolls, up to a limit.
type upTo struct{ high float32 }

func (l *upTo) MinSize(o []fyne.CanvasObject) fyne.Size {
	return fyne.NewSize(0, min(l.high, o[0].(*container.Scroll).Content.MinSize().Height))
}

func (l *upTo) Layout(o []fyne.CanvasObject, s fyne.Size) {
	sc := o[0].(*container.Scroll)
	sc.Content.Resize(fyne.NewSize(s.Width, sc.Content.Size().Height)) // text that wraps learns its width
	sc.Resize(s)
	sc.Refresh()
}

// openDecide explains a move that is undecided, and lets a person decide.
func (w *Window) openDecide(a control.App) {
	host := a.Host
	if host == "" {
		host = "the other machine"
	}
	said := fmt.Sprintf("The link to %s broke in the one moment in which only both machines together can tell where %s runs. "+
		"As soon as they meet again, they settle it by themselves: best bring %s back, and wait.", host, a.Name, host)
	var s *sheet
	act := func(doing string, f func(context.Context, model.Daemon) error) {
		s.close()
		w.Model.Do(doing, func(ctx context.Context, d model.Daemon) error {
			err := f(ctx, d)
			w.Model.Again(model.PartApps)
			return err
		}, nil)
	}
	claim := w.button("Let it run here", func() {
		w.confirm("claim", "Let "+a.Name+" run here?", "Only if "+host+" will never come back. If it does, "+a.Name+" may run twice, and the two go different ways.", "Let it run here", true, func() {
			act("Letting "+a.Name+" run here", func(ctx context.Context, d model.Daemon) error { return d.Claim(ctx, a.Move) })
		})
	})
	drop := w.button("Give up this copy", func() {
		w.confirm("drop", "Give up this copy of "+a.Name+"?", "Only if it runs on "+host+". What this copy holds and was not saved is lost.", "Give it up", true, func() {
			act("Giving up "+a.Name, func(ctx context.Context, d model.Daemon) error { return d.Drop(ctx, a.Move) })
		})
	})
	wait := w.button("Wait", func() { s.cancel() }).primary()
	var body fyne.CanvasObject = paragraph(said)
	if a.Reason != "" {
		body = vstack(gap*1.5, paragraph(said), callout(toneWarn, theme.InfoIcon(), a.Reason, ""))
	}
	s = w.openSheet("decide", "Where does "+a.Name+" run?", body, 500, wait, claim, drop)
}

// fileWords are states of a file.
var fileWords = map[string]string{"same": "unchanged", "changed": "changed", "new": "new", "removed": "removed", "fetched": "copied"}

// openFiles lists what an app took along and wrote.
func (w *Window) openFiles(a control.App) {
	list := vstack(6, newText(1, "Looking…", muted))
	var s *sheet
	home := w.button("Send them home", func() {
		w.Model.Do("Sending the files of "+a.Name+" home", func(ctx context.Context, d model.Daemon) error {
			_, err := d.ActOnFiles(ctx, a.ID, control.FilesRequest{Action: "return"})
			return err
		}, func(err error) {
			if err == nil {
				w.Model.Tell(model.Notice{Text: "The files of " + a.Name + " are home"})
			}
		})
		s.close()
	})
	home.Hide()
	s = w.openSheet("files", "Files of "+appTitle(a), scrolled(list, w.room()), 540, w.button("Close", func() { s.cancel() }), home)
	w.Model.Do("", func(ctx context.Context, d model.Daemon) error {
		f, err := d.Files(ctx, a.ID)
		w.do(func() {
			list.Objects = nil
			defer s.fit()
			if err != nil {
				said, hint := model.Words(err)
				list.Add(callout(toneWarn, theme.InfoIcon(), said, hint))
				return
			}
			for _, x := range f.Files {
				state := x.State
				if word := fileWords[state]; word != "" {
					state = word
				}
				facts := state
				if x.Size > 0 {
					facts += " · " + bytesText(uint64(x.Size))
				}
				if x.Why != "" {
					facts += " · " + x.Why
				}
				list.Add(row(gap, newSign(theme.FileIcon(), 20, colorMuted), vstack(0, newText(1, filepath.Base(x.Path), bold), newText(1, filepath.Dir(x.Path)+" · "+facts, small, muted)), container.NewWithoutLayout()))
			}
			for _, n := range f.Notes {
				list.Add(paragraph(n, small, muted))
			}
			if len(f.Files) == 0 {
				list.Add(paragraph("It has no files of yours with it. What it saves at home lies where you put it; what it saves while it is away comes home with it.", muted))
			} else if a.Origin != "" {
				home.Show()
			}
		})
		return nil
	}, nil)
}

// stopGrace is how long an app may take to end when it is asked to.
const stopGrace = 5

func (w *Window) openStop(a control.App) {
	if !canMove(a) {
		return
	}
	w.confirm("stop", "Stop "+appTitle(a)+"?", "It is asked to end. What you have not saved in it is lost.", "Stop it", true, func() {
		w.Model.Do("Stopping "+a.Name, func(ctx context.Context, d model.Daemon) error {
			err := d.Stop(ctx, a.ID, control.StopRequest{Grace: stopGrace})
			w.Model.Again(model.PartApps)
			return err
		}, nil)
	})
}

// byTerminal says whether its terminal is what a person sees of it. Apps with windows may have one, too.
func byTerminal(a control.App) bool { return a.Terminal && a.Windows == 0 }

// openApp brings an app in front of the person: its windows, or its terminal.
func (w *Window) openApp(a control.App) {
	if !canMove(a) {
		return
	}
	if !byTerminal(a) {
		w.Model.Do("Showing "+a.Name, func(ctx context.Context, d model.Daemon) error {
			return d.Raise(ctx, a.ID)
		}, nil)
		return
	}
	hither, err := program()
	if err == nil {
		err = w.spawn([]string{hither, "attach", a.ID})
	}
	w.Model.Fail("Opening the terminal of "+a.Name, err)
}

// program finds the command `hither`: beside this program, or in the PATH.
func program() (string, error) {
	if exe, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(exe), "hither")
		if st, err := os.Stat(beside); err == nil && st.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	found, err := exec.LookPath("hither")
	if err != nil {
		return "", &control.Error{Text: "the command hither is not there", Hint: "Install it beside hither-gui, or into a folder of the PATH."}
	}
	return found, nil
}

// terminals are programs that show a terminal, with what stands before the command in their arguments.
var terminals = [][]string{{"xdg-terminal-exec"}, {"x-terminal-emulator", "-e"}, {"gnome-terminal", "--"}, {"ptyxis", "--"}, {"kgx", "-e"}, {"konsole", "-e"},
	{"xfce4-terminal", "-x"}, {"mate-terminal", "-x"}, {"lxterminal", "-e"}, {"alacritty", "-e"}, {"kitty"}, {"foot"}, {"wezterm", "start"}, {"xterm", "-e"}}

// spawn runs a command in a terminal of the desktop.
func spawn(argv []string) error {
	list := terminals
	if t := os.Getenv("TERMINAL"); t != "" {
		list = append([][]string{{t, "-e"}}, terminals...)
	}
	for _, t := range list {
		path, err := exec.LookPath(t[0])
		if err != nil {
			continue
		}
		cmd := exec.Command(path, append(t[1:len(t):len(t)], argv...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("starting the terminal %s: %w", t[0], err)
		}
		go cmd.Wait() //nolint:errcheck // how a terminal ends is its person's business
		return nil
	}
	return &control.Error{Text: "no terminal program was found", Hint: "Install one, such as xterm, or run: " + strings.Join(argv, " ")}
}

// OpenStart shows the window with the list of apps that can be started.
func (w *Window) OpenStart() {
	w.do(w.openStart)
}

func (w *Window) openStart() {
	if w.state.Link != model.Up {
		return
	}
	var all, found []control.InstalledApp
	var s *sheet
	note := newText(2, "Looking for the apps of this machine…", muted, centered)
	grid := widget.NewGridWrap(func() int { return len(found) }, func() fyne.CanvasObject { return newLauncher() }, func(i widget.GridWrapItemID, o fyne.CanvasObject) {
		if i < len(found) {
			o.(*launcher).set(w, found[i])
		}
	})
	launch := func(a control.InstalledApp) {
		s.close()
		w.launch(a)
	}
	grid.OnSelected = func(i widget.GridWrapItemID) {
		if i < len(found) {
			launch(found[i])
		}
	}
	search := w.field("Which app?")
	search.Icon = theme.SearchIcon()
	filter := func(said string) {
		found = found[:0]
		for _, a := range all {
			if matches(said, a.Name, a.Comment, strings.Join(a.Keywords, " "), a.ID) {
				found = append(found, a)
			}
		}
		show(note, len(found) == 0)
		if len(found) == 0 && len(all) > 0 {
			note.set("No app here is called that. A command can be started below.")
		}
		grid.UnselectAll()
		grid.Refresh()
	}
	search.OnChanged = filter
	search.OnSubmitted = func(string) {
		if len(found) > 0 {
			launch(found[0])
		}
	}
	command := w.field("or a command, such as  vim notes.txt")
	run := w.button("Run", func() {
		argv := strings.Fields(command.Text)
		if len(argv) == 0 {
			return
		}
		s.close()
		w.start(argv[0], control.StartRequest{Command: argv})
	})
	command.OnSubmitted = func(string) { run.OnTapped() }
	high := min(360, max(150, w.win.Canvas().Size().Height-250))
	body := container.NewBorder(inset(0, gap, 0, 0, search), inset(gap, 0, 0, 0, row(gap, container.NewWithoutLayout(), command, run)), nil, nil,
		fixed(0, high, container.NewStack(grid, centre(atLeast(300, 0, note)))))
	s = w.openSheet("start", "Start an app", body, 620)
	w.win.Canvas().Focus(search)
	w.Model.Do("", func(ctx context.Context, d model.Daemon) error {
		list, err := d.Installed(ctx)
		w.do(func() {
			if err != nil {
				said, hint := model.Words(err)
				note.set(said + " " + hint)
				return
			}
			all = list.Apps
			if len(all) == 0 {
				note.set("This machine has no menu of apps. A command can be started below.")
			}
			filter(search.Text)
		})
		return nil
	}, nil)
}

// launcher is an installed app in the grid.
type launcher struct {
	widget.BaseWidget
	icon *tile
	name *text
	all  *fyne.Container
	id   string
}

func newLauncher() *launcher {
	l := &launcher{icon: newTile(40), name: newText(2, "", small, centered)}
	l.all = fixed(104, 92, inset(8, 2, 4, 4, vstack(6, centre(l.icon), l.name)))
	l.ExtendBaseWidget(l)
	return l
}

func (l *launcher) CreateRenderer() fyne.WidgetRenderer { return widget.NewSimpleRenderer(l.all) }

func (l *launcher) set(w *Window, a control.InstalledApp) {
	if l.id != a.ID {
		l.id = a.ID
		l.icon.has = false
		l.icon.image.Image = nil
		l.icon.Refresh()
	}
	l.icon.setName(a.Name)
	l.name.set(a.Name)
	w.pics.get("installed/"+a.ID, func(ctx context.Context, d model.Daemon) ([]byte, error) {
		return d.InstalledIcon(ctx, a.ID, iconPixels)
	}, func(p *picture) {
		if l.id == a.ID {
			l.icon.setImage(p)
		}
	})
}

// launch starts an installed app; a browser needs a choice first.
func (w *Window) launch(a control.InstalledApp) {
	r := control.StartRequest{Installed: a.ID}
	if !a.Sandboxed {
		w.start(a.Name, r)
		return
	}
	var s *sheet
	agree := w.button("Start it without its sandbox", func() {
		s.close()
		r.Unsandboxed = true
		w.start(a.Name, r)
	})
	no := w.button("Don't start it", func() { s.cancel() }).primary()
	s = w.openSheet("unsandboxed", "Start "+a.Name+" so that it can move?", vstack(gap*1.5,
		callout(toneWarn, theme.WarningIcon(), a.Name+" locks its pages into a sandbox, which cannot move to another machine.",
			"In hither it has to start without. A malicious page that finds a fault in it could then reach your files. Only open pages that you trust.")), 480, no, agree)
}

// showsWindow waits for a window of an app that has just been started.
func showsWindow(ctx context.Context, d model.Daemon, id string) bool {
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	for {
		if list, err := d.LookAtApps(ctx); err == nil {
			here := false
			for _, a := range list.Apps {
				here = here || a.ID == id
				if a.ID == id && a.Windows > 0 {
					return true
				}
			}
			if !here {
				return true // it has ended: there is nothing to show
			}
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
}

func (w *Window) start(name string, r control.StartRequest) {
	w.Model.Do("Starting "+name, func(ctx context.Context, d model.Daemon) error {
		ctx, stop := context.WithTimeout(ctx, time.Minute)
		defer stop()
		a, err := d.Start(ctx, r)
		w.Model.Again(model.PartApps)
		// The daemon opens a terminal itself for an installed app that wants one.
		// A command is asked for in the terminal, unless it soon shows a window.
		if err == nil && a.Terminal && r.Installed == "" && !showsWindow(ctx, d, a.ID) {
			w.do(func() { w.openApp(*a) })
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return &control.Error{Text: "it has not started for a minute"}
		}
		return err
	}, nil)
}
