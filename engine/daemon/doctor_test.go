package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"hither/engine/control"
	"hither/engine/kernel"
)

// madeUp is a host that is as a test wants it; without more it is a bare one.
type madeUp struct {
	files    map[string]string
	programs string
	says     map[string]string
	env      map[string]string
	links    []net.Interface
	free     uint64
}

func (m madeUp) host() *surroundings {
	return &surroundings{
		abilities: func() []kernel.Ability { return nil },
		read:      func(name string) string { return m.files[name] },
		exists:    func(name string) bool { _, ok := m.files[name]; return ok },
		program: func(name string) (string, error) {
			if slices.Contains(strings.Fields(m.programs), name) {
				return "/usr/bin/" + name, nil
			}
			return "", os.ErrNotExist
		},
		run:   func(_ context.Context, argv ...string) string { return m.says[strings.Join(argv, " ")] },
		links: func() ([]net.Interface, error) { return m.links, nil },
		free: func(string) (uint64, error) {
			if m.free == 0 {
				return 0, errors.New("no such disk")
			}
			return m.free, nil
		},
		env: func(name string) string { return m.env[name] },
	}
}

func check(t *testing.T, what string, p control.Probe, ok bool, detail, cure string) {
	t.Helper()
	if p.OK != ok || !strings.Contains(p.Detail, detail) || !strings.Contains(p.Cure, cure) || p.Name == "" || p.OK && p.Cure != "" || cure == "" && p.Cure != "" {
		t.Errorf("%s: %+v", what, p)
	}
}

// TestDoctor: what is missing on a host is told, with its cure.
func TestDoctor(t *testing.T) {
	ctx := t.Context()
	systemd := map[string]string{"/run/systemd/system": "", "/run/user/7/systemd": "", "/etc/ufw/ufw.conf": "ENABLED=no"}
	ufw := map[string]string{"/run/systemd/system": "", "/etc/ufw/ufw.conf": "# x\nENABLED=yes\nLOGLEVEL=low"}
	says := func(what, answer string) map[string]string { return map[string]string{what: answer} }
	for _, c := range []struct {
		what         string
		m            madeUp
		reached, ok  bool
		detail, cure string
	}{
		{"nothing", madeUp{}, false, true, "none was found", ""},
		{"nothing", madeUp{files: systemd}, false, true, "none was found", ""},
		{"ufw", madeUp{files: ufw}, false, false, "ufw is at work", "sudo ufw allow 44843/udp"},
		{"ufw", madeUp{files: ufw}, true, true, "lets peers through", ""},
		{"firewalld", madeUp{files: systemd, says: says("systemctl is-active firewalld", "active")}, false, false, "firewalld", "--add-port=44843/udp"},
		{"nftables", madeUp{files: systemd, says: says("systemctl is-active nftables", "active")}, false, false, "nftables", "udp dport { 44843, 5353 }"},
		{"iptables", madeUp{files: systemd, says: says("systemctl is-active netfilter-persistent", "active")}, false, false, "iptables", "--dports 44843,5353"},
	} {
		check(t, "a firewall: "+c.what, c.m.host().firewall(ctx, 44843, c.reached), c.ok, c.detail, c.cure)
	}

	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/7"}
	for _, c := range []struct {
		state, active string
		ok            bool
		detail, cure  string
	}{
		{"enabled", "active", true, "systemd starts", ""},
		{"enabled", "inactive", true, "at the next login", ""},
		{"disabled", "", false, "does not start", "systemctl --user enable --now hither"},
		{"masked", "", false, "masked", "unmask hither"},
		{"", "", false, "not installed", "make install"},
	} {
		m := madeUp{files: systemd, env: env, says: map[string]string{"systemctl --user is-enabled hither": c.state, "systemctl --user is-active hither": c.active}}
		check(t, "a service that is "+c.state, m.host().service(ctx), c.ok, c.detail, c.cure)
	}
	check(t, "no systemd", madeUp{env: env}.host().service(ctx), true, "when a command needs it", "")

	up := net.Interface{Name: "eth7", Flags: net.FlagUp | net.FlagMulticast}
	lo := net.Interface{Name: "lo", Flags: net.FlagUp | net.FlagMulticast | net.FlagLoopback}
	check(t, "a network", madeUp{links: []net.Interface{lo, up}}.host().multicast(true), true, "eth7", "")
	check(t, "a hidden host", madeUp{links: []net.Interface{up}}.host().multicast(false), true, "does not tell", "")
	check(t, "no network", madeUp{links: []net.Interface{lo}}.host().multicast(true), false, "multicast", "hither pair HOST")

	there, gone := func(string) bool { return true }, func(string) bool { return false }
	check(t, "a desktop", madeUp{}.host().desktop(":1", there), true, ":1", "")
	check(t, "a desktop that has ended", madeUp{}.host().desktop(":1", gone), false, ":1", "desktop that you use now")
	check(t, "no desktop", madeUp{}.host().desktop("", gone), false, "not used", "once")
	check(t, "Wayland alone", madeUp{programs: "dnf", env: map[string]string{"WAYLAND_DISPLAY": "wayland-0"}}.host().desktop("", gone), false, "Xwayland", "sudo dnf install xwayland")

	check(t, "no bus", madeUp{}.host().notifications(nil), false, "hither answer", "once")
	check(t, "a bus of a desktop", madeUp{}.host().notifications([]string{"DBUS_SESSION_BUS_ADDRESS=unix:path=/x"}), true, "", "")
	check(t, "a bus", madeUp{env: env, files: map[string]string{"/run/user/7/bus": ""}}.host().notifications(nil), true, "", "")

	check(t, "space", madeUp{free: 5e9}.host().space("/d"), true, "5.0 GB in /d", "")
	check(t, "little space", madeUp{free: 5e7}.host().space("/d"), false, "0.1 GB", "make room")
	check(t, "no disk", madeUp{}.host().space("/d"), false, "no such disk", "")

	bare := madeUp{programs: "apt-get"}.host().services()
	check(t, "no Xvfb", bare[0], false, "Xvfb is not installed", "sudo apt-get install xvfb")
	check(t, "no bus daemon", bare[1], false, "dbus-daemon", "sudo apt-get install dbus-daemon")
	check(t, "Xvfb on Arch", madeUp{programs: "pacman"}.host().services()[0], false, "", "sudo pacman -S xorg-server-xvfb")
	check(t, "Xvfb on nothing known", madeUp{}.host().services()[0], false, "", "install xvfb")
	check(t, "Xvfb", madeUp{programs: "Xvfb"}.host().services()[0], true, "/usr/bin/Xvfb", "")

	m := madeUp{files: map[string]string{"/proc/sys/kernel/yama/ptrace_scope": "1", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}}.host()
	m.abilities = func() []kernel.Ability {
		return []kernel.Ability{{Name: kernel.Namespaces, OK: true, Needed: true}, {Name: kernel.Ptrace, Needed: true, Why: "EPERM", Cure: "allow it"}}
	}
	probes := m.kernelProbes()
	check(t, "namespaces", probes[0], true, "AppArmor allows", "")
	check(t, "ptrace", probes[1], false, "EPERM; kernel.yama.ptrace_scope is 1", "allow it")
	if !probes[0].Need || !probes[1].Need {
		t.Errorf("%+v", probes)
	}
}
