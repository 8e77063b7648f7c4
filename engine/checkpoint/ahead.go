package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/kernel"
	"hither/engine/memory"
	"hither/engine/tracee"
)

// Ahead finds memory to be sent while the app runs on, round after round. Each process
// that has much of it has one thread stopped once, for less than a millisecond, to
// make a userfaultfd that only this side holds (memory.Tracker): the kernel then tells which pages were
// written since the last round. When this process dies, the kernel forgets it all, and the
// app is as it was.
//
// What is sent ahead is private memory: anonymous, and a process's own copies of pages
// of files. Shared memory and stacks wait for the freeze.
type Ahead struct {
	// From is the anonymous memory, in bytes, from which on a process is followed.
	From uint64
	// Budget is how much memory the destination will take.
	Budget uint64

	init     int
	followed map[int]*followed // by host pid
	never    map[int]bool      // host pids that cannot be followed
	broken   map[int]broken    // by thread (host tid)
}

// broken is a call with a time-out that the kernel took up again after it was
// broken off to follow its process: it forgets its number, and when it began.
type broken struct {
	nr, rip, rsp uint64
	until        time.Duration // of the time-out, CLOCK_MONOTONIC; 0: none
}

// followed is a process whose memory goes ahead.
type followed struct {
	inner   int
	tracker *memory.Tracker
	areas   []Area
	lost    bool // what was sent of it is worth nothing
}

// Area is a part of a process's addresses: one that has memory to be sent ahead, and room
// for it to grow. Areas of a process do not overlap.
type Area struct {
	Start, End uint64
	NoReserve  bool // most of it is mapped with MAP_NORESERVE
}

// Round is what goes ahead in one round.
type Round struct {
	Drop    []int          // processes (inside) of which all that went before is void
	Areas   map[int][]Area // that are new, by process (inside)
	Sources []memory.Source
}

// NewAhead is for the capsule with that pid 1 (host pid).
func NewAhead(init int) *Ahead {
	return &Ahead{init: init, followed: map[int]*followed{}, never: map[int]bool{}, broken: map[int]broken{}}
}

// Anonymous is how much anonymous memory the processes have that would be followed, in bytes.
func (a *Ahead) Anonymous() (uint64, error) {
	pids, err := kernel.Descendants(a.init)
	if err != nil {
		return 0, fmt.Errorf("looking at the memory of the app: %w", err)
	}
	sum := uint64(0)
	for _, pid := range pids {
		if n := anonymous(pid); n >= a.From {
			sum += n
		}
	}
	return sum, nil
}

func anonymous(pid int) uint64 {
	st, err := readStatus(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return 0
	}
	return (st.kilobytes("RssAnon") + st.kilobytes("VmSwap")) << 10
}

func (s status) kilobytes(name string) uint64 {
	var n uint64
	fmt.Sscanf(s.text(name), "%d kB", &n) //nolint:errcheck // a kernel without it: 0
	return n
}

// Close lets go of all processes; their memory is as it was.
func (a *Ahead) Close() error {
	var errs []error
	for pid, f := range a.followed {
		errs = append(errs, f.tracker.Close())
		delete(a.followed, pid)
	}
	return errors.Join(errs...)
}

// Round says what is to be sent now. A process that comes or goes meanwhile, or becomes
// another program, is seen by the next round or by the freeze.
func (a *Ahead) Round(t *tracee.Tracer) (*Round, error) {
	pids, err := kernel.Descendants(a.init)
	if err != nil {
		return nil, fmt.Errorf("sending memory ahead: %w", err)
	}
	r := &Round{Areas: map[int][]Area{}}
	for pid := range a.followed {
		if !slices.Contains(pids, pid) {
			a.drop(r, pid)
		}
	}
	left := a.Budget
	for _, pid := range pids {
		f := a.followed[pid]
		if f == nil {
			if a.never[pid] || anonymous(pid) < a.From {
				continue
			}
			if f = a.follow(t, pid); f == nil {
				continue
			}
		}
		err := a.look(r, f, pid)
		if err == nil && f.tracker.Sent() > left {
			a.never[pid] = true // its memory grows out of what was said
			err = errTooMuch
		}
		switch {
		case err == nil:
			left -= f.tracker.Sent()
		case errors.Is(err, tracee.ErrGone), errors.Is(err, errTooMuch):
			a.drop(r, pid)
		default:
			return nil, err
		}
	}
	slices.SortFunc(r.Sources, func(x, y memory.Source) int { return cmp.Compare(x.ID, y.ID) })
	return r, nil
}

var errTooMuch = errors.New("more memory than was announced")

// Lost are processes (inside) whose memory could not be sent (memory.Totals): what went
// before of them is void, too.
func (a *Ahead) Lost(inner []uint32) {
	for _, f := range a.followed {
		f.lost = f.lost || slices.Contains(inner, uint32(f.inner))
	}
}

// drop forgets a process.
func (a *Ahead) drop(r *Round, pid int) {
	f := a.followed[pid]
	f.tracker.Close()
	delete(a.followed, pid)
	r.Drop = append(r.Drop, f.inner)
	delete(r.Areas, f.inner)
	r.Sources = slices.DeleteFunc(r.Sources, func(s memory.Source) bool { return s.Pid == pid })
}

// follow stops one thread of a process for a moment, to watch its memory from then on.
// nil: it cannot be done, or not now.
func (a *Ahead) follow(t *tracee.Tracer, pid int) *followed {
	if !canBeScanned(pid) {
		a.never[pid] = true
		return nil
	}
	st, err := readStatus(fmt.Sprintf("/proc/%d", pid))
	tid := a.undisturbed(pid)
	if err != nil || st.inner() == 0 || tid == 0 {
		return nil
	}
	f := &followed{inner: st.inner()}
	at := sleeps([]int{pid})
	err = t.Do(func() error {
		since := monotonic()
		p, err := t.SeizeThread(pid, tid)
		if err != nil {
			return err
		}
		again := a.again(p, &Frozen{sleeps: at, since: since})
		f.tracker, err = memory.Track(p)
		for th, r := range again {
			err = errors.Join(err, resume(th, r))
		}
		return errors.Join(err, t.Detach(p))
	})
	if err == nil {
		a.followed[pid] = f
		return f
	}
	if f.tracker != nil {
		f.tracker.Close()
	}
	a.never[pid] = !errors.Is(err, tracee.ErrGone)
	return nil
}

// canBeScanned says whether the page tables of a process can be looked at: not if it hides
// itself.
func canBeScanned(pid int) bool {
	scan, err := memory.OpenScanner(pid)
	if err == nil {
		scan.Close()
	}
	return err == nil
}

// undisturbed picks the thread that a stop disturbs least: at best one that does not
// wait with a time-out, never one whose time-out would begin anew. 0: there is none.
func (a *Ahead) undisturbed(pid int) int {
	tids, err := kernel.Threads(pid)
	if err != nil {
		return 0
	}
	second := 0
	for _, tid := range tids {
		text, err := kernel.ReadProc(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
		if err != nil {
			continue
		}
		word, _, _ := strings.Cut(string(text), " ")
		nr, err := strconv.ParseUint(word, 10, 64) // "running" is none
		switch {
		case err != nil || !timed[nr]:
			return tid
		case nr != unix.SYS_EPOLL_PWAIT2 && nr != unix.SYS_RT_SIGTIMEDWAIT && second == 0:
			second = tid
		}
	}
	return second
}

// again are the threads that wait with a time-out which the kernel would begin anew. It
// notes those of which it would not be told any more what they wait in.
func (a *Ahead) again(p *tracee.Process, f *Frozen) map[*tracee.Thread]image.Restart {
	out, since := map[*tracee.Thread]image.Restart{}, f.since
	for _, th := range p.Threads {
		if th.Gone() {
			continue
		}
		st, err := readStatus(fmt.Sprintf("/proc/%d/task/%d", p.Pid, th.Tid))
		if err != nil {
			continue
		}
		// Where a signal waits, the call may end by rights: the kernel knows.
		own, err1 := th.Pending(false)
		all, err2 := th.Pending(true)
		if err1 != nil || err2 != nil || len(own)+len(all) > 0 {
			continue
		}
		regs := th.Regs()
		peek := func(at uint64, n int) ([]byte, error) {
			b := make([]byte, n)
			return b, p.Read(b, at)
		}
		slept := f.slept(th, st)
		r := a.continued(th.Tid, &regs, since)
		if r == nil {
			r, err = interrupted(&regs, peek, slept, false)
		}
		if err != nil || r == nil {
			continue
		}
		out[th] = *r
		if int64(regs.Rax) == restartBlock {
			b := broken{nr: r.Nr, rip: regs.Rip, rsp: regs.Rsp}
			if r.Left >= 0 {
				b.until = since + time.Duration(r.Left)
			}
			a.broken[th.Tid] = b
		}
	}
	return out
}

// continued tells of a thread that waits in a call which was broken off before; nil:
// nothing is known of that.
func (a *Ahead) continued(tid int, regs *unix.PtraceRegs, now time.Duration) *image.Restart {
	if a == nil || int64(regs.Rax) != restartBlock || regs.Orig_rax != unix.SYS_RESTART_SYSCALL {
		return nil
	}
	b, ok := a.broken[tid]
	if !ok || b.rip != regs.Rip || b.rsp != regs.Rsp || b.until != 0 && b.until < now {
		return nil
	}
	r := &image.Restart{Nr: b.nr, Left: -1}
	if b.until != 0 {
		r.Left = int64(b.until - now)
	}
	return r
}

// look lists what a process that is followed has written since the round before.
func (a *Ahead) look(r *Round, f *followed, pid int) error {
	if f.lost {
		return tracee.ErrGone
	}
	mappings, err := readMappings(pid)
	if err != nil {
		return tracee.ErrGone
	}
	mappings = orderly(mappings)
	fresh := f.cover(mappings)
	if len(fresh) > 0 {
		r.Areas[f.inner] = fresh
	}
	var spans []memory.Range
	for i := range mappings {
		if m := &mappings[i]; f.covers(m) {
			spans = append(spans, memory.Range{Start: m.Start, End: m.End})
		}
	}
	ranges, err := f.tracker.Round(spans)
	if err != nil {
		return err
	}
	if len(ranges) > 0 {
		r.Sources = append(r.Sources, memory.Source{Kind: memory.Process, ID: uint32(f.inner), Pid: pid, Ranges: ranges})
	}
	return nil
}

// orderly leaves out what overlaps: the kernel lists the mappings of a running process a
// part at a time, and they change meanwhile.
func orderly(mappings []mapping) []mapping {
	slices.SortStableFunc(mappings, func(x, y mapping) int { return cmp.Compare(x.Start, y.Start) })
	end := uint64(0)
	return slices.DeleteFunc(mappings, func(m mapping) bool {
		if m.Start < end {
			return true
		}
		end = m.End
		return false
	})
}

// mayGoAhead says whether a mapping's pages may be sent ahead.
func (m *mapping) mayGoAhead() bool {
	ofFile := m.ofFile() && m.Perms[2] != 'x' // code is hardly ever written to
	return (m.anonymous() || ofFile) && m.Path != "[stack]" && m.End-m.Start <= areaMost && !m.has("gd") && !m.has("ht") && !m.has("pf") && !m.has("io")
}

// anonymous says whether a mapping will be image.BackAnon and comes with its pages.
func (m *mapping) anonymous() bool {
	if m.Perms[3] == 's' || m.Inode != 0 || m.End > image.TopOfUser || m.has("dp") {
		return false
	}
	name, special := strings.CutPrefix(m.Path, "[")
	return m.Path == "" || special && name != "vdso]" && !strings.HasPrefix(name, "vvar") && name != "vsyscall]" && name != "uprobes]"
}

// ofFile says whether a mapping will be image.BackFile, and a private one.
func (m *mapping) ofFile() bool {
	return m.Perms[3] != 's' && m.Inode != 0 && m.End <= image.TopOfUser && !strings.HasSuffix(m.Path, " (deleted)") && !m.ofZeros()
}

func (m *mapping) ofZeros() bool { return m.Perms[3] != 's' && m.Path == "/dev/zero" }

const (
	areaRoom  = 64 << 20  // by which an area reaches beyond what is mapped
	areaJoin  = 256 << 20 // mappings that lie no further apart share one
	areaAlign = 2 << 20   // a page table's reach
	areaMost  = 256 << 30
	areasMost = 1 << 10 // of a process
)

func (f *followed) covers(m *mapping) bool {
	if !m.mayGoAhead() {
		return false
	}
	for _, a := range f.areas {
		if a.Start <= m.Start && m.End <= a.End {
			return true
		}
	}
	return false
}

// cover makes areas for mappings that no area covers yet. An area stays as it is made:
// what grows beyond is sent after the freeze.
func (f *followed) cover(mappings []mapping) []Area {
	old, fresh := slices.Clone(f.areas), []Area(nil)
	clear := func(start, end uint64) bool {
		return !slices.ContainsFunc(old, func(a Area) bool { return start < a.End && a.Start < end })
	}
	for i := range mappings {
		m := &mappings[i]
		if !m.mayGoAhead() || m.Perms[:3] == "---" || !clear(m.Start, m.End) {
			continue
		}
		if n := len(fresh); n > 0 {
			l := &fresh[n-1]
			if l.NoReserve == m.has("nr") && m.Start-l.End <= areaJoin && m.End-l.Start <= areaMost && clear(l.Start, m.End) {
				l.End = m.End
				continue
			}
		}
		fresh = append(fresh, Area{Start: m.Start, End: m.End, NoReserve: m.has("nr")})
	}
	fresh = fresh[:min(len(fresh), areasMost-len(old))]
	for i := range fresh {
		// Not further than half-way to the next.
		a := &fresh[i]
		below, above := uint64(lowestArea), uint64(image.TopOfUser)
		for _, o := range old {
			if o.End <= a.Start {
				below = max(below, o.End)
			} else {
				above = min(above, o.Start)
			}
		}
		if i > 0 {
			below = max(below, fresh[i-1].End)
		}
		if i+1 < len(fresh) {
			next := fresh[i+1].Start
			above = min(above, max(a.End, (a.End+next)/2&^(areaAlign-1)))
		}
		a.Start = min(a.Start, max(below, (a.Start-min(a.Start, areaRoom))&^(areaAlign-1)))
		a.End = max(a.End, min(above, (a.End+areaRoom+areaAlign-1)&^(areaAlign-1)))
	}
	f.areas = append(f.areas, fresh...)
	return fresh
}

const lowestArea = 1 << 16

// littleSpan is a mapping whose pages are looked at sooner than skipped.
const littleSpan = 1 << 20

// last lists the pages that must travel after the freeze, and the guards.
func (f *followed) last(mappings []mapping, scan *memory.Scanner) (own, guards []memory.Range, err error) {
	var watched, others []memory.Range
	flush := func() error { // what lies between mappings that are watched, in one pass
		o, g, err := scan.Own(others)
		own, guards, others = append(own, o...), append(guards, g...), others[:0]
		return err
	}
	for i := range mappings {
		m := &mappings[i]
		switch span := (memory.Range{Start: m.Start, End: m.End}); {
		case m.anonymous(), m.ofZeros():
			watched = append(watched, span)
			if m.End-m.Start < littleSpan {
				continue
			}
			if err := flush(); err != nil {
				return nil, nil, err
			}
		case m.ofFile():
			span.KeepZeros = true
			watched = append(watched, span)
		case m.Perms[3] != 's' && m.End <= image.TopOfUser:
			others = append(others, span)
		}
	}
	if err := flush(); err != nil {
		return nil, nil, err
	}
	written, err := f.tracker.Last(watched)
	if err != nil {
		return nil, nil, err
	}
	own = append(own, written...)
	for _, w := range watched {
		if w.KeepZeros {
			continue
		}
		g, err := scan.Guards(w.Start, w.End)
		if err != nil {
			return nil, nil, err
		}
		guards = append(guards, g...)
	}
	ascending := func(x, y memory.Range) int { return cmp.Compare(x.Start, y.Start) }
	slices.SortFunc(own, ascending)
	slices.SortFunc(guards, ascending)
	return own, guards, nil
}

// lookAhead is lookAtMemory of a process whose memory went ahead. false: it did not.
func (f *Frozen) lookAhead(p *tracee.Process, s *seen, scan *memory.Scanner) (bool, error) {
	if f.Ahead == nil {
		return false, nil
	}
	ahead := f.Ahead.followed[p.Pid]
	if ahead == nil || ahead.lost {
		return false, nil
	}
	var err error
	s.own, s.guards, err = ahead.last(s.mappings, scan)
	if errors.Is(err, tracee.ErrGone) { // another program by now
		return false, nil
	}
	s.ahead = err == nil
	return true, err
}
