package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// traces is all that a lab could leave behind: its processes, namespaces, mounts, links, files.
func traces(t testing.TB) []string {
	t.Helper()
	var all []string
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		if dead(p) {
			continue
		}
		line, _ := os.ReadFile(p + "/cmdline")
		if strings.Contains(string(line), "__switch\x00") || strings.Contains(string(line), "__warden\x00") || strings.Contains(string(line), "31415") {
			all = append(all, "process "+p+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
		for _, kind := range []string{"user", "net", "mnt", "pid"} {
			if ns, err := os.Readlink(p + "/ns/" + kind); err == nil {
				all = append(all, "namespace "+ns)
			}
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range strings.Split(string(mounts), "\n") {
		all = append(all, "mount "+m)
	}
	links, _ := os.ReadFile("/proc/net/dev")
	for _, l := range strings.Split(string(links), "\n") {
		name, _, _ := strings.Cut(l, ":")
		all = append(all, "link "+strings.TrimSpace(name))
	}
	files, _ := filepath.Glob("/tmp/hither-lab-*/*")
	more, _ := filepath.Glob("/tmp/hither-lab-*")
	for _, f := range append(files, more...) {
		all = append(all, "file "+f)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// dead says whether a process has ended. Until its parent takes note it has a /proc/PID, which names
// its user and pid namespaces, and after a crash its parent is the machine's pid 1, which may be slow.
func dead(proc string) bool {
	stat, err := os.ReadFile(proc + "/stat")
	_, after, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return err != nil || len(after) > 0 && (after[0] == 'Z' || after[0] == 'X')
}

// nothingNew fails if something is there that was not there before. Others may use labs meanwhile:
// only what speaks of this lab, or of no lab, counts.
func (l testLab) nothingNew(before []string) {
	l.t.Helper()
	for _, now := range traces(l.t) {
		if slices.Contains(before, now) || strings.HasPrefix(now, "namespace") {
			continue
		}
		if strings.Contains(now, l.name) || strings.Contains(now, "31415") || strings.HasPrefix(now, "mount") || strings.HasPrefix(now, "link") {
			l.t.Errorf("left behind: %s", now)
		}
	}
}

// room is the pid of the switch room.
func (l testLab) room() int {
	l.t.Helper()
	pid := l.status().PID
	if pid <= 1 {
		l.t.Fatalf("the switch room has pid %d", pid)
	}
	return pid
}

// namespaces are those of the lab's processes.
func (l testLab) namespaces() []string {
	l.t.Helper()
	pid := l.room()
	var all []string
	for _, kind := range []string{"user", "net", "mnt", "pid"} {
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, "namespace "+ns)
	}
	return all
}

func (l testLab) busy() []string {
	l.sh("a", "setsid sleep 31415 >/dev/null 2>&1 & echo x >~/f")
	l.sh("b", "unshare -Urpf --mount-proc sleep 31415 >/dev/null 2>&1 &")
	l.ok("hide", "b", "/usr/bin/env")
	return l.namespaces()
}

func (l testLab) allGone(before, namespaces []string) {
	l.t.Helper()
	l.nothingNew(before)
	eventually(l.t, "nobody is in the lab's namespaces", func() bool {
		return !slices.ContainsFunc(traces(l.t), func(s string) bool { return slices.Contains(namespaces, s) })
	})
}

// TestDeadLeaveNoTrace has a process dead whose parent has not taken note.
func TestDeadLeaveNoTrace(t *testing.T) {
	cmd := exec.Command("sleep", "31415")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	if err := cmd.Start(); err != nil {
		t.Skip("no user namespaces here: ", err)
	}
	proc := fmt.Sprintf("/proc/%d", cmd.Process.Pid)
	ns, err := os.Readlink(proc + "/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(traces(t), "namespace "+ns) {
		t.Error("it lives and leaves no trace")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is dead", func() bool { return dead(proc) })
	if slices.Contains(traces(t), "namespace "+ns) {
		t.Error("it is dead and counts all the same")
	}
	_ = cmd.Wait()
}

func TestDownLeavesNothing(t *testing.T) {
	before := traces(t)
	l := newLab(t)
	namespaces := l.busy()
	l.ok("down")
	l.allGone(before, namespaces)
	if got := l.ok("down"); !strings.Contains(got, "There was no lab") {
		t.Errorf("a second down: %q", got)
	}
	l.nothingNew(before)
}

func TestDownAfterCrash(t *testing.T) {
	before := traces(t)
	l := newLab(t)
	namespaces := l.busy()
	if err := syscall.Kill(l.room(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all processes of the lab are dead", func() bool {
		return !slices.ContainsFunc(traces(t), func(s string) bool { return slices.Contains(namespaces, s) })
	})
	// First over the remains, then without a new lab between.
	l.ok("up", "--no-daemon", "--no-desktop")
	namespaces = l.busy()
	if err := syscall.Kill(l.room(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.ok("down")
	l.allGone(before, namespaces)
}

func TestDownOfAStoppedLab(t *testing.T) {
	before := traces(t)
	l := newLab(t)
	namespaces := l.busy()
	// A switch room that answers nobody: down kills it.
	if err := syscall.Kill(l.room(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	l.ok("down")
	l.allGone(before, namespaces)
}

func TestDownWithoutSocket(t *testing.T) {
	before := traces(t)
	l := newLab(t)
	namespaces := l.busy()
	// Somebody tidied /tmp: the lab cannot be asked any more.
	if err := os.Remove(filepath.Join(l.status().Dir, "switch.sock")); err != nil {
		t.Fatal(err)
	}
	l.ok("down")
	l.allGone(before, namespaces)
}

func TestDeadHost(t *testing.T) {
	l := newLab(t)
	// The warden is pid 1 of the host: seen from outside, the child of the switch room.
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", l.status().PID))
	warden := 0
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(children)) {
			if line, _ := os.ReadFile("/proc/" + child + "/cmdline"); strings.HasSuffix(string(line), "\x00a\x00") {
				warden, _ = strconv.Atoi(child)
			}
		}
	}
	if warden <= 0 {
		t.Skip("this kernel does not list children")
	}
	if err := syscall.Kill(warden, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the death of the host is known", func() bool { return !l.status().Hosts[0].Alive })
	if _, errs, status := l.try("exec", "a", "--", "true"); status != 125 || !strings.Contains(errs, "does not answer") {
		t.Errorf("exec on a dead host: %d %q", status, errs)
	}
	l.ok("exec", "b", "--", "true")
}

func TestTwoLabs(t *testing.T) {
	one, two := newLab(t), newLab(t)
	one.echoServer("b")
	one.sh("a", "echo one >/tmp/f")
	if got := two.echo("a", "10.99.0.2"); got != "ECONNREFUSED" {
		t.Errorf("labs reach each other: %s", got)
	}
	if got := two.sh("a", "find /tmp -name f"); got != "" {
		t.Errorf("labs share files: %q", got)
	}
	two.ok("cut")
	two.ok("down")
	if got := one.echo("a", "b"); got != "ok" {
		t.Errorf("one lab's end broke the other: %s", got)
	}
}

func BenchmarkUpDown(b *testing.B) {
	l := unmadeLab(b)
	for b.Loop() {
		l.ok("up", "--no-daemon", "--no-desktop")
		l.ok("down")
	}
}

func BenchmarkExec(b *testing.B) {
	l := newLab(b)
	for b.Loop() {
		l.ok("exec", "a", "--", "true")
	}
}
