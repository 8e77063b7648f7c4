package checkpoint

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestConnectThatIsDoneEnds(t *testing.T) {
	result := func(n int64) uint64 { return uint64(n) }
	for name, c := range map[string]struct {
		nr          uint64
		result      int64
		deliverable bool
		connected   bool
		ends        bool
	}{
		"made meanwhile":            {unix.SYS_CONNECT, restartSys, false, true, true},
		"with a time-out":           {unix.SYS_CONNECT, -int64(unix.EINTR), false, true, true},
		"being made":                {unix.SYS_CONNECT, restartSys, false, false, false},
		"ended by a signal":         {unix.SYS_CONNECT, -int64(unix.EINTR), true, true, false},
		"another call":              {unix.SYS_READ, restartSys, false, true, false},
		"ended":                     {unix.SYS_CONNECT, 0, false, true, false},
		"in progress, non-blocking": {unix.SYS_CONNECT, -int64(unix.EINPROGRESS), false, true, false},
	} {
		regs := unix.PtraceRegs{Orig_rax: c.nr, Rax: result(c.result), Rdi: 7}
		was := regs
		endConnect(&regs, c.deliverable, func(fd int) bool { return c.connected && fd == 7 })
		if c.ends {
			was.Rax, was.Orig_rax = 0, ^uint64(0)
		}
		if regs != was {
			t.Errorf("%s: result %d of call %d", name, int64(regs.Rax), int64(regs.Orig_rax))
		}
	}
}
