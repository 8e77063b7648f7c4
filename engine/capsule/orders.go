package capsule

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// orderPatience is how long pid 1 may take to fork: it does nothing else, but
// it may be stopped while a move looks at it.
const orderPatience = 10 * time.Second

// startMain starts the app.
func (k *keeper) startMain(index [3]int, files []*os.File) error {
	s := &k.state.Spec
	o := order{Argv: s.Argv, Env: s.Env, Dir: s.Dir, Umask: s.Umask, Std: index, Main: true}
	if s.TTY {
		o.Terminal = k.term.path
	}
	pid, exit, err := k.give(&o, files)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.state.Main, k.mainDue = pid, true
	k.mu.Unlock()
	go k.awaitMain(exit)
	return nil
}

// awaitMain notes the app's exit status.
func (k *keeper) awaitMain(exit <-chan int) { k.mainEnded(<-exit) }

// mainEnded notes that the app's first process has ended, and ends the visits
// to its terminal, which the kernel has hung up by now.
func (k *keeper) mainEnded(status int) {
	k.mu.Lock()
	if k.state.Status == nil {
		k.state.Status = &status
	}
	k.endMain()
	term, out := k.term, k.outcome()
	k.mu.Unlock()
	if err := k.save(); err != nil {
		k.log.Error("saving state", "error", err)
	}
	if term != nil {
		term.End(out)
	}
}

// give has pid 1 fork a child that carries out an order. It returns the
// child's pid inside and a channel for its exit status, once the command has
// been executed.
func (k *keeper) give(o *order, files []*os.File) (int, <-chan int, error) {
	memory, err := jsonMemfd("order", o)
	if err != nil {
		return 0, nil, err
	}
	defer memory.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return 0, nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer r.Close()
	fds := []int{int(memory.Fd()), int(w.Fd())}
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}

	k.ordering.Lock()
	pid, exit, dec, err := k.takeIn(fds, r, w)
	k.ordering.Unlock()
	if err != nil {
		return 0, nil, err
	}
	var a answer
	if err := dec.Decode(&a); err == nil && a.Error != "" {
		return 0, nil, &ExecError{a.Code, a.Error}
	} else if err != nil && err != io.EOF {
		return 0, nil, fmt.Errorf("starting the command in the capsule: %w", err)
	}
	return pid, exit, nil
}

// takeIn sends an order, rings pid 1 and waits until a child has taken it;
// ordering is held, so that answers and reports belong to this order.
func (k *keeper) takeIn(fds []int, r, w *os.File) (int, <-chan int, *json.Decoder, error) {
	defer w.Close()
	refused := make(chan int, 1)
	k.mu.Lock()
	k.pending, k.refused = map[int]int{}, refused
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.pending, k.refused = nil, nil
		k.mu.Unlock()
	}()
	err := unix.Sendmsg(int(k.orders.Fd()), []byte{CommandStart}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if err == nil {
		_, err = k.goPipe.Write([]byte{CommandStart})
	}
	if err != nil {
		return 0, nil, nil, fmt.Errorf("speaking to the capsule's pid 1: %w", err)
	}
	w.Close()
	done, over := make(chan struct{}), make(chan struct{})
	defer func() {
		close(done)
		<-over
		r.SetReadDeadline(time.Time{}) //nolint:errcheck // a pipe
	}()
	go func() { // ends the wait below when no answer can come
		defer close(over)
		select {
		case errno := <-refused:
			refused <- errno
		case <-time.After(orderPatience):
		case <-k.dead: // its pipe ends with it, after what it has said
			select {
			case <-done:
				return
			case <-time.After(orderPatience):
			}
		case <-done:
			return
		}
		r.SetReadDeadline(time.Now()) //nolint:errcheck // a pipe
	}()
	dec := json.NewDecoder(r)
	var a answer
	if err := dec.Decode(&a); err != nil || a.Pid == 0 {
		k.takeBack()
		select {
		case errno := <-refused:
			return 0, nil, nil, fmt.Errorf("starting a process in the capsule: %w", unix.Errno(-errno))
		case <-k.dead:
			return 0, nil, nil, ErrEnded
		case <-time.After(100 * time.Millisecond): // the order's end is seen before pid 1's
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, nil, nil, errors.New("starting a process in the capsule: its pid 1 does not answer (the app may be on the move)")
		}
		return 0, nil, nil, fmt.Errorf("starting a process in the capsule: %w", err)
	}
	exit := make(chan int, 1)
	k.mu.Lock()
	defer k.mu.Unlock()
	if status, ok := k.pending[a.Pid]; ok {
		exit <- status
	} else {
		k.exits[a.Pid] = exit
	}
	return a.Pid, exit, dec, nil
}

// takeBack removes an order that no child took. Its ring may still make pid 1
// fork: a child that finds no order ends at once.
func (k *keeper) takeBack() {
	f, err := descriptorOf(k.pidfd, FDExecChild, "order socket")
	if err != nil {
		return
	}
	defer f.Close()
	oob := make([]byte, unix.CmsgSpace(8*4))
	_, oobn, _, _, err := unix.Recvmsg(int(f.Fd()), make([]byte, 1), oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return
	}
	if ms, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(ms) == 1 {
		fds, _ := unix.ParseUnixRights(&ms[0])
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// reap takes pid 1's reports of ended children.
func (k *keeper) reap(reports *os.File) {
	defer close(k.reaped)
	defer reports.Close()
	var rec [8]byte
	for {
		if _, err := io.ReadFull(reports, rec[:]); err != nil {
			if err != io.EOF {
				k.log.Error("reading exit reports", "error", err)
			}
			return
		}
		pid := int(int32(binary.LittleEndian.Uint32(rec[:])))
		status := int(int32(binary.LittleEndian.Uint32(rec[4:])))
		k.mu.Lock()
		switch ch, ok := k.exits[pid]; {
		case pid == 0:
			select {
			case k.refused <- status: // a nil channel never takes it
			default:
			}
		case ok:
			ch <- exitStatus(status)
			delete(k.exits, pid)
		case k.pending != nil:
			k.pending[pid] = exitStatus(status)
		case pid == k.state.Main && k.state.Status == nil: // an app that came from elsewhere, or from another keeper
			k.mainDue = true
			go k.mainEnded(exitStatus(status))
		}
		k.mu.Unlock()
		k.endIfIdle()
	}
}

// exitStatus is a wait status as a shell has it.
func exitStatus(status int) int {
	ws := unix.WaitStatus(status)
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// awaitEnd waits for the end of a process, by a pidfd that does not block.
func awaitEnd(pidfd *os.File) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n == 1
	})
}

// watch waits for pid 1's end.
func (k *keeper) watch() {
	defer close(k.dead)
	if err := awaitEnd(k.pidFile); err != nil {
		k.log.Error("watching pid 1", "error", err)
	}
	unix.Wait4(k.state.Init.Pid, nil, unix.WNOHANG, nil) //nolint:errcheck // not our child if we adopted it
}
