package handle

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// Objects of System V IPC: segments of memory (sysvshm.go), sets of semaphores
// (sysvsem.go), message queues (sysvmsg.go). They belong to the capsule's ipc
// namespace, not to a process, and are known by ids, which come back the same.
// What is lost: who used them last and when (pids and times of sysvipc(7)).

// family is one of the three, by its control call.
type family struct {
	name    string
	ctl     uintptr
	info    uint64 // SHM_INFO and its like: how many there are
	statAny uint64 // SHM_STAT_ANY and its like: one, by its index
	used    int    // where info has the number of objects in use
	nextID  string // the sysctl of CONFIG_CHECKPOINT_RESTORE
}

// Numbers of include/uapi/linux/{shm,sem,msg}.h.
var (
	segmentFamily   = &family{"memory", unix.SYS_SHMCTL, 14, 15, 0, "/proc/sys/kernel/shm_next_id"}
	semaphoreFamily = &family{"semaphores", unix.SYS_SEMCTL, 19, 20, 28, "/proc/sys/kernel/sem_next_id"}
	queueFamily     = &family{"message queue", unix.SYS_MSGCTL, 12, 13, 0, "/proc/sys/kernel/msg_next_id"}
	ipcFamilies     = []*family{segmentFamily, semaphoreFamily, queueFamily}
)

const (
	ipcRmid   = 0
	ipcSet    = 1
	ipcCreate = 0o1000 // IPC_CREAT
	ipcExcl   = 0o2000
	ipcNowait = 0o4000

	statRoom = 128 // for a struct shmid64_ds, semid64_ds or msqid64_ds
	permSize = 48  // struct ipc64_perm at its beginning
)

// control is shmctl and its like; semctl takes the number of a semaphore between.
func (f *family) control(id, cmd, addr uint64) []uint64 {
	if f == semaphoreFamily {
		return []uint64{id, 0, cmd, addr}
	}
	return []uint64{id, cmd, addr}
}

// status is one object as the kernel tells of it.
type status struct {
	image.SystemV
	data [statRoom]byte
}

// perm reads a struct ipc64_perm: key, owner, creator, mode.
func (s *status) perm() {
	s.Key = int32(le.Uint32(s.data[0:]))
	s.UID, s.GID = le.Uint32(s.data[4:]), le.Uint32(s.data[8:])
	mode := le.Uint32(s.data[20:])
	s.Mode = mode & 0o777
	s.Dest, s.Locked = mode&0o1000 != 0, mode&0o2000 != 0
}

// SystemV is what an ipc namespace has beside memory, which is in Inodes.
type SystemV struct {
	Semaphores []image.Semaphores
	Queues     []image.Queue
}

// CaptureSystemV records the objects of the ipc namespace of a stopped process,
// by calls made in it. The error is Refused for what cannot be carried.
func CaptureSystemV(r Remote, x *Inodes) (*SystemV, error) {
	c := newCaller(r)
	out := &SystemV{}
	b := batch{remote: r}
	for i, f := range ipcFamilies {
		b.add("counting the objects of System V", f.ctl, f.control(0, f.info, c.addr+uint64(i)*statRoom)...)
	}
	infos := b.calls
	if err := b.run(); err != nil {
		return nil, err
	}
	var used [3]bool
	for i, f := range ipcFamilies {
		used[i] = le.Uint32(c.data[i*statRoom+f.used:]) > 0
	}
	for i, f := range ipcFamilies {
		if !used[i] {
			continue
		}
		all, err := c.list(f, int(infos[i].Ret))
		for j := range all {
			if err != nil {
				break
			}
			switch f {
			case segmentFamily:
				x.addSegment(&all[j])
			case semaphoreFamily:
				err = out.addSemaphores(&c, &all[j])
			case queueFamily:
				err = out.addQueue(&c, &all[j])
			}
		}
		var no *refusal
		if errors.As(err, &no) {
			return nil, Refused{{Pid: 1, Comm: "the capsule", FD: -1, What: no.what, Cure: no.cure}}
		}
		if err != nil {
			return nil, fmt.Errorf("looking at the %s of System V: %w", f.name, err)
		}
	}
	return out, nil
}

// list asks for all objects of a family, whose highest index is given.
func (c *caller) list(f *family, highest int) ([]status, error) {
	var all []status
	const most = 128
	for from := 0; from <= highest; from += most {
		b := batch{remote: c.remote}
		n := min(most, highest+1-from)
		for i := range n {
			b.add("", f.ctl, f.control(uint64(from+i), f.statAny, c.addr+uint64(i)*statRoom)...)
		}
		asked := b.calls
		if err := b.run(); err != nil {
			return nil, err
		}
		for i := range n {
			switch err := callError(&asked[i]); err {
			case nil:
				s := status{SystemV: image.SystemV{ID: int(asked[i].Ret)}}
				copy(s.data[:], c.data[i*statRoom:])
				s.perm()
				all = append(all, s)
			case unix.EINVAL: // no object has this index
			default:
				return nil, err
			}
		}
	}
	// In the order in which they were made: see makeSystemV.
	slices.SortFunc(all, func(a, b status) int { return a.ID - b.ID })
	return all, nil
}

// ForceSlowIDs is for tests: ids are come by as on a kernel that lets nobody choose.
var ForceSlowIDs bool

// makeSystemV makes an object that has the given id. make returns the id it got.
func (b *binder) makeSystemV(f *family, s *image.SystemV, make func() (int, error)) error {
	if !ForceSlowIDs {
		if err := b.chooseID(f, s.ID); err != nil && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	// Where ids cannot be chosen (before Linux 5.19 only root of the machine could)
	// they are counted up to: low bits are an index that goes round, high bits count
	// the rounds (ipc/util.h).
	const patience = 1 << 17
	for range patience {
		id, err := make()
		if err != nil {
			return fmt.Errorf("making %s of System V: %w", f.name, err)
		}
		if id == s.ID {
			return nil
		}
		if _, err := b.call(f.ctl, f.control(uint64(id), ipcRmid, 0)...); err != nil {
			return fmt.Errorf("removing %s of System V: %w", f.name, err)
		}
		if id > s.ID {
			break
		}
	}
	return fmt.Errorf("making %s of System V: the id %d cannot be had on this kernel: it needs Linux 5.19 or newer", f.name, s.ID)
}

// chooseID says which id the next object shall have.
func (b *binder) chooseID(f *family, id int) error {
	fd, err := b.open(f.nextID, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	at, err := b.text(strconv.Itoa(id))
	if err == nil {
		_, err = b.call(unix.SYS_WRITE, uint64(fd), at, uint64(len(strconv.Itoa(id))))
	}
	if _, err2 := b.call(unix.SYS_CLOSE, uint64(fd)); err == nil {
		err = err2
	}
	if err != nil {
		return fmt.Errorf("choosing the id %d: %w", id, err)
	}
	return nil
}

// setPerm gives an object its owner and mode by IPC_SET. more fills in the rest
// of the struct; it may be nil.
func (c *caller) setPerm(f *family, s *image.SystemV, more func(data []byte)) error {
	clear(c.data[:statRoom])
	le.PutUint32(c.data[4:], s.UID)
	le.PutUint32(c.data[8:], s.GID)
	le.PutUint32(c.data[20:], s.Mode)
	if more != nil {
		more(c.data)
	}
	if _, err := c.call(f.ctl, f.control(uint64(s.ID), ipcSet, c.addr)...); err != nil {
		return fmt.Errorf("setting owner and mode of %s of System V %d: %w", f.name, s.ID, err)
	}
	return nil
}
