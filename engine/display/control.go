package display

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The control socket between a keeper and its bridge: lines of JSON, one Order
// each way down, one answer each way up.
//
//	keeper -> bridge                       bridge -> keeper
//	begin     show the windows; the first
//	bus       the session bus runs now, or it does not any more
//	part      let go of the capsule    ->  parted
//	progress  how far the move is; between part and what ends it
//	back      take hold of it again: the app has not moved
//	left      it lives on another     ->  typed: what was typed at them since part
//	          host: take the windows away, and end
//	typed     that, where the app has arrived
//	(end of the stream)                    the same: take the windows away, and end
//
// To let go is: send no more input, release all keys and buttons, hand the
// clipboard over, give back shared memory, and then hang up in the way of HangUp on
// every connection into the capsule, which sees to it that the server, too, holds
// none to the outside any more. The windows stay on the desktop as their last
// pictures, and what is typed at them, to the very end, is kept for the app: it gets
// that when it is taken hold of again, here, or on another host by way of the move.
//
// A bridge must not call the bus before it has been told that it runs: it would
// start it.
type Order struct {
	Op string `json:"op"`
	// Begin says what to show.
	Begin *Begin `json:"begin,omitempty"`
	Host  string `json:"host,omitempty"` // left: where it went
	// Bus is the session bus's socket as this process reaches it, "" if it does
	// not run.
	Bus   string  `json:"bus,omitempty"`
	Text  string  `json:"text,omitempty"`  // progress: for a person
	Share float64 `json:"share,omitempty"` // progress: from 0 to 1
	// Typed is what was typed at the app's windows on the host that it left, at most
	// MaxStrokes.
	Typed []Stroke `json:"typed,omitempty"`
}

// Begin is what a bridge is told of its capsule.
type Begin struct {
	Socket string `json:"socket"`         // of the X server, as this process reaches it
	Init   int    `json:"init,omitempty"` // pid 1 of the capsule, as this process sees it
	ID     string `json:"id"`             // of the capsule
	Name   string `json:"name"`           // of the app
	Bus    string `json:"bus,omitempty"`  // as in Order
	Origin string `json:"origin,omitempty"`
	// Arrived: the app has just come from another host, and what was typed at its
	// windows there is about to come after it.
	Arrived bool `json:"arrived,omitempty"`
}

// Stroke is a key that was pressed or released in a window of the app's.
type Stroke struct {
	Window uint32 `json:"window"` // inside
	Code   uint8  `json:"code"`   // as the X servers have it
	Press  bool   `json:"press,omitempty"`
}

// MaxStrokes is how many are kept: a person's, but not those of a cat that sleeps on
// the keyboard.
const MaxStrokes = 1000

// What an order says.
const (
	OpBegin    = "begin"
	OpBus      = "bus"
	OpPart     = "part"
	OpProgress = "progress"
	OpTyped    = "typed"
	OpBack     = "back"
	OpLeft     = "left"
)

type said struct {
	Parted bool      `json:"parted,omitempty"`
	Typed  *[]Stroke `json:"typed,omitempty"`
}

const maxOrder = 64 << 10

// controlFD is where a bridge finds the control socket.
const controlFD = 3

// Keeper is a bridge's way to its keeper. Next is for one goroutine.
type Keeper struct {
	conn *net.UnixConn
	in   *bufio.Reader
}

// OpenKeeper takes the control socket that the bridge was started with, and
// reads what to show.
func OpenKeeper() (*Keeper, *Begin, error) {
	unix.CloseOnExec(controlFD)
	f := os.NewFile(controlFD, "control socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, nil, fmt.Errorf("a bridge is started by a keeper, not by hand: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, nil, errors.New("a bridge is started by a keeper, not by hand")
	}
	k := &Keeper{u, bufio.NewReaderSize(u, maxOrder)}
	o, err := k.Next()
	if err != nil {
		return nil, nil, err
	}
	if o.Op != OpBegin || o.Begin == nil {
		return nil, nil, fmt.Errorf("the keeper began with %q", o.Op)
	}
	return k, o.Begin, nil
}

// Next waits for an order. io.EOF: the keeper is done with the bridge.
func (k *Keeper) Next() (*Order, error) {
	line, err := k.in.ReadSlice('\n')
	if err != nil {
		if len(line) == 0 && (errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("reading the keeper's order: %w", err)
	}
	o := new(Order)
	if err := json.Unmarshal(line, o); err != nil {
		return nil, fmt.Errorf("reading the keeper's order: %w", err)
	}
	return o, nil
}

// Parted answers to OpPart: nothing holds the X server any more.
func (k *Keeper) Parted() error { return writeLine(k.conn, said{Parted: true}) }

// Typed answers to OpLeft.
func (k *Keeper) Typed(list []Stroke) error {
	if list == nil {
		list = []Stroke{} // nil would be null, which is no answer
	}
	return writeLine(k.conn, said{Typed: &list})
}

// clipped is no more than a person's.
func clipped(list []Stroke) []Stroke { return list[:min(len(list), MaxStrokes)] }

func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// HangUp closes a connection to the X server so that the server has closed its
// end, too, when it returns: it tells the server that no more comes, and reads on
// until the server hangs up. What it reads is thrown away. Nobody else may be
// reading. It waits no longer than patience.
func HangUp(c *net.UnixConn, patience time.Duration) error {
	defer c.Close()
	if err := c.CloseWrite(); err != nil && !errors.Is(err, unix.ENOTCONN) {
		return fmt.Errorf("hanging up on the X server: %w", err)
	}
	c.SetReadDeadline(time.Now().Add(patience)) //nolint:errcheck // a socket
	buf := make([]byte, 64<<10)
	for {
		_, err := c.Read(buf)
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("waiting for the X server to hang up: %w", err)
		}
	}
}

// Bridge is a bridge process as its keeper has it.
type Bridge struct {
	cmd  *exec.Cmd
	conn *net.UnixConn
	done chan struct{}
	err  error // when done

	mu     sync.Mutex
	parted chan struct{} // closed by its answer; nil: not asked
	typed  chan []Stroke // given its answer; nil: not asked
}

// StartBridge runs cmd as a bridge, with the control socket as its descriptor 3.
func StartBridge(cmd *exec.Cmd, begin Begin) (*Bridge, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a socket to the bridge: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "bridge"), os.NewFile(uintptr(pair[1]), "bridge")
	defer ours.Close()
	defer theirs.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("making a socket to the bridge: %w", err)
	}
	b := &Bridge{cmd: cmd, conn: c.(*net.UnixConn), done: make(chan struct{})}
	cmd.ExtraFiles = []*os.File{theirs}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if err := cmd.Start(); err != nil {
		c.Close()
		return nil, fmt.Errorf("starting the bridge: %w", err)
	}
	theirs.Close() // so that its death ends the stream
	heard := make(chan struct{})
	go func() { b.listen(); close(heard) }()
	go func() {
		b.err = cmd.Wait()
		<-heard // its last words, too
		b.conn.Close()
		close(b.done)
	}()
	return b, b.tell(Order{Op: OpBegin, Begin: &begin})
}

func (b *Bridge) tell(o Order) error {
	// A bridge that is stopped must not hold up its keeper.
	b.conn.SetWriteDeadline(time.Now().Add(time.Second)) //nolint:errcheck // a socket
	if err := writeLine(b.conn, o); err != nil {
		return fmt.Errorf("telling the bridge to %s: %w", o.Op, err)
	}
	return nil
}

func (b *Bridge) listen() {
	in := bufio.NewReaderSize(b.conn, maxOrder)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return // its death is seen by Wait
		}
		var s said
		if json.Unmarshal(line, &s) != nil {
			continue
		}
		b.mu.Lock()
		if s.Parted && b.parted != nil {
			close(b.parted)
			b.parted = nil
		}
		if s.Typed != nil && b.typed != nil {
			b.typed <- *s.Typed
			b.typed = nil
		}
		b.mu.Unlock()
	}
}

// Part has it let go of the X server, and returns when it has, or is dead. One
// that takes longer than patience is killed, which lets go as well.
func (b *Bridge) Part(patience time.Duration) error {
	parted := make(chan struct{})
	b.mu.Lock()
	b.parted = parted
	b.mu.Unlock()
	err := b.tell(Order{Op: OpPart})
	if err == nil {
		select {
		case <-parted:
			return nil
		case <-b.done:
			return fmt.Errorf("the bridge ended instead of letting go: %w", ended(b.err))
		case <-time.After(patience):
			err = fmt.Errorf("the bridge did not let go within %v", patience)
		}
	}
	b.kill()
	return err
}

// Left tells it that the app lives on another host. It takes the windows away, says
// what was typed at them since Part, and ends; one that does not answer has nothing
// to say.
func (b *Bridge) Left(host string, patience time.Duration) []Stroke {
	typed := make(chan []Stroke, 1)
	b.mu.Lock()
	b.typed = typed
	b.mu.Unlock()
	if b.tell(Order{Op: OpLeft, Host: host}) != nil {
		return nil
	}
	select {
	case list := <-typed:
		return clipped(list)
	case <-b.done: // it may have answered before
		select {
		case list := <-typed:
			return clipped(list)
		default:
		}
	case <-time.After(patience):
	}
	return nil
}

// Typed tells it what Left has returned on the host that the app left.
func (b *Bridge) Typed(list []Stroke) error { return b.tell(Order{Op: OpTyped, Typed: clipped(list)}) }

func (b *Bridge) kill() {
	b.cmd.Process.Kill() //nolint:errcheck // it may have ended
	<-b.done
}

// Back has it take hold of the X server again.
func (b *Bridge) Back() error { return b.tell(Order{Op: OpBack}) }

// Bus tells it that the session bus runs, or ("") that it does not.
func (b *Bridge) Bus(path string) error { return b.tell(Order{Op: OpBus, Bus: path}) }

// Progress tells it how far the move is.
func (b *Bridge) Progress(text string, share float64) error {
	return b.tell(Order{Op: OpProgress, Text: text, Share: share})
}

// End tells it that there is nothing more to show, and waits for its end, which
// is a violent one if it takes longer than patience.
func (b *Bridge) End(patience time.Duration) {
	b.conn.CloseWrite() //nolint:errcheck // it may have gone
	select {
	case <-b.done:
	case <-time.After(patience):
		b.kill()
	}
}

// Done is closed when the process has ended; Err says how, then.
func (b *Bridge) Done() <-chan struct{} { return b.done }

// Err is how it ended.
func (b *Bridge) Err() error { return b.err }

func ended(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
