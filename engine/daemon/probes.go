package daemon

import (
	"os"
	"os/exec"
	"strings"
	"syscall"

	"hither/engine/control"
)

// kernelProbes tries what capsules and moves need of the kernel.
func kernelProbes() []control.Probe {
	var list []control.Probe
	ns := control.Probe{Name: "user namespaces", Need: true, OK: true}
	cmd := exec.Command("/proc/self/exe", "help")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}}
	if err := cmd.Run(); err != nil {
		ns.OK, ns.Detail = false, err.Error()
		ns.Cure = "allow them: sysctl kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0 or hither's AppArmor profile (Ubuntu), user.max_user_namespaces > 0"
	}
	list = append(list, ns)
	yama := control.Probe{Name: "tracing the processes of a capsule", Need: true, OK: true}
	if b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil {
		yama.Detail = "ptrace_scope " + strings.TrimSpace(string(b))
		if scope := strings.TrimSpace(string(b)); scope == "2" || scope == "3" {
			yama.OK, yama.Cure = false, "sysctl kernel.yama.ptrace_scope=1"
		}
	}
	return append(list, yama)
}
