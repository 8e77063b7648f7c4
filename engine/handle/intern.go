package handle

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// descKey narrows the search for an equal description: two descriptors of one
// description always agree in it while the processes are stopped.
type descKey struct {
	dev, ino uint64
	flags    int
	pos      int64
}

// intern finds or adds the description of a duplicate, and owns the duplicate.
func (c *capturer) intern(fd int, from Problem) (*desc, error) {
	info, err := readFdinfo(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c.internAs(fd, info, from)
}

// internAs does it with what is known of the description already.
func (c *capturer) internAs(fd int, info fdinfo, from Problem) (*desc, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("looking at it: %w", err)
	}
	flags := info.flags &^ unix.O_CLOEXEC
	key := descKey{st.Dev, st.Ino, flags, info.pos}
	list := c.known[key]
	// Kcmp orders descriptions, so the list is kept sorted.
	var failed error
	at, found := slices.BinarySearchFunc(list, fd, func(d *desc, fd int) int {
		order, err := kernel.Kcmp(os.Getpid(), os.Getpid(), kernel.KcmpFile, uint64(d.fd), uint64(fd))
		switch {
		case err != nil:
			failed = err
			return 0
		case order == 1:
			return -1
		case order == 2:
			return 1
		}
		return 0
	})
	if failed != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("telling open files apart: kcmp: %w: the kernel needs CONFIG_KCMP", failed)
	}
	if found {
		unix.Close(fd)
		return list[at], nil
	}
	d := &desc{id: uint32(len(c.descs) + 1), fd: fd, flags: flags, info: info, from: from}
	c.descs = append(c.descs, d)
	c.known[key] = slices.Insert(list, at, d)
	var err error
	if d.seen, err = look(fd, &st); err != nil {
		return nil, err
	}
	name, err := classify(&d.seen)
	if err != nil {
		return d, c.note(d, err)
	}
	if flags&unix.O_PATH != 0 {
		// Such a descriptor stands for the file, and nothing of it is open.
		switch name {
		case kindMaster, kindSlave:
			name = kindDevice
		case kindPipe:
			return d, c.note(d, refuse(cureClose, "a pipe opened with O_PATH"))
		}
	}
	d.kind = kindNamed(name)
	return d, nil
}
