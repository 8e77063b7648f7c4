//go:build linux && amd64

package kernel

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	ProbeChild()
	os.Exit(m.Run())
}

func TestProbe(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range Probe() {
		t.Logf("%-30s ok=%-5v needed=%-5v %s [%s]", a.Name, a.OK, a.Needed, a.Why, a.Cure)
		if seen[a.Name] {
			t.Errorf("%s is reported twice", a.Name)
		}
		seen[a.Name] = true
		if !a.OK && a.Why == "" {
			t.Errorf("%s is missing without a reason", a.Name)
		}
		if a.OK && a.Why != "" {
			t.Errorf("%s is there, but: %s", a.Name, a.Why)
		}
	}
	for name := range needed {
		if !seen[name] {
			t.Errorf("%s was not tried", name)
		}
	}
	if len(seen) != 17 {
		t.Errorf("%d abilities", len(seen))
	}
}

// TestBlockers: what keeps user namespaces from working is named, with its cure.
func TestBlockers(t *testing.T) {
	real := setting
	defer func() { setting = real }()
	for _, c := range []struct {
		name, value string
		err         error
		why, cure   string
	}{
		{"kernel/apparmor_restrict_unprivileged_userns", "1", unix.EPERM, "AppArmor", "hither doctor --apparmor"},
		{"kernel/unprivileged_userns_clone", "0", unix.EPERM, "unprivileged_userns_clone", "sysctl kernel.unprivileged_userns_clone=1"},
		{"user/max_user_namespaces", "0", unix.ENOSPC, "max_user_namespaces", "sysctl user.max_user_namespaces"},
		{"", "", unix.ENOSPC, "limit", "/proc/sys/user/"},
		{"", "", unix.EPERM, "not permitted", "container"},
	} {
		setting = func(name string) string {
			if name == c.name {
				return c.value
			}
			return ""
		}
		if why, cure := namespaceBlocker(c.err); !strings.Contains(why, c.why) || !strings.Contains(cure, c.cure) {
			t.Errorf("%s=%s: %q, %q", c.name, c.value, why, cure)
		}
	}
	setting = func(name string) string {
		if name == "kernel/apparmor_restrict_unprivileged_userns" {
			return "1"
		}
		return ""
	}
	if a := namespaces([]Ability{{Name: SetTid, Why: "EPERM"}, {Name: TimeNamespace, Why: "EPERM"}}); a.OK || !strings.Contains(a.Why, "AppArmor") {
		t.Errorf("%+v", a)
	}
	if a := namespaces([]Ability{{Name: SetTid, OK: true}, {Name: Fuse, Why: "no device"}}); !a.OK {
		t.Errorf("%+v", a)
	}
}

func TestStructures(t *testing.T) {
	if CloneArgsSize != 88 || MMMapSize != 104 {
		t.Errorf("clone_args of %d bytes, prctl_mm_map of %d", CloneArgsSize, MMMapSize)
	}
}

func TestSame(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	pid := os.Getpid()
	same := func(a, b uintptr) int {
		n, err := Kcmp(pid, pid, KcmpFile, uint64(a), uint64(b))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if same(r.Fd(), r.Fd()) != 0 || same(r.Fd(), w.Fd()) == 0 {
		t.Error("kcmp cannot tell descriptors apart")
	}
	got := make([]byte, 4)
	if n, err := ReadProcess(pid, got, 0); err == nil || n != 0 {
		t.Errorf("reading at 0: %d %v", n, err)
	}
}
