package restore

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/tracee"
)

// A process forked from pid 1 has pid 1's address space: a few pages, the
// kernel's vdso and vvar, and the train. All but the last three goes; the vdso
// moves to where the app knows it; then the app's mappings are made at their
// addresses. The train and a place to park the vdso are chosen where no process
// of the app has anything.

const (
	trainRoom = 4 << 20 // bytes kept free for the train
	parkRoom  = 1 << 20 // and for the vdso on its way
	lowest    = 1 << 20 // no address below is chosen
)

// span is a range of addresses.
type span struct {
	start, end uint64
	name       string
}

func (s span) overlaps(o span) bool { return s.start < o.end && o.start < s.end }

// readSpans reads the mappings of a process of this host.
func readSpans(host int) ([]span, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", host))
	if err != nil {
		return nil, fmt.Errorf("reading the mappings of process %d: %w", host, err)
	}
	var out []span
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) < 5 {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, e1 := strconv.ParseUint(from, 16, 64)
		end, e2 := strconv.ParseUint(to, 16, 64)
		if e1 != nil || e2 != nil {
			return nil, fmt.Errorf("reading the mappings of process %d: %.80q", host, line)
		}
		s := span{start: start, end: end}
		if len(fields) > 5 {
			s.name = fields[5]
		}
		out = append(out, s)
	}
	return out, nil
}

// gap finds size free bytes below the top, clear of all the given spans.
func gap(taken []span, size uint64) (uint64, error) {
	taken = slices.Clone(taken)
	slices.SortFunc(taken, func(a, b span) int {
		switch {
		case a.start > b.start:
			return -1
		case a.start < b.start:
			return 1
		}
		return 0
	})
	// Keep off the top, where stacks grow and kernels put the vdso.
	top := image.TopOfUser - 1<<40
	for _, s := range taken {
		if s.end <= top && top-s.end >= size {
			break
		}
		top = min(top, s.start)
	}
	if top < size+lowest {
		return 0, fmt.Errorf("finding %d free bytes in the address spaces of the app: there are none", size)
	}
	return (top - size) &^ 4095, nil
}

func spansOf(app *image.App) []span {
	var out []span
	for i := range app.Processes {
		for _, v := range app.Processes[i].VMAs {
			// Below a stack the kernel keeps stack_guard_gap free.
			start := v.Start
			if v.Flags&image.VMAGrowsDown != 0 {
				start -= min(start, 1<<20)
			}
			out = append(out, span{start: start, end: v.End})
		}
	}
	return out
}

// space gives a new process the mappings of the app, without their pages.
func (b *Builder) space(p *tracee.Process, proc *image.Process) error {
	var calls []tracee.Call
	var what []string
	add := func(say string, nr uintptr, args ...uint64) {
		c := tracee.Call{Nr: nr}
		copy(c.Args[:], args)
		calls, what = append(calls, c), append(what, say)
	}
	from := uint64(0)
	var special []span
	spans := append(slices.Clone(b.own), span{start: image.TopOfUser, end: image.TopOfUser})
	for _, a := range b.ahead.has[proc.Pid] {
		if a.pid == proc.Pid {
			spans = append(spans, span{start: a.at, end: a.end(), name: areaName})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	for _, s := range spans {
		if s.start > image.TopOfUser {
			continue
		}
		keep := s.name == areaName || s.name == "[vdso]" || strings.HasPrefix(s.name, "[vvar") || s.start == b.train || s.start == image.TopOfUser
		if !keep {
			continue
		}
		if s.start > from {
			add(fmt.Sprintf("clearing %#x-%#x", from, s.start), unix.SYS_MUNMAP, from, s.start-from)
		}
		from = s.end
		if strings.HasPrefix(s.name, "[v") {
			special = append(special, s)
		}
	}
	if err := b.moveVDSO(proc, special, add); err != nil {
		return err
	}
	if err := b.attach(proc, add); err != nil {
		return err
	}
	b.heritable(proc.Pid, add)
	placed := map[*image.VMA]bool{}
	for i := range proc.VMAs {
		v := &proc.VMAs[i]
		if placed[v] = b.mapAhead(proc.Pid, v, add); placed[v] {
			continue
		}
		if err := b.mapVMA(v, add); err != nil {
			return err
		}
	}
	if err := p.Leader().Batch(calls); err != nil {
		return fmt.Errorf("building the address space: %w", err)
	}
	for i, c := range calls {
		if c.Ret < 0 && c.Ret > -4096 {
			return fmt.Errorf("%s: %w", what[i], syscall.Errno(-c.Ret))
		}
	}
	b.copyLater(p, proc, placed)
	return nil
}

const areaName = "[ahead]" // no mapping of the kernel's is called so

type adder func(say string, nr uintptr, args ...uint64)

// moveVDSO brings the kernel's vdso and vvar to where the app has them. If the
// app comes from another kernel, its vdso is plain memory that leads here, and
// the kernel's own stays parked (see vdso.go).
func (b *Builder) moveVDSO(proc *image.Process, special []span, add adder) error {
	move := func(s span, to uint64) {
		if s.start == to {
			return
		}
		add("moving "+s.name, unix.SYS_MREMAP, s.start, s.end-s.start, s.end-s.start,
			unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, to)
	}
	if b.foreign {
		at := b.park
		for _, s := range special {
			move(s, at)
			if s.name == "[vdso]" {
				b.vdsoAt = at
			}
			at += s.end - s.start
		}
		return nil
	}
	want := map[string]uint64{}
	for _, v := range proc.VMAs {
		switch v.Backing {
		case image.BackVDSO:
			want["[vdso]"] = v.Start
		case image.BackVVar:
			want[v.Name] = v.Start
		}
	}
	// Everything parks first where something else is to go where it is now.
	clash := false
	for _, s := range special {
		for _, v := range proc.VMAs {
			clash = clash || s.overlaps(span{start: v.Start, end: v.End}) && want[s.name] != s.start
		}
	}
	if clash {
		at := b.park
		for i, s := range special {
			move(s, at)
			special[i].start, special[i].end = at, at+s.end-s.start
			at = special[i].end
		}
	}
	for _, s := range special {
		to, ok := want[s.name]
		if !ok {
			add("removing "+s.name, unix.SYS_MUNMAP, s.start, s.end-s.start)
			continue
		}
		move(s, to)
	}
	return nil
}

const mapDroppable = 0x08 // MAP_DROPPABLE, include/uapi/linux/mman.h

func (b *Builder) mapVMA(v *image.VMA, add adder) error {
	size := v.End - v.Start
	flags := uint64(unix.MAP_FIXED_NOREPLACE)
	slot, offset := ^uint64(0), uint64(0)
	if v.Shared {
		flags |= unix.MAP_SHARED
	} else {
		flags |= unix.MAP_PRIVATE
	}
	switch v.Backing {
	case image.BackVDSO, image.BackVVar:
		if b.foreign && v.Backing == image.BackVDSO {
			add(fmt.Sprintf("mapping %#x-%#x", v.Start, v.End), unix.SYS_MMAP, v.Start, size, uint64(v.Prot), flags|unix.MAP_ANONYMOUS, slot, 0)
		}
		return nil
	case image.BackAnon:
		flags |= unix.MAP_ANONYMOUS
		if v.Flags&image.VMADroppable != 0 {
			flags = flags&^unix.MAP_PRIVATE | mapDroppable
		}
	case image.BackFile:
		access := unix.O_RDONLY
		if v.Shared && v.Writable {
			access = unix.O_RDWR
		}
		s, ok := b.larder.FileSlot(v.Object, access)
		if !ok {
			return fmt.Errorf("mapping %#x-%#x: file %d was not opened", v.Start, v.End, v.Object)
		}
		slot, offset = uint64(s), v.Offset
	case image.BackShared:
		if b.segments[v.Object] != nil {
			return nil // attached already
		}
		s, ok := b.larder.SharedSlot(v.Object)
		if !ok {
			return fmt.Errorf("mapping %#x-%#x: shared memory %d was not made", v.Start, v.End, v.Object)
		}
		slot, offset = uint64(s), v.Offset
	}
	if v.Flags&image.VMAGrowsDown != 0 {
		flags |= unix.MAP_GROWSDOWN
	}
	if v.Flags&image.VMANoReserve != 0 {
		flags |= unix.MAP_NORESERVE
	}
	add(fmt.Sprintf("mapping %#x-%#x", v.Start, v.End), unix.SYS_MMAP, v.Start, size, uint64(v.Prot), flags, slot, offset)
	return nil
}

const (
	madvGuardInstall = 102 // MADV_GUARD_INSTALL
	mlockOnFault     = 1   // MLOCK_ONFAULT
	sysMseal         = 462
)

// advise sets what mmap does not, once the pages are there.
func (b *Builder) advise(proc *image.Process, scratch []byte, at uint64) (calls []tracee.Call, what []string) {
	used := 0
	add := func(say string, nr uintptr, args ...uint64) {
		c := tracee.Call{Nr: nr}
		copy(c.Args[:], args)
		calls, what = append(calls, c), append(what, say)
	}
	advice := []struct {
		flag image.VMAFlag
		adv  uint64
	}{
		{image.VMADontFork, unix.MADV_DONTFORK}, {image.VMADontDump, unix.MADV_DONTDUMP},
		{image.VMAWipeOnFork, unix.MADV_WIPEONFORK}, {image.VMAHugePage, unix.MADV_HUGEPAGE},
		{image.VMANoHugePage, unix.MADV_NOHUGEPAGE}, {image.VMAMergeable, unix.MADV_MERGEABLE},
		{image.VMASeqRead, unix.MADV_SEQUENTIAL}, {image.VMARandRead, unix.MADV_RANDOM},
	}
	for i := range proc.VMAs {
		v := &proc.VMAs[i]
		if v.Backing == image.BackVDSO || v.Backing == image.BackVVar {
			continue
		}
		size := v.End - v.Start
		if v.Flags&image.VMADroppable == 0 {
			for _, a := range advice {
				if v.Flags&a.flag != 0 {
					add(fmt.Sprintf("advising about %#x", v.Start), unix.SYS_MADVISE, v.Start, size, a.adv)
				}
			}
		}
		for _, g := range v.Guards {
			add(fmt.Sprintf("putting a guard at %#x", g[0]), unix.SYS_MADVISE, g[0], g[1]-g[0], madvGuardInstall)
		}
		if v.Flags&image.VMALocked != 0 {
			flag := uint64(0)
			if v.Flags&image.VMALockOnFault != 0 {
				flag = mlockOnFault
			}
			add(fmt.Sprintf("locking %#x", v.Start), unix.SYS_MLOCK2, v.Start, size, flag)
		}
		if v.Name != "" && used+len(v.Name)+1 <= len(scratch) {
			name := at + uint64(used)
			used += copy(scratch[used:], v.Name+"\x00")
			add(fmt.Sprintf("naming %#x", v.Start), unix.SYS_PRCTL, unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME, v.Start, size, name)
		}
	}
	for i := range proc.VMAs {
		if v := &proc.VMAs[i]; v.Flags&image.VMASealed != 0 && v.Backing != image.BackVDSO && v.Backing != image.BackVVar {
			add(fmt.Sprintf("sealing %#x", v.Start), sysMseal, v.Start, v.End-v.Start, 0)
		}
	}
	return calls, what
}
