//go:build linux && amd64

package tracee

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// Seize attaches to a process and stops all its threads.
func (t *Tracer) Seize(pid int) (*Process, error) {
	all, err := t.freeze(func() ([]int, error) { return []int{pid}, nil })
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("seizing process %d: %w", pid, ErrGone)
	}
	return all[0], nil
}

// SeizeThread attaches to one thread of a process and stops it, while the others run on.
// That is enough to make calls in it which concern the whole process; nothing that
// looks at more than that thread may be done with it.
func (t *Tracer) SeizeThread(pid, tid int) (*Process, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	f := freezing{t: t, byPid: map[int]*Process{}, only: tid}
	err := f.run(func() ([]int, error) { return []int{pid}, nil })
	if err != nil {
		f.undo()
		return nil, err
	}
	all, err := f.result()
	if err == nil && (len(all) == 0 || all[0].Zombie) {
		err = fmt.Errorf("seizing thread %d of process %d: %w", tid, pid, ErrGone)
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// FreezeTree attaches to and stops all descendants of init, but not init
// itself: parents come before their children.
func (t *Tracer) FreezeTree(init int) ([]*Process, error) {
	return t.freeze(func() ([]int, error) { return kernel.Descendants(init) })
}

// freezeAttempts is for threads that nothing can stop for a while: they wait for a slow disk, or in vfork
// for a child that is in no hurry.
const freezeAttempts = 5

func (t *Tracer) freeze(list func() ([]int, error)) ([]*Process, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		f := freezing{t: t, byPid: map[int]*Process{}}
		err := f.run(list)
		if err == nil {
			return f.result()
		}
		cured := f.undo()
		if !errors.Is(err, errTimeout) || !cured || attempt == freezeAttempts {
			return nil, err
		}
	}
}

// freezing is one attempt to stop a set of processes that may still grow.
type freezing struct {
	t       *Tracer
	byPid   map[int]*Process
	order   []int
	only    int       // this thread and no other; 0: all
	waiting []*Thread // interrupted, not yet seen stopped
}

// run stops what list names, and again, until a whole round finds nothing new.
// All interrupts of a round go out before the first wait.
func (f *freezing) run(list func() ([]int, error)) error {
	for {
		pids, err := list()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := f.seize(pid); err != nil {
				return err
			}
		}
		f.order = pids
		if len(f.waiting) == 0 {
			return nil
		}
		// Children before their parents, who may wait for them.
		for last := len(f.waiting) - 1; last >= 0; last-- {
			th := f.waiting[last]
			err := f.rest(th)
			if err != nil && !errors.Is(err, ErrGone) {
				return fmt.Errorf("stopping %s (it waits in %s; if that is for a child it has just started, try again): %w",
					name(th.p.Pid), whereabouts(th), err)
			}
			f.waiting = f.waiting[:last]
		}
	}
}

// rest waits until an interrupted thread rests. One in vfork does not before its child has executed
// a program or ended: so the child, which rests already, goes on, and is stopped anew in the next round.
func (f *freezing) rest(th *Thread) error {
	err := f.t.toRest(th, 0)
	if !errors.Is(err, errTimeout) {
		return err
	}
	for _, pid := range kernel.Children(th.p.Pid, th.Tid) {
		child := f.byPid[pid]
		if child == nil {
			continue
		}
		if order, err := kernel.Kcmp(th.p.Pid, pid, kernel.KcmpVM, 0, 0); err == nil && order == 0 {
			for _, th := range child.Threads {
				f.letGo(th)
			}
			_ = child.close()
			delete(f.byPid, pid)
		}
	}
	return f.t.toRest(th, stopTimeout)
}

// letGo lets a thread go on as if it had never been stopped.
func (f *freezing) letGo(th *Thread) {
	if !th.gone {
		_ = th.settle()
		_ = f.t.release(th)
	}
}

// seize attaches to the threads of one process that are not attached yet.
func (f *freezing) seize(pid int) error {
	tids, err := kernel.Threads(pid)
	if err != nil {
		return nil // it has ended
	}
	if f.only != 0 {
		tids = slices.DeleteFunc(tids, func(tid int) bool { return tid != f.only })
	}
	p := f.byPid[pid]
	if p == nil {
		p = &Process{Pid: pid, t: f.t, pidfd: -1}
		f.byPid[pid] = p
	}
	for _, tid := range tids {
		if f.t.held[tid] != nil {
			if f.t.held[tid].p != p {
				return fmt.Errorf("seizing %s: it is held already", name(pid))
			}
			continue
		}
		options := f.t.options()
		if err := kernel.PtraceSeize(tid, options); err != nil {
			if ended(pid, tid) {
				continue
			}
			return refused(pid, err)
		}
		th := &Thread{Tid: tid, p: p, options: options}
		p.Threads = append(p.Threads, th)
		f.t.held[tid] = th
		f.waiting = append(f.waiting, th)
		if err := kernel.PtraceInterrupt(tid); err != nil && err != unix.ESRCH {
			return fmt.Errorf("interrupting thread %d of %s: %w", tid, name(pid), err)
		}
	}
	return nil
}

// result sorts out who is left once everything has stopped.
func (f *freezing) result() ([]*Process, error) {
	var all []*Process
	for _, pid := range f.order {
		p := f.byPid[pid]
		if p == nil {
			continue
		}
		p.Threads = slices.DeleteFunc(p.Threads, func(th *Thread) bool { return th.gone })
		slices.SortFunc(p.Threads, func(a, b *Thread) int {
			if (a.Tid == pid) != (b.Tid == pid) {
				if a.Tid == pid {
					return -1
				}
				return 1
			}
			return a.Tid - b.Tid
		})
		if len(p.Threads) == 0 {
			if !ended(pid, pid) {
				continue // gone altogether
			}
			p.Zombie = true
			all = append(all, p)
			continue
		}
		p.LeaderDead = f.only == 0 && p.Threads[0].Tid != pid
		for _, th := range p.Threads {
			if err := th.settle(); err != nil {
				return nil, errors.Join(err, f.t.DetachAll(append(all, p)))
			}
		}
		if err := p.show(); err != nil {
			return nil, errors.Join(err, f.t.DetachAll(append(all, p)))
		}
		all = append(all, p)
	}
	return all, nil
}

// undo lets go of everything this attempt attached to, and says whether it
// could: what does not stop may do so once the others have gone on.
func (f *freezing) undo() bool {
	for _, p := range f.byPid {
		for _, th := range p.Threads {
			if !slices.Contains(f.waiting, th) {
				f.letGo(th)
			}
		}
	}
	for end := time.Now().Add(2 * stopTimeout); len(f.waiting) > 0 && time.Now().Before(end); {
		f.waiting = slices.DeleteFunc(f.waiting, func(th *Thread) bool {
			err := f.t.toRest(th, 0)
			if err == nil {
				f.letGo(th)
			}
			return err == nil || th.gone
		})
	}
	for _, p := range f.byPid {
		_ = p.close()
	}
	for _, th := range f.waiting {
		// Left attached and running: PTRACE_DETACH needs a stop. Tracer.loop
		// sees to it.
		delete(f.t.held, th.Tid)
		f.t.stuck[th.Tid] = th
	}
	return len(f.waiting) == 0
}

// ended says whether a thread is a zombie or gone.
func ended(pid, tid int) bool {
	stat, err := kernel.ReadProc(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
	if err != nil {
		return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
	}
	fields := stat[strings.LastIndexByte(string(stat), ')')+1:]
	return len(fields) > 1 && (fields[1] == 'Z' || fields[1] == 'X')
}

// refused explains why a process could not be seized.
func refused(pid int, err error) error {
	cure := ""
	status, rerr := kernel.ReadProc(fmt.Sprintf("/proc/%d/status", pid))
	if _, after, ok := strings.Cut(string(status), "TracerPid:\t"); rerr == nil && ok {
		if line, _, _ := strings.Cut(after, "\n"); line != "0" {
			cure = fmt.Sprintf(" (process %s debugs it: end that first)", line)
		}
	}
	if cure == "" && err == unix.EPERM {
		cure = " (it belongs to another user, or kernel.yama.ptrace_scope forbids it: hither doctor tells)"
	}
	return fmt.Errorf("seizing %s: %w%s", name(pid), err, cure)
}

// whereabouts is the kernel function a thread sleeps in, as far as the kernel tells.
func whereabouts(th *Thread) string {
	wchan, err := kernel.ReadProc(fmt.Sprintf("/proc/%d/task/%d/wchan", th.p.Pid, th.Tid))
	if err != nil || len(wchan) == 0 || string(wchan) == "0" {
		return "the kernel"
	}
	return string(wchan)
}
