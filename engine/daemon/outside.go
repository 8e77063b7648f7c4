package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/desktop"
	"hither/engine/display/peek"
	"hither/engine/launch"
)

// Programs with windows on the user's desktop that run outside of hither cannot
// move. One that closes when it is asked to can be started anew in a capsule.

// outsider is a program outside, with what it takes to start it anew.
type outsider struct {
	control.OutsideApp
	windows []peek.Window
	argv    []string
	dir     string
}

// outside lists them; display and authority name the desktop. The caller closes the
// server, if it gets one.
func (d *Daemon) outside(ctx context.Context, env []string) (*peek.Server, []outsider, error) {
	at := displayOf(env)
	if at == "" {
		return nil, nil, nil
	}
	s, err := peek.OpenDesktop(ctx, at, lookupEnv(env, "XAUTHORITY"))
	if err != nil {
		return nil, nil, fmt.Errorf("looking at the desktop %s: %w", at, err)
	}
	windows, err := s.Windows()
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	keepers, err := keeperPids()
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	host, _ := os.Hostname()
	byPid := map[int][]peek.Window{}
	for _, w := range windows {
		machine, _, _ := strings.Cut(w.Machine, ".")
		here, _, _ := strings.Cut(host, ".")
		if !w.Aside && w.Pid > 1 && (machine == "" || machine == here || machine == "localhost") {
			byPid[w.Pid] = append(byPid[w.Pid], w)
		}
	}
	entries := d.menu.list()
	var list []outsider
	for pid, windows := range byPid {
		if o, ok := outsiderOf(pid, windows, entries, keepers); ok {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b outsider) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.Pid, b.Pid))
	})
	return s, list, nil
}

// keeperPids are the keepers of the capsules here, whose bridges show windows, too.
func keeperPids() (map[int]bool, error) {
	all, err := listCapsules()
	if err != nil {
		return nil, err
	}
	pids := map[int]bool{}
	for _, c := range all {
		if st, err := c.State(); err == nil {
			pids[st.Keeper.Pid] = true
		}
	}
	return pids, nil
}

// outsiderOf is false for what is hither's own, somebody else's, or has ended.
func outsiderOf(pid int, windows []peek.Window, entries []desktop.Entry, keepers map[int]bool) (outsider, bool) {
	o := outsider{OutsideApp: control.OutsideApp{Pid: pid, Memory: residentOf(pid)}, windows: windows, argv: argvOf(pid)}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return o, false
	}
	parent, _ := strconv.Atoi(field(string(status), "PPid"))
	uid, _, _ := strings.Cut(field(string(status), "Uid"), "\t")
	program := desktop.ProgramOf(o.argv)
	ours := keepers[parent] || program == "hither-gui" || program == "hither" && len(o.argv) > 1 && o.argv[1] == "bridge"
	if ours || uid != strconv.Itoa(os.Getuid()) {
		return o, false
	}
	main := peek.Main(windows)
	o.Title = main.Title
	o.Name = cmp.Or(program, field(string(status), "Name"))
	o.dir, _ = os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	e := desktop.Match(entries, main.Instance, main.Class, o.argv)
	if e != nil {
		o.Name = e.Name
		if !e.Hidden {
			o.Installed = e.ID
		}
	}
	o.command(e)
	o.Why = o.obstacle(e)
	o.Restart = o.Why == ""
	return o, true
}

// command is what starts it anew: its own command line, or what its desktop file
// says, where the bus has started it or it has written over its command line.
func (o *outsider) command(e *desktop.Entry) {
	if len(o.argv) > 0 && !slices.Contains(o.argv, "--gapplication-service") {
		if _, err := exec.LookPath(o.argv[0]); err == nil && (filepath.IsAbs(o.argv[0]) || !strings.Contains(o.argv[0], "/")) {
			return
		}
	}
	o.argv, o.dir = nil, ""
	if e != nil {
		o.argv, _ = e.Command() //nolint:errcheck // then there is none
		o.dir = e.Path
	}
}

// obstacle says why it cannot be started anew in hither.
func (o *outsider) obstacle(e *desktop.Entry) string {
	mine, err := os.Readlink("/proc/self/ns/mnt")
	theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", o.Pid))
	switch {
	case len(o.argv) == 0:
		return "how it was started cannot be found out"
	case err != nil || err2 != nil || mine != theirs:
		return "it runs in a sandbox, as Flatpak and Snap make them"
	case launch.Sandboxed(o.argv):
		return "a browser moves only without sandboxes of its own: close it, and start it from the list of installed apps"
	case e != nil && slices.Contains(e.Categories, "TerminalEmulator") || holdsTerminal(o.Pid):
		return "programs run in its terminal, and would end with it"
	}
	return ""
}

// holdsTerminal tells whether a process has the master of a terminal.
func holdsTerminal(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(fds, func(e os.DirEntry) bool {
		l, err := os.Readlink(dir + e.Name())
		return err == nil && (l == "/dev/ptmx" || l == "/dev/pts/ptmx")
	})
}

func lookupEnv(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// desktopOf is where a request was made, or where hither was last used.
func (d *Daemon) desktopOf(r *http.Request) []string {
	if env := control.Desktop(r.Header); env != nil {
		return env
	}
	return d.atDesktop()
}

func (d *Daemon) listOutside(r *http.Request) (any, error) {
	out := control.OutsideApps{Apps: []control.OutsideApp{}}
	s, list, err := d.outside(r.Context(), d.desktopOf(r))
	if s != nil {
		s.Close()
	}
	for _, o := range list {
		out.Apps = append(out.Apps, o.OutsideApp)
	}
	return out, err
}

// closePatience is how long a program may take to close, and a person to answer
// what it asks meanwhile.
const closePatience = 15 * time.Second

// restartOutside closes a program as a person would, and starts it anew in hither.
// Until it has ended by itself nothing is started, and nothing is lost.
func (d *Daemon) restartOutside(r *http.Request) (any, error) {
	pid, err := strconv.Atoi(r.PathValue("pid"))
	if err != nil {
		return nil, usage("", "%q is no process", r.PathValue("pid"))
	}
	env := d.desktopOf(r)
	ctx, stop := context.WithTimeout(d.ctx, 2*closePatience)
	defer stop()
	s, list, err := d.outside(ctx, env)
	if err != nil {
		return nil, err
	}
	if s != nil {
		defer s.Close()
	}
	i := slices.IndexFunc(list, func(o outsider) bool { return o.Pid == pid })
	if i < 0 {
		return nil, usage("", "no program %d has a window on this desktop", pid)
	}
	o := &list[i]
	if !o.Restart {
		return nil, &control.Error{Text: fmt.Sprintf("%s cannot be restarted in hither: %s", o.Name, o.Why)}
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil, fmt.Errorf("reading how %s was started: %w", o.Name, err)
	}
	if err := d.closeOutside(ctx, s, o); err != nil {
		return nil, err
	}
	// Its own environment, on the desktop of now.
	spec := capsule.Spec{Argv: o.argv, Dir: o.dir, Env: strings.Split(strings.TrimSuffix(string(environ), "\x00"), "\x00")}
	return d.launch(d.ctx, spec, env)
}

// closeOutside asks it to close and waits for its end.
func (d *Daemon) closeOutside(ctx context.Context, s *peek.Server, o *outsider) error {
	asked := false
	for i := range o.windows {
		ok, err := s.Ask(&o.windows[i])
		if err != nil {
			return err
		}
		asked = asked || ok
	}
	if !asked {
		return &control.Error{Text: fmt.Sprintf("%s does not close by being asked to", o.Name), Hint: "close it by its own menu, and start it from the list of installed apps"}
	}
	wait, stop := context.WithTimeout(ctx, closePatience)
	defer stop()
	if err := ended(wait, o.Pid); err != nil {
		return err
	}
	if unix.Kill(o.Pid, 0) == nil && !zombie(o.Pid) {
		left, err := s.Windows()
		if err == nil && slices.ContainsFunc(left, func(w peek.Window) bool { return w.Pid == o.Pid }) {
			return &control.Error{Text: fmt.Sprintf("%s is still open; it may be asking something", o.Name), Hint: "answer it there, then try again"}
		}
		return &control.Error{Text: fmt.Sprintf("%s has closed its windows, but goes on in the background", o.Name),
			Hint: "end it by its own menu, and start it from the list of installed apps"}
	}
	return nil
}

func zombie(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err != nil || strings.HasPrefix(field(string(status), "State"), "Z")
}
