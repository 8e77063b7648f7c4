package capsule

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hither/engine/display"
	"hither/engine/kernel"
)

// children are those of pid 1, as the host numbers them.
func (k *keeper) children() ([]int, error) {
	pid := strconv.Itoa(k.state.Init.Pid)
	b, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	if err != nil {
		return nil, fmt.Errorf("listing the capsule's processes: %w", err)
	}
	var all []int
	for _, word := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(word); err == nil {
			all = append(all, n)
		}
	}
	return all, nil
}

// endIfIdle ends the capsule when nothing but its servers is left in it.
func (k *keeper) endIfIdle() {
	for {
		k.mu.Lock()
		phase := k.state.Phase
		servers := map[int]bool{}
		for _, s := range k.services {
			if s.pid != 0 {
				servers[s.host] = true
			}
		}
		k.mu.Unlock()
		if len(servers) == 0 || phase != Running {
			return // pid 1 sees to it by itself, or the app is on the move
		}
		children, err := k.children()
		if err != nil || slices.ContainsFunc(children, func(pid int) bool { return !servers[pid] && !busStarted(pid) }) {
			return
		}
		all, err := kernel.Descendants(k.state.Init.Pid)
		if err != nil {
			return
		}
		if i := slices.IndexFunc(all, func(pid int) bool { return !servers[pid] && isClient(pid) }); i >= 0 {
			if slices.Contains(children, all[i]) || k.endWith(all[i]) {
				return
			}
			continue // it has ended just now
		}
		// A list of children that is read while one of them ends may lack another one.
		children2, err := k.children()
		if err != nil {
			return
		}
		if all2, err := kernel.Descendants(k.state.Init.Pid); err == nil && slices.Equal(children, children2) && slices.Equal(all, all2) {
			unix.PidfdSendSignal(k.pidfd, unix.SIGKILL, nil, 0) //nolint:errcheck // it may have ended
			return
		}
	}
}

// endWith has endIfIdle called again at the end of a process that is no child of
// pid 1's, which does not report it: the bus has one in between until its daemon
// has taken its name. False: it has ended already.
func (k *keeper) endWith(host int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.endsWith {
		return true
	}
	fd, err := unix.PidfdOpen(host, unix.PIDFD_NONBLOCK)
	if err != nil {
		return err != unix.ESRCH
	}
	k.endsWith = true
	go func() {
		f := os.NewFile(uintptr(fd), "process")
		defer f.Close()
		if err := awaitEnd(f); err != nil {
			k.log.Error("watching a daemon of the bus", "error", err)
			return // with endsWith as it is, or it would be tried in a tight circle
		}
		k.mu.Lock()
		k.endsWith = false
		k.mu.Unlock()
		k.endIfIdle()
	}()
	return true
}

// busStarted reports whether the bus has started a process, see "Message Bus
// Starting Services" in the D-Bus specification.
func busStarted(host int) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", host))
	return err == nil && strings.Contains("\x00"+string(env), "\x00DBUS_STARTER_BUS_TYPE=session\x00")
}

// isClient reports whether a process is connected to the X server.
func isClient(host int) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", host)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	pidfd, err := unix.PidfdOpen(host, 0)
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	return slices.ContainsFunc(fds, func(e os.DirEntry) bool {
		n, err := strconv.Atoi(e.Name())
		if link, _ := os.Readlink(dir + e.Name()); err != nil || !strings.HasPrefix(link, "socket:") {
			return false
		}
		fd, err := pidfdGetfd(pidfd, n)
		if err != nil {
			return false
		}
		defer unix.Close(fd)
		peer, err := unix.Getpeername(fd)
		name, ok := peer.(*unix.SockaddrUnix)
		return err == nil && ok && name.Name == display.ServerPath
	})
}

// serviceTree are the servers and all that they started, as the host numbers them.
func (k *keeper) serviceTree() map[int]bool {
	all := map[int]bool{}
	k.mu.Lock()
	for _, s := range k.services {
		if s.host != 0 {
			all[s.host] = true
		}
	}
	k.mu.Unlock()
	for host := range all {
		if below, err := kernel.Descendants(host); err == nil {
			for _, pid := range below {
				all[pid] = true
			}
		}
	}
	return all
}

// holdsOutside reports whether a server has a connection from outside the
// capsule: its socket is in no table of the capsule's network namespace.
func holdsOutside(host int) bool {
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", host))
	if err != nil {
		return false
	}
	inside := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 6 {
			inside["socket:["+f[6]+"]"] = true
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd/", host)
	fds, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(fds, func(e os.DirEntry) bool {
		l, err := os.Readlink(dir + e.Name())
		return err == nil && strings.HasPrefix(l, "socket:[") && !inside[l]
	})
}
