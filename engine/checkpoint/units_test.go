package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	line := []byte("123 (a) b) R 1 123 100 34817 123 4194304 0 0 0 0 1 2 0 0 20 0 3 0 555 1000 200 18446744073709551615 4096 8192 140000 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 5000 6000 7000 8000 8100 8200 8300 9")
	s, err := parseStat(line)
	if err != nil {
		t.Fatal(err)
	}
	if s.Comm != "a) b" || s.State != 'R' || s.Parent != 1 || s.Group != 123 || s.Session != 100 || s.TTY != 34817 || s.ExitSignal != 17 ||
		s.Layout.StartCode != 4096 || s.Layout.StartBrk != 7000 || s.Layout.EnvEnd != 8300 || s.ExitCode != 9 {
		t.Errorf("%+v", s)
	}
	for _, bad := range []string{"", "1 x", "1 (x) R 1", ") ("} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestParseMappings(t *testing.T) {
	all, err := parseMappings([]byte(`7f0000000000-7f0000001000 r-xp 00002000 fe:00 247278                     /usr/bin/a b\012c
Size:                  8 kB
VmFlags: rd ex mr mw me sd 
7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0                          [stack]
VmFlags: rd wr mr mw me gd ac 
`))
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	if m := all[0]; m.Path != "/usr/bin/a b\nc" || m.Offset != 0x2000 || m.Inode != 247278 || !m.has("ex") || m.has("gd") {
		t.Errorf("%+v", m)
	}
	if m := all[1]; m.Path != "[stack]" || !m.has("gd") || m.Inode != 0 {
		t.Errorf("%+v", m)
	}
	if _, err := parseMappings([]byte("nonsense here\n")); err == nil {
		t.Error("nonsense is taken")
	}
}

func TestParseTimers(t *testing.T) {
	all, err := parseTimers([]byte("ID: 0\nsignal: 14/00000000deadbeef\nnotify: signal/pid.7\nClockID: 1\nID: 5\nsignal: 40/0\nnotify: signal/tid.9\nClockID: -6\n"))
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	if a := all[0]; a.Signal != 14 || a.Value != 0xdeadbeef || a.Notify != 0 || a.Clock != 1 || a.Thread != 0 {
		t.Errorf("%+v", a)
	}
	if a := all[1]; a.ID != 5 || a.Notify != 4 || a.Thread != 9 || a.Clock != -6 {
		t.Errorf("%+v", a)
	}
}

func TestInterrupted(t *testing.T) {
	memory := map[uint64][]byte{}
	peek := func(at uint64, n int) ([]byte, error) {
		if b := memory[at]; len(b) >= n {
			return b[:n], nil
		}
		return nil, errors.New("nothing there")
	}
	spec := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 3), 500_000_000)
	memory[0x100] = spec
	memory[0x5000-7] = append([]byte{0xb8}, append(binary.LittleEndian.AppendUint32(nil, unix.SYS_POLL), 0x0f, 0x05)...)
	memory[0x6000-7] = []byte{0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05} // the end of syscall(3)
	memory[0x200] = make([]byte, 4)
	result := func(v int64) uint64 { return uint64(v) }
	for _, c := range []struct {
		name        string
		regs        unix.PtraceRegs
		deliverable bool
		nr          uint64
		left        int64
	}{
		{"user code", unix.PtraceRegs{Orig_rax: ^uint64(0), Rax: 7}, false, 0, 0},
		{"a call the kernel restarts", unix.PtraceRegs{Orig_rax: unix.SYS_READ, Rax: result(-512)}, false, 0, 0},
		{"nanosleep", unix.PtraceRegs{Orig_rax: unix.SYS_NANOSLEEP, Rax: result(-516), Rdi: 0x100}, false, unix.SYS_NANOSLEEP, 2_500_000_000},
		{"absolute sleep", unix.PtraceRegs{Orig_rax: unix.SYS_CLOCK_NANOSLEEP, Rax: result(-516), Rsi: 1, Rdx: 0x100}, false, unix.SYS_CLOCK_NANOSLEEP, -1},
		{"poll", unix.PtraceRegs{Orig_rax: unix.SYS_POLL, Rax: result(-516), Rdx: 4000}, false, unix.SYS_POLL, 3_000_000_000},
		{"epoll for ever", unix.PtraceRegs{Orig_rax: unix.SYS_EPOLL_WAIT, Rax: result(-4), R10: ^uint64(0)}, false, unix.SYS_EPOLL_WAIT, -1},
		{"epoll with a signal", unix.PtraceRegs{Orig_rax: unix.SYS_EPOLL_WAIT, Rax: result(-4), R10: 100}, true, 0, 0},
		{"already over", unix.PtraceRegs{Orig_rax: unix.SYS_POLL, Rax: result(-516), Rdx: 500}, false, unix.SYS_POLL, 0},
		{"twice broken off", unix.PtraceRegs{Orig_rax: unix.SYS_RESTART_SYSCALL, Rax: result(-516), Rdx: 2000, Rip: 0x5000}, false, unix.SYS_POLL, 1_000_000_000},
		{"twice broken off, by way of syscall(3)", unix.PtraceRegs{Orig_rax: unix.SYS_RESTART_SYSCALL, Rax: result(-516), Rdi: 0x200, Rsi: 128, R10: 0x100, Rip: 0x6000},
			false, unix.SYS_FUTEX, 2_500_000_000},
	} {
		r, err := interrupted(&c.regs, peek, time.Second, c.deliverable)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.nr == 0 && c.left == 0 {
			if r != nil {
				t.Errorf("%s: %+v", c.name, r)
			}
			continue
		}
		if r == nil || r.Nr != c.nr || r.Left != c.left {
			t.Errorf("%s: %+v, wanted call %d with %d left", c.name, r, c.nr, c.left)
		}
	}
	for _, lost := range []unix.PtraceRegs{{Rip: 0x9000}, {Rip: 0x6000, Rdi: 0x300, Rsi: 128, R10: 0x100}, {Rip: 0x6000, Rdi: 0x200, Rsi: 9, R10: 0x100}} {
		lost.Orig_rax, lost.Rax = unix.SYS_RESTART_SYSCALL, result(-516)
		if _, err := interrupted(&lost, peek, 0, false); err == nil {
			t.Errorf("a call that cannot be told is taken: %+v", lost)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("1 (x) R 1 2 3"))
	f.Add([]byte("7f0000000000-7f0000001000 r-xp 00002000 fe:00 247278 /x\nVmFlags: rd\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseStat(b)
		_, _ = parseMappings(b)
		_, _ = parseTimers(b)
		_ = bytes.Clone(b)
	})
}
