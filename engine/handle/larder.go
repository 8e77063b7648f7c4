package handle

import (
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// Larder is the row of descriptors in pid 1, and in every process forked from
// it, from which processes take what is theirs.
type Larder struct {
	// Base is the first number of the row: above every descriptor that the app
	// uses, and below the limit of pid 1.
	Base int

	app      *image.App
	entries  map[uint32]*entry
	next     int
	slots    map[uint32]int // by handle
	files    map[fileSlot]int
	shared   map[uint32]int
	terms    map[int]int
	segments map[uint32]attached // of System V, by the id of the shared memory
	epolls   []*epollHome
	path     func(uint32) string
}

func newLarder(b *binder) *Larder {
	return &Larder{app: b.app, entries: b.byID, slots: map[uint32]int{}, files: map[fileSlot]int{}, shared: map[uint32]int{},
		terms: map[int]int{}, segments: map[uint32]attached{}, path: b.path}
}

// makeRoom finds the base, and raises pid 1's own limit where it must.
func (l *Larder) makeRoom(b *binder) error {
	top := initFDs - 1
	for i := range l.app.Processes {
		for _, d := range l.app.Processes[i].Descriptors {
			top = max(top, d.FD)
		}
	}
	for _, d := range l.app.Portals {
		top = max(top, d.FD)
	}
	for _, e := range b.byKind[kindEpoll] {
		for _, w := range e.rec.(*epollRecord).Entries {
			top = max(top, w.FD)
		}
	}
	// While things are made they have the lowest numbers above pid 1's own: the
	// larder lies above those, too.
	count := l.count(b)
	l.Base = max(top+1, initFDs+count)
	l.next = l.Base
	need := l.Base + count
	if _, err := b.call(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, 0, b.addr); err != nil {
		return fmt.Errorf("asking for the limit of open files: %w", err)
	}
	soft, hard := le.Uint64(b.data), le.Uint64(b.data[8:])
	if uint64(need) <= soft {
		return nil
	}
	if uint64(need) > hard {
		return fmt.Errorf("the app needs %d open files at once and this host allows %d: raise the hard limit (ulimit -Hn)", need, hard)
	}
	le.PutUint64(b.data, uint64(need))
	le.PutUint64(b.data[8:], hard)
	if _, err := b.call(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, b.addr, 0); err != nil {
		return fmt.Errorf("raising the limit of open files to %d: %w", need, err)
	}
	return nil
}

// count bounds how many descriptors pid 1 has at once: each handle and its
// other end, each file mapped in two ways, shared memory, terminals, and who sends datagrams.
func (l *Larder) count(b *binder) int {
	n := 2*(len(l.app.Handles)+len(l.app.Files)+len(l.app.Processes)) + len(l.app.Shared) + 64
	top := 0 // terminals are made from number 0 on
	for _, e := range b.byKind[kindMaster] {
		top = max(top, e.rec.(*masterRecord).Index)
	}
	for _, e := range b.byKind[kindSlave] {
		top = max(top, e.rec.(*slaveRecord).Index)
	}
	for _, e := range b.byKind[kindUDP] {
		n += len(e.rec.(*udpRecord).Queue)
	}
	return n + top
}

// shelve moves everything that was made to its slot, and the portals to theirs.
func (l *Larder) shelve(b *binder) error {
	calls := batch{remote: b.remote}
	closing := map[int]bool{}
	slot := func(fd int) int {
		n := l.next
		l.next++
		calls.add("moving a descriptor up", unix.SYS_DUP3, uint64(fd), uint64(n), 0)
		closing[fd] = true
		return n
	}
	for i := range l.app.Handles {
		id := l.app.Handles[i].ID
		if fd, ok := b.made[id]; ok {
			l.slots[id] = slot(fd)
		}
	}
	for key, fd := range b.files {
		l.files[key] = slot(fd)
	}
	for id, fd := range b.shared {
		l.shared[id] = slot(fd)
	}
	for index, fd := range b.slaves {
		l.terms[index] = slot(fd)
	}
	for _, fd := range b.temps {
		closing[fd] = true
	}
	for fd := range closing {
		calls.add("closing a descriptor", unix.SYS_CLOSE, uint64(fd))
	}
	for _, d := range l.app.Portals {
		from, ok := l.slots[d.Handle]
		if !ok || d.FD >= initFDs {
			return fmt.Errorf("%w: portal %d of handle %d", image.ErrDamaged, d.FD, d.Handle)
		}
		calls.add("placing a portal", unix.SYS_DUP3, uint64(from), uint64(d.FD), unix.O_CLOEXEC)
	}
	return calls.run()
}

// Slot is the descriptor of a handle, in pid 1 and what is forked from it.
func (l *Larder) Slot(handle uint32) (int, bool) {
	fd, ok := l.slots[handle]
	return fd, ok
}

// FileSlot is a descriptor of a file for mapping it, or for running it: flags
// is O_RDONLY, or O_RDWR for shared mappings that may be written to.
func (l *Larder) FileSlot(file uint32, flags int) (int, bool) {
	fd, ok := l.files[fileSlot{file, flags}]
	return fd, ok
}

// DeletedSlots are descriptors through which the bytes of deleted files are to
// be written, by file id. pid 1 has them.
func (l *Larder) DeletedSlots() map[uint32]int {
	out := map[uint32]int{}
	for i := range l.app.Files {
		f := &l.app.Files[i]
		if fd, ok := l.files[fileSlot{f.ID, unix.O_RDWR}]; ok && f.Kind == image.FileDeleted {
			out[f.ID] = fd
		}
	}
	return out
}

// SharedSlot is a descriptor of shared memory, of its size and writable.
func (l *Larder) SharedSlot(id uint32) (int, bool) {
	fd, ok := l.shared[id]
	return fd, ok
}

// TerminalSlot is a descriptor of the slave of a terminal, by its number below
// /dev/pts, for TIOCSCTTY and the foreground group.
func (l *Larder) TerminalSlot(index int) (int, bool) {
	fd, ok := l.terms[index]
	return fd, ok
}

// Close seals the memfds and empties the larder in pid 1, when every process
// has its own and all memory is in place.
func (l *Larder) Close(r Remote) error {
	if err := l.seal(r); err != nil {
		return err
	}
	if err := l.releaseSegments(r); err != nil {
		return err
	}
	_, err := (&caller{remote: r}).call(unix.SYS_CLOSE_RANGE, uint64(l.Base), uint64(^uint32(0)), 0)
	if err != nil {
		return fmt.Errorf("emptying the larder: %w", err)
	}
	return nil
}

func (l *Larder) seal(r Remote) error {
	calls := batch{remote: r}
	for i := range l.app.Shared {
		s := &l.app.Shared[i]
		if s.MemFD && s.Seals != 0 {
			calls.add(fmt.Sprintf("sealing the memory file %q", s.Name), unix.SYS_FCNTL, uint64(l.shared[s.ID]), unix.F_ADD_SEALS, uint64(s.Seals))
		}
	}
	return calls.run()
}
