package handle

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A pipe: which pipe, its size, what is in it (read by tee(2), which takes
// nothing out), packets apart where it is in packet mode. Refused: a pipe whose
// other end only a process outside the capsule holds.
var pipeKind = &kind{name: kindPipe, capture: capturePipe, blank: func() record { return new(pipeRecord) }, rebind: rebindPipes}

// pipeRecord is one end. All ends of one pipe have the same Pipe; one of them
// carries Size and content.
type pipeRecord struct {
	Pipe    uint32 `cbor:"1,keyasint"` // the handle id of its first end
	Size    int    `cbor:"2,keyasint,omitempty"`
	Content []byte `cbor:"3,keyasint,omitempty"`
	Packets []int  `cbor:"4,keyasint,omitempty"` // lengths; none: not in packet mode
	File    uint32 `cbor:"5,keyasint,omitempty"` // of a named pipe
	Deleted bool   `cbor:"6,keyasint,omitempty"` // a named pipe that has no name any more
}

// maxPipe bounds a pipe: only root makes larger ones, and not this large.
const maxPipe = 1 << 26

func (r *pipeRecord) validate(refs *references) error {
	if k := refs.handles[r.Pipe]; k != kindPipe && k != kindFifo {
		return fmt.Errorf("it is an end of pipe %d, which the image does not have", r.Pipe)
	}
	if r.Size < 0 || r.Size > maxPipe || len(r.Content) > maxPipe {
		return fmt.Errorf("a pipe of %d bytes with %d in it", r.Size, len(r.Content))
	}
	left := len(r.Content)
	for _, n := range r.Packets {
		if n < 0 || n > left {
			return fmt.Errorf("packets of %d bytes in a pipe with %d", n, left)
		}
		left -= n
	}
	if len(r.Packets) > 0 && left != 0 {
		return fmt.Errorf("%d bytes of a pipe are in no packet", left)
	}
	if r.File != 0 && refs.files[r.File] == nil {
		return fmt.Errorf("it is of file %d, which the image does not have", r.File)
	}
	return nil
}

// pipeState is a pipe while it is captured.
type pipeState struct {
	first            *desc
	readers, writers []*desc
}

func access(flags int) (reads, writes bool) {
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		return true, false
	case unix.O_WRONLY:
		return false, true
	}
	return true, true
}

func (c *capturer) addPipe(d *desc) {
	if d.flags&unix.O_PATH != 0 {
		return
	}
	key := pipeKey{d.seen.st.Dev, d.seen.st.Ino}
	p := c.pipes[key]
	if p == nil {
		p = &pipeState{first: d}
		c.pipes[key] = p
	}
	reads, writes := access(d.flags)
	if reads {
		p.readers = append(p.readers, d)
	}
	if writes {
		p.writers = append(p.writers, d)
	}
}

type pipeKey struct{ dev, ino uint64 }

const cureStream = "start the app in a terminal, with -d, or with its input and output in files"

func capturePipe(c *capturer, d *desc) (record, error) {
	p := c.pipes[pipeKey{d.seen.st.Dev, d.seen.st.Ino}]
	r := &pipeRecord{Pipe: p.first.id}
	if p.first != d {
		return r, nil
	}
	if d.kind.name == kindPipe {
		if err := refuseStream(d.fd, len(p.readers) > 0, len(p.writers) > 0); err != nil {
			return nil, err
		}
	}
	var err error
	if r.Size, err = unix.FcntlInt(uintptr(d.fd), unix.F_GETPIPE_SZ, 0); err != nil {
		return nil, fmt.Errorf("asking for its size: %w", err)
	}
	if len(p.readers) == 0 {
		return r, nil
	}
	packets := false
	for _, w := range p.writers {
		packets = packets || w.flags&unix.O_DIRECT != 0
	}
	r.Content, r.Packets, err = peekPipe(p.readers[0].fd, r.Size, packets)
	return r, err
}

// refuseStream refuses a pipe of which the app has one end, and somebody else
// the other.
func refuseStream(fd int, reads, writes bool) *refusal {
	switch {
	case !writes && polled(fd, unix.POLLIN)&unix.POLLHUP == 0:
		return refuse(cureStream, "a pipe into which a process outside the capsule writes")
	case !reads && polled(fd, unix.POLLOUT)&unix.POLLERR == 0:
		return refuse(cureStream, "a pipe from which a process outside the capsule reads")
	}
	return nil
}

// polled returns what poll(2) says at once.
func polled(fd int, events int16) int16 {
	set := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		_, err := unix.Poll(set, 0)
		if err != unix.EINTR {
			return set[0].Revents
		}
	}
}

// peekPipe reads what is in a pipe and leaves it there.
func peekPipe(fd, size int, packets bool) ([]byte, []int, error) {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return nil, nil, fmt.Errorf("asking how much is in it: %w", err)
	}
	if n == 0 {
		return nil, nil, nil
	}
	var copied [2]int
	if err := unix.Pipe2(copied[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, nil, fmt.Errorf("making a pipe for a copy: %w", err)
	}
	defer unix.Close(copied[0])
	defer unix.Close(copied[1])
	// Each slot of a pipe is copied into a slot: the copy needs as many. The kernel
	// gives small pipes only to a user who has many (pipe-user-pages-soft, pipe(7)): one
	// may do.
	if _, err := unix.FcntlInt(uintptr(copied[1]), unix.F_SETPIPE_SZ, size); err != nil && err != unix.EPERM {
		return nil, nil, fmt.Errorf("making a pipe of %d bytes for a copy: %w", size, err)
	}
	got, err := unix.Tee(fd, copied[1], n, unix.SPLICE_F_NONBLOCK)
	if err != nil || int(got) != n {
		return nil, nil, fmt.Errorf("copying what is in it: %d of %d bytes: %w", got, n, orSmall(copied[1], size, err))
	}
	content := make([]byte, n)
	var lengths []int
	for at := 0; at < n; {
		k, err := unix.Read(copied[0], content[at:])
		if err != nil || k <= 0 {
			return nil, nil, fmt.Errorf("copying what is in it: %d of %d bytes: %w", at, n, orShort(err))
		}
		at += k
		if packets {
			lengths = append(lengths, k)
		}
	}
	return content, lengths, nil
}

func rebindPipes(b *binder, entries []*entry) error {
	wanted := map[uint32]bool{}
	for _, e := range entries {
		wanted[e.rec.(*pipeRecord).Pipe] = true
	}
	left := len(wanted)
	var ready [][2]int
	return b.pipes(entries, func(*pipeRecord) (int, int, error) {
		if len(ready) == 0 {
			// As many at once as are still to be made: a call each is slow.
			var err error
			if ready, err = b.newPipes(min(left, len(b.data)/8)); err != nil {
				return -1, -1, err
			}
		}
		p := ready[0]
		ready = ready[1:]
		left--
		return p[0], p[1], nil
	})
}

func (b *binder) newPipes(n int) ([][2]int, error) {
	calls := batch{remote: b.remote}
	for i := range n {
		calls.add("making a pipe", unix.SYS_PIPE2, b.addr+uint64(8*i), 0)
	}
	if err := calls.run(); err != nil {
		return nil, err
	}
	out := make([][2]int, n)
	for i := range out {
		out[i] = [2]int{int(le.Uint32(b.data[8*i:])), int(le.Uint32(b.data[8*i+4:]))}
	}
	return out, nil
}

// pipes rebuilds the ends of pipes, named or not. make returns descriptors of
// a new pipe's two ends in pid 1.
func (b *binder) pipes(entries []*entry, make func(*pipeRecord) (int, int, error)) error {
	groups := map[uint32][]*entry{}
	var order []uint32
	for _, e := range entries {
		if e.Flags&unix.O_PATH != 0 {
			continue
		}
		r := e.rec.(*pipeRecord)
		if groups[r.Pipe] == nil {
			order = append(order, r.Pipe)
		}
		groups[r.Pipe] = append(groups[r.Pipe], e)
	}
	for _, id := range order {
		if err := b.pipe(groups[id], make); err != nil {
			return fmt.Errorf("making pipe %d: %w", id, err)
		}
	}
	return nil
}

func (b *binder) pipe(ends []*entry, make func(*pipeRecord) (int, int, error)) error {
	var whole *pipeRecord
	for _, e := range ends {
		if r := e.rec.(*pipeRecord); r.Size != 0 {
			whole = r
		}
	}
	if whole == nil {
		return fmt.Errorf("none of its ends tells its size")
	}
	r, w, err := make(whole)
	if err != nil {
		return err
	}
	if err := b.with(w, func(dup int) error { return fillPipe(dup, whole) }); err != nil {
		return err
	}
	usedR, usedW := false, false
	for _, e := range ends {
		fd := -1
		switch acc := int(e.Flags) & unix.O_ACCMODE; {
		case acc == unix.O_RDONLY && !usedR:
			fd, usedR = r, true
		case acc == unix.O_WRONLY && !usedW:
			fd, usedW = w, true
		default:
			// Another description of the same pipe, by way of /proc. Reading ends
			// with O_NONBLOCK and writing ones do not wait: both ends are open.
			if fd, err = b.open(fmt.Sprintf("/proc/self/fd/%d", r), acc|unix.O_NONBLOCK, 0); err != nil {
				return err
			}
		}
		err := b.with(fd, func(dup int) error {
			_, err := unix.FcntlInt(uintptr(dup), unix.F_SETFL, openFlags(e.Handle)&^unix.O_ACCMODE)
			return err
		})
		if err != nil {
			return fmt.Errorf("setting the flags of an end: %w", err)
		}
		b.put(e.ID, fd)
	}
	if !usedR {
		b.temporary(r)
	}
	if !usedW {
		b.temporary(w)
	}
	return nil
}

// fillPipe sizes a new pipe and writes what was in the old one.
func fillPipe(fd int, r *pipeRecord) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, r.Size); err != nil && err != unix.EPERM {
		return fmt.Errorf("setting its size to %d: %w", r.Size, err)
	}
	if len(r.Content) == 0 && len(r.Packets) == 0 {
		return nil
	}
	flags := unix.O_NONBLOCK
	packets := r.Packets
	if len(packets) > 0 {
		flags |= unix.O_DIRECT
	} else {
		packets = []int{len(r.Content)}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags); err != nil {
		return fmt.Errorf("writing into it: %w", err)
	}
	rest := r.Content
	for _, n := range packets {
		if got, err := unix.Write(fd, rest[:n]); err != nil || got != n {
			return fmt.Errorf("writing into it: %d of %d bytes: %w", got, n, orSmall(fd, r.Size, err))
		}
		rest = rest[n:]
	}
	return nil
}

// orSmall is why so little went into a pipe that was to have a size.
func orSmall(fd, want int, err error) error {
	if size, failed := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0); failed == nil && size < want {
		return fmt.Errorf("this user has so many pipes that new ones hold %d bytes: close some, or raise fs.pipe-user-pages-soft (pipe(7))", size)
	}
	return orShort(err)
}
