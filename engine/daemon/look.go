package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/capsule"
	"hither/engine/checkpoint"
	"hither/engine/control"
	"hither/engine/display"
	"hither/engine/display/peek"
	"hither/engine/handover"
	"hither/engine/kernel"
	"hither/engine/terminal"
)

// A window that is open asks every few seconds how each app looks. What is found is
// kept, so that what has not changed costs little; as long as nobody asks, nothing
// is done. An app is looked at from outside only: /proc, its X server, its keeper.
//
// An app cannot be frozen while its X server has a connection to the outside. So a
// move bars it from being looked at first (look.bar); what was seen last is shown
// meanwhile.

const (
	lookPatience = 3 * time.Second // of all that is asked of one app
	surveyEvery  = 5 * time.Second
	// A survey takes this share of one processor at most.
	surveyShare = 50
	titleEvery  = time.Second
)

// look is what was seen of one app.
type look struct {
	mu     sync.Mutex // held while the app is looked at
	barred bool       // mu

	surveyed time.Time
	took     time.Duration
	problems []handover.Problem

	titled  time.Time
	title   string
	windows int
	// instance, class are of the main window.
	instance, class string

	thumbnail *pictured
	icons     map[int]*pictured
}

// lookAt is the look of an app, by its capsule's id.
func (d *Daemon) lookAt(id string) *look {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.looks[id]
	if l == nil {
		if d.looks == nil {
			d.looks = map[string]*look{}
		}
		l = &look{icons: map[int]*pictured{}}
		d.looks[id] = l
	}
	return l
}

// forgetLooks keeps the looks of these apps only.
func (d *Daemon) forgetLooks(all []found) {
	here := map[string]bool{}
	for _, f := range all {
		here[f.app.ID] = f.capsule != nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, l := range d.looks {
		// One that is being looked at, or is on the move, is left for the next time.
		if !here[id] && l.mu.TryLock() {
			if !l.barred {
				delete(d.looks, id)
			}
			l.mu.Unlock()
		}
	}
}

// bar waits until nobody looks at the app, and lets nobody look until it is undone.
func (l *look) bar(on bool) {
	l.mu.Lock()
	l.barred = on
	l.mu.Unlock()
}

// lookAtAll adds what a closer look shows.
func (d *Daemon) lookAtAll(ctx context.Context, all []found) {
	d.forgetLooks(all)
	var work sync.WaitGroup
	turns := make(chan struct{}, 4)
	for i := range all {
		if all[i].capsule == nil {
			continue
		}
		work.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			d.lookCloser(ctx, &all[i])
		})
	}
	work.Wait()
}

func (d *Daemon) lookCloser(ctx context.Context, f *found) {
	f.app.Memory = memoryOf(f.capsule)
	l := d.lookAt(f.app.ID)
	l.mu.Lock()
	defer l.mu.Unlock()
	if st, err := f.capsule.State(); err == nil && l.mayLook(st) && f.app.State == "running" {
		if now := time.Now(); now.Sub(l.surveyed) > max(surveyEvery, surveyShare*l.took) {
			if problems, err := problemsOf(f.capsule); err == nil {
				l.problems = problems
			}
			l.surveyed, l.took = time.Now(), time.Since(now)
		}
		if time.Since(l.titled) > titleEvery {
			l.readTitle(ctx, f.capsule, st)
			l.titled = time.Now()
		}
	}
	f.app.Problems, f.app.Title, f.app.Windows = slices.Clone(l.problems), l.title, l.windows
}

// mayLook tells whether the app's portals are open; mu is held.
func (l *look) mayLook(st capsule.State) bool {
	return !l.barred && st.Phase == capsule.Running && st.Moved == "" && st.Init.Alive()
}

// readTitle finds the app's windows; mu is held.
func (l *look) readTitle(ctx context.Context, c *capsule.Capsule, st capsule.State) {
	ctx, stop := context.WithTimeout(ctx, lookPatience)
	defer stop()
	if s, list, err := openWindows(ctx, c, st); err == nil {
		s.Close()
		l.note(list)
		if len(list) > 0 {
			return
		}
	} else if !errors.Is(err, errNoServer) {
		return // it is busy: what was seen last stays
	}
	l.windows = 0
	if st.Spec.TTY {
		if b, err := c.Screen(ctx); err == nil {
			l.title = terminal.Look(b).Title
		}
	}
}

// note keeps what the list of windows says.
func (l *look) note(list []peek.Window) {
	l.windows = len(list)
	if w := peek.Main(list); w != nil {
		l.title, l.instance, l.class = w.Title, w.Instance, w.Class
	}
}

var errNoServer = errors.New("the app has no display server")

// openWindows connects to the app's X server if it runs, and lists its windows. Who
// calls it holds the look's mu until the connection is closed.
func openWindows(ctx context.Context, c *capsule.Capsule, st capsule.State) (*peek.Server, []peek.Window, error) {
	server := display.Services(capsule.RuntimeDir(os.Getuid()))[0]
	i := slices.IndexFunc(st.Services, func(s capsule.Service) bool { return s.Name == server.Name })
	if i < 0 {
		return nil, nil, errNoServer
	}
	// The state may be of a moment ago, and a call would start it anew.
	if pids, err := c.Processes(); err != nil || pids[st.Services[i].Pid] == 0 {
		return nil, nil, errNoServer
	}
	s, err := peek.OpenApp(ctx, server.Outside(st.Init.Pid))
	if err != nil {
		return nil, nil, err
	}
	list, err := s.Windows()
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, list, nil
}

// raise brings the app's main window to the front of the desktop that shows it.
func (d *Daemon) raise(ctx context.Context, f *found) error {
	l := d.lookAt(f.app.ID)
	l.mu.Lock()
	defer l.mu.Unlock()
	st, err := f.capsule.State()
	if err != nil {
		return err
	}
	if !l.mayLook(st) {
		return fmt.Errorf("%s is on the move", f.app.Name)
	}
	ctx, stop := context.WithTimeout(ctx, lookPatience)
	defer stop()
	s, list, err := openWindows(ctx, f.capsule, st)
	if err != nil {
		return err
	}
	defer s.Close()
	w := peek.Main(list)
	if w == nil {
		return fmt.Errorf("%s shows no window", f.app.Name)
	}
	return s.Raise(w)
}

// problemsOf are what would keep an app from moving to any host.
func problemsOf(c *capsule.Capsule) ([]handover.Problem, error) {
	problems, err := checkpoint.Survey(c.InitPid())
	if err != nil {
		return nil, err
	}
	var out []handover.Problem
	for _, p := range problems {
		if p.Unsure() { // a move looks closer
			continue
		}
		out = append(out, handover.Problem{What: strings.TrimSuffix(p.String(), ": "+p.Cure), Cure: p.Cure})
	}
	return out, nil
}

// memoryOf is what an app's processes have in memory, its servers included.
func memoryOf(c *capsule.Capsule) uint64 {
	pids, err := kernel.Descendants(c.InitPid())
	if err != nil {
		return 0
	}
	var all uint64
	for _, pid := range pids {
		all += residentOf(pid)
	}
	return all
}

// residentOf is what a process has in memory, in bytes.
func residentOf(pid int) uint64 {
	var size, resident, shared uint64
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(b), &size, &resident, &shared); err != nil {
		return 0
	}
	// Pages of files and of shared memory would be counted once for each process.
	return (resident - min(shared, resident)) * uint64(unix.Getpagesize())
}

// lookFor are the apps of the list, with a closer look if it is wanted.
func (d *Daemon) lookFor(ctx context.Context, closer bool) (control.Apps, error) {
	all, err := d.all()
	if err == nil && closer {
		d.lookAtAll(ctx, all)
	}
	out := control.Apps{Apps: []control.App{}}
	for _, f := range all {
		out.Apps = append(out.Apps, f.app)
	}
	return out, err
}

// argvOf is what a process was started with.
func argvOf(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}
