package capsule

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"hither/engine/display"
)

// RuntimeDir is the capsule's own XDG_RUNTIME_DIR.
func RuntimeDir(uid int) string { return "/run/user/" + strconv.Itoa(uid) }

// outside are variables that name things which a capsule does not have: sockets
// in the host's private folders, terminals, sessions and services of the host.
// Package display names those of its desktop.
var outside = map[string]bool{
	"XDG_SESSION_ID": true, "XDG_SEAT": true, "XDG_VTNR": true,
	"SSH_AUTH_SOCK": true, "SSH_AGENT_PID": true, "SSH_TTY": true, "GPG_AGENT_INFO": true, "GPG_TTY": true,
	"TMUX": true, "TMUX_PANE": true, "STY": true, "PULSE_SERVER": true, "PIPEWIRE_REMOTE": true,
	"NOTIFY_SOCKET": true, "LISTEN_FDS": true, "LISTEN_PID": true, "LISTEN_FDNAMES": true,
	"INVOCATION_ID": true, "JOURNAL_STREAM": true, "WATCHDOG_PID": true, "WATCHDOG_USEC": true, "MANAGERPID": true,
}

// insideEnv is a host's environment made true for the inside of a capsule.
func insideEnv(env []string, uid int, noDisplay bool) []string {
	out := make([]string, 0, len(env)+16)
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case outside[name], slices.Contains(display.HostEnv, name), name == "XDG_RUNTIME_DIR":
			continue
		case name == "TMPDIR" && path.Clean(value) != "/tmp" && strings.HasPrefix(value, "/tmp"):
			continue
		}
		out = append(out, kv)
	}
	out = append(out, "XDG_RUNTIME_DIR="+RuntimeDir(uid))
	if noDisplay {
		return append(out, display.NoEnv()...)
	}
	for _, s := range display.Searched {
		folders := lookup(out, s.Name)
		if folders == "" {
			folders = s.Usual
		}
		if folders == "" {
			continue
		}
		out = slices.DeleteFunc(out, func(kv string) bool { return strings.HasPrefix(kv, s.Name+"=") })
		out = append(out, s.Name+"="+path.Join(RuntimeDir(uid), display.Links, s.Below)+":"+folders)
	}
	return append(out, display.Env(RuntimeDir(uid))...)
}

// lookup is the value of a variable in an environment.
func lookup(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(env[i], name+"="); ok {
			return v
		}
	}
	return ""
}
