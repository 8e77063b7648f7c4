package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/tracee"
)

// thread records one stopped thread.
func (f *Frozen) thread(p *tracee.Process, th *tracee.Thread, look *seenThread, proc *image.Process) (*image.Thread, error) {
	t := &image.Thread{
		Tid: look.tid, RobustHead: look.robustHead, RobustLen: look.robustLen,
		Nice: look.nice, Policy: look.policy, Priority: look.priority,
	}
	if look.cpus.Count() > 0 && look.cpus != f.affinity {
		t.Affinity = cpuBytes(&look.cpus)
	}
	var err error
	if creds := look.creds; !sameCreds(creds, proc.Creds) {
		creds.SecureBits = proc.Creds.SecureBits
		t.Creds = &creds
	}
	regs := th.Regs()
	if t.XState, err = th.XState(); err != nil {
		return nil, fmt.Errorf("reading its extended state: %w", err)
	}
	t.SigMask = th.SigMask()
	pending, err := th.Pending(false)
	if err != nil {
		return nil, fmt.Errorf("reading its queued signals: %w", err)
	}
	for _, s := range pending {
		t.Pending = append(t.Pending, image.SigInfo(s))
	}
	if rseq, err := th.Rseq(); err == nil {
		t.RseqAddr, t.RseqLen, t.RseqSig = rseq.Addr, rseq.Size, rseq.Signature
	}
	data, addr := p.Scratch()
	calls := []tracee.Call{
		{Nr: unix.SYS_SIGALTSTACK, Args: [6]uint64{0, addr}},
		{Nr: unix.SYS_PRCTL, Args: [6]uint64{unix.PR_GET_TID_ADDRESS, addr + 32}},
		{Nr: unix.SYS_PRCTL, Args: [6]uint64{unix.PR_GET_PDEATHSIG, addr + 40}},
		{Nr: unix.SYS_PRCTL, Args: [6]uint64{unix.PR_GET_TIMERSLACK}},
		{Nr: unix.SYS_PRCTL, Args: [6]uint64{unix.PR_GET_NAME, addr + 48}},
	}
	clear(data[:64])
	if err := th.Batch(calls); err != nil {
		return nil, fmt.Errorf("asking it for its signal stack: %w", err)
	}
	if calls[0].Ret == 0 {
		t.AltStack = slices.Clone(data[:24])
	}
	if calls[1].Ret == 0 {
		t.TidAddress = binary.LittleEndian.Uint64(data[32:])
	}
	t.DeathSignal = int(binary.LittleEndian.Uint32(data[40:]))
	if calls[3].Ret > 0 {
		t.TimerSlack = uint64(calls[3].Ret)
	}
	t.Comm = unix.ByteSliceToString(data[48:64])
	peek := func(at uint64, n int) ([]byte, error) {
		b := make([]byte, n)
		return b, p.Read(b, at)
	}
	signalled := deliverable(proc, t)
	endConnect(&regs, signalled, func(fd int) bool { return connected(p, fd) })
	if t.Restart = f.Ahead.continued(th.Tid, &regs, f.since); t.Restart == nil {
		t.Restart, err = interrupted(&regs, peek, look.slept, signalled)
	}
	if err != nil {
		return nil, err
	}
	t.Regs = regsBytes(&regs)
	return t, nil
}

func sameCreds(a, b image.Creds) bool {
	b.SecureBits = a.SecureBits
	groups := slices.Equal(a.Groups, b.Groups)
	a.Groups, b.Groups = nil, nil
	return groups && a.UID == b.UID && a.GID == b.GID && a.Inheritable == b.Inheritable && a.Permitted == b.Permitted &&
		a.Effective == b.Effective && a.Bounding == b.Bounding && a.Ambient == b.Ambient
}

// deliverable tells whether a queued signal with a handler can be delivered
// to the thread now: then an interrupted call ends by rights.
func deliverable(p *image.Process, t *image.Thread) bool {
	for _, queue := range [][]image.SigInfo{p.Pending, t.Pending} {
		for _, info := range queue {
			sig := binary.LittleEndian.Uint32(info)
			if sig < 1 || sig > signals || t.SigMask&(1<<(sig-1)) != 0 {
				continue
			}
			if p.SigActions[sig-1].Handler > 1 { // neither SIG_DFL nor SIG_IGN
				return true
			}
		}
	}
	return false
}

// cpuBytes is a set of processors without the zeros at its end.
func cpuBytes(set *unix.CPUSet) []byte {
	return slices.Clone(bytes.TrimRight(unsafe.Slice((*byte)(unsafe.Pointer(set)), unsafe.Sizeof(*set)), "\x00"))
}

func regsBytes(r *unix.PtraceRegs) []byte {
	return slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r)))
}
