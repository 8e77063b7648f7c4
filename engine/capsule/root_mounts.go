package capsule

import (
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// adopt notes that the tmpfs at a path is skeleton: to be read-only in the end.
func (b *rooter) adopt(p string) error {
	fd, err := b.open(p)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return fmt.Errorf("looking at %s: %w", p, err)
	}
	b.own[st.Dev] = true
	b.skeleton = append(b.skeleton, fd)
	return nil
}

// ours reports whether a path lies in the skeleton.
func (b *rooter) ours(p string) bool {
	fd, err := b.open(p)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && b.own[st.Dev]
}

// explode turns a folder into skeleton: a tmpfs takes its place and what was in
// it is bound there entry by entry, but for what skip names.
func (b *rooter) explode(p string, skip func(dir int, e fs.DirEntry) bool) error {
	old, err := b.open(p)
	if err != nil {
		return err
	}
	defer unix.Close(old)
	var st unix.Stat_t
	if err := unix.Fstat(old, &st); err != nil {
		return fmt.Errorf("looking at %s: %w", p, err)
	}
	if err := b.tmpfs(p, st.Mode&0o7777); err != nil {
		return err
	}
	fresh, err := b.open(p)
	if err != nil {
		return err
	}
	defer unix.Close(fresh)
	if err := b.adopt(p); err != nil {
		return err
	}
	return b.populate(old, fresh, func(e fs.DirEntry) bool { return skip != nil && skip(old, e) })
}

// populate binds the entries of one folder into another, which is skeleton.
// A folder that this user may not list stays empty.
func (b *rooter) populate(from, to int, skip func(fs.DirEntry) bool) error {
	fd, err := unix.Openat(from, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.EACCES || err == unix.EPERM {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing %s: %w", fdName(from), err)
	}
	dir := os.NewFile(uintptr(fd), "folder")
	entries, err := dir.ReadDir(-1)
	dir.Close()
	if err != nil {
		return fmt.Errorf("listing %s: %w", fdName(from), err)
	}
	for _, e := range entries {
		if skip(e) {
			continue
		}
		if err := b.entry(from, to, e); err != nil {
			return fmt.Errorf("placing %s/%s in the capsule: %w", fdName(from), e.Name(), err)
		}
	}
	return nil
}

// entry places one entry of a folder: links are copied, all else is bound. What
// has vanished meanwhile or may not be looked at is left out.
func (b *rooter) entry(from, to int, e fs.DirEntry) error {
	name := e.Name()
	if e.Type() == fs.ModeSymlink {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(from, name, buf)
		if err != nil {
			return leaveOut(err)
		}
		return unix.Symlinkat(string(buf[:n]), to, name)
	}
	var err error
	flag := 0
	if e.IsDir() {
		flag = unix.AT_REMOVEDIR
		err = unix.Mkdirat(to, name, 0o755)
	} else {
		err = unix.Mknodat(to, name, unix.S_IFREG|0o644, 0)
	}
	if err != nil {
		return err
	}
	err = unix.Mount(fdPath(from)+"/"+name, fdPath(to)+"/"+name, "", unix.MS_BIND|unix.MS_REC, "")
	if err != nil {
		unix.Unlinkat(to, name, flag) //nolint:errcheck // the skeleton is ours
		return leaveOut(err)
	}
	return nil
}

func leaveOut(err error) error {
	switch err {
	case unix.ENOENT, unix.EACCES, unix.EPERM, unix.EINVAL, unix.ENODEV, unix.ENOTCONN, unix.ESTALE, unix.EIO:
		return nil
	}
	return err
}

// fdName is what a descriptor was opened as, for messages.
func fdName(fd int) string {
	name, err := os.Readlink(fdPath(fd))
	if err != nil {
		return "a folder"
	}
	return path.Clean(name)
}

// tmpfs mounts an empty folder at a path that exists.
func (b *rooter) tmpfs(p string, mode uint32) error {
	if err := b.fresh(p, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=%04o", mode)); err != nil {
		return err
	}
	fd, err := b.open(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("looking at %s: %w", p, err)
	}
	b.own[st.Dev] = true
	return nil
}

// fresh mounts a new file system at a path that exists.
func (b *rooter) fresh(p, kind string, flags uintptr, options string) error {
	fd, err := b.open(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Mount("hither", fdPath(fd), kind, flags, options); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", kind, p, err)
	}
	return nil
}

// bind binds what src names, with all mounts below it, at a path that exists.
func (b *rooter) bind(src int, p string) error {
	fd, err := b.open(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Mount(fdPath(src), fdPath(fd), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s at %s: %w", fdName(src), p, err)
	}
	return nil
}

// attr sets mount attributes; unlike a remount it leaves the others as they are,
// some of which are locked.
func (b *rooter) attr(p string, set uint64, flags uint) error {
	fd, err := b.open(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := setAttr(fd, set, flags); err != nil {
		return fmt.Errorf("setting attributes of the mount at %s: %w", p, err)
	}
	return nil
}

func setAttr(fd int, set uint64, flags uint) error {
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: set})
}

// seal ends the building. Everything becomes nosuid: the app can gain nothing by
// set-uid files, and files with capabilities (ping) would otherwise not start
// at all, because the app's bounding set is empty.
func (b *rooter) seal() error {
	if err := b.attr("/", unix.MOUNT_ATTR_NOSUID, unix.AT_RECURSIVE); err != nil {
		return err
	}
	for _, fd := range b.skeleton {
		if err := setAttr(fd, unix.MOUNT_ATTR_RDONLY, 0); err != nil {
			return fmt.Errorf("making %s read-only: %w", fdName(fd), err)
		}
		unix.Close(fd)
	}
	return nil
}
