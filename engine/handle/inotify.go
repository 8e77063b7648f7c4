package handle

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// An inotify instance: its watches, with their numbers. The kernel tells of a
// watch the inode only, so its path is looked for before the processes are stopped
// (watched.go), and that of one that has come since among what they have open and below
// their working directories. Refused: watches whose path is not found, and an
// instance with events that nobody has read.
var inotifyKind = &kind{name: kindInotify, capture: captureInotify, blank: func() record { return new(inotifyRecord) },
	rebind: rebindInotify, fill: watchInotify}

type inotifyRecord struct {
	Watches []watch `cbor:"1,keyasint,omitempty"`
}

type watch struct {
	WD   int    `cbor:"1,keyasint"`
	File uint32 `cbor:"2,keyasint"`
	Mask uint32 `cbor:"3,keyasint"`
}

func (r *inotifyRecord) validate(refs *references) error {
	for _, w := range r.Watches {
		if w.WD < 1 || w.WD > 1<<30 || refs.files[w.File] == nil {
			return fmt.Errorf("watch %d of file %d", w.WD, w.File)
		}
	}
	return nil
}

// watched inode, as fdinfo names it.
type inodeKey struct{ dev, ino uint64 }

func captureInotify(c *capturer, d *desc) (record, error) {
	n, err := unix.IoctlGetInt(d.fd, unix.TIOCINQ)
	if err != nil {
		return nil, fmt.Errorf("asking what waits in it: %w", err)
	}
	if n != 0 {
		return nil, refuse(cureAgain, "an inotify instance with events it has not read")
	}
	r := new(inotifyRecord)
	want := map[inodeKey]string{}
	var keys []inodeKey
	for _, line := range d.info.lines {
		w, key, ok, err := parseWatch(line)
		if err != nil {
			return nil, err
		}
		if ok {
			r.Watches = append(r.Watches, w)
			keys = append(keys, key)
			want[key] = ""
		}
	}
	for key := range want {
		if path, ok := c.in.Watched[key]; ok && leadsTo(c.root()+path, key) {
			want[key] = path
		}
	}
	c.findPaths(want)
	for i := range r.Watches {
		path := want[keys[i]]
		var st unix.Stat_t
		if path == "" || unix.Lstat(c.root()+path, &st) != nil {
			return nil, refuse(cureAgain, noPath) // it has come since FindWatched looked
		}
		kind := image.FilePath
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			kind = image.FileDir
		}
		r.Watches[i].File = c.in.Inodes.AddFile(path, &st, kind)
	}
	slices.SortFunc(r.Watches, func(a, b watch) int { return cmp.Compare(a.WD, b.WD) })
	return r, nil
}

// parseWatch reads "inotify wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 ...".
func parseWatch(line string) (w watch, key inodeKey, ok bool, err error) {
	rest, ok := strings.CutPrefix(line, "inotify ")
	if !ok {
		return w, key, false, nil
	}
	for _, field := range strings.Fields(rest) {
		name, text, _ := strings.Cut(field, ":")
		var n uint64
		switch name {
		case "wd", "ino", "sdev", "mask":
			if n, err = strconv.ParseUint(text, 16, 64); err != nil {
				return w, key, false, fmt.Errorf("a watch that reads %q: %w", line, err)
			}
		}
		switch name {
		case "wd":
			w.WD = int(n)
		case "ino":
			key.ino = n
		case "sdev":
			key.dev = unix.Mkdev(uint32(n>>20), uint32(n&0xfffff))
		case "mask":
			w.Mask = uint32(n) & (unix.IN_ALL_EVENTS | unix.IN_EXCL_UNLINK | unix.IN_ONESHOT)
		}
	}
	return w, key, true, nil
}

// Bounds of the search for paths.
const (
	searchTime    = 300 * time.Millisecond
	searchEntries = 100_000
)

// findPaths fills in the paths of inodes, as far as it finds them.
func (c *capturer) findPaths(want map[inodeKey]string) {
	missing := 0
	for _, path := range want {
		if path == "" {
			missing++
		}
	}
	if missing == 0 {
		return
	}
	try := func(path string) bool {
		var st unix.Stat_t
		if unix.Lstat(c.root()+path, &st) != nil {
			return false
		}
		key := inodeKey{st.Dev, st.Ino}
		if have, ok := want[key]; ok && have == "" {
			want[key] = path
			missing--
		}
		return st.Mode&unix.S_IFMT == unix.S_IFDIR
	}
	var dirs []string
	seen := map[string]bool{}
	start := func(path string) {
		path = strings.TrimSuffix(path, " (deleted)")
		if !filepath.IsAbs(path) {
			return
		}
		if !try(path) {
			path = filepath.Dir(path)
		}
		for at := path; !seen[at]; at = filepath.Dir(at) { // parents, but not what lies beside
			seen[at] = true
			try(at)
		}
		dirs = append(dirs, path)
	}
	for _, d := range c.descs {
		if d.kind != nil && (d.kind.name == kindFile || d.kind.name == kindDirectory) {
			start(d.seen.link)
		}
	}
	for pid := range c.inner {
		if cwd, err := readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil {
			start(cwd)
		}
	}
	start("/tmp")
	end := time.Now().Add(searchTime)
	walked := map[string]bool{}
	for left := searchEntries; len(dirs) > 0 && missing > 0 && left > 0 && time.Now().Before(end); {
		dir := dirs[0]
		dirs = dirs[1:]
		if walked[dir] || dir == "/proc" || dir == "/sys" || dir == "/" {
			continue
		}
		walked[dir] = true
		entries, err := os.ReadDir(c.root() + dir)
		if err != nil {
			continue
		}
		left -= len(entries)
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if try(path) {
				dirs = append(dirs, path)
			}
		}
	}
}

func rebindInotify(b *binder, entries []*entry) error {
	for _, e := range entries {
		fd, err := b.call(unix.SYS_INOTIFY_INIT1, uint64(int(e.Flags)&unix.O_NONBLOCK))
		if err != nil {
			return fmt.Errorf("making an inotify instance: %w", err)
		}
		b.put(e.ID, fd)
	}
	return nil
}

// watchInotify adds the watches, when all else is done: it would see that.
func watchInotify(b *binder, entries []*entry) error {
	for _, e := range entries {
		fd := b.made[e.ID]
		for _, w := range e.rec.(*inotifyRecord).Watches {
			path := b.path(w.File)
			err := b.with(fd, func(dup int) error {
				_, err := ioctlValue(dup, inotifySetWD, uintptr(w.WD))
				return err
			})
			if err != nil && err != unix.ENOTTY {
				return fmt.Errorf("numbering the watch on %s: %w", path, err)
			}
			at, err := b.text(path)
			if err != nil {
				return err
			}
			got, err := b.call(unix.SYS_INOTIFY_ADD_WATCH, uint64(fd), at, uint64(w.Mask))
			if err != nil {
				return fmt.Errorf("watching %s: %w", path, err)
			}
			if got != w.WD {
				return fmt.Errorf("watching %s: its number is %d and should be %d", path, got, w.WD)
			}
		}
	}
	return nil
}
