package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// stage puts the content of one step beside its place. What the place does
// not allow is kept in the layer; what fails otherwise, as for want of room,
// is an error of the whole.
func (h *Homecoming) stage(s *step) error {
	if s.Act == actDelete || s.Act == actMode || s.Act == actInPlace || s.Act == actKept {
		return nil
	}
	p := rel(s.Entry.Path)
	err := h.parents(path.Dir(p))
	if err == nil {
		switch s.Entry.Kind {
		case Dir:
			err = h.root.mkdir(p, s.Entry.Mode|0o700)
			if err == nil {
				h.j.Made = append(h.j.Made, p)
				s.Done, s.Final = true, s.Entry.Path
				return h.root.chmod(p, s.Entry.Mode|0o700)
			}
		default:
			err = h.temp(s)
		}
	}
	for _, cause := range []error{unix.EACCES, unix.EPERM, unix.EROFS, unix.ELOOP, unix.ENOTDIR, unix.ENAMETOOLONG, unix.EXDEV, errOccupied} {
		if errors.Is(err, cause) {
			s.Act, s.Why, s.Temp = actKept, fmt.Sprintf("it cannot be written at home: %v", err), ""
			return nil
		}
	}
	return err
}

var errOccupied = errors.New("something else is there")

// parents makes the directories above a document that are missing.
func (h *Homecoming) parents(dir string) error {
	if dir == "." || h.made[dir] {
		return nil
	}
	st, err := h.root.lstat(dir)
	if err == nil {
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return fmt.Errorf("%s: %w", dir, errOccupied)
		}
		h.made[dir] = true
		return nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := h.parents(path.Dir(dir)); err != nil {
		return err
	}
	if err := h.root.mkdir(dir, 0o755); err != nil {
		return err
	}
	h.j.Made = append(h.j.Made, dir)
	h.made[dir] = true
	return nil
}

// temp makes the temporary name of a step beside its place, with its content.
func (h *Homecoming) temp(s *step) error {
	p := rel(s.Entry.Path)
	name := path.Join(path.Dir(p), fmt.Sprintf(".hither-%s-%d", filepath.Base(filepath.Dir(h.dir)), h.index(s)))
	s.Temp = "/" + name
	if err := h.root.removeAll(name); err != nil { // of a run that was killed
		return err
	}
	switch s.Entry.Kind {
	case Symlink:
		if err := h.root.symlink(s.Entry.Target, name); err != nil {
			return err
		}
	case FIFO:
		if err := h.root.mkfifo(name, s.Entry.Mode&0o777); err != nil {
			return err
		}
	default:
		if err := h.bring(s, name); err != nil {
			return err
		}
	}
	st, err := h.root.lstat(name)
	s.Ino = st.Ino
	return err
}

func (h *Homecoming) index(s *step) int {
	for i := range h.j.Steps {
		if &h.j.Steps[i] == s {
			return i
		}
	}
	return -1
}

// bring copies a content out of the layer into the new file name.
func (h *Homecoming) bring(s *step, name string) (err error) {
	layer, err := openFolder(h.dir)
	if err != nil {
		return err
	}
	defer layer.Close()
	from, _, err := layer.openRegular(docsDir + s.Entry.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := h.root.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		to.Close()
		if err != nil {
			h.root.unlink(name)
		}
	}()
	if err := copyInto(to, from, &s.Entry); err != nil {
		return err
	}
	// The group of the file it replaces, where that is ours to give.
	if st, err := h.root.lstat(rel(s.Entry.Path)); err == nil && s.Act == actReplace && int(st.Gid) != os.Getegid() {
		unix.Fchown(int(to.Fd()), -1, int(st.Gid))
	}
	if err := dress(to, s.Entry.Mode, s.Entry.MTime, readXAttrs(from)); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return writing(to.Name(), err)
	}
	return nil
}

// copyInto copies a whole file, by reference where the file system can, and
// checks what arrived.
func copyInto(to, from *os.File, e *Entry) error {
	if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) != nil {
		if _, err := io.Copy(to, from); err != nil {
			return writing(to.Name(), err)
		}
	}
	sum, _, err := hashReader(context.Background(), io.NewSectionReader(to, 0, 1<<62))
	if err != nil {
		return fmt.Errorf("reading back %s: %w", to.Name(), err)
	}
	if sum != e.Hash {
		return fmt.Errorf("%s is not what was sent for %s", from.Name(), e.Path)
	}
	return nil
}

// Discard takes the temporary names away and the directories made for them.
// It does nothing after Commit has begun.
func (h *Homecoming) Discard() error {
	defer h.Close()
	if h.j.State >= committing {
		return errors.New("the app's files are home already")
	}
	var first error
	note := func(err error) {
		if err != nil && first == nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTEMPTY) {
			first = err
		}
	}
	for i := range h.j.Steps {
		s := &h.j.Steps[i]
		if s.Act == actDelete || s.Act == actMode || s.Act == actInPlace || s.Act == actKept || s.Entry.Kind == Dir {
			continue
		}
		// Named anew: the journal was written before names were given.
		name := path.Join(path.Dir(rel(s.Entry.Path)), fmt.Sprintf(".hither-%s-%d", filepath.Base(filepath.Dir(h.dir)), i))
		if _, err := h.root.lstat(name); err == nil {
			note(h.root.unlink(name))
		}
	}
	for i := len(h.j.Made) - 1; i >= 0; i-- {
		note(h.root.rmdir(h.j.Made[i]))
	}
	if first == nil {
		first = os.Remove(filepath.Join(h.dir, homeFile))
		if errors.Is(first, os.ErrNotExist) {
			first = nil
		}
	}
	return first
}
