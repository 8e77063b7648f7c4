package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// put moves a received file to its place. What lies there already keeps its
// inode, because a mount may show it.
func (in *Incoming) put(e *Entry, temp string) error {
	at := in.where[e.Path]
	if err := in.dir.makeAll(path.Dir(at)); err != nil {
		return err
	}
	st, err := in.dir.lstat(at)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG:
		if err := in.overwrite(at, temp, e); err != nil {
			return err
		}
	case err == nil:
		if err := in.dir.removeAll(at); err != nil {
			return err
		}
		fallthrough
	default:
		if err := in.dir.rename(temp, at, 0); err != nil {
			return err
		}
	}
	in.forget(at)
	in.held[at] = e.Hash
	if _, ok := in.byHash[e.Hash]; !ok {
		in.byHash[e.Hash] = at
	}
	return nil
}

func (in *Incoming) overwrite(at, temp string, e *Entry) error {
	from, _, err := in.dir.openRegular(temp)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := in.dir.chmod(at, 0o600); err != nil {
		return err
	}
	to, err := in.dir.open(at, unix.O_WRONLY|unix.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return writing(to.Name(), err)
	}
	if err := dress(to, e.Mode, e.MTime, readXAttrs(from)); err != nil {
		return err
	}
	return in.dir.unlink(temp)
}

// forget drops what is known of the content at a place in the layer.
func (in *Incoming) forget(at string) {
	h, ok := in.held[at]
	if !ok {
		return
	}
	delete(in.held, at)
	if in.byHash[h] != at {
		return
	}
	delete(in.byHash, h)
	for other, oh := range in.held {
		if oh == h {
			in.byHash[h] = other
			return
		}
	}
}

// drop removes what is needed no more.
func (in *Incoming) drop(p string) error {
	at, ok := in.where[p]
	delete(in.all, p)
	delete(in.where, p)
	if !ok {
		return nil
	}
	in.forget(at)
	return in.dir.removeAll(at)
}

// settle puts an entry in place that did not come by the stream.
func (in *Incoming) settle(ctx context.Context, e *Entry) error {
	at := in.where[e.Path]
	if at == "" {
		return nil
	}
	st, err := in.dir.lstat(at)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	switch e.Kind {
	case Dir:
		if err == nil && kind != unix.S_IFDIR {
			if err := in.dir.removeAll(at); err != nil {
				return err
			}
		}
		return in.dir.makeAll(at)
	case Symlink, FIFO:
		if err == nil {
			if err := in.dir.removeAll(at); err != nil {
				return err
			}
		}
		if err := in.dir.makeAll(path.Dir(at)); err != nil {
			return err
		}
		if e.Kind == Symlink {
			return in.dir.symlink(e.Target, at)
		}
		return in.dir.mkfifo(at, e.Mode&0o777)
	}
	if in.held[at] == e.Hash { // came by the stream, or only its mode or time moved
		if err := in.dir.chmod(at, e.Mode&0o1777); err != nil {
			return err
		}
		return in.dir.setMTime(at, e.MTime)
	}
	var from *os.File
	if name, ok := in.local[e.Path]; ok {
		from, err = os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	} else if other, ok := in.byHash[e.Hash]; ok {
		from, _, err = in.dir.openRegular(other)
	} else {
		return fmt.Errorf("%s changed while it was sent; try again", e.Path)
	}
	if err != nil {
		return err
	}
	defer from.Close()
	temp := path.Join(tempDir, "copy")
	if err := in.copy(ctx, from, temp, e); err != nil {
		return err
	}
	return in.put(e, temp)
}

// copy makes the new file temp with e's content out of a local one, and
// checks what came out.
func (in *Incoming) copy(ctx context.Context, from *os.File, temp string, e *Entry) error {
	in.dir.unlink(temp)
	to, err := in.dir.open(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return writing(temp, err)
	}
	defer to.Close()
	if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) != nil {
		if _, err := io.Copy(to, from); err != nil {
			in.dir.unlink(temp)
			return writing(to.Name(), err)
		}
	}
	if sum, _, err := hashReader(ctx, io.NewSectionReader(to, 0, 1<<62)); err != nil || sum != e.Hash {
		in.dir.unlink(temp)
		if err == nil {
			err = fmt.Errorf("%s changed while it was copied; try again", from.Name())
		}
		return err
	}
	return dress(to, e.Mode, e.MTime, nil)
}

// modes sets the modes of carried directories, children first.
func (in *Incoming) modes() error {
	var dirs []string
	for p, e := range in.all {
		if e.Kind == Dir && in.where[p] != "" {
			dirs = append(dirs, p)
		}
	}
	sortStrings(dirs)
	for i := len(dirs) - 1; i >= 0; i-- {
		e := in.all[dirs[i]]
		if err := in.dir.chmod(in.where[e.Path], e.Mode&0o1777); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("taking the app's files: %w", err)
		}
	}
	return nil
}
