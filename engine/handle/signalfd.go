package handle

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A signalfd: its mask. What it will read are the pending signals, which are the
// processes' own.
var signalfdKind = &kind{name: kindSignalfd, capture: captureSignalfd, blank: func() record { return new(signalfdRecord) }, rebind: rebindSignalfds}

type signalfdRecord struct {
	Mask uint64 `cbor:"1,keyasint"`
}

func (r *signalfdRecord) validate(*references) error { return nil }

func captureSignalfd(_ *capturer, d *desc) (record, error) {
	mask, err := d.info.number("sigmask", 16)
	return &signalfdRecord{mask}, err
}

func rebindSignalfds(b *binder, entries []*entry) error {
	for _, e := range entries {
		le.PutUint64(b.data, e.rec.(*signalfdRecord).Mask)
		fd, err := b.call(unix.SYS_SIGNALFD4, ^uint64(0), b.addr, 8, uint64(int(e.Flags)&unix.O_NONBLOCK))
		if err != nil {
			return fmt.Errorf("making a signalfd: %w", err)
		}
		b.put(e.ID, fd)
	}
	return nil
}
