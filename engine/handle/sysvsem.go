package handle

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// A set of semaphores of System V: its values, and what the end of each process
// will add to them (SEM_UNDO). The kernel tells nobody of the latter, but it keeps
// it between -32768 and 32767: how much more fits in is asked by calls that
// change nothing, because all operations of one semop(2) happen, or none, and the
// last of them cannot. Threads that wait in semop make the call again.

const (
	semaphoreCountAt = 80 // sem_nsems of struct semid64_ds
	semGetAll        = 13
	semSetAll        = 17
	semUndo          = 0o10000
	undoMost         = 32767 // SEMAEM
	opSize           = 6     // struct sembuf: number, operation, flags
)

func (v *SystemV) addSemaphores(c *caller, s *status) error {
	n := le.Uint64(s.data[semaphoreCountAt:])
	if n > image.MaxSemaphores || 2*n > uint64(len(c.data)) {
		return refuse(cureClose, "a set of %d semaphores of System V", n)
	}
	_, err := c.call(unix.SYS_SEMCTL, uint64(s.ID), 0, semGetAll, c.addr)
	if errors.Is(err, unix.EACCES) {
		return refuse(cureClose, "semaphores of System V that it may not read itself")
	}
	if err != nil {
		return fmt.Errorf("reading set %d: %w", s.ID, err)
	}
	set := image.Semaphores{SystemV: s.SystemV, Values: make([]uint16, n)}
	for i := range set.Values {
		set.Values[i] = le.Uint16(c.data[2*i:])
	}
	v.Semaphores = append(v.Semaphores, set)
	return nil
}

// ops writes operations on one semaphore at an offset of the scratch memory.
func (c *caller) ops(at int, number int, list ...semop) (addr uint64, n uint64) {
	for i, op := range list {
		le.PutUint16(c.data[at+i*opSize:], uint16(number))
		le.PutUint16(c.data[at+i*opSize+2:], uint16(int16(op.by)))
		le.PutUint16(c.data[at+i*opSize+4:], uint16(op.flags|ipcNowait))
	}
	return c.addr + uint64(at), uint64(len(list))
}

type semop struct{ by, flags int }

// fits are operations that fail with ERANGE if room more than it has does not fit
// into what a process will add to a semaphore, and else with EAGAIN.
func fits(value, room int) []semop {
	list := []semop{{-value, 0}}
	for room > 0 {
		part := min(room, undoMost)
		list = append(list, semop{part, 0}, semop{-part, semUndo})
		room -= part
	}
	return append(list, semop{-1, 0})
}

// AddUndo asks a stopped process what its end will add to the semaphores.
func (v *SystemV) AddUndo(r Remote, pid int) error {
	c := newCaller(r)
	for i := range v.Semaphores {
		set := &v.Semaphores[i]
		for number, value := range set.Values {
			full := func(room int) (bool, error) {
				at, n := c.ops(0, number, fits(int(value), room)...)
				_, err := c.call(unix.SYS_SEMOP, uint64(set.SystemV.ID), at, n)
				switch {
				case errors.Is(err, unix.ERANGE):
					return true, nil
				case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
					return false, nil
				case err == nil:
					err = errors.New("it let through what cannot be")
				}
				return false, fmt.Errorf("asking for what process %d owes to semaphores %d: %w", pid, set.SystemV.ID, err)
			}
			// The least that does not fit is 32768 less what it will add.
			low, high := 0, 2*undoMost+2
			for _, room := range []int{undoMost + 1, undoMost} { // mostly it will add nothing
				over, err := full(room)
				if err != nil {
					return err
				}
				if over {
					high = min(high, room)
				} else {
					low = max(low, room)
				}
			}
			for high-low > 1 {
				middle := (low + high) / 2
				over, err := full(middle)
				if err != nil {
					return err
				}
				if over {
					high = middle
				} else {
					low = middle
				}
			}
			// Not even the most: it may not use this semaphore.
			if adjust := undoMost + 1 - high; adjust != 0 && adjust > -undoMost {
				set.Undo = append(set.Undo, image.SemaphoreUndo{Pid: pid, Number: number, Adjust: adjust})
			}
		}
	}
	return nil
}

// semaphores makes the sets.
func (b *binder) semaphores() error {
	for i := range b.app.Semaphores {
		s := &b.app.Semaphores[i]
		if 2*len(s.Values) > len(b.data) {
			return fmt.Errorf("%w: %d semaphores in a set", image.ErrDamaged, len(s.Values))
		}
		err := b.makeSystemV(semaphoreFamily, &s.SystemV, func() (int, error) {
			return b.call(unix.SYS_SEMGET, uint64(uint32(s.SystemV.Key)), uint64(len(s.Values)), uint64(s.SystemV.Mode|ownerReadsWrite|ipcCreate|ipcExcl))
		})
		if err != nil {
			return err
		}
		for j, v := range s.Values {
			le.PutUint16(b.data[2*j:], v)
		}
		if _, err := b.call(unix.SYS_SEMCTL, uint64(s.SystemV.ID), 0, semSetAll, b.addr); err != nil {
			return fmt.Errorf("setting semaphores %d: %w", s.SystemV.ID, err)
		}
		if err := b.setPerm(semaphoreFamily, &s.SystemV, nil); err != nil {
			return err
		}
	}
	return nil
}

// Undo has a process owe to the semaphores what it owed. It is for the first thread,
// from which the others have it.
func (l *Larder) Undo(r Remote, pid int) error {
	c := newCaller(r)
	for i := range l.app.Semaphores {
		s := &l.app.Semaphores[i]
		for _, u := range s.Undo {
			if u.Pid != pid {
				continue
			}
			value := int(s.Values[u.Number])
			list := []semop{{-value, 0}}
			if u.Adjust > 0 {
				list = append(list, semop{u.Adjust, 0}, semop{-u.Adjust, semUndo})
			} else {
				list = append(list, semop{-u.Adjust, semUndo}, semop{u.Adjust, 0})
			}
			at, n := c.ops(0, u.Number, append(list, semop{value, 0})...)
			if _, err := c.call(unix.SYS_SEMOP, uint64(s.SystemV.ID), at, n); err != nil {
				return fmt.Errorf("having it owe %d to semaphore %d of %d: %w", u.Adjust, u.Number, s.SystemV.ID, err)
			}
		}
	}
	return nil
}
