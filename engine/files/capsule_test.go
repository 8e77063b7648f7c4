package files

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A capsule for tests: a child in its own user and mount namespaces that
// builds a root as engine/capsule does, applies mounts and runs a script.

const capsuleEnv = "HITHER_FILES_TEST_CAPSULE"

func TestMain(m *testing.M) {
	if spec := os.Getenv(capsuleEnv); spec != "" {
		if err := inCapsule(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(111)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type capsuleSpec struct {
	Mounts []Mount
	Script string
}

// inside runs a shell script where the mounts are in effect, and gives what
// it printed.
func inside(t *testing.T, mounts []Mount, script string) string {
	t.Helper()
	spec, _ := json.Marshal(capsuleSpec{mounts, script})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), capsuleEnv+"="+string(spec))
	id := func(n int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: n, HostID: n, Size: 1}}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC,
		UidMappings: id(os.Getuid()), GidMappings: id(os.Getgid()),
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_DAC_OVERRIDE},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in the capsule: %v\n%s\nmounts: %+v", err, out, mounts)
	}
	return string(out)
}

func inCapsule(raw string) error {
	var spec capsuleSpec
	if err := json.Unmarshal([]byte(raw), &spec); err != nil {
		return err
	}
	const root = "/mnt"
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private: %w", err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	list, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, de := range list {
		host, at := "/"+de.Name(), filepath.Join(root, de.Name())
		switch {
		case de.Type()&os.ModeSymlink != 0:
			target, _ := os.Readlink(host)
			err = os.Symlink(target, at)
		case de.IsDir() && host != root:
			if err = os.Mkdir(at, 0o755); err == nil {
				err = unix.Mount(host, at, "", unix.MS_BIND|unix.MS_REC, "")
			}
		}
		if err != nil {
			return fmt.Errorf("skeleton %s: %w", host, err)
		}
	}
	for _, m := range spec.Mounts {
		if err := applyMount(root, m); err != nil {
			return fmt.Errorf("%+v: %w", m, err)
		}
	}
	if err := unix.Chroot(root); err != nil {
		return err
	}
	os.Chdir("/")
	os.Unsetenv(capsuleEnv)
	return unix.Exec("/bin/sh", []string{"sh", "-ec", spec.Script}, []string{"PATH=/usr/bin:/bin"})
}

func applyMount(root string, m Mount) error {
	at := filepath.Join(root, m.Target)
	var from os.FileInfo
	if m.Kind == MountBind {
		st, err := os.Stat(m.Sources[0])
		if err != nil {
			return err
		}
		from = st
	}
	if m.Kind == MountSymlink {
		os.MkdirAll(filepath.Dir(at), 0o755)
		return os.Symlink(string(m.Data), at)
	}
	if _, err := os.Lstat(at); err != nil {
		if from != nil && !from.IsDir() {
			os.MkdirAll(filepath.Dir(at), 0o755)
			if err := os.WriteFile(at, nil, 0o644); err != nil {
				return err
			}
		} else if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
	}
	switch m.Kind {
	case MountBind:
		if err := unix.Mount(m.Sources[0], at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
		if !m.ReadOnly {
			return nil
		}
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		return unix.MountSetattr(unix.AT_FDCWD, at, unix.AT_RECURSIVE, &attr)
	case MountOverlay:
		return unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, m.OverlayOptions())
	case MountTmpfs:
		return unix.Mount("tmpfs", at, "tmpfs", 0, "mode=755")
	}
	return nil
}

// write makes a file with its parents.
func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func lines(s ...string) string { return strings.Join(s, "\n") + "\n" }
