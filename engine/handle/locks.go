package handle

import (
	"fmt"
	"strconv"
	"strings"

	"hither/engine/image"
)

// fdLock is one "lock:" line of fdinfo: "1: POSIX  ADVISORY  WRITE 123 00:1a:42 0 EOF".
type fdLock struct {
	family     string
	write      bool
	start, len int64
}

func parseLock(line string) (fdLock, error) {
	f := strings.Fields(line)
	if len(f) < 8 {
		return fdLock{}, fmt.Errorf("a lock that reads %q", line)
	}
	l := fdLock{family: f[1], write: f[3] == "WRITE"}
	start, err := strconv.ParseInt(f[6], 10, 64)
	if err != nil {
		return l, fmt.Errorf("a lock that reads %q: %w", line, err)
	}
	l.start = start
	if f[7] != "EOF" {
		end, err := strconv.ParseInt(f[7], 10, 64)
		if err != nil || end < start {
			return l, fmt.Errorf("a lock that reads %q", line)
		}
		l.len = end - start + 1
	}
	return l, nil
}

func (f *fdinfo) locks() ([]fdLock, error) {
	var out []fdLock
	for _, line := range f.lines {
		rest, ok := strings.CutPrefix(line, "lock:")
		if !ok {
			continue
		}
		l, err := parseLock(strings.TrimSpace(rest))
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// posixLocks records the locks that a process owns through one descriptor.
// The descriptor's own fdinfo shows them, a duplicate's does not.
// Descriptors of one description show the same locks: each is recorded once.
func (c *capturer) posixLocks(p Proc, fd int, d *desc, info *fdinfo) error {
	locks, err := info.locks()
	if err != nil {
		return refuse(cureClose, "%v", err)
	}
	for _, l := range locks {
		switch l.family {
		case "POSIX":
			lock := image.Lock{Kind: image.LockPosix, Write: l.write, Pid: p.Inner, FD: fd, Start: l.start, Len: l.len}
			key := lock
			key.FD, key.Handle = 0, d.id
			if !c.locks[key] {
				c.locks[key] = true
				c.out.Locks = append(c.out.Locks, lock)
			}
		case "FLOCK", "OFDLCK": // fileLocks
		default:
			return refuse(cureClose, "a file lease (%s)", strings.ToLower(l.family))
		}
	}
	return nil
}

// fileLocks records the locks that the description itself owns.
func (c *capturer) fileLocks(d *desc) error {
	locks, err := d.info.locks()
	if err != nil {
		return err
	}
	for _, l := range locks {
		lock := image.Lock{Write: l.write, Handle: d.id, Start: l.start, Len: l.len}
		switch l.family {
		case "FLOCK":
			lock.Kind, lock.Start, lock.Len = image.LockFlock, 0, 0
		case "OFDLCK":
			lock.Kind = image.LockOFD
		default:
			continue
		}
		c.out.Locks = append(c.out.Locks, lock)
	}
	return nil
}
