package kernel

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ClockOffset is what a process's children add to CLOCK_MONOTONIC or
// CLOCK_BOOTTIME, less what this process adds, in ns: time_namespaces(7).
func ClockOffset(pid, clock int) (int64, error) {
	theirs, err := timensOffset(fmt.Sprintf("/proc/%d/timens_offsets", pid), clock)
	if err != nil {
		return 0, err
	}
	ours, err := timensOffset("/proc/self/timens_offsets", clock)
	return theirs - ours, err
}

func timensOffset(path string, clock int) (int64, error) {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return 0, nil // a kernel without time namespaces
	}
	if err != nil {
		return 0, fmt.Errorf("reading the offset of a clock: %w", err)
	}
	name := "monotonic"
	if clock == unix.CLOCK_BOOTTIME {
		name = "boottime"
	}
	for line := range strings.Lines(string(text)) {
		var got string
		var sec, nsec int64
		if n, _ := fmt.Sscan(line, &got, &sec, &nsec); n == 3 && (got == name || got == strconv.Itoa(clock)) {
			return sec*1e9 + nsec, nil
		}
	}
	return 0, fmt.Errorf("reading the offset of a clock: %s names no %s", path, name)
}

// Clock is a clock of this host that every kernel has, in ns: clock_gettime(2).
func Clock(clock int) int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(int32(clock), &ts)
	return ts.Nano()
}

// ClockOf is a clock as the children of a process see it, in ns.
func ClockOf(pid, clock int) (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(clock), &ts); err != nil {
		return 0, fmt.Errorf("reading clock %d: %w", clock, err)
	}
	if clock != unix.CLOCK_MONOTONIC && clock != unix.CLOCK_BOOTTIME {
		return ts.Nano(), nil
	}
	offset, err := ClockOffset(pid, clock)
	return ts.Nano() + offset, err
}

// Descendants lists the living descendants and zombies of a process, parents first.
func Descendants(pid int) ([]int, error) {
	var all []int
	seen := map[int]bool{}
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		tids, err := Threads(queue[0])
		if err != nil {
			if queue[0] == pid {
				return nil, fmt.Errorf("listing the threads of process %d: %w", pid, err)
			}
			continue // it has ended
		}
		for _, tid := range tids {
			for _, child := range Children(queue[0], tid) {
				if !seen[child] {
					seen[child] = true
					all = append(all, child)
					queue = append(queue, child)
				}
			}
		}
	}
	return all, nil
}

// Children lists the living children and zombies of one thread of a process, by
// /proc/PID/task/TID/children (proc_tid_children(5)).
func Children(pid, tid int) []int {
	raw, err := ReadProc(fmt.Sprintf("/proc/%d/task/%d/children", pid, tid))
	if err != nil {
		return nil // it has ended
	}
	var all []int
	for _, word := range strings.Fields(string(raw)) {
		if child, err := strconv.Atoi(word); err == nil {
			all = append(all, child)
		}
	}
	return all
}

// Threads lists the threads of a process, by /proc/PID/task.
func Threads(pid int) ([]int, error) {
	d, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make([]int, 0, len(names))
	for _, n := range names {
		if tid, err := strconv.Atoi(n); err == nil {
			all = append(all, tid)
		}
	}
	return all, nil
}

// InsidePid is a process's pid in the pid namespace of init.
func InsidePid(init, pid int) (int, error) {
	depth := func(pid int) ([]string, error) {
		b, err := ReadProc("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil {
			return nil, err
		}
		_, rest, ok := strings.Cut(string(b), "\nNSpid:")
		if !ok {
			return nil, fmt.Errorf("process %d shows no namespace pids", pid)
		}
		line, _, _ := strings.Cut(rest, "\n")
		return strings.Fields(line), nil
	}
	of, err := depth(init)
	if err != nil {
		return 0, err
	}
	p, err := depth(pid)
	if err != nil {
		return 0, err
	}
	if len(p) < len(of) {
		return 0, fmt.Errorf("process %d is not in that pid namespace", pid)
	}
	return strconv.Atoi(p[len(of)-1])
}
