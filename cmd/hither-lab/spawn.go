package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// nursery starts processes and reaps: its own children and, since it works in a pid 1, every orphan
// of the namespace. os/exec cannot be used beside a loop of wait4(-1), which would take its results.
type nursery struct {
	mu      sync.Mutex // held over fork and entry, so that no child is reaped before it is known
	waiting map[int]func(syscall.WaitStatus)
	forks   chan func()
}

// newNursery makes a nursery. Its children get none of this process's capabilities unless asked for:
// capabilities belong to threads, so all children are forked by one thread that passes none on.
func newNursery() (*nursery, error) {
	n := &nursery{waiting: make(map[int]func(syscall.WaitStatus)), forks: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		ready <- passNothingOn()
		for f := range n.forks {
			f()
		}
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	dead := make(chan os.Signal, 1)
	signal.Notify(dead, syscall.SIGCHLD)
	go func() {
		for range dead {
			n.reap()
		}
	}()
	return n, nil
}

func (n *nursery) reap() {
	for {
		var ws syscall.WaitStatus
		n.mu.Lock()
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		done := n.waiting[pid]
		delete(n.waiting, pid)
		n.mu.Unlock()
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if done != nil {
			go done(ws)
		}
	}
}

// start starts a process; done is called once, when it has ended.
func (n *nursery) start(path string, argv []string, attr *syscall.ProcAttr, done func(syscall.WaitStatus)) (int, error) {
	var pid int
	var err error
	forked := make(chan struct{})
	n.forks <- func() {
		defer close(forked)
		n.mu.Lock()
		defer n.mu.Unlock()
		if pid, err = syscall.ForkExec(path, argv, attr); err == nil {
			n.waiting[pid] = done
		}
	}
	<-forked
	return pid, err
}

// shellStatus is a wait status as a shell shows it.
func shellStatus(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// passNothingOn keeps this thread's capabilities from the programs it starts.
func passNothingOn() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clearing ambient capabilities: %w", err)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	sets[0].Inheritable, sets[1].Inheritable = 0, 0
	if err := unix.Capset(&head, &sets[0]); err != nil {
		return fmt.Errorf("clearing inheritable capabilities: %w", err)
	}
	return nil
}

// lookUp finds a program as a shell would, for a user with this PATH and folder.
func lookUp(name, path, dir string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, executable(name)
	}
	failure := error(syscall.ENOENT)
	for _, d := range filepath.SplitList(path) {
		full := filepath.Join(d, name)
		err := executable(full)
		if err == nil {
			return full, nil
		}
		if errors.Is(err, syscall.EACCES) {
			failure = err
		}
	}
	return "", failure
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode().Perm()&0o111 == 0 {
		return syscall.EACCES
	}
	return nil
}
