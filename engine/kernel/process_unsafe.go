//go:build linux && amd64

package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// CloneArgs is struct clone_args, clone(2) and include/uapi/linux/sched.h.
type CloneArgs struct {
	Flags      uint64
	Pidfd      uint64
	ChildTid   uint64
	ParentTid  uint64
	ExitSignal uint64
	Stack      uint64
	StackSize  uint64
	TLS        uint64
	SetTid     uint64 // address of an array of int32, innermost pid namespace first
	SetTidSize uint64
	Cgroup     uint64
}

// CloneArgsSize is what clone3 takes as its second argument.
const CloneArgsSize = unsafe.Sizeof(CloneArgs{})

// Bytes is the structure as it lies in memory.
func (a *CloneArgs) Bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(a)), CloneArgsSize)
}

// MMMap is struct prctl_mm_map for PR_SET_MM_MAP, PR_SET_MM(2const).
type MMMap struct {
	StartCode, EndCode uint64
	StartData, EndData uint64
	StartBrk, Brk      uint64
	StartStack         uint64
	ArgStart, ArgEnd   uint64
	EnvStart, EnvEnd   uint64
	Auxv               uint64 // address
	AuxvSize           uint32
	ExeFD              uint32 // ^0: leave the exe link as it is
}

// MMMapSize is what PR_SET_MM_MAP takes as its fourth argument.
const MMMapSize = unsafe.Sizeof(MMMap{})

// Bytes is the structure as it lies in memory.
func (m *MMMap) Bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(m)), MMMapSize)
}

// Kinds of kcmp(2), include/uapi/linux/kcmp.h.
const (
	KcmpFile     = 0
	KcmpVM       = 1
	KcmpFiles    = 2
	KcmpFS       = 3
	KcmpSysVSem  = 6
	KcmpSighand  = 4
	KcmpIO       = 5
	KcmpSysvsem  = 6
	KcmpEpollTfd = 7
)

// Kcmp is kcmp(2): 0 when the two are the same object, 1 and 2 order them
// (less, greater) by a value that stays the same while the machine runs.
func Kcmp(pid1, pid2, kind int, idx1, idx2 uint64) (int, error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_KCMP, uintptr(pid1), uintptr(pid2), uintptr(kind), uintptr(idx1), uintptr(idx2), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// KcmpEpoll compares the file fd of pid with what the epoll descriptor efd of
// epollPid watches under the number tfd (the toff-th of that number).
func KcmpEpoll(pid, fd, epollPid, efd, tfd int, toff uint32) (int, error) {
	// struct kcmp_epoll_slot, include/uapi/linux/kcmp.h.
	slot := struct{ efd, tfd, toff uint32 }{uint32(efd), uint32(tfd), toff}
	r, _, errno := unix.RawSyscall6(unix.SYS_KCMP, uintptr(pid), uintptr(epollPid), KcmpEpollTfd,
		uintptr(fd), uintptr(unsafe.Pointer(&slot)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// RobustList is get_robust_list(2): the head's address and length as the thread set them.
func RobustList(tid int) (head, length uint64, err error) {
	_, _, errno := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid),
		uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&length)))
	if errno != 0 {
		return 0, 0, errno
	}
	return head, length, nil
}

// ReadProcess is process_vm_readv(2) of one run: the bytes read may be fewer
// than asked when the run ends in a hole. PROT_NONE memory is EFAULT.
func ReadProcess(pid int, to []byte, addr uint64) (int, error) {
	return processVM(unix.SYS_PROCESS_VM_READV, pid, to, addr)
}

// WriteProcess is process_vm_writev(2) of one run. Read-only memory is EFAULT.
func WriteProcess(pid int, from []byte, addr uint64) (int, error) {
	return processVM(unix.SYS_PROCESS_VM_WRITEV, pid, from, addr)
}

func processVM(nr uintptr, pid int, buf []byte, addr uint64) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	local := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	remote := unix.RemoteIovec{Base: uintptr(addr), Len: len(buf)}
	n, _, errno := unix.Syscall6(nr, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&remote)), 1, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// ReadProcessRuns reads many runs of another process into many places of this
// one, as process_vm_readv(2) does: it stops at the first run it cannot read.
func ReadProcessRuns(pid int, to []unix.Iovec, runs []unix.RemoteIovec) (int, error) {
	if len(to) == 0 || len(runs) == 0 {
		return 0, nil
	}
	n, _, errno := unix.Syscall6(unix.SYS_PROCESS_VM_READV, uintptr(pid), uintptr(unsafe.Pointer(&to[0])), uintptr(len(to)),
		uintptr(unsafe.Pointer(&runs[0])), uintptr(len(runs)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Processor is getcpu(2): the processor this thread runs on.
func Processor() int {
	var cpu uint32
	_, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
	if errno != 0 {
		return 0
	}
	return int(cpu)
}
