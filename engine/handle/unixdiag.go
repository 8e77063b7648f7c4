package handle

import (
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/tracee"
)

// The kernel's table of unix sockets, by sock_diag(7): who is connected to whom,
// which is told nowhere else.

// OpenDiag returns a socket that asks about the network namespace of a stopped
// process, for Input.Diag. The caller closes it.
func OpenDiag(th *tracee.Thread) (int, error) {
	c := newCaller(On(th))
	theirs, err := c.call(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, fmt.Errorf("opening the table of sockets in the capsule: %w", err)
	}
	fd, err := th.Process().GetFD(theirs)
	if _, err2 := c.call(unix.SYS_CLOSE, uint64(theirs)); err == nil {
		err = err2
	}
	if err != nil {
		return -1, fmt.Errorf("fetching the table of sockets from the capsule: %w", err)
	}
	return fd, nil
}

// unixRow is one socket in the kernel's table.
type unixRow struct {
	ino      uint64
	state    int
	kind     int
	name     []byte // sun_path as bound; abstract names begin with NUL
	vfs      uint32 // inode of the socket's file
	peer     uint64
	pending  []uint64 // of a listener: inodes of the callers, oldest first; 0: the caller has gone
	backlog  int
	shutdown int
}

// Attributes and flags of linux/unix_diag.h, and linux/sock_diag.h.
const (
	sockDiagByFamily = 20
	diagShowAll      = 0x1f // name, vfs, peer, icons, rqlen
	diagName         = 0
	diagVFS          = 1
	diagPeer         = 2
	diagIcons        = 3
	diagRQLen        = 4
	diagShutdown     = 6
	nlmsgError       = 2
	nlmsgDone        = 3
	unixDiagSize     = 16
)

// unixTable asks for all unix sockets, by inode.
func unixTable(fd int) (map[uint64]*unixRow, error) {
	req := make([]byte, 40)
	le.PutUint32(req, uint32(len(req)))
	le.PutUint16(req[4:], sockDiagByFamily)
	le.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req[16] = unix.AF_UNIX
	le.PutUint32(req[20:], ^uint32(0)) // all states
	le.PutUint32(req[28:], diagShowAll)
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("asking for the table of unix sockets: %w", err)
	}
	rows := map[uint64]*unixRow{}
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the table of unix sockets: %w", err)
		}
		done, err := parseUnixDiag(buf[:n], rows)
		if err != nil || done {
			return rows, err
		}
	}
}

// parseUnixDiag reads netlink messages into rows; done: the table is at its end.
func parseUnixDiag(data []byte, rows map[uint64]*unixRow) (done bool, err error) {
	for len(data) >= 16 {
		size := int(le.Uint32(data))
		if size < 16 || size > len(data) {
			return false, fmt.Errorf("the table of unix sockets has a record of %d bytes", size)
		}
		body := data[16:size]
		switch le.Uint16(data[4:]) {
		case nlmsgDone:
			return true, nil
		case nlmsgError:
			if len(body) >= 4 {
				if errno := int32(le.Uint32(body)); errno != 0 {
					return false, fmt.Errorf("reading the table of unix sockets: %w", unix.Errno(-errno))
				}
			}
			return true, nil
		case sockDiagByFamily:
			if row := parseUnixRow(body); row != nil {
				rows[row.ino] = row
			}
		}
		data = data[min(len(data), (size+3)&^3):]
	}
	return false, nil
}

func parseUnixRow(body []byte) *unixRow {
	if len(body) < unixDiagSize {
		return nil
	}
	row := &unixRow{kind: int(body[1]), state: int(body[2]), ino: uint64(le.Uint32(body[4:]))}
	for attrs := body[unixDiagSize:]; len(attrs) >= 4; {
		size := int(le.Uint16(attrs))
		if size < 4 || size > len(attrs) {
			break
		}
		value := attrs[4:size]
		switch kind := le.Uint16(attrs[2:]) & 0x3fff; {
		case kind == diagName:
			row.name = append([]byte(nil), value...)
		case kind == diagVFS && len(value) >= 8:
			row.vfs = le.Uint32(value)
		case kind == diagPeer && len(value) >= 4:
			row.peer = uint64(le.Uint32(value))
		case kind == diagIcons:
			for i := 0; i+4 <= len(value); i += 4 {
				row.pending = append(row.pending, uint64(le.Uint32(value[i:])))
			}
		case kind == diagRQLen && len(value) >= 8:
			row.backlog = int(le.Uint32(value[4:]))
		case kind == diagShutdown && len(value) >= 1:
			row.shutdown = int(value[0])
		}
		attrs = attrs[min(len(attrs), (size+3)&^3):]
	}
	return row
}

// unixDiag are the rows of the capsule's network namespace.
type unixDiag struct {
	rows    map[uint64]*unixRow
	pending map[uint64]bool // inodes that wait to be accepted
}

func (c *capturer) unixSockets() (*unixDiag, error) {
	if c.diag != nil {
		return c.diag, nil
	}
	fd := c.in.Diag
	if fd < 0 {
		own, err := ownDiag()
		if err != nil {
			return nil, err
		}
		defer unix.Close(own)
		fd = own
	}
	rows, err := unixTable(fd)
	if err != nil {
		return nil, err
	}
	c.diag = &unixDiag{rows: rows, pending: map[uint64]bool{}}
	for _, row := range rows {
		for _, ino := range row.pending {
			c.diag.pending[ino] = true
		}
	}
	return c.diag, nil
}

func ownDiag() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, fmt.Errorf("opening the table of sockets: %w", err)
	}
	return fd, nil
}

func printable(name []byte) string {
	if len(name) == 0 {
		return ""
	}
	if name[0] == 0 {
		return "@" + string(name[1:])
	}
	for i, b := range name {
		if b == 0 {
			name = name[:i]
			break
		}
	}
	return string(name)
}
