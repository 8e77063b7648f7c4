package restore

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"hither/engine/checkpoint"
	"hither/engine/image"
	"hither/engine/kernel"
	"hither/engine/memory"
	"hither/engine/tracee"
)

// Memory that comes while the app still runs on at the source is put into areas of
// pid 1: each is one anonymous mapping, for a part of the addresses of one process.
// When the tree is made, forks hand each area down to its process (fork copies page
// tables, not pages) and to nobody else, and there mremap moves what is mapped
// to its place, which costs nothing by the page. What of it can go there
// only by a copy is copied. So the downtime does not grow with what came ahead.
//
// An area lies where no process of the app is known to have anything; if one
// has by the time of the freeze, it moves.

// area is one of them.
type area struct {
	checkpoint.Area
	pid  int // inside
	at   uint64
	prot uint32
	to   *memory.ProcessPlace

	mu     sync.Mutex
	chunks map[uint64]*chunk // by number, in the app's addresses
}

// chunk has a bit for each page of some: came, even if only as zeros; was written.
type chunk struct{ came, filled [chunkPages / 64]uint64 }

const (
	chunkPages = 512
	chunkBytes = chunkPages * memory.PageSize
	areasMost  = 1 << 14
	pidMost    = 1 << 22  // PID_MAX_LIMIT
	areasRoom  = 16 << 40 // of addresses, all together
	areaPUD    = 1 << 30  // areas lie as their memory does, modulo this: then whole page tables move
)

// end is where the area ends in the processes that have it.
func (a *area) end() uint64 { return a.at + a.End - a.Start }

func (a *area) span() span { return span{start: a.at, end: a.end()} }

// ahead is what has come of memory so far.
type ahead struct {
	areas  []*area
	budget uint64

	mu   sync.Mutex
	used uint64 // bytes of pages that were written

	copies  []copying
	closers []*memory.ProcessPlace

	// While the tree is made:
	has  map[int][]*area        // by pid inside, 1 too
	shut map[int]map[*area]bool // what its children will not inherit
	heir map[int][]int          // who will descend from whom
}

// Stage makes room for memory that will come ahead, budget bytes at most, and gives up
// what came ahead of the processes to be dropped.
func (b *Builder) Stage(budget uint64, drop []int, fresh map[int][]checkpoint.Area) error {
	b.ahead.budget = budget
	if err := b.unstage(func(a *area) bool { return slices.Contains(drop, a.pid) }); err != nil {
		return err
	}
	for pid, areas := range fresh {
		for _, one := range areas {
			if err := b.makeArea(pid, one); err != nil {
				return err
			}
		}
	}
	return nil
}

// StageOnly gives up what came ahead of all processes but these.
func (b *Builder) StageOnly(pids []int) error {
	return b.unstage(func(a *area) bool { return !slices.Contains(pids, a.pid) })
}

func (b *Builder) unstage(which func(*area) bool) error {
	var c calls
	b.ahead.areas = slices.DeleteFunc(b.ahead.areas, func(a *area) bool {
		if !which(a) {
			return false
		}
		c.add(fmt.Sprintf("giving up what came ahead of process %d", a.pid), unix.SYS_MUNMAP, a.at, a.end()-a.at)
		b.ahead.used -= a.used()
		a.to.Close()
		return true
	})
	return c.run(b.init.Leader())
}

func (a *area) used() uint64 {
	n := uint64(0)
	for _, r := range a.ranges(a.Start, a.End, false) {
		n += r.End - r.Start
	}
	return n
}

// admit checks an area that the other side asks for.
func (h *ahead) admit(pid int, one checkpoint.Area) error {
	size, room := one.End-one.Start, uint64(0)
	bad := one.Start >= one.End || one.End > image.TopOfUser || one.Start%memory.PageSize != 0 || one.End%memory.PageSize != 0
	for _, a := range h.areas {
		room += a.End - a.Start
		bad = bad || a.pid == pid && a.Start < one.End && one.Start < a.End
	}
	if bad || pid <= 1 || pid > pidMost || len(h.areas) == areasMost || size > areasRoom-min(room, areasRoom) {
		return fmt.Errorf("%w: memory of process %d at %#x-%#x cannot be ahead", memory.ErrDamaged, pid, one.Start, one.End)
	}
	return nil
}

// makeArea maps an area into pid 1.
func (b *Builder) makeArea(pid int, one checkpoint.Area) error {
	if err := b.ahead.admit(pid, one); err != nil {
		return err
	}
	size := one.End - one.Start
	a := &area{Area: one, pid: pid, chunks: map[uint64]*chunk{}}
	at, err := b.roomFor(a, nil)
	if err != nil {
		return err
	}
	flags := uint64(unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE)
	if one.NoReserve {
		flags |= unix.MAP_NORESERVE
	}
	// Memory that can be written counts as promised, where the kernel is strict in
	// that: then it can be only when it is in its place.
	for _, a.prot = range []uint32{unix.PROT_READ | unix.PROT_WRITE, unix.PROT_NONE} {
		if a.at, err = call(b.init, "making room for memory that comes ahead", unix.SYS_MMAP, at, size, uint64(a.prot), flags, ^uint64(0), 0); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	// Forks hand it down only to whom it is for.
	if _, err := call(b.init, "keeping memory that comes ahead apart", unix.SYS_MADVISE, a.at, size, unix.MADV_DONTFORK); err != nil {
		return err
	}
	a.place(b.init)
	b.ahead.areas = append(b.ahead.areas, a)
	return nil
}

func (a *area) place(p *tracee.Process) {
	a.to = memory.NewMappedPlace(p.Pid, a.at-a.Start, []memory.Range{{Start: a.Start, End: a.End}})
}

// roomFor finds addresses for an area: apart from pid 1's, from what is known of the
// app's, and from all other areas.
func (b *Builder) roomFor(a *area, app []span) (uint64, error) {
	taken := append(slices.Clone(app), b.bare...)
	taken = append(taken, span{start: b.train, end: b.park + parkRoom})
	for _, o := range append(slices.Clone(b.ahead.areas), a) {
		if o != a {
			taken = append(taken, span{start: o.at - memory.PageSize, end: o.end() + memory.PageSize})
		}
		taken = append(taken, span{start: o.Start, end: o.End})
	}
	at, err := gap(taken, a.End-a.Start+areaPUD)
	if err != nil {
		return 0, err
	}
	return at + (a.Start-at)%areaPUD, nil
}

// StagePlace says where pages go that come ahead. See memory.Receive.
func (b *Builder) StagePlace(kind memory.Kind, id uint32) (memory.Place, error) {
	p := &stagePlace{ahead: &b.ahead}
	for _, a := range b.ahead.areas {
		if uint32(a.pid) == id && kind == memory.Process {
			p.areas = append(p.areas, a)
		}
	}
	if len(p.areas) == 0 {
		return nil, fmt.Errorf("%w: there is no room for it", memory.ErrDamaged)
	}
	return p, nil
}

// stagePlace is the areas of one process.
type stagePlace struct {
	ahead *ahead
	areas []*area
}

// each calls fn for the parts of a run; all of it must lie in areas.
func (p *stagePlace) each(addr, length uint64, fn func(a *area, from, to uint64) error) error {
	for length > 0 {
		i := slices.IndexFunc(p.areas, func(a *area) bool { return a.Start <= addr && addr < a.End })
		if i < 0 || addr%memory.PageSize != 0 || length%memory.PageSize != 0 {
			return fmt.Errorf("%w (%d bytes at %#x, ahead)", memory.ErrOutside, length, addr)
		}
		n := min(length, p.areas[i].End-addr)
		if err := fn(p.areas[i], addr, addr+n); err != nil {
			return err
		}
		addr, length = addr+n, length-n
	}
	return nil
}

// Write implements memory.Place.
func (p *stagePlace) Write(from []byte, addr uint64) error {
	return p.each(addr, uint64(len(from)), func(a *area, start, end uint64) error {
		if err := p.ahead.spend(a.mark(start, end, true)); err != nil {
			return err
		}
		return a.to.Write(from[start-addr:end-addr], start)
	})
}

// Zero implements memory.Place. What was not written to is zero already.
func (p *stagePlace) Zero(addr, length uint64) error {
	return p.each(addr, length, func(a *area, start, end uint64) error {
		filled := a.ranges(start, end, true)
		if err := p.ahead.spend(a.mark(start, end, false)); err != nil {
			return err
		}
		return zero(a, filled)
	})
}

func zero(a *area, all []memory.Range) error {
	for _, r := range all {
		if err := a.to.Zero(r.Start, r.End-r.Start); err != nil {
			return err
		}
	}
	return nil
}

// spend counts pages against the budget.
func (h *ahead) spend(pages int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.used += uint64(pages) * memory.PageSize; h.used > h.budget {
		return fmt.Errorf("%w: more memory comes ahead than the %d bytes that were agreed on", memory.ErrDamaged, h.budget)
	}
	return nil
}

// mark notes that pages came, and says how many had not before.
func (a *area) mark(start, end uint64, filled bool) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := 0
	for at := start; at < end; at += memory.PageSize {
		c := a.chunks[at/chunkBytes]
		if c == nil {
			c = new(chunk)
			a.chunks[at/chunkBytes] = c
		}
		page := at / memory.PageSize % chunkPages
		bit := uint64(1) << (page % 64)
		if c.came[page/64]&bit == 0 {
			c.came[page/64] |= bit
			fresh++
		}
		if filled {
			c.filled[page/64] |= bit
		}
	}
	return fresh
}

// ranges are the pages of [start, end) that came, or that were written.
func (a *area) ranges(start, end uint64, filled bool) []memory.Range {
	a.mu.Lock()
	defer a.mu.Unlock()
	var chunks []uint64
	if (end-start)/chunkBytes > uint64(len(a.chunks)) {
		for n := range a.chunks {
			chunks = append(chunks, n)
		}
		slices.Sort(chunks)
	} else {
		for n := start / chunkBytes; n*chunkBytes < end; n++ {
			chunks = append(chunks, n)
		}
	}
	var out []memory.Range
	for _, n := range chunks {
		c := a.chunks[n]
		if c == nil {
			continue
		}
		bits := &c.came
		if filled {
			bits = &c.filled
		}
		for page := range uint64(chunkPages) {
			at := n*chunkBytes + page*memory.PageSize
			if at < start || at >= end || bits[page/64]&(1<<(page%64)) == 0 {
				continue
			}
			if n := len(out); n > 0 && out[n-1].End == at {
				out[n-1].End += memory.PageSize
			} else {
				out = append(out, memory.Range{Start: at, End: at + memory.PageSize})
			}
		}
	}
	return out
}

// bequeath prepares for the tree to be made: areas move out of the way of what the app
// has, and it is noted who descends from whom.
func (b *Builder) bequeath(app []span, steps []step) error {
	h := &b.ahead
	if len(h.areas) == 0 {
		return nil
	}
	var c calls
	for _, a := range h.areas {
		if !slices.ContainsFunc(app, a.span().overlaps) {
			continue
		}
		to, err := b.roomFor(a, app)
		if err != nil {
			return err
		}
		size := a.end() - a.at
		c.add("moving memory that came ahead out of the way", unix.SYS_MREMAP, a.at, size, size, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, to)
		a.at = to
	}
	if err := c.run(b.init.Leader()); err != nil {
		return err
	}
	h.has, h.shut, h.heir = map[int][]*area{1: slices.Clone(h.areas)}, map[int]map[*area]bool{1: {}}, map[int][]int{}
	for _, a := range h.areas {
		h.shut[1][a] = true
	}
	for _, s := range slices.Backward(steps) {
		if s.Op == opFork {
			h.heir[s.By] = append(append(h.heir[s.By], s.Pid), h.heir[s.Pid]...)
		}
	}
	return nil
}

// inherits says whether a process to be made gets areas from its maker.
func (h *ahead) inherits(pid int) bool {
	return slices.ContainsFunc(h.areas, func(a *area) bool { return a.pid == pid || slices.Contains(h.heir[pid], a.pid) })
}

// open lets a process's next child inherit what is for it and its descendants, and
// nothing else.
func (b *Builder) open(p *tracee.Process, by, child int) error {
	h := &b.ahead
	if h.has == nil {
		return nil
	}
	var c calls
	var out []*area
	for _, a := range h.has[by] {
		mine := a.pid == child || slices.Contains(h.heir[child], a.pid)
		if mine {
			out = append(out, a)
		}
		if mine != h.shut[by][a] {
			continue
		}
		advice := uint64(unix.MADV_DONTFORK)
		if mine {
			advice = unix.MADV_DOFORK
		}
		c.add("handing down memory that came ahead", unix.SYS_MADVISE, a.at, a.end()-a.at, advice)
		h.shut[by][a] = !mine
	}
	h.has[child], h.shut[child] = out, map[*area]bool{}
	return c.run(p.Leader())
}

// handed takes from a process what its child has inherited: pages that two
// have would be copied when one writes.
func (b *Builder) handed(p *tracee.Process, by, child int) error {
	h := &b.ahead
	if h.has == nil {
		return nil
	}
	var c calls
	for _, a := range h.has[child] {
		c.add("leaving memory to who inherited it", unix.SYS_MUNMAP, a.at, a.end()-a.at)
	}
	h.has[by] = slices.DeleteFunc(h.has[by], func(a *area) bool { return slices.Contains(h.has[child], a) })
	return c.run(p.Leader())
}

// heritable lets a process's own areas be inherited again: its children to come are the app's.
func (b *Builder) heritable(pid int, add adder) {
	for _, a := range b.ahead.has[pid] {
		if a.pid == pid && b.ahead.shut[pid][a] {
			add("making memory that came ahead as other memory", unix.SYS_MADVISE, a.at, a.end()-a.at, unix.MADV_DOFORK)
		}
	}
}

// leave unmaps what nobody has inherited.
func (b *Builder) leave() error {
	var c calls
	for _, a := range b.ahead.has[1] {
		c.add("giving up memory that came ahead", unix.SYS_MUNMAP, a.at, a.end()-a.at)
	}
	delete(b.ahead.has, 1)
	for _, a := range b.ahead.areas {
		a.to.Close()
	}
	return c.run(b.init.Leader())
}

// mapAhead moves a mapping's memory from an area to its place, or says that it must be
// mapped as others.
func (b *Builder) mapAhead(pid int, v *image.VMA, add adder) bool {
	if v.Backing != image.BackAnon || !goesAhead(v) || v.Flags&image.VMAGrowsDown != 0 {
		return false
	}
	for _, a := range b.ahead.has[pid] {
		if a.pid != pid || a.NoReserve != (v.Flags&image.VMANoReserve != 0) || v.Start < a.Start || v.End > a.End {
			continue
		}
		size := v.End - v.Start
		say := fmt.Sprintf("moving %#x-%#x to its place", v.Start, v.End)
		add(say, unix.SYS_MREMAP, a.at+v.Start-a.Start, size, size, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, v.Start)
		if v.Prot != a.prot {
			add(say, unix.SYS_MPROTECT, v.Start, size, uint64(v.Prot))
		}
		return true
	}
	return false
}

// goesAhead says whether what came ahead of a mapping's addresses counts.
func goesAhead(v *image.VMA) bool {
	return !v.Shared && (v.Backing == image.BackAnon || v.Backing == image.BackFile) && v.Flags&image.VMADroppable == 0
}

// copyLater notes what came ahead for mappings that no area could become: it must be copied.
func (b *Builder) copyLater(p *tracee.Process, proc *image.Process, placed map[*image.VMA]bool) {
	h := &b.ahead
	for _, a := range h.has[proc.Pid] {
		if a.pid != proc.Pid {
			continue
		}
		a.place(p)
		for i := range proc.VMAs {
			v := &proc.VMAs[i]
			if placed[v] || !goesAhead(v) || v.Start >= a.End || a.Start >= v.End {
				continue
			}
			to := memory.NewProcessPlace(p.Pid, []memory.Range{{Start: v.Start, End: v.End}})
			h.closers = append(h.closers, to)
			for _, r := range a.ranges(max(a.Start, v.Start), min(a.End, v.End), false) {
				for at := r.Start; at < r.End; at += memory.MaxRun {
					h.copies = append(h.copies, copying{a, to, at, min(memory.MaxRun, r.End-at)})
				}
			}
		}
		h.closers = append(h.closers, a.to)
	}
}

// copying is a piece of memory that goes from an area to its place.
type copying struct {
	from *area
	to   *memory.ProcessPlace
	at   uint64
	n    uint64
}

// copyAhead copies what copyLater noted, and gives up the areas.
func (b *Builder) copyAhead() error {
	h := &b.ahead
	var next atomic.Int64
	errs := make([]error, min(4, runtime.GOMAXPROCS(0)))
	var workers sync.WaitGroup
	for w := range errs {
		if len(h.copies) == 0 {
			break
		}
		workers.Go(func() {
			buf := make([]byte, memory.MaxRun)
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= len(h.copies) {
					return
				}
				c := &h.copies[i]
				if errs[w] = c.from.to.Read(buf[:c.n], c.at); errs[w] == nil {
					errs[w] = c.to.Write(buf[:c.n], c.at)
				}
			}
		})
	}
	workers.Wait()
	for _, c := range h.closers {
		errs = append(errs, c.Close())
	}
	h.copies, h.closers = nil, nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("bringing memory that came ahead to its place: %w", err)
	}
	for pid, areas := range h.has {
		var c calls
		for _, a := range areas {
			if a.pid == pid {
				c.add("giving up the rest of what came ahead", unix.SYS_MUNMAP, a.at, a.end()-a.at)
			}
		}
		if p := b.procs[pid]; p != nil {
			if err := c.run(p.Leader()); err != nil {
				return err
			}
		}
	}
	h.has = nil
	return nil
}

// finalPlace is where the rest of a process's memory goes, some of which came ahead.
type finalPlace struct {
	*memory.ProcessPlace
	areas     []*area
	anonymous []memory.Range
}

// Zero implements memory.Place: anonymous memory that has not come ahead is zero.
func (p *finalPlace) Zero(addr, length uint64) error {
	if len(memory.Within(p.anonymous, addr, addr+length)) != 1 || memory.Size(memory.Within(p.anonymous, addr, addr+length)) != length {
		return p.ProcessPlace.Zero(addr, length)
	}
	for _, a := range p.areas {
		if start, end := max(a.Start, addr), min(a.End, addr+length); start < end {
			for _, r := range a.ranges(start, end, true) {
				if err := p.ProcessPlace.Zero(r.Start, r.End-r.Start); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// final is the place of a process's memory.
func (b *Builder) final(proc *image.Process, place *memory.ProcessPlace) memory.Place {
	f := &finalPlace{ProcessPlace: place}
	for _, a := range b.ahead.areas {
		if a.pid == proc.Pid {
			f.areas = append(f.areas, a)
		}
	}
	if len(f.areas) == 0 {
		return place
	}
	for i := range proc.VMAs {
		if v := &proc.VMAs[i]; v.Backing == image.BackAnon {
			f.anonymous = append(f.anonymous, memory.Range{Start: v.Start, End: v.End})
		}
	}
	return f
}

// Staged is what came ahead, apart from any capsule.
type Staged struct {
	file   *os.File
	budget uint64
	areas  []*area
}

// Keep copies what came ahead out of the capsule, which will be made anew.
func (b *Builder) Keep() (*Staged, error) {
	s := &Staged{budget: b.ahead.budget, areas: slices.Clone(b.ahead.areas)}
	if len(s.areas) == 0 {
		return s, nil
	}
	fd, err := unix.MemfdCreate("hither-ahead", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("keeping memory that came ahead: %w", err)
	}
	s.file = os.NewFile(uintptr(fd), "ahead")
	err = s.each(func(a *area, part []byte, at uint64, offset int64) error {
		if n, err := kernel.ReadProcess(b.init.Pid, part, a.at+at-a.Start); err != nil || n != len(part) {
			if err := a.to.Read(part, at); err != nil {
				return err
			}
		}
		_, err := s.file.WriteAt(part, offset)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keeping memory that came ahead: %w", err), s.Close())
	}
	return s, nil
}

// each calls fn for all pages that came ahead, some at a time.
func (s *Staged) each(fn func(a *area, part []byte, at uint64, offset int64) error) error {
	buf, offset := make([]byte, memory.MaxRun), int64(0)
	for _, a := range s.areas {
		for _, r := range a.ranges(a.Start, a.End, true) {
			for at := r.Start; at < r.End; {
				part := buf[:min(uint64(len(buf)), r.End-at)]
				if err := fn(a, part, at, offset); err != nil {
					return err
				}
				at, offset = at+uint64(len(part)), offset+int64(len(part))
			}
		}
	}
	return nil
}

// Close frees it.
func (s *Staged) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// Return puts it into a new capsule.
func (b *Builder) Return(s *Staged) error {
	b.ahead.budget = s.budget
	fresh := map[*area]*area{}
	for _, a := range s.areas {
		if err := b.makeArea(a.pid, a.Area); err != nil {
			return err
		}
		fresh[a] = b.ahead.areas[len(b.ahead.areas)-1]
		for _, r := range a.ranges(a.Start, a.End, false) {
			if err := b.ahead.spend(fresh[a].mark(r.Start, r.End, false)); err != nil {
				return err
			}
		}
	}
	return s.each(func(a *area, part []byte, at uint64, offset int64) error {
		if _, err := s.file.ReadAt(part, offset); err != nil {
			return fmt.Errorf("bringing back memory that came ahead: %w", err)
		}
		to := fresh[a]
		if err := b.ahead.spend(to.mark(at, at+uint64(len(part)), true)); err != nil {
			return err
		}
		return to.to.Write(part, at)
	})
}
