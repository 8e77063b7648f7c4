package capsule

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// mount does one step of the plan.
func (b *rooter) mount(m Mount) error {
	err := b.step(m)
	if err == nil && m.ReadOnly && (m.Kind == "bind" || m.Kind == "tmpfs") {
		err = b.attr(m.Target, unix.MOUNT_ATTR_RDONLY, unix.AT_RECURSIVE)
	}
	if err != nil {
		return fmt.Errorf("mount plan, %s at %s: %w", m.Kind, m.Target, err)
	}
	return nil
}

func (b *rooter) step(m Mount) error {
	if m.Kind == "symlink" {
		return b.symlink(string(m.Data), m.Target)
	}
	mode := m.Mode
	if mode == 0 {
		mode = 0o755
		if m.Kind == "file" {
			mode = 0o644
		}
	}
	sources, err := b.sources(m)
	defer func() {
		for _, fd := range sources {
			unix.Close(fd)
		}
	}()
	if err != nil {
		return err
	}
	kind := uint32(unix.S_IFDIR)
	switch m.Kind {
	case "dir":
	case "file":
		kind = unix.S_IFREG
	case "bind":
		if len(m.Sources) != 1 {
			return fmt.Errorf("needs one source, has %d", len(m.Sources))
		}
		var st unix.Stat_t
		if err := unix.Fstat(sources[0], &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			kind = unix.S_IFREG
		}
	case "tmpfs", "overlay":
	default:
		return fmt.Errorf("unknown kind of mount")
	}
	target, err := b.make(m.Target, kind, mode)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	switch m.Kind {
	case "bind":
		return b.bind(sources[0], m.Target)
	case "tmpfs":
		return b.tmpfs(m.Target, mode)
	case "file":
		return b.file(m, target, mode)
	case "overlay":
		return b.overlay(m, sources, target)
	}
	return nil
}

// symlink makes a symbolic link where the host has nothing.
func (b *rooter) symlink(target, p string) error {
	parent := path.Dir(p)
	up, err := b.make(parent, unix.S_IFDIR, 0o755)
	if err != nil {
		return err
	}
	unix.Close(up)
	if !b.ours(parent) {
		if err := b.explode(parent, nil); err != nil {
			return err
		}
	}
	if up, err = b.open(parent); err != nil {
		return err
	}
	defer unix.Close(up)
	if err := unix.Symlinkat(target, up, path.Base(p)); err != nil && err != unix.EEXIST {
		return fmt.Errorf("making the link %s in the capsule: %w", p, err)
	}
	return nil
}

// sources opens a mount's host paths. Names with colons or commas are safe:
// the kernel gets descriptors.
func (b *rooter) sources(m Mount) ([]int, error) {
	var fds []int
	all := m.Sources
	if m.Kind == "overlay" && m.Upper != "" {
		all = append(append([]string{}, all...), m.Upper, m.Work)
	}
	for _, src := range all {
		fd, err := b.hostOpen(src)
		if err != nil {
			return fds, fmt.Errorf("opening %s: %w", src, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// hostOpen opens a path of the host.
func (b *rooter) hostOpen(p string) (int, error) {
	p = path.Clean(p)
	if p == stage || strings.HasPrefix(p, stage+"/") {
		return unix.Openat(b.hostTmp, "."+strings.TrimPrefix(p, stage), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	return unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
}

// overlay merges folders. Without userxattr, which asks nothing of the host's
// files, an unprivileged overlay cannot rename folders.
func (b *rooter) overlay(m Mount, sources []int, target int) error {
	if len(m.Sources) == 0 {
		return errors.New("needs a source")
	}
	var lower []string
	for _, fd := range sources[:len(m.Sources)] {
		lower = append(lower, fdPath(fd))
	}
	options := "userxattr,lowerdir=" + strings.Join(lower, ":")
	var flags uintptr = unix.MS_NOSUID | unix.MS_NODEV
	if m.Upper != "" {
		options += ",upperdir=" + fdPath(sources[len(m.Sources)]) + ",workdir=" + fdPath(sources[len(m.Sources)+1])
	} else {
		flags |= unix.MS_RDONLY
		if len(lower) == 1 { // overlayfs wants two without an upper one
			return b.bind(sources[0], m.Target)
		}
	}
	return unix.Mount("hither", fdPath(target), "overlay", flags, options)
}

// file puts a file with given content at a path. Where the path is the host's,
// the file is made in the root's tmpfs, bound there and its name removed.
func (b *rooter) file(m Mount, target int, mode uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return err
	}
	if b.own[st.Dev] {
		return os.WriteFile(fdPath(target), m.Data, fs.FileMode(mode))
	}
	const name = ".hither-file"
	tmp := fdPath(b.root) + "/" + name
	if err := os.WriteFile(tmp, m.Data, fs.FileMode(mode)); err != nil {
		return err
	}
	defer unix.Unlinkat(b.root, name, 0) //nolint:errcheck // the skeleton is ours
	if err := os.Chmod(tmp, fs.FileMode(mode)); err != nil {
		return err
	}
	return unix.Mount(tmp, fdPath(target), "", unix.MS_BIND, "")
}
