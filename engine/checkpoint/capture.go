// Package checkpoint turns a running capsule into an image.
//
// In a nutshell: Survey looks at the capsule from outside and names what could
// not be carried, before anything is touched. Ahead may send memory in rounds while it
// runs. Freeze stops every process of
// the tree (pid 1 runs on: it only waits). Capture then fills an image.App:
// processes and threads from /proc and by injected questions, descriptors by
// package handle, mappings by package memory, whose pages stay where they are
// until they are streamed from the frozen processes. Thaw lets everything run
// on as if nothing had been.
//
// All of it happens on the tracer's thread (tracee.Tracer.Do); there are no
// locks. Whoever dies here, the kernel lets the app run on.
package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/handle"
	"hither/engine/image"
	"hither/engine/kernel"
	"hither/engine/memory"
	"hither/engine/tracee"
)

// Frozen is a stopped capsule.
type Frozen struct {
	Procs []*tracee.Process
	Init  int // host pid of the capsule's pid 1

	Since time.Time // when the first was stopped

	// Memory is where the pages of the image are, after Capture.
	Memory []memory.Source
	// Deleted maps the ids of deleted files to paths of this host through
	// which their bytes can be read while the app is frozen.
	Deleted map[uint32]string
	// Handles is what Capture found of descriptors.
	Handles *handle.Captured

	// Ahead, if set before Capture, has sent memory ahead: Memory is the rest of it.
	// After Capture, AheadOf are the processes (inside) of which that is so.
	Ahead   *Ahead
	AheadOf []int

	// Keep, if set before Capture, is told what GiveBack needs should this process
	// die. If it is nil, or fails, the threads stay on their own processors.
	Keep func(kernel.Processors) error

	tracer   *tracee.Tracer
	root     string // the capsule's root as seen from here
	inodes   *handle.Inodes
	systemV  *handle.SystemV
	affinity unix.CPUSet // that of pid 1
	gathered kernel.Processors
	sleeps   map[int]sleep
	since    time.Duration // CLOCK_MONOTONIC at the freeze
	restarts map[*tracee.Thread]image.Restart
	views    map[uint32][]view // of shared memory, by its id
	opened   []*os.File
	stats    map[string]fileStat
}

// Freeze stops the tree below pid 1 of a capsule, given by its host pid. It
// must be called inside t.Do. If it fails, everything runs on.
func Freeze(t *tracee.Tracer, initPid int) (*Frozen, error) {
	f := &Frozen{
		Init: initPid, tracer: t, root: fmt.Sprintf("/proc/%d/root", initPid),
		Deleted: map[uint32]string{}, restarts: map[*tracee.Thread]image.Restart{},
		views: map[uint32][]view{}, stats: map[string]fileStat{},
	}
	pids, err := kernel.Descendants(initPid)
	if err != nil {
		return nil, fmt.Errorf("stopping the app: %w", err)
	}
	f.sleeps = sleeps(pids)
	f.since, f.Since = monotonic(), time.Now()
	procs, err := t.FreezeTree(initPid)
	if err != nil {
		return nil, fmt.Errorf("stopping the app: %w", err)
	}
	f.Procs = procs
	return f, nil
}

// slept is how long a thread had waited when it was stopped; 0 if unknown.
func (f *Frozen) slept(th *tracee.Thread, st status) time.Duration {
	s, ok := f.sleeps[th.Tid]
	if !ok {
		return 0
	}
	// If the thread has given up the processor more often than by our stops, it
	// woke between the look and the first of them: then its sleep is as young
	// as the time between the two, which is next to nothing.
	if st.number("voluntary_ctxt_switches", 10) > s.voluntary+th.Stops() {
		return 0
	}
	return max(0, f.since-s.since)
}

// Identity names the capsule in its image.
type Identity struct {
	ID, Name string
	Main     int            // pid of the first process
	Portals  []int          // descriptors of pid 1 that travel
	Watched  handle.Watched // from SurveyWatched; may be nil
	// OtherVDSO: the app moves to a kernel with another vdso. No thread may stand in this one's.
	OtherVDSO bool
}

// Capture fills an image from the frozen capsule. It must be called inside
// the tracer's Do. The app is unharmed whether or not it succeeds: Thaw it.
func (f *Frozen) Capture(id Identity) (*image.App, error) {
	app := &image.App{Version: image.Version, ID: id.ID, Name: id.Name, Main: id.Main}
	var err error
	if app.Clocks, err = f.clocks(); err != nil {
		return nil, err
	}
	if err := unix.SchedGetaffinity(f.Init, &f.affinity); err != nil {
		return nil, fmt.Errorf("reading the processors of the capsule: %w", err)
	}
	f.inodes = handle.NewInodes()
	if id.OtherVDSO {
		// What a thread writes on its way out is to be seen below.
		for _, p := range f.Procs {
			if err := p.StepOutOfVDSO(); err != nil {
				return nil, err
			}
		}
	}
	procs := make([]handle.Proc, 0, len(f.Procs))
	looks, err := f.look()
	if err != nil {
		return nil, err
	}
	for i, p := range f.Procs {
		procs = append(procs, handle.Proc{Pid: p.Pid, Inner: looks[i].status.inner(), Zombie: p.Zombie})
	}
	if err := f.gatherThreads(looks); err != nil {
		return nil, err
	}
	asked, err := f.inside()
	if err != nil {
		return nil, err
	}
	if f.systemV, err = handle.CaptureSystemV(handle.On(asked), f.inodes); err != nil {
		return nil, err
	}
	diag, err := handle.OpenDiag(asked)
	if err != nil {
		return nil, err
	}
	defer unix.Close(diag)
	f.Handles, err = handle.Capture(handle.Input{Procs: procs, InitPid: f.Init, Portals: id.Portals, Inodes: f.inodes, Watched: id.Watched, Diag: diag})
	if err != nil {
		return nil, fmt.Errorf("capturing what the app has open: %w", err)
	}
	for i, p := range f.Procs {
		proc, err := f.process(p, looks[i])
		if err != nil {
			return nil, fmt.Errorf("capturing process %d: %w", procs[i].Inner, err)
		}
		proc.Descriptors = f.Handles.Tables[proc.Pid]
		for j := range proc.Threads {
			if r := proc.Threads[j].Restart; r != nil {
				f.restarts[p.Threads[j]] = *r
			}
		}
		app.Processes = append(app.Processes, *proc)
	}
	app.Handles, app.Locks, app.Portals = f.Handles.Handles, f.Handles.Locks, f.Handles.Portals
	app.Files, app.Shared = f.inodes.Files(), f.inodes.Shared()
	app.Semaphores, app.Queues = f.systemV.Semaphores, f.systemV.Queues
	if app.LastPid, err = readInt(f.root + "/proc/sys/kernel/ns_last_pid"); err != nil {
		return nil, err
	}
	if app.Machine, err = ThisMachine(); err != nil {
		return nil, err
	}
	for _, p := range app.Processes {
		if len(p.Threads) > 0 {
			app.Machine.XStateSize = max(app.Machine.XStateSize, len(p.Threads[0].XState))
		}
	}
	if err := f.sharedMemory(app); err != nil {
		return nil, err
	}
	if err := app.Validate(); err != nil {
		return nil, fmt.Errorf("the capture went wrong, please report it: %w", err)
	}
	return app, nil
}

// clocks are the capsule's clocks at the freeze.
func (f *Frozen) clocks() (image.Clocks, error) {
	mono, err := kernel.ClockOffset(f.Init, unix.CLOCK_MONOTONIC)
	if err != nil {
		return image.Clocks{}, err
	}
	boot, err := kernel.ClockOf(f.Init, unix.CLOCK_BOOTTIME)
	return image.Clocks{
		Monotonic: int64(f.since) + mono,
		Boottime:  boot,
		Realtime:  kernel.Clock(unix.CLOCK_REALTIME),
	}, err
}

// Close lets go of the descriptors that Capture took.
func (f *Frozen) Close() {
	if f.Handles != nil {
		f.Handles.Close()
		f.Handles = nil
	}
	for _, file := range f.opened {
		file.Close()
	}
	f.opened = nil
}

// Thaw lets the app run on here, as if it had never been stopped. It must be
// called inside the tracer's Do.
func (f *Frozen) Thaw() error {
	var errs []error
	if f.Handles != nil {
		f.Handles.Undo()
	}
	f.Close()
	for th, r := range f.restarts {
		if err := resume(th, r); err != nil {
			errs = append(errs, err)
		}
	}
	f.restarts = map[*tracee.Thread]image.Restart{}
	errs = append(errs, f.scatterThreads(), f.tracer.DetachAll(f.Procs))
	return errors.Join(errs...)
}

// resume has an interrupted call go on that the kernel would end with EINTR, or
// begin anew with its whole time-out.
// The kernel takes up all others by itself.
func resume(th *tracee.Thread, r image.Restart) error {
	if th.Gone() {
		return nil
	}
	regs := th.Regs()
	if rax := int64(regs.Rax); rax != -int64(unix.EINTR) && rax != restartNoHand || int64(regs.Orig_rax) < 0 {
		return nil
	}
	regs.Rax, regs.Rip, regs.Orig_rax = r.Nr, regs.Rip-2, ^uint64(0)
	if r.Left >= 0 && (r.Nr == unix.SYS_EPOLL_WAIT || r.Nr == unix.SYS_EPOLL_PWAIT) {
		regs.R10 = uint64((r.Left + 1e6 - 1) / 1e6)
	}
	return th.SetRegs(regs)
}

// inside is a thread that can be asked about the namespaces of the capsule:
// its sockets, its objects of System V.
func (f *Frozen) inside() (*tracee.Thread, error) {
	for _, p := range f.Procs {
		if p.Zombie {
			continue
		}
		if err := p.Prepare(0); err != nil {
			return nil, fmt.Errorf("preparing to ask the app: %w", err)
		}
		return p.Leader(), nil
	}
	return nil, errors.New("all processes of the app have ended")
}
