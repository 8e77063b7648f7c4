package handle

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// A regular file, by path, or a deleted one, whose bytes travel beside the
// records. Symbolic links held with O_PATH are of this kind too.
//
// Recorded: which file, and the offset. Rebound: opened again at its path; a
// deleted one is made anew without a name. Refused: files that the capsule's own
// file tree does not show.
var fileKind = &kind{name: kindFile, capture: captureFile, blank: func() record { return new(fileRecord) }, rebind: rebindFiles}

type fileRecord struct {
	File uint32 `cbor:"1,keyasint"`
	Pos  int64  `cbor:"2,keyasint,omitempty"`
}

func (r *fileRecord) validate(refs *references) error {
	if refs.files[r.File] == nil {
		return fmt.Errorf("it is of file %d, which the image does not have", r.File)
	}
	if r.Pos < 0 {
		return fmt.Errorf("its offset is %d", r.Pos)
	}
	return nil
}

// atPath reports whether the capsule shows this very file at its path.
func (c *capturer) atPath(d *desc) (bool, error) {
	if d.seen.st.Nlink == 0 {
		return false, nil
	}
	var st unix.Stat_t
	switch err := unix.Lstat(c.root()+d.seen.link, &st); err {
	case nil:
		return st.Dev == d.seen.st.Dev && st.Ino == d.seen.st.Ino, nil
	case unix.ENOENT, unix.ENOTDIR:
		return false, nil
	default:
		return false, fmt.Errorf("looking for %s in the capsule: %w", d.seen.link, err)
	}
}

func captureFile(c *capturer, d *desc) (record, error) {
	there, err := c.atPath(d)
	if err != nil {
		return nil, err
	}
	if there {
		return &fileRecord{c.in.Inodes.AddFile(d.seen.link, &d.seen.st, image.FilePath), d.info.pos}, nil
	}
	path, deleted := strings.CutSuffix(d.seen.link, " (deleted)")
	if !deleted {
		return nil, refuse("let the app open the file by a path that it has inside the capsule",
			"the file %s, which lies outside of what the capsule shows", d.seen.link)
	}
	if d.seen.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, refuse(cureClose, "the deleted link %s", path)
	}
	id := c.in.Inodes.AddFile(path, &d.seen.st, image.FileDeleted)
	if _, ok := c.out.DeletedFDs[id]; !ok {
		// The app's own descriptor may be write-only, and its offset is the app's.
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", d.fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("opening the deleted file %s: %w", path, err)
		}
		c.out.DeletedFDs[id] = fd
	}
	return &fileRecord{id, d.info.pos}, nil
}

// openFlags are those of F_GETFL that open(2) takes again, without side effects.
func openFlags(h *image.Handle) int {
	return int(h.Flags) &^ (unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_CLOEXEC | fAsync | oTmpfileBit)
}

func rebindFiles(b *binder, entries []*entry) error {
	var opens []opening
	for _, e := range entries {
		r := e.rec.(*fileRecord)
		flags := openFlags(e.Handle) &^ unix.O_DIRECTORY
		path := b.path(r.File)
		if b.refs.files[r.File].Kind == image.FileDeleted {
			base, err := b.deleted(r.File)
			if err != nil {
				return err
			}
			path = fmt.Sprintf("/proc/self/fd/%d", base)
			flags &^= unix.O_NOFOLLOW
		}
		opens = append(opens, opening{path: path, flags: flags, handle: e.ID, pos: r.Pos})
	}
	return b.openAll(opens)
}

// deleted makes a file without a name for the bytes of a deleted one, and
// returns a descriptor of pid 1 that reads and writes it.
func (b *binder) deleted(id uint32) (int, error) {
	key := fileSlot{id, unix.O_RDWR}
	if fd, ok := b.files[key]; ok {
		return fd, nil
	}
	f := b.refs.files[id]
	// Its own directory first: the same file system has the same manners.
	dir := f.Path[:strings.LastIndexByte(f.Path, '/')+1]
	fd, err := b.open(dir, unix.O_RDWR|unix.O_TMPFILE, f.Mode|0600)
	if err != nil {
		if fd, err = b.open("/tmp", unix.O_RDWR|unix.O_TMPFILE, f.Mode|0600); err != nil {
			return -1, fmt.Errorf("making a place for the deleted file %s: %w", f.Path, err)
		}
	}
	// Of its size from the beginning: holes and zeros at its end do not travel.
	calls := batch{remote: b.remote}
	what := "making a place for the deleted file " + f.Path
	calls.add(what, unix.SYS_FTRUNCATE, uint64(fd), uint64(f.Size))
	calls.add(what, unix.SYS_FCHMOD, uint64(fd), uint64(f.Mode))
	if err := calls.run(); err != nil {
		return -1, err
	}
	b.files[key] = fd
	return fd, nil
}
