//go:build linux && amd64

package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probeOther tries what can be done to another process.
func probeOther(pid int) []Ability {
	ptraceCure := "install hither outside of a container, or allow it ptrace"
	if setting("kernel/yama/ptrace_scope") == "3" {
		ptraceCure = "kernel.yama.ptrace_scope is 3 (never): set it to 2 or less in /etc/sysctl.d and start the machine anew"
	}
	return []Ability{
		ability(Ptrace, tryPtrace(pid), ptraceCure),
		ability(ProcessMemory, tryMemory(pid), ptraceCure),
		ability(TakeDescriptor, tryTake(pid), "needs Linux 5.6 or newer"),
		ability(Compare, tryCompare(pid), "needs a kernel with CONFIG_KCMP"),
		ability(PageScanning, tryScan(pid), "Linux 6.7 or newer finds pages faster, and while a program runs"),
	}
}

func tryPtrace(pid int) error {
	done := make(chan error)
	go func() {
		// The thread ends with this goroutine, and with it any hold on the child.
		runtime.LockOSThread()
		done <- func() error {
			if err := PtraceSeize(pid, unix.PTRACE_O_TRACESYSGOOD); err != nil {
				return fmt.Errorf("seizing a child: %w", err)
			}
			if err := PtraceInterrupt(pid); err != nil {
				return fmt.Errorf("interrupting a child: %w", err)
			}
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); Nap(100_000) {
				who, status, err := WaitTracee(pid, nil, 0)
				if err != nil {
					return fmt.Errorf("waiting for a child: %w", err)
				}
				if who == 0 {
					continue
				}
				if int(status)>>16 != unix.PTRACE_EVENT_STOP {
					_ = PtraceCont(pid, int(status.StopSignal()))
					continue
				}
				var regs unix.PtraceRegs
				if err := PtraceGetRegs(pid, &regs); err != nil {
					return fmt.Errorf("reading a child's registers: %w", err)
				}
				return PtraceDetach(pid, 0)
			}
			return errors.New("a child did not stop")
		}()
	}()
	return <-done
}

func tryMemory(pid int) error {
	word := uint64(0x6869_7468_6572_2121)
	here := uint64(uintptr(unsafe.Pointer(&word)))
	got := make([]byte, 8)
	// The child's stack: the page of the pointer that the kernel lists.
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	if err != nil {
		return err
	}
	const atRandom = 25
	for ; len(raw) >= 16; raw = raw[16:] {
		if *(*uint64)(unsafe.Pointer(&raw[0])) == atRandom {
			here = *(*uint64)(unsafe.Pointer(&raw[8]))
		}
	}
	if _, err := ReadProcess(pid, got, here); err != nil {
		return fmt.Errorf("process_vm_readv: %w", err)
	}
	if _, err := WriteProcess(pid, got, here); err != nil {
		return fmt.Errorf("process_vm_writev: %w", err)
	}
	return nil
}

func tryTake(pid int) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, 1, 0)
	if err != nil {
		return fmt.Errorf("pidfd_getfd: %w", err)
	}
	return unix.Close(fd)
}

func tryCompare(pid int) error {
	_, err := Kcmp(os.Getpid(), pid, KcmpFile, 0, 0)
	return err
}

func tryScan(pid int) error {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/pagemap")
	if err != nil {
		return err
	}
	defer f.Close()
	scan := PageScan{Start: 0, End: 1 << 46, Mask: PagePresent, Return: PagePresent}
	_, err = ScanPages(int(f.Fd()), &scan, make([]PageRegion, 1))
	return err
}

// probeSelf tries what needs no other process.
func probeSelf() []Ability {
	return []Ability{
		ability(DirtyTracking, tryTracking(), "Linux 6.7 or newer with CONFIG_USERFAULTFD sends memory while a program runs"),
		ability(UDPBuffers, tryBuffers(), "for fast links: sudo sysctl net.core.rmem_max=7500000 net.core.wmem_max=7500000"),
		ability(HardLimits, tryLimits(), "a program with higher limits cannot come here: raise them in /etc/security/limits.conf"),
	}
}

// OpenUserfaultfd is userfaultfd(2) for this process, in the mode every user may have.
func OpenUserfaultfd() (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK|UffdUserModeOnly, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func tryTracking() error {
	fd, err := OpenUserfaultfd()
	if err != nil {
		return fmt.Errorf("userfaultfd: %w", err)
	}
	defer unix.Close(fd)
	if err := UffdOpen(fd, UffdFeatureWPAsync|UffdFeatureWPUnpopulated|UffdFeatureWPHugetlbShmem); err != nil {
		return fmt.Errorf("userfaultfd with asynchronous write protection: %w", err)
	}
	const size = 1 << 16
	page, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer unix.Munmap(page)
	at := uint64(uintptr(unsafe.Pointer(&page[0])))
	if err := UffdRegister(fd, at, size, UffdRegisterWP); err != nil {
		return fmt.Errorf("registering memory with userfaultfd: %w", err)
	}
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	defer f.Close()
	scan := func() (int, error) {
		return ScanPages(int(f.Fd()), &PageScan{Flags: ScanWPMatching | ScanCheckWPAsync, Start: at, End: at + size,
			Mask: PageWritten, Return: PageWritten}, make([]PageRegion, 4))
	}
	if _, err := scan(); err != nil {
		return fmt.Errorf("write-protecting pages: %w", err)
	}
	page[9*4096] = 1
	if n, err := scan(); err != nil || n != 1 {
		return fmt.Errorf("a written page was not seen (%d regions, %v)", n, err)
	}
	return nil
}

// wantedBuffer is what QUIC likes for its socket.
const wantedBuffer = 7 << 20

func tryBuffers() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, option := range []struct {
		number int
		name   string
	}{{unix.SO_RCVBUF, "receive"}, {unix.SO_SNDBUF, "send"}} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option.number, wantedBuffer); err != nil {
			return err
		}
		// The kernel doubles what it grants.
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option.number)
		if err != nil {
			return err
		}
		if got/2 < wantedBuffer {
			return fmt.Errorf("the %s buffer of a UDP socket is limited to %d KiB", option.name, got/2048)
		}
	}
	return nil
}

// Hard limits below these keep common programs from coming here.
var wantedLimits = []struct {
	resource int
	name     string
	least    uint64
}{
	{unix.RLIMIT_NOFILE, "open files", 4096},
	{unix.RLIMIT_NPROC, "processes", 1024},
	{unix.RLIMIT_STACK, "stack", 8 << 20},
	{unix.RLIMIT_AS, "address space", 1 << 40},
}

func tryLimits() error {
	for _, w := range wantedLimits {
		var limit unix.Rlimit
		if err := unix.Getrlimit(w.resource, &limit); err != nil {
			return err
		}
		if limit.Max < w.least {
			return fmt.Errorf("the hard limit on %s is %d", w.name, limit.Max)
		}
	}
	return nil
}
