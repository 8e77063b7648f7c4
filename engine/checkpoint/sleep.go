package checkpoint

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// A relative time-out (nanosleep, poll, epoll_wait ...) is counted by the
// kernel from the moment the call began, which it tells nobody. But a thread
// that waits went to sleep at that moment, and the scheduler remembers when:
// se.exec_start of /proc/PID/task/TID/sched, in the clock of the processor it
// slept on. It must be read before the freeze, which wakes the thread.

// timed are the system calls with a relative time-out that the kernel does
// not write back when they are interrupted.
var timed = map[uint64]bool{
	unix.SYS_NANOSLEEP: true, unix.SYS_CLOCK_NANOSLEEP: true, unix.SYS_POLL: true,
	unix.SYS_FUTEX: true, unix.SYS_EPOLL_WAIT: true, unix.SYS_EPOLL_PWAIT: true,
	unix.SYS_EPOLL_PWAIT2: true, unix.SYS_RT_SIGTIMEDWAIT: true, unix.SYS_RESTART_SYSCALL: true,
}

// sleep is what is known of a thread that waits.
type sleep struct {
	since     time.Duration // CLOCK_MONOTONIC of this host
	voluntary uint64        // times the thread gave the processor away
}

// sleeps notes since when the threads of the given processes wait.
func sleeps(pids []int) map[int]sleep {
	out := map[int]sleep{}
	clocks := map[int]time.Duration{} // processor -> its clock minus CLOCK_MONOTONIC
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			continue
		}
		for _, task := range tasks {
			dir := fmt.Sprintf("/proc/%d/task/%s", pid, task.Name())
			call, err := kernel.ReadProc(dir + "/syscall")
			if err != nil {
				continue
			}
			nr, err := strconv.ParseUint(strings.SplitN(string(call), " ", 2)[0], 10, 64)
			if err != nil || !timed[nr] {
				continue
			}
			began, voluntary, ok := schedOf(dir + "/sched")
			s, err := readStat(dir)
			if !ok || err != nil {
				continue
			}
			skew, known := clocks[s.Processor]
			if !known {
				if skew, ok = processorClock(s.Processor); !ok {
					continue
				}
				clocks[s.Processor] = skew
			}
			tid, _ := strconv.Atoi(task.Name())
			out[tid] = sleep{began - skew, voluntary}
		}
	}
	return out
}

// schedOf reads se.exec_start and nr_voluntary_switches.
func schedOf(path string) (start time.Duration, voluntary uint64, ok bool) {
	data, err := kernel.ReadProc(path)
	if err != nil {
		return 0, 0, false
	}
	found := 0
	for line := range bytes.Lines(data) {
		name, value, cut := strings.Cut(string(line), ":")
		if !cut {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "se.exec_start":
			ms, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, 0, false
			}
			start = time.Duration(ms * 1e6)
			found++
		case "nr_voluntary_switches":
			if voluntary, err = strconv.ParseUint(value, 10, 64); err != nil {
				return 0, 0, false
			}
			found++
		}
	}
	return start, voluntary, found == 2
}

// processorClock returns by how much the scheduler's clock of a processor is
// ahead of CLOCK_MONOTONIC, by falling asleep on it for a moment.
func processorClock(cpu int) (time.Duration, bool) {
	type answer struct {
		skew time.Duration
		ok   bool
	}
	c := make(chan answer)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its affinity
		var set unix.CPUSet
		set.Set(cpu)
		if unix.SchedSetaffinity(0, &set) != nil {
			c <- answer{}
			return
		}
		best, narrowest := answer{}, time.Duration(1<<62)
		for range 5 {
			// Waking up notes the clock; it is read at once. The look that was
			// disturbed least counts.
			nap := unix.Timespec{Nsec: 1}
			before := monotonic()
			_ = unix.Nanosleep(&nap, nil)
			start, _, ok := schedOf("/proc/thread-self/sched")
			after := monotonic()
			if ok && after-before < narrowest {
				narrowest = after - before
				best = answer{start - after, true}
			}
		}
		c <- best
	}()
	a := <-c
	return a.skew, a.ok
}

func monotonic() time.Duration { return time.Duration(kernel.Clock(unix.CLOCK_MONOTONIC)) }
