package checkpoint

import (
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// While an app is asked, tracer and traced wake each other some thousand times,
// which between processors takes three times as long as on one. So all of them
// are gathered on one processor. It is the only trace that a tracer's death
// would leave on the app; Keep says what it was before.

// gatherThreads moves the frozen threads, and this one, to one processor.
func (f *Frozen) gatherThreads(looks []*seen) error {
	var one unix.CPUSet
	cpu := kernel.Processor()
	one.Set(cpu)
	if f.Keep == nil || f.affinity.Count() < 2 || !f.affinity.IsSet(cpu) {
		return nil
	}
	before := kernel.Processors{}
	for i, p := range f.Procs {
		for j := range looks[i].threads {
			if cpus := looks[i].threads[j].cpus; cpus.Count() > 0 {
				before[p.Threads[j].Tid] = cpus
			}
		}
	}
	if f.Keep(before) != nil {
		return nil
	}
	f.gathered = before
	if err := unix.SchedSetaffinity(0, &one); err != nil { // the tracer's thread, which ends with the tracer
		return fmt.Errorf("moving to one processor: %w", err)
	}
	for tid := range before {
		// One that may not be moved is slower, no more.
		_ = unix.SchedSetaffinity(tid, &one)
	}
	return nil
}

// scatterThreads undoes gatherThreads.
func (f *Frozen) scatterThreads() error {
	if f.gathered == nil {
		return nil
	}
	var pids []int
	for _, p := range f.Procs {
		pids = append(pids, p.Pid)
	}
	err := f.gathered.GiveBack(pids)
	f.gathered = nil
	return err
}
