package network

import (
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Flows at rest hold no buffers: one is taken when there is something to read.

const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func withBuffer(do func(b []byte) error) error {
	b := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(b)
	return do(b[:])
}

// readReady waits until a stream has something and hands it to take. It returns
// io.EOF at the end.
func readReady(raw syscall.RawConn, take func(b []byte) error) error {
	return read(raw, func(b []byte) error {
		if len(b) == 0 {
			return io.EOF
		}
		return take(b)
	})
}

// read waits until there is a datagram, perhaps an empty one, or a part of a
// stream, and hands it to take.
func read(raw syscall.RawConn, take func(b []byte) error) error {
	var failed error
	err := raw.Read(func(fd uintptr) bool {
		wait := false
		failed = withBuffer(func(b []byte) error {
			for {
				n, err := unix.Read(int(fd), b)
				switch err {
				case nil:
					return take(b[:n])
				case unix.EINTR:
				case unix.EAGAIN:
					wait = true
					return nil
				default:
					return err
				}
			}
		})
		return !wait
	})
	if err != nil {
		return err
	}
	return failed
}
