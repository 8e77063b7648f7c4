//go:build linux && amd64

package tracee

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// victim is what a child of the test runs as, by name.
const victim = "HITHER_TRACEE_VICTIM"

var victims = map[string]func(){}

func TestMain(m *testing.M) {
	if run := victims[os.Getenv(victim)]; run != nil {
		run()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// started is a child of the test and what it prints.
type started struct {
	*exec.Cmd
	out *bufio.Reader
}

func start(t testing.TB, attr *syscall.SysProcAttr, argv ...string) *started {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &started{cmd, bufio.NewReader(out)}
}

func startVictim(t testing.TB, attr *syscall.SysProcAttr, name string) *started {
	t.Helper()
	t.Setenv(victim, name)
	v := start(t, attr, "/proc/self/exe")
	os.Unsetenv(victim)
	return v
}

func (s *started) line(t testing.TB) string {
	t.Helper()
	line, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatalf("reading from the victim: %v", err)
	}
	return strings.TrimSpace(line)
}

func newTracer(t testing.TB) *Tracer {
	t.Helper()
	tr := New()
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return tr
}

func do(t testing.TB, tr *Tracer, fn func() error) {
	t.Helper()
	if err := tr.Do(fn); err != nil {
		t.Fatal(err)
	}
}

// state is the letter of /proc/PID/stat.
func state(t testing.TB, pid int) byte {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return raw[strings.LastIndexByte(string(raw), ')')+2]
}

// within says whether a process sleeps in one of these calls.
func within(pid int, calls ...int) bool {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
	var nr int
	_, err := fmt.Sscan(string(raw), &nr)
	return err == nil && slices.Contains(calls, nr)
}

// until waits for something that has no event of its own.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if ok() {
			return
		}
	}
	t.Fatalf("not seen in time: %s", what)
}

func init() {
	// count prints a line for each line it reads, and keeps 8 threads busy.
	victims["count"] = func() {
		for range 8 {
			go func() {
				runtime.LockOSThread()
				for {
					syscall.Getppid()
					time.Sleep(time.Millisecond)
				}
			}()
		}
		time.Sleep(20 * time.Millisecond)
		for i := 0; i < 1000; i++ {
			fmt.Println("n", i)
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func TestBatchOnThreads(t *testing.T) {
	v := startVictim(t, nil, "count")
	v.line(t)
	tr := newTracer(t)
	var vdsoAt uint64
	var vdso []byte
	do(t, tr, func() error {
		p, err := tr.Seize(v.Process.Pid)
		if err != nil {
			return err
		}
		vdsoAt, vdso = p.vdso(nil)
		if len(p.Threads) < 8 || p.Threads[0].Tid != p.Pid {
			return fmt.Errorf("threads %d, leader %d", len(p.Threads), p.Threads[0].Tid)
		}
		if err := p.Prepare(0); err != nil {
			return err
		}
		for _, th := range p.Threads {
			before, mask := th.Regs(), th.SigMask()
			calls := make([]Call, 1500)
			for i := range calls {
				calls[i].Nr = unix.SYS_GETTID
			}
			calls[7] = Call{Nr: unix.SYS_CLOSE, Args: [6]uint64{^uint64(0)}}
			if err := th.Batch(calls); err != nil {
				return err
			}
			for i, c := range calls {
				if i == 7 {
					if c.Err() != unix.EBADF {
						return fmt.Errorf("close(-1): %v", c.Err())
					}
				} else if int(c.Ret) != th.Tid {
					return fmt.Errorf("call %d: %d, want %d", i, c.Ret, th.Tid)
				}
			}
			var now unix.PtraceRegs
			if err := kernel.PtraceGetRegs(th.Tid, &now); err != nil {
				return err
			}
			if now != before {
				return fmt.Errorf("registers changed: %+v, before %+v", now, before)
			}
			if m, err := kernel.PtraceGetSigMask(th.Tid); err != nil || m != mask {
				return fmt.Errorf("mask %x, before %x, %v", m, mask, err)
			}
			if pid, err := th.StepSyscall(unix.SYS_GETPID); err != nil || int(pid) != p.Pid {
				return fmt.Errorf("stepped getpid: %d %v", pid, err)
			}
		}
		data, addr := p.Scratch()
		copy(data, "hello")
		got := make([]byte, 5)
		if err := p.Read(got, addr); err != nil || string(got) != "hello" {
			return fmt.Errorf("scratch: %q %v", got, err)
		}
		return tr.Detach(p)
	})
	for range 20 {
		v.line(t) // it goes on
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", v.Process.Pid))
	if err != nil || strings.Contains(string(maps), "memfd") {
		t.Errorf("the train is still mapped: %v\n%s", err, maps)
	}
	now := make([]byte, len(vdso))
	if _, err := kernel.ReadProcess(v.Process.Pid, now, vdsoAt); err != nil || len(vdso) == 0 || !bytes.Equal(now, vdso) {
		t.Errorf("the vdso is not as it was: %v", err)
	}
}

func TestSleepGoesOn(t *testing.T) {
	for _, argv := range [][]string{
		{"sleep", "0.7"},
		{"python3", "-c", "import time\ntime.sleep(.7)"},
		{"python3", "-c", "import select\nimport time\nt=time.monotonic()\nassert select.select([],[],[],.7)==([],[],[]) and .69<time.monotonic()-t<4"},
		{"python3", "-c", "import select\nimport time\nt=time.monotonic()\np=select.poll()\nassert p.poll(700)==[] and .69<time.monotonic()-t<4"},
		{"perl", "-e", "$n=select(undef,undef,undef,.7); die \"$n $!\" if $n"},
	} {
		begin := time.Now()
		v := start(t, nil, argv...)
		tr := newTracer(t)
		pid := v.Process.Pid
		until(t, "it sleeps", func() bool {
			return within(pid, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_PSELECT6, unix.SYS_SELECT, unix.SYS_POLL, unix.SYS_PPOLL)
		})
		for range 3 {
			do(t, tr, func() error {
				p, err := tr.Seize(pid)
				if err != nil {
					return err
				}
				regs := p.Threads[0].Regs()
				if r := int64(regs.Rax); r != RestartBlock && r != RestartNoHand && r != RestartNoIntr && r != RestartSys {
					return fmt.Errorf("rax %d orig_rax %d: not an interrupted call", r, int64(regs.Orig_rax))
				}
				if err := p.Prepare(0); err != nil {
					return err
				}
				if got, err := p.Threads[0].Syscall(unix.SYS_GETPID); err != nil || int(got) != pid {
					return fmt.Errorf("getpid: %d %v", got, err)
				}
				return tr.Detach(p)
			})
		}
		if err := v.Wait(); err != nil {
			t.Errorf("%v: %v", argv, err)
		}
		if took := time.Since(begin); took < 690*time.Millisecond || took > 5*time.Second {
			t.Errorf("%v took %v", argv, took)
		}
	}
}
