package handle

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// Env is what Rebind knows of the host it runs on.
type Env struct {
	Pid int // pid 1 of the new capsule, as this process numbers it
	// Path says where a file is to be opened, inside the capsule; nil: where it was.
	Path func(*image.File) string
	// Fetch duplicates a descriptor of pid 1 into this process; nil: pidfd_getfd.
	Fetch func(fd int) (int, error)
}

// initFDs are the descriptor numbers that pid 1 keeps for itself: the larder
// lies above.
const initFDs = 128

// binder is one Rebind under way.
type binder struct {
	caller
	app    *image.App
	env    Env
	refs   *references
	larder *Larder

	byID   map[uint32]*entry
	byKind map[string][]*entry

	// Descriptors of pid 1.
	made        map[uint32]int // by handle
	files       map[fileSlot]int
	shared      map[uint32]int
	masters     map[int]int // terminals by number
	slaves      map[int]int
	hungMasters []int
	temps       []int // to be closed at the end

	pidfd  int
	dups   map[int]int // their duplicates here
	locals []int       // other descriptors of this process, to be closed at the end

	unix unixWork
}

type fileSlot struct {
	id    uint32
	flags int // O_RDONLY or O_RDWR
}

// Rebind makes every open file description of an image in pid 1 of a new
// capsule, and what its mappings show. The image must have been validated.
func Rebind(r Remote, app *image.App, env Env) (*Larder, error) {
	entries, err := decodeAll(app)
	if err != nil {
		return nil, err
	}
	b := &binder{caller: newCaller(r), app: app, env: env, refs: newReferences(app), byID: entries, byKind: map[string][]*entry{},
		made: map[uint32]int{}, files: map[fileSlot]int{}, shared: map[uint32]int{}, masters: map[int]int{}, slaves: map[int]int{},
		pidfd: -1, dups: map[int]int{}}
	for i := range app.Handles {
		e := entries[app.Handles[i].ID]
		b.byKind[e.Kind] = append(b.byKind[e.Kind], e)
	}
	defer b.done()
	if env.Fetch == nil {
		if b.pidfd, err = unix.PidfdOpen(env.Pid, 0); err != nil {
			return nil, fmt.Errorf("reaching the capsule's first process: %w", err)
		}
	}
	b.larder = newLarder(b)
	if err := b.larder.makeRoom(b); err != nil {
		return nil, err
	}
	if err := b.run(); err != nil {
		return nil, fmt.Errorf("rebuilding what the app holds: %w", err)
	}
	return b.larder, nil
}

func (b *binder) run() error {
	for _, make := range []func() error{b.sharedMemory, b.semaphores, b.queues} {
		if err := make(); err != nil {
			return err
		}
	}
	for _, k := range kinds {
		if entries := b.byKind[k.name]; k.rebind != nil && len(entries)+extra(k, b) > 0 {
			if err := k.rebind(b, entries); err != nil {
				return err
			}
		}
	}
	if err := b.mapped(); err != nil {
		return err
	}
	for _, k := range kinds {
		if entries := b.byKind[k.name]; k.fill != nil && len(entries) > 0 {
			if err := k.fill(b, entries); err != nil {
				return err
			}
		}
	}
	if err := b.locks(); err != nil {
		return err
	}
	return b.larder.shelve(b)
}

// extra lets the terminals be made for slaves or sessions without a handle of
// the kind itself.
func extra(k *kind, b *binder) int {
	switch k {
	case masterKind:
		return len(b.byKind[kindSlave])
	case slaveKind:
		return len(b.byKind[kindMaster])
	}
	return 0
}

func (b *binder) done() {
	for _, fd := range b.dups {
		unix.Close(fd)
	}
	for _, fd := range b.locals {
		unix.Close(fd)
	}
	if b.pidfd >= 0 {
		unix.Close(b.pidfd)
	}
}

func (b *binder) put(id uint32, fd int) { b.made[id] = fd }

// temporary is a descriptor of pid 1 that nobody needs in the end.
func (b *binder) temporary(fd int) { b.temps = append(b.temps, fd) }

// path says where a file is now.
func (b *binder) path(id uint32) string {
	f := b.refs.files[id]
	if b.env.Path != nil {
		return b.env.Path(f)
	}
	return f.Path
}

// fetch returns a duplicate of a descriptor of pid 1, good until Rebind ends.
func (b *binder) fetch(fd int) (int, error) {
	if dup, ok := b.dups[fd]; ok {
		return dup, nil
	}
	var dup int
	var err error
	if b.env.Fetch != nil {
		dup, err = b.env.Fetch(fd)
	} else {
		dup, err = unix.PidfdGetfd(b.pidfd, fd, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("fetching descriptor %d from the capsule's first process: %w", fd, err)
	}
	b.dups[fd] = dup
	return dup, nil
}

// with runs fn on a duplicate.
func (b *binder) with(fd int, fn func(dup int) error) error {
	dup, err := b.fetch(fd)
	if err != nil {
		return err
	}
	return fn(dup)
}

// close closes a descriptor of pid 1, whose number may then be used again.
func (b *binder) close(fd int) error {
	if dup, ok := b.dups[fd]; ok {
		unix.Close(dup)
		delete(b.dups, fd)
	}
	_, err := b.call(unix.SYS_CLOSE, uint64(fd))
	return err
}

// opening is one open(2), and what its descriptor is for: a handle or a file slot.
type opening struct {
	path       string
	flags      int
	handle     uint32
	slot       fileSlot
	pos        int64
	posMayFail bool
}

// openAll opens many paths in few batches.
func (b *binder) openAll(opens []opening) error {
	for len(opens) > 0 {
		calls := batch{remote: b.remote}
		used, n := 0, 0
		for ; n < len(opens) && n < 512; n++ {
			path := opens[n].path
			if used+len(path)+1 > len(b.data) {
				break
			}
			copy(b.data[used:], path)
			b.data[used+len(path)] = 0
			calls.add(fmt.Sprintf("opening %s in the capsule", path), unix.SYS_OPENAT, atFDCWD, b.addr+uint64(used),
				uint64(opens[n].flags|oLargefile), 0)
			used += len(path) + 1
		}
		if n == 0 {
			return fmt.Errorf("a path of %d bytes is too long to hand over", len(opens[0].path))
		}
		made := calls.calls
		if err := calls.run(); err != nil {
			return err
		}
		for i, o := range opens[:n] {
			fd := int(made[i].Ret)
			if o.handle != 0 {
				b.put(o.handle, fd)
			} else {
				b.files[o.slot] = fd
			}
			if o.pos == 0 || o.flags&unix.O_PATH != 0 {
				continue
			}
			calls.add(fmt.Sprintf("going to %d in %s", o.pos, o.path), unix.SYS_LSEEK, uint64(fd), uint64(o.pos), unix.SEEK_SET)
			if o.posMayFail {
				calls.mayFail()
			}
		}
		if err := calls.run(); err != nil {
			return err
		}
		opens = opens[n:]
	}
	return nil
}

// mapped opens what mappings and executables show.
func (b *binder) mapped() error {
	var opens []opening
	want := func(id uint32, flags int) error {
		key := fileSlot{id, flags}
		if _, ok := b.files[key]; ok || b.refs.files[id] == nil {
			return nil
		}
		path := b.path(id)
		if b.refs.files[id].Kind == image.FileDeleted {
			base, err := b.deleted(id)
			if err != nil || flags == unix.O_RDWR {
				return err
			}
			path = fmt.Sprintf("/proc/self/fd/%d", base)
		}
		b.files[key] = -1
		opens = append(opens, opening{path: path, flags: flags, slot: key})
		return nil
	}
	for i := range b.app.Processes {
		p := &b.app.Processes[i]
		if err := want(p.Exe, unix.O_RDONLY); err != nil {
			return err
		}
		for _, v := range p.VMAs {
			if v.Backing != image.BackFile {
				continue
			}
			flags := unix.O_RDONLY
			if v.Shared && v.Writable {
				flags = unix.O_RDWR
			}
			if err := want(v.Object, flags); err != nil {
				return err
			}
		}
	}
	return b.openAll(opens)
}

// locks takes the locks that descriptions own; those of processes are for Late.
func (b *binder) locks() error {
	for _, l := range b.app.Locks {
		if l.Kind == image.LockPosix {
			continue
		}
		fd, ok := b.made[l.Handle]
		if !ok {
			return fmt.Errorf("%w: a lock of handle %d, which cannot have one", image.ErrDamaged, l.Handle)
		}
		err := b.with(fd, func(dup int) error {
			if l.Kind == image.LockFlock {
				how := unix.LOCK_SH
				if l.Write {
					how = unix.LOCK_EX
				}
				return unix.Flock(dup, how|unix.LOCK_NB)
			}
			lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: unix.SEEK_SET, Start: l.Start, Len: l.Len}
			if l.Write {
				lock.Type = unix.F_WRLCK
			}
			return unix.FcntlFlock(uintptr(dup), unix.F_OFD_SETLK, &lock)
		})
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return fmt.Errorf("locking %s: something on this host has locked it: end that first", b.nameOf(l.Handle))
		}
		if err != nil {
			return fmt.Errorf("locking %s: %w", b.nameOf(l.Handle), err)
		}
	}
	return nil
}

func (b *binder) nameOf(handle uint32) string {
	if e := b.byID[handle]; e != nil {
		if r, ok := e.rec.(*fileRecord); ok {
			return b.path(r.File)
		}
	}
	return fmt.Sprintf("handle %d", handle)
}
