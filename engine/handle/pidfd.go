package handle

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A pidfd of a process in the capsule. It is made by each process that has it,
// when all processes are there. Refused: those of processes that have ended and
// been waited for, and of processes outside.
var pidfdKind = &kind{name: kindPidfd, capture: capturePidfd, blank: func() record { return new(pidfdRecord) }, late: latePidfd}

type pidfdRecord struct {
	Pid    int  `cbor:"1,keyasint"`
	Thread bool `cbor:"2,keyasint,omitempty"` // PIDFD_THREAD
}

func (r *pidfdRecord) validate(*references) error {
	if r.Pid < 1 || r.Pid >= 1<<22 {
		return fmt.Errorf("it is of process %d", r.Pid)
	}
	return nil
}

func capturePidfd(c *capturer, d *desc) (record, error) {
	text, _ := d.info.value("Pid")
	var pid int
	if _, err := fmt.Sscan(text, &pid); err != nil {
		return nil, fmt.Errorf("reading whom it is of: %w", err)
	}
	r := &pidfdRecord{Thread: d.flags&unix.O_EXCL != 0} // PIDFD_THREAD is O_EXCL, linux/pidfd.h
	switch {
	case pid == -1:
		return nil, refuse(cureAgain, "a pidfd of a process that has ended")
	case r.Thread:
		r.Pid = c.insideID(fOwnerTid, pid)
	case pid == c.in.InitPid:
		r.Pid = 1
	default:
		r.Pid = c.inner[pid]
	}
	if r.Pid == 0 {
		return nil, refuse(cureClose, "a pidfd of a process outside the capsule")
	}
	return r, nil
}

func latePidfd(e *entry) lateCall {
	r := e.rec.(*pidfdRecord)
	flags := int(e.Flags) & unix.O_NONBLOCK
	if r.Thread {
		flags |= unix.O_EXCL
	}
	return lateCall{what: fmt.Sprintf("making a pidfd of process %d", r.Pid), nr: unix.SYS_PIDFD_OPEN, args: [6]uint64{uint64(r.Pid), uint64(flags)}}
}
