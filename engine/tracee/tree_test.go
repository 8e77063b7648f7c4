//go:build linux && amd64

package tracee

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

func init() {
	// idle is a stand-in for pid 1 of a capsule.
	victims["idle"] = func() {
		fmt.Println("ready")
		time.Sleep(time.Minute)
	}
	// untrapped ignores SIGTRAP, and tells whether it still does when asked.
	victims["untrapped"] = func() {
		signal.Ignore(unix.SIGTRAP)
		fmt.Println("ready")
		for {
			raw, _ := os.ReadFile("/proc/self/status")
			_, after, _ := strings.Cut(string(raw), "SigIgn:\t")
			fmt.Println(after[:16])
			time.Sleep(time.Millisecond)
		}
	}
	victims["hidden"] = func() {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			panic(err)
		}
		fmt.Println("ready")
		for {
			n, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
			fmt.Println(n)
			time.Sleep(time.Millisecond)
		}
	}
	// tracer seizes the process it is told of, makes a few batches and is killed.
	victims["tracer"] = func() {
		var pid int
		fmt.Sscan(os.Getenv("TRACER_OF"), &pid)
		tr := New()
		err := tr.Do(func() error {
			p, err := tr.Seize(pid)
			if err != nil {
				return err
			}
			if err := p.Prepare(0); err != nil {
				return err
			}
			for range 10 {
				for _, th := range p.Threads {
					if _, err := th.Syscall(unix.SYS_GETPID); err != nil {
						return err
					}
				}
			}
			if os.Getenv("TRACER_DETACHES") != "" {
				return tr.Detach(p)
			}
			return nil
		})
		fmt.Println("done", err)
		time.Sleep(time.Minute)
	}
}

func init() {
	// restless does all that is done in a process, over and over.
	victims["restless"] = func() {
		var pid int
		fmt.Sscan(os.Getenv("TRACER_OF"), &pid)
		tr := New()
		fmt.Println("ready")
		for {
			err := tr.Do(func() error {
				p, err := tr.Seize(pid)
				if err != nil {
					return err
				}
				for _, th := range p.Threads {
					fd, err := th.TakeDescriptor(unix.SYS_EVENTFD2, 0, 0)
					if err != nil {
						return err
					}
					unix.Close(fd)
				}
				if err := p.Prepare(0); err != nil {
					return err
				}
				for _, th := range p.Threads {
					if err := th.Batch(slices.Repeat([]Call{{Nr: unix.SYS_GETPID}}, 100)); err != nil {
						return err
					}
				}
				return tr.Detach(p)
			})
			if err != nil {
				fmt.Println(err)
			}
		}
	}
}

// TestTracerDiesAnywhere kills the tracer at any moment of its work. The program goes on with its sleeps,
// its sums and its signals, and has no descriptor more than before.
func TestTracerDiesAnywhere(t *testing.T) {
	const program = `
import math, os, select, signal, threading, time
alive = [0] * 4
def forever(i, work):
	def run():
		while True:
			work()
			alive[i] += 1
	threading.Thread(target=run, daemon=True).start()
def sleep():
	began = time.monotonic()
	time.sleep(.02)
	assert time.monotonic() - began >= .02
def poll():
	began = time.monotonic()
	assert select.select([], [], [], .02) == ([], [], [])
	assert time.monotonic() - began >= .019
def add():
	assert math.fsum(math.sqrt(i) for i in range(3000)) == sum
def read():
	assert os.read(r, 1) == b"x"
sum = math.fsum(math.sqrt(i) for i in range(3000))
r, w = os.pipe()
usr1, resized = [], []
signal.signal(signal.SIGUSR1, lambda *_: usr1.append(1))
if os.environ["HANDLES"]: signal.signal(signal.SIGWINCH, lambda *_: resized.append(1))
for i, work in enumerate((sleep, poll, add, read)): forever(i, work)
print("ready", flush=True)
while True:
	before, said = list(alive), len(usr1)
	os.write(w, b"x")
	os.kill(os.getpid(), signal.SIGUSR1)
	while any(a == b for a, b in zip(alive, before)) or len(usr1) == said: time.sleep(.001)
	print([os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")], flush=True)
`
	for _, how := range []string{"plain", "handler", "stopped"} {
		t.Run(how, func(t *testing.T) {
			t.Setenv("HANDLES", map[string]string{"handler": "yes"}[how])
			v := start(t, nil, "python3", "-c", program)
			v.line(t)
			descriptors := v.line(t)
			t.Setenv("TRACER_OF", fmt.Sprint(v.Process.Pid))
			if how == "stopped" { // between its tracers it stands where the last one left it
				unix.Kill(v.Process.Pid, unix.SIGSTOP)
			}
			for range 100 {
				killer := startVictim(t, nil, "restless")
				if got := killer.line(t); got != "ready" {
					t.Fatal(got)
				}
				time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond)
				killer.Process.Kill()
				if rest, _ := io.ReadAll(killer.out); len(rest) > 0 {
					t.Fatalf("the tracer said %s", rest)
				}
				killer.Wait()
				if how != "stopped" {
					// A thread that has not been home yet may have one for a moment.
					until(t, "it has its descriptors and no other", func() bool { return v.line(t) == descriptors })
				}
			}
			if how == "stopped" {
				until(t, "it is stopped", func() bool { return state(t, v.Process.Pid) == 'T' })
				unix.Kill(v.Process.Pid, unix.SIGCONT)
				for range 10 {
					v.line(t)
				}
				until(t, "it has its descriptors and no other", func() bool { a := v.line(t); t.Log(a); return a == descriptors })
			}
			// What it printed may be older than its last tracer's death.
			until(t, "all its threads are home, with no signal blocked", func() bool {
				tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", v.Process.Pid))
				return len(tasks) > 0 && !slices.ContainsFunc(tasks, func(task string) bool {
					raw, err := os.ReadFile(task)
					return err != nil || !strings.Contains(string(raw), "SigBlk:\t0000000000000000")
				})
			})
		})
	}
}

func TestIgnoredTrap(t *testing.T) {
	v := startVictim(t, nil, "untrapped")
	v.line(t)
	before := v.line(t)
	tr := newTracer(t)
	do(t, tr, func() error {
		p, err := tr.Seize(v.Process.Pid)
		if err != nil {
			return err
		}
		if err := p.Prepare(0); err != nil {
			return err
		}
		for range 3 {
			if _, err := p.Threads[0].Syscall(unix.SYS_GETPID); err != nil {
				return err
			}
		}
		return tr.Detach(p)
	})
	for range 1000 { // what was in the pipe already
		if line := v.line(t); line != before {
			t.Fatalf("ignored signals %s, before %s", line, before)
		}
		if len(v.line(t)) == 16 && v.out.Buffered() == 0 {
			break
		}
	}
}

// TestQuickSteps prepares processes by what is known of them. One has a SIGTRAP of its own
// waiting, which is neither lost nor taken for one of ours; one ignores SIGTRAP, and still does afterwards.
func TestQuickSteps(t *testing.T) {
	for how, script := range map[string]string{
		"waiting": `
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTRAP])
signal.pthread_kill(threading.get_ident(), signal.SIGTRAP)
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
print(signal.sigtimedwait([signal.SIGTRAP], 0).si_pid == os.getpid(), signal.sigtimedwait([signal.SIGTRAP], 0), flush=True)
`,
		"plain": `
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
print(True, None, flush=True)
`,
		"ignoring": `
signal.signal(signal.SIGTRAP, signal.SIG_IGN)
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
ignored = int(open("/proc/self/status").read().split("SigIgn:")[1].split()[0], 16)
print(ignored >> signal.SIGTRAP - 1 & 1 == 1, None, flush=True)
`,
	} {
		t.Run(how, func(t *testing.T) {
			v := start(t, nil, "python3", "-c", "import os, signal, threading\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"+script)
			v.line(t)
			tr := newTracer(t)
			do(t, tr, func() error {
				p, err := tr.Seize(v.Process.Pid)
				if err != nil {
					return err
				}
				before := p.Leader().Stops()
				if _, err := p.Scout(Known{Caught: 1 << (unix.SIGINT - 1)}); err != nil {
					return err
				}
				if err := p.Prepare(0); err != nil {
					return err
				}
				if stops := p.Leader().Stops() - before; how == "plain" && stops != 3 { // two calls, one journey
					return fmt.Errorf("preparing took %d stops", stops)
				}
				if got, err := p.Leader().Syscall(unix.SYS_GETPID); err != nil || int(got) != p.Pid {
					return fmt.Errorf("getpid %d %v", got, err)
				}
				return tr.Detach(p)
			})
			unix.Kill(v.Process.Pid, unix.SIGUSR1)
			if got := v.line(t); got != "True None" {
				t.Fatal(got)
			}
		})
	}
}

func TestStoppedStaysStopped(t *testing.T) {
	v := start(t, nil, "sleep", "60")
	pid := v.Process.Pid
	unix.Kill(pid, unix.SIGSTOP)
	until(t, "it stops", func() bool { return state(t, pid) == 'T' })
	tr := newTracer(t)
	for range 2 {
		do(t, tr, func() error {
			p, err := tr.Seize(pid)
			if err != nil {
				return err
			}
			if p.StopSignal != int(unix.SIGSTOP) {
				return fmt.Errorf("stop signal %d", p.StopSignal)
			}
			if err := p.Prepare(0); err != nil {
				return err
			}
			if got, err := p.Threads[0].Syscall(unix.SYS_GETPID); err != nil || int(got) != pid {
				return fmt.Errorf("getpid %d %v", got, err)
			}
			if p.StopSignal != int(unix.SIGSTOP) {
				return fmt.Errorf("stop signal %d after a batch", p.StopSignal)
			}
			return tr.Detach(p)
		})
		until(t, "it is stopped again", func() bool { return state(t, pid) == 'T' })
	}
	// A stop that comes in while it is held works afterwards, and so does its end.
	do(t, tr, func() error {
		p, err := tr.Seize(pid)
		if err != nil {
			return err
		}
		unix.Kill(pid, unix.SIGCONT)
		if err := p.Prepare(0); err != nil {
			return err
		}
		if _, err := p.Threads[0].Syscall(unix.SYS_GETPID); err != nil {
			return err
		}
		if p.StopSignal != 0 {
			return fmt.Errorf("stop signal %d after SIGCONT", p.StopSignal)
		}
		unix.Kill(pid, unix.SIGSTOP)
		if _, err := p.Threads[0].Syscall(unix.SYS_GETPID); err != nil {
			return err
		}
		return tr.Detach(p)
	})
	until(t, "it is stopped once more", func() bool { return state(t, pid) == 'T' })
	unix.Kill(pid, unix.SIGCONT)
	until(t, "it sleeps", func() bool { return state(t, pid) == 'S' })
}

func TestHidden(t *testing.T) {
	v := startVictim(t, namespaces(), "hidden")
	v.line(t)
	if got := v.line(t); got != "0" {
		t.Fatal(got)
	}
	tr := newTracer(t)
	err := tr.Do(func() error {
		p, err := tr.Seize(v.Process.Pid)
		if err != nil {
			return err
		}
		if os.Getuid() != 0 && !p.Hidden() {
			return errors.New("not seen to be hidden")
		}
		if err := p.Prepare(0); err != nil {
			return err
		}
		return tr.Detach(p)
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if got := v.line(t); got != "0" {
			t.Fatalf("dumpable %s afterwards", got)
		}
	}
}

func TestTracerDies(t *testing.T) {
	v := startVictim(t, nil, "count")
	v.line(t)
	t.Setenv("TRACER_OF", fmt.Sprint(v.Process.Pid))
	for range 2 { // the second finds what the first left behind
		killer := startVictim(t, nil, "tracer")
		if got := killer.line(t); got != "done <nil>" {
			t.Fatal(got)
		}
		killer.Process.Kill()
		killer.Wait()
		for range 10 {
			v.line(t)
		}
	}
	t.Setenv("TRACER_DETACHES", "1")
	if got := startVictim(t, nil, "tracer").line(t); got != "done <nil>" {
		t.Fatal(got)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", v.Process.Pid))
	if err != nil || strings.Contains(string(maps), "memfd") {
		t.Errorf("a train is still mapped: %v\n%s", err, maps)
	}
}

func namespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_CHECKPOINT_RESTORE},
	}
}

func TestCloneInNamespace(t *testing.T) {
	v := startVictim(t, namespaces(), "idle")
	v.line(t)
	tr := newTracer(t)
	do(t, tr, func() error {
		init, err := tr.Seize(v.Process.Pid)
		if err != nil {
			return err
		}
		if err := init.Prepare(0); err != nil {
			return err
		}
		leader := init.Threads[0]
		if _, err := leader.Clone(kernel.CloneArgs{ExitSignal: uint64(unix.SIGCHLD)}, 1); !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("a used pid: %v", err)
		}
		child, err := leader.Clone(kernel.CloneArgs{ExitSignal: uint64(unix.SIGCHLD)}, 4242)
		if err != nil {
			return err
		}
		if got, err := child.Syscall(unix.SYS_GETPID); err != nil || got != 4242 {
			return fmt.Errorf("pid of the child: %d %v", got, err)
		}
		if got, err := child.Syscall(unix.SYS_GETPPID); err != nil || got != 1 {
			return fmt.Errorf("its parent: %d %v", got, err)
		}
		const thread = unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES
		for _, tid := range []int{5000, 4300} {
			th, err := child.Clone(kernel.CloneArgs{Flags: thread}, tid)
			if err != nil {
				return err
			}
			if got, err := th.Syscall(unix.SYS_GETTID); err != nil || int(got) != tid {
				return fmt.Errorf("tid of the thread: %d %v", got, err)
			}
			if th.Process() != child.Process() {
				return errors.New("the thread is not of the child")
			}
		}
		grandchild, err := child.Clone(kernel.CloneArgs{ExitSignal: uint64(unix.SIGCHLD)}, 77)
		if err != nil {
			return err
		}
		if got, err := grandchild.Syscall(unix.SYS_GETPPID); err != nil || got != 4242 {
			return fmt.Errorf("parent of the grandchild: %d %v", got, err)
		}
		// The gadget and the train work in all of them, in any order.
		for _, th := range []*Thread{leader, grandchild, child, leader} {
			if err := th.Process().Unprepare(); err != nil {
				return err
			}
			if err := th.Process().Prepare(0x7000_0000_0000); err != nil {
				return err
			}
			if _, addr := th.Process().Scratch(); addr>>40 != 0x70 {
				return fmt.Errorf("train at %#x", addr)
			}
			if _, err := th.Syscall(unix.SYS_GETPID); err != nil {
				return err
			}
		}
		// Many at a go, one of which cannot be.
		births := make([]Birth, 2*maxBirths)
		for i := range births {
			births[i] = Birth{kernel.CloneArgs{Flags: thread}, []int{7000 - i}}
		}
		births[3].Tids[0] = 4242
		many, err := grandchild.Births(births)
		if !errors.Is(err, syscall.EEXIST) || many[3] != nil {
			return fmt.Errorf("a used tid among others: %v", err)
		}
		for i, th := range many[:maxBirths] {
			if i == 3 {
				continue
			}
			if got, err := th.Syscall(unix.SYS_GETTID); err != nil || int(got) != 7000-i || th.Process() != grandchild.Process() {
				return fmt.Errorf("tid of thread %d: %d %v", i, got, err)
			}
		}
		births = []Birth{{kernel.CloneArgs{ExitSignal: uint64(unix.SIGCHLD)}, []int{90}}, {kernel.CloneArgs{ExitSignal: uint64(unix.SIGCHLD)}, []int{80}}}
		two, err := grandchild.Births(births)
		if err != nil {
			return err
		}
		for i, th := range two {
			if got, err := th.Syscall(unix.SYS_GETPID); err != nil || int(got) != births[i].Tids[0] {
				return fmt.Errorf("pid of child %d: %d %v", i, got, err)
			}
			if got, err := th.Syscall(unix.SYS_GETPPID); err != nil || got != 77 {
				return fmt.Errorf("its parent: %d %v", got, err)
			}
		}
		if err := tr.Kill([]*Process{child.Process(), two[0].Process(), two[1].Process(), grandchild.Process()}); err != nil {
			return err
		}
		if err := unix.Kill(child.Process().Pid, 0); err == nil && state(t, child.Process().Pid) != 'Z' {
			return errors.New("the child lives")
		}
		return tr.Detach(init)
	})
	if len(tr.held) != 0 {
		t.Errorf("still held: %v", tr.held)
	}
}

func TestExitKill(t *testing.T) {
	v := start(t, nil, "sleep", "60")
	w := start(t, nil, "sleep", "60")
	tr := New()
	tr.ExitKill = true
	do(t, tr, func() error {
		p, err := tr.Seize(v.Process.Pid)
		if err != nil {
			return err
		}
		q, err := tr.Seize(w.Process.Pid)
		if err != nil {
			return err
		}
		if err := p.Prepare(0); err != nil {
			return err
		}
		if err := q.SetExitKill(false); err != nil {
			return err
		}
		// End the thread with both in hand.
		tr.held = map[int]*Thread{}
		return nil
	})
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	until(t, "it dies with its tracer", func() bool { return state(t, v.Process.Pid) == 'Z' })
	until(t, "the other one lives", func() bool { return state(t, w.Process.Pid) == 'S' })
}

func TestExec(t *testing.T) {
	v := start(t, nil, "sleep", "60")
	tr := newTracer(t)
	do(t, tr, func() error {
		p, err := tr.Seize(v.Process.Pid)
		if err != nil {
			return err
		}
		if err := p.Prepare(0); err != nil {
			return err
		}
		data, addr := p.Scratch()
		copy(data, "/bin/echo\x00echo\x00it is me\x00")
		put := func(at int, v uint64) {
			for i := range 8 {
				data[at+i] = byte(v >> (8 * i))
			}
		}
		put(64, addr+10)
		put(72, addr+15)
		put(80, 0)
		if err := p.Threads[0].Exec(addr+100, addr+64, addr+80); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("exec of nothing: %v", err)
		}
		if err := p.Threads[0].Exec(addr, addr+64, addr+80); err != nil {
			return err
		}
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.Pid)); err != nil || !strings.HasSuffix(exe, "echo") {
			return fmt.Errorf("it runs %s %v", exe, err)
		}
		if err := p.Prepare(0); err != nil {
			return err
		}
		if got, err := p.Threads[0].Syscall(unix.SYS_GETPID); err != nil || int(got) != p.Pid {
			return fmt.Errorf("getpid %d %v", got, err)
		}
		return tr.Detach(p)
	})
	if got := v.line(t); got != "it is me" {
		t.Errorf("it says %q", got)
	}
}

func TestFreezeTree(t *testing.T) {
	v := start(t, &syscall.SysProcAttr{Setpgid: true}, "perl", "-e", `
for (1..20) { if (!fork) { fork; sleep 60; exit } }
exit if !fork;
sleep 60`)
	defer unix.Kill(-v.Process.Pid, unix.SIGKILL)
	var pids []int
	until(t, "all are there, and one is a zombie", func() bool {
		pids, _ = kernel.Descendants(v.Process.Pid)
		return len(pids) == 41 && slices.ContainsFunc(pids, func(pid int) bool { return state(t, pid) == 'Z' })
	})
	unix.Kill(pids[0], unix.SIGSTOP)
	until(t, "one is stopped", func() bool { return state(t, pids[0]) == 'T' })
	tr := newTracer(t)
	do(t, tr, func() error {
		begin := time.Now()
		all, err := tr.FreezeTree(v.Process.Pid)
		if err != nil {
			return err
		}
		t.Logf("%d processes in %v", len(all), time.Since(begin))
		zombies, stopped := 0, 0
		for _, p := range all {
			if p.Zombie {
				zombies++
			} else if p.StopSignal == int(unix.SIGSTOP) {
				stopped++
			}
		}
		if len(all) != 41 || zombies != 1 || stopped != 1 {
			return fmt.Errorf("%d processes, %d zombies, %d stopped", len(all), zombies, stopped)
		}
		if slices.ContainsFunc(all, func(p *Process) bool { return p.Pid == v.Process.Pid }) {
			return errors.New("the first process is among them")
		}
		begin = time.Now()
		for _, p := range all {
			if p.Zombie {
				continue
			}
			if err := p.Prepare(0); err != nil {
				return err
			}
			if got, err := p.Threads[0].Syscall(unix.SYS_GETPID); err != nil || int(got) != p.Pid {
				return fmt.Errorf("getpid %d %v", got, err)
			}
		}
		t.Logf("prepared in %v", time.Since(begin))
		begin = time.Now()
		err = tr.DetachAll(all)
		t.Logf("let go in %v", time.Since(begin))
		return err
	})
	do(t, tr, func() error {
		all, err := tr.FreezeTree(v.Process.Pid)
		if err != nil {
			return err
		}
		return tr.Kill(all)
	})
	if state(t, v.Process.Pid) == 'Z' {
		t.Error("the first process ended")
	}
}

// TestVfork stops processes that start programs all the time.
func TestVfork(t *testing.T) {
	v := start(t, &syscall.SysProcAttr{Setpgid: true}, "python3", "-c", `
import os
print("ready", flush=True)
for i in range(3): os.fork()
while True:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    os.write(1, b"ran\n")
`)
	defer unix.Kill(-v.Process.Pid, unix.SIGKILL)
	v.line(t)
	tr := newTracer(t)
	for range 30 {
		do(t, tr, func() error {
			p, err := tr.Seize(v.Process.Pid)
			if err != nil {
				return err
			}
			children, err := tr.FreezeTree(v.Process.Pid)
			if err != nil {
				return err
			}
			return tr.DetachAll(append(children, p))
		})
		for range 16 {
			v.line(t)
		}
	}
}

// vforker is a process with two children. One waits in epoll_wait. The other one, again and again, waits in vfork
// for a child that cannot go on before its FIFO has a writer.
type vforker struct {
	*started
	t     *testing.T
	fifos []string
}

func startVforker(t *testing.T, times int) *vforker {
	t.Helper()
	argv := []string{"sh", "-c", `python3 -c "
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
if os.fork() == 0:
    print('broken off', libc.epoll_wait(libc.epoll_create1(0), ctypes.create_string_buffer(64), 1, -1), flush=True)
    os._exit(0)
for fifo in sys.argv[1:]:
    os.posix_spawn('/bin/true', ['true'], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 5, fifo, os.O_RDONLY, 0)])
    print('spawned', flush=True)
time.sleep(60)
" "$@"; true`, "sh"}
	v := &vforker{t: t}
	dir := t.TempDir()
	for i := range times {
		// Each has its own: the next child must not find the writer of the one before.
		fifo := fmt.Sprintf("%s/%d", dir, i)
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		v.fifos = append(v.fifos, fifo)
	}
	v.started = start(t, &syscall.SysProcAttr{Setpgid: true}, append(argv, v.fifos...)...)
	t.Cleanup(func() { unix.Kill(-v.Process.Pid, unix.SIGKILL) })
	return v
}

func (v *vforker) waits() {
	v.t.Helper()
	until(v.t, "it waits in vfork", func() bool {
		all, _ := kernel.Descendants(v.Process.Pid)
		return len(all) >= 3 && state(v.t, all[0]) == 'D' && within(all[1], unix.SYS_EPOLL_WAIT)
	})
}

// release lets the next child go on.
func (v *vforker) release() {
	if f, err := os.OpenFile(v.fifos[0], os.O_WRONLY, 0); err == nil {
		f.Close()
	}
	v.fifos = v.fifos[1:]
}

func (v *vforker) spawned() {
	v.t.Helper()
	if line := v.line(v.t); line != "spawned" {
		v.t.Fatal(line)
	}
}

// TestVforkForLong has a parent wait in vfork: first to the end of all attempts, then for a while. Who was
// stopped in vain does not notice.
func TestVforkForLong(t *testing.T) {
	v := startVforker(t, 2)
	tr := newTracer(t)
	v.waits()
	err := tr.Do(func() error {
		_, err := tr.FreezeTree(v.Process.Pid)
		return err
	})
	if !errors.Is(err, errTimeout) {
		t.Fatalf("frozen in vfork: %v", err)
	}
	t.Log(err)
	v.release()
	v.spawned()
	v.waits()
	go func() {
		time.Sleep(stopTimeout + stopTimeout/2)
		v.release()
	}()
	do(t, tr, func() error {
		all, err := tr.FreezeTree(v.Process.Pid)
		if err != nil {
			return err
		}
		return tr.DetachAll(all)
	})
	v.spawned()
}

// TestVforkChildGoesOn: one attempt is enough to stop a parent in vfork, as its child, which was stopped
// together with it, is let go.
func TestVforkChildGoesOn(t *testing.T) {
	v := startVforker(t, 1)
	tr := newTracer(t)
	v.waits()
	do(t, tr, func() error {
		f := freezing{t: tr, byPid: map[int]*Process{}}
		list := func() ([]int, error) { return kernel.Descendants(v.Process.Pid) }
		pids, err := list()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := f.seize(pid); err != nil {
				return err
			}
		}
		go v.release()
		if err := f.run(list); err != nil {
			f.undo()
			return err
		}
		all, err := f.result()
		if err != nil {
			return err
		}
		return tr.DetachAll(all)
	})
	v.spawned()
}

func TestNoDescriptorFree(t *testing.T) {
	v := start(t, nil, "python3", "-c", `
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 100))
try:
    while True: os.dup(0)
except OSError: pass
print("ready", flush=True)
import time
time.sleep(60)
`)
	v.line(t)
	tr := newTracer(t)
	do(t, tr, func() error {
		p, err := tr.Seize(v.Process.Pid)
		if err != nil {
			return err
		}
		if err := p.Prepare(0); err != nil {
			return err
		}
		if _, err := p.Threads[0].Syscall(unix.SYS_DUP, 0); err != unix.EMFILE {
			return fmt.Errorf("dup: %v", err)
		}
		return tr.Detach(p)
	})
}

func TestKilledWhileHeld(t *testing.T) {
	v := startVictim(t, nil, "count")
	v.line(t)
	tr := newTracer(t)
	do(t, tr, func() error {
		p, err := tr.Seize(v.Process.Pid)
		if err != nil {
			return err
		}
		if err := p.Prepare(0); err != nil {
			return err
		}
		if err := unix.Kill(p.Pid, unix.SIGKILL); err != nil {
			return err
		}
		if _, err := p.Threads[0].Syscall(unix.SYS_GETPID); !errors.Is(err, ErrGone) {
			return fmt.Errorf("a call in a killed process: %v", err)
		}
		return tr.Detach(p)
	})
	do(t, tr, func() error {
		if len(tr.held) != 0 {
			return fmt.Errorf("still held: %v", tr.held)
		}
		return nil
	})
}

// TestSignalsAreKept holds a process again and again while signals rain on it.
func TestSignalsAreKept(t *testing.T) {
	v := start(t, nil, "python3", "-c", `
import signal, os, time
n = 0
def f(*_):
    global n
    n += 1
for s in (signal.SIGUSR1, signal.SIGTRAP): signal.signal(s, f)
print("ready", flush=True)
while True:
    time.sleep(60)
    print(n, flush=True)
    n = 0
`)
	v.line(t)
	pid := v.Process.Pid
	tr := newTracer(t)
	stop := make(chan bool)
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				unix.Kill(pid, unix.SIGTRAP)
				unix.Kill(pid, unix.SIGUSR1)
				time.Sleep(100 * time.Microsecond)
			}
		}
	}()
	for range 100 {
		do(t, tr, func() error {
			p, err := tr.Seize(pid)
			if err != nil {
				return err
			}
			if err := p.Prepare(0); err != nil {
				return err
			}
			for range 5 {
				if got, err := p.Threads[0].Syscall(unix.SYS_GETPID); err != nil || int(got) != pid {
					return fmt.Errorf("getpid %d %v", got, err)
				}
			}
			return tr.Detach(p)
		})
	}
	close(stop)
	// Held, then one of each: both must arrive.
	do(t, tr, func() error {
		p, err := tr.Seize(pid)
		if err != nil {
			return err
		}
		if err := p.Prepare(0); err != nil {
			return err
		}
		unix.Kill(pid, unix.SIGTRAP)
		for range 3 {
			if _, err := p.Threads[0].Syscall(unix.SYS_GETPID); err != nil {
				return err
			}
		}
		own, err := p.Threads[0].Pending(false)
		if err != nil {
			return err
		}
		shared, err := p.Threads[0].Pending(true)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(append(own, shared...), func(s []byte) bool { return s[0] == byte(unix.SIGTRAP) }) {
			return errors.New("the SIGTRAP is lost")
		}
		return tr.Detach(p)
	})
	if state(t, pid) == 'Z' {
		t.Error("it died")
	}
}

func TestEpollIsNotInterrupted(t *testing.T) {
	v := start(t, nil, "python3", "-c", `
import ctypes, select, os
libc = ctypes.CDLL(None, use_errno=True)
e = libc.epoll_create1(0)
print("ready", flush=True)
r = libc.epoll_wait(e, ctypes.create_string_buffer(64), 1, 400)
print(r, ctypes.get_errno(), flush=True)
`)
	v.line(t)
	tr := newTracer(t)
	until(t, "it waits", func() bool { return within(v.Process.Pid, unix.SYS_EPOLL_WAIT) })
	do(t, tr, func() error {
		p, err := tr.Seize(v.Process.Pid)
		if err != nil {
			return err
		}
		return tr.Detach(p)
	})
	if got := v.line(t); got != "0 0" {
		t.Errorf("epoll_wait: %s", got)
	}
}

func BenchmarkBatch(b *testing.B) {
	v := start(b, nil, "sleep", "60")
	tr := newTracer(b)
	for _, n := range []int{1, 16, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			do(b, tr, func() error {
				p, err := tr.Seize(v.Process.Pid)
				if err != nil {
					return err
				}
				if err := p.Prepare(0); err != nil {
					return err
				}
				calls := make([]Call, n)
				for i := range calls {
					calls[i].Nr = unix.SYS_GETPPID
				}
				b.ResetTimer()
				for range b.N {
					if err := p.Threads[0].Batch(calls); err != nil {
						return err
					}
				}
				b.StopTimer()
				return tr.Detach(p)
			})
		})
	}
}

func BenchmarkSeizePrepareDetach(b *testing.B) {
	v := startVictim(b, nil, "count")
	v.line(b)
	tr := newTracer(b)
	for range b.N {
		do(b, tr, func() error {
			p, err := tr.Seize(v.Process.Pid)
			if err != nil {
				return err
			}
			if err := p.Prepare(0); err != nil {
				return err
			}
			return tr.Detach(p)
		})
	}
}
