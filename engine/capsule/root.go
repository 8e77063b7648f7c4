package capsule

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hither/engine/network"
)

// rooter builds the capsule's root in a mount namespace of its own, in which
// it has all capabilities.
//
// The root is a small tmpfs (the skeleton) on which each folder of the host's
// root is bound with everything below it. Where a path is needed that the host
// does not have, the folder above it is turned into skeleton too: a tmpfs takes
// its place and its entries are bound one by one. Nothing is ever made on the
// host. In the end the skeleton is read-only.
//
// The new root is mounted over /tmp: it must not lie in a folder that is bound
// into it, and /tmp is the one folder that every host has and no capsule sees.
// Paths are looked up with RESOLVE_IN_ROOT, so that an absolute link inside
// leads inside.
type rooter struct {
	root     int             // O_PATH descriptor of the new root
	hostTmp  int             // O_PATH descriptor of the host's /tmp, which is covered
	own      map[uint64]bool // st_dev of each tmpfs made here: free to write to
	skeleton []int           // descriptors of those that become read-only
	uid      int
}

const stage = "/tmp"

// fdPath names a descriptor for system calls that take only paths.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// buildRoot makes the whole root but for /proc; net says that names are to be
// asked for through the capsule's network.
func buildRoot(s *Spec, net bool) error {
	b := &rooter{own: map[uint64]bool{}, uid: os.Getuid()}
	// The host's later mounts may still arrive here, ours never leave.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	var err error
	if b.hostTmp, err = unix.Open(stage, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening /tmp: %w", err)
	}
	if err := unix.Mount("hither", stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mounting the new root: %w", err)
	}
	if b.root, err = unix.Open(stage, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening the new root: %w", err)
	}
	host, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the host's root: %w", err)
	}
	defer unix.Close(host)
	if err := b.adopt("/"); err != nil {
		return err
	}
	err = b.populate(host, b.root, func(e fs.DirEntry) bool { return e.Name() == "proc" || e.Name() == "tmp" })
	if err != nil {
		return err
	}
	for _, name := range []string{"proc", "tmp"} {
		if err := unix.Mkdirat(b.root, name, 0o755); err != nil {
			return fmt.Errorf("making /%s: %w", name, err)
		}
	}
	if err := b.private(s); err != nil {
		return err
	}
	for _, m := range s.Mounts {
		if err := b.mount(m); err != nil {
			return err
		}
	}
	if net {
		// Where the host's file cannot be replaced (a link to nowhere), names are
		// not found, but all else works.
		b.mount(Mount{Kind: "file", Target: "/etc/resolv.conf", Data: network.ResolvConf()}) //nolint:errcheck // as said
	}
	return b.seal()
}

// private mounts what is the capsule's own.
func (b *rooter) private(s *Spec) error {
	if err := b.tmpfs("/tmp", 0o1777); err != nil {
		return err
	}
	if err := b.devices(); err != nil {
		return err
	}
	// Other users' folders are no business of the app: /run/user is covered whole.
	if fd, err := b.make("/run/user", unix.S_IFDIR, 0o755); err != nil {
		return err
	} else {
		unix.Close(fd)
	}
	if err := b.tmpfs("/run/user", 0o755); err != nil {
		return err
	}
	if err := b.adopt("/run/user"); err != nil {
		return err
	}
	own := RuntimeDir(b.uid)
	fd, err := b.make(own, unix.S_IFDIR, 0o700)
	if err != nil {
		return err
	}
	unix.Close(fd)
	if err := b.tmpfs(own, 0o700); err != nil {
		return err
	}
	for _, hidden := range []string{"/tmp", "/dev/shm", own} {
		if strings.HasPrefix(s.Home, hidden+"/") {
			return b.mount(Mount{Kind: "bind", Target: path.Clean(s.Home), Sources: []string{s.Home}})
		}
	}
	return nil
}

// devices gives the capsule terminals, shared memory and message queues of its own.
func (b *rooter) devices() error {
	need := map[string]uint32{"pts": unix.S_IFDIR, "shm": unix.S_IFDIR, "mqueue": unix.S_IFDIR, "ptmx": unix.S_IFREG}
	for name, kind := range need {
		fd, err := b.open("/dev/" + name)
		if err == nil {
			unix.Close(fd)
			continue
		}
		if !b.ours("/dev") {
			if err := b.explode("/dev", idleDevice); err != nil {
				return err
			}
		}
		if fd, err = b.make("/dev/"+name, kind, 0o755); err != nil {
			return err
		}
		unix.Close(fd)
	}
	if err := b.tmpfs("/dev/shm", 0o1777); err != nil {
		return err
	}
	if err := b.fresh("/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return err
	}
	if err := b.fresh("/dev/mqueue", "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	src, err := b.open("/dev/pts/ptmx")
	if err != nil {
		return err
	}
	defer unix.Close(src)
	return b.bind(src, "/dev/ptmx")
}

// idleDevice tells the devices that no app can use: the consoles and block
// devices of the machine, and what this user could not open anyway.
func idleDevice(dir int, e fs.DirEntry) bool {
	if e.IsDir() || e.Type() == fs.ModeSymlink {
		return false
	}
	for _, kind := range []string{"tty", "vcs", "loop", "ram"} {
		if rest, ok := strings.CutPrefix(e.Name(), kind); ok && rest != "" {
			return true
		}
	}
	return unix.Faccessat(dir, e.Name(), unix.R_OK, 0) != nil
}

// open opens a path of the new root.
func (b *rooter) open(p string) (int, error) {
	for {
		fd, err := unix.Openat2(b.root, p, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
		if err != unix.EAGAIN && err != unix.EINTR {
			if err != nil {
				return -1, fmt.Errorf("opening %s in the capsule: %w", p, err)
			}
			return fd, nil
		}
	}
}

// make opens a path of the new root, made if it is not there.
func (b *rooter) make(p string, kind, mode uint32) (int, error) {
	fd, err := b.open(p)
	if !errors.Is(err, unix.ENOENT) {
		if err == nil {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				unix.Close(fd)
				return -1, fmt.Errorf("looking at %s: %w", p, err)
			}
			if (kind == unix.S_IFDIR) != (st.Mode&unix.S_IFMT == unix.S_IFDIR) {
				unix.Close(fd)
				return -1, fmt.Errorf("%s is of another kind on this host (file or folder)", p)
			}
		}
		return fd, err
	}
	parent := path.Dir(p)
	up, err := b.make(parent, unix.S_IFDIR, 0o755)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(up, &st)
	unix.Close(up)
	if err != nil {
		return -1, fmt.Errorf("looking at %s: %w", parent, err)
	}
	if !b.own[st.Dev] {
		if err := b.explode(parent, nil); err != nil {
			return -1, err
		}
	}
	if up, err = b.open(parent); err != nil {
		return -1, err
	}
	defer unix.Close(up)
	if kind == unix.S_IFDIR {
		err = unix.Mkdirat(up, path.Base(p), mode)
		if err == nil {
			err = unix.Fchmodat(up, path.Base(p), mode, 0)
		}
	} else {
		err = unix.Mknodat(up, path.Base(p), unix.S_IFREG|mode, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("making %s in the capsule: %w", p, err)
	}
	return b.open(p)
}
