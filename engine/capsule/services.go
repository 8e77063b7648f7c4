package capsule

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/display"
	"hither/engine/kernel"
)

// The servers of package display: pid 1 holds their sockets, the keeper waits
// for the first caller and has the server started inside, with the socket. Then
// nobody here listens any more until the server has ended.
//
// They are part of the capsule, but do not keep it: when pid 1 has no other
// children, it is killed (endIfIdle). Neither do daemons that the bus has started
// (dconf and its like), as long as they show no windows. See services_left.go.

// Service is a server of the capsule that runs.
type Service struct {
	Name string `json:"name"`
	Pid  int    `json:"pid"` // inside
}

// service is a server as its keeper has it.
type service struct {
	display.Service
	fd   int // of its socket, in pid 1
	pid  int // inside, 0 while it does not run; mu
	host int // the same, outside; mu
}

// A server that ends so soon after its start, with an error, so many times in a
// row, is given up until the next caller.
const (
	soon      = 2 * time.Second
	soonTries = 3
)

// newServices are the services of every capsule, as pid 1's descriptors have them.
func newServices() []*service {
	var all []*service
	for i, s := range display.Services(RuntimeDir(os.Getuid())) {
		all = append(all, &service{Service: s, fd: FDDisplay + i})
	}
	return all
}

// attendServices attends to the services, once pid 1 has their sockets.
func (k *keeper) attendServices() {
	if k.state.Spec.NoDisplay {
		return
	}
	for _, s := range k.services {
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", k.state.Init.Pid, s.fd)); err != nil {
			continue // an app that came without
		}
		go k.attend(s, k.findService(s))
	}
}

// attend starts a server whenever it is called; exit is that of one that runs
// already.
func (k *keeper) attend(s *service, exit <-chan int) {
	for failed := 0; ; {
		began := time.Now()
		if exit == nil {
			caller, err := k.awaitCaller(s)
			if err == nil {
				exit, err = k.startService(s, caller)
				if err != nil {
					k.cannotStart(s, caller, err)
				}
				caller.Close()
			}
			if err != nil {
				k.log.Error("starting the "+s.Name, "error", err)
				select {
				case <-k.dead:
					return
				case <-time.After(50 * time.Millisecond): // whatever it is, not in a tight circle
				}
				continue
			}
		}
		over := make(chan struct{})
		if s.fd == FDDisplay {
			go k.keepBridge(over)
		}
		k.endIfIdle() // it may have become so before this server was known as one
		status := <-exit
		close(over)
		exit = nil
		k.noteService(s, 0, 0)
		select {
		case <-k.dead:
			return
		default:
		}
		k.log.Info("the "+s.Name+" has ended", "status", status)
		if failed++; status == 0 || time.Since(began) > soon {
			failed = 0
		}
		if failed == soonTries {
			failed = 0
			if caller, err := k.listener(s); err == nil {
				k.cannotStart(s, caller, fmt.Errorf("exit status %d%s", status, k.lastWord(s)))
				caller.Close()
			}
		}
	}
}

// listener is a duplicate of a service's socket. It is to be had only while no
// server has it: each caller would wake this process, too.
func (k *keeper) listener(s *service) (*os.File, error) {
	fd, err := pidfdGetfd(k.pidfd, s.fd)
	if err != nil {
		return nil, fmt.Errorf("taking the socket of the %s from the capsule's pid 1: %w", s.Name, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("preparing the socket of the %s: %w", s.Name, err)
	}
	return os.NewFile(uintptr(fd), s.Name), nil
}

// awaitCaller returns the socket once somebody waits in it.
func (k *keeper) awaitCaller(s *service) (*os.File, error) {
	f, err := k.listener(s)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n == 1
		})
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("waiting for callers of the %s: %w", s.Name, err)
	}
	return f, nil
}

// startService has a server started inside.
func (k *keeper) startService(s *service, socket *os.File) (<-chan int, error) {
	if err := k.lockOpen(); err != nil {
		return nil, err
	}
	defer k.starting.Unlock()
	root := fmt.Sprintf("/proc/%d/root", k.state.Init.Pid)
	if s.Litter != "" {
		os.Remove(root + s.Litter) //nolint:errcheck // mostly there is none
	}
	argv := s.Argv
	if s.fd == FDDisplay {
		k.mu.Lock()
		desktop := k.state.Desktop
		k.mu.Unlock()
		dpi := display.DPI(func(name string) string { return lookup(desktop, name) })
		argv = append(slices.Clone(argv), "-dpi", strconv.Itoa(dpi))
	}
	o := order{Argv: argv, Env: k.serviceEnv(s), Dir: "/", Umask: 0o022, Std: [3]int{-1, -1, -1}, Listen: 1}
	files := []*os.File{socket}
	if s.Log != "" {
		log, err := os.OpenFile(root+s.Log, os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening the log of the %s: %w", s.Name, err)
		}
		defer log.Close()
		files = append(files, log)
		o.Std[1], o.Std[2] = 1, 1
	}
	pid, exit, err := k.give(&o, files)
	if err != nil {
		return nil, err
	}
	host := 0
	if children, err := k.children(); err == nil {
		for _, c := range children {
			if n, err := kernel.InsidePid(k.state.Init.Pid, c); err == nil && n == pid {
				host = c
			}
		}
	}
	k.noteService(s, pid, host)
	return exit, nil
}

// serviceEnv is a server's environment. What the bus starts are apps; the X
// server needs little, and nothing of what a person sets for apps only.
func (k *keeper) serviceEnv(s *service) []string {
	env := k.state.Spec.Env
	search := lookup(env, "PATH")
	if search == "" {
		search = "/usr/local/bin"
	}
	search += ":/usr/bin:/bin"
	if s.fd == FDBus {
		return append(slices.Clone(env), "PATH="+search)
	}
	return []string{"PATH=" + search, "HOME=" + k.state.Spec.Home, "LANG=C.UTF-8"}
}

// lockOpen locks starting when the capsule's portals are open, that is when the
// app is not about to be frozen.
func (k *keeper) lockOpen() error {
	for {
		k.starting.Lock()
		k.mu.Lock()
		closed := k.reopened
		k.mu.Unlock()
		if closed == nil {
			return nil
		}
		k.starting.Unlock()
		select {
		case <-closed:
		case <-k.dead:
			return ErrEnded
		}
	}
}

// noteService writes down that a server runs, or (0) that it does not.
func (k *keeper) noteService(s *service, pid, host int) {
	k.mu.Lock()
	s.pid, s.host = pid, host
	k.state.Services = nil
	for _, s := range k.services {
		if s.pid != 0 {
			k.state.Services = append(k.state.Services, Service{s.Name, s.pid})
		}
	}
	k.mu.Unlock()
	if s.fd == FDBus {
		k.tellBus()
	}
	if err := k.save(); err != nil {
		k.log.Error("saving state", "error", err)
	}
}

// findService finds a server that came with the app, or that another keeper
// started: it has the socket that pid 1 has. The channel will tell of its end.
func (k *keeper) findService(s *service) <-chan int {
	socket, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", k.state.Init.Pid, s.fd))
	if err != nil {
		return nil
	}
	children, err := k.children()
	if err != nil {
		return nil
	}
	for _, host := range children {
		dir := fmt.Sprintf("/proc/%d/fd/", host)
		fds, err := os.ReadDir(dir)
		if err != nil || !slices.ContainsFunc(fds, func(e os.DirEntry) bool { l, err := os.Readlink(dir + e.Name()); return err == nil && l == socket }) {
			continue
		}
		pid, err := kernel.InsidePid(k.state.Init.Pid, host)
		if err != nil {
			continue
		}
		exit := make(chan int, 1)
		k.mu.Lock()
		k.exits[pid] = exit
		k.mu.Unlock()
		k.noteService(s, pid, host)
		return exit
	}
	return nil
}

// cannotStart tells a person, and sends the callers away.
func (k *keeper) cannotStart(s *service, socket *os.File, err error) {
	var e *ExecError
	switch {
	case errors.Is(err, ErrEnded):
		return
	case errors.As(err, &e) && e.Code == 127:
		k.notice(s.Missing())
	default:
		k.notice(fmt.Sprintf("the %s in the capsule does not start: %v", s.Name, err))
	}
	if err := k.save(); err != nil {
		k.log.Error("saving state", "error", err)
	}
	for {
		fd, _, err := unix.Accept4(int(socket.Fd()), unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return
		}
		unix.Close(fd)
	}
}

// lastWord is the last line of a server's log.
func (k *keeper) lastWord(s *service) string {
	b, err := os.ReadFile(filepath.Join(fmt.Sprintf("/proc/%d/root", k.state.Init.Pid), s.Log))
	if s.Log == "" || err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return ": " + strings.TrimSpace(lines[len(lines)-1])
}

// notice tells a person something, by way of who waits for the app; the same
// again only after a while.
func (k *keeper) notice(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state.Notice == text && time.Since(k.noticed) < 10*time.Second {
		return
	}
	k.state.Notice, k.noticed = text, time.Now()
	k.log.Info(text)
	for c := range k.notices {
		select {
		case c <- text:
		default: // it does not listen
		}
	}
}
