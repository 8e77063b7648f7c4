//go:build linux && amd64

package memory

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// Range is the memory [Start, End).
type Range struct {
	Start, End uint64
	// KeepZeros: pages of zeros travel too, because the memory they go to need
	// not be zero: a private mapping of a file, or an earlier round's pages.
	KeepZeros bool
}

// Size is the sum of all lengths.
func Size(all []Range) uint64 {
	n := uint64(0)
	for _, r := range all {
		n += r.End - r.Start
	}
	return n
}

// add appends a range, or lengthens the last one.
func add(all []Range, start, end uint64) []Range {
	if n := len(all); n > 0 && all[n-1].End == start && !all[n-1].KeepZeros {
		all[n-1].End = end
		return all
	}
	return append(all, Range{Start: start, End: end})
}

// Scanner looks at the page tables of one process.
type Scanner struct {
	pagemap *os.File
	regions []kernel.PageRegion
	old     bool // the kernel has no PAGEMAP_SCAN
	noGuard bool // nor guard pages in it
}

// OpenScanner opens the page tables of a process (host pid). One that is not
// dumpable refuses.
func OpenScanner(pid int) (*Scanner, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, fmt.Errorf("opening the page tables of process %d: %w", pid, err)
	}
	return &Scanner{pagemap: f, regions: make([]kernel.PageRegion, 1024)}, nil
}

// Close closes the scanner.
func (s *Scanner) Close() error { return s.pagemap.Close() }

// Ranges lists the pages in [start, end) of a private mapping that hold what only
// this process has: written anonymous pages, private copies of a file's pages, and
// both when they are swapped out. The shared page of zeros does not count.
func (s *Scanner) Ranges(start, end uint64) ([]Range, error) {
	if !s.old {
		mask := uint64(kernel.PageFile | kernel.PagePFNZero | kernel.PageGuard)
		if s.noGuard {
			mask &^= kernel.PageGuard
		}
		all, err := s.scan(start, end, kernel.PageScan{Inverted: mask, Mask: mask, AnyOf: kernel.PagePresent | kernel.PageSwapped})
		switch {
		case err == nil:
			return all, nil
		case err == unix.EINVAL && !s.noGuard:
			s.noGuard = true
			return s.Ranges(start, end)
		case err == unix.ENOTTY:
			s.old = true
		default:
			return nil, fmt.Errorf("scanning pages %#x-%#x: %w", start, end, err)
		}
	}
	return s.read(start, end)
}

// Guards lists the guard pages (MADV_GUARD_INSTALL) in [start, end).
func (s *Scanner) Guards(start, end uint64) ([]Range, error) {
	if s.old || s.noGuard {
		return nil, nil
	}
	all, err := s.scan(start, end, kernel.PageScan{Mask: kernel.PageGuard})
	switch err {
	case nil:
		return all, nil
	case unix.EINVAL, unix.ENOTTY: // a kernel without them
		return nil, nil
	}
	return nil, fmt.Errorf("scanning for guard pages in %#x-%#x: %w", start, end, err)
}

// Own lists what Ranges and Guards do, for many mappings (ascending) in one pass over the
// page tables. The ranges of mappings that touch may be joined: see Within.
func (s *Scanner) Own(mappings []Range) (own, guards []Range, err error) {
	if len(mappings) == 0 {
		return nil, nil, nil
	}
	if !s.old && !s.noGuard {
		const there = kernel.PagePresent | kernel.PageSwapped
		const not = kernel.PageFile | kernel.PagePFNZero
		err := s.each(kernel.PageScan{
			Start: mappings[0].Start, End: mappings[len(mappings)-1].End,
			Inverted: not, Mask: not, AnyOf: there | kernel.PageGuard, Return: kernel.PageGuard,
		}, func(r kernel.PageRegion) {
			if r.Categories&kernel.PageGuard != 0 {
				guards = add(guards, r.Start, r.End)
			} else {
				own = add(own, r.Start, r.End)
			}
		})
		if err == nil {
			return intersect(own, mappings), intersect(guards, mappings), nil
		}
		if err != unix.EINVAL && err != unix.ENOTTY {
			return nil, nil, fmt.Errorf("scanning pages: %w", err)
		}
	}
	for _, m := range mappings {
		o, err := s.Ranges(m.Start, m.End)
		if err != nil {
			return nil, nil, err
		}
		g, err := s.Guards(m.Start, m.End)
		if err != nil {
			return nil, nil, err
		}
		own, guards = append(own, o...), append(guards, g...)
	}
	return own, guards, nil
}

// Within is what of ascending ranges lies in [start, end).
func Within(all []Range, start, end uint64) []Range {
	first, _ := slices.BinarySearchFunc(all, start, func(r Range, at uint64) int {
		if r.End <= at {
			return -1
		}
		return 1
	})
	var out []Range
	for _, r := range all[first:] {
		if r.Start >= end {
			break
		}
		out = append(out, Range{Start: max(r.Start, start), End: min(r.End, end), KeepZeros: r.KeepZeros})
	}
	return out
}

// scan collects what PAGEMAP_SCAN reports. No category is asked for in return: that
// would only split ranges.
func (s *Scanner) scan(start, end uint64, what kernel.PageScan) ([]Range, error) {
	var all []Range
	what.Start, what.End = start, end
	err := s.each(what, func(r kernel.PageRegion) { all = add(all, r.Start, r.End) })
	return all, err
}

// each calls fn for each region that PAGEMAP_SCAN reports.
func (s *Scanner) each(what kernel.PageScan, fn func(kernel.PageRegion)) error {
	for what.Start < what.End {
		n, err := kernel.ScanPages(int(s.pagemap.Fd()), &what, s.regions)
		if err != nil {
			return err
		}
		for _, r := range s.regions[:n] {
			fn(r)
		}
		// WalkEnd says how far the kernel came, but (Linux 6.18 at least) can fall
		// behind what it reported, if it needed more than one turn inside.
		next := what.WalkEnd
		if n > 0 {
			next = max(next, s.regions[n-1].End)
		}
		if next <= what.Start {
			return nil
		}
		what.Start = next
	}
	return nil
}

// Bits of /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst.
const (
	pagemapPresent = 1 << 63
	pagemapSwapped = 1 << 62
	pagemapFile    = 1 << 61
)

// read is Ranges by way of the older interface, which cannot tell the page of zeros.
func (s *Scanner) read(start, end uint64) ([]Range, error) {
	var all []Range
	buf := make([]byte, 64<<10)
	for at := start; at < end; {
		want := min(len(buf), int((end-at)/PageSize)*8)
		n, err := s.pagemap.ReadAt(buf[:want], int64(at/PageSize*8))
		if n < 8 {
			return nil, fmt.Errorf("reading the page tables at %#x: %w", at, err)
		}
		for i := 0; i+8 <= n; i += 8 {
			bits := binary.LittleEndian.Uint64(buf[i:])
			if bits&(pagemapPresent|pagemapSwapped) != 0 && bits&pagemapFile == 0 {
				all = add(all, at, at+PageSize)
			}
			at += PageSize
		}
	}
	return all, nil
}

// Ranges is Scanner.Ranges for one look.
func Ranges(pid int, start, end uint64) ([]Range, error) {
	s, err := OpenScanner(pid)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Ranges(start, end)
}

// Data lists the parts of a file of shared memory that hold something, by
// SEEK_DATA and SEEK_HOLE. It moves the file's offset: fd must be of the caller's own.
func Data(fd int, size uint64) ([]Range, error) {
	var all []Range
	for at := int64(0); uint64(at) < size; {
		start, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("looking for data in shared memory: %w", err)
		}
		stop, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("looking for holes in shared memory: %w", err)
		}
		if uint64(start) >= size || stop <= start {
			break
		}
		all = add(all, uint64(start), min(uint64(stop), size))
		at = stop
	}
	return all, nil
}

// Mincore turns what mincore(2), injected into a process, said of a mapping at
// start into ranges: of shared memory that no descriptor leads to. Its offset in the
// object is what the caller makes of it.
func Mincore(start uint64, pages []byte) []Range {
	var all []Range
	for i, p := range pages {
		if p&1 != 0 {
			at := start + uint64(i)*PageSize
			all = add(all, at, at+PageSize)
		}
	}
	return all
}
