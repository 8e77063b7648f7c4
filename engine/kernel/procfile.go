package kernel

import (
	"io/fs"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

var procBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// ReadProc reads a file of /proc. It does so with a third of the system calls of
// os.ReadFile, which counts while an app stands still: a tree of fifty processes has
// a thousand of them. Errors are *fs.PathError.
func ReadProc(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	held := procBuffers.Get().(*[]byte)
	defer procBuffers.Put(held)
	all := (*held)[:0]
	for {
		if len(all) == cap(all) {
			all = slices.Grow(all, cap(all))
		}
		n, err := unix.Read(fd, all[len(all):cap(all)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			*held = all[:cap(all)]
			return slices.Clone(all), nil
		}
		all = all[:len(all)+n]
	}
}
