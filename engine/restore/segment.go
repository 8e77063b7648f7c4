package restore

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/memory"
)

// shmReadOnly is SHM_RDONLY, include/uapi/linux/shm.h.
const shmReadOnly = 0o10000

// findSegments notes which shared memory is of System V.
func (b *Builder) findSegments() {
	b.segments = map[uint32]*image.SharedMemory{}
	for i := range b.app.Shared {
		if s := &b.app.Shared[i]; s.Segment != nil {
			b.segments[s.ID] = s
		}
	}
}

// segmentPages is the size of a segment in whole pages, in bytes.
func segmentPages(s *image.SharedMemory) uint64 {
	return (s.Size + memory.PageSize - 1) &^ (memory.PageSize - 1)
}

// attachment is what one shmat(2) of the app left of itself in a process.
type attachment struct {
	segment  uint32 // id of the shared memory
	at       uint64 // where its beginning is, or was
	writable bool
}

// attach gives a process its mappings of memory of System V. shmat(2) always
// attaches all of a segment. So where the app has unmapped or protected a part of
// it, the parts are brought to their places from one that lies aside: from the
// same, for shmdt(2) takes away the parts of one attachment together.
func (b *Builder) attach(proc *image.Process, add adder) error {
	if len(b.segments) == 0 {
		return nil
	}
	parts := map[attachment][]*image.VMA{}
	var order []attachment
	for i := range proc.VMAs {
		v := &proc.VMAs[i]
		if v.Backing != image.BackShared || b.segments[v.Object] == nil {
			continue
		}
		key := attachment{v.Object, v.Start - v.Offset, v.Writable}
		if parts[key] == nil {
			order = append(order, key)
		}
		parts[key] = append(parts[key], v)
	}
	var aside uint64
	for _, a := range order {
		s := b.segments[a.segment]
		id, size := uint64(s.Segment.ID), segmentPages(s)
		flags, prot := uint64(0), uint32(unix.PROT_READ|unix.PROT_WRITE)
		if !a.writable {
			flags, prot = shmReadOnly, unix.PROT_READ
		}
		say := fmt.Sprintf("attaching memory of System V %d at %#x", id, a.at)
		if first := parts[a][0]; first.End-first.Start == size {
			add(say, unix.SYS_SHMAT, id, a.at, flags)
		} else {
			if aside == 0 {
				var err error
				if aside, err = b.aside(proc); err != nil {
					return err
				}
			}
			add(say, unix.SYS_SHMAT, id, aside, flags)
			for _, v := range parts[a] {
				length := v.End - v.Start
				add(say, unix.SYS_MREMAP, aside+v.Offset, length, length, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, v.Start)
			}
			add(say, unix.SYS_MUNMAP, aside, size)
		}
		for _, v := range parts[a] {
			if v.Prot != prot {
				add(say, unix.SYS_MPROTECT, v.Start, v.End-v.Start, uint64(v.Prot))
			}
		}
	}
	return nil
}

// aside is where the largest segment has room in a process, apart from all else.
func (b *Builder) aside(proc *image.Process) (uint64, error) {
	room := uint64(0)
	for _, s := range b.segments {
		room = max(room, segmentPages(s))
	}
	one := image.App{Processes: []image.Process{*proc}}
	taken := append(spansOf(&one), span{start: b.train, end: b.park + parkRoom})
	for _, a := range b.ahead.areas {
		taken = append(taken, a.span())
	}
	return gap(append(taken, slices.Clone(b.own)...), room)
}
