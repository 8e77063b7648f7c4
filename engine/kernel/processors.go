package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Processors are threads by tid of this host, with those each may run on (sched_setaffinity(2)).
type Processors map[int]unix.CPUSet

// GiveBack lets the threads of some processes run again where they might.
func (before Processors) GiveBack(pids []int) error {
	var errs []error
	for _, pid := range pids {
		tids, err := Threads(pid)
		if err != nil {
			continue // it has ended
		}
		for _, tid := range tids {
			if set, ok := before[tid]; ok {
				if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
					errs = append(errs, fmt.Errorf("giving thread %d its processors back: %w", tid, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}
