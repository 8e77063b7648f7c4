package capsule

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/terminal"
)

// one asks for something that is one answer.
func (c *Capsule) one(ctx context.Context, r *request) (response, error) {
	conn, err := c.dial()
	if err != nil {
		return response{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })() //nolint:errcheck // a socket
	resp, err := converse(conn, r, nil)
	if ctx.Err() != nil {
		return resp, ctx.Err()
	}
	return resp, err
}

// Status asks the keeper for the capsule's state; ErrNoKeeper if it is dead.
func (c *Capsule) Status(ctx context.Context) (State, error) {
	r, err := c.one(ctx, &request{Op: "status"})
	if err != nil {
		return State{}, fmt.Errorf("asking for the state of %s: %w", c.first.Spec.Name, err)
	}
	if r.State == nil {
		return State{}, errors.New("the keeper gave no state")
	}
	return *r.State, nil
}

// Exec runs a command beside the app, with these files as its stdio, and
// returns its exit status.
func (c *Capsule) Exec(ctx context.Context, s ExecSpec, stdio [3]*os.File) (int, error) {
	r := request{Op: "exec", Exec: &s}
	s.TTY = false
	var files []*os.File
	for i, f := range stdio {
		r.Std[i] = -1
		if f != nil {
			r.Std[i] = len(files)
			files = append(files, f)
		}
	}
	conn, _, err := c.ask(&r, files)
	if err != nil {
		return 0, fmt.Errorf("running %s in %s: %w", strings.Join(s.Argv, " "), c.first.Spec.Name, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })() //nolint:errcheck // a socket
	end, err := readResponse(conn)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil || end.Status == nil {
		return 0, fmt.Errorf("running %s in %s: its end is not known: %w", strings.Join(s.Argv, " "), c.first.Spec.Name, err)
	}
	return *end.Status, nil
}

// ExecTerminal runs a command beside the app on a terminal of its own: package
// terminal's Client speaks over the connection. That terminal does not outlive
// the connection, nor does it move.
func (c *Capsule) ExecTerminal(s ExecSpec, hello terminal.Hello) (net.Conn, error) {
	s.TTY = true
	conn, _, err := c.ask(&request{Op: "exec", Exec: &s, Hello: hello, Std: [3]int{-1, -1, -1}}, nil)
	if err != nil {
		return nil, fmt.Errorf("running %s in %s: %w", strings.Join(s.Argv, " "), c.first.Spec.Name, err)
	}
	return conn, nil
}

// Stop ends the capsule: all its processes are asked to end, and after grace
// what is left is killed. It works without a keeper, too, but then at once.
func (c *Capsule) Stop(ctx context.Context, grace time.Duration) error {
	_, err := c.one(ctx, &request{Op: "stop", Grace: int64(grace)})
	switch {
	case err == nil, errors.Is(err, ErrEnded):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	fd, err := c.first.Init.pidfd()
	if err != nil {
		return nil // it has ended
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("stopping %s: %w", c.first.Spec.Name, err)
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for ctx.Err() == nil {
		if n, err := unix.Poll(fds, 100); err == nil && n > 0 {
			c.clear()
			return nil
		}
	}
	return ctx.Err()
}

// Pause closes the portals for a move, once the app is frozen: the terminal's
// picture and what was typed there and not yet taken go along.
func (c *Capsule) Pause(ctx context.Context) (screen, held []byte, err error) {
	r, err := c.one(ctx, &request{Op: "pause"})
	if err != nil {
		return nil, nil, fmt.Errorf("closing the portals of %s: %w", c.first.Spec.Name, err)
	}
	return r.Screen, r.Held, nil
}

// Type gives an app that has arrived what was typed at its windows on the host that
// it left, until these went. Without that its windows here wait a while for it.
func (c *Capsule) Type(ctx context.Context, typed Typed) error {
	if _, err := c.one(ctx, &request{Op: "type", Typed: typed}); err != nil {
		return fmt.Errorf("typing what was typed at the windows of %s where it was: %w", c.first.Spec.Name, err)
	}
	return nil
}

// Portals are the descriptors of pid 1 that travel with the app, those of them
// that it has: its terminal's master, and the sockets of its display and its bus.
func (c *Capsule) Portals() []int {
	var fds []int
	for _, fd := range []int{FDTerminal, FDDisplay, FDBus} {
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.InitPid(), fd)); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}

// Part makes the capsule let go of the desktop: its windows stay there as
// pictures. It comes before the app is frozen, since its X server must do its part,
// and may be asked for again. Resume undoes it.
func (c *Capsule) Part(ctx context.Context) error {
	if _, err := c.one(ctx, &request{Op: "part"}); err != nil {
		return fmt.Errorf("taking %s off the desktop: %w", c.first.Spec.Name, err)
	}
	return nil
}

// Progress shows on the app's windows how far its move is, between Part and its
// end; share is from 0 to 1. Some ten times a second is plenty.
func (c *Capsule) Progress(ctx context.Context, text string, share float64) error {
	if _, err := c.one(ctx, &request{Op: "progress", Text: text, Share: share}); err != nil {
		return fmt.Errorf("telling how far %s is: %w", c.first.Spec.Name, err)
	}
	return nil
}

// Desktop shows the app's windows on the desktop that these environment variables
// name, from now on.
func (c *Capsule) Desktop(ctx context.Context, env []string) error {
	if _, err := c.one(ctx, &request{Op: "desktop", Env: desktopOf(env)}); err != nil {
		return fmt.Errorf("showing the windows of %s: %w", c.first.Spec.Name, err)
	}
	return nil
}

// Resume opens them again: the app has not moved.
func (c *Capsule) Resume(ctx context.Context) error {
	if _, err := c.one(ctx, &request{Op: "resume"}); err != nil {
		return fmt.Errorf("opening the portals of %s: %w", c.first.Spec.Name, err)
	}
	return nil
}

// Screen is what the capsule's terminal shows, as terminal.Screen returns it and
// terminal.Look reads it. Nobody is attached for it, and the app does not notice.
func (c *Capsule) Screen(ctx context.Context) ([]byte, error) {
	r, err := c.one(ctx, &request{Op: "screen"})
	if err != nil {
		return nil, fmt.Errorf("looking at the terminal of %s: %w", c.first.Spec.Name, err)
	}
	return r.Screen, nil
}

// Moved tells the keeper, and through it who is attached or waits, that the app
// lives on another host from now on. Its windows here go, and what was typed at them
// since Part is the app's there, see Type. Kill comes next.
func (c *Capsule) Moved(ctx context.Context, host string) (Typed, error) {
	r, err := c.one(ctx, &request{Op: "moved", Host: host})
	if err != nil {
		return nil, fmt.Errorf("telling that %s has moved: %w", c.first.Spec.Name, err)
	}
	return r.Typed, nil
}

// Kill ends the capsule here at once, without asking anybody.
func (c *Capsule) Kill() error {
	fd, err := c.first.Init.pidfd()
	if err != nil {
		return nil // it has ended
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("killing pid 1 of %s: %w", c.first.Spec.Name, err)
	}
	return nil
}

// Arrived tells the keeper of an arriving capsule that its app is restored: its
// terminal opens. Go comes next.
func (c *Capsule) Arrived(ctx context.Context, a Arrival) error {
	if _, err := c.one(ctx, &request{Op: "arrived", Arrive: &a}); err != nil {
		return fmt.Errorf("taking %s in: %w", c.first.Spec.Name, err)
	}
	return nil
}

// Go lets pid 1 of an arriving capsule begin to reap. Without a child it ends.
func (c *Capsule) Go() error {
	f, err := c.Descriptor(FDGoWrite)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write([]byte{CommandGo}); err != nil {
		return fmt.Errorf("starting pid 1 of %s: %w", c.first.Spec.Name, err)
	}
	return nil
}

// Descriptor is a duplicate of one of the descriptors that pid 1 holds (FDNet ...).
func (c *Capsule) Descriptor(fd int) (*os.File, error) {
	pidfd, err := c.first.Init.pidfd()
	if err != nil {
		return nil, err
	}
	defer unix.Close(pidfd)
	return descriptorOf(pidfd, fd, fmt.Sprintf("descriptor %d", fd))
}

// AdoptKeeper starts a new keeper for a capsule whose keeper died; ErrKept if
// it has one, ErrEnded if the capsule is no more.
func (c *Capsule) AdoptKeeper(ctx context.Context) error {
	if _, err := readState(c.dir); err != nil {
		return err
	}
	conn, err := startKeeper(c.dir, []string{"--adopt", c.ID}, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })() //nolint:errcheck // a socket
	r, err := readResponse(conn)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = r.err()
	}
	if err != nil {
		return fmt.Errorf("giving %s a new keeper: %w", c.first.Spec.Name, err)
	}
	if st, err := readState(c.dir); err == nil {
		c.first = st
	}
	return nil
}
