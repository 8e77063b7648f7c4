package capsule

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// stop ends the capsule: first kindly, then with pid 1, which takes all along.
func (k *keeper) stop(grace time.Duration) error {
	k.mu.Lock()
	k.stopped = true
	main, pid := k.state.Main, k.state.Init.Pid
	tty := k.term != nil
	k.mu.Unlock()
	if grace > 0 {
		pids, err := processes(pid)
		if err != nil {
			return err
		}
		servers := k.serviceTree() // the app may need them to end well
		for inside, host := range pids {
			if inside != 1 && !servers[host] {
				unix.Kill(host, unix.SIGTERM) //nolint:errcheck // it may have ended
				unix.Kill(host, unix.SIGCONT) //nolint:errcheck // a stopped job can end only when it goes on
			}
		}
		// Interactive shells heed only the end of their terminal.
		hangup := time.After(min(grace/2, time.Second))
		for end := time.After(grace); end != nil; {
			select {
			case <-k.dead:
				return nil
			case <-hangup:
				if host, ok := pids[main]; ok && tty {
					unix.Kill(host, unix.SIGHUP) //nolint:errcheck // it may have ended
				}
			case <-end:
				end = nil
			}
		}
	}
	if err := unix.PidfdSendSignal(k.pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("killing the capsule's pid 1: %w", err)
	}
	<-k.dead
	return nil
}

// processes are the processes of the capsule of a pid 1: pid inside -> on the
// host. It follows the tree, of which pid 1 is the root.
func processes(init int) (map[int]int, error) {
	pids, err := kernel.Descendants(init)
	if err != nil {
		return nil, err
	}
	found := map[int]int{}
	for _, pid := range append([]int{init}, pids...) {
		inside, err := kernel.InsidePid(init, pid)
		if err != nil {
			if pid == init {
				return nil, err
			}
			continue // it has ended
		}
		found[inside] = pid
	}
	return found, nil
}
