//go:build linux && amd64

package kernel

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Ability is something the kernel may or may not let this user do.
type Ability struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"`         // without it hither cannot move apps; else it only does it less well
	Why    string `json:"why,omitempty"`  // what was seen
	Cure   string `json:"cure,omitempty"` // what a person can do
}

// The names of abilities that others ask for.
const (
	Namespaces     = "user namespaces"
	TimeNamespace  = "time namespace"
	SetTid         = "clone3 with chosen ids"
	Ptrace         = "ptrace"
	ProcessMemory  = "memory of other processes"
	PageScanning   = "PAGEMAP_SCAN"
	DirtyTracking  = "dirty page tracking"
	TakeDescriptor = "pidfd_getfd"
	Compare        = "kcmp"
	Overlay        = "overlayfs in a user namespace"
	Tun            = "tun device"
	Veth           = "veth and packet socket"
	Fuse           = "FUSE"
	TCPRepair      = "TCP_REPAIR"
	UDPBuffers     = "UDP buffers"
	HardLimits     = "hard limits"
	SysVIDs        = "System V ids"
)

// inside are the abilities that are tried in a child with namespaces of its own.
var inside = []string{SetTid, TimeNamespace, Overlay, Tun, Veth, Fuse, TCPRepair, SysVIDs}

// needed are the abilities that no move goes without.
var needed = map[string]bool{
	Namespaces: true, SetTid: true, TimeNamespace: true, Ptrace: true,
	ProcessMemory: true, TakeDescriptor: true, Compare: true,
}

// probeName is argv[0] of the child that Probe starts.
const probeName = "hither-probe"

// childFlags are a capsule's namespaces.
const childFlags = unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET

// Probe tries out what hither builds on. The program must call ProbeChild
// before anything else in its main.
func Probe() []Ability {
	var all []Ability
	child, abilities, err := startProbe(childFlags)
	if err != nil {
		why, cure := namespaceBlocker(err)
		all = append(all, Ability{Name: Namespaces, Why: why, Cure: cure})
		for _, name := range inside {
			abilities = append(abilities, Ability{Name: name, Why: "needs user namespaces"})
		}
		child, _, err = startProbe(0)
	} else {
		all = append(all, namespaces(abilities))
	}
	all = append(all, abilities...)
	if err != nil {
		all = append(all, Ability{Name: Ptrace, Why: err.Error()})
	} else {
		all = append(all, probeOther(child.cmd.Process.Pid)...)
		child.end()
	}
	all = append(all, probeSelf()...)
	for i := range all {
		all[i].Needed = needed[all[i].Name]
	}
	return all
}

// ProbeChild does the part of the child of Probe and does not return, if this
// process is one. Otherwise it does nothing.
func ProbeChild() {
	if len(os.Args) == 0 || os.Args[0] != probeName {
		return
	}
	namespaced := len(os.Args) > 1 && os.Args[1] == "namespaced"
	report := []Ability{}
	if namespaced {
		report = probeInside()
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		os.Exit(1)
	}
	// Be looked at until the parent has seen enough.
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

type probed struct {
	cmd *exec.Cmd
	in  io.Closer
}

func (p *probed) end() {
	p.in.Close()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func startProbe(flags uintptr) (*probed, []Ability, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{probeName}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if flags != 0 {
		cmd.Args = append(cmd.Args, "namespaced")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  flags,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		}
		for c := range uintptr(unix.CAP_LAST_CAP + 1) {
			cmd.SysProcAttr.AmbientCaps = append(cmd.SysProcAttr.AmbientCaps, c)
		}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	p := &probed{cmd: cmd, in: in}
	line, err := bufio.NewReader(io.LimitReader(out, 1<<20)).ReadBytes('\n')
	var report []Ability
	if err == nil {
		err = json.Unmarshal(line, &report)
	}
	if err != nil {
		p.end()
		return nil, nil, fmt.Errorf("the child in namespaces of its own failed: %w", err)
	}
	return p, report, nil
}

// namespaceBlocker names what stands in the way of user namespaces.
func namespaceBlocker(err error) (why, cure string) {
	switch {
	case setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return "AppArmor restricts unprivileged user namespaces (kernel.apparmor_restrict_unprivileged_userns=1)",
			"hither doctor --apparmor | sudo tee /etc/apparmor.d/hither && sudo apparmor_parser --replace /etc/apparmor.d/hither"
	case setting("kernel/unprivileged_userns_clone") == "0":
		return "this kernel forbids user namespaces to ordinary users (kernel.unprivileged_userns_clone=0)",
			"sudo sysctl kernel.unprivileged_userns_clone=1"
	case setting("user/max_user_namespaces") == "0":
		return "no user namespaces are allowed here (user.max_user_namespaces=0)",
			"sudo sysctl user.max_user_namespaces=15000"
	case errors.Is(err, unix.ENOSPC):
		return fmt.Sprintf("a limit on namespaces is reached: %v", err), "raise the limits in /proc/sys/user/"
	}
	return err.Error(), "if this is a container, allow it user namespaces (its seccomp profile forbids them)"
}

// namespaces judges user namespaces that could be made by what could be done in them:
// AppArmor lets some programs make them, and then forbids everything there.
func namespaces(inside []Ability) Ability {
	for _, a := range inside {
		if a.OK {
			return Ability{Name: Namespaces, OK: true}
		}
	}
	why, cure := namespaceBlocker(errors.New("nothing is allowed in a user namespace here"))
	return Ability{Name: Namespaces, Why: why, Cure: cure}
}

// setting is the value of a sysctl, "" if there is none. Tests have others.
var setting = func(name string) string {
	raw, _ := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(raw))
}

// ability makes an Ability out of an error.
func ability(name string, err error, cure string) Ability {
	if err == nil {
		return Ability{Name: name, OK: true}
	}
	return Ability{Name: name, Why: err.Error(), Cure: cure}
}
