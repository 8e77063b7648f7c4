package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/paths"
)

// shorten makes a path below the kernel's limit for sockets that leads to the
// same place, as long as done has not been called.
func shorten(socket string) (short string, done func() error, err error) {
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(socket), dir.Close, nil
}

// Listen opens the control socket. It is renamed into place when it listens,
// so who sees it can speak to it.
func Listen(socket string) (net.Listener, error) {
	temp := socket + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	short, done, err := shorten(temp)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("opening the control socket %s: %w", socket, err)
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(temp, 0o600); err == nil {
		err = os.Rename(temp, socket)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the control socket %s: %w", socket, err), l.Close())
	}
	return l, nil
}

// start runs `hither daemon`, detached from this process and its terminal, and
// returns when its socket is there.
func start(ctx context.Context) error {
	dir, err := paths.Runtime()
	if err != nil {
		return err
	}
	logName, err := paths.Log()
	if err != nil {
		return err
	}
	// Watch the folder before the start: the socket cannot come unseen.
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watching for the daemon: %w", err)
	}
	events := os.NewFile(uintptr(watch), "inotify")
	defer events.Close()
	if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_MOVED_TO); err != nil {
		return fmt.Errorf("watching %s for the daemon: %w", dir, err)
	}
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the daemon's log: %w", err)
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("opening the daemon's log: %w", err)
	}
	program, err := command()
	if err != nil {
		return fmt.Errorf("starting the daemon: %w", err)
	}
	cmd := exec.Command(program, "daemon")
	cmd.Args[0] = "hither"
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the daemon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	came := make(chan struct{})
	go func() {
		defer close(came)
		buf := make([]byte, 4096)
		for {
			n, err := events.Read(buf)
			if err != nil || strings.Contains(string(buf[:n]), "control.sock\x00") {
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		select {
		case <-came:
			return nil
		case err := <-ended:
			if err == nil {
				// Another one was faster; its socket is there, or comes.
				ended = nil
				if c, err := Running(ctx); err == nil && c != nil {
					return nil
				}
				continue
			}
			return fmt.Errorf("starting the daemon: it ended at once (%w): %s; see %s", err, tail(logName, begin), logName)
		case <-ctx.Done():
			return fmt.Errorf("starting the daemon: its socket has not come; see %s: %w", logName, ctx.Err())
		}
	}
}

// command is the program hither: this one, or, for the window, the one that lies beside it or
// is in the PATH.
func command() (string, error) {
	exe, err := os.Executable()
	if err != nil || filepath.Base(exe) != "hither-gui" {
		return "/proc/self/exe", nil
	}
	beside := filepath.Join(filepath.Dir(exe), "hither")
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	return exec.LookPath("hither")
}

// tail is the last line that was written to the log since begin.
func tail(name string, begin int64) string {
	f, err := os.Open(name)
	if err != nil {
		return "no log"
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(io.NewSectionReader(f, begin, 1<<16), 1<<16))
	if err != nil || len(b) == 0 {
		return "it said nothing"
	}
	text := strings.TrimSpace(string(b))
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	return text
}
