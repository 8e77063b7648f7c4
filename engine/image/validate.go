package image

import "fmt"

// Validate checks everything about an image that can be checked without a
// kernel: numbers within their limits, references that lead somewhere,
// processes in an order in which they can be made. A restorer relies on it.
func (a *App) Validate() error {
	if a.Version < 1 || a.Version > Version {
		return fmt.Errorf("version %d of the image is not known here (up to %d): update hither on this host", a.Version, Version)
	}
	if len(a.Processes) == 0 || len(a.Processes) > MaxProcesses {
		return fmt.Errorf("%d processes", len(a.Processes))
	}
	if len(a.ID) == 0 || len(a.ID) > 64 || len(a.Name) > MaxString {
		return fmt.Errorf("an id of %d and a name of %d bytes", len(a.ID), len(a.Name))
	}
	for _, r := range a.ID {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return fmt.Errorf("the id %q", a.ID)
		}
	}
	if len(a.Machine.VDSO) > 1<<16 || len(a.Machine.VDSOSymbols) > 256 {
		return fmt.Errorf("a vdso of %d bytes and %d symbols", len(a.Machine.VDSO), len(a.Machine.VDSOSymbols))
	}
	refs, err := a.references()
	if err != nil {
		return err
	}
	ids := map[int]bool{1: true} // pids and tids in use
	made := map[int]bool{1: true}
	threads := 0
	for i := range a.Processes {
		p := &a.Processes[i]
		if err := p.validate(refs); err != nil {
			return fmt.Errorf("process %d: %w", p.Pid, err)
		}
		if !made[p.Parent] {
			return fmt.Errorf("process %d comes before its parent %d", p.Pid, p.Parent)
		}
		made[p.Pid] = true
		if p.Zombie {
			if ids[p.Pid] {
				return fmt.Errorf("process %d: its id is used twice", p.Pid)
			}
			ids[p.Pid] = true
		}
		for _, t := range p.Threads {
			if ids[t.Tid] {
				return fmt.Errorf("thread %d: its id is used twice", t.Tid)
			}
			ids[t.Tid] = true
		}
		threads += len(p.Threads)
	}
	if threads > MaxThreads {
		return fmt.Errorf("%d threads", threads)
	}
	if err := a.validateSystemV(ids); err != nil {
		return err
	}
	for _, d := range a.Portals {
		if d.FD < 0 || d.FD > 1<<20 || !refs.handles[d.Handle] {
			return fmt.Errorf("portal %d names handle %d", d.FD, d.Handle)
		}
	}
	for _, l := range a.Locks {
		if l.Kind < LockFlock || l.Kind > LockOFD || l.Start < 0 || l.Len < 0 {
			return fmt.Errorf("a lock of kind %d, %d bytes at %d", l.Kind, l.Len, l.Start)
		}
	}
	return nil
}

type references struct {
	files, shared, handles map[uint32]bool
	segments               map[uint32]uint64 // sizes of those of System V, in whole pages
}

func (a *App) references() (*references, error) {
	if len(a.Handles) > MaxHandles || len(a.Files) > MaxHandles || len(a.Shared) > MaxHandles {
		return nil, fmt.Errorf("%d handles, %d files, %d shared memories", len(a.Handles), len(a.Files), len(a.Shared))
	}
	refs := &references{map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}, map[uint32]uint64{}}
	for _, f := range a.Files {
		if f.ID == 0 || refs.files[f.ID] {
			return nil, fmt.Errorf("file %d stands twice", f.ID)
		}
		if f.Kind < FilePath || f.Kind > FileFIFO || len(f.Path) > MaxString || f.Size < 0 || !clean(f.Path) {
			return nil, fmt.Errorf("file %d: kind %d, path %.80q", f.ID, f.Kind, f.Path)
		}
		refs.files[f.ID] = true
	}
	for _, s := range a.Shared {
		if s.ID == 0 || refs.shared[s.ID] || s.Size > TopOfUser || len(s.Name) > 249 {
			return nil, fmt.Errorf("shared memory %d: %d bytes, name %.80q", s.ID, s.Size, s.Name)
		}
		refs.shared[s.ID] = true
		if s.Segment != nil {
			if s.Size == 0 || s.MemFD || s.Seals != 0 {
				return nil, fmt.Errorf("memory of System V %d: %d bytes", s.ID, s.Size)
			}
			refs.segments[s.ID] = (s.Size + page - 1) &^ (page - 1)
		}
	}
	for _, h := range a.Handles {
		if h.ID == 0 || refs.handles[h.ID] || len(h.Kind) == 0 || len(h.Kind) > 32 {
			return nil, fmt.Errorf("handle %d of kind %.40q", h.ID, h.Kind)
		}
		refs.handles[h.ID] = true
	}
	return refs, nil
}

// clean reports whether a path is absolute and has no NUL. What it leads to
// is for the one who opens it, inside the capsule.
func clean(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := 0; i < len(path); i++ {
		if path[i] == 0 {
			return false
		}
	}
	return true
}

func goodPid(pid int) bool { return pid > 1 && pid < 1<<22 } // PID_MAX_LIMIT, include/linux/threads.h

func (p *Process) validate(refs *references) error {
	switch {
	case !goodPid(p.Pid):
		return fmt.Errorf("not an id a process of a capsule can have")
	case p.Parent != 1 && !goodPid(p.Parent):
		return fmt.Errorf("parent %d", p.Parent)
	case p.Group < 0 || p.Group >= 1<<22 || p.Session < 0 || p.Session >= 1<<22:
		return fmt.Errorf("group %d, session %d", p.Group, p.Session)
	case p.ExitSignal < 0 || p.ExitSignal > 64:
		return fmt.Errorf("exit signal %d", p.ExitSignal)
	case len(p.Comm) > 15:
		return fmt.Errorf("a name of %d bytes", len(p.Comm))
	}
	if p.Zombie {
		if len(p.Threads) != 0 || len(p.VMAs) != 0 || len(p.Descriptors) != 0 {
			return fmt.Errorf("a zombie with threads, memory or descriptors")
		}
		return nil
	}
	if len(p.Threads) == 0 || p.Threads[0].Tid != p.Pid {
		return fmt.Errorf("its first thread is not its leader")
	}
	if !refs.files[p.Exe] {
		return fmt.Errorf("its executable is file %d, which the image does not have", p.Exe)
	}
	if !clean(p.Cwd) || !clean(p.Root) || len(p.Cwd) > MaxString || len(p.Root) > MaxString {
		return fmt.Errorf("working directory %.80q, root %.80q", p.Cwd, p.Root)
	}
	if p.Terminal < 0 || p.Terminal > 1<<20 || p.Foreground < 0 || p.Foreground >= 1<<22 {
		return fmt.Errorf("terminal %d with group %d in front", p.Terminal-1, p.Foreground)
	}
	if len(p.Rlimits) > 16 || len(p.SigActions) > 64 || len(p.ITimers) > 3 || len(p.PosixTimers) > MaxSignals || len(p.Layout.Auxv) > 4096 {
		return fmt.Errorf("%d limits, %d signal actions, %d interval timers, %d timers", len(p.Rlimits), len(p.SigActions), len(p.ITimers), len(p.PosixTimers))
	}
	if err := validSignals(p.Pending); err != nil {
		return err
	}
	seen := make(map[int]bool, len(p.Descriptors))
	for _, d := range p.Descriptors {
		if d.FD < 0 || d.FD > 1<<30 || seen[d.FD] || !refs.handles[d.Handle] {
			return fmt.Errorf("descriptor %d of handle %d", d.FD, d.Handle)
		}
		seen[d.FD] = true
	}
	if err := p.validateMemory(refs); err != nil {
		return err
	}
	for i := range p.Threads {
		if err := p.Threads[i].validate(); err != nil {
			return fmt.Errorf("thread %d: %w", p.Threads[i].Tid, err)
		}
	}
	return nil
}

func (p *Process) validateMemory(refs *references) error {
	if len(p.VMAs) > MaxVMAs {
		return fmt.Errorf("%d mappings", len(p.VMAs))
	}
	last := uint64(0)
	for _, v := range p.VMAs {
		if v.Start%page != 0 || v.End%page != 0 || v.Start < last || v.End <= v.Start || v.End > TopOfUser || v.Start < page {
			return fmt.Errorf("mapping %#x-%#x", v.Start, v.End)
		}
		last = v.End
		if v.Prot > 7 || v.Offset%page != 0 || len(v.Name) > 80 {
			return fmt.Errorf("mapping %#x-%#x: protection %#x, offset %#x", v.Start, v.End, v.Prot, v.Offset)
		}
		for _, g := range v.Guards {
			if g[0] < v.Start || g[1] > v.End || g[0] >= g[1] || g[0]%page != 0 || g[1]%page != 0 {
				return fmt.Errorf("mapping %#x-%#x: guard %#x-%#x", v.Start, v.End, g[0], g[1])
			}
		}
		switch v.Backing {
		case BackAnon, BackVDSO, BackVVar:
		case BackFile:
			if !refs.files[v.Object] {
				return fmt.Errorf("mapping %#x-%#x shows file %d, which the image does not have", v.Start, v.End, v.Object)
			}
		case BackShared:
			if !refs.shared[v.Object] {
				return fmt.Errorf("mapping %#x-%#x shows shared memory %d, which the image does not have", v.Start, v.End, v.Object)
			}
			if size, ok := refs.segments[v.Object]; ok && (!v.Shared || v.Offset > size || v.End-v.Start > size-v.Offset) {
				return fmt.Errorf("mapping %#x-%#x shows more of shared memory %d than there is", v.Start, v.End, v.Object)
			}
		default:
			return fmt.Errorf("mapping %#x-%#x: backing %d", v.Start, v.End, v.Backing)
		}
	}
	return nil
}

func validSignals(queue []SigInfo) error {
	if len(queue) > MaxSignals {
		return fmt.Errorf("%d queued signals", len(queue))
	}
	for _, s := range queue {
		if len(s) != 128 {
			return fmt.Errorf("a queued signal of %d bytes", len(s))
		}
	}
	return nil
}

// RegsSize is that of struct user_regs_struct (arch/x86/include/asm/user_64.h).
const RegsSize = 27 * 8

func (t *Thread) validate() error {
	switch {
	case !goodPid(t.Tid):
		return fmt.Errorf("not an id a thread of a capsule can have")
	case len(t.Regs) != RegsSize:
		return fmt.Errorf("registers of %d bytes", len(t.Regs))
	case len(t.XState) < 576 || len(t.XState) > MaxXState: // legacy area and header
		return fmt.Errorf("extended state of %d bytes", len(t.XState))
	case len(t.AltStack) != 0 && len(t.AltStack) != 24:
		return fmt.Errorf("a signal stack record of %d bytes", len(t.AltStack))
	case len(t.Comm) > 15 || len(t.Affinity) > 1024:
		return fmt.Errorf("a name of %d bytes, an affinity of %d", len(t.Comm), len(t.Affinity))
	}
	return validSignals(t.Pending)
}
