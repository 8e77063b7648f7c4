package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// up makes a lab and returns when it is ready.
func up(p place, spec labSpec) error {
	if err := p.make(); err != nil {
		return err
	}
	lock, err := p.lock()
	if errors.Is(err, errBusy) {
		return fmt.Errorf("lab %q is up already: `hither-lab%s down` ends it", p.name, labFlag(p))
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := clearStale(p); err != nil {
		return err
	}
	if err := startSwitchRoom(p, spec, lock); err != nil {
		lock.Close()
		return errors.Join(err, p.remove())
	}
	return nil
}

// labFlag is what to add to a command that a message proposes.
func labFlag(p place) string {
	if p.name == defaultLab {
		return ""
	}
	return " --lab " + p.name
}

// clearStale removes what a lab left that did not end by `down`. We hold the lock.
func clearStale(p place) error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return fmt.Errorf("looking for the remains of an older lab: %w", err)
	}
	for _, e := range entries {
		if e.Name() == filepath.Base(p.lockFile()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(p.dir, e.Name())); err != nil {
			return fmt.Errorf("removing the remains of an older lab: %w", err)
		}
	}
	return nil
}

func startSwitchRoom(p place, spec labSpec, lock *os.File) error {
	talk, theirs, err := socketPair("up")
	if err != nil {
		return err
	}
	defer talk.Close()
	defer theirs.Close()
	log, err := os.OpenFile(p.logFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the lab's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"hither-lab", switchCommand, p.name}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs, lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: allCapabilities(),
		Setsid:      true,
	}
	if err := cmd.Start(); err != nil {
		return noNamespaces(err)
	}
	theirs.Close()
	if err = send(talk, spec); err == nil {
		var rep reply
		if _, err = receive(talk, &rep); err == nil {
			err = rep.decode(nil)
		} else {
			err = fmt.Errorf("the lab died while it started: %s", tail(p.logFile()))
		}
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		if strings.Contains(err.Error(), "permission denied") || strings.Contains(err.Error(), "not permitted") {
			return noNamespaces(err) // AppArmor grants the namespace and denies what it is for
		}
		return err
	}
	return cmd.Process.Release()
}

// noNamespaces explains why the kernel refused the lab's namespaces.
func noNamespaces(err error) error {
	cure := ""
	switch {
	case readNumber("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		cure = ": this machine forbids user namespaces to ordinary users; as root: sysctl kernel.unprivileged_userns_clone=1"
	case readNumber("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		cure = ": AppArmor restricts user namespaces on this machine; as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	case readNumber("/proc/sys/user/max_user_namespaces") == "0":
		cure = ": this machine allows no user namespaces; as root: sysctl user.max_user_namespaces=10000"
	case errors.Is(err, syscall.EPERM):
		cure = ": in a container its seccomp profile may forbid them: run the lab outside of it"
	}
	return fmt.Errorf("making the lab's namespaces: %w%s", err, cure)
}

func readNumber(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

const downWait = 15 * time.Second

// down ends a lab, whatever state it is in; existed tells whether there was anything to end.
func down(p place) (existed bool, err error) {
	if _, err := os.Lstat(p.dir); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err := owned(filepath.Dir(p.dir)); err != nil {
		return false, err
	}
	if pid := listenerPID(p.switchSocket()); pid > 0 {
		if err := endSwitchRoom(p, pid); err != nil {
			return true, err
		}
	}
	lock, err := p.lock()
	if errors.Is(err, errBusy) {
		// It holds the lock and does not listen: it is just starting, or broken.
		if err := killLockHolder(p); err != nil {
			return true, err
		}
		lock, err = p.lock()
	}
	if errors.Is(err, os.ErrNotExist) {
		return true, p.remove() // it removed its folder itself, as it should
	}
	if err != nil {
		return true, err
	}
	defer lock.Close()
	return true, p.remove()
}

// endSwitchRoom asks the lab's first process to end, and kills it if it will not. The kernel lets a
// pid 1 end only after every process below it: when it is dead, all are.
func endSwitchRoom(p place, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ending lab %q: %w", p.name, err)
	}
	defer unix.Close(fd)
	if pid != listenerPID(p.switchSocket()) {
		return nil // it ended, and its number may be another's by now
	}
	if c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p.switchSocket(), Net: "unix"}); err == nil {
		defer c.Close()
		if send(c, request{Op: "down"}) == nil && waitDead(fd, 3*time.Second) {
			waitReaped(pid)
			return nil
		}
	}
	unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	if !waitDead(fd, downWait) {
		return fmt.Errorf("ending lab %q: process %d was killed but has not ended within %v: it may hang in the kernel", p.name, pid, downWait)
	}
	waitReaped(pid)
	return nil
}

// waitReaped waits until the machine's pid 1 has taken note of a death, so that `ps` shows nothing
// any more; where pid 1 takes its time, not for long.
func waitReaped(pid int) {
	for deadline := time.Now().Add(50 * time.Millisecond); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return
		}
	}
}

// killLockHolder ends the process that holds the lab's lock. The kernel's list of locks does not help:
// it names who took the lock, and that was `up`, long gone. The holder has the file open at
// descriptor 4, as switchMain found it.
func killLockHolder(p place) error {
	var want unix.Stat_t
	if err := unix.Stat(p.lockFile(), &want); err != nil {
		return nil // gone meanwhile
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("finding the lab's first process: %w", err)
	}
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Stat("/proc/"+e.Name()+"/fd/4", &st) != nil || st.Dev != want.Dev || st.Ino != want.Ino {
			continue
		}
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			return killAndWait(pid)
		}
	}
	return nil
}
