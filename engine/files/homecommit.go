package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Commit gives every file its name. It may be run again after it was killed
// or failed; what is done stays done.
func (h *Homecoming) Commit(ctx context.Context) ([]Outcome, error) {
	switch {
	case len(h.j.Steps) == 0 || h.j.State == settledAll:
		h.j.State = settledAll
		return h.Outcomes(), nil
	case h.j.State == staging:
		return nil, errors.New("bringing files home: they were not staged")
	case h.j.State == staged:
		h.j.State = committing
		if err := h.save(true); err != nil {
			h.j.State = staged
			return nil, err
		}
	}
	var first error
	for i := range h.j.Steps {
		s := &h.j.Steps[i]
		if s.Done || s.Act == actKept {
			continue
		}
		h.about()
		if err := h.finish(ctx, s); err != nil {
			if first == nil {
				first = fmt.Errorf("bringing %s home: %w", s.Entry.Path, err)
			}
			continue
		}
		s.Done = true
	}
	if first == nil {
		h.about()
		h.j.State = settledAll
		first = h.save(false)
	}
	return h.Outcomes(), first
}

// Finish puts on disk what Commit did and clears the layer, which then holds
// only what could not be placed, and carried files of the system.
func (h *Homecoming) Finish() error {
	defer h.Close()
	if h.j.State != settledAll {
		return errors.New("bringing files home: they were not committed")
	}
	dirs := map[string]bool{}
	for i := range h.j.Steps {
		dirs[path.Dir(rel(h.j.Steps[i].Entry.Path))] = true
	}
	for d := range dirs {
		if d == "." {
			d = ""
		}
		err := h.root.sync(d)
		for _, fine := range []error{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP, unix.EINVAL} {
			if errors.Is(err, fine) { // not a directory that we wrote in
				err = nil
			}
		}
		if err != nil {
			return fmt.Errorf("putting files on disk: %w", err)
		}
	}
	return h.clean()
}

// clean removes from the layer what has gone home.
func (h *Homecoming) clean() error {
	layer, err := openFolder(h.dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer layer.Close()
	kept := map[string]bool{}
	for i := range h.j.Steps {
		if s := &h.j.Steps[i]; s.Act == actKept {
			for p := s.Entry.Path; p != "/"; p = path.Dir(p) {
				kept[p] = true
			}
		}
	}
	var gone []string
	err = layer.walk(docsDir, func(r string, st unix.Stat_t) (bool, error) {
		if kept[r[len(docsDir):]] {
			return true, nil
		}
		gone = append(gone, r)
		return false, nil
	})
	for _, r := range gone {
		h.about()
		if err == nil {
			err = layer.removeAll(r)
		}
	}
	if err == nil {
		if err = os.Remove(filepath.Join(h.dir, homeFile)); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("clearing the layer %s: %w", h.dir, err)
	}
	return nil
}

// finish does one step for good.
func (h *Homecoming) finish(ctx context.Context, s *step) error {
	final, temp := rel(s.Entry.Path), rel(s.Temp)
	switch s.Act {
	case actMode:
		s.Final = s.Entry.Path
		if err := h.root.chmod(final, s.Entry.Mode); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	case actDelete:
		return h.remove(ctx, s)
	case actInPlace:
		return h.inPlace(ctx, s)
	case actCreate:
		done, err := h.name(s, final, temp)
		if err != nil || done {
			return err
		}
		s.Act, s.Why = actBeside, "there is another one of that name at home by now"
	case actReplace:
		done, err := h.replace(ctx, s, final, temp)
		if err != nil || done {
			return err
		}
		s.Act, s.Why = actBeside, "it changed at home, too"
	}
	for n := 1; ; n++ {
		at := rel(h.besideName(s.Entry.Path, n))
		done, err := h.name(s, at, temp)
		if err != nil || done {
			return err
		}
		if n > 1000 {
			return fmt.Errorf("no free name beside %s", s.Entry.Path)
		}
	}
}

// name gives the temporary file a name that is free; false if it is not.
func (h *Homecoming) name(s *step, at, temp string) (bool, error) {
	if st, err := h.root.lstat(at); err == nil && st.Ino == s.Ino {
		s.Final = "/" + at
		return true, nil // before we were killed
	}
	err := h.root.rename(temp, at, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system without
		if _, lerr := h.root.lstat(at); lerr == nil {
			return false, nil
		}
		err = h.root.rename(temp, at, 0)
	}
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if h.again && errors.Is(err, unix.ENOENT) {
		err = nil // named before we were killed, and moved on by somebody since
	}
	if err == nil {
		s.Final = "/" + at
	}
	return err == nil, err
}

// unmoved says whether two looks at a file saw the same; a renaming moves
// ctime, so it does not count.
func unmoved(a, b identity) bool {
	a.CTime, b.CTime = 0, 0
	return a == b
}

// replace puts ours in the place of the origin's, which must be what we took
// along; false if it is not. The two change names, so that the origin's can
// be looked at once nobody can open it by its name any more.
func (h *Homecoming) replace(ctx context.Context, s *step, final, temp string) (bool, error) {
	st, err := h.root.lstat(final)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if st.Ino != s.Ino { // not yet
		if identityOf(&st) != s.Seen && !h.isBase(ctx, s, final) {
			return false, nil
		}
		s.Seen = identityOf(&st)
		err := h.root.rename(temp, final, unix.RENAME_EXCHANGE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system without
			s.Final = s.Entry.Path
			return true, h.root.rename(temp, final, 0)
		}
		if err != nil {
			return false, err
		}
	}
	h.about()
	old, err := h.root.lstat(temp)
	if errors.Is(err, unix.ENOENT) {
		s.Final = s.Entry.Path
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if !unmoved(identityOf(&old), s.Seen) && !h.isBase(ctx, s, temp) {
		// Written to between our look and the exchange: it gets its name back.
		return false, h.root.rename(temp, final, unix.RENAME_EXCHANGE)
	}
	s.Final = s.Entry.Path
	return true, h.root.unlink(temp)
}

// isBase says whether a file of the origin has the content we took along.
func (h *Homecoming) isBase(ctx context.Context, s *step, name string) bool {
	if s.Entry.Kind != Regular {
		return false
	}
	f, _, err := h.root.openRegular(name)
	if err != nil {
		return false
	}
	defer f.Close()
	sum, _, err := hashReader(ctx, f)
	return err == nil && sum == s.Base
}

func (h *Homecoming) remove(ctx context.Context, s *step) error {
	at := rel(s.Entry.Path)
	st, err := h.root.lstat(at)
	if errors.Is(err, unix.ENOENT) {
		s.Final = s.Entry.Path
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err = h.root.rmdir(at); err == nil {
			s.Final = s.Entry.Path
		}
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			return nil
		}
		return err
	}
	if identityOf(&st) != s.Seen && !h.isBase(ctx, s, at) {
		return nil // it changed since: the origin's stays
	}
	s.Final = s.Entry.Path
	return h.root.unlink(at)
}

// inPlace writes over a file in a directory where no other can be made. The
// layer keeps ours until it is done, and the journal knows of it.
func (h *Homecoming) inPlace(ctx context.Context, s *step) error {
	at := rel(s.Entry.Path)
	begun := s.Ino != 0 // in an earlier run: what is there now may be half of ours
	if !begun {
		st, err := h.root.lstat(at)
		if err != nil || identityOf(&st) != s.Seen && !h.isBase(ctx, s, at) {
			s.Act, s.Why = actKept, "it changed at home, too, and nothing can be put beside it"
			return nil
		}
		s.Ino = st.Ino
		if err := h.save(true); err != nil {
			return err
		}
	}
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
	to, err := h.root.open(at, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	h.about()
	if err := to.Truncate(0); err != nil {
		return writing(to.Name(), err)
	}
	h.about()
	if err := copyInto(to, from, &s.Entry); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return writing(to.Name(), err)
	}
	s.Final = s.Entry.Path
	return nil
}
