//go:build linux && amd64

package kernel

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// trySysVIDs asks for System V objects with chosen ids, as apps hold them.
func trySysVIDs() error {
	const wanted = 4242
	for _, kind := range []struct {
		next string
		make func() (uintptr, unix.Errno)
		end  func(id uintptr)
	}{
		{"shm_next_id", func() (uintptr, unix.Errno) {
			id, _, errno := unix.Syscall(unix.SYS_SHMGET, unix.IPC_PRIVATE, 4096, 0o600)
			return id, errno
		}, func(id uintptr) { unix.Syscall(unix.SYS_SHMCTL, id, unix.IPC_RMID, 0) }},
		{"msg_next_id", func() (uintptr, unix.Errno) {
			id, _, errno := unix.Syscall(unix.SYS_MSGGET, unix.IPC_PRIVATE, 0o600, 0)
			return id, errno
		}, func(id uintptr) { unix.Syscall(unix.SYS_MSGCTL, id, unix.IPC_RMID, 0) }},
		{"sem_next_id", func() (uintptr, unix.Errno) {
			id, _, errno := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, 1, 0o600)
			return id, errno
		}, func(id uintptr) { unix.Syscall(unix.SYS_SEMCTL, id, 0, unix.IPC_RMID) }},
	} {
		if err := os.WriteFile("/proc/sys/kernel/"+kind.next, []byte(strconv.Itoa(wanted)), 0); err != nil {
			return err
		}
		id, errno := kind.make()
		if errno != 0 {
			return fmt.Errorf("making an object after setting %s: %w", kind.next, errno)
		}
		kind.end(id)
		if id != wanted {
			return fmt.Errorf("%s: asked for %d, got %d", kind.next, wanted, id)
		}
	}
	return nil
}
