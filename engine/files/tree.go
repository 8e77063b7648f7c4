package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Tree is what a tree looked like when it was sent: what a later SendTree
// need not send again.
type Tree map[string]treeMark

type treeMark struct {
	id    identity
	mode  uint32
	nlink uint64
	fresh bool
}

// TreeOptions adjust SendTree.
type TreeOptions struct {
	// Since is the Tree of an earlier SendTree of the same directory to the
	// same destination; only what has changed since is sent.
	Since Tree
	// Always names files (relative) that are sent whatever their times say:
	// those the app may write through a shared mapping, which in a tmpfs
	// leaves no trace.
	Always func(rel string) bool
	// Note is told of content bytes as they go.
	Note func(bytes int64)
}

// Stats is what a transfer did.
type Stats struct {
	Files   int      // regular files whose content went
	Bytes   int64    // bytes on the wire
	Content int64    // bytes of content
	Skipped []string // what has no content to carry: sockets, devices
}

// SendTree sends everything below the directory dir: files without their
// holes, directories, symbolic links, FIFOs, hard links among them, modes,
// times, user.* attributes. Sockets and mounts below are left out. The tree
// should be at rest; if it is not, a later SendTree with Since mends it.
func SendTree(ctx context.Context, w io.Writer, dir string, opt TreeOptions) (Tree, Stats, error) {
	var stats Stats
	d, err := openFolder(dir)
	if err != nil {
		return nil, stats, fmt.Errorf("sending a tree: %w", err)
	}
	defer d.Close()
	s, err := newSender(w, opt.Note)
	if err != nil {
		return nil, stats, fmt.Errorf("sending a tree: %w", err)
	}
	now := Tree{}
	inodes := map[uint64]string{} // of files with several names: the first one sent in this stream
	err = d.walk("", func(rel string, st unix.Stat_t) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		mark := treeMark{id: identityOf(&st), mode: st.Mode, nlink: uint64(st.Nlink), fresh: opt.Always != nil && opt.Always(rel)}
		regular := st.Mode&unix.S_IFMT == unix.S_IFREG
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR // goes each time: what is made in it at the other side moves its time
		if old, ok := opt.Since[rel]; ok && old == mark && !mark.fresh && !isDir {
			now[rel] = mark
			return true, nil
		}
		it := &item{Index: uint32(s.items), Path: rel, Mode: st.Mode & 0o1777, MTime: st.Mtim.Nano()}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			it.Kind = Regular
		case unix.S_IFDIR:
			it.Kind = Dir
		case unix.S_IFIFO:
			it.Kind = FIFO
		case unix.S_IFLNK:
			it.Kind, it.Mode = Symlink, 0
			if it.Target, err = d.readlink(rel); err != nil {
				return false, err
			}
		default:
			stats.Skipped = append(stats.Skipped, rel)
			return false, nil
		}
		now[rel] = mark
		if regular && st.Nlink > 1 {
			if first, ok := inodes[st.Ino]; ok {
				it.Link = first
				return false, s.item(it)
			}
			inodes[st.Ino] = rel
		}
		if !regular {
			return true, s.item(it)
		}
		f, fst, err := d.openRegular(rel)
		if errors.Is(err, unix.ENOENT) {
			delete(now, rel)
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer f.Close()
		mark.id = identityOf(&fst) // opening may have had to change the mode
		now[rel] = mark
		it.Size, it.XAttrs = fst.Size, readXAttrs(f)
		if err := s.item(it); err != nil {
			return false, err
		}
		_, n, err := s.content(f, fst.Size)
		stats.Files++
		stats.Content += n
		return false, err
	})
	if err != nil {
		return nil, stats, fmt.Errorf("sending the tree %s: %w", dir, err)
	}
	var gone []string
	for rel := range opt.Since {
		if _, ok := now[rel]; !ok {
			gone = append(gone, rel)
		}
	}
	sortStrings(gone)
	for _, rel := range gone {
		if err := s.item(&item{Index: uint32(s.items), Path: rel, Gone: true}); err != nil {
			return nil, stats, err
		}
	}
	err = s.stop()
	stats.Bytes = s.bytes
	return now, stats, err
}

// ReceiveTree makes what SendTree sent below the directory dir, which exists.
// maxBytes bounds the content, unless it is 0. What is there already by the same name is
// replaced. After an error the tree is incomplete, but every file in it is
// whole; the caller drops it.
func ReceiveTree(ctx context.Context, r io.Reader, dir string, maxBytes int64, note func(int64)) (Stats, error) {
	var stats Stats
	fail := func(err error) (Stats, error) {
		return stats, fmt.Errorf("receiving the tree %s: %w", dir, err)
	}
	d, err := openFolder(dir)
	if err != nil {
		return fail(err)
	}
	defer d.Close()
	s, err := newReceiver(r, note)
	if err != nil {
		return fail(err)
	}
	if maxBytes == 0 {
		maxBytes = 1 << 62
	}
	var dirs []*item
	for {
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		it, err := s.next()
		if err != nil {
			return fail(err)
		}
		if it == nil {
			break
		}
		if err := checkRel(it.Path); err != nil {
			return fail(damaged("%v", err))
		}
		if it.Kind == Dir && !it.Gone {
			dirs = append(dirs, it)
		}
		if err := receiveItem(d, s, it, maxBytes-stats.Content, &stats); err != nil {
			return fail(err)
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- { // children first: their making changes the times of parents
		it := dirs[i]
		if err := d.chmod(it.Path, it.Mode); err != nil && !errors.Is(err, unix.ENOENT) {
			return fail(err)
		}
		if err := d.setMTime(it.Path, it.MTime); err != nil && !errors.Is(err, unix.ENOENT) {
			return fail(err)
		}
	}
	return stats, nil
}

func receiveItem(d *folder, s *receiver, it *item, left int64, stats *Stats) error {
	if it.Gone {
		return d.removeAll(it.Path)
	}
	if up := strings.TrimSuffix(it.Path, path.Base(it.Path)); up != "" {
		if err := d.makeAll(strings.TrimSuffix(up, "/")); err != nil {
			return err
		}
	}
	switch it.Kind {
	case Dir:
		if st, err := d.lstat(it.Path); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if err := d.unlink(it.Path); err != nil {
				return err
			}
		}
		return d.makeAll(it.Path)
	case Symlink, FIFO:
		if err := d.removeAll(it.Path); err != nil {
			return err
		}
		if it.Kind == FIFO {
			if err := d.mkfifo(it.Path, it.Mode); err != nil {
				return err
			}
		} else {
			if it.Target == "" {
				return damaged("%q links to nothing", it.Path)
			}
			if err := d.symlink(it.Target, it.Path); err != nil {
				return err
			}
		}
		return d.setMTime(it.Path, it.MTime)
	}
	if it.Link != "" {
		if err := checkRel(it.Link); err != nil {
			return damaged("%v", err)
		}
		if err := d.removeAll(it.Path); err != nil {
			return err
		}
		return d.link(it.Link, it.Path)
	}
	if it.Size > left {
		return fmt.Errorf("%s: %d bytes are more than may be taken", it.Path, it.Size)
	}
	temp := path.Join(path.Dir(it.Path), fmt.Sprintf(".hither-%d", it.Index))
	_, n, err := receiveFile(d, s, it, temp)
	if err != nil {
		return err
	}
	stats.Files++
	stats.Content += n
	if st, err := d.lstat(it.Path); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := d.removeAll(it.Path); err != nil {
			return err
		}
	}
	return d.rename(temp, it.Path, 0)
}

// receiveFile reads the content of it into the new file temp below d, and
// gives it its mode, time and attributes. After an error temp is gone.
func receiveFile(d *folder, s *receiver, it *item, temp string) (sum Hash, n int64, err error) {
	d.unlink(temp) // of a run that was killed
	f, err := d.open(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return sum, 0, writing(temp, err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = writing(f.Name(), cerr)
		}
		if err != nil {
			d.unlink(temp)
		}
	}()
	if sum, n, err = s.content(f, it.Size); err != nil {
		return sum, n, err
	}
	return sum, n, dress(f, it.Mode, it.MTime, it.XAttrs)
}

// dress gives a file its attributes, mode and time. Attributes that a file
// system does not take are left off.
func dress(f *os.File, mode uint32, mtime int64, xattrs map[string][]byte) error {
	for name, v := range xattrs {
		if strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") {
			unix.Fsetxattr(int(f.Fd()), name, v, 0)
		}
	}
	if err := unix.Fchmod(int(f.Fd()), mode&0o1777); err != nil {
		return fmt.Errorf("setting the mode of %s: %w", f.Name(), err)
	}
	tv := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), tv, 0); err != nil {
		return fmt.Errorf("setting the time of %s: %w", f.Name(), err)
	}
	return nil
}

const maxXAttrs = 64 << 10 // bytes of all of a file's

// readXAttrs gives the user.* attributes of a file, as far as they are small.
func readXAttrs(f *os.File) map[string][]byte {
	n, err := unix.Flistxattr(int(f.Fd()), nil)
	if err != nil || n == 0 {
		return nil
	}
	buf := make([]byte, maxXAttrs)
	if n, err = unix.Flistxattr(int(f.Fd()), buf); err != nil || n == 0 {
		return nil
	}
	out, left := map[string][]byte{}, maxXAttrs
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		v := make([]byte, left)
		k, err := unix.Fgetxattr(int(f.Fd()), name, v)
		if err != nil {
			continue
		}
		out[name] = v[:k:k]
		left -= k
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
