package daemon

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/handover"
	"hither/engine/paths"
)

// Adopt sees to it that a capsule has a keeper that answers, and gives it a new
// one if its keeper died.
func Adopt(ctx context.Context, c *capsule.Capsule) error {
	for tries := 0; ; tries++ {
		_, err := c.Status(ctx)
		if err == nil || !errors.Is(err, capsule.ErrNoKeeper) || tries == 100 {
			return err
		}
		if err := c.AdoptKeeper(ctx); err != nil && !errors.Is(err, capsule.ErrKept) {
			return err
		}
		// Kept: somebody else is about to give it one.
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func listCapsules() ([]*capsule.Capsule, error) {
	dir, err := paths.Capsules()
	if err != nil {
		return nil, err
	}
	return capsule.List(dir)
}

// sweep runs once at the start: capsules of moves that a dead daemon has left
// half done are cleared away, or opened again.
func (d *Daemon) sweep() error {
	all, err := listCapsules()
	if err != nil {
		return err
	}
	busy := map[string]bool{}
	for _, p := range d.moves.Pending() {
		busy[p.App] = true
		if p.State == "damaged" {
			return errors.New(p.Reason) // it may be of any of them
		}
	}
	var errs []error
	for _, c := range all {
		if busy[c.ID] {
			continue
		}
		st, err := c.State()
		if err != nil {
			continue // it ends just now
		}
		errs = append(errs, c.GiveProcessorsBack())
		ctx, stop := context.WithTimeout(d.ctx, 10*time.Second)
		switch st.Phase {
		case capsule.Waiting: // made for an app that never came
			errs = append(errs, c.Stop(ctx, 0))
		case capsule.Paused: // the app has run on, but its portals are closed
			errs = append(errs, reopen(ctx, c))
		}
		stop()
	}
	return errors.Join(append(errs, d.sweepLayers(busy))...)
}

// watchCapsules follows the folder of capsules: those that come get a guard.
func (d *Daemon) watchCapsules() {
	if err := d.watch(); err != nil && d.ctx.Err() == nil {
		log.Printf("watching for capsules: %v", err)
	}
}

func (d *Daemon) watch() error {
	dir, err := paths.Capsules()
	if err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return err
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	defer context.AfterFunc(d.ctx, func() { events.Close() })()
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_TO); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		// A new folder has its state file later, by a rename, which is told once. What it has meanwhile is found.
		for _, making := range capsule.Making(dir) {
			unix.InotifyAddWatch(fd, making, unix.IN_MOVED_TO|unix.IN_ONESHOT) //nolint:errcheck // it may just have gone
		}
		d.guardAll()
		d.events.tell(control.Event{Event: "apps"})
		if _, err := events.Read(buf); err != nil {
			return err
		}
		// What happens at once is told once.
		select {
		case <-time.After(200 * time.Millisecond):
		case <-d.ctx.Done():
			return nil
		}
	}
}

func (d *Daemon) guardAll() {
	all, err := listCapsules()
	if err != nil {
		log.Printf("%v", err)
		return
	}
	for _, c := range all {
		d.mu.Lock()
		has := d.guards[c.ID]
		d.guards[c.ID] = true
		d.mu.Unlock()
		if !has {
			d.work.Go(func() { d.guard(c) })
		}
	}
}

// guard gives a capsule a new keeper when its keeper dies, and ends with it.
func (d *Daemon) guard(c *capsule.Capsule) {
	last := c.Spec()
	defer func() {
		d.mu.Lock()
		delete(d.guards, c.ID)
		d.mu.Unlock()
		if d.ctx.Err() == nil {
			d.guardOver(last)
		}
		d.events.tell(control.Event{Event: "apps", App: c.Spec().Name})
	}()
	for tries := 0; d.ctx.Err() == nil; {
		st, err := c.State()
		if err != nil {
			return // it is no more
		}
		last = st.Spec
		if st.Keeper.Alive() {
			if err := ended(d.ctx, st.Keeper.Pid); err != nil {
				log.Printf("watching the keeper of %s: %v", st.Spec.Name, err)
				return
			}
			tries = 0
		}
		if d.ctx.Err() != nil {
			return
		}
		if st, err = c.State(); err != nil {
			return
		}
		if st.Keeper.Alive() {
			continue // somebody else has given it one
		}
		if !st.Init.Alive() {
			listCapsules() //nolint:errcheck // clears away what it left
			return
		}
		log.Printf("the keeper of %s died; giving it a new one", st.Spec.Name)
		err = c.AdoptKeeper(d.ctx)
		if tries++; err != nil && !errors.Is(err, capsule.ErrKept) {
			log.Printf("%v", err)
			if tries > 5 {
				return
			}
			select {
			case <-time.After(time.Duration(tries) * time.Second):
			case <-d.ctx.Done():
			}
		}
	}
}

// ended waits for the end of a process that is not a child.
func ended(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })() //nolint:errcheck // then it waits longer
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 && err == nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// pendingOf is the unsettled move of an app.
func (d *Daemon) pendingOf(id string) *handover.Pending {
	list := d.moves.Pending()
	i := slices.IndexFunc(list, func(p handover.Pending) bool { return p.App == id && p.State != "running" })
	if i < 0 {
		return nil
	}
	return &list[i]
}
