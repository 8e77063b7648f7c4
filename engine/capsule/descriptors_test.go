package capsule

import (
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDescriptorOfOneThatExecutes takes a descriptor of a process whose first thread has ended
// while another lives, as it is for a moment when a process executes a program. That is
// waited for, whatever signals come meanwhile.
func TestDescriptorOfOneThatExecutes(t *testing.T) {
	cmd := exec.Command("python3", "-c", `
import ctypes, threading, time
threading.Thread(target=lambda: time.sleep(60)).start()
ctypes.CDLL(None).syscall(60, 0) # exit(2) of this thread alone
`)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		fd, err := unix.PidfdGetfd(pidfd, 0, 0)
		if err == unix.ESRCH {
			break
		}
		if err == nil {
			unix.Close(fd)
		}
		if time.Now().After(end) {
			t.Fatal("its first thread does not end: ", err)
		}
	}
	tid, took := make(chan int), make(chan time.Duration)
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		begun := time.Now()
		if _, err := pidfdGetfd(pidfd, 0); err != unix.ESRCH {
			t.Errorf("of a process without descriptors: %v", err)
		}
		took <- time.Since(begun)
	}()
	for id := <-tid; ; time.Sleep(100 * time.Microsecond) {
		_ = unix.Tgkill(unix.Getpid(), id, unix.SIGURG)
		select {
		case d := <-took:
			if d < execPatience {
				t.Errorf("given up after %v", d)
			}
			return
		default:
		}
	}
}
