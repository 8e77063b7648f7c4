package checkpoint

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/kernel"
	"hither/engine/memory"
	"hither/engine/tracee"
)

// seen is what others can see of a stopped process. It is looked at by several
// goroutines, for many processes at once; only what a process must be asked
// itself is left to the tracer's one thread.
type seen struct {
	status   status
	stat     stat // in the numbers of the capsule
	oom      int
	auxv     []byte
	cwd      string
	root     string
	limits   []image.Rlimit
	timers   []byte
	mappings []mapping
	own      []memory.Range // pages that only this process has
	guards   []memory.Range
	ahead    bool // own is only what has not been sent ahead
	threads  []seenThread
}

// seenThread is what others can see of a stopped thread.
type seenThread struct {
	tid        int
	creds      image.Creds
	robustHead uint64
	robustLen  uint64
	nice       int
	policy     int
	priority   int
	cpus       unix.CPUSet // none: not known
	slept      time.Duration
}

// look looks at all processes. Nothing may be injected meanwhile: the stops of
// the threads are counted against what the scheduler counted.
func (f *Frozen) look() ([]*seen, error) {
	out, errs := make([]*seen, len(f.Procs)), make([]error, len(f.Procs))
	var next atomic.Int32
	var workers sync.WaitGroup
	for range min(4, runtime.GOMAXPROCS(0), len(f.Procs)) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(out) {
					return
				}
				out[i], errs[i] = f.lookAt(f.Procs[i])
			}
		})
	}
	workers.Wait()
	hosts := map[int]int{} // pid inside -> pid here
	for i, s := range out {
		if s != nil {
			hosts[s.status.inner()] = f.Procs[i].Pid
		}
	}
	for i, err := range errs {
		if err == nil && !f.Procs[i].Zombie {
			if parent, ok := hosts[out[i].stat.Parent]; ok {
				err = apart(f.Procs[i].Pid, parent)
			}
		}
		if err != nil {
			pid := f.Procs[i].Pid
			if out[i] != nil {
				pid = out[i].status.inner()
			}
			return nil, fmt.Errorf("capturing process %d: %w", pid, err)
		}
	}
	return out, nil
}

func (f *Frozen) lookAt(p *tracee.Process) (*seen, error) {
	host := fmt.Sprintf("/proc/%d", p.Pid)
	st, err := readStatus(host)
	if err != nil {
		return nil, err
	}
	s := &seen{status: st}
	inside := fmt.Sprintf("%s/proc/%d", f.root, st.inner())
	if s.stat, err = readStat(inside); err != nil || p.Zombie {
		return s, err
	}
	if s.oom, err = readInt(host + "/oom_score_adj"); err != nil {
		return s, err
	}
	if s.auxv, err = kernel.ReadProc(host + "/auxv"); err != nil {
		return s, fmt.Errorf("reading the auxiliary vector: %w", err)
	}
	if s.cwd, err = f.insidePath(host + "/cwd"); err != nil {
		return s, err
	}
	if s.root, err = f.insidePath(host + "/root"); err != nil {
		return s, err
	}
	for r := 0; r < 16; r++ {
		var lim unix.Rlimit
		if err := unix.Prlimit(p.Pid, r, nil, &lim); err != nil {
			return s, fmt.Errorf("reading limit %d: %w", r, err)
		}
		s.limits = append(s.limits, image.Rlimit{Cur: lim.Cur, Max: lim.Max})
	}
	// A kernel without POSIX timers has no such file.
	if s.timers, err = kernel.ReadProc(inside + "/timers"); err != nil && !os.IsNotExist(err) {
		return s, fmt.Errorf("reading the timers: %w", err)
	}
	if err := unusual(p); err != nil {
		return s, err
	}
	if err := f.lookAtMemory(p, s); err != nil {
		return s, err
	}
	for _, th := range p.Threads {
		t, err := f.lookAtThread(p, th, s.status)
		if err != nil {
			return s, fmt.Errorf("thread %d: %w", th.Tid, err)
		}
		s.threads = append(s.threads, t)
	}
	return s, nil
}

func (f *Frozen) lookAtMemory(p *tracee.Process, s *seen) error {
	var err error
	if s.mappings, err = readMappings(p.Pid); err != nil {
		return err
	}
	known := tracee.Known{Auxv: s.auxv, Caught: s.status.number("SigCgt", 16)}
	for _, m := range s.mappings {
		if tracee.IsTrain(m.End-m.Start, m.Path) {
			known.Memory = append(known.Memory, m.Start)
		}
	}
	old, err := p.Scout(known)
	if err != nil {
		return err
	}
	if len(old) > 0 {
		s.mappings = slices.DeleteFunc(s.mappings, func(m mapping) bool { return slices.Contains(old, m.Start) })
	}
	scan, err := memory.OpenScanner(p.Pid)
	if err != nil {
		return err
	}
	defer scan.Close()
	if done, err := f.lookAhead(p, s, scan); done || err != nil {
		return err
	}
	var spans []memory.Range
	for _, m := range s.mappings {
		if m.Perms[3] != 's' && m.End <= image.TopOfUser {
			spans = append(spans, memory.Range{Start: m.Start, End: m.End})
		}
	}
	s.own, s.guards, err = scan.Own(spans)
	return err
}

// lookAtThread looks at one thread. That of the process is the status of its first.
func (f *Frozen) lookAtThread(p *tracee.Process, th *tracee.Thread, st status) (seenThread, error) {
	var t seenThread
	var err error
	if th.Tid != p.Pid {
		if st, err = readStatus(fmt.Sprintf("/proc/%d/task/%d", p.Pid, th.Tid)); err != nil {
			return t, err
		}
	}
	t.tid, t.creds = st.inner(), st.creds()
	if t.robustHead, t.robustLen, err = kernel.RobustList(th.Tid); err != nil {
		return t, fmt.Errorf("reading its robust list: %w", err)
	}
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, th.Tid)
	if err != nil {
		return t, fmt.Errorf("reading its priority: %w", err)
	}
	t.nice = 20 - nice // the raw call's answer, getpriority(2)
	if attr, err := unix.SchedGetAttr(th.Tid, 0); err == nil {
		t.policy, t.priority = int(attr.Policy), int(attr.Priority)
	}
	if unix.SchedGetaffinity(th.Tid, &t.cpus) != nil {
		t.cpus.Zero()
	}
	t.slept = f.slept(th, st)
	return t, nil
}
