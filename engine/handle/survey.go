package handle

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Survey names what running processes hold and hither cannot carry. It reads
// /proc, looks at duplicates of a few descriptors, and stops nothing. What it cannot see
// so Capture may still refuse.
func Survey(procs []Proc, initPid int) []Problem {
	s := survey{initPid: initPid, seen: map[string]bool{}, held: map[uint64]bool{}, pipes: map[uint64]*surveyedPipe{}}
	for _, p := range procs {
		if !p.Zombie {
			s.process(p)
		}
	}
	s.outside()
	s.streams()
	slices.SortStableFunc(s.problems, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.Pid, b.Pid), cmp.Compare(a.FD, b.FD)) })
	return s.problems
}

// surveyed is a unix socket or an end of a pipe that a process has.
type surveyed struct {
	proc Proc
	fd   int
}

// surveyedPipe is a pipe and which ends of it the app has.
type surveyedPipe struct {
	end           surveyed
	reads, writes bool
}

type survey struct {
	initPid  int
	problems []Problem
	seen     map[string]bool // a thing held twice is named once
	sockets  *socketTable
	held     map[uint64]bool // sockets, by inode
	unix     []surveyed
	pipes    map[uint64]*surveyedPipe // by inode
}

func (s *survey) process(p Proc) {
	fds, err := descriptors(p.Pid)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			s.problems = append(s.problems, Problem{p.Inner, comm(p.Pid), -1, "descriptors that cannot be looked at while it runs (" + err.Error() + ")", cureFindOut})
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
		d.socket = func() (int, int, int, error) { return s.socket(surveyed{p, fd}, d.st.Ino) }
		if strings.HasPrefix(d.link, "pipe:[") {
			s.pipe(surveyed{p, fd}, path, d.st.Ino)
		}
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

func peerName(u surveyed) (name string) {
	u.with(func(fd int) {
		if raw, err := getpeername(fd); err == nil && len(raw) > 2 {
			name = printable(raw[2:])
		}
	})
	return name
}

// with runs f with a duplicate of the descriptor, if there can be one.
func (u surveyed) with(f func(fd int)) {
	pidfd, err := unix.PidfdOpen(u.proc.Pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, u.fd, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	f(fd)
}

// socket tells what a socket is. Not every socket is in a table: netlink
// sockets that are not bound are not, nor are families that have none.
func (s *survey) socket(u surveyed, ino uint64) (domain, kind, protocol int, err error) {
	domain, kind, protocol, err = s.table().kind(ino)
	if s.table().sockets[ino] == nil {
		u.with(func(fd int) {
			if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil {
				domain = n
				kind, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
				protocol, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
			}
		})
	}
	return domain, kind, protocol, err
}

func (s *survey) pipe(u surveyed, path string, ino uint64) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return
	}
	p := s.pipes[ino]
	if p == nil {
		p = &surveyedPipe{end: u}
		s.pipes[ino] = p
	}
	p.reads = p.reads || st.Mode&unix.S_IRUSR != 0
	p.writes = p.writes || st.Mode&unix.S_IWUSR != 0
}

// streams finds pipes whose other end only a process outside has.
func (s *survey) streams() {
	for _, p := range s.pipes {
		if p.reads && p.writes {
			continue
		}
		p.end.with(func(fd int) {
			if err := refuseStream(fd, p.reads, p.writes); err != nil {
				s.problems = append(s.problems, Problem{p.end.proc.Inner, comm(p.end.proc.Pid), p.end.fd, err.what, err.cure})
			}
		})
	}
}
