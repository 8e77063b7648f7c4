//go:build linux && amd64

package memory

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// Place is where the runs of one object go. It is used by several goroutines at once,
// for runs that do not overlap.
type Place interface {
	// Write puts bytes at an address, all or with an error.
	Write(from []byte, addr uint64) error
	// Zero makes memory zero.
	Zero(addr, length uint64) error
}

// Peeker is a Place that tells what it has: other processes may be told of as the same.
type Peeker interface {
	Read(to []byte, addr uint64) error
}

// ErrOutside is reported of a run that lies outside of what was allowed.
var ErrOutside = fmt.Errorf("%w: a run lies outside of the memory that was announced", ErrDamaged)

var zeros = make([]byte, MaxRun)

// ProcessPlace writes into the memory of another process.
type ProcessPlace struct {
	pid     int
	base    uint64
	allowed []Range

	mu  sync.Mutex
	mem *os.File // /proc/PID/mem, for read-only mappings; nil: not needed yet
}

var (
	_ Place  = &ProcessPlace{}
	_ Peeker = &ProcessPlace{}
)

// NewProcessPlace writes into a process (host pid), and only into the allowed ranges.
func NewProcessPlace(pid int, allowed []Range) *ProcessPlace {
	return NewMappedPlace(pid, 0, allowed)
}

// NewMappedPlace writes at base more than a run's address: into shared memory by
// way of a process that has it mapped there. The allowed ranges are in run addresses.
func NewMappedPlace(pid int, base uint64, allowed []Range) *ProcessPlace {
	sorted := slices.Clone(allowed)
	slices.SortFunc(sorted, func(a, b Range) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	var joined []Range
	for _, r := range sorted {
		joined = add(joined, r.Start, r.End)
	}
	return &ProcessPlace{pid: pid, base: base, allowed: joined}
}

// Close frees what the place holds.
func (p *ProcessPlace) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mem == nil {
		return nil
	}
	err := p.mem.Close()
	p.mem = nil
	return err
}

func (p *ProcessPlace) check(addr, length uint64) error {
	i, _ := slices.BinarySearchFunc(p.allowed, addr, func(r Range, addr uint64) int {
		if r.End <= addr {
			return -1
		}
		return 1
	})
	if i < len(p.allowed) && addr >= p.allowed[i].Start && length <= p.allowed[i].End-addr {
		return nil
	}
	return fmt.Errorf("%w (%d bytes at %#x of process %d)", ErrOutside, length, addr, p.pid)
}

// Write implements Place.
func (p *ProcessPlace) Write(from []byte, addr uint64) error {
	if err := p.check(addr, uint64(len(from))); err != nil {
		return err
	}
	addr += p.base
	for len(from) > 0 {
		n, err := kernel.WriteProcess(p.pid, from, addr)
		if err == unix.ESRCH {
			return fmt.Errorf("writing memory of process %d: %w", p.pid, err)
		}
		if n <= 0 {
			// A read-only mapping. By this way what can be written is, too.
			n = len(from)
			if err := p.force(from, addr); err != nil {
				return err
			}
		}
		from, addr = from[n:], addr+uint64(n)
	}
	return nil
}

// Read implements Peeker.
func (p *ProcessPlace) Read(to []byte, addr uint64) error {
	if err := p.check(addr, uint64(len(to))); err != nil {
		return err
	}
	if n, err := kernel.ReadProcess(p.pid, to, addr+p.base); err == nil && n == len(to) {
		return nil
	}
	mem, err := p.memory()
	if err != nil {
		return err
	}
	if _, err := mem.ReadAt(to, int64(addr+p.base)); err != nil {
		return fmt.Errorf("reading %d bytes at %#x of process %d: %w", len(to), addr, p.pid, err)
	}
	return nil
}

// memory is /proc/PID/mem.
func (p *ProcessPlace) memory() (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mem == nil {
		f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.pid), os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("opening the memory of process %d: %w", p.pid, err)
		}
		p.mem = f
	}
	return p.mem, nil
}

// force writes read-only memory, by /proc/PID/mem.
func (p *ProcessPlace) force(from []byte, addr uint64) error {
	mem, err := p.memory()
	if err != nil {
		return err
	}
	if _, err := mem.WriteAt(from, int64(addr)); err != nil {
		return fmt.Errorf("writing %d bytes at %#x of process %d: %w", len(from), addr, p.pid, err)
	}
	return nil
}

// Zero implements Place.
func (p *ProcessPlace) Zero(addr, length uint64) error { return writeZeros(p, addr, length) }

func writeZeros(p Place, addr, length uint64) error {
	for length > 0 {
		n := min(length, uint64(len(zeros)))
		if err := p.Write(zeros[:n], addr); err != nil {
			return err
		}
		addr, length = addr+n, length-n
	}
	return nil
}

// FilePlace writes into a file of shared memory.
type FilePlace struct {
	fd   int
	size uint64
}

var _ Place = &FilePlace{}

// NewFilePlace writes into the first size bytes of the file. The descriptor stays the caller's.
func NewFilePlace(fd int, size uint64) *FilePlace { return &FilePlace{fd, size} }

// Write implements Place.
func (p *FilePlace) Write(from []byte, addr uint64) error {
	if addr > p.size || uint64(len(from)) > p.size-addr {
		return fmt.Errorf("%w (%d bytes at %#x of shared memory of %d bytes)", ErrOutside, len(from), addr, p.size)
	}
	for len(from) > 0 {
		n, err := unix.Pwrite(p.fd, from, int64(addr))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("writing shared memory: %w", err)
		}
		from, addr = from[n:], addr+uint64(n)
	}
	return nil
}

// Zero implements Place.
func (p *FilePlace) Zero(addr, length uint64) error { return writeZeros(p, addr, length) }
