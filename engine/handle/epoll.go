package handle

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/kernel"
)

// An epoll instance: its interest list, each entry with the descriptor number it
// was added under (which may be closed by now, or another file's), the description
// it watches, events and data. The entries are added by Larder.Place in a
// process that holds the instance, under temporary descriptors of the same numbers.
//
// Not carried: whether an edge was already seen; an edge-triggered entry that is
// ready reports once more. Refused: entries that watch what only a process outside holds.
var epollKind = &kind{name: kindEpoll, capture: captureEpoll, blank: func() record { return new(epollRecord) }, rebind: rebindEpolls}

type epollRecord struct {
	Entries []epollEntry `cbor:"1,keyasint,omitempty"`
}

type epollEntry struct {
	FD     int    `cbor:"1,keyasint"`
	Handle uint32 `cbor:"2,keyasint"`
	Events uint32 `cbor:"3,keyasint"`
	Data   uint64 `cbor:"4,keyasint"`
}

// maxFD bounds descriptor numbers: the default of fs.nr_open.
const maxFD = 1 << 20

func (r *epollRecord) validate(refs *references) error {
	for _, e := range r.Entries {
		if e.FD < 0 || e.FD >= maxFD || refs.handles[e.Handle] == "" {
			return fmt.Errorf("it watches handle %d as descriptor %d", e.Handle, e.FD)
		}
	}
	return nil
}

func captureEpoll(c *capturer, d *desc) (record, error) {
	r := new(epollRecord)
	nth := map[int]uint32{} // of each descriptor number
	for _, line := range d.info.lines {
		rest, ok := strings.CutPrefix(line, "tfd:")
		if !ok {
			continue
		}
		e, ino, dev, err := parseEpollLine(rest)
		if err != nil {
			return nil, err
		}
		watched, err := c.watched(d, e.FD, nth[e.FD], dev, ino)
		if err != nil {
			return nil, err
		}
		nth[e.FD]++
		if watched == nil {
			return nil, refuse(cureClose, "an epoll instance that watches something that only a process outside the capsule holds")
		}
		if watched.kind == nil {
			continue // refused for itself
		}
		e.Handle = watched.id
		r.Entries = append(r.Entries, e)
	}
	return r, nil
}

// parseEpollLine reads "5 events: 19 data: 5  pos:0 ino:f sdev:d".
func parseEpollLine(text string) (e epollEntry, ino, dev uint64, err error) {
	text = strings.NewReplacer("events:", " ", "data:", " ", "pos:", " ", "ino:", " ", "sdev:", " ").Replace(text)
	f := strings.Fields(text)
	if len(f) < 6 {
		return e, 0, 0, fmt.Errorf("an epoll entry that reads %q", text)
	}
	number := func(i, base int) (n uint64) {
		if err == nil {
			n, err = strconv.ParseUint(f[i], base, 64)
		}
		return n
	}
	e.FD, e.Events, e.Data = int(number(0, 10)), uint32(number(1, 16)), number(2, 16)
	ino, dev = number(4, 16), number(5, 16)
	if err != nil {
		err = fmt.Errorf("an epoll entry that reads %q: %w", text, err)
	}
	return e, ino, dev, err
}

// watched finds the description behind an entry: the nth of its number.
func (c *capturer) watched(d *desc, fd int, nth uint32, dev, ino uint64) (*desc, error) {
	self := os.Getpid()
	for _, other := range append(c.numbered(fd), c.descs...) {
		// sdev is the kernel's own encoding of the device: major in the high 12 bits.
		st := &other.seen.st
		if st.Ino != ino || uint64(unix.Major(st.Dev))<<20|uint64(unix.Minor(st.Dev)) != dev {
			continue
		}
		order, err := kernel.KcmpEpoll(self, other.fd, self, d.fd, fd, nth)
		if err != nil {
			return nil, fmt.Errorf("finding what it watches as descriptor %d: kcmp: %w", fd, err)
		}
		if order == 0 {
			return other, nil
		}
	}
	return nil, nil
}

// numbered are the descriptions that some process has under this number now:
// the likely ones.
func (c *capturer) numbered(fd int) []*desc {
	var out []*desc
	for _, table := range c.out.Tables {
		if at, ok := slices.BinarySearchFunc(table, fd, func(d image.Descriptor, fd int) int { return d.FD - fd }); ok {
			out = append(out, c.descs[table[at].Handle-1])
		}
	}
	return out
}

func rebindEpolls(b *binder, entries []*entry) error {
	for _, e := range entries {
		fd, err := b.call(unix.SYS_EPOLL_CREATE1, 0)
		if err != nil {
			return fmt.Errorf("making an epoll instance: %w", err)
		}
		b.put(e.ID, fd)
		b.larder.epolls = append(b.larder.epolls, &epollHome{entry: e, home: b.home(e.ID)})
	}
	return nil
}

// epollHome says in which process the entries of an instance are added.
type epollHome struct {
	*entry
	home int // pid inside
}

// home is the first process that has a descriptor of the handle; failing that
// (it waits in a socket's queue) the first process of all.
func (b *binder) home(id uint32) int {
	first := 0
	for i := range b.app.Processes {
		p := &b.app.Processes[i]
		if p.Zombie {
			continue
		}
		if first == 0 {
			first = p.Pid
		}
		for _, d := range p.Descriptors {
			if d.Handle == id {
				return p.Pid
			}
		}
	}
	return first
}

// addEntry adds one entry to an instance. ep and target are descriptors of the
// process, tfd is the number under which the kernel shall know the entry.
func (l *Larder) addEntry(calls *batch, data []byte, addr uint64, slot int, ep, target int, e epollEntry) {
	event := data[slot*epollEventSize:]
	le.PutUint32(event, e.Events)
	le.PutUint64(event[4:], e.Data)
	if target != e.FD {
		calls.add(fmt.Sprintf("placing descriptor %d for epoll", e.FD), unix.SYS_DUP3, uint64(target), uint64(e.FD), unix.O_CLOEXEC)
	}
	calls.add(fmt.Sprintf("watching descriptor %d", e.FD), unix.SYS_EPOLL_CTL, uint64(ep), unix.EPOLL_CTL_ADD, uint64(e.FD),
		addr+uint64(slot*epollEventSize))
}

const epollEventSize = 12 // struct epoll_event is packed on x86-64
