package handle

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/kernel"
)

// Proc is a process of the capsule.
type Proc struct {
	Pid    int // as this process numbers it
	Inner  int // as the capsule does
	Zombie bool
}

// Input is what Capture wants to know.
type Input struct {
	Procs   []Proc
	InitPid int     // pid 1 of the capsule, as this process numbers it
	Portals []int   // descriptors of pid 1 that travel: terminal masters
	Inodes  *Inodes // shared with the capture of memory
	Watched Watched // what was found out beforehand; may be nil
	// Diag is a NETLINK_SOCK_DIAG socket of the capsule's network namespace
	// (see OpenDiag). Negative: this process is in the same namespace.
	Diag int
}

// Captured is what Capture found.
type Captured struct {
	Handles []image.Handle
	Tables  map[int][]image.Descriptor // by inner pid, ascending
	Locks   []image.Lock
	Portals []image.Descriptor
	// SharedFDs and DeletedFDs are duplicates from which the bytes of memfds
	// (by shared-memory id) and of deleted files (by file id) can be read.
	SharedFDs  map[uint32]int
	DeletedFDs map[uint32]int

	undo []func()
}

// Undo puts back what Capture had to disturb. It is for a move that is called
// off, before the processes run on; it may be called once.
func (c *Captured) Undo() {
	for i := len(c.undo) - 1; i >= 0; i-- {
		c.undo[i]()
	}
	c.undo = nil
}

// Close lets go of the duplicates.
func (c *Captured) Close() {
	for _, fd := range c.SharedFDs {
		unix.Close(fd)
	}
	for _, fd := range c.DeletedFDs {
		unix.Close(fd)
	}
	c.SharedFDs, c.DeletedFDs = nil, nil
}

// desc is one open file description while it is captured.
type desc struct {
	id    uint32
	fd    int // a duplicate in this process
	seen  seen
	flags int // F_GETFL
	info  fdinfo
	kind  *kind
	from  Problem // who holds it, for messages

	queue []unixMessage // unix sockets only
	sock  *unixSocket   // unix sockets only
}

// capturer is one Capture under way.
type capturer struct {
	in       Input
	out      *Captured
	descs    []*desc
	known    map[descKey][]*desc // each sorted by kcmp
	problems Refused
	inner    map[int]int // host pid -> pid inside

	diag   *unixDiag
	buffer []byte        // for what waits in sockets
	terms  map[int]*desc // masters by index
	pipes  map[pipeKey]*pipeState
	locks  map[image.Lock]bool // of processes, by owner, description and range
}

// Capture records every descriptor of stopped processes. The error is Refused
// when there are things that cannot be carried.
func Capture(in Input) (*Captured, error) {
	c := &capturer{in: in, known: map[descKey][]*desc{}, inner: map[int]int{}, terms: map[int]*desc{}, pipes: map[pipeKey]*pipeState{}, locks: map[image.Lock]bool{},
		out: &Captured{Tables: map[int][]image.Descriptor{}, SharedFDs: map[uint32]int{}, DeletedFDs: map[uint32]int{}}}
	err := c.run()
	keep := map[int]bool{}
	for _, fd := range c.out.SharedFDs {
		keep[fd] = true
	}
	for _, fd := range c.out.DeletedFDs {
		keep[fd] = true
	}
	for _, d := range c.descs {
		if !keep[d.fd] {
			unix.Close(d.fd)
		}
	}
	if err == nil && len(c.problems) > 0 {
		err = c.problems
	}
	if err != nil {
		c.out.Undo()
		c.out.Close()
		return nil, err
	}
	return c.out, nil
}

func (c *capturer) run() error {
	for _, p := range c.in.Procs {
		c.inner[p.Pid] = p.Inner
	}
	for _, p := range c.in.Procs {
		if p.Zombie {
			continue
		}
		if err := c.table(p); err != nil {
			return fmt.Errorf("looking at the descriptors of %s (pid %d): %w", comm(p.Pid), p.Inner, err)
		}
	}
	c.sharedTables()
	if err := c.portals(); err != nil {
		return err
	}
	// The list grows while it is walked: queues hold descriptors too.
	for i := 0; i < len(c.descs); i++ {
		if d := c.descs[i]; d.kind == unixKind {
			if err := c.note(d, c.unixQueue(d)); err != nil {
				return err
			}
		}
	}
	for _, d := range c.descs {
		switch d.kind {
		case masterKind:
			if err := c.note(d, c.addMaster(d)); err != nil {
				return err
			}
		case pipeKind, fifoKind:
			c.addPipe(d)
		}
	}
	for _, d := range c.descs {
		if d.kind == nil {
			continue // refused
		}
		h, err := c.handle(d)
		if err != nil {
			if err := c.note(d, err); err != nil {
				return err
			}
			continue
		}
		c.out.Handles = append(c.out.Handles, h)
	}
	return nil
}

// note turns a refusal into a problem; other errors come back.
func (c *capturer) note(d *desc, err error) error {
	var r *refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		p := d.from
		p.What, p.Cure = r.what, r.cure
		c.problems = append(c.problems, p)
		return nil
	}
	return fmt.Errorf("recording descriptor %d of %s (%s): %w", d.from.FD, d.from.Comm, d.seen.link, err)
}

func (c *capturer) handle(d *desc) (image.Handle, error) {
	h := image.Handle{ID: d.id, Kind: d.kind.name, Flags: uint32(d.flags)}
	if d.kind.capture == nil {
		return h, refuse(cureClose, "%s (%s), which hither cannot carry yet", d.kind.name, d.seen.link)
	}
	rec, err := d.kind.capture(c, d)
	if err != nil {
		return h, err
	}
	h.Kind = d.kind.name // a capture may find a better kind
	if h.Data, err = cbor.Marshal(rec); err != nil {
		return h, fmt.Errorf("encoding it: %w", err)
	}
	if d.flags&unix.O_PATH != 0 {
		return h, nil
	}
	if err := c.owner(d, &h); err != nil {
		return h, err
	}
	return h, c.fileLocks(d)
}

// owner records whom the kernel signals about this description.
func (c *capturer) owner(d *desc, h *image.Handle) error {
	kind, id, err := owner(d.fd)
	if err != nil {
		return fmt.Errorf("asking for its owner: %w", err)
	}
	if id > 0 {
		h.OwnerType, h.Owner = kind, c.insideID(kind, id)
	}
	if h.Signal, err = unix.FcntlInt(uintptr(d.fd), fGetSig, 0); err != nil {
		return fmt.Errorf("asking for its signal: %w", err)
	}
	return nil
}

// insideID translates a pid, tid or process group to the capsule's number; 0
// if it has none.
func (c *capturer) insideID(kind, id int) int {
	switch kind {
	case fOwnerPid:
		return c.inner[id]
	case fOwnerPgrp:
		for pid := range c.inner {
			if groups := statusFields(pid, "NSpgid"); len(groups) > 0 && groups[0] == id {
				return groups[len(groups)-1]
			}
		}
		return 0
	}
	if ids := statusFields(id, "NSpid"); len(ids) > 0 {
		return ids[len(ids)-1]
	}
	return 0
}

func (c *capturer) table(p Proc) error {
	fds, err := descriptors(p.Pid)
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	name := comm(p.Pid)
	table := make([]image.Descriptor, 0, len(fds))
	for _, n := range fds {
		info, err := readFdinfo(fmt.Sprintf("/proc/%d/fdinfo/%d", p.Pid, n))
		if err != nil {
			return err
		}
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if err != nil {
			return fmt.Errorf("duplicating descriptor %d: %w", n, err)
		}
		d, err := c.internAs(fd, info, Problem{Pid: p.Inner, Comm: name, FD: n})
		if err != nil {
			return fmt.Errorf("descriptor %d: %w", n, err)
		}
		table = append(table, image.Descriptor{FD: n, Handle: d.id, CloExec: info.flags&unix.O_CLOEXEC != 0})
		if err := c.note(d, c.posixLocks(p, n, d, &info)); err != nil {
			return err
		}
	}
	c.out.Tables[p.Inner] = table
	return nil
}

// sharedTables refuses processes that share one descriptor table (clone with
// CLONE_FILES): a restored one would have its own.
func (c *capturer) sharedTables() {
	var sorted []Proc
	for _, p := range c.in.Procs {
		if p.Zombie {
			continue
		}
		at, found := slices.BinarySearchFunc(sorted, p, func(a, b Proc) int {
			order, err := kernel.Kcmp(a.Pid, b.Pid, kernel.KcmpFiles, 0, 0)
			switch {
			case err != nil || order == 1:
				return -1
			case order == 2:
				return 1
			}
			return 0
		})
		if found {
			c.problems = append(c.problems, Problem{p.Inner, comm(p.Pid), -1,
				fmt.Sprintf("one table of descriptors together with %s (pid %d)", comm(sorted[at].Pid), sorted[at].Inner), cureAgain})
			continue
		}
		sorted = slices.Insert(sorted, at, p)
	}
}

func (c *capturer) portals() error {
	if len(c.in.Portals) == 0 {
		return nil
	}
	pidfd, err := unix.PidfdOpen(c.in.InitPid, 0)
	if err != nil {
		return fmt.Errorf("reaching the capsule's first process: %w", err)
	}
	defer unix.Close(pidfd)
	for _, n := range c.in.Portals {
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if err != nil {
			return fmt.Errorf("duplicating descriptor %d of the capsule's first process: %w", n, err)
		}
		d, err := c.intern(fd, Problem{Pid: 1, Comm: "the capsule", FD: n})
		if err != nil {
			return fmt.Errorf("descriptor %d of the capsule's first process: %w", n, err)
		}
		c.out.Portals = append(c.out.Portals, image.Descriptor{FD: n, Handle: d.id})
	}
	return nil
}

// root is the capsule's root directory as this process can reach it.
func (c *capturer) root() string { return fmt.Sprintf("/proc/%d/root", c.in.InitPid) }

// look reads what classify wants to know of a duplicate.
func look(fd int, st *unix.Stat_t) (seen, error) {
	s := seen{st: *st}
	var err error
	if s.link, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
		return s, err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err == nil {
		s.fs = int64(fs.Type)
	}
	s.socket = func() (int, int, int, error) {
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return 0, 0, 0, err
		}
		kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if err != nil {
			return 0, 0, 0, err
		}
		protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		return domain, kind, protocol, err
	}
	return s, nil
}
