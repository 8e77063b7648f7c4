package handle

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// Place gives a process, which has the larder from pid 1, its descriptors, and
// closes all others. r works in that process.
func (l *Larder) Place(r Remote, p *image.Process) error {
	data, addr := r.Scratch()
	calls := batch{remote: r}
	// Entries of epoll instances first, under temporary descriptors of the right
	// numbers: what is placed after takes nothing away from them.
	events := 0
	for _, ep := range l.epolls {
		if ep.home != p.Pid {
			continue
		}
		for _, e := range ep.rec.(*epollRecord).Entries {
			target, ok := l.slots[e.Handle]
			if !ok {
				continue // Late
			}
			if (events+1)*epollEventSize > len(data) {
				if err := calls.run(); err != nil {
					return err
				}
				events = 0
			}
			l.addEntry(&calls, data, addr, events, l.slots[ep.ID], target, e)
			events++
		}
	}
	table := slices.Clone(p.Descriptors)
	slices.SortFunc(table, func(a, b image.Descriptor) int { return a.FD - b.FD })
	next := 0 // the first number not seen to yet
	gap := func(end int) {
		if next < end {
			calls.add("closing descriptors", unix.SYS_CLOSE_RANGE, uint64(next), uint64(uint32(end-1)), 0)
		}
	}
	for _, d := range table {
		slot, ok := l.slots[d.Handle]
		if !ok {
			continue // Late
		}
		flags := 0
		if d.CloExec {
			flags = unix.O_CLOEXEC
		}
		gap(d.FD)
		next = d.FD + 1
		calls.add(fmt.Sprintf("placing descriptor %d", d.FD), unix.SYS_DUP3, uint64(slot), uint64(d.FD), uint64(flags))
	}
	gap(1 << 32)
	return calls.run()
}

// lateMaker makes a description in one process.
type lateMaker struct {
	caller
	larder *Larder
}

// Late does what needs all processes and their descriptors in place: descriptors
// that name processes, locks that processes own, and whom the kernel signals.
func (l *Larder) Late(r Remote, p *image.Process) error {
	m := &lateMaker{newCaller(r), l}
	if err := m.descriptors(p); err != nil {
		return err
	}
	if err := m.locks(p); err != nil {
		return err
	}
	return m.owners(p)
}

// lateCall is the call that makes a description.
type lateCall struct {
	what string
	nr   uintptr
	args [6]uint64
	// path, where set, is the second argument.
	path string
	// otherwise is opened where there is nothing at path, or nothing for this user.
	otherwise string
	pos       int64 // the offset wanted
}

func (m *lateMaker) descriptors(p *image.Process) error {
	var todo []uint32
	makes := map[uint32]lateCall{}
	for _, d := range p.Descriptors {
		e := m.larder.entries[d.Handle]
		if k := kindNamed(e.Kind); k.late != nil {
			if _, ok := makes[d.Handle]; !ok {
				makes[d.Handle] = k.late(e)
				todo = append(todo, d.Handle)
			}
		}
	}
	if len(todo) == 0 {
		return nil
	}
	made, err := m.make(todo, makes)
	if err != nil {
		return err
	}
	calls := batch{remote: m.remote}
	for _, d := range p.Descriptors {
		if from, ok := made[d.Handle]; ok {
			flags := uint64(0)
			if d.CloExec {
				flags = unix.O_CLOEXEC
			}
			calls.add(fmt.Sprintf("placing descriptor %d", d.FD), unix.SYS_DUP3, uint64(from), uint64(d.FD), flags)
		}
	}
	if err := calls.run(); err != nil {
		return err
	}
	if err := m.watch(p, made); err != nil {
		return err
	}
	for _, id := range todo {
		calls.add("closing a descriptor", unix.SYS_CLOSE, uint64(made[id]))
	}
	return calls.run()
}

// make makes the descriptions and leaves them out of the way of the numbers that
// are wanted.
func (m *lateMaker) make(todo []uint32, makes map[uint32]lateCall) (map[uint32]int, error) {
	low := map[uint32]int{}
	for rest := todo; len(rest) > 0; {
		var calls []Call
		used := 0
		for _, id := range rest {
			c := makes[id]
			if c.path != "" {
				if used+len(c.path)+1 > len(m.data) {
					break
				}
				c.args[1] = m.addr + uint64(used)
				used += copy(m.data[used:], c.path+"\x00")
			}
			calls = append(calls, newCall(c.nr, c.args[:]...))
		}
		if err := m.remote.Batch(calls); err != nil {
			return nil, err
		}
		for i := range calls {
			c := makes[rest[i]]
			err := callError(&calls[i])
			fd := int(calls[i].Ret)
			if c.otherwise != "" && (err == unix.ENOENT || err == unix.ENOTDIR || err == unix.EACCES) {
				fd, err = m.open(c.otherwise, int(c.args[2])&^unix.O_NOFOLLOW, 0)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.what, err)
			}
			low[rest[i]] = fd
		}
		rest = rest[len(calls):]
	}
	moved := batch{remote: m.remote}
	for _, id := range todo {
		if pos := makes[id].pos; pos != 0 {
			// What the file says now may be shorter than where the app was in it.
			moved.add("", unix.SYS_LSEEK, uint64(low[id]), uint64(pos), unix.SEEK_SET)
		}
		moved.add("moving a descriptor up", unix.SYS_FCNTL, uint64(low[id]), unix.F_DUPFD_CLOEXEC, uint64(m.larder.Base))
		moved.add("closing a descriptor", unix.SYS_CLOSE, uint64(low[id]))
	}
	results := moved.calls
	if err := moved.run(); err != nil {
		return nil, err
	}
	made := map[uint32]int{}
	next := 0
	for i := range results {
		if results[i].Nr == unix.SYS_FCNTL {
			made[todo[next]] = int(results[i].Ret)
			next++
		}
	}
	return made, nil
}

// watch adds the epoll entries whose descriptions this process has just made.
func (m *lateMaker) watch(p *image.Process, made map[uint32]int) error {
	for _, ep := range m.larder.epolls {
		if ep.home != p.Pid {
			continue
		}
		epfd := fdOf(p, ep.ID)
		for _, e := range ep.rec.(*epollRecord).Entries {
			target, ok := made[e.Handle]
			if !ok || epfd < 0 {
				continue
			}
			if at := slices.IndexFunc(p.Descriptors, func(d image.Descriptor) bool { return d.FD == e.FD }); at >= 0 && p.Descriptors[at].Handle != e.Handle {
				continue // its number has another use by now
			}
			calls := batch{remote: m.remote}
			m.larder.addEntry(&calls, m.data, m.addr, 0, epfd, target, e)
			if fdOf(p, e.Handle) != e.FD {
				calls.add("closing a descriptor", unix.SYS_CLOSE, uint64(e.FD))
			}
			if err := calls.run(); err != nil {
				return err
			}
		}
	}
	return nil
}

func fdOf(p *image.Process, handle uint32) int {
	for _, d := range p.Descriptors {
		if d.Handle == handle {
			return d.FD
		}
	}
	return -1
}

func (m *lateMaker) locks(p *image.Process) error {
	const flockSize = 32 // struct flock, x86-64
	for _, l := range m.larder.app.Locks {
		if l.Kind != image.LockPosix || l.Pid != p.Pid {
			continue
		}
		kind := uint16(unix.F_RDLCK)
		if l.Write {
			kind = unix.F_WRLCK
		}
		clear(m.data[:flockSize])
		le.PutUint16(m.data, kind)
		le.PutUint64(m.data[8:], uint64(l.Start))
		le.PutUint64(m.data[16:], uint64(l.Len))
		if _, err := m.call(unix.SYS_FCNTL, uint64(l.FD), unix.F_SETLK, m.addr); err != nil {
			if err == unix.EAGAIN || err == unix.EACCES {
				return fmt.Errorf("locking the file of descriptor %d: something on this host has locked it: end that first", l.FD)
			}
			return fmt.Errorf("locking the file of descriptor %d: %w", l.FD, err)
		}
	}
	return nil
}

// owners sets whom the kernel signals about a description, in the first
// process that has it.
func (m *lateMaker) owners(p *image.Process) error {
	done := map[uint32]bool{}
	for _, d := range p.Descriptors {
		h := m.larder.entries[d.Handle].Handle
		if done[h.ID] || (h.Owner == 0 && h.Signal == 0 && h.Flags&fAsync == 0) || h.Flags&unix.O_PATH != 0 {
			continue
		}
		done[h.ID] = true
		if h.Owner != 0 {
			le.PutUint32(m.data, uint32(h.OwnerType))
			le.PutUint32(m.data[4:], uint32(h.Owner))
			if _, err := m.call(unix.SYS_FCNTL, uint64(d.FD), unix.F_SETOWN_EX, m.addr); err != nil && err != unix.ESRCH {
				return fmt.Errorf("setting the owner of descriptor %d: %w", d.FD, err)
			}
		}
		if h.Signal != 0 {
			if _, err := m.call(unix.SYS_FCNTL, uint64(d.FD), unix.F_SETSIG, uint64(h.Signal)); err != nil {
				return fmt.Errorf("setting the signal of descriptor %d: %w", d.FD, err)
			}
		}
		if h.Flags&fAsync != 0 {
			if _, err := m.call(unix.SYS_FCNTL, uint64(d.FD), unix.F_SETFL, uint64(openFlags(h)|fAsync)); err != nil {
				return fmt.Errorf("setting the flags of descriptor %d: %w", d.FD, err)
			}
		}
	}
	return nil
}
