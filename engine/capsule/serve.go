package capsule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/terminal"
)

// listen opens the keeper's socket. Its path may be longer than a socket's
// address can be, so it is named through a descriptor of the folder.
func (k *keeper) listen() (*net.UnixListener, error) {
	dir, err := os.Open(k.dir)
	if err != nil {
		return nil, fmt.Errorf("opening the capsule's folder: %w", err)
	}
	defer dir.Close()
	name := fdPath(int(dir.Fd())) + "/" + socketFile
	os.Remove(filepath.Join(k.dir, socketFile)) //nolint:errcheck // a dead keeper's
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("opening the keeper's socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // the name above is gone by then; the folder goes whole
	if err := os.Chmod(filepath.Join(k.dir, socketFile), 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("closing the keeper's socket to others: %w", err)
	}
	return l, nil
}

func (k *keeper) accept(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			k.log.Error("accepting", "error", err)
			time.Sleep(100 * time.Millisecond) // too many descriptors: some will close
			continue
		}
		k.visit(func() {
			defer c.Close()
			if err := k.serve(c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				k.log.Info("client", "error", err)
			}
		})
	}
}

// serve carries out one request.
func (k *keeper) serve(c *net.UnixConn) error {
	c.SetReadDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // a socket
	line, files, err := readLineFDs(c)
	defer func() { closeAll(files) }()
	if err != nil {
		return err
	}
	c.SetReadDeadline(time.Time{}) //nolint:errcheck // a socket
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		answerError(c, fmt.Errorf("not a request: %w", err))
		return err
	}
	switch r.Op {
	case "status":
		k.mu.Lock()
		st := k.state
		k.mu.Unlock()
		return reply(c, response{State: &st})
	case "wait":
		if err := reply(c, response{}); err != nil {
			return err
		}
		k.waitFor(c)
		return nil
	case "gathered":
		return k.whileGathered(c)
	case "attach":
		return k.attach(c, r.Hello)
	case "exec":
		return k.exec(c, &r, files)
	case "part", "pause", "resume":
		return k.portals(c, &r)
	}
	resp, err := k.do(&r)
	if err != nil {
		answerError(c, err)
		return err
	}
	return reply(c, resp)
}

// portals closes or opens them, each request after the one before. They are closed only
// for who hears of it: a move that was cancelled meanwhile, or whose daemon died, may have
// asked for Resume already, or may never do so.
func (k *keeper) portals(c net.Conn, r *request) error {
	k.moving.Lock()
	defer k.moving.Unlock()
	resp, err := k.do(r)
	c.SetWriteDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // a socket
	if err != nil {
		answerError(c, err)
	} else {
		err = reply(c, resp)
	}
	if err != nil && r.Op != "resume" {
		err = errors.Join(err, k.resume())
	}
	return err
}

// resume opens the portals: the app runs on here. It may be asked for again.
func (k *keeper) resume() error {
	k.mu.Lock()
	term := k.term
	k.mu.Unlock()
	if term != nil {
		term.Resume()
	}
	k.reopen()
	return k.become(Running)
}

// do carries out a request that is one answer and no more.
func (k *keeper) do(r *request) (response, error) {
	k.mu.Lock()
	term := k.term
	k.mu.Unlock()
	switch r.Op {
	case "stop":
		return response{}, k.stop(time.Duration(r.Grace))
	case "part":
		return response{}, k.part()
	case "progress":
		k.progress(r.Text, r.Share)
		return response{}, nil
	case "desktop":
		return response{}, k.setDesktop(r.Env)
	case "screen":
		if term == nil {
			return response{}, fmt.Errorf("%s has no terminal", k.state.Spec.Name)
		}
		return response{Screen: term.Screen()}, nil
	case "pause":
		resp := response{}
		if term != nil {
			term.Pause()
			resp.Screen, resp.Held = term.Screen(), term.Held()
		}
		return resp, k.become(Paused)
	case "type":
		k.mu.Lock()
		if !k.typedCame {
			k.typed, k.typedCame = r.Typed, true
		}
		k.mu.Unlock()
		k.tellTyped()
		return response{}, nil
	case "resume":
		return response{}, k.resume()
	case "moved":
		k.mu.Lock()
		k.state.Moved = r.Host
		k.endMain()
		out := k.outcome()
		k.mu.Unlock()
		if term != nil {
			go term.End(out)
		}
		typed := k.leave(r.Host)
		return response{Typed: typed}, k.save()
	case "arrived":
		return response{}, k.arrived(r.Arrive)
	}
	return response{}, fmt.Errorf("unknown request %q: this keeper is of another version of hither", r.Op)
}

func (k *keeper) become(p Phase) error {
	k.mu.Lock()
	k.state.Phase = p
	k.mu.Unlock()
	return k.save()
}

// arrived takes over an app that has been restored here.
func (k *keeper) arrived(a *Arrival) error {
	if a == nil {
		return errors.New("an arrival without its particulars")
	}
	k.mu.Lock()
	if k.state.Phase != Waiting {
		k.mu.Unlock()
		return errors.New("this capsule waits for no app")
	}
	k.state.Main, k.state.Status = a.Main, a.Status
	if a.Status != nil {
		k.endMain()
	}
	k.state.Spec.TTY = a.TTY
	k.mu.Unlock()
	if a.TTY {
		if err := k.openTerminalPortal(a.Screen, a.Held); err != nil {
			return err
		}
	}
	if err := k.become(Running); err != nil {
		return err
	}
	go k.attendServices() // the app waits to run on
	return nil
}

// waitFor tells a client when the app is over here, and stays until it has
// closed: until then the keeper must not go, since the client may still want
// the terminal's last output.
func (k *keeper) waitFor(c net.Conn) {
	gone := make(chan struct{})
	go func() {
		io.Copy(io.Discard, c) //nolint:errcheck // its end is all that counts
		close(gone)
	}()
	notices := make(chan string, 4)
	k.mu.Lock()
	k.notices[notices] = true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.notices, notices)
		k.mu.Unlock()
	}()
	for over := false; !over; {
		select {
		case <-gone:
			return
		case text := <-notices:
			if reply(c, response{Notice: text}) != nil {
				return
			}
		case <-k.mainEnd:
			over = true
		}
	}
	for len(notices) > 0 {
		reply(c, response{Notice: <-notices}) //nolint:errcheck // the next one tells
	}
	k.mu.Lock()
	r := response{Status: k.state.Status, Moved: k.state.Moved}
	k.mu.Unlock()
	if reply(c, r) == nil {
		<-gone
	}
}

// attach joins a client to the app's terminal.
func (k *keeper) attach(c net.Conn, hello terminal.Hello) error {
	k.mu.Lock()
	term, phase := k.term, k.state.Phase
	k.mu.Unlock()
	if term == nil {
		err := fmt.Errorf("%s has no terminal", k.state.Spec.Name)
		if phase == Waiting {
			err = fmt.Errorf("%s is still arriving", k.state.Spec.Name)
		}
		answerError(c, err)
		return err
	}
	if err := reply(c, response{}); err != nil {
		return err
	}
	return term.Serve(context.Background(), c, hello)
}

// exec runs a command beside the app.
func (k *keeper) exec(c net.Conn, r *request, files []*os.File) error {
	err := k.execBeside(c, r, files)
	if err != nil {
		answerError(c, err)
	}
	return err
}

// execBeside returns an error only for what went wrong before the first answer.
func (k *keeper) execBeside(c net.Conn, r *request, files []*os.File) error {
	if r.Exec == nil || len(r.Exec.Argv) == 0 {
		return errors.New("no command given")
	}
	k.mu.Lock()
	phase := k.state.Phase
	k.mu.Unlock()
	if phase != Running {
		return fmt.Errorf("the app is %s", phase)
	}
	o := order{Argv: r.Exec.Argv, Env: r.Exec.Env, Dir: r.Exec.Dir, Umask: r.Exec.Umask, Std: r.Std}
	if o.Env == nil {
		o.Env = k.state.Spec.Env
	} else {
		o.Env = insideEnv(o.Env, os.Getuid(), k.state.Spec.NoDisplay)
	}
	if o.Dir == "" {
		o.Dir = k.state.Spec.Dir
	}
	var term *terminalPortal
	if r.Exec.TTY {
		ptmx := fmt.Sprintf("/proc/%d/root/dev/pts/ptmx", k.state.Init.Pid)
		master, err := openTerminal(ptmx, r.Exec.Winsize, r.Exec.Termios)
		if err != nil {
			return err
		}
		if term, err = newTerminalPortal(os.NewFile(uintptr(master), "terminal"), r.Exec.Winsize); err != nil {
			unix.Close(master)
			return err
		}
		o.Terminal = term.path
	}
	_, exit, err := k.give(&o, files)
	closeAll(files)
	if err != nil {
		if term != nil {
			term.End(terminal.Outcome{Kind: terminal.Lost})
		}
		return err
	}
	if reply(c, response{}) != nil {
		return nil // the command runs on without its client, as after a closed terminal
	}
	if term != nil {
		go func() {
			status := <-exit
			term.End(terminal.Outcome{Kind: terminal.Exited, Status: status})
		}()
		term.Serve(context.Background(), c, r.Hello) //nolint:errcheck // answered already
		// Nobody can come back to this terminal: it is hung up.
		term.End(terminal.Outcome{Kind: terminal.Lost})
		return nil
	}
	status := <-exit
	reply(c, response{Status: &status}) //nolint:errcheck // whoever asked has gone
	return nil
}
