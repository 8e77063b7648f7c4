package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/capsule"
	"hither/engine/handover"
	"hither/engine/move"
)

// copies is the handover.Host: what is left to do with copies of which a dead
// daemon has left a record.
type copies struct{ d *Daemon }

var _ handover.Host = copies{}

// open finds the capsule of a record, if it is the one that was meant.
func (h copies) open(rec *handover.Record) (*capsule.Capsule, error) {
	if rec.Boot != h.d.boot {
		return nil, handover.ErrNoCopy // no process outlives a restart of the machine
	}
	c, err := capsule.Open(rec.App)
	if errors.Is(err, capsule.ErrEnded) {
		return nil, handover.ErrNoCopy
	}
	if err != nil {
		return nil, err
	}
	st, err := c.State()
	if errors.Is(err, capsule.ErrEnded) {
		return nil, handover.ErrNoCopy
	}
	if err != nil {
		return nil, err
	}
	if !st.Init.Alive() || rec.Pid != 0 && (st.Init.Pid != rec.Pid || st.Init.Start != rec.Start) {
		return nil, handover.ErrNoCopy
	}
	return c, nil
}

// Fate see handover.Host. The dead daemon's tracees die a moment after it, and
// its lock may be free before: so it waits until nobody traces pid 1 any more.
func (h copies) Fate(rec *handover.Record) (handover.Fate, error) {
	c, err := h.open(rec)
	if errors.Is(err, handover.ErrNoCopy) {
		return handover.FateNone, nil
	}
	if err != nil {
		return handover.FateNone, err
	}
	if alive, err := untraced(c); err != nil || !alive {
		return handover.FateNone, err
	}
	st, err := c.State()
	if errors.Is(err, capsule.ErrEnded) {
		return handover.FateNone, nil
	}
	if err != nil {
		return handover.FateNone, err
	}
	if st.Phase == capsule.Waiting {
		// Nothing in it has run: the restore had not come to its end.
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		return handover.FateNone, c.Stop(ctx, 0)
	}
	// It may have been let go just before the last byte to pid 1.
	if err := c.Go(); err != nil {
		return handover.FateAlive, fmt.Errorf("letting pid 1 of %s go: %w", rec.Name, err)
	}
	return handover.FateAlive, nil
}

// untraced waits until pid 1 is not traced, and says whether it lives on.
func untraced(c *capsule.Capsule) (bool, error) {
	pid := c.InitPid()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	for range 500 {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil {
			return false, nil
		}
		traced := field(string(status), "TracerPid") != "0"
		killed := pending(string(status), unix.SIGKILL)
		// Wakes at once when it dies.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10)
		if n > 0 && err == nil {
			return false, nil
		}
		if !traced && !killed {
			return true, nil
		}
	}
	return false, fmt.Errorf("pid 1 of capsule %s (process %d) is traced by another program; end that program", c.ID, pid)
}

func field(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func pending(status string, sig unix.Signal) bool {
	for _, name := range []string{"SigPnd", "ShdPnd"} {
		mask, err := strconv.ParseUint(field(status, name), 16, 64)
		if err == nil && mask&(1<<(sig-1)) != 0 {
			return true
		}
	}
	return false
}

// Thaw see handover.Host.
func (h copies) Thaw(rec *handover.Record) error {
	c, err := h.open(rec)
	if err != nil {
		return err
	}
	if alive, err := untraced(c); err != nil {
		return err
	} else if !alive {
		return handover.ErrNoCopy
	}
	pids, err := c.Processes()
	if err != nil {
		return err
	}
	errs := []error{c.GiveProcessorsBack()}
	for _, pid := range pids {
		if pid == c.InitPid() || slices.Contains(rec.Stopped, pid) {
			continue
		}
		if err := unix.Kill(pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("letting process %d run on: %w", pid, err))
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if err := reopen(ctx, c); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// reopen opens the portals of a capsule that a move had closed.
func reopen(ctx context.Context, c *capsule.Capsule) error {
	if err := Adopt(ctx, c); err != nil {
		return err
	}
	st, err := c.Status(ctx)
	if err != nil || st.Phase != capsule.Paused {
		return err
	}
	return c.Resume(ctx)
}

// Release see handover.Host.
func (h copies) Release(rec *handover.Record) (last []byte, err error) {
	c, err := h.open(rec)
	if err != nil && !errors.Is(err, handover.ErrNoCopy) {
		return nil, err
	}
	if err == nil {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		// Who is attached learns where it went; the copy ends with or without that.
		told := Adopt(ctx, c)
		if told == nil {
			last, told = move.Leave(ctx, c, rec.PeerName)
		}
		if err := c.Stop(ctx, 0); err != nil {
			return last, errors.Join(err, told)
		}
	}
	h.d.departed.add(rec.App, departure{Name: rec.Name, Peer: rec.Peer, Host: rec.PeerName})
	return last, nil
}

// TakeLast see handover.Host.
func (h copies) TakeLast(rec *handover.Record, last []byte) error {
	c, err := h.open(rec)
	if err != nil {
		return err
	}
	return move.TakeLast(c, last)
}
