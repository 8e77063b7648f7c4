package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// exec runs a command for a client: its descriptors are the client's own, or a terminal of this host
// whose master the client gets. The conversation ends with the command.
func (w *warden) exec(c *net.UnixConn, req request, files []*os.File) {
	if w.poweredOff() {
		send(c, reply{Error: fmt.Sprintf("host %s is powered off: `hither-lab start %s` boots it", w.spec.Name, w.spec.Name), Code: 125})
		return
	}
	child, master, code, err := w.prepare(req, files)
	if err != nil {
		send(c, reply{Error: err.Error(), Code: code})
		return
	}
	exited := make(chan syscall.WaitStatus, 1)
	pid, err := w.nursery.start(child.path, req.Args, child.attr, func(ws syscall.WaitStatus) { exited <- ws })
	child.close()
	closeAll(files)
	if err != nil {
		if master != nil {
			master.Close()
		}
		code := 126
		if errors.Is(err, syscall.ENOENT) {
			code = 127
		}
		send(c, reply{Error: fmt.Sprintf("%s: %v", req.Args[0], err), Code: code})
		return
	}
	if master != nil {
		err = send(c, reply{}, int(master.Fd()))
		master.Close()
	} else {
		err = send(c, reply{})
	}
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		for {
			var e event
			extra, err := receive(c, &e)
			closeAll(extra)
			if err != nil {
				return
			}
			// The command leads a session and group of its own, which a key press reaches as a whole.
			if e.Signal > 0 {
				syscall.Kill(-pid, syscall.Signal(e.Signal))
			}
		}
	}()
	select {
	case ws := <-exited:
		send(c, event{Exited: true, Status: shellStatus(ws)})
	case <-hungUp:
		// The client is gone and with it whoever looked at the output.
		syscall.Kill(-pid, syscall.SIGHUP)
		<-exited
	}
	if err != nil {
		complain(err)
	}
}

// childSetup is all a child needs to start.
type childSetup struct {
	path  string
	attr  *syscall.ProcAttr
	slave *os.File
}

func (s childSetup) close() {
	if s.slave != nil {
		s.slave.Close()
	}
}

// prepare finds the program and sets its descriptors up.
func (w *warden) prepare(req request, files []*os.File) (s childSetup, master *os.File, code int, err error) {
	if len(req.Args) == 0 {
		return s, nil, 125, errors.New("no command")
	}
	dir := req.Dir
	if unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, 0) != nil || dir == "" {
		dir = labHome
	}
	env := lastOfEach(append(w.environment(), req.Env...))
	s.path, err = lookUp(req.Args[0], lastValue(env, "PATH"), dir)
	if err != nil {
		if errors.Is(err, syscall.EACCES) {
			return s, nil, 126, fmt.Errorf("%s: not a program that can be run", req.Args[0])
		}
		return s, nil, 127, fmt.Errorf("%s: no such program on host %s", req.Args[0], w.spec.Name)
	}
	s.attr = &syscall.ProcAttr{Dir: dir, Env: env, Sys: &syscall.SysProcAttr{Setsid: true}}
	if !req.TTY {
		if len(files) != 3 {
			return s, nil, 125, fmt.Errorf("%d descriptors came instead of 3", len(files))
		}
		for _, f := range files {
			s.attr.Files = append(s.attr.Files, f.Fd())
		}
		return s, nil, 0, nil
	}
	master, s.slave, err = pty.Open()
	if err != nil {
		return s, nil, 125, fmt.Errorf("opening a terminal on host %s: %w", w.spec.Name, err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Rows: req.Rows, Cols: req.Cols}); err != nil {
		master.Close()
		s.close()
		return s, nil, 125, fmt.Errorf("setting the terminal's size: %w", err)
	}
	tty := s.slave.Fd()
	s.attr.Files = []uintptr{tty, tty, tty}
	s.attr.Sys.Setctty = true
	return s, master, 0, nil
}

func (w *warden) poweredOff() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.off
}

// lastOfEach leaves each variable's last setting; of several, many programs would take the first.
func lastOfEach(env []string) []string {
	at := map[string]int{}
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if i, again := at[name]; again {
			kept[i] = e
			continue
		}
		at[name] = len(kept)
		kept = append(kept, e)
	}
	return kept
}

// lastValue is a variable's value, of several settings the last.
func lastValue(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if v := env[i]; len(v) > len(name) && v[:len(name)] == name && v[len(name)] == '=' {
			return v[len(name)+1:]
		}
	}
	return ""
}
