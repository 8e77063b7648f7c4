package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Who is who in a host is read off its sockets: the kernel tells which process listens on one. No
// pid file can be stale, no name can be taken for another, and it does not matter who started it.

const (
	daemonWait = 10 * time.Second
	killWait   = 10 * time.Second
)

func (w *warden) hitherRuntime() string { return hitherDir(runtimeDir(w.uid)) }
func (w *warden) controlSocket() string { return filepath.Join(w.hitherRuntime(), "control.sock") }
func (w *warden) daemonOutput() string  { return hitherDir(labHome+"/.local/state") + "/lab-daemon.out" }

// listenerPID is the process that listens on a unix socket, 0 if none does.
func listenerPID(path string) int {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return 0
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

func (w *warden) findDaemon() int { return listenerPID(w.controlSocket()) }

// startDaemon starts the host's `hither daemon` and returns when it answers.
func (w *warden) startDaemon() error {
	if w.findDaemon() != 0 {
		return nil
	}
	path := filepath.Join(w.spec.Bin, "hither")
	if err := executable(path); err != nil {
		return fmt.Errorf("starting the daemon: there is no program %s: build it with `make build`, or use `up --no-daemon`", path)
	}
	if err := os.MkdirAll(w.hitherRuntime(), 0o700); err != nil {
		return fmt.Errorf("starting the daemon: %w", err)
	}
	watch, err := watchFolder(w.hitherRuntime())
	if err != nil {
		return err
	}
	defer watch.Close()
	if err := os.MkdirAll(filepath.Dir(w.daemonOutput()), 0o700); err != nil {
		return fmt.Errorf("starting the daemon: %w", err)
	}
	out, err := os.OpenFile(w.daemonOutput(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("starting the daemon: %w", err)
	}
	defer out.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		return fmt.Errorf("starting the daemon: %w", err)
	}
	defer null.Close()
	ended := make(chan syscall.WaitStatus, 1)
	pid, err := w.nursery.start(path, []string{"hither", "daemon"}, &syscall.ProcAttr{
		Dir: labHome, Env: w.environment(), Files: []uintptr{null.Fd(), out.Fd(), out.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	}, func(ws syscall.WaitStatus) { ended <- ws })
	if err != nil {
		return fmt.Errorf("starting the daemon %s: %w", path, err)
	}
	deadline := time.After(daemonWait)
	for w.findDaemon() == 0 {
		select {
		case <-watch.changed:
		case ws := <-ended:
			return fmt.Errorf("the daemon ended with status %d before it answered:\n%s", shellStatus(ws), tail(w.daemonOutput()))
		case <-deadline:
			unix.Kill(pid, unix.SIGKILL)
			return fmt.Errorf("the daemon did not answer on %s within %v:\n%s", w.controlSocket(), daemonWait, tail(w.daemonOutput()))
		}
	}
	return nil
}

// folderWatch says when something appears in a folder.
type folderWatch struct {
	file    *os.File
	changed chan struct{}
}

func watchFolder(dir string) (*folderWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", dir, err)
	}
	w := &folderWatch{file: os.NewFile(uintptr(fd), "inotify"), changed: make(chan struct{}, 1)}
	// A socket's file appears at bind, a moment before it is listened on; its attributes change, if at
	// all, after. A daemon that renames the ready socket into place is seen at once.
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB|unix.IN_CLOSE_WRITE); err != nil {
		w.file.Close()
		return nil, fmt.Errorf("watching %s: %w", dir, err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := w.file.Read(buf); err != nil {
				return
			}
			// bind comes before listen: look again shortly after as well.
			for _, wait := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
				time.Sleep(wait)
				select {
				case w.changed <- struct{}{}:
				default:
				}
			}
		}
	}()
	return w, nil
}

func (w *folderWatch) Close() { w.file.Close() }

func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return "(it said nothing)"
	}
	const most = 2000
	if len(data) > most {
		data = data[len(data)-most:]
	}
	return strings.TrimRight(string(data), "\n")
}

// kill serves `kill HOST daemon|desktop|keeper APP|all`; the answer is the pids that were killed.
func (w *warden) kill(args []string) ([]int, error) {
	switch {
	case len(args) == 1 && args[0] == "daemon":
		pid := w.findDaemon()
		if pid == 0 {
			return nil, fmt.Errorf("no daemon runs on host %s", w.spec.Name)
		}
		return []int{pid}, killAndWait(pid)
	case len(args) == 1 && args[0] == "desktop":
		pid, err := w.killServer()
		if err != nil {
			return nil, err
		}
		return []int{pid}, nil
	case len(args) == 2 && args[0] == "keeper":
		pid, err := w.findKeeper(args[1])
		if err != nil {
			return nil, err
		}
		return []int{pid}, killAndWait(pid)
	case len(args) == 1 && args[0] == "all":
		return nil, w.powerOff()
	}
	return nil, errors.New("kill what? `daemon`, `desktop`, `keeper APP` or `all`")
}

// killAndWait kills a process of this host and returns when it is dead.
func killAndWait(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("killing process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing process %d: %w", pid, err)
	}
	if !waitDead(fd, killWait) {
		return fmt.Errorf("process %d was killed but has not ended within %v: it may hang in the kernel", pid, killWait)
	}
	return nil
}

// waitDead waits for the process of a pidfd to end.
func waitDead(pidfd int, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; {
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(left.Milliseconds())+1)
		if n > 0 {
			return true
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
	}
}

// findKeeper is the keeper of an app, given by name or by id, or by the beginning of an id.
func (w *warden) findKeeper(app string) (int, error) {
	all := filepath.Join(w.hitherRuntime(), "capsules")
	entries, err := os.ReadDir(all)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("looking for the keeper of %s: %w", app, err)
	}
	var found []string
	for _, e := range entries {
		var state struct{ Spec struct{ Name string } }
		if data, err := os.ReadFile(filepath.Join(all, e.Name(), "state.json")); err == nil {
			json.Unmarshal(data, &state) // a damaged one has no name
		}
		if e.Name() == app || state.Spec.Name == app {
			found = []string{e.Name()}
			break
		}
		if strings.HasPrefix(e.Name(), app) {
			found = append(found, e.Name())
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d apps on host %s answer to %q: `hither-lab exec %s -- hither ls` lists them", len(found), w.spec.Name, app, w.spec.Name)
	}
	pid := listenerPID(filepath.Join(all, found[0], "keeper.sock"))
	if pid == 0 {
		return 0, fmt.Errorf("no keeper of %s runs on host %s", app, w.spec.Name)
	}
	return pid, nil
}

// powerOff ends every process of the host but this one, as a power cut would. What is on its disk
// stays; what was in /run, /tmp and /dev/shm is gone by the next boot.
func (w *warden) powerOff() error {
	w.mu.Lock()
	w.off = true // from here on nothing starts
	w.mu.Unlock()
	for deadline := time.Now().Add(killWait); ; {
		// In a pid namespace -1 is everybody but its pid 1, down into nested namespaces.
		if err := unix.Kill(-1, unix.SIGKILL); errors.Is(err, unix.ESRCH) {
			return nil
		} else if err != nil {
			return fmt.Errorf("killing all of host %s: %w", w.spec.Name, err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes of host %s have not ended within %v", w.spec.Name, killWait)
		}
		time.Sleep(time.Millisecond)
	}
}

// start serves `start HOST [daemon|desktop]`.
func (w *warden) start(args []string) error {
	if len(args) > 1 || len(args) == 1 && args[0] != "daemon" && args[0] != "desktop" {
		return errors.New("start what? `daemon`, `desktop`, or nothing to boot a host that was killed")
	}
	if w.poweredOff() {
		if len(args) == 1 {
			return fmt.Errorf("host %s is powered off: `hither-lab start %s` boots it", w.spec.Name, w.spec.Name)
		}
		err := clearBoot(w.uid, append([]string{w.spec.Bin}, w.spec.Shares...))
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.off = false
		w.mu.Unlock()
		desktop := w.beginDesktop()
		if w.spec.Daemon {
			err = w.startDaemon()
		}
		return errors.Join(err, <-desktop)
	}
	if len(args) == 1 && args[0] == "desktop" {
		if !w.spec.Desktop {
			return errors.New("this lab was made without desktops: `down`, and `up` without --no-desktop")
		}
		return <-w.beginDesktop()
	}
	return w.startDaemon()
}

// countProcesses is how many processes the host has, without pid 1.
func countProcesses() int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	n := -1
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			n++
		}
	}
	return n
}
