package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// folder is a directory below which names are looked up without ever leaving
// it and without following a symbolic link, neither in the middle of a name
// nor at its end. Names are relative and clean; "" is the folder itself.
// Everything that another host or an app may have had its hands on (a layer, a
// received tree) is touched through a folder only.
type folder struct {
	fd   int
	name string // for messages
}

// openFolder opens the directory at a path of this host. The path itself may
// pass symbolic links; /proc/PID/root/... is fine.
func openFolder(path string) (*folder, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening directory %s: %w", path, err)
	}
	return &folder{fd: fd, name: path}, nil
}

// Close lets go of the directory.
func (d *folder) Close() error { return unix.Close(d.fd) }

// within is how names below a folder are resolved.
const within = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

func openat2(fd int, rel string, flags int, mode uint32, resolve uint64) (int, error) {
	if rel == "" {
		rel = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(mode)
	}
	for {
		got, err := unix.Openat2(fd, rel, &how)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue // EAGAIN: a rename raced with the lookup
		}
		return got, err
	}
}

// open opens rel. It never blocks on a FIFO and never follows a link.
func (d *folder) open(rel string, flags int, mode uint32) (*os.File, error) {
	fd, err := openat2(d.fd, rel, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, mode, within)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(d.name, rel), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(d.name, rel)), nil
}

// openRegular opens rel for reading and insists that it is a regular file. A
// file of ours that we may not read is opened all the same: its mode is
// widened for the moment of opening.
func (d *folder) openRegular(rel string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := d.open(rel, unix.O_RDONLY, 0)
	if errors.Is(err, unix.EACCES) {
		f, err = d.openWidened(rel, err)
	}
	if err != nil {
		return nil, st, err
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, st, fmt.Errorf("looking at %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, st, fmt.Errorf("%s is not a regular file", f.Name())
	}
	return f, st, nil
}

func (d *folder) openWidened(rel string, denied error) (*os.File, error) {
	p, err := openat2(d.fd, rel, unix.O_PATH|unix.O_NOFOLLOW, 0, within)
	if err != nil {
		return nil, denied
	}
	defer unix.Close(p)
	var st unix.Stat_t
	if unix.Fstat(p, &st) != nil || int(st.Uid) != os.Geteuid() || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o400 != 0 {
		return nil, denied
	}
	self := fmt.Sprintf("/proc/self/fd/%d", p)
	if unix.Chmod(self, st.Mode&0o7777|0o400) != nil {
		return nil, denied
	}
	defer unix.Chmod(self, st.Mode&0o7777)
	return d.open(rel, unix.O_RDONLY, 0)
}

// dirOf opens the directory that rel lies in and gives rel's last name.
func (d *folder) dirOf(rel string) (fd int, base string, err error) {
	dir, base := filepath.Split(rel)
	fd, err = openat2(d.fd, strings.TrimSuffix(dir, "/"), unix.O_PATH|unix.O_DIRECTORY, 0, within)
	if err != nil {
		return -1, "", &os.PathError{Op: "open", Path: filepath.Join(d.name, dir), Err: err}
	}
	return fd, base, nil
}

// in runs do with the directory of rel and its last name.
func (d *folder) in(op, rel string, do func(fd int, base string) error) error {
	fd, base, err := d.dirOf(rel)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := do(fd, base); err != nil {
		return &os.PathError{Op: op, Path: filepath.Join(d.name, rel), Err: err}
	}
	return nil
}

func (d *folder) lstat(rel string) (st unix.Stat_t, err error) {
	if rel == "" {
		return st, unix.Fstat(d.fd, &st)
	}
	err = d.in("stat", rel, func(fd int, base string) error {
		return unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}

func (d *folder) readlink(rel string) (target string, err error) {
	buf := make([]byte, 4096)
	err = d.in("readlink", rel, func(fd int, base string) error {
		n, err := unix.Readlinkat(fd, base, buf)
		target = string(buf[:max(n, 0)])
		return err
	})
	return target, err
}

func (d *folder) symlink(target, rel string) error {
	return d.in("symlink", rel, func(fd int, base string) error { return unix.Symlinkat(target, fd, base) })
}

func (d *folder) mkfifo(rel string, mode uint32) error {
	return d.in("mkfifo", rel, func(fd int, base string) error {
		if err := unix.Mkfifoat(fd, base, mode); err != nil {
			return err
		}
		return unix.Fchmodat(fd, base, mode, 0)
	})
}

func (d *folder) mkdir(rel string, mode uint32) error {
	return d.in("mkdir", rel, func(fd int, base string) error { return unix.Mkdirat(fd, base, mode) })
}

func (d *folder) unlink(rel string) error {
	return d.in("unlink", rel, func(fd int, base string) error { return unix.Unlinkat(fd, base, 0) })
}

func (d *folder) rmdir(rel string) error {
	return d.in("rmdir", rel, func(fd int, base string) error { return unix.Unlinkat(fd, base, unix.AT_REMOVEDIR) })
}

func (d *folder) link(old, rel string) error {
	ofd, obase, err := d.dirOf(old)
	if err != nil {
		return err
	}
	defer unix.Close(ofd)
	return d.in("link", rel, func(fd int, base string) error { return unix.Linkat(ofd, obase, fd, base, 0) })
}

// rename moves old to rel; flags are those of renameat2.
func (d *folder) rename(old, rel string, flags uint) error {
	ofd, obase, err := d.dirOf(old)
	if err != nil {
		return err
	}
	defer unix.Close(ofd)
	return d.in("rename", rel, func(fd int, base string) error { return unix.Renameat2(ofd, obase, fd, base, flags) })
}

// chmod sets the mode of a directory or regular file. fchmodat cannot refuse
// links, so it goes through a descriptor that did.
func (d *folder) chmod(rel string, mode uint32) error {
	p, err := openat2(d.fd, rel, unix.O_PATH|unix.O_NOFOLLOW, 0, within)
	if err != nil {
		return &os.PathError{Op: "chmod", Path: filepath.Join(d.name, rel), Err: err}
	}
	defer unix.Close(p)
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", p), mode)
}

func (d *folder) setMTime(rel string, ns int64) error {
	if rel == "" {
		return nil
	}
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(ns)}
	return d.in("utimes", rel, func(fd int, base string) error {
		return unix.UtimesNanoAt(fd, base, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (d *folder) sync(rel string) error {
	f, err := d.open(rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// makeAll makes the directory rel and all above it. A directory of ours that
// we may not write in is opened for us; the caller sets modes when it is done.
func (d *folder) makeAll(rel string) error {
	if rel == "" || rel == "." {
		return nil
	}
	at := ""
	for _, name := range strings.Split(rel, "/") {
		up := at
		at = filepath.Join(at, name)
		st, err := d.lstat(at)
		if err == nil {
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				return fmt.Errorf("making directory %s: something else is there", filepath.Join(d.name, at))
			}
			if st.Mode&0o700 != 0o700 && int(st.Uid) == os.Geteuid() {
				if err := d.chmod(at, st.Mode&0o7777|0o700); err != nil {
					return err
				}
			}
			continue
		}
		if !errors.Is(err, unix.ENOENT) {
			return err
		}
		if err := d.mkdir(at, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			if up != "" && errors.Is(err, unix.EACCES) {
				return fmt.Errorf("making directory %s: %w", filepath.Join(d.name, at), err)
			}
			return err
		}
	}
	return nil
}

// removeAll removes rel and all below it, without following links.
func (d *folder) removeAll(rel string) error {
	st, err := d.lstat(rel)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return d.unlink(rel)
	}
	if st.Mode&0o700 != 0o700 {
		d.chmod(rel, 0o700)
	}
	names, err := d.names(rel)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := d.removeAll(filepath.Join(rel, n)); err != nil {
			return err
		}
	}
	if rel == "" {
		return nil
	}
	return d.rmdir(rel)
}

// names lists the directory rel, sorted.
func (d *folder) names(rel string) ([]string, error) {
	f, err := d.open(rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("reading directory %s: %w", f.Name(), err)
	}
	sortStrings(list)
	return list, nil
}

// walk calls do for everything below rel, parents first, in order of names.
// Mounts below are not entered. do's answer false keeps walk out of a
// directory.
func (d *folder) walk(rel string, do func(rel string, st unix.Stat_t) (bool, error)) error {
	var top unix.Stat_t
	top, err := d.lstat(rel)
	if err != nil {
		return err
	}
	return d.walkDev(rel, top.Dev, 0, do)
}

func (d *folder) walkDev(rel string, dev uint64, depth int, do func(string, unix.Stat_t) (bool, error)) error {
	if depth > maxDepth {
		return fmt.Errorf("%s is nested deeper than %d directories", filepath.Join(d.name, rel), maxDepth)
	}
	names, err := d.names(rel)
	if errors.Is(err, unix.EACCES) {
		// A directory of ours that we may not read: widened while we do.
		if st, serr := d.lstat(rel); serr == nil && int(st.Uid) == os.Geteuid() {
			if d.chmod(rel, st.Mode&0o7777|0o700) == nil {
				defer d.chmod(rel, st.Mode&0o7777)
				names, err = d.names(rel)
			}
		}
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		at := filepath.Join(rel, n)
		st, err := d.lstat(at)
		if errors.Is(err, unix.ENOENT) {
			continue // gone since it was listed
		}
		if err != nil {
			return err
		}
		if st.Dev != dev {
			continue
		}
		down, err := do(at, st)
		if err != nil {
			return err
		}
		if down && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := d.walkDev(at, dev, depth+1, do); err != nil {
				return err
			}
		}
	}
	return nil
}
