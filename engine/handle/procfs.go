package handle

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fdinfo is /proc/PID/fdinfo/FD, proc_pid_fdinfo(5).
type fdinfo struct {
	pos   int64
	flags int // O_*, with O_CLOEXEC for the descriptor
	mount int
	lines []string // the rest, as it is
}

func readFdinfo(path string) (fdinfo, error) {
	text, err := readSmall(path)
	if err != nil {
		return fdinfo{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return parseFdinfo(text), nil
}

// readSmall reads a file of /proc with as few system calls as there can be:
// a freeze reads one for each descriptor.
func readSmall(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 1024)
	used := 0
	for {
		n, err := unix.Read(fd, buf[used:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return buf[:used], nil
		}
		if used += n; used == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

func parseFdinfo(text []byte) fdinfo {
	var f fdinfo
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "pos":
			f.pos, _ = strconv.ParseInt(value, 10, 64)
		case "flags":
			n, _ := strconv.ParseUint(value, 8, 32)
			f.flags = int(n)
		case "mnt_id":
			f.mount, _ = strconv.Atoi(value)
		default:
			f.lines = append(f.lines, line)
		}
	}
	return f
}

// value is what stands after the first "name:".
func (f *fdinfo) value(name string) (string, bool) {
	for _, line := range f.lines {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}

func (f *fdinfo) number(name string, base int) (uint64, error) {
	text, ok := f.value(name)
	if !ok {
		return 0, fmt.Errorf("the kernel does not tell %q of it", name)
	}
	n, err := strconv.ParseUint(text, base, 64)
	if err != nil {
		return 0, fmt.Errorf("reading %q of it: %w", name, err)
	}
	return n, nil
}

// descriptors lists the numbers in a process's descriptor table, ascending.
func descriptors(pid int) ([]int, error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	fds := make([]int, 0, len(names))
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			fds = append(fds, n)
		}
	}
	slices.Sort(fds)
	return fds, nil
}

func comm(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return strings.TrimSuffix(string(text), "\n")
}

// statusFields returns the numbers of one line of /proc/ID/status.
func statusFields(id int, name string) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", id))
	if err != nil {
		return nil
	}
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			var out []int
			for _, field := range bytes.Fields(rest) {
				n, err := strconv.Atoi(string(field))
				if err != nil {
					return nil
				}
				out = append(out, n)
			}
			return out
		}
	}
	return nil
}
