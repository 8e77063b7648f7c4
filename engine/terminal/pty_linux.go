package terminal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pollable returns the master as a file whose reads and writes can be
// interrupted by a deadline, whatever state the given one is in, and closes
// the given one.
func pollable(master *os.File) (*os.File, error) {
	fd, err := duplicate(master)
	if err != nil {
		return nil, fmt.Errorf("taking over the terminal: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("taking over the terminal: %w", err)
	}
	name := master.Name()
	master.Close()
	return os.NewFile(uintptr(fd), name), nil
}

func duplicate(f *os.File) (int, error) {
	fd := -1
	err := control(f, func(old int) (err error) {
		fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
	return fd, err
}

// control runs do with the file's descriptor, deadlines notwithstanding.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// openPeer opens the slave. As long as somebody has it open, reading the
// master waits for output and does not fail with EIO over and over, also while
// the app has closed its terminal for good.
func openPeer(master *os.File) (*os.File, error) {
	var peer *os.File
	err := control(master, func(fd int) error {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			return errno
		}
		peer = os.NewFile(n, "terminal")
		return nil
	})
	return peer, err
}

func setWinsize(f *os.File, w Winsize) error {
	return control(f, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: w.Rows, Col: w.Cols, Xpixel: w.XPixel, Ypixel: w.YPixel})
	})
}

func getWinsize(f *os.File) (Winsize, error) {
	var w Winsize
	err := control(f, func(fd int) error {
		got, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			w = Winsize{Rows: got.Row, Cols: got.Col, XPixel: got.Xpixel, YPixel: got.Ypixel}
		}
		return err
	})
	return w, err
}

// drain reads what f holds now, at most limit bytes, without waiting.
func drain(f *os.File, limit int, take func([]byte)) {
	buf := make([]byte, 16<<10)
	for limit > 0 {
		n := 0
		err := control(f, func(fd int) (err error) {
			n, err = unix.Read(fd, buf)
			return err
		})
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		take(buf[:n])
		limit -= n
	}
}
