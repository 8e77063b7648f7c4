package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/transport"
)

const switchCommand = "__switch"

// switchRoom is pid 1 of the lab.
type switchRoom struct {
	spec    labSpec
	place   place
	nursery *nursery

	mu    sync.Mutex // guards the links and what is below
	hosts []*roomHost
}

// roomHost is a host as the switch room knows it.
type roomHost struct {
	name  string
	pid   int
	talk  *net.UnixConn
	alive bool
	link  linkStatus
	relay *packetRelay // only where the kernel lacks netem
}

// switchMain runs with the conversation with `up` at descriptor 3 and the lab's lock at 4, which it
// holds open for as long as it lives.
func switchMain() int {
	up, err := unixConn(3, "up")
	if err != nil {
		return complain(err)
	}
	unix.CloseOnExec(4)
	var spec labSpec
	if _, err := receive(up, &spec); err != nil {
		return complain(fmt.Errorf("learning what lab to make: %w", err))
	}
	room := &switchRoom{spec: spec, place: place{name: spec.Name, dir: spec.Dir}}
	listener, err := room.open()
	rep := replyWith(nil, err)
	if send(up, rep) != nil || err != nil {
		return 1 // and with us go all who were started
	}
	up.Close()
	room.serve(listener)
	return 0
}

// open makes the switch and starts all hosts.
func (r *switchRoom) open() (*net.UnixListener, error) {
	surviveSignals()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("parting the lab's mounts from the machine's: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, fmt.Errorf("mounting the lab's /proc: %w (in a container whose /proc is masked this is refused: run the lab outside of it)", err)
	}
	if err := makeSwitch(); err != nil {
		return nil, err
	}
	var err error
	if r.nursery, err = newNursery(); err != nil {
		return nil, err
	}
	for n := 1; n <= r.spec.Hosts; n++ {
		h, err := r.startWarden(n)
		if err != nil {
			return nil, fmt.Errorf("starting host %s: %w", hostName(n), err)
		}
		r.hosts = append(r.hosts, h)
	}
	var peers []transport.Peer
	for i, h := range r.hosts {
		var ready wardenReady
		if _, err := receive(h.talk, &ready); err != nil {
			return nil, fmt.Errorf("host %s died while it started: see %s", h.name, r.place.logFile())
		}
		if ready.Error != "" {
			return nil, fmt.Errorf("starting host %s: %s", h.name, ready.Error)
		}
		peers = append(peers, peerOf(addressOf(i+1), ready.Key))
	}
	if r.spec.Strangers {
		peers = nil
	}
	for _, h := range r.hosts {
		if err := send(h.talk, wardenGo{Peers: peers}); err != nil {
			return nil, err
		}
	}
	for _, h := range r.hosts {
		var done wardenUp
		if _, err := receive(h.talk, &done); err != nil {
			return nil, fmt.Errorf("host %s died while it started: see %s", h.name, r.place.logFile())
		}
		if done.Error != "" {
			return nil, fmt.Errorf("host %s: %s", h.name, done.Error)
		}
		h.talk.Close()
	}
	return listen(r.place.switchSocket())
}

// peerOf is a host as the other hosts' books have it: allowed everything, as between the machines of
// one person.
func peerOf(a hostAddress, key []byte) transport.Peer {
	return transport.Peer{
		ID: transport.IDOf(key), Name: a.Name, Key: key,
		Addresses: []string{
			net.JoinHostPort(a.Addr.String(), fmt.Sprint(transport.DefaultPort)),
			net.JoinHostPort(a.Addr6.String(), fmt.Sprint(transport.DefaultPort)),
		},
		Permissions: map[string]bool{transport.PermitSend: true, transport.PermitBring: true, transport.PermitWatch: true},
	}
}

func listen(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("opening the socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// startWarden starts a host's pid 1, lays its cable and tells it who it is.
func (r *switchRoom) startWarden(number int) (*roomHost, error) {
	h := &roomHost{name: hostName(number), alive: true}
	talk, theirs, err := socketPair("warden")
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	h.talk = talk
	listener, err := listen(r.place.socket(h.name))
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	socket, err := listener.File()
	if err != nil {
		return nil, fmt.Errorf("passing the host's socket on: %w", err)
	}
	defer socket.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		return nil, err
	}
	defer null.Close()
	h.pid, err = r.nursery.start("/proc/self/exe", []string{"hither-lab", wardenCommand, h.name}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/bin:/bin"},
		Files: []uintptr{null.Fd(), 1, 2, theirs.Fd(), socket.Fd()},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
			AmbientCaps: allCapabilities(),
			Setsid:      true,
		},
	}, func(ws syscall.WaitStatus) { r.hostDied(h, ws) })
	if err != nil {
		return nil, fmt.Errorf("starting its first process: %w", err)
	}
	if err := layCable(number, h.pid); err != nil {
		return nil, err
	}
	spec := hostSpec{
		Name: h.name, Number: number, Bin: r.spec.Bin, Shares: r.spec.Shares, Disk: r.spec.Disk, VNC: r.spec.VNC,
		Daemon: r.spec.Daemon, Desktop: r.spec.Desktop,
	}
	for n := 1; n <= r.spec.Hosts; n++ {
		spec.All = append(spec.All, addressOf(n))
	}
	if err := send(h.talk, spec); err != nil {
		return nil, err
	}
	runtime.KeepAlive(null)
	return h, nil
}

func (r *switchRoom) hostDied(h *roomHost, ws syscall.WaitStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.alive = false
	complain(fmt.Errorf("host %s died (status %d)", h.name, shellStatus(ws)))
}

// allCapabilities is every capability the kernel knows: in a new user namespace its first process has
// them all, even where this process lacks one. A number that the kernel does not know is refused.
func allCapabilities() []uintptr {
	var all []uintptr
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil {
			all = append(all, c)
		}
	}
	return all
}

func (r *switchRoom) serve(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			complain(fmt.Errorf("accepting a command: %w", err))
			return
		}
		go func() {
			defer c.Close()
			var req request
			files, err := receive(c, &req)
			closeAll(files)
			if err != nil {
				return
			}
			if req.Op == "down" {
				r.down(c)
			}
			send(c, replyWith(r.do(req)))
		}()
	}
}

// down removes the lab's folder and ends this process, and with it all others of the lab. The client
// waits for our end, not for an answer.
func (r *switchRoom) down(c *net.UnixConn) {
	if err := r.place.remove(); err != nil {
		send(c, replyWith(nil, err))
	}
	os.Exit(0)
}

func (r *switchRoom) do(req request) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch req.Op {
	case "status":
		return r.status(), nil
	case "link":
		return nil, r.each(req.Host, func(h *roomHost) error { return r.shape(h, *req.Shape) })
	case "cut":
		return nil, r.each(req.Host, func(h *roomHost) error { return r.setCut(h, true) })
	case "heal":
		return nil, r.each(req.Host, func(h *roomHost) error { return r.setCut(h, false) })
	}
	return nil, fmt.Errorf("the lab knows no %q: was hither-lab rebuilt since `up`? then `down` and `up` again", req.Op)
}

func (r *switchRoom) status() labStatus {
	s := labStatus{
		Name: r.spec.Name, Up: true, Dir: filepath.Clean(r.spec.Dir), User: os.Getuid(), Home: labHome, Bin: r.spec.Bin,
	}
	for i, h := range r.hosts {
		a := addressOf(i + 1)
		link := h.link
		s.Hosts = append(s.Hosts, hostStatus{
			Name: h.name, Address: a.Addr.String(), Addr6: a.Addr6.String(), Alive: h.alive, Link: &link,
		})
	}
	return s
}

// each does f for one host, or for all if none is named.
func (r *switchRoom) each(host string, f func(*roomHost) error) error {
	found := false
	var errs []error
	for _, h := range r.hosts {
		if host == "" || h.name == host {
			found = true
			errs = append(errs, f(h))
		}
	}
	if !found {
		return noHost(host)
	}
	return errors.Join(errs...)
}

func noHost(host string) error {
	return fmt.Errorf("this lab has no host %q: `hither-lab status` lists them", host)
}
