package restore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"hither/engine/checkpoint"
	"hither/engine/image"
	"hither/engine/tracee"
)

// An app knows the vdso by addresses inside it. On a kernel with the same vdso
// it is moved to the same place. On another kernel, the old vdso's bytes come
// with the image and go to the old place, and each of its functions is
// overwritten by a jump to the function of the same name in this kernel's
// vdso, which stays where it was parked. (No thread stands inside the vdso:
// the capture steps them out. What is not solved: a thread that a signal has
// taken out of it, and that is in its handler, comes back into the old bytes.)
// On the next hop the old one is plain memory.

// ForceForeignVDSO has images treated as if they came from another kernel.
// Only tests set it.
var ForceForeignVDSO = os.Getenv("HITHER_TEST_FOREIGN_VDSO") != ""

func (b *Builder) compareVDSO() error {
	here, err := checkpoint.ThisMachine()
	if err != nil {
		return err
	}
	b.foreign = ForceForeignVDSO || !bytes.Equal(here.VDSOHash, b.app.Machine.VDSOHash)
	if !b.foreign {
		return nil
	}
	for _, s := range b.app.Machine.VDSOSymbols {
		if b.symbolHere(here, s.Name) == 0 {
			return fmt.Errorf("this kernel's vdso has no %s, which the app's had: it cannot run here", s.Name)
		}
	}
	b.hereVDSO = here
	return nil
}

func (b *Builder) symbolHere(m image.Machine, name string) uint64 {
	for _, s := range m.VDSOSymbols {
		if s.Name == name {
			return s.Offset
		}
	}
	return 0
}

// patchVDSO leads the functions of an old vdso to this kernel's.
func (b *Builder) patchVDSO(p *tracee.Process, proc *image.Process) error {
	if !b.foreign {
		return nil
	}
	for _, v := range proc.VMAs {
		if v.Backing != image.BackVDSO {
			continue
		}
		if err := p.Write(b.app.Machine.VDSO[:min(len(b.app.Machine.VDSO), int(v.End-v.Start))], v.Start); err != nil {
			return fmt.Errorf("writing the app's vdso: %w", err)
		}
		for _, s := range b.app.Machine.VDSOSymbols {
			if s.Offset+12 > v.End-v.Start || s.Offset > v.End {
				return fmt.Errorf("the app's vdso has %s outside of itself", s.Name)
			}
			jump := []byte{0x48, 0xb8} // movabs $imm64, %rax; jmp *%rax
			jump = binary.LittleEndian.AppendUint64(jump, b.vdsoAt+b.symbolHere(b.hereVDSO, s.Name))
			jump = append(jump, 0xff, 0xe0)
			if err := p.Write(jump, v.Start+s.Offset); err != nil {
				return fmt.Errorf("leading the app's vdso to this kernel's: %w", err)
			}
		}
	}
	return nil
}

// auxv is what the kernel is to tell of the app's auxiliary vector: there the vdso is this kernel's, so that
// the next capture finds it. The app itself has another copy, on its stack.
func (b *Builder) auxv(apps []byte) []byte {
	if !b.foreign {
		return apps
	}
	out := bytes.Clone(apps)
	for entry := out; len(entry) >= 16; entry = entry[16:] {
		if binary.LittleEndian.Uint64(entry) == atSysinfoEhdr {
			binary.LittleEndian.PutUint64(entry[8:], b.vdsoAt)
		}
	}
	return out
}

// atSysinfoEhdr is AT_SYSINFO_EHDR of the auxiliary vector: where the vdso lies.
const atSysinfoEhdr = 33

// lastCap is the highest capability this kernel knows.
func (b *Builder) lastCap() uint64 {
	if b.capLast == 0 {
		b.capLast = 40 // CAP_CHECKPOINT_RESTORE, Linux 5.9
		if data, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
			if n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 6); err == nil {
				b.capLast = n
			}
		}
	}
	return b.capLast
}
