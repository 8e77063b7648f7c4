package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/memory"
	"hither/engine/tracee"
)

// DeletedFile marks, in the id of shared memory on the wire, the content of a
// file that is deleted but open: the rest is the file's id.
const DeletedFile = uint32(1) << 31

// addressSpace records the mappings of a process and notes where its pages are.
func (f *Frozen) addressSpace(p *tracee.Process, s *seen, out *image.Process) error {
	x := mapper{root: f.root, inodes: f.inodes, stats: f.stats, watched: s.ahead}
	if s.ahead {
		f.AheadOf = append(f.AheadOf, out.Pid)
	}
	var ranges []memory.Range
	for _, m := range s.mappings {
		v, whole, err := x.vma(m)
		if err != nil {
			return err
		}
		if v == nil {
			continue
		}
		switch {
		case v.Backing == image.BackVDSO || v.Backing == image.BackVVar:
		case whole:
			ranges = append(ranges, memory.Range{Start: v.Start, End: v.End, KeepZeros: s.ahead})
		case v.Shared:
			if v.Backing == image.BackShared {
				f.inodes.Grow(v.Object, v.Offset+v.End-v.Start)
				f.views[v.Object] = append(f.views[v.Object], view{p, *v})
			}
		case v.Flags&image.VMADroppable != 0: // may be dropped at any time
		default:
			for _, r := range memory.Within(s.own, v.Start, v.End) {
				r.KeepZeros = r.KeepZeros || v.Backing != image.BackAnon
				ranges = append(ranges, r)
			}
			for _, g := range memory.Within(s.guards, v.Start, v.End) {
				v.Guards = append(v.Guards, [2]uint64{g.Start, g.End})
			}
		}
		out.VMAs = append(out.VMAs, *v)
	}
	f.Memory = append(f.Memory, memory.Source{Kind: memory.Process, ID: uint32(out.Pid), Pid: p.Pid, Ranges: ranges})
	return nil
}

// view is a mapping through which shared memory can be read.
type view struct {
	p   *tracee.Process
	vma image.VMA
}

// sharedMemory notes where the bytes of shared memory and of deleted files are.
func (f *Frozen) sharedMemory(app *image.App) error {
	for _, s := range app.Shared {
		if s.Segment != nil {
			if err := f.segment(s); err != nil {
				return err
			}
			continue
		}
		fd, ok := f.Handles.SharedFDs[s.ID]
		if !ok {
			// No descriptor leads to it: its bytes are gathered from those who
			// map it.
			file, err := f.gather(s)
			if err != nil {
				return fmt.Errorf("reading shared memory: %w", err)
			}
			fd = int(file.Fd())
		}
		if err := f.sharedSource(s.ID, fd, s.Size); err != nil {
			return err
		}
	}
	sizes := map[uint32]int64{}
	for _, file := range app.Files {
		sizes[file.ID] = file.Size
	}
	for id, path := range f.Deleted {
		if _, ok := f.Handles.DeletedFDs[id]; ok {
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("reading a deleted file: %w", err)
		}
		f.opened = append(f.opened, file)
		if err := f.sharedSource(id|DeletedFile, int(file.Fd()), uint64(sizes[id])); err != nil {
			return err
		}
	}
	for id, fd := range f.Handles.DeletedFDs {
		if err := f.sharedSource(id|DeletedFile, fd, uint64(sizes[id])); err != nil {
			return err
		}
	}
	slices.SortStableFunc(f.Memory, func(a, b memory.Source) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	f.alike(app)
	return nil
}

// alike notes which processes may have much memory in common: children of one
// parent that run the same program, and the first of them and its parent, if it does too.
func (f *Frozen) alike(app *image.App) {
	type family struct {
		program uint32
		parent  int
	}
	of := map[uint32]family{}
	for _, p := range app.Processes {
		of[uint32(p.Pid)] = family{p.Exe, p.Parent}
	}
	sources, first := map[uint32]*memory.Source{}, map[family]*memory.Source{}
	for i := range f.Memory {
		m := &f.Memory[i]
		if m.Kind != memory.Process {
			continue
		}
		mine := of[m.ID]
		parent := uint32(mine.parent)
		if m.Like = first[mine]; m.Like == nil {
			first[mine] = m
			if of[parent].program == mine.program {
				m.Like = sources[parent] // nil, if the pids went round
			}
		}
		sources[m.ID] = m
	}
}

func (f *Frozen) sharedSource(id uint32, fd int, size uint64) error {
	// The descriptor shares its offset with the app's.
	own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return fmt.Errorf("reading shared memory or a deleted file: %w", err)
	}
	f.opened = append(f.opened, own)
	ranges, err := memory.Data(int(own.Fd()), size)
	if err != nil {
		return err
	}
	f.Memory = append(f.Memory, memory.Source{Kind: memory.Shared, ID: id, File: own, Size: size, Ranges: ranges})
	return nil
}

// gather copies shared memory that no descriptor leads to into a file of memory.
func (f *Frozen) gather(s image.SharedMemory) (*os.File, error) {
	fd, err := unix.MemfdCreate("hither-gather", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "gathered")
	f.opened = append(f.opened, file)
	if err := unix.Ftruncate(fd, int64(s.Size)); err != nil {
		return nil, err
	}
	for _, v := range f.views[s.ID] {
		if err := v.copyTo(file); err != nil {
			return nil, err
		}
	}
	return file, nil
}

// copyTo copies the pages that exist.
func (v view) copyTo(file *os.File) error {
	if v.vma.Prot&unix.PROT_READ == 0 {
		return nil
	}
	pages, err := v.present()
	if err != nil {
		return err
	}
	buf := make([]byte, memory.MaxRun)
	for _, r := range pages {
		for at := r.Start; at < r.End; at += uint64(len(buf)) {
			part := buf[:min(uint64(len(buf)), r.End-at)]
			if err := v.p.Read(part, v.vma.Start+at); err != nil {
				return err
			}
			if _, err := file.WriteAt(part, int64(at+v.vma.Offset)); err != nil {
				return err
			}
		}
	}
	return nil
}

// present lists the pages that exist, from the beginning of the mapping on: those
// mincore(2) knows of. It knows nothing of pages that are swapped out, so where
// there may be some it is all.
func (v view) present() ([]memory.Range, error) {
	size := v.vma.End - v.vma.Start
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil || info.Freeswap != info.Totalswap {
		return []memory.Range{{Start: 0, End: size}}, nil
	}
	if err := v.p.Prepare(0); err != nil {
		return nil, err
	}
	data, addr := v.p.Scratch()
	var all []memory.Range
	for at := uint64(0); at < size; {
		pages := min(uint64(len(data)), (size-at)/memory.PageSize)
		if _, err := v.p.Leader().Syscall(unix.SYS_MINCORE, v.vma.Start+at, pages*memory.PageSize, addr); err != nil {
			return nil, errors.Join(fmt.Errorf("asking for its pages: %w", err), v.p.Unprepare())
		}
		all = append(all, memory.Mincore(at, data[:pages])...)
		at += pages * memory.PageSize
	}
	return all, v.p.Unprepare()
}
