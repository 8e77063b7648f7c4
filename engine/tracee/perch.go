//go:build linux && amd64

package tracee

import (
	"encoding/binary"
	"fmt"

	"hither/engine/kernel"
)

// Of Elf64_Ehdr, elf(5).
const (
	elfHeaderSize = 64
	elfSections   = 40 // e_shoff
	elfEntrySize  = 58 // e_shentsize, e_shnum
)

// perchAt is where in the process the perch goes: at the end of the vdso's last page, if the
// vdso leaves room for it there. 0: nowhere.
func (p *Process) perchAt() uint64 {
	if p.vdsoAt == 0 {
		p.vdso(nil)
	}
	head := p.vdsoHead[:]
	// It may have been moved since, or another program runs.
	if p.vdsoAt == 0 || !p.holds(p.vdsoAt, head) {
		p.vdsoAt = 0
		return 0
	}
	end := binary.LittleEndian.Uint64(head[elfSections:]) +
		uint64(binary.LittleEndian.Uint16(head[elfEntrySize:]))*uint64(binary.LittleEndian.Uint16(head[elfEntrySize+2:]))
	page := (end + pageSize - 1) &^ (pageSize - 1)
	if page-end < perchStub.size() || page > vdsoMost {
		return 0
	}
	return p.vdsoAt + page - perchStub.size()
}

// vdsoMost bounds what is believed of a vdso's header.
const vdsoMost = 64 << 10

// perch writes the perch, with what the thread goes on with.
func (th *Thread) perch() (at uint64, ok bool) {
	if at = th.p.perchAt(); at == 0 {
		return 0, false
	}
	code := append(perchStub.in(th.p), make([]byte, homeSize)...)
	th.putHome(code[perchStub.home:])
	if th.poke(code, at) != nil {
		return 0, false
	}
	th.p.perched = at
	return at, true
}

// leavePerch makes the room in the vdso as empty as it was.
func (p *Process) leavePerch() error {
	th := p.Leader()
	if p.perched == 0 || th == nil || p.perchAt() != p.perched {
		return nil
	}
	if err := th.poke(make([]byte, perchStub.size()), p.perched); err != nil {
		return fmt.Errorf("cleaning the vdso of %s: %w", name(p.Pid), err)
	}
	p.perched = 0
	return nil
}

// poke writes into memory that the process itself cannot write to. A process that hides, and a kernel that
// forbids it to files under /proc, allow it to their tracer.
func (th *Thread) poke(data []byte, at uint64) error {
	if mem, err := th.p.memory(); err == nil {
		if _, err := mem.WriteAt(data, int64(at)); err == nil {
			return nil
		}
	}
	for ; len(data) > 0; data, at = data[8:], at+8 {
		if err := kernel.PtracePoke(th.Tid, at, binary.LittleEndian.Uint64(data)); err != nil {
			return th.failed("writing to the vdso", err)
		}
	}
	return nil
}
