//go:build linux && amd64

package memory

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
	"hither/engine/tracee"
)

// Tracker tells which private pages of a process were written since it last told,
// while the process runs: for memory to be sent ahead of the freeze.
//
// It is a userfaultfd of the process, held by this side, in asynchronous
// write-protect mode: the first write to a page since the last round clears the
// page's protection, inside the kernel, at the price of one fault. The mappings are
// looked up anew in each round, because what is unmapped and mapped again is no
// longer watched, and says so.
type Tracker struct {
	uffd int
	scan *Scanner
	sent []Range // everything that was ever told
}

const uffdFeatures = kernel.UffdFeatureWPAsync | kernel.UffdFeatureWPUnpopulated | kernel.UffdFeatureWPHugetlbShmem

// Track begins to watch a process that is held (so inside of its Tracer's Do); it may
// be let go then.
func Track(p *tracee.Process) (k *Tracker, err error) {
	th := p.Leader()
	if th == nil {
		return nil, tracee.ErrGone
	}
	own, err := th.TakeDescriptor(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK|kernel.UffdUserModeOnly)
	if err != nil {
		return nil, fmt.Errorf("tracking the memory of process %d: taking a userfaultfd: %w", p.Pid, err)
	}
	if err := kernel.UffdOpen(own, uffdFeatures); err != nil {
		unix.Close(own)
		return nil, fmt.Errorf("tracking the memory of process %d: this kernel cannot do it while the process runs: %w", p.Pid, err)
	}
	scan, err := OpenScanner(p.Pid)
	if err != nil {
		unix.Close(own)
		return nil, err
	}
	return &Tracker{uffd: own, scan: scan}, nil
}

// Close ends the watch; the process's memory is as before.
func (k *Tracker) Close() error {
	return errors.Join(unix.Close(k.uffd), k.scan.Close())
}

// Sent is how much memory was ever told of, in bytes.
func (k *Tracker) Sent() uint64 { return Size(k.sent) }

// alive fails when the address space that is watched is no more: its process has ended
// or executed another program. The kernel says so only to who asks for something to
// be changed: here, that a page of which nothing is known may be written.
func (k *Tracker) alive() error {
	if err := kernel.UffdWriteProtect(k.uffd, aliveAt, PageSize, false); err == unix.ESRCH {
		return tracee.ErrGone
	}
	return nil
}

const aliveAt = 1 << 20 // nearly always empty

// Round tells what is to be sent of the private mappings given, each of them whole
// and as it is now, as far as can be known while they change: in the first round all that the process has of its own, then what was
// written since the round before. The process may run; Send it with Options.Live.
func (k *Tracker) Round(mappings []Range) ([]Range, error) {
	if err := k.alive(); err != nil {
		return nil, err
	}
	var all []Range
	for _, m := range mappings {
		// What is watched already stays so. A mapping that was not may lie where
		// one has been sent: what is not in the new one becomes zero in the last round.
		err := kernel.UffdRegister(k.uffd, m.Start, m.End-m.Start, kernel.UffdRegisterWP)
		var own []Range
		if err == nil {
			own, err = k.protect(m)
		}
		switch err {
		case nil:
			all = append(all, own...)
		case unix.EINVAL, unix.EPERM, unix.ENOMEM, unix.EFAULT, unix.EBUSY:
			// It cannot be watched, or is being unmapped: the last round sees to it.
		default:
			return nil, fmt.Errorf("looking for written pages in %#x-%#x: %w", m.Start, m.End, err)
		}
	}
	told := tidy(all)
	k.sent = union(k.sent, told)
	for i := range told {
		// What was sent before may lie there. And what is a file's mapping by now may
		// have been none when the mappings were listed.
		told[i].KeepZeros = true
	}
	return told, nil
}

// protect lists the process's own pages that were written, and protects them again in
// the same pass. Pages that are not there are not marked: that would cost page tables for
// all of a sparse mapping. What has come to lie in the mapping meanwhile and is not watched
// is passed over in silence: an error there would lose what the kernel has protected
// before it came to that.
func (k *Tracker) protect(m Range) ([]Range, error) {
	var own, other []Range
	err := k.scan.each(kernel.PageScan{
		Flags: kernel.ScanWPMatching,
		Start: m.Start, End: m.End,
		Mask:   kernel.PageWritten,
		Return: kernel.PagePresent | kernel.PageSwapped | kernel.PageFile | kernel.PagePFNZero,
	}, func(r kernel.PageRegion) {
		if r.Categories&(kernel.PagePresent|kernel.PageSwapped) != 0 && r.Categories&(kernel.PageFile|kernel.PagePFNZero) == 0 {
			own = add(own, r.Start, r.End)
		} else {
			other = add(other, r.Start, r.End)
		}
	})
	// A page that was sent and is the page of zeros now will not be told of again.
	return union(own, intersect(other, k.sent)), err
}

// Last is the round when the process is stopped: what was written since, what could
// not be watched, and what was sent before but has been given up. A mapping of a file has
// KeepZeros.
func (k *Tracker) Last(mappings []Range) ([]Range, error) {
	if err := k.alive(); err != nil {
		return nil, err
	}
	var all []Range
	for _, m := range mappings {
		look := k.changed
		if m.KeepZeros {
			look = k.changedOfFile
		}
		own, err := look(m)
		if err != nil {
			return nil, fmt.Errorf("looking for written pages in %#x-%#x: %w", m.Start, m.End, err)
		}
		all = append(all, own...)
	}
	return k.told(tidy(all), mappings), nil
}

// changed lists at least what is no longer as it was sent. A mapping that is not
// watched counts as a whole.
func (k *Tracker) changed(m Range) ([]Range, error) {
	changed, err := k.written(m)
	if err != nil {
		return nil, err
	}
	var own []Range
	for _, c := range changed {
		part, err := k.scan.Ranges(c.Start, c.End)
		if err != nil {
			return nil, err
		}
		own = append(own, part...)
	}
	// A page that was sent and is no longer there is zero now.
	return union(own, intersect(changed, k.sent)), nil
}

// written lists pages that were written or are not there.
func (k *Tracker) written(m Range) ([]Range, error) {
	whole := []Range{{Start: m.Start, End: m.End}}
	all, err := k.marked(m)
	if err == unix.EPERM {
		return whole, nil
	}
	if err != nil {
		return nil, err
	}
	// Where even the page table has gone, pages do not count as written.
	const there = kernel.PagePresent | kernel.PageSwapped
	for _, s := range intersect(whole, k.sent) {
		absent, err := k.scan.scan(s.Start, s.End, kernel.PageScan{Inverted: there, Mask: there})
		if err != nil {
			return nil, err
		}
		all = union(all, absent)
	}
	return all, nil
}

// marked lists pages whose protection has been cleared, by the kernel's fast path: this
// mask and nothing else. Pages that are not there count, if there is a page table.
func (k *Tracker) marked(m Range) ([]Range, error) {
	return k.scan.scan(m.Start, m.End, kernel.PageScan{
		Flags: kernel.ScanCheckWPAsync, Mask: kernel.PageWritten, Return: kernel.PageWritten,
	})
}

// changedOfFile is changed for a private mapping of a file, where a copy that was given
// up leaves its mark: it looks like one that is swapped out.
func (k *Tracker) changedOfFile(m Range) ([]Range, error) {
	marked, err := k.marked(m)
	if err == unix.EPERM {
		own, err := k.scan.Ranges(m.Start, m.End)
		return union(own, intersect([]Range{{Start: m.Start, End: m.End}}, k.sent)), err
	}
	if err != nil {
		return nil, err
	}
	own, err := k.scan.scan(m.Start, m.End, kernel.PageScan{
		Inverted: kernel.PageFile | kernel.PagePFNZero, Mask: kernel.PageFile | kernel.PagePFNZero | kernel.PagePresent})
	if err != nil {
		return nil, err
	}
	var swapped []Range
	if swapping() {
		if swapped, err = k.scan.scan(m.Start, m.End, kernel.PageScan{Mask: kernel.PageSwapped}); err != nil {
			return nil, err
		}
	}
	gone := subtract(intersect([]Range{{Start: m.Start, End: m.End}}, k.sent), own)
	return union(union(intersect(own, marked), gone), swapped), nil
}

// swapping says whether anything may be swapped out.
func swapping() bool {
	var info unix.Sysinfo_t
	return unix.Sysinfo(&info) != nil || info.Freeswap != info.Totalswap
}

// told remembers ranges and marks those whose zeros count: what was told before,
// for anything may lie at the other side already, and what belongs to files.
func (k *Tracker) told(all, mappings []Range) []Range {
	var files []Range
	for _, m := range mappings {
		if m.KeepZeros {
			files = append(files, Range{Start: m.Start, End: m.End})
		}
	}
	zeros := union(k.sent, tidy(files))
	k.sent = union(k.sent, all)
	var out []Range
	for _, r := range all {
		at := r.Start
		for _, z := range Within(zeros, r.Start, r.End) {
			if at < z.Start {
				out = append(out, Range{Start: at, End: z.Start})
			}
			out = append(out, Range{Start: z.Start, End: z.End, KeepZeros: true})
			at = z.End
		}
		if at < r.End {
			out = append(out, Range{Start: at, End: r.End})
		}
	}
	return out
}

// tidy sorts ranges and joins what touches.
func tidy(all []Range) []Range {
	slices.SortFunc(all, func(x, y Range) int { return cmp.Compare(x.Start, y.Start) })
	return union(all, nil)
}

// union joins two ascending lists.
func union(a, b []Range) []Range {
	var all []Range
	for len(a) > 0 || len(b) > 0 {
		next := &a
		if len(a) == 0 || len(b) > 0 && b[0].Start < a[0].Start {
			next = &b
		}
		r := (*next)[0]
		*next = (*next)[1:]
		if n := len(all); n > 0 && r.Start <= all[n-1].End {
			all[n-1].End = max(all[n-1].End, r.End)
			continue
		}
		all = append(all, Range{Start: r.Start, End: r.End})
	}
	return all
}

// intersect is what two ascending lists have in common.
func intersect(a, b []Range) []Range {
	var all []Range
	for len(a) > 0 && len(b) > 0 {
		start, stop := max(a[0].Start, b[0].Start), min(a[0].End, b[0].End)
		if start < stop {
			all = append(all, Range{Start: start, End: stop})
		}
		if a[0].End < b[0].End {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return all
}

// subtract is what an ascending list has and another has not.
func subtract(a, b []Range) []Range {
	var all []Range
	for _, r := range a {
		at := r.Start
		for _, o := range Within(b, r.Start, r.End) {
			if at < o.Start {
				all = append(all, Range{Start: at, End: o.Start})
			}
			at = o.End
		}
		if at < r.End {
			all = append(all, Range{Start: at, End: r.End})
		}
	}
	return all
}
