package daemon

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/handover"
)

// found is an app that somebody named. Its capsule is nil if it is not, or not
// any more, on this host.
type found struct {
	app     control.App
	capsule *capsule.Capsule
}

// usage is an error of who asked.
func usage(hint, format string, args ...any) error {
	return &control.Error{Text: fmt.Sprintf(format, args...), Hint: hint, Code: control.CodeUsage}
}

// all are the apps that live here, those on their way, and those that left.
func (d *Daemon) all() ([]found, error) {
	capsules, err := listCapsules()
	if err != nil {
		return nil, err
	}
	var list []found
	here := map[string]bool{}
	for _, c := range capsules {
		st, err := c.State()
		if err != nil || st.Moved != "" || st.Phase == capsule.Ended || !st.Init.Alive() {
			continue // it ends just now
		}
		here[c.ID] = true
		a := describe(c, st)
		if st.Spec.Origin.HostID != "" && st.Spec.Origin.HostID != string(d.identity.ID()) {
			a.Origin = st.Spec.Origin.HostName
		}
		if p := d.pendingOf(c.ID); p != nil {
			place(&a, p)
		}
		list = append(list, found{a, c})
	}
	for _, p := range d.moves.Pending() {
		if p.App == "" || here[p.App] || p.State == "running" {
			continue // described, or damaged, or it has come and ended
		}
		here[p.App] = true
		a := control.App{ID: p.App, Name: p.Name, Since: p.Since}
		place(&a, &p)
		list = append(list, found{a, nil})
	}
	for id, dep := range d.departed.list() {
		if !here[id] {
			list = append(list, found{control.App{ID: id, Name: dep.Name, State: "gone", Host: dep.Host, Since: dep.When}, nil})
		}
	}
	slices.SortStableFunc(list, func(a, b found) int {
		return cmp.Or(cmp.Compare(rank(a.app.State), rank(b.app.State)), a.app.Since.Compare(b.app.Since), cmp.Compare(a.app.ID, b.app.ID))
	})
	return list, nil
}

func rank(state string) int {
	if state == "gone" {
		return 1
	}
	return 0
}

// here are the apps that a peer may take.
func (d *Daemon) here() []control.App {
	all, err := d.all()
	apps := []control.App{}
	if err != nil {
		return apps
	}
	for _, f := range all {
		if f.capsule != nil {
			a := f.app
			a.Keeper, a.Init, a.Dir = 0, 0, ""
			apps = append(apps, a)
		}
	}
	return apps
}

func describe(c *capsule.Capsule, st capsule.State) control.App {
	a := control.App{ID: c.ID, Name: st.Spec.Name, Command: st.Spec.Argv, Dir: st.Spec.Dir, Terminal: st.Spec.TTY,
		State: "running", Since: time.Unix(st.Since, 0), Keeper: st.Keeper.Pid, Init: st.Init.Pid, Notice: st.Notice}
	if st.Phase == capsule.Waiting {
		a.State = "arriving"
	}
	return a
}

// place says what a move makes of an app.
func place(a *control.App, p *handover.Pending) {
	a.Move, a.Host, a.Reason = p.Move, p.PeerName, p.Reason
	switch {
	case p.State == "undecided":
		a.State = "undecided"
	case p.State == "waiting":
		a.State = "waiting"
	case p.Side == handover.SideSource:
		a.State = "moving"
	default:
		a.State = "arriving"
	}
}

// find is the app that a person means: an id, a name, or the beginning of one.
// One that is here goes before one that left.
func (d *Daemon) find(what string) (*found, error) {
	all, err := d.all()
	if err != nil {
		return nil, err
	}
	pick := func(match func(control.App) bool) []found {
		var hits []found
		for _, f := range all {
			if match(f.app) {
				hits = append(hits, f)
			}
		}
		if i := slices.IndexFunc(hits, func(f found) bool { return f.app.State == "gone" }); i > 0 {
			hits = hits[:i]
		} else if i == 0 && len(hits) > 1 {
			// Several have left: the last one is meant.
			hits = []found{slices.MaxFunc(hits, func(a, b found) int { return a.app.Since.Compare(b.app.Since) })}
		}
		return hits
	}
	for _, match := range []func(control.App) bool{
		func(a control.App) bool { return a.ID == what },
		func(a control.App) bool { return a.Name == what },
		func(a control.App) bool {
			return what != "" && (strings.HasPrefix(a.Name, what) || strings.HasPrefix(a.ID, what))
		},
	} {
		switch hits := pick(match); len(hits) {
		case 0:
		case 1:
			return &hits[0], nil
		default:
			var which []string
			for _, f := range hits {
				which = append(which, f.app.Name+" ("+f.app.ID+")")
			}
			return nil, usage("say more of the name, or the id", "%q may be any of %s", what, strings.Join(which, ", "))
		}
	}
	return nil, usage("`hither ls` lists the apps of this host", "no app %q", what)
}

// running finds an app that is on this host.
func (d *Daemon) running(what string) (*found, error) {
	f, err := d.find(what)
	if err != nil {
		return nil, err
	}
	if f.capsule == nil {
		return nil, &control.Error{Code: control.CodeMoved, Text: fmt.Sprintf("%s is on %s", f.app.Name, f.app.Host),
			Hint: fmt.Sprintf("`hither bring %s@%s` brings it here", f.app.Name, f.app.Host)}
	}
	return f, nil
}

// processes adds what /proc says of an app.
func (f *found) processes() error {
	if f.capsule == nil {
		return nil
	}
	pids, err := f.capsule.Processes()
	if err != nil {
		return err
	}
	var services []capsule.Service
	if st, err := f.capsule.State(); err == nil {
		services = st.Services
	}
	inside := map[int]int{}
	for in, out := range pids {
		inside[out] = in
	}
	for in, out := range pids {
		if in == 1 {
			continue
		}
		dir := "/proc/" + strconv.Itoa(out)
		b, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue // it has ended
		}
		status := string(b)
		p := control.Process{Pid: in, HostPid: out, Name: field(status, "Name")}
		if parent, err := strconv.Atoi(field(status, "PPid")); err == nil {
			p.Parent = inside[parent]
		}
		p.Threads, _ = strconv.Atoi(field(status, "Threads"))
		state, _, _ := strings.Cut(field(status, "State"), " ")
		p.State = state
		if m, err := os.ReadFile(dir + "/statm"); err == nil {
			if words := strings.Fields(string(m)); len(words) > 1 {
				pages, _ := strconv.ParseUint(words[1], 10, 64)
				p.Memory = pages * uint64(unix.Getpagesize())
			}
		}
		for _, s := range services {
			if s.Pid == in {
				p.Service = s.Name
			}
		}
		f.app.Processes = append(f.app.Processes, p)
	}
	if f.app.State == "running" {
		if f.app.Problems, err = problemsOf(f.capsule); err != nil {
			return err
		}
	}
	f.app.Memory = memoryOf(f.capsule)
	slices.SortFunc(f.app.Processes, func(a, b control.Process) int { return cmp.Compare(a.Pid, b.Pid) })
	return nil
}
