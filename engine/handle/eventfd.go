package handle

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// An eventfd: its count and whether it is a semaphore.
var eventfdKind = &kind{name: kindEventfd, capture: captureEventfd, blank: func() record { return new(eventfdRecord) }, rebind: rebindEventfds}

type eventfdRecord struct {
	Count     uint64 `cbor:"1,keyasint"`
	Semaphore bool   `cbor:"2,keyasint,omitempty"`
}

func (r *eventfdRecord) validate(*references) error {
	if r.Count == ^uint64(0) {
		return fmt.Errorf("its count is more than an eventfd can have")
	}
	return nil
}

func captureEventfd(_ *capturer, d *desc) (record, error) {
	count, err := d.info.number("eventfd-count", 16)
	if err != nil {
		return nil, err
	}
	semaphore, err := d.info.number("eventfd-semaphore", 10)
	if err != nil {
		return nil, err
	}
	return &eventfdRecord{count, semaphore != 0}, nil
}

func rebindEventfds(b *binder, entries []*entry) error {
	calls := batch{remote: b.remote}
	for _, e := range entries {
		r := e.rec.(*eventfdRecord)
		flags := int(e.Flags) & unix.O_NONBLOCK
		if r.Semaphore {
			flags |= unix.EFD_SEMAPHORE
		}
		calls.add("making an eventfd", unix.SYS_EVENTFD2, r.Count&0xffffffff, uint64(flags))
	}
	made := calls.calls
	if err := calls.run(); err != nil {
		return err
	}
	for i, e := range entries {
		fd := int(made[i].Ret)
		b.put(e.ID, fd)
		rest := e.rec.(*eventfdRecord).Count &^ 0xffffffff
		if rest == 0 {
			continue
		}
		// The initial count is 32 bits only.
		err := b.with(fd, func(dup int) error {
			_, err := unix.Write(dup, binary.NativeEndian.AppendUint64(nil, rest))
			return err
		})
		if err != nil {
			return fmt.Errorf("setting the count of an eventfd: %w", err)
		}
	}
	return nil
}
