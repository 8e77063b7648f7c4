package restore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/image"
	"hither/engine/kernel"
	"hither/engine/tracee"
)

const sigactionLength = 32 // struct kernel_sigaction, x86-64

// calls collects injected calls with what each is for.
type calls struct {
	list []tracee.Call
	what []string
}

func (c *calls) add(say string, nr uintptr, args ...uint64) {
	one := tracee.Call{Nr: nr}
	copy(one.Args[:], args)
	c.list, c.what = append(c.list, one), append(c.what, say)
}

// run makes the calls in a thread; the first that fails is the error, if it was said
// what it is for.
func (c *calls) run(th *tracee.Thread) error {
	if len(c.list) == 0 {
		return nil
	}
	if err := th.Batch(c.list); err != nil {
		return err
	}
	for i := range c.list {
		if err := c.list[i].Err(); err != nil && c.what[i] != "" {
			return fmt.Errorf("%s: %w", c.what[i], err)
		}
	}
	c.list, c.what = c.list[:0], c.what[:0]
	return nil
}

// process makes one process what it was, except its threads' own state.
func (b *Builder) process(p *tracee.Process, proc *image.Process) error {
	leader := p.Leader()
	var c calls
	if err := b.layout(&c, p, proc); err != nil {
		return err
	}
	data, addr := p.Scratch()
	data, addr = data[layoutRoom:], addr+layoutRoom
	for i, a := range proc.SigActions {
		sig := uint64(i + 1)
		at := i * sigactionLength
		binary.LittleEndian.PutUint64(data[at:], a.Handler)
		binary.LittleEndian.PutUint64(data[at+8:], a.Flags)
		binary.LittleEndian.PutUint64(data[at+16:], a.Restorer)
		binary.LittleEndian.PutUint64(data[at+24:], a.Mask)
		if sig == uint64(unix.SIGKILL) || sig == uint64(unix.SIGSTOP) {
			continue
		}
		c.add(fmt.Sprintf("setting the action of signal %d", sig), unix.SYS_RT_SIGACTION, sig, addr+uint64(at), 0, 8)
	}
	for i, text := range []string{proc.Root, proc.Cwd} {
		at := 8192 * (i + 1)
		nr := uintptr(unix.SYS_CHROOT)
		if i == 1 {
			nr = unix.SYS_CHDIR
		} else if text == "/" {
			continue
		}
		copy(data[at:], text+"\x00")
		c.add(fmt.Sprintf("going to %s", text), nr, addr+uint64(at))
	}
	c.add("setting the umask", unix.SYS_UMASK, uint64(proc.Umask))
	c.add("setting the personality", unix.SYS_PERSONALITY, uint64(proc.Personality))
	c.add("setting who takes orphans", unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, flag(proc.SubReaper))
	c.add("setting the use of huge pages", unix.SYS_PRCTL, unix.PR_SET_THP_DISABLE, flag(proc.THPDisable))
	b.bound(&c, proc.Creds) // the threads inherit it
	if err := c.run(leader); err != nil {
		return err
	}
	if err := b.larder.Place(remote{leader}, proc); err != nil {
		return err
	}
	if err := b.larder.Undo(remote{leader}, proc.Pid); err != nil {
		return err
	}
	const flags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM
	var births []tracee.Birth
	for _, t := range proc.Threads[1:] {
		births = append(births, tracee.Birth{Args: kernel.CloneArgs{Flags: flags}, Tids: []int{t.Tid}})
	}
	if _, err := leader.Births(births); err != nil {
		return fmt.Errorf("making its threads: %w", err)
	}
	return nil
}

func flag(on bool) uint64 {
	if on {
		return 1
	}
	return 0
}

// layout tells the kernel where the program's parts are, and what it runs.
func (b *Builder) layout(c *calls, p *tracee.Process, proc *image.Process) error {
	data, addr := p.Scratch()
	l := proc.Layout
	exe, ok := b.larder.FileSlot(proc.Exe, unix.O_RDONLY)
	if !ok {
		return fmt.Errorf("its executable, file %d, was not opened", proc.Exe)
	}
	m := kernel.MMMap{
		StartCode: l.StartCode, EndCode: l.EndCode, StartData: l.StartData, EndData: l.EndData,
		StartBrk: l.StartBrk, Brk: l.Brk, StartStack: l.StartStack,
		ArgStart: l.ArgStart, ArgEnd: l.ArgEnd, EnvStart: l.EnvStart, EnvEnd: l.EnvEnd,
		Auxv: addr + auxvAt, AuxvSize: uint32(len(l.Auxv)), ExeFD: uint32(exe),
	}
	copy(data[auxvAt:], b.auxv(l.Auxv))
	copy(data, m.Bytes())
	c.add("setting the layout of the address space", unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP, addr, uint64(kernel.MMMapSize), 0)
	return nil
}

const (
	auxvAt     = 512
	layoutRoom = 8 << 10 // of the scratch memory
)

func (b *Builder) limits(p *tracee.Process, proc *image.Process) error {
	if b.limitsHere == nil {
		// They come from pid 1, and so are the same in all.
		for r := range 16 {
			var have unix.Rlimit
			if err := unix.Prlimit(p.Pid, r, nil, &have); err != nil {
				return fmt.Errorf("reading limit %d: %w", r, err)
			}
			b.limitsHere = append(b.limitsHere, have)
		}
		if text, err := kernel.ReadProc(fmt.Sprintf("/proc/%d/oom_score_adj", p.Pid)); err == nil {
			b.oomHere, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
	}
	for r, want := range proc.Rlimits { // at most 16, image.Validate
		have := b.limitsHere[r]
		// A hard limit cannot be raised; what the app uses of it was checked
		// before the move.
		set := unix.Rlimit{Max: min(want.Max, have.Max)}
		set.Cur = min(want.Cur, set.Max)
		if set == have {
			continue
		}
		if err := unix.Prlimit(p.Pid, r, &set, nil); err != nil {
			return fmt.Errorf("setting limit %d: %w", r, err)
		}
	}
	if proc.OOMScoreAdj == b.oomHere {
		return nil
	}
	// Only raising is allowed; less would need privileges.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.Pid), []byte(fmt.Sprint(proc.OOMScoreAdj)), 0)
	return nil
}

// terminals gives session leaders their controlling terminals.
func (b *Builder) terminals() error {
	for i := range b.app.Processes {
		proc := &b.app.Processes[i]
		if proc.Terminal == 0 || proc.Zombie {
			continue
		}
		p := b.procs[proc.Pid]
		data, addr := p.Scratch()
		path := fmt.Sprintf("/dev/pts/%d", proc.Terminal-1)
		copy(data, path+"\x00")
		fd, err := call(p, "opening "+path, unix.SYS_OPEN, addr, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("process %d: %w", proc.Pid, err)
		}
		var c calls
		c.add("taking "+path+" as the controlling terminal", unix.SYS_IOCTL, fd, unix.TIOCSCTTY, 0)
		if proc.Foreground > 0 {
			binary.LittleEndian.PutUint32(data, uint32(proc.Foreground))
			c.add(fmt.Sprintf("bringing group %d to the front of %s", proc.Foreground, path), unix.SYS_IOCTL, fd, unix.TIOCSPGRP, addr)
		}
		c.add("closing "+path, unix.SYS_CLOSE, fd)
		if err := c.run(p.Leader()); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("process %d: %w", proc.Pid, err)
		}
	}
	return nil
}
