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

// A capsule is made by its pid 1 itself:
//
//	keeper -> stage   new user, mnt, ipc, uts, net and pid namespaces; it makes the
//	                  network, the root, /proc, the terminal, the descriptors
//	       -> pid 1   the same process executes the program of init_amd64.s, and
//	                  with that enters the time namespace it made
//
// It tells the keeper by lines of JSON (report) on a pipe; the pipe's end without
// an error is success, because the stage's end of it closes on exec.

// Descriptors that the stage inherits.
const (
	stageSpec   = 3 // memfd with the Spec as JSON
	stageReport = 4 // write end of the report pipe
	stageSelf   = 5 // the hither binary
)

// report is a line from the stage to the keeper.
type report struct {
	Made  bool   `json:"made,omitempty"`
	Net   string `json:"net,omitempty"`    // kind of the network's descriptor
	NoNet string `json:"no_net,omitempty"` // why there is none
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

// stageSetup reads what to make.
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

// InitMain is the hidden command "capsule-init": pid 1 before it becomes the
// small program.
func InitMain() {
	s, err := stageSetup()
	if err == nil {
		err = makeCapsule(s)
	}
	fail(err)
}

// makeCapsule returns only if the capsule could not be made.
func makeCapsule(s *Spec) error {
	if s.Hostname != "" {
		if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
			return fmt.Errorf("setting the host name %q: %w", s.Hostname, err)
		}
	}
	net, kind, why, err := netFor()
	if err != nil {
		return err
	}
	if err := buildRoot(s, net >= 0); err != nil {
		return err
	}
	if err := enterRoot(); err != nil {
		return err
	}
	if err := setClocks(s.Clocks); err != nil {
		return err
	}
	tell(stageReport, report{Made: true, Net: kind, NoNet: why})
	return becomeInit(s, net)
}

// setClocks makes a time namespace, which this thread enters by its next exec.
func setClocks(c ClockOffsets) error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("making a time namespace (the kernel needs CONFIG_TIME_NS): %w", err)
	}
	offsets := offsetLine("monotonic", c.Monotonic) + offsetLine("boottime", c.Boottime)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid()), []byte(offsets), 0); err != nil {
		return fmt.Errorf("setting the capsule's clocks: %w", err)
	}
	return nil
}

func offsetLine(clock string, ns int64) string {
	sec, nsec := ns/1e9, ns%1e9
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	return fmt.Sprintf("%s %d %d\n", clock, sec, nsec)
}

// stageCommand is what the keeper runs to make a capsule.
func stageCommand(spec, reports, self *os.File) *exec.Cmd {
	uid, gid := os.Getuid(), os.Getgid()
	cmd := exec.Command("/proc/self/exe", "capsule-init")
	cmd.Args[0] = "hither"
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{spec, reports, self}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
		Setsid:      true,
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
		cure = "the kernel lacks one of user, mnt, ipc, uts, net and pid namespaces"
	}
	if cure == "" {
		return fmt.Errorf("making the capsule's namespaces: %w", err)
	}
	return fmt.Errorf("making the capsule's namespaces: %w (%s)", err, cure)
}
