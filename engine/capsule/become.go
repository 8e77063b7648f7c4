package capsule

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/display"
)

// fdLastPid is /proc/sys/kernel/ns_last_pid. Pid 1 writes there and closes it, first of
// all, so that the app's first process becomes pid 2: Go, which may start a thread at
// any time, is gone by then.
const fdLastPid = FDLast + 1

// becoming is for tests: what happens to a process that has placed descriptors and
// is about to exec.
var becoming = func(*Spec) {}

// becomeInit makes what pid 1 holds and becomes it; net is the network's
// descriptor or -1. It returns only if that fails.
func becomeInit(s *Spec, net int) error {
	lastPid, err := openHigh("/proc/sys/kernel/ns_last_pid", unix.O_WRONLY)
	if err != nil {
		return fmt.Errorf("%w (the kernel needs CONFIG_CHECKPOINT_RESTORE)", err)
	}
	held := map[int]int{} // number in pid 1 -> descriptor now
	if err := initPipes(held); err != nil {
		return err
	}
	if held[FDSelf], err = high(stageSelf); err != nil {
		return err
	}
	if net >= 0 {
		if held[FDNet], err = high(net); err != nil {
			return err
		}
	}
	if s.TTY && !s.Restore {
		if held[FDTerminal], err = openTerminal("/dev/ptmx", s.Winsize, s.Termios); err != nil {
			return err
		}
	}
	if !s.NoDisplay && !s.Restore { // an app that comes brings them
		for i, service := range display.Services(RuntimeDir(os.Getuid())) {
			fd, err := service.Listen()
			if err != nil {
				return err
			}
			if held[FDDisplay+i], err = high(fd); err != nil {
				return err
			}
		}
	}
	reports, err := high(stageReport)
	if err != nil {
		return err
	}
	null, err := openHigh("/dev/null", unix.O_RDWR)
	if err != nil {
		return err
	}
	program, err := initMemfd()
	if err != nil {
		return err
	}

	// From here on numbers are taken that were Go's own: nothing but plain system
	// calls until exec.
	if err := ownFiles(); err != nil {
		return err
	}
	held[0], held[1], held[2] = null, null, null
	for n := 0; n <= FDLast; n++ {
		fd, ok := held[n]
		if !ok {
			unix.Close(n) //nolint:errcheck // often not open
			continue
		}
		if err := unix.Dup3(fd, n, 0); err != nil {
			tell(reports, report{Error: fmt.Sprintf("placing pid 1's descriptor %d: %v", n, err)})
			os.Exit(1)
		}
	}
	err = unix.Dup3(lastPid, fdLastPid, 0)
	becoming(s)
	if err == nil {
		err = syscall.Exec(fdPath(program), []string{"hither"}, []string{"hither", "capsule-exec"})
	}
	tell(reports, report{Error: fmt.Sprintf("starting pid 1: %v", err)})
	os.Exit(1)
	return nil
}

// enterRoot mounts /proc, which shows this pid namespace, and makes the new root
// the root.
func enterRoot() error {
	if err := unix.Chdir(stage); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	if err := unix.Mount("proc", "proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		cure := ""
		if errors.Is(err, unix.EPERM) {
			cure = " (parts of this host's own /proc are covered, as container engines do; run hither outside of the container, or give it an unmasked /proc)"
		}
		return fmt.Errorf("mounting /proc: %w%s", err, cure)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing to the new root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the host's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	return nil
}

// ownFiles gives this thread, which is locked and about to exec, descriptors of its own,
// so that it may place any number. Go's other threads poll an epoll that has one of these
// numbers, and end the process if they find something else there.
func ownFiles() error {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return fmt.Errorf("parting from the descriptors of other threads: %w", err)
	}
	return nil
}

// high moves a descriptor out of the range that pid 1's numbers come from.
func high(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 64)
	if err != nil {
		return -1, fmt.Errorf("moving descriptor %d: %w", fd, err)
	}
	return n, nil
}

// openHigh opens a file there.
func openHigh(name string, flags int) (int, error) {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening %s: %w", name, err)
	}
	defer unix.Close(fd)
	return high(fd)
}

// initPipes makes the descriptors by which pid 1 is spoken to.
func initPipes(held map[int]int) error {
	place := func(number, fd int) error {
		n, err := high(fd)
		unix.Close(fd)
		held[number] = n
		return err
	}
	var command, exits [2]int
	if err := unix.Pipe2(command[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("making pid 1's command pipe: %w", err)
	}
	if err := unix.Pipe2(exits[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("making pid 1's report pipe: %w", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making pid 1's order sockets: %w", err)
	}
	var mask unix.Sigset_t
	mask.Val[0] = 1 << (unix.SIGCHLD - 1)
	sig, err := unix.Signalfd(-1, &mask, unix.SFD_NONBLOCK|unix.SFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("making pid 1's signal descriptor: %w", err)
	}
	return errors.Join(place(FDGo, command[0]), place(FDGoWrite, command[1]),
		place(FDExitRead, exits[0]), place(FDExitWrite, exits[1]),
		place(FDExecChild, pair[0]), place(FDExecKeeper, pair[1]), place(FDSignal, sig))
}

// openTerminal makes a pseudo-terminal in the devpts that ptmx belongs to and
// returns its master.
func openTerminal(ptmx string, size Winsize, mode *Termios) (int, error) {
	master, err := openHigh(ptmx, unix.O_RDWR|unix.O_NOCTTY)
	if err != nil {
		return -1, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fmt.Errorf("unlocking the terminal: %w", err)
	}
	if size.Row != 0 && size.Col != 0 {
		if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &size); err != nil {
			return -1, fmt.Errorf("sizing the terminal: %w", err)
		}
	}
	if mode != nil {
		if err := unix.IoctlSetTermios(master, unix.TCSETS, mode); err != nil {
			return -1, fmt.Errorf("setting the terminal's modes: %w", err)
		}
	}
	return master, nil
}

// initMemfd is the program of pid 1 as an executable file in memory.
func initMemfd() (int, error) {
	elf, err := initELF()
	if err != nil {
		return -1, err
	}
	fd, err := unix.MemfdCreate("hither", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL { // kernels before 6.3 do not know MFD_EXEC
		fd, err = unix.MemfdCreate("hither", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1, fmt.Errorf("making pid 1's program (vm.memfd_noexec must be below 2): %w", err)
	}
	if _, err := unix.Write(fd, elf); err != nil {
		return -1, fmt.Errorf("writing pid 1's program: %w", err)
	}
	// Executing a file that is open for writing is refused; the path of a
	// descriptor opened for reading is another open of the same file.
	defer unix.Close(fd)
	return openHigh(fdPath(fd), unix.O_RDONLY)
}
