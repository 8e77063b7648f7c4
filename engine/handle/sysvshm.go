package handle

import (
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// A segment of memory of System V is an image.SharedMemory with a Segment: its
// bytes travel as pages beside the records. The larder has it attached in pid 1,
// where the pages are written; processes attach it by its id.

const (
	segmentSizeAt   = permSize // shm_segsz of struct shmid64_ds
	shmLock         = 11
	shmNoReserve    = 0o10000
	segmentPath     = "/SYSV" // how mappings name it, /SYSV<key> (deleted)
	ownerReadsWrite = 0o600
)

// addSegment numbers a segment.
func (x *Inodes) addSegment(s *status) {
	id := x.SegmentByID(uint64(s.ID))
	m := &x.shared[id-1]
	m.Size, m.Segment = le.Uint64(s.data[segmentSizeAt:]), &s.SystemV
}

// SegmentByID numbers a segment by the id of System V, which mappings tell as inode.
func (x *Inodes) SegmentByID(id uint64) uint32 { return x.SharedByInode(id, segmentPath) }

// attached is a segment in the larder.
type attached struct {
	id   int    // of System V
	addr uint64 // in pid 1
}

// segment makes a segment, empty, and attaches it in pid 1.
func (b *binder) segment(s *image.SharedMemory) error {
	// With SHM_NORESERVE more can be made than there is memory: whether the
	// app asked for it cannot be seen, and it is a promise less.
	mode := uint64(s.Segment.Mode | ownerReadsWrite | ipcCreate | ipcExcl | shmNoReserve)
	err := b.makeSystemV(segmentFamily, s.Segment, func() (int, error) {
		return b.call(unix.SYS_SHMGET, uint64(uint32(s.Segment.Key)), s.Size, mode)
	})
	if err != nil {
		return err
	}
	addr, err := b.call(unix.SYS_SHMAT, uint64(s.Segment.ID), 0, 0)
	if err != nil {
		return fmt.Errorf("attaching memory of System V %d: %w", s.Segment.ID, err)
	}
	b.larder.segments[s.ID] = attached{s.Segment.ID, uint64(addr)}
	return nil
}

// Segment is where a segment is attached in pid 1.
func (l *Larder) Segment(id uint32) (addr uint64, ok bool) {
	s, ok := l.segments[id]
	return s.addr, ok
}

// releaseSegments gives segments their owner and mode, and lets go of them: every
// process that wants one has it.
func (l *Larder) releaseSegments(r Remote) error {
	c := newCaller(r)
	for i := range l.app.Shared {
		s := l.app.Shared[i].Segment
		if s == nil {
			continue
		}
		id := uint64(s.ID)
		if s.Locked {
			// It may be more than this host allows; then it is as good unlocked.
			_, _ = c.call(unix.SYS_SHMCTL, id, shmLock, 0)
		}
		if err := c.setPerm(segmentFamily, s, nil); err != nil {
			return err
		}
		if s.Dest {
			if _, err := c.call(unix.SYS_SHMCTL, id, ipcRmid, 0); err != nil {
				return fmt.Errorf("removing memory of System V %d: %w", s.ID, err)
			}
		}
		if _, err := c.call(unix.SYS_SHMDT, l.segments[l.app.Shared[i].ID].addr); err != nil {
			return fmt.Errorf("letting go of memory of System V %d: %w", s.ID, err)
		}
	}
	return nil
}
