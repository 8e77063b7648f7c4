//go:build linux && amd64

package tracee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hither/engine/kernel"
)

// atSysinfoEhdr is AT_SYSINFO_EHDR of the auxiliary vector: where the vdso lies.
const atSysinfoEhdr = 33

// vdsoSize bounds the search in the vdso: it has two pages today.
const vdsoSize = 8 << 10

var syscallInstruction = []byte{0x0f, 0x05}

// findGadget finds a `syscall` instruction in the process: in its vdso, or else
// in any executable memory. It looks again when the old place has gone. Reading
// the list of mappings is slow (0.5 ms), so it comes last.
func (p *Process) findGadget() (uint64, error) {
	if p.gadget != 0 && p.holds(p.gadget, syscallInstruction) {
		return p.gadget, nil
	}
	p.gadget = 0
	base, vdso := p.vdso(nil)
	if i := bytes.Index(vdso, syscallInstruction); i >= 0 {
		p.gadget = base + uint64(i)
		return p.gadget, nil
	}
	err := p.eachMapping(func(m mapping) bool {
		if m.rights[2] != 'x' || m.name == "[vsyscall]" {
			return true
		}
		code := make([]byte, min(m.end-m.start, 4<<20))
		if p.Read(code, m.start) != nil {
			return true
		}
		if i := bytes.Index(code, syscallInstruction); i >= 0 {
			p.gadget = m.start + uint64(i)
		}
		return p.gadget == 0
	})
	if err == nil && p.gadget == 0 {
		err = fmt.Errorf("%s has no system call instruction anywhere: no call can be made in it", name(p.Pid))
	}
	return p.gadget, err
}

// Known is what a caller has read of a process anyway.
type Known struct {
	Auxv   []byte   // proc_pid_auxv(5)
	Caught uint64   // the signals it catches: SigCgt of proc_pid_status(5)
	Memory []uint64 // where mappings with the name and the size of a train lie, see IsTrain
}

// IsTrain says whether a mapping, by its size and its name in /proc, may be a train.
func IsTrain(size uint64, name string) bool { return size == TrainSize && name == trainName }

const trainName = "/memfd: (deleted)"

// Scout finds out beforehand what Prepare needs to know of the process. Unlike all
// else it may be called off the tracer's thread, while nothing else is done with the
// process. It returns where trains of a tracer that died lie, which Prepare unmaps: they
// are no memory of the program's.
func (p *Process) Scout(known Known) (old []uint64, err error) {
	s := &scouted{}
	p.report = chooseReport(known.Caught)
	base, vdso := p.vdso(known.Auxv)
	if i := bytes.Index(vdso, syscallInstruction); i >= 0 {
		p.gadget = base + uint64(i)
	} else if _, err := p.findGadget(); err != nil {
		return nil, err
	}
	if s.zero, err = p.findZero(base, vdso); err != nil {
		return nil, err
	}
	for _, at := range known.Memory {
		if p.isTrain(at) {
			s.old = append(s.old, at)
		}
	}
	p.scouted = s
	return s.old, nil
}

// scout is Scout for a caller who knows nothing.
func (p *Process) scout() error {
	s := &scouted{}
	var err error
	if s.zero, err = p.findZero(p.vdso(nil)); err != nil {
		return err
	}
	if s.old, err = p.leftovers(); err != nil {
		return err
	}
	p.scouted = s
	return nil
}

type scouted struct {
	zero uint64
	old  []uint64
}

// findZero finds a zero byte, which makes an empty string.
func (p *Process) findZero(base uint64, vdso []byte) (uint64, error) {
	if i := bytes.IndexByte(vdso, 0); i >= 0 {
		return base + uint64(i), nil
	}
	var at uint64
	err := p.eachMapping(func(m mapping) bool {
		page := make([]byte, 4096)
		if m.rights[0] != 'r' || strings.HasPrefix(m.name, "[v") || p.Read(page, m.start) != nil {
			return true
		}
		if i := bytes.IndexByte(page, 0); i >= 0 {
			at = m.start + uint64(i)
		}
		return at == 0
	})
	if err == nil && at == 0 {
		err = errors.New("it has no readable memory")
	}
	return at, err
}

// vdso reads what the auxiliary vector (nil: not read yet) says is the vdso.
func (p *Process) vdso(auxv []byte) (base uint64, image []byte) {
	if auxv == nil {
		auxv, _ = kernel.ReadProc(fmt.Sprintf("/proc/%d/auxv", p.Pid))
	}
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) != atSysinfoEhdr {
			continue
		}
		base := binary.LittleEndian.Uint64(auxv[8:])
		image := make([]byte, vdsoSize)
		if p.Read(image[:vdsoSize/2], base) != nil || !bytes.HasPrefix(image, []byte("\x7fELF")) {
			return 0, nil
		}
		p.vdsoAt = base
		copy(p.vdsoHead[:], image)
		if p.Read(image[vdsoSize/2:], base+vdsoSize/2) != nil {
			image = image[:vdsoSize/2]
		}
		return base, image
	}
	return 0, nil
}

func (p *Process) isTrain(at uint64) bool {
	there := make([]byte, len(trainStub.code))
	if p.Read(there, at) != nil {
		return false
	}
	there[trainStub.signal] = 0
	return bytes.Equal(there, trainStub.code)
}

func (p *Process) holds(at uint64, what []byte) bool {
	there := make([]byte, len(what))
	return p.Read(there, at) == nil && bytes.Equal(there, what)
}

// leftovers finds the trains of a tracer that died. Only a process older than
// this one can have any.
func (p *Process) leftovers() ([]uint64, error) {
	mine, err := startTime("self")
	if err != nil {
		return nil, err
	}
	its, err := startTime(strconv.Itoa(p.Pid))
	if err != nil || its > mine {
		return nil, err
	}
	var all []uint64
	err = p.eachMapping(func(m mapping) bool {
		if IsTrain(m.end-m.start, m.name) && p.isTrain(m.start) {
			all = append(all, m.start)
		}
		return true
	})
	return all, err
}

// startTime is when a process started, in ticks since the machine did.
func startTime(pid string) (uint64, error) {
	stat, err := kernel.ReadProc("/proc/" + pid + "/stat")
	if err != nil {
		return 0, fmt.Errorf("reading when process %s started: %w", pid, err)
	}
	const afterName = 19 // the 22nd field, counted from the third
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) <= afterName {
		return 0, fmt.Errorf("reading when process %s started: %d fields", pid, len(fields))
	}
	return strconv.ParseUint(fields[afterName], 10, 64)
}

// mapping is a line of /proc/PID/maps.
type mapping struct {
	start, end uint64
	rights     string // rwxp
	name       string
}

// eachMapping calls fn for each mapping until it returns false.
func (p *Process) eachMapping(fn func(mapping) bool) error {
	maps, err := kernel.ReadProc(fmt.Sprintf("/proc/%d/maps", p.Pid))
	if err != nil {
		return fmt.Errorf("reading the mappings of %s: %w", name(p.Pid), err)
	}
	for line := range strings.Lines(string(maps)) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 6)
		if len(fields) < 5 || len(fields[1]) != 4 {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil || start >= end {
			continue
		}
		m := mapping{start: start, end: end, rights: fields[1]}
		if len(fields) == 6 {
			m.name = strings.TrimSpace(fields[5])
		}
		if !fn(m) {
			break
		}
	}
	return nil
}
