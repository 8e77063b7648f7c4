package checkpoint

import (
	"golang.org/x/sys/unix"

	"hither/engine/tracee"
)

// endConnect ends a connect(2) that the freeze broke off when the connection
// was already made. Here the kernel would find that out as it takes the call up
// again; at the destination the socket has long been connected, and a second connect
// gives EISCONN.
func endConnect(regs *unix.PtraceRegs, deliverable bool, connected func(fd int) bool) {
	result := int64(regs.Rax)
	if regs.Orig_rax != unix.SYS_CONNECT || result != restartSys && (result != -int64(unix.EINTR) || deliverable) {
		return
	}
	if connected(int(int32(regs.Rdi))) {
		regs.Rax, regs.Orig_rax = 0, ^uint64(0)
	}
}

// connected tells whether a descriptor of the process is a connected socket.
func connected(p *tracee.Process, fd int) bool {
	own, err := p.GetFD(fd)
	if err != nil {
		return false
	}
	defer unix.Close(own)
	_, err = unix.Getpeername(own)
	return err == nil
}
