package handle

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// A named pipe: as a pipe, and its path, at which it is made where it is
// missing. Openings with O_PATH are carried as files are.
var fifoKind = &kind{name: kindFifo, capture: captureFifo, blank: func() record { return new(pipeRecord) }, rebind: rebindFifos}

func captureFifo(c *capturer, d *desc) (record, error) {
	there, err := c.atPath(d)
	if err != nil {
		return nil, err
	}
	path, deleted := strings.CutSuffix(d.seen.link, " (deleted)")
	if !there && !deleted {
		return nil, refuse("let the app open it by a path that it has inside the capsule",
			"the named pipe %s, which lies outside of what the capsule shows", path)
	}
	if there {
		path, deleted = d.seen.link, false
	}
	if d.flags&unix.O_PATH != 0 {
		if !there {
			return nil, refuse(cureClose, "the deleted named pipe %s", path)
		}
		d.kind = fileKind
		return &fileRecord{File: c.in.Inodes.AddFile(path, &d.seen.st, image.FileFIFO)}, nil
	}
	rec, err := capturePipe(c, d)
	if err != nil {
		return nil, err
	}
	r := rec.(*pipeRecord)
	r.File, r.Deleted = c.in.Inodes.AddFile(path, &d.seen.st, image.FileFIFO), deleted
	return r, nil
}

func rebindFifos(b *binder, entries []*entry) error {
	return b.pipes(entries, func(r *pipeRecord) (int, int, error) {
		if b.refs.files[r.File] == nil {
			return -1, -1, fmt.Errorf("it has no path")
		}
		path, mode := b.path(r.File), b.refs.files[r.File].Mode&07777
		if r.Deleted {
			path = fmt.Sprintf("/tmp/.hither-fifo-%d", r.Pipe)
		}
		at, err := b.text(path)
		if err != nil {
			return -1, -1, err
		}
		if _, err := b.call(unix.SYS_MKNODAT, atFDCWD, at, uint64(unix.S_IFIFO|mode), 0); err != nil && err != unix.EEXIST {
			return -1, -1, fmt.Errorf("making %s: %w", path, err)
		}
		read, err := b.open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			return -1, -1, err
		}
		write, err := b.open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if err != nil {
			return -1, -1, err
		}
		if r.Deleted {
			if at, err = b.text(path); err != nil {
				return -1, -1, err
			}
			if _, err := b.call(unix.SYS_UNLINKAT, atFDCWD, at, 0); err != nil {
				return -1, -1, fmt.Errorf("removing %s: %w", path, err)
			}
		}
		return read, write, nil
	})
}
