package handle

import (
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// A directory, by path. A removed one is made anew and removed again. The
// offset is put back where the file system's offsets mean the same there; readers
// of a directory in mid-listing may see entries twice or not at all.
var directoryKind = &kind{name: kindDirectory, capture: captureDirectory, blank: func() record { return new(directoryRecord) }, rebind: rebindDirectories}

type directoryRecord struct {
	File    uint32 `cbor:"1,keyasint"`
	Pos     int64  `cbor:"2,keyasint,omitempty"`
	Removed bool   `cbor:"3,keyasint,omitempty"`
}

func (r *directoryRecord) validate(refs *references) error {
	return (&fileRecord{r.File, r.Pos}).validate(refs)
}

func captureDirectory(c *capturer, d *desc) (record, error) {
	there, err := c.atPath(d)
	if err != nil {
		return nil, err
	}
	r := &directoryRecord{Pos: d.info.pos, Removed: d.seen.st.Nlink == 0}
	if !there && !r.Removed {
		return nil, refuse("let the app open it by a path that it has inside the capsule",
			"the directory %s, which lies outside of what the capsule shows", d.seen.link)
	}
	r.File = c.in.Inodes.AddFile(d.seen.link, &d.seen.st, image.FileDir)
	return r, nil
}

func rebindDirectories(b *binder, entries []*entry) error {
	var opens []opening
	for _, e := range entries {
		r := e.rec.(*directoryRecord)
		flags := openFlags(e.Handle) | unix.O_DIRECTORY
		if !r.Removed {
			// An offset of another file system may not exist there: no harm.
			opens = append(opens, opening{path: b.path(r.File), flags: flags, handle: e.ID, pos: r.Pos, posMayFail: true})
			continue
		}
		path := fmt.Sprintf("/tmp/.hither-removed-%d", e.ID)
		at, err := b.text(path)
		if err != nil {
			return err
		}
		if _, err := b.call(unix.SYS_MKDIRAT, atFDCWD, at, 0700); err != nil {
			return fmt.Errorf("making a directory to remove: %w", err)
		}
		fd, err := b.open(path, flags, 0)
		if err != nil {
			return err
		}
		b.put(e.ID, fd)
		if at, err = b.text(path); err != nil {
			return err
		}
		if _, err := b.call(unix.SYS_UNLINKAT, atFDCWD, at, unix.AT_REMOVEDIR); err != nil {
			return fmt.Errorf("removing a directory: %w", err)
		}
	}
	return b.openAll(opens)
}
