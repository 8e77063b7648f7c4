package files

import (
	"errors"
	"fmt"
	"os"
	"path"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of what is taken from another host or from an app.
const (
	maxPath    = 4096
	maxName    = 255
	maxDepth   = 256
	maxEntries = 1 << 20
	maxLinks   = 40
)

// CheckPath says whether p may name a file of a capsule: absolute, clean, and
// short enough for the kernel.
func CheckPath(p string) error {
	switch {
	case len(p) > maxPath:
		return fmt.Errorf("a path of %d bytes is too long", len(p))
	case !strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0) || path.Clean(p) != p:
		return fmt.Errorf("%q is not a clean absolute path", p)
	}
	return nil
}

// checkRel is CheckPath for names relative to a folder.
func checkRel(p string) error {
	if p == "" {
		return errors.New("an empty name")
	}
	if err := CheckPath("/" + p); err != nil {
		return fmt.Errorf("%q is not a clean relative path", p)
	}
	return nil
}

// rel is an inside path below a folder that stands for "/".
func rel(p string) string { return strings.TrimPrefix(p, "/") }

// under says whether p is dir or lies below it.
func under(p, dir string) bool {
	if dir == "/" {
		return true
	}
	return p == dir || len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}

// underAny gives the first of dirs that p lies under, or "".
func underAny(p string, dirs []string) string {
	for _, d := range dirs {
		if under(p, d) {
			return d
		}
	}
	return ""
}

// topmost sorts dirs and drops those that lie below another.
func topmost(dirs []string) []string {
	sort.Strings(dirs)
	var out []string
	for _, d := range dirs {
		if underAny(d, out) == "" {
			out = append(out, d)
		}
	}
	return out
}

// systemTrees hold what a host installs. A person's documents are not looked
// for there, unless the app writes to them.
var systemTrees = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/boot",
	"/nix", "/gnu", "/snap", "/run", "/sys", "/proc", "/dev", "/var/lib", "/var/cache", "/var/run"}

// kernelTrees hold no files that could be carried.
var kernelTrees = []string{"/proc", "/sys", "/dev"}

// homeable says whether a directory may be the private home of an app: not
// the root, not a place that the system needs.
func homeable(home string) bool {
	return CheckPath(home) == nil && home != "/" && home != "/home" && home != "/var" && home != "/run" &&
		home != "/tmp" && underAny(home, systemTrees[:8]) == "" && underAny(home, kernelTrees) == ""
}

func sortStrings(s []string) { sort.Strings(s) }

// view is a tree of files as a process sees it: symbolic links are followed,
// absolute ones from the view's own root, never out of it.
type view struct {
	fd   int
	name string
}

// openView opens the tree below a directory of this host: "/" for the host
// itself, /proc/PID/root for what a process sees.
func openView(root string) (*view, error) {
	d, err := openFolder(root)
	if err != nil {
		return nil, err
	}
	return &view{d.fd, root}, nil
}

func (v *view) Close() error { return unix.Close(v.fd) }

// link is a symbolic link passed on the way to a file.
type link struct{ path, target string }

// place is where a path leads.
type place struct {
	path   string // canonical; what does not exist is appended as it was written
	exists bool
	near   string // the deepest existing directory of path
	stat   unix.Stat_t
	links  []link // symbolic links passed, in order
}

// where follows p. An absent file is no error: place says so.
func (v *view) where(p string) (place, error) {
	pl := place{near: "/"}
	rest := split(p)
	at := ""
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = path.Dir("/" + rel(at))
			if at == "/" {
				at = ""
			}
			continue
		}
		next := at + "/" + name
		st, err := v.lstat(next)
		if errors.Is(err, unix.ENOENT) {
			pl.path, pl.near = path.Join(append([]string{next}, rest...)...), orRoot(at)
			return pl, nil
		}
		if err != nil {
			return pl, fmt.Errorf("looking for %s: %w", p, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			target, err := v.readlink(next)
			if err != nil {
				return pl, fmt.Errorf("looking for %s: %w", p, err)
			}
			pl.links = append(pl.links, link{next, target})
			if len(pl.links) > maxLinks {
				return pl, fmt.Errorf("looking for %s: %w", p, unix.ELOOP)
			}
			if strings.HasPrefix(target, "/") {
				at = ""
			}
			rest = append(split(target), rest...)
			continue
		}
		at = next
		if len(rest) > 0 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return pl, fmt.Errorf("looking for %s: %s is not a directory", p, at)
		}
	}
	st, err := v.lstat(orRoot(at))
	if err != nil {
		return pl, fmt.Errorf("looking for %s: %w", p, err)
	}
	pl.path, pl.exists, pl.stat, pl.near = orRoot(at), true, st, orRoot(at)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		pl.near = path.Dir(pl.path)
	}
	return pl, nil
}

func split(p string) []string {
	var out []string
	for _, n := range strings.Split(p, "/") {
		if n != "" && n != "." {
			out = append(out, n)
		}
	}
	return out
}

func orRoot(p string) string {
	if p == "" {
		return "/"
	}
	return p
}

func (v *view) lstat(p string) (st unix.Stat_t, err error) {
	fd, err := openat2(v.fd, rel(p), unix.O_PATH|unix.O_NOFOLLOW, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return st, &os.PathError{Op: "stat", Path: p, Err: err}
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}

func (v *view) readlink(p string) (string, error) {
	fd, err := openat2(v.fd, rel(p), unix.O_PATH|unix.O_NOFOLLOW, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: p, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, maxPath)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: p, Err: err}
	}
	return string(buf[:n]), nil
}

// open opens a canonical path of the view for reading: no link may have
// slipped in since it was resolved, and it must be a regular file.
func (v *view) open(p string) (*os.File, unix.Stat_t, error) {
	d := folder{v.fd, strings.TrimSuffix(v.name, "/")}
	return d.openRegular(rel(p))
}

// may says whether this user may do what mode (unix.R_OK, W_OK, X_OK) says
// with the file at p.
func (v *view) may(p string, mode uint32) bool {
	fd, err := openat2(v.fd, rel(p), unix.O_PATH|unix.O_NOFOLLOW, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Faccessat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), mode, unix.AT_EACCESS) == nil
}
