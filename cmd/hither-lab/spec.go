package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"

	"hither/transport"
)

const (
	maxHosts  = 26
	labHome   = "/home/lab" // the same path on each host, with content of its own
	labUser   = "lab"
	hostIface = "eth0"
)

// labSpec is what `up` tells the switch room.
type labSpec struct {
	Name    string
	Dir     string // the lab's folder
	Bin     string
	Shares  []string
	Hosts   int
	Daemon  bool
	Desktop bool
	Disk    string // size of each of a host's file systems, as tmpfs takes it; "" for half the memory
	// Strangers are hosts that are not paired.
	Strangers bool
	VNC       string // a folder of this machine for sockets of the desktops; "" for none
}

// hostSpec is what the switch room tells a warden.
type hostSpec struct {
	Name    string
	Number  int
	At      int // whose addresses it has; 0: those of its Number
	Bin     string
	Shares  []string
	Disk    string
	Daemon  bool
	Desktop bool
	VNC     string
	All     []hostAddress
}

// hostAddress is one line of a host's /etc/hosts.
type hostAddress struct {
	Name  string
	Addr  netip.Addr
	Addr6 netip.Addr
}

// hostName is a, b, c, ...
func hostName(number int) string { return string(rune('a' + number - 1)) }

// addressOf gives host number 1 10.99.0.1 and fd99:6869:7468::1. Each lab has network namespaces of
// its own, so labs side by side can use the same addresses.
func addressOf(number int) hostAddress {
	n := byte(number)
	v6 := [16]byte{0: 0xfd, 1: 0x99, 2: 0x68, 3: 0x69, 4: 0x74, 5: 0x68, 15: n}
	return hostAddress{hostName(number), netip.AddrFrom4([4]byte{10, 99, 0, n}), netip.AddrFrom16(v6)}
}

func (h hostSpec) own() hostAddress { return addressOf(cmp.Or(h.At, h.Number)) }

// environment is what a process of a host is given, desktop aside: nothing of the machine's own.
func (h hostSpec) environment(uid int) []string {
	return []string{
		"HOME=" + labHome,
		"USER=" + labUser,
		"LOGNAME=" + labUser,
		"SHELL=" + shell(),
		"LANG=C.UTF-8",
		"PATH=" + h.path(),
		"XDG_RUNTIME_DIR=" + runtimeDir(uid),
		"XDG_CONFIG_HOME=" + labHome + "/.config",
		"XDG_CACHE_HOME=" + labHome + "/.cache",
		"XDG_DATA_HOME=" + labHome + "/.local/share",
		"XDG_STATE_HOME=" + labHome + "/.local/state",
	}
}

func (h hostSpec) path() string {
	return h.Bin + ":/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/games"
}

func runtimeDir(uid int) string { return "/run/user/" + strconv.Itoa(uid) }

// hitherDir is where hither keeps what lies below one of the XDG folders.
func hitherDir(base string) string { return filepath.Join(base, "hither") }

func shell() string {
	if executable("/bin/bash") == nil {
		return "/bin/bash"
	}
	return "/bin/sh"
}

// wardenReady is a warden's first answer, when the host stands.
type wardenReady struct {
	Error string
	Key   []byte // the host's public key
}

// wardenGo is what each warden then learns: whom the host is paired with.
type wardenGo struct {
	Peers []transport.Peer
}

// wardenUp is a warden's last answer of the start: the daemon runs.
type wardenUp struct {
	Error string
}

// shape is how a link is shaped towards one host.
type shape struct {
	Rate  uint64  `json:"rate_bits,omitempty"`    // bits per second; 0: as fast as it goes
	Delay int64   `json:"delay_us,omitempty"`     // one way
	Loss  float64 `json:"loss_percent,omitempty"` // of packets
}

func (s shape) none() bool { return s == shape{} }

func (s shape) String() string {
	if s.none() {
		return "unshaped"
	}
	text := ""
	add := func(part string) {
		if text != "" {
			text += ", "
		}
		text += part
	}
	if s.Rate != 0 {
		add(formatRate(s.Rate))
	}
	if s.Delay != 0 {
		add(fmt.Sprintf("delay %gms", float64(s.Delay)/1000))
	}
	if s.Loss != 0 {
		add(fmt.Sprintf("loss %g%%", s.Loss))
	}
	return text
}

// linkStatus is the state of one host's link.
type linkStatus struct {
	shape
	Cut bool `json:"cut"`
}

// hostStatus is one host in `status`.
type hostStatus struct {
	Name    string         `json:"name"`
	Address string         `json:"address"`
	Addr6   string         `json:"address6"`
	Alive   bool           `json:"alive"`
	Down    bool           `json:"powered_off"`
	Daemon  int            `json:"daemon_pid"` // inside the host; 0: not running
	Procs   int            `json:"processes"`
	Link    *linkStatus    `json:"link,omitempty"`
	HardCut bool           `json:"hard_cut"`
	Hidden  []string       `json:"hidden,omitempty"`
	Desktop *desktopStatus `json:"desktop,omitempty"` // without one: a lab without desktops
}

// labStatus is the result of `status`.
type labStatus struct {
	Name  string       `json:"name"`
	Up    bool         `json:"up"`
	Dir   string       `json:"dir"`
	PID   int          `json:"pid"` // of the switch room, on this machine
	User  int          `json:"uid"`
	Home  string       `json:"home"`
	Bin   string       `json:"bin"`
	Hosts []hostStatus `json:"hosts"`
}
