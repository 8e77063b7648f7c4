package capsule

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Making a capsule takes two steps because a time namespace is entered only by
// the next process, once its offsets are set:
//
//	keeper -> stage 1   new user, mnt, ipc, uts and net namespaces: the root, the network
//	       -> stage 2   new time and pid namespaces, as pid 1: /proc, the terminal, the descriptors
//	       -> pid 1     stage 2 executes the program of init_amd64.s
//
// Each tells the keeper by lines of JSON (report) on a pipe; the pipe's end
// without an error is success, because stage 2's end of it closes on exec.

// Descriptors that the stages inherit.
const (
	stageSpec   = 3 // memfd with the Spec as JSON
	stageReport = 4 // write end of the report pipe
	stageSelf   = 5 // the hither binary
	stageNet    = 6 // stage 2 only, and only with the argument "net"
)

// report is a line from a stage to the keeper.
type report struct {
	Pid   int    `json:"pid,omitempty"` // of pid 1, on the host
	Net   string `json:"net,omitempty"`
	Error string `json:"error,omitempty"`
}

func tell(fd int, r report) {
	b, _ := json.Marshal(r)
	b = append(b, '\n')
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		b = b[n:]
	}
}

// fail reports why a capsule could not be made and ends the stage.
func fail(err error) {
	tell(stageReport, report{Error: err.Error()})
	os.Exit(1)
}

// stageSetup reads the spec without moving its offset, which the stages share.
func stageSetup() (*Spec, error) {
	runtime.LockOSThread() // namespaces and capabilities belong to a thread
	unix.CloseOnExec(stageSpec)
	unix.CloseOnExec(stageReport)
	unix.CloseOnExec(stageSelf)
	unix.Umask(0)
	var st unix.Stat_t
	if err := unix.Fstat(stageSpec, &st); err != nil {
		return nil, fmt.Errorf("reading what the capsule is to be (is this not a keeper's child?): %w", err)
	}
	buf := make([]byte, st.Size)
	n, err := unix.Pread(stageSpec, buf, 0)
	if err != nil {
		return nil, fmt.Errorf("reading what the capsule is to be: %w", err)
	}
	s := &Spec{}
	if err := json.Unmarshal(buf[:n], s); err != nil {
		return nil, fmt.Errorf("reading what the capsule is to be: %w", err)
	}
	return s, nil
}

// Stage1Main is the hidden command "capsule-init".
func Stage1Main() {
	s, err := stageSetup()
	if err == nil {
		err = stage1(s)
	}
	if err != nil {
		fail(err)
	}
	os.Exit(0)
}

func stage1(s *Spec) error {
	if s.Hostname != "" {
		if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
			return fmt.Errorf("setting the host name %q: %w", s.Hostname, err)
		}
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	net, kind, err := openNetwork()
	if err != nil {
		return fmt.Errorf("making the capsule's network: %w", err)
	}
	if err := buildRoot(s); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("making a time namespace (the kernel needs CONFIG_TIME_NS): %w", err)
	}
	offsets := offsetLine("monotonic", s.Clocks.Monotonic) + offsetLine("boottime", s.Clocks.Boottime)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid()), []byte(offsets), 0); err != nil {
		return fmt.Errorf("setting the capsule's clocks: %w", err)
	}
	files := []uintptr{^uintptr(0), ^uintptr(0), ^uintptr(0), stageSpec, stageReport, stageSelf}
	args := []string{"hither", "capsule-init2"}
	if net >= 0 {
		files, args = append(files, uintptr(net)), append(args, "net")
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening /dev/null: %w", err)
	}
	files[0], files[1], files[2] = uintptr(null), uintptr(null), uintptr(null)
	// Not os/exec: its first use tries out pidfds with a child of this thread.
	pid, err := syscall.ForkExec("/proc/self/exe", args, &syscall.ProcAttr{
		Files: files,
		Env:   []string{},
		Sys:   &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("making a pid namespace: %w", err)
	}
	tell(stageReport, report{Pid: pid, Net: kind})
	return nil
}

func offsetLine(clock string, ns int64) string {
	sec, nsec := ns/1e9, ns%1e9
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	return fmt.Sprintf("%s %d %d\n", clock, sec, nsec)
}

// stage1Command is what the keeper runs to make a capsule.
func stage1Command(spec, reports, self *os.File) *exec.Cmd {
	uid, gid := os.Getuid(), os.Getgid()
	cmd := exec.Command("/proc/self/exe", "capsule-init")
	cmd.Args[0] = "hither"
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{spec, reports, self}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		AmbientCaps: allCaps(),
	}
	return cmd
}

// explainNamespaces adds a cure to the error of a clone that was refused.
func explainNamespaces(err error) error {
	on := func(file, value string) bool {
		b, err := os.ReadFile(file)
		return err == nil && strings.TrimSpace(string(b)) == value
	}
	cure := ""
	switch {
	case on("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
		cure = "AppArmor restricts user namespaces on this system: install hither's AppArmor profile, or as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	case on("/proc/sys/kernel/unprivileged_userns_clone", "0"):
		cure = "this system forbids user namespaces to ordinary users; as root: sysctl kernel.unprivileged_userns_clone=1"
	case on("/proc/sys/user/max_user_namespaces", "0"):
		cure = "this system allows no user namespaces; as root: sysctl user.max_user_namespaces=10000"
	case errors.Is(err, unix.ENOSPC):
		cure = "too many namespaces; as root raise the limits in /proc/sys/user"
	case errors.Is(err, unix.EPERM):
		cure = "a container's seccomp filter or a chroot may forbid it here"
	case errors.Is(err, unix.EINVAL):
		cure = "the kernel lacks one of user, mnt, ipc, uts and net namespaces"
	}
	if cure == "" {
		return fmt.Errorf("making the capsule's namespaces: %w", err)
	}
	return fmt.Errorf("making the capsule's namespaces: %w (%s)", err, cure)
}
