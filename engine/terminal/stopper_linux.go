package terminal

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// stopper lets a read of any kind of file be given up, so that no key is
// swallowed by a client that is gone.
type stopper struct{ event int }

func newStopper() (*stopper, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("making an event: %w", err)
	}
	return &stopper{event}, nil
}

func (s *stopper) stop()  { unix.Write(s.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }
func (s *stopper) close() { unix.Close(s.event) }

// read reads f once it has something. It returns io.EOF at the end of f or
// after stop, and os.ErrDeadlineExceeded after wait milliseconds, if not -1.
func (s *stopper) read(f *os.File, buf []byte, wait int) (int, error) {
	in := fd(f)
	for {
		set := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(s.event), Events: unix.POLLIN}}
		n, err := unix.Poll(set, wait)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, fmt.Errorf("waiting for input: %w", err)
		case n == 0:
			return 0, os.ErrDeadlineExceeded
		case set[1].Revents != 0:
			return 0, io.EOF
		}
		n, err = unix.Read(in, buf)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err != nil:
			return 0, fmt.Errorf("reading input: %w", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
