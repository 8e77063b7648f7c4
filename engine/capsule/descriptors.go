package capsule

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The descriptors that pid 1 holds, by number. All are close-on-exec there, so
// that a process of the app never has one; a process made in pid 1 by clone
// without exec has them all and must close FDFirst to FDLast itself. Anyone
// with this user's rights outside takes a duplicate by Descriptor.
const (
	FDFirst = FDGo

	FDGo         = 3  // pipe, read end: commands to pid 1, CommandStart and CommandGo
	FDGoWrite    = 4  // its write end
	FDExitWrite  = 5  // pipe, write end: reports of ended children, {pid, status} as two int32
	FDExitRead   = 6  // its read end
	FDExecChild  = 7  // seqpacket pair: the end a new child of pid 1 takes its orders from
	FDExecKeeper = 8  // the keeper's end
	FDSelf       = 9  // the hither binary, which such a child executes
	FDTerminal   = 10 // master of the app's terminal; closed if it has none
	FDNet        = 11 // TUN or packet socket; closed if there is none
	FDSignal     = 12 // signalfd for SIGCHLD
	FDDisplay    = 13 // listens for X clients, see package display; 13 and 14 are closed if it has no display
	FDBus        = 14 // listens for those of the session bus

	FDLast = FDBus
)

// What may be written to FDGoWrite.
const (
	CommandStart = 's' // fork a child that takes an order from FDExecChild
	CommandGo    = 'g' // a restored app is there: begin to reap
)

// execPatience bounds how long a process may take to execute a program.
const execPatience = time.Second

// pidfdGetfd duplicates a descriptor of another process. While a process of
// several threads executes a program, the kernel may answer ESRCH though it
// lives: the thread that had its pid is ending (kernel/pid.c, __pidfd_fget).
func pidfdGetfd(pidfd, fd int) (int, error) {
	ended := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(execPatience); ; {
		n, err := unix.PidfdGetfd(pidfd, fd, 0)
		if err == unix.ESRCH && time.Now().Before(deadline) {
			// A signal, such as Go's own, ends the wait, too.
			if ready, perr := unix.Poll(ended, 1); perr == unix.EINTR || ready == 0 && perr == nil {
				continue
			}
		}
		if err != unix.EINTR {
			return n, err
		}
	}
}

// descriptorOf is a duplicate, as a file, of descriptor fd of the process behind pidfd.
func descriptorOf(pidfd, fd int, name string) (*os.File, error) {
	n, err := pidfdGetfd(pidfd, fd)
	if err != nil {
		return nil, fmt.Errorf("taking the %s from the capsule's pid 1: %w", name, err)
	}
	return os.NewFile(uintptr(n), name), nil
}
