package handle

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A unix socket: its type, its name (a path or an abstract one), whom it is
// connected to, what waits in it with message boundaries and descriptors, how far it is
// shut down, its options; of a listener its backlog and the callers that wait to be accepted.
//
// Rebound: pairs by socketpair, or by a call to a listener where one end has its
// name. SO_PEERCRED then tells of the capsule's first process (the user is right, the
// pid is not). Refused: sockets whose other end is outside the capsule, and callers that
// have sent something or gone away before they were accepted.
var unixKind = &kind{name: kindUnix, capture: captureUnix, blank: func() record { return new(unixRecord) }, rebind: rebindUnix, fill: fillUnix}

type unixRecord struct {
	Type int    `cbor:"1,keyasint"`
	Name []byte `cbor:"2,keyasint,omitempty"` // sun_path; abstract: begins with NUL
	// Dir is where a relative path starts.
	Dir string `cbor:"3,keyasint,omitempty"`
	// Unlinked: the path leads to it no more.
	Unlinked bool          `cbor:"4,keyasint,omitempty"`
	Mode     uint32        `cbor:"5,keyasint,omitempty"` // of the socket's file
	Listens  bool          `cbor:"6,keyasint,omitempty"`
	Backlog  int           `cbor:"7,keyasint,omitempty"`
	Pending  []uint32      `cbor:"8,keyasint,omitempty"`
	Peer     uint32        `cbor:"9,keyasint,omitempty"`
	Lost     bool          `cbor:"10,keyasint,omitempty"` // connected once; the other end is closed
	Shutdown int           `cbor:"11,keyasint,omitempty"` // 1: receiving, 2: sending
	Queue    []unixMessage `cbor:"12,keyasint,omitempty"`
	Options  []option      `cbor:"13,keyasint,omitempty"`
	VFS      uint32        `cbor:"14,keyasint,omitempty"` // tells sockets of one path apart
	// Path is where an Unlinked one is found now: Qt, for one, binds a server
	// where only it can reach, and renames that.
	Path string `cbor:"15,keyasint,omitempty"`
}

type unixMessage struct {
	Data    []byte   `cbor:"1,keyasint,omitempty"`
	Handles []uint32 `cbor:"2,keyasint,omitempty"`
	// From is the handle of a datagram's sender, if it has a name.
	From uint32 `cbor:"3,keyasint,omitempty"`

	fromName []byte
}

const (
	sunPathSize  = 108
	scmMaxFD     = 253     // descriptors in one message, net/scm.h
	maxUnixQueue = 1 << 24 // bytes
)

func (r *unixRecord) validate(refs *references) error {
	if r.Type != unix.SOCK_STREAM && r.Type != unix.SOCK_DGRAM && r.Type != unix.SOCK_SEQPACKET {
		return fmt.Errorf("a unix socket of type %d", r.Type)
	}
	if len(r.Name) > sunPathSize || len(r.Dir) > 4095 || r.Backlog < 0 || r.Shutdown < 0 || r.Shutdown > 3 {
		return fmt.Errorf("a unix socket with a name of %d bytes, a backlog of %d, shut down to %d", len(r.Name), r.Backlog, r.Shutdown)
	}
	if r.Path != "" && (len(r.Path) >= sunPathSize || filepath.Clean(r.Path) != r.Path || !filepath.IsAbs(r.Path) || strings.ContainsRune(r.Path, 0) ||
		!r.Unlinked || len(r.Name) == 0 || r.Name[0] == 0) {
		return fmt.Errorf("a unix socket that lies at %.120q", r.Path)
	}
	for _, id := range append([]uint32{r.Peer}, r.Pending...) {
		if id != 0 && refs.handles[id] != kindUnix {
			return fmt.Errorf("its other end is handle %d, which is no unix socket", id)
		}
	}
	size := 0
	for _, m := range r.Queue {
		size += len(m.Data)
		if len(m.Handles) > scmMaxFD || size > maxUnixQueue {
			return fmt.Errorf("%d bytes and %d descriptors wait in it", size, len(m.Handles))
		}
		for _, id := range m.Handles {
			if refs.handles[id] == "" {
				return fmt.Errorf("handle %d waits in it, which the image does not have", id)
			}
		}
		if m.From != 0 && refs.handles[m.From] != kindUnix {
			return fmt.Errorf("handle %d sent to it, which is no unix socket", m.From)
		}
	}
	return validOptions(r.Options)
}

// unixSocket is a socket while it is captured.
type unixSocket struct{ row *unixRow }

func (c *capturer) unixRow(d *desc) (*unixRow, error) {
	if d.sock != nil {
		return d.sock.row, nil
	}
	diag, err := c.unixSockets()
	if err != nil {
		return nil, err
	}
	row := diag.rows[d.seen.st.Ino&0xffffffff]
	if row == nil {
		// Handed in from another network namespace, then.
		return nil, refuse(cureClose, "a unix socket that was made outside the capsule")
	}
	d.sock = &unixSocket{row}
	return row, nil
}

// unixByInode finds a captured socket.
func (c *capturer) unixByInode(ino uint64) *desc {
	for _, d := range c.descs {
		if d.kind == nil || d.kind.name != kindUnix || d.seen.st.Ino&0xffffffff != ino {
			continue
		}
		return d
	}
	return nil
}

func captureUnix(c *capturer, d *desc) (record, error) {
	row, err := c.unixRow(d)
	if err != nil {
		return nil, err
	}
	r := &unixRecord{Type: row.kind, Name: row.name, Shutdown: row.shutdown & 3, VFS: row.vfs, Queue: d.queue}
	if len(r.Name) > 0 && r.Name[0] != 0 {
		r.Name, _, _ = bytes.Cut(r.Name, []byte{0})
		if err := c.unixPath(d, r); err != nil {
			return nil, err
		}
	}
	if r.Options, err = captureOptions(d.fd, unixOptions); err != nil {
		return nil, err
	}
	for i := range r.Queue {
		m := &r.Queue[i]
		if len(m.fromName) > 0 {
			m.From = c.unixSender(m.fromName)
		}
		for _, id := range m.Handles {
			if k := c.descs[id-1].kind; k != nil && k.late != nil {
				return nil, refuse(cureAgain, "a unix socket in which %s waits", c.descs[id-1].seen.link)
			}
		}
	}
	if row.state == tcpListen {
		r.Listens, r.Backlog, r.Shutdown = true, row.backlog, 0
		for _, ino := range row.pending {
			caller := c.unixByInode(ino)
			if ino == 0 || caller == nil {
				return nil, refuse(cureAgain, "a connection waiting to be accepted, whose caller has gone or is outside the capsule (%s)", printable(r.Name))
			}
			if n, err := unix.IoctlGetInt(caller.fd, unix.TIOCOUTQ); err != nil || n != 0 {
				return nil, refuse(cureAgain, "a connection waiting to be accepted, with bytes in it already (%s)", printable(r.Name))
			}
			r.Pending = append(r.Pending, caller.id)
		}
		return r, nil
	}
	return r, c.unixPeer(d, row, r)
}

func (c *capturer) unixPeer(d *desc, row *unixRow, r *unixRecord) error {
	if row.peer != 0 {
		peer := c.unixByInode(row.peer)
		if peer == nil {
			return refuseOutside(c.outsideName(d, row))
		}
		r.Peer = peer.id
		return nil
	}
	// The state does not tell: connecting to a datagram socket changes that one's,
	// too. A caller that waits to be accepted looks like one whose peer has gone.
	if _, err := getpeername(d.fd); err != nil || c.diag.pending[row.ino] {
		return nil
	}
	if row.kind != unix.SOCK_DGRAM && row.shutdown&3 != 3 {
		// Its peer has no inode and is not closed: nobody outside has accepted it yet.
		return refuseOutside(c.outsideName(d, row))
	}
	r.Lost = true
	return nil
}

// outsideName says who is at the other end.
func (c *capturer) outsideName(d *desc, row *unixRow) string {
	if peer := c.diag.rows[row.peer]; peer != nil && len(peer.name) > 0 {
		return printable(peer.name) + ", outside the capsule"
	}
	if raw, err := getpeername(d.fd); err == nil && len(raw) > 2 {
		return printable(raw[2:]) + ", outside the capsule"
	}
	return ""
}

func (c *capturer) unixSender(name []byte) uint32 {
	for _, d := range c.descs {
		if d.kind == nil || d.kind.name != kindUnix {
			continue
		}
		own, err := getsockname(d.fd)
		if err == nil && bytes.Equal(own, name) {
			return d.id
		}
	}
	return 0
}

// unixPath finds out whether the socket's path still leads to it, and from where.
func (c *capturer) unixPath(d *desc, r *unixRecord) error {
	name := string(r.Name)
	leads := func(path string) (bool, uint32) {
		var st unix.Stat_t
		err := unix.Lstat(c.root()+path, &st)
		return err == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK && uint32(st.Ino) == r.VFS, st.Mode & 07777
	}
	if filepath.IsAbs(name) {
		ok, mode := leads(filepath.Clean(name))
		r.Unlinked, r.Mode = !ok, mode
		if r.Unlinked {
			c.unixRenamed(r)
		}
		return nil
	}
	tried := map[string]bool{}
	for pid := range c.inner {
		dir, err := readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if err != nil || tried[dir] {
			continue
		}
		tried[dir] = true
		if ok, mode := leads(filepath.Join(dir, name)); ok {
			r.Dir, r.Mode = dir, mode
			return nil
		}
	}
	r.Unlinked, r.Dir = true, "/tmp"
	return nil
}

// unixRenamed looks for a socket that was renamed, near the path it was bound to.
func (c *capturer) unixRenamed(r *unixRecord) {
	dirs := []string{"/tmp", fmt.Sprintf("/run/user/%d", unix.Getuid())}
	for dir := filepath.Dir(filepath.Clean(string(r.Name))); dir != "/" && len(dirs) < 5; dir = filepath.Dir(dir) {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(c.root() + dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			var st unix.Stat_t
			if e.Type() != os.ModeSocket || len(path) >= sunPathSize || unix.Lstat(c.root()+path, &st) != nil || uint32(st.Ino) != r.VFS {
				continue
			}
			r.Path, r.Mode = path, st.Mode&07777
			return
		}
	}
}
