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
	if err != nil || slices.ContainsFunc(children, func(pid int) bool { return !servers[pid] && !idleDaemon(pid) }) {
		return
	}
	unix.PidfdSendSignal(k.pidfd, unix.SIGKILL, nil, 0) //nolint:errcheck // it may have ended
}

// idleDaemon reports whether the bus has started a process, see "Message Bus
// Starting Services" in the D-Bus specification, and it is no X client.
func idleDaemon(host int) bool {
	dir := fmt.Sprintf("/proc/%d", host)
	env, err := os.ReadFile(dir + "/environ")
	if err != nil || !strings.Contains("\x00"+string(env), "\x00DBUS_STARTER_BUS_TYPE=session\x00") {
		return false
	}
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return false
	}
	pidfd, err := unix.PidfdOpen(host, 0)
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	return !slices.ContainsFunc(fds, func(e os.DirEntry) bool {
		n, err := strconv.Atoi(e.Name())
		if link, _ := os.Readlink(dir + "/fd/" + e.Name()); err != nil || !strings.HasPrefix(link, "socket:") {
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
