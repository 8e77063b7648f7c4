package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/control"
	"hither/engine/display"
	"hither/engine/kernel"
)

// surroundings is what a host is, as far as the doctor looks at it. Tests have others.
type surroundings struct {
	abilities func() []kernel.Ability
	read      func(name string) string // of a file; "" if it cannot be read
	exists    func(name string) bool
	program   func(name string) (string, error)
	// run runs a program that says something, "" if it says nothing or is not there.
	run   func(ctx context.Context, argv ...string) string
	links func() ([]net.Interface, error)
	free  func(dir string) (uint64, error) // bytes
	env   func(name string) string
}

func thisHost() surroundings {
	return surroundings{
		abilities: kernel.Probe,
		read: func(name string) string {
			b, _ := os.ReadFile(name)
			return strings.TrimSpace(string(b))
		},
		exists:  func(name string) bool { _, err := os.Stat(name); return err == nil },
		program: exec.LookPath,
		run: func(ctx context.Context, argv ...string) string {
			ctx, stop := context.WithTimeout(ctx, 3*time.Second)
			defer stop()
			c := exec.CommandContext(ctx, argv[0], argv[1:]...)
			c.WaitDelay = time.Second
			out, _ := c.Output() // also of a status that says "no"
			return strings.TrimSpace(string(out))
		},
		links: net.Interfaces,
		free: func(dir string) (uint64, error) {
			var st unix.Statfs_t
			err := unix.Statfs(dir, &st)
			return st.Bavail * uint64(st.Bsize), err
		},
		env: os.Getenv,
	}
}

// kernelProbes are the kernel's abilities, as tried by package kernel.
func (s *surroundings) kernelProbes() []control.Probe {
	var list []control.Probe
	for _, a := range s.abilities() {
		p := control.Probe{Name: a.Name, OK: a.OK, Need: a.Needed, Detail: a.Why, Cure: a.Cure}
		if scope := s.read("/proc/sys/kernel/yama/ptrace_scope"); a.Name == kernel.Ptrace && scope != "" {
			if p.Detail != "" {
				p.Detail += "; "
			}
			p.Detail += "kernel.yama.ptrace_scope is " + scope
		}
		if a.Name == kernel.Namespaces && a.OK && s.read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
			p.Detail = "AppArmor allows them to hither"
		}
		list = append(list, p)
	}
	return list
}

// services are the servers that apps find in their capsules.
func (s *surroundings) services() []control.Probe {
	var list []control.Probe
	for _, service := range display.Services("") {
		p := control.Probe{Name: service.Name + " for apps"}
		if at, err := s.program(service.Argv[0]); err == nil {
			p.OK, p.Detail = true, at
		} else {
			p.Detail = service.Argv[0] + " is not installed: apps that want " + service.Wants + " do not find one"
			p.Cure = s.install(service.Package)
		}
		list = append(list, p)
	}
	return list
}

// install is how a package is installed here; its name is Debian's.
func (s *surroundings) install(name string) string {
	others := map[string]map[string]string{
		"xvfb":        {"dnf": "xorg-x11-server-Xvfb", "pacman": "xorg-server-xvfb", "zypper": "xorg-x11-server-Xvfb"},
		"dbus-daemon": {"dnf": "dbus-daemon", "pacman": "dbus", "zypper": "dbus-1-daemon"},
	}
	for _, m := range []struct{ program, command string }{{"apt-get", "sudo apt-get install "}, {"dnf", "sudo dnf install "}, {"pacman", "sudo pacman -S "}, {"zypper", "sudo zypper install "}} {
		if _, err := s.program(m.program); err != nil {
			continue
		}
		if other := others[name][m.program]; other != "" {
			return m.command + other
		}
		return m.command + name
	}
	return "install " + name
}

// firewall says which one is at work and how to let hither through. Whether it does
// that already only root can see; a peer that was reached from outside shows it.
func (s *surroundings) firewall(ctx context.Context, port int, reached bool) control.Probe {
	p := control.Probe{Name: "firewall", OK: true, Detail: "none was found"}
	if s.exists("/run/systemd/system") {
		switch {
		case s.run(ctx, "systemctl", "is-active", "firewalld") == "active":
			p.Detail = "firewalld is at work"
			p.Cure = fmt.Sprintf("sudo firewall-cmd --permanent --add-port=%d/udp --add-service=mdns && sudo firewall-cmd --reload", port)
		case strings.Contains(s.read("/etc/ufw/ufw.conf"), "ENABLED=yes"):
			p.Detail = "ufw is at work"
			p.Cure = fmt.Sprintf("sudo ufw allow %d/udp && sudo ufw allow 5353/udp", port)
		case s.run(ctx, "systemctl", "is-active", "nftables") == "active":
			p.Detail = "nftables is at work"
			p.Cure = fmt.Sprintf("let UDP ports %d and 5353 in, in /etc/nftables.conf: udp dport { %d, 5353 } accept", port, port)
		case s.run(ctx, "systemctl", "is-active", "netfilter-persistent") == "active":
			p.Detail = "iptables is at work"
			p.Cure = fmt.Sprintf("sudo iptables -I INPUT -p udp -m multiport --dports %d,5353 -j ACCEPT && sudo netfilter-persistent save", port)
		}
	}
	if p.Cure == "" {
		return p
	}
	if reached {
		p.Cure = ""
		p.Detail += ", and lets peers through"
		return p
	}
	p.OK = false
	p.Detail += "; whether it lets peers through is not known until one is reached"
	return p
}

// multicast says whether hosts nearby can be found by themselves.
func (s *surroundings) multicast(discoverable bool) control.Probe {
	p := control.Probe{Name: "hosts nearby (multicast DNS)"}
	links, err := s.links()
	if err != nil {
		p.Detail = err.Error()
		return p
	}
	var names []string
	for _, l := range links {
		if l.Flags&net.FlagUp != 0 && l.Flags&net.FlagMulticast != 0 && l.Flags&net.FlagLoopback == 0 {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		p.Detail = "no network here carries multicast: hosts cannot find each other by themselves"
		p.Cure = "pair by address: hither pair HOST"
		return p
	}
	p.OK, p.Detail = true, "on "+strings.Join(names, ", ")
	if !discoverable {
		p.Detail += "; this host does not tell that it is there, as its settings say"
	}
	return p
}

// desktop says where windows appear.
func (s *surroundings) desktop(shown string, reachable func(string) bool) control.Probe {
	p := control.Probe{Name: "desktop for windows"}
	switch {
	case shown == "":
		p.Detail = "hither was not used on a desktop yet: windows of apps that come are shown when it is"
		p.Cure = "run any hither command in a terminal on your desktop, once"
		if s.env("WAYLAND_DISPLAY") != "" && s.env("DISPLAY") == "" {
			p.Detail, p.Cure = "a Wayland desktop without Xwayland, through which windows are shown", s.install("xwayland")
		}
	case !reachable(shown):
		p.Detail = "the desktop " + shown + " does not answer"
		p.Cure = "run any hither command in a terminal on the desktop that you use now"
	default:
		p.OK, p.Detail = true, shown
	}
	return p
}

// service says how the daemon is started.
func (s *surroundings) service(ctx context.Context) control.Probe {
	p := control.Probe{Name: "service", OK: true, Detail: "the daemon starts when a command needs it"}
	runtime := s.env("XDG_RUNTIME_DIR")
	if runtime == "" || !s.exists(filepath.Join(runtime, "systemd")) {
		return p // no systemd for users
	}
	const enable = "systemctl --user enable --now hither"
	const onDemand = "; until a command has started the daemon, no peer reaches this host"
	switch state := s.run(ctx, "systemctl", "--user", "is-enabled", "hither"); state {
	case "enabled", "enabled-runtime", "linked", "alias":
		p.Detail = "systemd starts the daemon"
		if s.run(ctx, "systemctl", "--user", "is-active", "hither") != "active" {
			p.Detail += " at the next login; this one was started by a command"
		}
		if who, err := user.Current(); err == nil && !s.exists("/var/lib/systemd/linger/"+who.Username) {
			p.Detail += ". It ends when you log out; `loginctl enable-linger` keeps it"
		}
	case "disabled":
		p.OK, p.Detail, p.Cure = false, "systemd does not start the daemon"+onDemand, enable
	case "masked":
		p.OK, p.Detail, p.Cure = false, "the service is masked"+onDemand, "systemctl --user unmask hither && "+enable
	default:
		p.OK, p.Detail = false, "hither is not installed as a service"+onDemand
		p.Cure = "`make install`, or the Debian package, brings one; then: systemctl --user daemon-reload && " + enable
	}
	return p
}

// notifications says whether a person can be asked on the desktop.
func (s *surroundings) notifications(env []string) control.Probe {
	p := control.Probe{Name: "notifications"}
	address := lookupEnv(env, "DBUS_SESSION_BUS_ADDRESS")
	if address == "" {
		address = s.env("DBUS_SESSION_BUS_ADDRESS")
	}
	if runtime := s.env("XDG_RUNTIME_DIR"); address == "" && runtime != "" && s.exists(filepath.Join(runtime, "bus")) {
		address = filepath.Join(runtime, "bus")
	}
	if address == "" {
		p.Detail = "no session bus of a desktop is known: questions wait for the window, or `hither answer`"
		p.Cure = "run any hither command in a terminal on your desktop, once"
		return p
	}
	p.OK, p.Detail = true, "by the session bus"
	return p
}

// leastSpace is what files of apps that come should find.
const leastSpace = 1 << 30

func (s *surroundings) space(dir string) control.Probe {
	p := control.Probe{Name: "space for files"}
	free, err := s.free(dir)
	if err != nil {
		p.Detail = err.Error()
		return p
	}
	p.OK, p.Detail = true, fmt.Sprintf("%.1f GB in %s", float64(free)/1e9, dir)
	if free < leastSpace {
		p.OK, p.Cure = false, "make room: apps bring files along"
	}
	return p
}
