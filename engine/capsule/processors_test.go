package capsule

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGatheredAgain: the keeper, which may hear late of the end of one capture, leaves alone what
// the next one has written down. Only who dies without a word is followed.
func TestGatheredAgain(t *testing.T) {
	init := exec.Command("sleep", "1000")
	init.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := init.Start(); err != nil {
		t.Fatal(err)
	}
	defer init.Wait() //nolint:errcheck // by the signal
	defer init.Process.Kill()
	k := &keeper{dir: t.TempDir()}
	k.state.Init.Pid = init.Process.Pid
	gathered := func(last []byte) (left bool) {
		there, here := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- k.whileGathered(here) }()
		if _, err := bufio.NewReader(there).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(processorsFile(k.dir), []byte("{}"), 0o600); err != nil { // of the next one
			t.Fatal(err)
		}
		if len(last) > 0 {
			if _, err := there.Write(last); err != nil {
				t.Fatal(err)
			}
		}
		there.Close()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(processorsFile(k.dir))
		return err == nil
	}
	if !gathered([]byte{gatheredDone}) {
		t.Error("what the next capture has written is gone")
	}
	if gathered(nil) {
		t.Error("nobody gives back what a dead one has gathered")
	}
}
