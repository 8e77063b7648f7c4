package handle

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A memfd: its memory is an image.SharedMemory, whose bytes travel as pages
// beside the records; here are the offset and the flags of one opening of it.
// Seals are set by Larder.Close, when the bytes are in place.
var memfdKind = &kind{name: kindMemfd, capture: captureMemfd, blank: func() record { return new(memfdRecord) }, rebind: rebindMemfds}

type memfdRecord struct {
	Shared uint32 `cbor:"1,keyasint"`
	Pos    int64  `cbor:"2,keyasint,omitempty"`
}

func (r *memfdRecord) validate(refs *references) error {
	if refs.shared[r.Shared] == nil || r.Pos < 0 {
		return fmt.Errorf("it shows shared memory %d at %d", r.Shared, r.Pos)
	}
	return nil
}

func captureMemfd(c *capturer, d *desc) (record, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", d.fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening it to read it: %w", err)
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("asking for its seals: %w", err)
	}
	id := c.in.Inodes.AddShared(&d.seen.st, d.seen.link, uint32(seals))
	if _, ok := c.out.SharedFDs[id]; ok {
		unix.Close(fd)
	} else {
		c.out.SharedFDs[id] = fd
	}
	return &memfdRecord{id, d.info.pos}, nil
}

func rebindMemfds(b *binder, entries []*entry) error {
	var opens []opening
	for _, e := range entries {
		r := e.rec.(*memfdRecord)
		opens = append(opens, opening{path: fmt.Sprintf("/proc/self/fd/%d", b.shared[r.Shared]),
			flags: openFlags(e.Handle), handle: e.ID, pos: r.Pos})
	}
	return b.openAll(opens)
}

// sharedMemory makes the memory of memfds, of mappings and of System V, empty and of its size.
func (b *binder) sharedMemory() error {
	for i := range b.app.Shared {
		s := &b.app.Shared[i]
		if s.Segment != nil {
			if err := b.segment(s); err != nil {
				return err
			}
			continue
		}
		name := s.Name
		if !s.MemFD {
			name = "hither-shared"
		}
		at, err := b.text(name)
		if err != nil {
			return err
		}
		fd, err := b.call(unix.SYS_MEMFD_CREATE, at, unix.MFD_ALLOW_SEALING)
		if err != nil {
			return fmt.Errorf("making shared memory %q: %w", name, err)
		}
		b.shared[s.ID] = fd
		calls := batch{remote: b.remote}
		calls.add("sizing shared memory", unix.SYS_FTRUNCATE, uint64(fd), s.Size)
		if s.MemFD && s.Mode != 0 {
			calls.add("setting the mode of shared memory", unix.SYS_FCHMOD, uint64(fd), uint64(s.Mode&07777))
		}
		if err := calls.run(); err != nil {
			return err
		}
	}
	return nil
}
