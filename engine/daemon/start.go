package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/display"
	"hither/engine/launch"
)

// installed is this host's menu. What comes from an entry that only messages on the
// session bus start is left out: a capsule has a bus of its own.
func (d *Daemon) installed() control.InstalledApps {
	out := control.InstalledApps{Apps: []control.InstalledApp{}}
	for _, e := range d.menu.list() {
		argv, err := e.Command()
		if e.Hidden || err != nil {
			continue
		}
		// What shows hither itself cannot be in a capsule.
		if program := filepath.Base(argv[0]); program == "hither" || program == "hither-gui" {
			continue
		}
		out.Apps = append(out.Apps, control.InstalledApp{ID: e.ID, Name: e.Name, Comment: e.Comment, Keywords: e.Keywords,
			Categories: e.Categories, Terminal: e.Terminal, Sandboxed: launch.Sandboxed(argv)})
	}
	return out
}

// start starts an app in a capsule, as `hither run -d` does, on a desktop: the one of
// the request, or the one where hither was last used.
func (d *Daemon) start(ctx context.Context, r control.StartRequest, env []string) (*control.App, error) {
	argv, name, dir := r.Command, r.Name, r.Dir
	inTerminal := false
	switch {
	case r.Installed != "" && len(r.Command) > 0:
		return nil, usage("", "an installed app and a command are asked for: give one of them")
	case r.Installed != "":
		e := d.menu.find(r.Installed)
		if e == nil {
			return nil, noInstalled(r.Installed)
		}
		var err error
		if argv, err = e.Command(); err != nil {
			return nil, err
		}
		dir, inTerminal = cmp.Or(dir, e.Path), e.Terminal
	case len(r.Command) == 0 || r.Command[0] == "":
		return nil, usage("", "nothing is named to start")
	}
	var more []string
	switch known := launch.Sandboxed(argv); {
	case r.Unsandboxed && !known:
		return nil, usage("", "hither does not know how to start %s without sandboxes of its own", filepath.Base(argv[0]))
	case r.Unsandboxed:
		argv, more = launch.Unsandbox(argv)
	}
	spec := capsule.Spec{Name: name, Argv: argv, Dir: dir, Env: append(d.onDesktop(env), more...)}
	out, err := d.launch(ctx, spec, env)
	if err == nil && inTerminal {
		d.openTerminal(out.Name, env)
	}
	return out, err
}

// launch starts what is described, on a desktop.
func (d *Daemon) launch(ctx context.Context, spec capsule.Spec, env []string) (*control.App, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("finding your home folder: %w", err)
	}
	if spec.Dir = cmp.Or(spec.Dir, home); !filepath.IsAbs(spec.Dir) {
		return nil, usage("", "the folder %s: wanted is a path that begins with /", spec.Dir)
	}
	spec.Umask, spec.Detached, spec.Origin = 0o022, true, launch.Origin()
	d.starting.Lock() // so that two get two names
	defer d.starting.Unlock()
	if spec.Name, err = launch.Name(spec.Name, spec.Argv); err != nil {
		return nil, err
	}
	c, err := capsule.Start(ctx, spec, [3]*os.File{})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	log.Printf("started %s: %s", spec.Name, strings.Join(spec.Argv, " "))
	if env != nil {
		desk, stop := context.WithTimeout(ctx, desktopPatience)
		defer stop()
		if err := c.Desktop(desk, env); err != nil {
			log.Printf("%v", err)
		}
	}
	st, err := c.State()
	if err != nil {
		return nil, fmt.Errorf("%s has ended at once: %w", spec.Name, err)
	}
	a := describe(c, st)
	return &a, nil
}

// onDesktop is an environment for what is started on a desktop: this process's, with
// what the desktop has told systemd of itself since, and with the desktop.
func (d *Daemon) onDesktop(env []string) []string {
	all := map[string]string{}
	for _, list := range [][]string{os.Environ(), sessionEnvironment(d.ctx)} {
		for _, kv := range list {
			name, value, _ := strings.Cut(kv, "=")
			all[name] = value
		}
	}
	if env != nil {
		for _, name := range display.DesktopEnv {
			delete(all, name)
		}
	}
	// What systemd says to a service is not for others.
	for _, name := range []string{"JOURNAL_STREAM", "INVOCATION_ID", "NOTIFY_SOCKET", "MANAGERPID", "SYSTEMD_EXEC_PID", "HITHER_LISTEN", "HITHER_HOLD", "HITHER_SILENCE"} {
		delete(all, name)
	}
	var out []string
	for name, value := range all {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return append(out, env...)
}

// openTerminal shows the terminal of an app in a window of the desktop, if there is
// one to show it in. Without, `hither attach` does it later.
func (d *Daemon) openTerminal(name string, env []string) {
	emulator, err := exec.LookPath("x-terminal-emulator")
	self, err2 := os.Executable()
	if err != nil || err2 != nil || env == nil {
		return
	}
	cmd := exec.Command(emulator, "-e", self, "attach", name)
	cmd.Env, cmd.Dir = d.onDesktop(env), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		log.Printf("opening a terminal for %s: %v", name, err)
		return
	}
	go cmd.Wait() //nolint:errcheck // only reaped
}
