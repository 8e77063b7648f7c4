package handle

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
	"hither/engine/memory"
)

// Watched are the paths of what processes watch by inotify. The kernel tells of a
// watch the inode only, so its path has to be found, which takes its time: it is done
// before the processes are stopped.
type Watched map[inodeKey]string

// FindWatched looks for the paths of what running processes watch: among what they
// have open, in the strings in their memory - who watches a file mostly keeps its
// name - and below the folders they use. What it does not find is a Problem.
func FindWatched(procs []Proc, initPid int) (Watched, []Problem) {
	f := &finder{root: fmt.Sprintf("/proc/%d/root", initPid), found: Watched{}, tried: map[string]bool{}, by: map[inodeKey]Problem{}}
	var watchers []Proc
	for _, p := range procs {
		if !p.Zombie && f.watches(p) {
			watchers = append(watchers, p)
		}
	}
	if f.missing == 0 {
		return f.found, nil
	}
	root, err := unix.Open(f.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return f.found, nil // it has ended
	}
	defer unix.Close(root)
	f.rootFD = root
	f.end = time.Now().Add(findTime)
	f.try("/")
	f.try("/tmp")
	for _, p := range watchers {
		f.open(p)
	}
	for _, p := range watchers {
		f.memory(p)
	}
	f.walk()
	var problems []Problem
	for key, path := range f.found {
		if path == "" {
			problems = append(problems, f.by[key])
			delete(f.found, key)
		}
	}
	return f.found, problems
}

// Bounds of the search.
const (
	findTime    = 2 * time.Second
	findMemory  = 1 << 30 // bytes of one process
	findEntries = 200_000
	pathMost    = 4096 // PATH_MAX of limits.h
	readAtOnce  = 1 << 20
)

type finder struct {
	root    string
	rootFD  int
	found   Watched // "" while it is missing
	missing int
	by      map[inodeKey]Problem
	tried   map[string]bool
	folders []string
	end     time.Time
}

func (f *finder) over() bool { return f.missing == 0 || time.Now().After(f.end) }

// watches notes what a process watches.
func (f *finder) watches(p Proc) bool {
	fds, err := descriptors(p.Pid)
	if err != nil {
		return false
	}
	any := false
	for _, fd := range fds {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", p.Pid, fd))
		if err != nil || strings.Trim(strings.TrimPrefix(link, "anon_inode:"), "[]") != "inotify" {
			continue
		}
		info, err := readFdinfo(fmt.Sprintf("/proc/%d/fdinfo/%d", p.Pid, fd))
		if err != nil {
			continue
		}
		for _, line := range info.lines {
			_, key, ok, err := parseWatch(line)
			if err != nil || !ok {
				continue
			}
			any = true
			if _, have := f.found[key]; !have {
				f.found[key] = ""
				f.missing++
				f.by[key] = Problem{p.Inner, comm(p.Pid), fd, noPath, cureClose}
			}
		}
	}
	return any
}

const noPath = "a watch on a file whose path cannot be found (inotify)"

// try looks whether a path, or a folder above it, leads to something that is missing.
func (f *finder) try(path string) {
	path = filepath.Clean(path)
	for ; !f.tried[path] && f.missing > 0; path = filepath.Dir(path) {
		f.tried[path] = true
		if strings.HasPrefix(path, "/proc/") {
			return
		}
		fd, err := unix.Openat2(f.rootFD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			key := inodeKey{st.Dev, st.Ino}
			if have, ok := f.found[key]; ok && have == "" {
				// Without the symbolic links.
				real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
				if real = strings.TrimPrefix(real, "(unreachable)"); err == nil && f.leads(real, key) {
					f.found[key] = real
					f.missing--
				} else if f.leads(path, key) {
					f.found[key] = path
					f.missing--
				}
			}
		}
		unix.Close(fd)
	}
}

func (f *finder) leads(path string, key inodeKey) bool {
	return filepath.IsAbs(path) && leadsTo(f.root+path, key)
}

// leadsTo says whether a path is that of an inode.
func leadsTo(path string, key inodeKey) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && key == inodeKey{st.Dev, st.Ino}
}

// open tries what a process has open and where it works.
func (f *finder) open(p Proc) {
	fds, err := descriptors(p.Pid)
	if err != nil {
		return
	}
	links := []string{fmt.Sprintf("/proc/%d/cwd", p.Pid), fmt.Sprintf("/proc/%d/exe", p.Pid)}
	for _, fd := range fds {
		links = append(links, fmt.Sprintf("/proc/%d/fd/%d", p.Pid, fd))
	}
	for _, link := range links {
		path, err := os.Readlink(link)
		if path = strings.TrimSuffix(path, " (deleted)"); err != nil || !filepath.IsAbs(path) {
			continue
		}
		f.try(path)
		f.folders = append(f.folders, path, filepath.Dir(path))
	}
}

// memory tries the strings in a process's memory.
func (f *finder) memory(p Proc) {
	if f.over() {
		return
	}
	scan, err := memory.OpenScanner(p.Pid)
	if err != nil {
		return
	}
	defer scan.Close()
	maps, err := kernel.ReadProc(fmt.Sprintf("/proc/%d/maps", p.Pid))
	if err != nil {
		return
	}
	left := findMemory
	buf := make([]byte, readAtOnce+2*pathMost)
	for line := range strings.Lines(string(maps)) {
		var start, end uint64
		var rights string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &start, &end, &rights); n != 3 || rights[:2] != "rw" || rights[3] != 'p' {
			continue
		}
		pages, err := scan.Ranges(start, end)
		if err != nil {
			continue
		}
		for _, r := range pages {
			for at := r.Start; at < r.End; at += readAtOnce {
				if f.over() || left < 0 {
					return
				}
				n, err := kernel.ReadProcess(p.Pid, buf[:min(uint64(len(buf)), r.End-at)], at)
				if err == nil {
					f.strings(buf[:n])
				}
				left -= n
			}
		}
	}
}

// strings tries what looks like a path, in bytes or in UTF-16.
func (f *finder) strings(data []byte) {
	for at := 0; f.missing > 0; {
		i := bytes.IndexByte(data[at:], '/')
		if i < 0 {
			return
		}
		i += at
		at = i + 1
		if wide, n := widePath(data[i:]); wide != "" {
			f.try(wide)
			at = i + n
		} else if i == 0 || !graphic(data[i-1]) || bytes.HasSuffix(data[:i], []byte("file://")) {
			n := 1
			for i+n < len(data) && n < pathMost && graphic(data[i+n]) {
				n++
			}
			if n > 1 {
				f.try(string(data[i : i+n]))
			}
			at = i + n
		}
	}
}

func graphic(b byte) bool { return b >= ' ' && b != 0x7f }

// widePath is a path in UTF-16, as Qt and Java keep them, and how many bytes it takes.
func widePath(data []byte) (string, int) {
	if len(data) < 4 || data[1] != 0 || data[3] != 0 || !graphic(data[2]) {
		return "", 0
	}
	var units []uint16
	n := 0
	for ; n+1 < len(data) && n < 2*pathMost; n += 2 {
		u := le.Uint16(data[n:])
		if u < ' ' || u == 0x7f {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), n
}

// walk tries what lies below the folders that the processes use.
func (f *finder) walk() {
	seen := map[string]bool{}
	folders := append(f.folders, "/tmp")
	for left := findEntries; len(folders) > 0 && left > 0 && !f.over(); {
		dir := folders[0]
		folders = folders[1:]
		if seen[dir] || dir == "/" || dir == "/proc" || dir == "/sys" || dir == "/dev" {
			continue
		}
		seen[dir] = true
		entries, err := os.ReadDir(f.root + dir)
		if err != nil {
			continue
		}
		left -= len(entries)
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			f.try(path)
			if e.IsDir() {
				folders = append(folders, path)
			}
		}
	}
}
