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

func (m *lateMaker) descriptors(p *image.Process) error {
	made := map[uint32]int{}
	var temps []int
	for _, d := range p.Descriptors {
		e := m.larder.entries[d.Handle]
		k := kindNamed(e.Kind)
		if !k.late {
			continue
		}
		from, ok := made[d.Handle]
		if !ok {
			var err error
			if from, err = k.make(m, e); err != nil {
				return fmt.Errorf("remaking descriptor %d: %w", d.FD, err)
			}
			// Out of the way of the numbers that are wanted.
			high, err := m.call(unix.SYS_FCNTL, uint64(from), unix.F_DUPFD_CLOEXEC, uint64(m.larder.Base))
			if err != nil {
				return fmt.Errorf("moving descriptor %d: %w", d.FD, err)
			}
			if _, err := m.call(unix.SYS_CLOSE, uint64(from)); err != nil {
				return fmt.Errorf("moving descriptor %d: %w", d.FD, err)
			}
			from = high
			made[d.Handle] = from
			temps = append(temps, from)
		}
		flags := uint64(0)
		if d.CloExec {
			flags = unix.O_CLOEXEC
		}
		if _, err := m.call(unix.SYS_DUP3, uint64(from), uint64(d.FD), flags); err != nil {
			return fmt.Errorf("placing descriptor %d: %w", d.FD, err)
		}
	}
	if err := m.watch(p, made); err != nil {
		return err
	}
	for _, fd := range temps {
		if _, err := m.call(unix.SYS_CLOSE, uint64(fd)); err != nil {
			return fmt.Errorf("closing a descriptor: %w", err)
		}
	}
	return nil
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
