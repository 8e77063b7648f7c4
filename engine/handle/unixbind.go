package handle

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// unixWork is what the rebuilding of unix sockets keeps between rebind and fill.
type unixWork struct {
	other    map[uint32]int // the descriptor whose sending reaches a socket
	closing  []int          // to be closed when all is filled
	unlink   []string       // paths in the capsule to be removed at the end
	where    map[uint32]string
	stranger int
	done     map[uint32]bool
}

func rebindUnix(b *binder, entries []*entry) error {
	b.unix = unixWork{other: map[uint32]int{}, where: map[uint32]string{}, stranger: -1, done: map[uint32]bool{}}
	// Sockets whose path leads elsewhere by now use it first and move out of the way.
	var order []*entry
	for _, unlinked := range []bool{true, false} {
		for _, e := range entries {
			if e.rec.(*unixRecord).Unlinked == unlinked {
				order = append(order, e)
			}
		}
	}
	steps := []func(*entry, *unixRecord) error{b.unixListener, b.unixConnected, b.unixAlone, b.unixDatagramPeer, b.unixPending, b.unixSettle}
	for _, step := range steps {
		for _, e := range order {
			if err := step(e, e.rec.(*unixRecord)); err != nil {
				return fmt.Errorf("making unix socket %d (%s): %w", e.ID, printable(e.rec.(*unixRecord).Name), err)
			}
		}
	}
	return nil
}

func (b *binder) unixSocket(kind int) (int, error) {
	return b.call(unix.SYS_SOCKET, unix.AF_UNIX, uint64(kind), 0)
}

func (b *binder) unixListener(e *entry, r *unixRecord) error {
	if !r.Listens {
		return nil
	}
	fd, err := b.unixSocket(r.Type)
	if err != nil {
		return err
	}
	b.put(e.ID, fd)
	if err := b.unixName(fd, e, r); err != nil {
		return err
	}
	if _, err := b.call(unix.SYS_LISTEN, uint64(fd), uint64(max(r.Backlog, len(r.Pending)))); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	return nil
}

// unixConnected makes both ends of a connection, or one whose other end is gone.
func (b *binder) unixConnected(e *entry, r *unixRecord) error {
	if r.Listens || (r.Peer == 0 && !r.Lost) {
		return nil
	}
	if _, done := b.made[e.ID]; done {
		return nil
	}
	peer := b.byID[r.Peer]
	if r.Type == unix.SOCK_DGRAM && peer != nil && peer.rec.(*unixRecord).Peer != e.ID {
		return nil // one way: unixDatagramPeer
	}
	if peer == e {
		return fmt.Errorf("it is its own other end")
	}
	if peer != nil && (peer.rec.(*unixRecord).Peer != e.ID || peer.rec.(*unixRecord).Type != r.Type || peer.rec.(*unixRecord).Listens) {
		return fmt.Errorf("its other end is not connected to it")
	}
	mine, theirs, err := b.unixEnds(e, r, peer)
	if err != nil {
		return err
	}
	b.put(e.ID, mine)
	b.unix.other[e.ID] = theirs
	if peer == nil {
		b.unix.closing = append(b.unix.closing, theirs)
		return nil
	}
	b.put(peer.ID, theirs)
	b.unix.other[peer.ID] = mine
	return nil
}

// unixEnds connects two new sockets, with their names.
func (b *binder) unixEnds(e *entry, r *unixRecord, peer *entry) (mine, theirs int, err error) {
	if r.Type != unix.SOCK_DGRAM {
		// One that was accepted has its listener's name: call that again.
		if l := b.unixListenerOf(r); l != nil {
			theirs, mine, err = b.unixCall(l, peer)
			return mine, theirs, err
		}
		if peer != nil {
			if l := b.unixListenerOf(peer.rec.(*unixRecord)); l != nil {
				return b.unixCall(l, e)
			}
		}
	}
	if _, err := b.call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, uint64(r.Type), 0, b.addr); err != nil {
		return -1, -1, fmt.Errorf("making a pair: %w", err)
	}
	mine, theirs = int(le.Uint32(b.data)), int(le.Uint32(b.data[4:]))
	if err := b.unixName(mine, e, r); err != nil {
		return -1, -1, err
	}
	if peer != nil {
		err = b.unixName(theirs, peer, peer.rec.(*unixRecord))
	}
	return mine, theirs, err
}

// unixListenerOf finds the listener that has accepted a socket.
func (b *binder) unixListenerOf(r *unixRecord) *entry {
	if len(r.Name) == 0 {
		return nil
	}
	for _, l := range b.byKind[kindUnix] {
		other := l.rec.(*unixRecord)
		if other.Listens && other.Type == r.Type && string(other.Name) == string(r.Name) && other.VFS == r.VFS {
			return l
		}
	}
	return nil
}

// unixCall connects a new socket (for caller, which may be nil) to a listener
// and accepts it.
func (b *binder) unixCall(l, caller *entry) (calling, accepted int, err error) {
	lr := l.rec.(*unixRecord)
	if calling, err = b.unixSocket(lr.Type); err != nil {
		return -1, -1, err
	}
	if caller != nil {
		if err := b.unixName(calling, caller, caller.rec.(*unixRecord)); err != nil {
			return -1, -1, err
		}
	}
	if err := b.unixConnect(calling, l, lr); err != nil {
		return -1, -1, err
	}
	accepted, err = b.call(unix.SYS_ACCEPT4, uint64(b.made[l.ID]), 0, 0, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("accepting: %w", err)
	}
	return calling, accepted, nil
}

// unixAlone makes what is connected to nobody yet.
func (b *binder) unixAlone(e *entry, r *unixRecord) error {
	if _, done := b.made[e.ID]; done {
		return nil
	}
	fd, err := b.unixSocket(r.Type)
	if err != nil {
		return err
	}
	b.put(e.ID, fd)
	return b.unixName(fd, e, r)
}

// unixDatagramPeer connects datagram sockets one way.
func (b *binder) unixDatagramPeer(e *entry, r *unixRecord) error {
	peer := b.byID[r.Peer]
	if _, both := b.unix.other[e.ID]; r.Type != unix.SOCK_DGRAM || both || peer == nil {
		return nil
	}
	pr := peer.rec.(*unixRecord)
	if len(pr.Name) == 0 {
		return fmt.Errorf("its other end has no name and another connection")
	}
	return b.unixConnect(b.made[e.ID], peer, pr)
}

// unixPending lets callers call again, in their order.
func (b *binder) unixPending(e *entry, r *unixRecord) error {
	for _, id := range r.Pending {
		if b.unix.done[id] || b.byID[id].rec.(*unixRecord).Type != r.Type {
			return fmt.Errorf("caller %d calls twice, or in another way", id)
		}
		b.unix.done[id] = true
		if err := b.unixConnect(b.made[id], e, r); err != nil {
			return err
		}
	}
	return nil
}

// unixSettle sets options and flags.
func (b *binder) unixSettle(e *entry, r *unixRecord) error {
	return b.with(b.made[e.ID], func(dup int) error {
		for _, o := range r.Options {
			if o.Name == unix.SO_PEEK_OFF {
				continue // when it is filled
			}
			if err := applyOptions(dup, []option{o}); err != nil {
				return err
			}
		}
		_, err := unix.FcntlInt(uintptr(dup), unix.F_SETFL, openFlags(e.Handle)&^unix.O_ACCMODE)
		return err
	})
}

// unixName binds a new socket of pid 1.
func (b *binder) unixName(fd int, e *entry, r *unixRecord) error {
	if len(r.Name) == 0 {
		return nil
	}
	if r.Name[0] == 0 {
		if err := b.unixAddressCall(unix.SYS_BIND, fd, r.Name); err != nil {
			return fmt.Errorf("binding it to %s: %w", printable(r.Name), err)
		}
		return nil
	}
	if r.Path != "" {
		return b.unixRename(fd, e, r)
	}
	path := string(r.Name)
	if !filepath.IsAbs(path) {
		if err := b.chdir(r.Dir); err != nil {
			return err
		}
		defer b.chdir("/")
		path = filepath.Join(r.Dir, path)
	}
	err := b.unixAddressCall(unix.SYS_BIND, fd, append(r.Name[:len(r.Name):len(r.Name)], 0))
	if err == unix.EADDRINUSE && b.stale(r) {
		if err := b.unlink(path); err != nil {
			return err
		}
		err = b.unixAddressCall(unix.SYS_BIND, fd, append(r.Name[:len(r.Name):len(r.Name)], 0))
	}
	switch {
	case err != nil && r.Unlinked:
		return nil // nobody can find it there anyway
	case err == unix.EADDRINUSE:
		return fmt.Errorf("binding it to %s: something on this host uses that path: end that first", path)
	case err != nil:
		return fmt.Errorf("binding it to %s: %w", path, err)
	}
	b.unix.where[e.ID] = path
	if !r.Unlinked {
		at, err := b.text(path)
		if err != nil {
			return err
		}
		if _, err := b.call(unix.SYS_FCHMODAT, atFDCWD, at, uint64(r.Mode&07777)); err != nil {
			return fmt.Errorf("setting the mode of %s: %w", path, err)
		}
		return nil
	}
	away := fmt.Sprintf("%s/.hither-%d", filepath.Dir(path), e.ID)
	copy(b.data, path+"\x00"+away+"\x00")
	if _, err := b.call(unix.SYS_RENAMEAT2, atFDCWD, b.addr, atFDCWD, b.addr+uint64(len(path)+1), 0); err != nil {
		return fmt.Errorf("moving %s out of the way: %w", path, err)
	}
	b.unix.where[e.ID] = away
	b.unix.unlink = append(b.unix.unlink, away)
	return nil
}

// unixRename binds a socket to the path it was once bound to, and has it lie
// where it was renamed to.
func (b *binder) unixRename(fd int, e *entry, r *unixRecord) error {
	probe, err := b.unixSocket(r.Type)
	if err != nil {
		return err
	}
	err = b.unixAddressCall(unix.SYS_CONNECT, probe, append([]byte(r.Path), 0))
	if err2 := b.close(probe); err2 != nil {
		return err2
	}
	if err != unix.ECONNREFUSED && err != unix.ENOENT {
		return fmt.Errorf("binding it to %s: something on this host uses that path: end that first", r.Path)
	}
	// The folder of its first path may be gone.
	name := filepath.Clean(string(r.Name))
	at, err := b.text(filepath.Dir(name))
	if err != nil {
		return err
	}
	_, made := b.call(unix.SYS_MKDIRAT, atFDCWD, at, 0o700)
	if b.unixAddressCall(unix.SYS_BIND, fd, append([]byte(name), 0)) != nil {
		// It cannot be had; only the socket itself remembers it.
		name = fmt.Sprintf("/tmp/.hither-%d", e.ID)
		if err := b.unixAddressCall(unix.SYS_BIND, fd, append([]byte(name), 0)); err != nil {
			return fmt.Errorf("binding it to %s: %w", name, err)
		}
	}
	calls := batch{remote: b.remote}
	first, second := b.addr, b.addr+uint64(len(name)+1)
	third := second + uint64(len(r.Path)+1)
	copy(b.data, name+"\x00"+r.Path+"\x00"+filepath.Dir(filepath.Clean(string(r.Name)))+"\x00")
	calls.add("setting the mode of "+r.Path, unix.SYS_FCHMODAT, atFDCWD, first, uint64(r.Mode&07777))
	calls.add("bringing it to "+r.Path, unix.SYS_RENAMEAT2, atFDCWD, first, atFDCWD, second, 0)
	if made == nil {
		calls.add("removing a folder", unix.SYS_UNLINKAT, atFDCWD, third, unix.AT_REMOVEDIR)
		calls.mayFail()
	}
	b.unix.where[e.ID] = r.Path
	return calls.run()
}

// stale reports whether a socket's file is left over: nobody answers there.
func (b *binder) stale(r *unixRecord) bool {
	fd, err := b.unixSocket(r.Type)
	if err != nil {
		return false
	}
	defer b.close(fd)
	return b.unixAddressCall(unix.SYS_CONNECT, fd, append(r.Name[:len(r.Name):len(r.Name)], 0)) == unix.ECONNREFUSED
}

// unixConnect connects a socket of pid 1 to a named one.
func (b *binder) unixConnect(fd int, to *entry, r *unixRecord) error {
	name := r.Name
	if len(name) == 0 {
		return fmt.Errorf("connecting to it: it has no name")
	}
	if name[0] != 0 {
		path := b.unix.where[to.ID]
		if path == "" {
			return fmt.Errorf("connecting to %s: it has no place", name)
		}
		// The path may be longer than a socket address takes.
		if err := b.chdir(filepath.Dir(path)); err != nil {
			return err
		}
		defer b.chdir("/")
		name = append([]byte(filepath.Base(path)), 0)
	}
	if err := b.unixAddressCall(unix.SYS_CONNECT, fd, name); err != nil {
		return fmt.Errorf("connecting to %s: %w", printable(r.Name), err)
	}
	return nil
}

func (b *binder) unixAddressCall(nr uintptr, fd int, name []byte) error {
	le.PutUint16(b.data, unix.AF_UNIX)
	copy(b.data[2:], name)
	_, err := b.call(nr, uint64(fd), b.addr, uint64(2+len(name)))
	return err
}

// unixAddressHere is a socket's address as this process can use it.
func (b *binder) unixAddressHere(e *entry, r *unixRecord) ([]byte, error) {
	address := le.AppendUint16(nil, unix.AF_UNIX)
	if r.Name[0] == 0 {
		return append(address, r.Name...), nil
	}
	path := b.unix.where[e.ID]
	dir, err := unix.Open(fmt.Sprintf("/proc/%d/root%s", b.env.Pid, filepath.Dir(path)), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reaching %s in the capsule: %w", path, err)
	}
	b.locals = append(b.locals, dir)
	return append(append(address, fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path))...), 0), nil
}

func (b *binder) chdir(dir string) error {
	at, err := b.text(dir)
	if err != nil {
		return err
	}
	if _, err := b.call(unix.SYS_CHDIR, at); err != nil {
		return fmt.Errorf("going to %s in the capsule: %w", dir, err)
	}
	return nil
}

func (b *binder) unlink(path string) error {
	at, err := b.text(path)
	if err != nil {
		return err
	}
	if _, err := b.call(unix.SYS_UNLINKAT, atFDCWD, at, 0); err != nil {
		return fmt.Errorf("removing %s in the capsule: %w", path, err)
	}
	return nil
}

func (b *binder) unlinkSockets() error {
	for _, path := range b.unix.unlink {
		if err := b.unlink(path); err != nil {
			return err
		}
	}
	b.unix.unlink = nil
	return nil
}
