package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// runInHost is the client of `exec`: it returns the command's exit status.
func runInHost(p place, host string, argv, extraEnv []string) (int, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p.socket(host), Net: "unix"})
	if err != nil {
		return 0, hostUnreachable(p, host, err)
	}
	defer c.Close()
	req := request{Op: "exec", Args: argv, TTY: term.IsTerminal(0) && term.IsTerminal(1)}
	req.Dir, _ = os.Getwd() // unknown or not on the host: the home folder
	for _, name := range []string{"TERM", "COLORTERM"} {
		if v, ok := os.LookupEnv(name); ok {
			req.Env = append(req.Env, name+"="+v)
		}
	}
	req.Env = append(req.Env, extraEnv...)

	// Signals are caught before the command can run: none may end us and leave it behind.
	signals := make(chan os.Signal, 16)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH} {
		if !signal.Ignored(s) { // as under nohup
			signal.Notify(signals, s)
		}
	}
	if req.TTY {
		if size, err := pty.GetsizeFull(os.Stdin); err == nil {
			req.Rows, req.Cols = size.Rows, size.Cols
		}
		err = send(c, req)
	} else {
		err = send(c, req, 0, 1, 2)
	}
	if err != nil {
		return 0, err
	}
	var rep reply
	files, err := receive(c, &rep)
	if err != nil {
		return 0, fmt.Errorf("waiting for host %s: %w", host, err)
	}
	if rep.Error != "" {
		fmt.Fprintf(os.Stderr, "hither-lab: %s\n", rep.Error)
		return rep.Code, nil
	}
	var terminal *relay
	if req.TTY {
		if len(files) != 1 {
			return 0, fmt.Errorf("host %s sent no terminal", host)
		}
		if terminal, err = newRelay(files[0]); err != nil {
			return 0, err
		}
		defer terminal.close()
	}
	go func() {
		for s := range signals {
			n := s.(syscall.Signal)
			if n == syscall.SIGWINCH && terminal != nil {
				terminal.resize()
				continue
			}
			send(c, event{Signal: int(n)})
		}
	}()
	var done event
	if _, err := receive(c, &done); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is gone")
		}
		return 0, fmt.Errorf("lost host %s: %w", host, err)
	}
	if terminal != nil {
		terminal.drain()
	}
	return done.Status, nil
}

// hostUnreachable says why a host's socket did not answer.
func hostUnreachable(p place, host string, err error) error {
	if _, e := os.Lstat(p.switchSocket()); e != nil {
		return fmt.Errorf("lab %q is not up: `hither-lab%s up` makes it", p.name, labFlag(p))
	}
	if _, e := os.Lstat(p.socket(host)); e != nil {
		return noHost(host)
	}
	return fmt.Errorf("host %s does not answer: %w; `hither-lab%s down` and `up` make a new lab", host, err, labFlag(p))
}

// relay joins our terminal with one in a host.
type relay struct {
	master *os.File
	old    *term.State
	ended  chan struct{} // the host's terminal has nothing more
}

func newRelay(passed *os.File) (*relay, error) {
	// Non-blocking, so that the last read can be given a time limit.
	fd, err := unix.Dup(int(passed.Fd()))
	passed.Close()
	if err == nil {
		unix.CloseOnExec(fd)
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("taking over the host's terminal: %w", err)
	}
	r := &relay{master: os.NewFile(uintptr(fd), "host terminal"), ended: make(chan struct{})}
	if r.old, err = term.MakeRaw(0); err != nil {
		return nil, fmt.Errorf("preparing this terminal: %w", err)
	}
	r.resize()
	go io.Copy(r.master, os.Stdin)
	go func() {
		defer close(r.ended)
		io.Copy(os.Stdout, r.master)
	}()
	return r, nil
}

func (r *relay) resize() {
	if size, err := pty.GetsizeFull(os.Stdin); err == nil {
		if raw, err := r.master.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) {
				unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols, Xpixel: size.X, Ypixel: size.Y})
			})
		}
	}
}

// drain shows the command's last words. The terminal ends by itself unless a background process has
// it open.
func (r *relay) drain() {
	select {
	case <-r.ended:
	case <-time.After(50 * time.Millisecond):
	}
}

func (r *relay) close() {
	term.Restore(0, r.old)
	r.master.Close()
}
