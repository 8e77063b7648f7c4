package handle

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A file or directory of /proc or /sys, by path and offset. One about a process
// (/proc/PID/...) is opened when all processes are there, by each process that has
// it, so that it is not shared between processes any more. Refused: files of
// processes that have ended.
//
// Files of control groups are carried if they are only read: Go's runtime keeps open
// those that say how much processor time there is. Where the other host has none at that path,
// because its groups are others, the app reads an empty one.
var kernelFileKind = &kind{name: kindKernelFile, capture: captureKernelFile, blank: func() record { return new(kernelFileRecord) },
	late: lateKernelFile}

type kernelFileRecord struct {
	Path string `cbor:"1,keyasint"`
	Pos  int64  `cbor:"2,keyasint,omitempty"`
}

func (r *kernelFileRecord) validate(*references) error {
	if len(r.Path) > 4095 || path.Clean(r.Path) != r.Path || strings.IndexByte(r.Path, 0) >= 0 || r.Pos < 0 ||
		(r.Path != "/proc" && r.Path != "/sys" && !strings.HasPrefix(r.Path, "/proc/") && !strings.HasPrefix(r.Path, "/sys/")) {
		return fmt.Errorf("its path is %.80q", r.Path)
	}
	return nil
}

func captureKernelFile(c *capturer, d *desc) (record, error) {
	there, err := c.atPath(d)
	if err != nil {
		return nil, err
	}
	r := &kernelFileRecord{d.seen.link, d.info.pos}
	if !there || r.validate(nil) != nil {
		return nil, refuse(cureClose, "%s, which the capsule does not have at that path", d.seen.link)
	}
	if r.ofGroup() && d.flags&unix.O_ACCMODE != unix.O_RDONLY {
		return nil, refuse(cureClose, "%s, for writing: it governs a control group of this machine", r.Path)
	}
	if rest, ok := strings.CutPrefix(r.Path, "/proc/"); ok {
		first, _, _ := strings.Cut(rest, "/")
		if pid, err := strconv.Atoi(first); err == nil && pid == 1 {
			return nil, refuse(cureClose, "%s, which is of the capsule's first process", r.Path)
		}
	}
	return r, nil
}

func (r *kernelFileRecord) ofGroup() bool { return strings.HasPrefix(r.Path, "/sys/fs/cgroup/") }

func lateKernelFile(e *entry) lateCall {
	r := e.rec.(*kernelFileRecord)
	flags := openFlags(e.Handle) | oLargefile
	c := lateCall{what: fmt.Sprintf("opening %s in the capsule", r.Path), path: r.Path, pos: r.Pos, nr: unix.SYS_OPENAT,
		args: [6]uint64{atFDCWD, 0, uint64(flags | unix.O_NOFOLLOW)}}
	if r.ofGroup() {
		c.otherwise = "/dev/null"
	}
	return c
}
