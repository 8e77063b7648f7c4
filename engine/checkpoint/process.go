package checkpoint

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hither/engine/handle"
	"hither/engine/image"
	"hither/engine/kernel"
	"hither/engine/tracee"
)

const (
	signals         = 64
	sigactionLength = 32 // struct kernel_sigaction, x86-64
	itimerLength    = 32 // struct itimerval
	itimerspec      = 32 // struct itimerspec
	askPersonality  = 0xffff_ffff
	deviceTTYMajor  = 136 // of slaves of pseudo-terminals: Documentation/admin-guide/devices.txt
)

// process records one stopped process, except its descriptors.
func (f *Frozen) process(p *tracee.Process, s *seen) (*image.Process, error) {
	out := &image.Process{Pid: s.status.inner()}
	out.Parent, out.Group, out.Session = s.stat.Parent, s.stat.Group, s.stat.Session
	out.ExitSignal, out.Comm = s.stat.ExitSignal, s.stat.Comm
	out.Creds = s.status.creds()
	if p.Zombie {
		out.Zombie, out.ExitStatus = true, s.stat.ExitCode
		return out, nil
	}
	out.Layout = s.stat.Layout
	out.Layout.Auxv = s.auxv
	if tty := s.stat.TTY; tty>>8 == deviceTTYMajor && out.Session == out.Pid {
		// Minor numbers above 255 stand in the high bits (kdev_t.h).
		out.Terminal = (tty&0xff | tty>>12&^0xff) + 1
		out.Foreground = max(0, s.stat.Foreground)
	}
	out.Umask = uint32(s.status.number("Umask", 8))
	out.NoNewPrivs = s.status.number("NoNewPrivs", 10) == 1
	out.Stopped, out.StopSignal = p.StopSignal != 0, p.StopSignal
	out.OOMScoreAdj = s.oom
	out.Cwd, out.Root, out.Rlimits = s.cwd, s.root, s.limits
	if err := f.executable(p, out); err != nil {
		return nil, err
	}
	if err := f.addressSpace(p, s, out); err != nil {
		return nil, err
	}
	if err := p.Prepare(0); err != nil {
		return nil, fmt.Errorf("preparing to ask the process: %w", err)
	}
	if err := f.ask(p, s, out); err != nil {
		return nil, err
	}
	if len(f.systemV.Semaphores) > 0 {
		// A process that has never used SEM_UNDO has no list of what it owes, like pid 1.
		if same, err := kernel.Kcmp(p.Pid, f.Init, kernel.KcmpSysVSem, 0, 0); err != nil || same != 0 {
			if err := f.systemV.AddUndo(handle.On(p.Leader()), out.Pid); err != nil {
				return nil, err
			}
		}
	}
	for i, th := range p.Threads {
		t, err := f.thread(p, th, &s.threads[i], out)
		if err != nil {
			return nil, fmt.Errorf("thread %d: %w", th.Tid, err)
		}
		out.Threads = append(out.Threads, *t)
	}
	// The train stays: if the app moves, it ends with the process, and if not,
	// Thaw takes it away.
	return out, nil
}

// unusual refuses what only programs that call clone or unshare by themselves
// make: what cannot be told in the terms of an image.
func unusual(p *tracee.Process) error {
	refuse := func(what string) error {
		return &Refusal{what, "use the app without it, if it can"}
	}
	if p.LeaderDead {
		return refuse("its first thread has ended while others go on")
	}
	for _, th := range p.Threads[1:] {
		for kind, what := range map[int]string{kernel.KcmpFiles: "descriptors", kernel.KcmpFS: "working directory"} {
			same, err := kernel.Kcmp(p.Pid, th.Tid, kind, 0, 0)
			if err != nil {
				return fmt.Errorf("comparing its threads: %w", err)
			}
			if same != 0 {
				return refuse(fmt.Sprintf("thread %d has a %s of its own", th.Tid, what))
			}
		}
	}
	return nil
}

// apart refuses a process that shares its memory with its parent. Children of pid 1 are not
// compared: it makes nothing that does.
func apart(pid, parent int) error {
	if same, err := kernel.Kcmp(pid, parent, kernel.KcmpVM, 0, 0); err == nil && same == 0 {
		return &Refusal{"it shares its memory with its parent (a vfork that goes on, or clone with CLONE_VM)", "use the app without it, if it can"}
	}
	return nil
}

// insidePath reads a link of /proc that leads to a directory of the capsule.
func (f *Frozen) insidePath(link string) (string, error) {
	path, err := os.Readlink(link)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", link, err)
	}
	path = strings.TrimPrefix(path, "(unreachable)")
	if gone, deleted := strings.CutSuffix(path, " (deleted)"); deleted {
		if _, err := os.Stat(f.root + path); err != nil {
			return "", &Refusal{fmt.Sprintf("the directory %s it works in was deleted", gone), "change to another directory in it"}
		}
	}
	if path == "" {
		path = "/"
	}
	return path, nil
}

func readInt(path string) (int, error) {
	data, err := kernel.ReadProc(path)
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

func (f *Frozen) executable(p *tracee.Process, out *image.Process) error {
	link := fmt.Sprintf("/proc/%d/exe", p.Pid)
	path, err := os.Readlink(link)
	if err != nil {
		return fmt.Errorf("reading %s: %w", link, err)
	}
	var st unix.Stat_t
	kind := image.FilePath
	if err := unix.Stat(f.root+path, &st); err != nil {
		if err := unix.Stat(link, &st); err != nil {
			return fmt.Errorf("finding the executable %s: %w", path, err)
		}
		path, kind = strings.TrimSuffix(path, " (deleted)"), image.FileDeleted
	}
	out.Exe = f.inodes.AddFile(path, &st, kind)
	if kind == image.FileDeleted {
		f.Deleted[out.Exe] = link
	}
	return nil
}

// ask has the process itself answer what nobody else can.
func (f *Frozen) ask(p *tracee.Process, s *seen, out *image.Process) error {
	leader := p.Threads[0]
	data, addr := p.Scratch()
	var calls []tracee.Call
	call := func(nr uintptr, args ...uint64) *tracee.Call {
		c := tracee.Call{Nr: nr}
		copy(c.Args[:], args)
		calls = append(calls, c)
		return &calls[len(calls)-1]
	}
	for sig := uint64(1); sig <= signals; sig++ {
		call(unix.SYS_RT_SIGACTION, sig, 0, addr+(sig-1)*sigactionLength, 8)
	}
	timers := addr + signals*sigactionLength
	for which := uint64(0); which < 3; which++ {
		call(unix.SYS_GETITIMER, which, timers+which*itimerLength)
	}
	reaper := timers + 3*itimerLength
	first := len(calls)
	call(unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER, reaper)
	call(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE)
	call(unix.SYS_PRCTL, unix.PR_GET_THP_DISABLE)
	call(unix.SYS_PRCTL, unix.PR_GET_SECUREBITS)
	call(unix.SYS_BRK, 0)
	call(unix.SYS_PERSONALITY, askPersonality)
	if err := leader.Batch(calls); err != nil {
		return fmt.Errorf("asking the process for its signals and timers: %w", err)
	}
	out.Dumpable = int(calls[first+1].Ret)
	if p.Hidden() { // while it is held it can be looked into
		out.Dumpable = 0
	}
	out.THPDisable = calls[first+2].Ret == 1
	out.Creds.SecureBits = uint32(calls[first+3].Ret)
	out.Layout.Brk = uint64(calls[first+4].Ret)
	out.Personality = uint32(calls[first+5].Ret)
	word := func(off uint64) uint64 { return binary.LittleEndian.Uint64(data[off:]) }
	for sig := uint64(0); sig < signals; sig++ {
		at := sig * sigactionLength
		out.SigActions = append(out.SigActions, image.SigAction{
			Handler: word(at), Flags: word(at + 8), Restorer: word(at + 16), Mask: word(at + 24)})
	}
	for which := uint64(0); which < 3; which++ {
		at := timers - addr + which*itimerLength
		out.ITimers = append(out.ITimers, image.ITimer{
			Interval: int64(word(at))*1e6 + int64(word(at+8)), Value: int64(word(at+16))*1e6 + int64(word(at+24))})
	}
	out.SubReaper = binary.LittleEndian.Uint32(data[reaper-addr:]) == 1
	pending, err := leader.Pending(true)
	if err != nil {
		return fmt.Errorf("reading the queued signals: %w", err)
	}
	for _, info := range pending {
		out.Pending = append(out.Pending, image.SigInfo(info))
	}
	return posixTimers(p, s.timers, out)
}

// posixTimers asks for each timer that /proc/PID/timers tells of (proc_pid_timers(5)).
func posixTimers(p *tracee.Process, text []byte, out *image.Process) error {
	var err error
	if out.PosixTimers, err = parseTimers(text); err != nil || len(out.PosixTimers) == 0 {
		return err
	}
	data, addr := p.Scratch()
	for i := range out.PosixTimers {
		t := &out.PosixTimers[i]
		calls := []tracee.Call{
			{Nr: unix.SYS_TIMER_GETTIME, Args: [6]uint64{uint64(t.ID), addr}},
			{Nr: unix.SYS_TIMER_GETOVERRUN, Args: [6]uint64{uint64(t.ID)}},
		}
		if err := p.Threads[0].Batch(calls); err != nil {
			return fmt.Errorf("asking timer %d: %w", t.ID, err)
		}
		if calls[0].Ret < 0 {
			return fmt.Errorf("asking timer %d: %w", t.ID, syscall.Errno(-calls[0].Ret))
		}
		word := func(off int) int64 { return int64(binary.LittleEndian.Uint64(data[off:])) }
		t.Interval, t.Expiry = word(0)*1e9+word(8), word(16)*1e9+word(24)
		t.Overrun = int(max(0, calls[1].Ret))
	}
	return nil
}

func parseTimers(text []byte) ([]image.PosixTimer, error) {
	var out []image.PosixTimer
	scan := bufio.NewScanner(bytes.NewReader(text))
	for scan.Scan() {
		name, value, _ := strings.Cut(scan.Text(), ":")
		value = strings.TrimSpace(value)
		if name == "ID" {
			id, err := strconv.Atoi(value)
			if err != nil {
				return nil, fmt.Errorf("reading the timers: %w", err)
			}
			out = append(out, image.PosixTimer{ID: id})
			continue
		}
		if len(out) == 0 {
			continue
		}
		t := &out[len(out)-1]
		switch name {
		case "signal":
			sig, val, _ := strings.Cut(value, "/")
			t.Signal, _ = strconv.Atoi(sig)
			t.Value, _ = strconv.ParseUint(strings.TrimPrefix(val, "0x"), 16, 64)
		case "notify":
			how, who, _ := strings.Cut(value, "/")
			switch how {
			case "signal":
				t.Notify = 0 // SIGEV_SIGNAL
			case "none":
				t.Notify = 1 // SIGEV_NONE
			case "thread":
				t.Notify = 2 // SIGEV_THREAD
			}
			if tid, ok := strings.CutPrefix(who, "tid."); ok {
				t.Notify |= 4 // SIGEV_THREAD_ID
				t.Thread, _ = strconv.Atoi(tid)
			}
		case "ClockID":
			t.Clock, _ = strconv.Atoi(value)
		}
	}
	return out, scan.Err()
}
