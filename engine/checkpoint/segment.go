package checkpoint

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/memory"
)

// segment notes where the bytes of memory of System V are: it is read through a
// process that has all of it attached.
func (f *Frozen) segment(s image.SharedMemory) error {
	size := (s.Size + memory.PageSize - 1) &^ (memory.PageSize - 1)
	for _, v := range f.views[s.ID] {
		if v.vma.Offset != 0 || v.vma.End-v.vma.Start != size || v.vma.Prot&unix.PROT_READ == 0 {
			continue
		}
		pages, err := v.present()
		if err != nil {
			return fmt.Errorf("reading memory of System V %d: %w", s.Segment.ID, err)
		}
		f.Memory = append(f.Memory, memory.Source{Kind: memory.Shared, ID: s.ID, Pid: v.p.Pid, Base: v.vma.Start, Ranges: pages})
		return nil
	}
	file, err := f.attachAndCopy(s, size)
	var refused *Refusal
	if errors.As(err, &refused) {
		return err
	}
	if err != nil {
		return fmt.Errorf("reading memory of System V %d: %w", s.Segment.ID, err)
	}
	return f.sharedSource(s.ID, int(file.Fd()), size)
}

// attachAndCopy copies a segment that nobody has attached as a whole: somebody
// does for a moment.
func (f *Frozen) attachAndCopy(s image.SharedMemory, size uint64) (*os.File, error) {
	th, err := f.inside()
	if err != nil {
		return nil, err
	}
	p := th.Process()
	const shmReadOnly = 0o10000 // SHM_RDONLY, include/uapi/linux/shm.h
	at, err := th.Syscall(unix.SYS_SHMAT, uint64(s.Segment.ID), 0, shmReadOnly)
	if errors.Is(err, unix.EACCES) {
		err = &Refusal{fmt.Sprintf("it has memory of System V (%d) that it may not read itself", s.Segment.ID), "use the app without it, if it can"}
	}
	if err != nil {
		return nil, errors.Join(err, p.Unprepare())
	}
	s.Size = size
	f.views[s.ID] = []view{{p, image.VMA{Start: at, End: at + size, Prot: unix.PROT_READ}}}
	file, err := f.gather(s)
	if err2 := p.Prepare(0); err == nil {
		err = err2
	}
	if err == nil {
		_, err = th.Syscall(unix.SYS_SHMDT, at)
	}
	return file, errors.Join(err, p.Unprepare())
}
