// Package restore turns an image into a running capsule.
//
// In a nutshell: the new capsule has a pid 1 and nothing else. Take stops it. Memory that
// comes before the image, while the app still runs elsewhere, is kept in pid 1 (ahead.go). Begin
// has it build every open file description at high descriptor numbers (the
// larder of package handle), and forks the whole process tree from it with the
// pids of the image (tree.go); each process clears its address space and makes
// the app's mappings (space.go). Pages are then written from outside, through
// Places, while Furnish gives every process its descriptors and signal actions and
// makes the threads. Finish gives them what needs their memory, timers and limits, and
// sets registers. Until Resume nothing of the
// app has run, and the tracer's death kills the whole capsule
// (PTRACE_O_EXITKILL); Resume lets all go at once.
//
// Everything happens on the tracer's thread (tracee.Tracer.Do); there are no locks.
package restore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/checkpoint"
	"hither/engine/handle"
	"hither/engine/image"
	"hither/engine/kernel"
	"hither/engine/memory"
	"hither/engine/tracee"
)

// Builder is a capsule that is being restored.
type Builder struct {
	app      *image.App
	tracer   *tracee.Tracer
	init     *tracee.Process
	larder   *handle.Larder
	procs    map[int]*tracee.Process // by pid inside
	images   map[int]*image.Process
	segments map[uint32]*image.SharedMemory // of System V, by the id of the shared memory
	extras   map[int]*tracee.Process        // ghosts and helpers, while they live

	bare     []span      // pid 1's mappings without the train
	own      []span      // and with it: every new process inherits them
	affinity unix.CPUSet // pid 1's
	clock    int64       // what the capsule adds to CLOCK_MONOTONIC, ns
	train    uint64
	park     uint64
	// What every process has from pid 1; nil: not looked at yet.
	limitsHere []unix.Rlimit
	oomHere    int

	ahead ahead // memory that came before the image

	foreign  bool   // the app comes from a kernel with another vdso
	vdsoAt   uint64 // where this kernel's vdso is, if foreign
	hereVDSO image.Machine
	capLast  uint64

	// late is what must be set as late as can be: time-outs that go on.
	late []func(elapsed time.Duration) error
}

// remote is a thread as package handle wants it.
type remote struct{ th *tracee.Thread }

func (r remote) Batch(calls []handle.Call) error { return r.th.Batch(calls) }
func (r remote) Scratch() ([]byte, uint64)       { return r.th.Process().Scratch() }

// Take stops pid 1 of a new, empty capsule and makes it ready to be built in. The
// image need not be known yet, so this can be done before the app is frozen.
func Take(t *tracee.Tracer, initPid int) (*Builder, error) {
	b := &Builder{
		tracer: t, procs: map[int]*tracee.Process{}, images: map[int]*image.Process{}, extras: map[int]*tracee.Process{},
	}
	t.ExitKill = true
	var err error
	if b.init, err = t.Seize(initPid); err != nil {
		return nil, fmt.Errorf("taking hold of the capsule: %w", err)
	}
	if err := b.pin(); err != nil {
		return nil, err
	}
	if b.clock, err = kernel.ClockOffset(initPid, unix.CLOCK_MONOTONIC); err != nil {
		return nil, err
	}
	if b.bare, err = readSpans(initPid); err != nil {
		return nil, err
	}
	return b, b.board(nil)
}

// board maps the train where neither pid 1 nor the app has anything.
func (b *Builder) board(app []span) error {
	taken := append(slices.Clone(app), b.bare...)
	for _, a := range b.ahead.areas {
		taken = append(taken, a.span())
	}
	room, err := gap(taken, trainRoom+parkRoom)
	if err != nil {
		return err
	}
	b.train, b.park = room, room+trainRoom
	if err := b.init.Prepare(b.train); err != nil {
		return err
	}
	b.own, err = readSpans(b.init.Pid)
	b.own = slices.DeleteFunc(b.own, func(s span) bool {
		return slices.ContainsFunc(b.ahead.areas, func(a *area) bool { return a.span().overlaps(s) })
	})
	return err
}

// pin keeps the tracer and all that it makes on one processor until Resume:
// each of the many stops is a wake-up of the other, which between processors
// takes three times as long.
func (b *Builder) pin() error {
	if err := unix.SchedGetaffinity(b.init.Pid, &b.affinity); err != nil {
		return fmt.Errorf("reading the processors of the capsule: %w", err)
	}
	var one unix.CPUSet
	cpu := kernel.Processor()
	if one.Set(cpu); !b.affinity.IsSet(cpu) {
		return nil
	}
	for _, tid := range []int{0, b.init.Pid} { // 0: this thread, which is the tracer's
		if err := unix.SchedSetaffinity(tid, &one); err != nil {
			return fmt.Errorf("moving to one processor: %w", err)
		}
	}
	return nil
}

// Begin builds the capsule up to the point where its pages can be written.
// The image must be valid (image.Decode). On error the half-built tree is
// left to the caller, who kills it.
func (b *Builder) Begin(app *image.App, env handle.Env) error {
	b.app = app
	for i := range app.Processes {
		b.images[app.Processes[i].Pid] = &app.Processes[i]
	}
	b.findSegments()
	steps, err := plan(app)
	if err != nil {
		return err
	}
	if err := b.compareVDSO(); err != nil {
		return err
	}
	taken := spansOf(app)
	for _, s := range taken {
		if s.overlaps(span{start: b.train, end: b.park + parkRoom}) {
			if err := b.init.Unprepare(); err != nil {
				return err
			}
			if err := b.board(taken); err != nil {
				return err
			}
			break
		}
	}
	if err := b.bequeath(taken, steps); err != nil {
		return err
	}
	if b.larder, err = handle.Rebind(remote{b.init.Leader()}, app, env); err != nil {
		return fmt.Errorf("building what the app has open: %w", err)
	}
	if err := b.family(steps); err != nil {
		return err
	}
	if err := b.leave(); err != nil {
		return err
	}
	for i := range app.Processes {
		if p := &app.Processes[i]; !p.Zombie {
			if err := b.space(b.procs[p.Pid], p); err != nil {
				return fmt.Errorf("process %d: %w", p.Pid, err)
			}
		}
	}
	return b.copyAhead()
}

// HostPid returns the host pid of a process of the image, 0 if it has none.
func (b *Builder) HostPid(pid int) int {
	if p := b.procs[pid]; p != nil {
		return p.Pid
	}
	return 0
}

// Place says where pages of the image go. See memory.Receive.
func (b *Builder) Place(kind memory.Kind, id uint32) (memory.Place, error) {
	switch kind {
	case memory.Process:
		proc := b.images[int(id)]
		p := b.procs[int(id)]
		if proc == nil || p == nil || proc.Zombie {
			return nil, fmt.Errorf("process %d has no memory", id)
		}
		var allowed []memory.Range
		for _, v := range proc.VMAs {
			if v.Backing == image.BackAnon || v.Backing == image.BackFile && !v.Shared || v.Backing == image.BackShared && !v.Shared {
				allowed = append(allowed, memory.Range{Start: v.Start, End: v.End})
			}
		}
		return b.final(proc, memory.NewProcessPlace(p.Pid, allowed)), nil
	case memory.Shared:
		if s := b.segments[id]; s != nil {
			addr, ok := b.larder.Segment(id)
			if !ok {
				return nil, fmt.Errorf("memory of System V %d was not made", s.Segment.ID)
			}
			return memory.NewMappedPlace(b.init.Pid, addr, []memory.Range{{Start: 0, End: segmentPages(s)}}), nil
		}
		size := uint64(0)
		slot, ok := b.larder.SharedSlot(id)
		for _, s := range b.app.Shared {
			if s.ID == id {
				size = s.Size
			}
		}
		if id&checkpoint.DeletedFile != 0 {
			slot, ok = b.larder.DeletedSlots()[id&^checkpoint.DeletedFile]
			for _, f := range b.app.Files {
				if f.ID == id&^checkpoint.DeletedFile {
					size = uint64(f.Size)
				}
			}
		}
		if !ok {
			return nil, fmt.Errorf("there is no shared memory %d", id)
		}
		fd, err := b.init.GetFD(slot)
		if err != nil {
			return nil, err
		}
		return memory.NewFilePlace(fd, size), nil
	}
	return nil, fmt.Errorf("memory of kind %d is not known", kind)
}

// Kill ends what there is of the app.
func (b *Builder) Kill() error {
	var all []*tracee.Process
	for _, p := range b.procs {
		all = append(all, p)
	}
	for _, p := range b.extras {
		all = append(all, p)
	}
	if b.init != nil {
		all = append(all, b.init)
	}
	return b.tracer.Kill(all)
}

// Furnish gives the processes what does not touch their memory, which may be
// on its way meanwhile.
func (b *Builder) Furnish() error {
	for i := range b.app.Processes {
		p := &b.app.Processes[i]
		if p.Zombie {
			continue
		}
		if err := b.process(b.procs[p.Pid], p); err != nil {
			return fmt.Errorf("process %d: %w", p.Pid, err)
		}
	}
	return b.terminals()
}

// Finish makes the processes what they were, but for running. Their memory is
// in place.
func (b *Builder) Finish() error {
	elapsed := b.elapsed()
	for i := range b.app.Processes {
		p := &b.app.Processes[i]
		if p.Zombie {
			continue
		}
		if err := b.larder.Late(remote{b.procs[p.Pid].Leader()}, p); err != nil {
			return fmt.Errorf("process %d: %w", p.Pid, err)
		}
	}
	// Zombies die while their parents still hold all signals back.
	for i := range b.app.Processes {
		if p := &b.app.Processes[i]; p.Zombie {
			if err := b.procs[p.Pid].Die(p.ExitStatus); err != nil {
				return fmt.Errorf("process %d: %w", p.Pid, err)
			}
			delete(b.procs, p.Pid)
		}
	}
	for i := range b.app.Processes {
		p := &b.app.Processes[i]
		if p.Zombie {
			continue
		}
		if err := b.threads(b.procs[p.Pid], p, elapsed); err != nil {
			return fmt.Errorf("process %d: %w", p.Pid, err)
		}
	}
	return b.finishInit()
}

// finishInit leaves pid 1 with nothing but what it had, and the portals.
func (b *Builder) finishInit() error {
	if err := b.larder.Close(remote{b.init.Leader()}); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(b.init.Pid, &b.affinity); err != nil {
		return fmt.Errorf("giving the capsule its processors back: %w", err)
	}
	data, addr := b.init.Scratch()
	path := "/proc/sys/kernel/ns_last_pid\x00"
	text := fmt.Sprint(b.app.LastPid)
	copy(data, path)
	copy(data[64:], text)
	fd, err := call(b.init, "opening ns_last_pid", unix.SYS_OPEN, addr, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if _, err := call(b.init, "setting ns_last_pid", unix.SYS_WRITE, fd, addr+64, uint64(len(text))); err != nil {
		return err
	}
	_, err = call(b.init, "closing ns_last_pid", unix.SYS_CLOSE, fd)
	return err
}

// elapsed is how long the app has not run, by its own clock.
func (b *Builder) elapsed() time.Duration { return max(0, -b.ClockBehind()) }

// ClockBehind is by how much the capsule's clock has yet to reach the moment
// of the freeze.
func (b *Builder) ClockBehind() time.Duration {
	return time.Duration(b.app.Clocks.Monotonic - kernel.Clock(unix.CLOCK_MONOTONIC) - b.clock)
}

// Resume lets the app run. From the moment it is called the app is here.
func (b *Builder) Resume() error {
	all := []*tracee.Process{b.init}
	var stopped []*tracee.Process
	for pid, p := range b.procs {
		if b.images[pid].Stopped {
			stopped = append(stopped, p)
		} else {
			all = append(all, p)
		}
	}
	var errs []error
	elapsed := b.elapsed()
	for _, set := range b.late {
		errs = append(errs, set(elapsed))
	}
	for _, p := range append(stopped, all...) {
		errs = append(errs, p.SetExitKill(false))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("letting the app go: %w", err)
	}
	b.tracer.ExitKill = false
	if len(stopped) > 0 {
		// Nobody is to see them run.
		errs = append(errs, b.tracer.DetachAll(stopped))
		awaitStop(stopped)
	}
	return errors.Join(append(errs, b.tracer.DetachAll(all))...)
}

// awaitStop waits until processes that were let go with a SIGSTOP have taken it.
func awaitStop(all []*tracee.Process) {
	deadline := time.Now().Add(stopPatience)
	for _, p := range all {
		for time.Now().Before(deadline) {
			stat, err := kernel.ReadProc(fmt.Sprintf("/proc/%d/stat", p.Pid))
			if err != nil {
				break // it has been killed meanwhile
			}
			if _, state, ok := bytes.Cut(stat, []byte(") ")); !ok || state[0] != 'R' {
				break
			}
			kernel.Yield()
		}
	}
}

// stopPatience bounds awaitStop: an app is not kept for it.
const stopPatience = 20 * time.Millisecond
