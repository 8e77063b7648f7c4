package handle

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Survey names what running processes hold and hither cannot carry. It reads
// /proc and stops nothing. What it cannot see from there (a pipe's other end, say) Capture
// may still refuse.
func Survey(procs []Proc, initPid int) []Problem {
	s := survey{initPid: initPid, seen: map[string]bool{}, held: map[uint64]bool{}}
	for _, p := range procs {
		if !p.Zombie {
			s.process(p)
		}
	}
	s.outside()
	return s.problems
}

// surveyed is a unix socket that a process has.
type surveyed struct {
	proc Proc
	fd   int
}

type survey struct {
	initPid  int
	problems []Problem
	seen     map[string]bool // a thing held twice is named once
	sockets  *socketTable
	held     map[uint64]bool // sockets, by inode
	unix     []surveyed
}

func (s *survey) process(p Proc) {
	fds, err := descriptors(p.Pid)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			s.problems = append(s.problems, Problem{p.Inner, comm(p.Pid), -1, "descriptors that cannot be looked at while it runs (" + err.Error() + ")",
				"it may move all the same; a move finds out"})
		}
		return
	}
	for _, fd := range fds {
		path := fmt.Sprintf("/proc/%d/fd/%d", p.Pid, fd)
		var d seen
		if d.link, err = os.Readlink(path); err != nil {
			continue // closed meanwhile
		}
		if unix.Stat(path, &d.st) != nil {
			continue
		}
		var fs unix.Statfs_t
		if unix.Statfs(path, &fs) == nil {
			d.fs = int64(fs.Type)
		}
		d.socket = func() (int, int, int, error) { return s.table().kind(d.st.Ino) }
		if d.st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			s.held[d.st.Ino] = true
			if domain, _, _, _ := d.socket(); domain == unix.AF_UNIX {
				s.unix = append(s.unix, surveyed{p, fd})
			}
		}
		err := s.look(&d)
		var r *refusal
		if !errors.As(err, &r) || s.seen[d.link+r.what] {
			continue
		}
		s.seen[d.link+r.what] = true
		s.problems = append(s.problems, Problem{p.Inner, comm(p.Pid), fd, r.what, r.cure})
	}
}

func (s *survey) table() *socketTable {
	if s.sockets == nil {
		s.sockets = readSockets(s.initPid)
	}
	return s.sockets
}

func (s *survey) look(d *seen) error {
	name, err := classify(d)
	if err != nil {
		return err
	}
	switch name {
	case kindFile, kindDirectory:
		if strings.HasSuffix(d.link, " (deleted)") || d.st.Nlink == 0 {
			return nil
		}
		var st unix.Stat_t
		err := unix.Lstat(fmt.Sprintf("/proc/%d/root%s", s.initPid, d.link), &st)
		if (err == nil && (st.Dev != d.st.Dev || st.Ino != d.st.Ino)) || err == unix.ENOENT {
			return refuse("let the app open it by a path that it has inside the capsule", "%s, which lies outside of what the capsule shows", d.link)
		}
	case kindSlave:
		var st unix.Stat_t
		if d.fs != unix.DEVPTS_SUPER_MAGIC {
			return nil
		}
		err := unix.Stat(fmt.Sprintf("/proc/%d/root/dev/pts", s.initPid), &st)
		if err == nil && st.Dev != d.st.Dev {
			return refuse("start the app with hither run", "a terminal of a process outside the capsule (%s)", d.link)
		}
	case kindUnix, kindTCP, kindUDP:
		return s.table().check(d.st.Ino)
	}
	return nil
}

// outside finds connections to unix sockets of processes outside. A connection's
// far end belongs to the network namespace of the caller: it is in the capsule's table, has
// its listener's name, and no process of the capsule holds it.
func (s *survey) outside() {
	names := map[string]bool{}
	if len(s.unix) == 0 {
		return
	}
	for ino, row := range s.table().sockets {
		if row.domain == unix.AF_UNIX && row.state == unixConnected && row.name != "" && !s.held[ino] {
			names[row.name] = true
		}
	}
	if len(names) == 0 {
		return
	}
	for _, u := range s.unix {
		// /proc does not tell whom a socket is connected to: for the blink of an eye
		// this process has a duplicate.
		if name := peerName(u); names[name] {
			var r *refusal
			errors.As(refuseOutside(name+", outside the capsule"), &r)
			s.problems = append(s.problems, Problem{u.proc.Inner, comm(u.proc.Pid), u.fd, r.what, r.cure})
		}
	}
}

func peerName(u surveyed) string {
	pidfd, err := unix.PidfdOpen(u.proc.Pid, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, u.fd, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	raw, err := getpeername(fd)
	if err != nil || len(raw) <= 2 {
		return ""
	}
	return printable(raw[2:])
}
