package capsule

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/display"
	"hither/engine/paths"
)

// Names in a capsule's folder.
const (
	stateFile  = "state.json"
	socketFile = "keeper.sock"
	lockFile   = "keeper.lock"
	logFile    = "keeper.log"
)

// keeper is the process outside that a capsule's portals end in. It holds
// nothing that pid 1 does not hold too, so that a successor can go on.
type keeper struct {
	dir  string
	lock *os.File
	log  *slog.Logger

	pidfd   int
	pidFile *os.File      // the same, for waiting
	dead    chan struct{} // closed when pid 1 has ended
	reaped  chan struct{} // closed when all its reports are read
	goPipe  *os.File      // commands to pid 1
	orders  *os.File      // keeper's end of the order sockets

	mu      sync.Mutex // guards what follows; nothing that blocks is done under it
	state   State
	term    *terminalPortal
	exits   map[int]chan int // pid inside -> its exit status, for who ordered it
	pending map[int]int      // while an order is being taken: exits of unknown pids
	refused chan int         // while an order is being taken: errno of a failed fork or exec
	stopped bool             // somebody asked for the end
	mainDue bool             // somebody is about to call mainEnded
	mainEnd chan struct{}    // closed when the app's first process has ended, or will never end here

	endsWith bool // a process with windows is being waited for, see endWith

	visits  int        // conversations under way
	left    *sync.Cond // mu; one of them is over
	closing bool       // no more are begun

	ordering sync.Mutex // one order at a time; taken before mu
	moving   sync.Mutex // the portals are being closed or opened; taken before starting

	services   []*service           // fixed but for what mu guards in them
	notices    map[chan string]bool // who wants to be told; mu
	noticed    time.Time            // when Notice was told last; mu
	bridge     *display.Bridge      // mu; nil: there is none
	parted     bool                 // mu; the bridge has been told to let go
	shown      bool                 // mu; there has been a bridge
	typed      Typed                // mu; where the app was before, for the first bridge
	typedCame  bool                 // mu; that is known, and not told yet
	reopened   chan struct{}        // mu; closed at the end of what part began, nil otherwise
	backSoon   *time.Timer          // mu; the bridge is about to be told that it may come back
	newDesktop chan struct{}        // mu; closed when State.Desktop changes
	starting   sync.Mutex           // a server or a bridge is being started; taken before ordering

	saving  sync.Mutex // one save at a time; taken before mu
	cleared bool       // saving; the folder is gone
}

// handshake is what Start tells a new keeper.
type handshake struct {
	Spec Spec   `json:"spec"`
	Std  [3]int `json:"std"` // index of the passed file, -1: the terminal or /dev/null
}

// KeeperMain is the hidden command "keeper" ("keeper --adopt ID" to follow one
// that died). Descriptor 3 is a socket to who started it.
func KeeperMain() {
	debug.SetGCPercent(40)
	adopt := ""
	if len(os.Args) > 3 && os.Args[2] == "--adopt" {
		adopt = os.Args[3]
	}
	parent, err := parentConn()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hither keeper:", err)
		os.Exit(1)
	}
	k := &keeper{
		log: slog.New(slog.NewTextHandler(os.Stderr, nil)), pidfd: -1,
		dead: make(chan struct{}), reaped: make(chan struct{}), mainEnd: make(chan struct{}), exits: map[int]chan int{},
		services: newServices(), notices: map[chan string]bool{}, newDesktop: make(chan struct{}),
	}
	k.left = sync.NewCond(&k.mu)
	if adopt != "" {
		err = k.adopt(adopt)
	} else {
		err = k.begin(parent)
	}
	if err != nil {
		k.log.Error("not started", "error", err)
		answerError(parent, err)
		parent.Close()
		os.Exit(1)
	}
	k.run(parent, adopt == "")
}

// parentConn is the socket on descriptor 3.
func parentConn() (*net.UnixConn, error) {
	unix.CloseOnExec(3)
	f := os.NewFile(3, "parent")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("a keeper is started by hither run, not by hand: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.New("a keeper is started by hither run, not by hand")
	}
	return u, nil
}

// hold takes hold of pid 1: the same for the first keeper and for a successor.
func (k *keeper) hold(pid int) error {
	start, err := startTime(pid)
	if err != nil {
		return err
	}
	if k.state.Init.Pid == pid && k.state.Init.Start != start {
		return ErrEnded
	}
	k.state.Init = Proc{pid, start}
	if k.pidfd, err = unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err != nil {
		return fmt.Errorf("finding the capsule's pid 1: %w", err)
	}
	k.pidFile = os.NewFile(uintptr(k.pidfd), "pid 1")
	go k.watch()
	self, err := startTime(os.Getpid())
	if err != nil {
		return err
	}
	k.state.Keeper = Proc{os.Getpid(), self}
	if k.goPipe, err = descriptorOf(k.pidfd, FDGoWrite, "command pipe"); err != nil {
		return err
	}
	if k.orders, err = descriptorOf(k.pidfd, FDExecKeeper, "order socket"); err != nil {
		return err
	}
	exits, err := descriptorOf(k.pidfd, FDExitRead, "report pipe")
	if err != nil {
		return err
	}
	if k.state.Spec.TTY && k.state.Phase != Waiting {
		if err := k.openTerminalPortal(nil, nil); err != nil {
			return err
		}
	}
	if k.state.Net != "" {
		if err := k.startNetwork(); err != nil {
			return err
		}
	}
	go k.reap(exits)
	if k.state.Phase != Waiting {
		k.attendServices()
	}
	return nil
}

// takeLock makes this the capsule's only keeper.
func (k *keeper) takeLock(patience time.Duration) error {
	f, err := os.OpenFile(filepath.Join(k.dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("opening the capsule's lock: %w", err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			k.lock = f
			return nil
		}
		if time.Now().After(end) {
			f.Close()
			return ErrKept
		}
	}
}

// adopt goes on where a dead keeper left off.
func (k *keeper) adopt(id string) error {
	all, err := paths.Capsules()
	if err != nil {
		return err
	}
	k.dir = filepath.Join(all, id)
	if !paths.ValidID(id) {
		return fmt.Errorf("capsule id %q is not valid", id)
	}
	if k.state, err = readState(k.dir); err != nil {
		return err
	}
	if err := k.takeLock(500 * time.Millisecond); err != nil {
		return err
	}
	if k.state, err = readState(k.dir); err != nil { // as the last keeper left it
		return err
	}
	if k.state.Status != nil || k.state.Moved != "" {
		close(k.mainEnd)
	}
	if !k.state.Init.Alive() {
		os.RemoveAll(k.dir) //nolint:errcheck // only litter
		return ErrEnded
	}
	if k.state.Phase == Paused { // a move that asked for it must ask again
		k.state.Phase = Running
	}
	if len(k.state.Desktop) == 0 {
		k.state.Desktop = desktopOf(os.Environ())
	}
	if err := k.hold(k.state.Init.Pid); err != nil {
		return err
	}
	if k.term != nil && (k.state.Status != nil || k.state.Moved != "") {
		go k.term.End(k.outcome())
	}
	go k.endIfIdle() // the last keeper may have died before it could
	return nil
}

// run serves until the capsule has ended; first says that this keeper made it.
func (k *keeper) run(parent *net.UnixConn, first bool) {
	listener, err := k.listen()
	if err == nil {
		err = k.save()
	}
	if err != nil {
		k.log.Error("not serving", "error", err)
		answerError(parent, err)
		// The app runs; only nobody can speak to it until a successor comes.
		os.Exit(1)
	}
	go k.accept(listener)
	k.visit(func() {
		k.mu.Lock()
		st := k.state
		k.mu.Unlock()
		defer parent.Close()
		if reply(parent, response{State: &st}) == nil {
			k.waitFor(parent)
		} else if first {
			// Who wanted the app has gone before it could know of it.
			k.stop(0) //nolint:errcheck // pid 1 has ended then
		}
	})
	debug.FreeOSMemory()
	<-k.dead
	k.finish()
	k.farewell()
	listener.Close()
	k.clear()
}

// visit runs a conversation that must be over before the keeper goes: who
// started the app may want its last output after its end.
func (k *keeper) visit(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing {
		return
	}
	k.visits++
	go func() {
		f()
		k.mu.Lock()
		k.visits--
		k.mu.Unlock()
		k.left.Broadcast()
	}()
}

// farewell waits until nobody is left.
func (k *keeper) farewell() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.visits > 0 {
		k.left.Wait()
	}
	k.closing = true
}

// finish tells everybody that the capsule has ended.
func (k *keeper) finish() {
	select {
	case <-k.reaped:
	case <-time.After(time.Second):
	}
	k.mu.Lock()
	k.state.Phase = Ended
	for pid, ch := range k.exits { // killed with pid 1, unreported
		ch <- 128 + int(syscall.SIGKILL)
		delete(k.exits, pid)
	}
	if k.mainDue {
		k.mu.Unlock()
		<-k.mainEnd
		k.mu.Lock()
	}
	if k.state.Status == nil && k.state.Moved == "" {
		killed := 128 + int(syscall.SIGKILL)
		k.state.Status = &killed
	}
	k.endMain()
	term, out, bridge := k.term, k.outcome(), k.bridge
	k.mu.Unlock()
	if term != nil {
		term.End(out)
	}
	k.endBridge(bridge)
	if err := k.save(); err != nil {
		k.log.Error("saving state", "error", err)
	}
}

// endMain marks the app's first process as over; mu is held.
func (k *keeper) endMain() {
	select {
	case <-k.mainEnd:
	default:
		close(k.mainEnd)
	}
}

// save writes the state file.
func (k *keeper) save() error {
	k.saving.Lock()
	defer k.saving.Unlock()
	if k.cleared {
		return nil
	}
	k.mu.Lock()
	st := k.state
	k.mu.Unlock()
	return writeState(k.dir, &st)
}

// clear removes the capsule's folder.
func (k *keeper) clear() {
	k.saving.Lock()
	defer k.saving.Unlock()
	k.cleared = true
	os.RemoveAll(k.dir) //nolint:errcheck // nothing more can be done
}
