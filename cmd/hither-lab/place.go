package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// place is where a lab lives on disk: /tmp/hither-lab-UID/NAME. It does not depend on XDG variables,
// so that `down` finds what `up` made from any shell.
type place struct {
	name string
	dir  string
}

const placeParent = "/tmp/hither-lab-"

var labName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func findPlace(name string) (place, error) {
	if !labName.MatchString(name) {
		return place{}, fmt.Errorf("--lab %q: a lab's name has up to 32 small letters, digits and '-'", name)
	}
	return placeOf(os.Getuid(), name), nil
}

func placeOf(uid int, name string) place {
	return place{name: name, dir: filepath.Join(placeParent+strconv.Itoa(uid), name)}
}

func (p place) lockFile() string          { return filepath.Join(p.dir, "lock") }
func (p place) logFile() string           { return filepath.Join(p.dir, "log") }
func (p place) switchSocket() string      { return filepath.Join(p.dir, "switch.sock") }
func (p place) socket(host string) string { return filepath.Join(p.dir, "host-"+host+".sock") }

func (p place) binCopies() string { return p.dir + ".bin" }

// make creates the folder, closed to others. Its parent is in a folder that everybody can write, so
// what is found there is believed only if it is ours.
func (p place) make() error {
	parent := filepath.Dir(p.dir)
	if err := os.Mkdir(parent, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the folder of labs: %w", err)
	}
	if err := owned(parent); err != nil {
		return err
	}
	if err := os.Mkdir(p.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the lab's folder: %w", err)
	}
	return nil
}

func owned(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("looking at %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s belongs to somebody else: remove it first", dir)
	}
	return nil
}

// remove deletes the lab's folder, and the folder of labs with its last lab.
func (p place) remove() error {
	err := errors.Join(os.RemoveAll(p.dir), os.RemoveAll(p.binCopies()))
	os.Remove(filepath.Dir(p.dir)) // fails, rightly, while another lab is there
	if err != nil {
		return fmt.Errorf("removing the lab's folder: %w", err)
	}
	return nil
}

// errBusy says that the lab's switch room lives: it alone holds the lock.
var errBusy = errors.New("the lab is up")

// lock takes the lab's lock. The switch room inherits it, and so holds it until it is dead.
func (p place) lock() (*os.File, error) {
	f, err := os.OpenFile(p.lockFile(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lab's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errBusy
		}
		return nil, fmt.Errorf("taking the lab's lock: %w", err)
	}
	return f, nil
}

// binEnv names the folder of the binaries, where that is not the folder of this one.
const binEnv = "HITHER_LAB_BIN"

// binaries is the folder with hither and hither-lab.
func binaries() (string, error) {
	if dir := os.Getenv(binEnv); filepath.IsAbs(dir) {
		return dir, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding my own folder: %w", err)
	}
	exe, err = filepath.EvalSymlinks(strings.TrimSuffix(exe, " (deleted)"))
	if err != nil {
		return "", fmt.Errorf("finding my own folder: %w", err)
	}
	return filepath.Dir(exe), nil
}

// unreachableBinaries is the folder of the binaries if it is closed to ordinary users, as in root's
// home; else "".
func unreachableBinaries() string {
	dir, err := binaries()
	if err != nil {
		return ""
	}
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil || info.Mode().Perm()&0o005 != 0o005 {
			return dir
		}
		if d == "/" {
			return ""
		}
	}
}

// copyBinaries puts copies where the user can run them, beside the lab's folder.
func copyBinaries(dir string, p place, uid, gid int) (string, error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("copying the binaries of %s for user %d, who cannot read them: %w", dir, uid, err)
	}
	parent, bin := filepath.Dir(p.dir), filepath.Base(p.binCopies())
	if err := os.Mkdir(parent, 0o700); err == nil {
		if err := os.Lchown(parent, uid, gid); err != nil {
			return fail(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(parent, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != uid {
		return fail(fmt.Errorf("%s belongs to somebody else", parent))
	}
	// The folder is the user's, who could put links into it: root writes below a descriptor only.
	root, err := os.OpenRoot(parent)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	if err := errors.Join(root.RemoveAll(bin), root.Mkdir(bin, 0o755), root.Lchown(bin, uid, gid)); err != nil {
		return fail(err)
	}
	for _, name := range []string{"hither", "hither-lab", "hither-gui"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		at := filepath.Join(bin, name)
		if err = errors.Join(err, root.WriteFile(at, data, 0o755), root.Lchown(at, uid, gid)); err != nil {
			return fail(err)
		}
	}
	return p.binCopies(), nil
}
