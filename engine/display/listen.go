package display

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// backlog is how many callers may wait while a server starts.
const backlog = 128

// Listen makes a service's socket, in the root and the network namespace of the
// calling thread.
func (s *Service) Listen() (fd int, err error) {
	if dir := path.Dir(s.Path); dir == path.Dir(ServerPath) {
		if err := os.Mkdir(dir, 0o777); err != nil && !os.IsExist(err) {
			return -1, fmt.Errorf("making the folder of the %s's socket: %w", s.Name, err)
		}
		if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil { // as X wants it
			return -1, fmt.Errorf("opening %s to all: %w", dir, err)
		}
	}
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("making the %s's socket: %w", s.Name, err)
	}
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: s.Path})
	if err == nil {
		err = unix.Chmod(s.Path, s.Mode)
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listening on %s for the %s: %w", s.Path, s.Name, err)
	}
	return fd, nil
}
