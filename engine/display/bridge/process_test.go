package bridge

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"hither/engine/display/xservers"
	"hither/engine/display/xwire"
)

// TestProcess: a native window names the process of its app.
func TestProcess(t *testing.T) {
	b := newBench(t, xservers.Xvfb(t, size), true)
	b.start()
	pid := must(b.app.Atom("_NET_WM_PID"))(t)
	b.appWindow("mine", rect{0, 0, 200, 100}, 0x336699, func(w xwire.Window) {
		b.app.ChangeProperty(xwire.PropModeReplace, w, pid, xwire.AtomCardinal, 32, xwire.Uint32s[uint32](4711))
	})
	native := b.nativeWindow("mine")
	p := must(b.user.GetProperty(false, native, must(b.user.Atom("_NET_WM_PID"))(t), xwire.AtomCardinal, 0, 1))(t)
	if v := xwire.ToUint32s(p.Value); len(v) != 1 || v[0] != 4711 {
		t.Errorf("the window's process is %v", v)
	}
	host, _ := os.Hostname()
	p = must(b.user.GetProperty(false, native, xwire.AtomWmClientMachine, xwire.AtomString, 0, 64))(t)
	if string(p.Value) != host {
		t.Errorf("it runs on %q, this is %q", p.Value, host)
	}
}

// TestOutsidePid: processes of another pid namespace are found by their pids there.
func TestOutsidePid(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("no pid namespace to be had: %v", err)
	}
	defer cmd.Wait()         //nolint:errcheck // killed
	defer cmd.Process.Kill() //nolint:errcheck // the same
	buf := make([]byte, 16)
	if n, err := out.Read(buf); err != nil || string(buf[:n]) != "2\n" {
		t.Fatalf("inside the child is %q: %v", buf[:n], err)
	}
	b := &Bridge{}
	b.o.Begin.Init = cmd.Process.Pid
	pid := b.outsidePid(2)
	if comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm"); err != nil || string(comm) != "sleep\n" && string(comm) != "sh\n" {
		t.Errorf("process 2 is taken for %d, %q: %v", pid, comm, err)
	}
	if pid := b.outsidePid(77); pid != 0 {
		t.Errorf("a process that is not there is %d", pid)
	}
}
