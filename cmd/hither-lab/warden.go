package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/transport"
)

const wardenCommand = "__warden"

// warden is pid 1 of a host.
type warden struct {
	spec     hostSpec
	uid, gid int
	nursery  *nursery

	mu      sync.Mutex
	hidden  []string // see hide.go
	covered []string // folders with an overlay of ours on them
	hideGen int
	hardCut bool
	desk    desktop // what there is of one
	off     bool    // after `kill HOST all`, until `start HOST`
}

// wardenMain runs with the conversation with the switch room at descriptor 3 and the listening
// socket at 4.
func wardenMain() int {
	room, err := unixConn(3, "switch room")
	if err != nil {
		return complain(err)
	}
	w := &warden{uid: os.Getuid(), gid: os.Getgid()}
	if _, err := receive(room, &w.spec); err != nil {
		return complain(fmt.Errorf("learning who this host is: %w", err))
	}
	listener, key, err := w.boot()
	if err != nil {
		send(room, wardenReady{Error: err.Error()})
		return 1
	}
	desktop := w.beginDesktop()
	if err := send(room, wardenReady{Key: key}); err != nil {
		return complain(err)
	}
	var start wardenGo
	if _, err := receive(room, &start); err != nil {
		return complain(fmt.Errorf("learning the peers: %w", err))
	}
	err = w.pair(start.Peers)
	if err == nil && w.spec.Daemon {
		err = w.startDaemon()
	}
	err = errors.Join(err, <-desktop)
	up := wardenUp{}
	if err != nil {
		up.Error = err.Error()
	}
	if err := send(room, up); err != nil {
		return complain(err)
	}
	room.Close()
	w.serve(listener)
	return 0
}

func complain(err error) int {
	fmt.Fprintf(os.Stderr, "hither-lab: %v\n", err)
	return 1
}

// surviveSignals keeps a pid 1 alive: what runs below it is of the same user and could signal it by
// mistake. The signals are caught, not ignored, because children would inherit that.
func surviveSignals() {
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
}

// boot turns the fresh namespaces into a host.
func (w *warden) boot() (*net.UnixListener, []byte, error) {
	surviveSignals()
	f := os.NewFile(4, "listener")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("taking over the host's socket: %w", err)
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, nil, errors.New("taking over the host's socket: not a unix socket")
	}
	listener.SetUnlinkOnClose(false)
	if err := unix.Sethostname([]byte(w.spec.Name)); err != nil {
		return nil, nil, fmt.Errorf("naming the host: %w", err)
	}
	if err := buildHost(w.spec, w.uid, w.gid); err != nil {
		return nil, nil, err
	}
	if err := plugIn(w.spec); err != nil {
		return nil, nil, err
	}
	if err := os.Chdir("/"); err != nil {
		return nil, nil, err
	}
	if w.nursery, err = newNursery(); err != nil {
		return nil, nil, err
	}
	id, err := transport.LoadIdentity(w.dataDir())
	if err != nil {
		return nil, nil, err
	}
	return listener, id.Public(), nil
}

func (w *warden) dataDir() string { return hitherDir(labHome + "/.local/share") }

// pair writes the host's book of peers: whom a person would have paired by a code, and what he
// would have allowed them.
func (w *warden) pair(peers []transport.Peer) error {
	book, err := transport.OpenTrust(w.dataDir())
	if err != nil {
		return err
	}
	for _, p := range peers {
		if p.Name == w.spec.Name {
			continue
		}
		p.Permissions = map[string]bool{transport.PermitSend: true, transport.PermitBring: true, transport.PermitWatch: true}
		if err := book.Put(p); err != nil {
			return err
		}
	}
	return nil
}

func (w *warden) serve(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			complain(fmt.Errorf("accepting a command: %w", err))
			return
		}
		go w.talk(c)
	}
}

func (w *warden) talk(c *net.UnixConn) {
	defer c.Close()
	var req request
	files, err := receive(c, &req)
	if err != nil {
		return
	}
	defer closeAll(files)
	if req.Op == "exec" {
		w.exec(c, req, files)
		return
	}
	send(c, replyWith(w.do(req)))
}

// do serves every request but exec.
func (w *warden) do(req request) (any, error) {
	switch req.Op {
	case "status":
		return w.status(), nil
	case "kill":
		return w.kill(req.Args)
	case "start":
		return nil, w.start(req.Args)
	case "hide":
		return w.hide(req.Args)
	case "unhide":
		return w.unhide(req.Args)
	case "address":
		return nil, w.setAddress(req.Args)
	case "hardcut":
		return nil, w.setHardCut(true)
	case "hardheal":
		return nil, w.setHardCut(false)
	}
	return nil, fmt.Errorf("this host knows no %q: was hither-lab rebuilt since `up`? then `down` and `up` again", req.Op)
}

func (w *warden) status() hostStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	own := w.spec.own()
	var desk *desktopStatus
	if w.spec.Desktop {
		desk = w.desk.status()
	}
	return hostStatus{
		Name: w.spec.Name, Address: own.Addr.String(), Addr6: own.Addr6.String(), Alive: true, Down: w.off,
		Daemon: w.findDaemon(), Procs: countProcesses(), HardCut: w.hardCut, Hidden: w.hidden, Desktop: desk,
	}
}

func (w *warden) setHardCut(cut bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := setInterface(w.spec, !cut); err != nil {
		return err
	}
	w.hardCut = cut
	return nil
}
