package transport

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

const (
	trustFile = "peers.json"
	trustLock = "peers.json.lock"
	maxTrust  = 4 << 20 // bytes of peers.json
	maxPeers  = 4096
)

// What a peer may be permitted to do (Peer.Permissions). A key that is missing
// was never asked about.
const (
	PermitSend  = "send"  // give us an app to run
	PermitBring = "bring" // take one of our apps
	PermitWatch = "watch" // see what runs here
)

// Peer is a host this one is paired with.
type Peer struct {
	ID          ID                `json:"id"`
	Name        string            `json:"name"`
	Called      string            `json:"called,omitempty"` // what it called itself when last seen; another Name is one that a person here gave it
	Key         ed25519.PublicKey `json:"key"`
	Addresses   []string          `json:"addresses,omitempty"` // host:port, best first
	Permissions map[string]bool   `json:"permissions,omitempty"`
}

// check says what is wrong with a peer that came from outside.
func (p Peer) check() error {
	if err := CheckName(p.Name); err != nil {
		return err
	}
	if p.Called != "" {
		if err := CheckName(p.Called); err != nil {
			return fmt.Errorf("what %s calls itself: %w", p.Name, err)
		}
	}
	if len(p.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("the key of %s has %d bytes instead of %d", p.Name, len(p.Key), ed25519.PublicKeySize)
	}
	if p.ID != IDOf(p.Key) {
		return fmt.Errorf("the ID of %s is not that of its key", p.Name)
	}
	if len(p.Addresses) > maxAddresses {
		return fmt.Errorf("%s has %d addresses, more than %d", p.Name, len(p.Addresses), maxAddresses)
	}
	for _, a := range p.Addresses {
		if err := CheckAddress(a); err != nil {
			return err
		}
	}
	return nil
}

func (p Peer) clone() Peer {
	p.Key = slices.Clone(p.Key)
	p.Addresses = slices.Clone(p.Addresses)
	if p.Permissions != nil {
		m := make(map[string]bool, len(p.Permissions))
		for k, v := range p.Permissions {
			m[k] = v
		}
		p.Permissions = m
	}
	return p
}

// Trust is the book of the hosts this one is paired with. It is a file that
// any process of the user may read or change through this type; each call
// works on what the file says now.
type Trust struct {
	dir string

	mu    sync.Mutex
	stamp stamp
	peers []Peer // sorted by name, then ID
}

// stamp tells whether the file is still the one that was read. Every writer
// renames a new file into place, so the inode alone nearly does.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// OpenTrust opens the book in dir. There need not be one yet.
func OpenTrust(dir string) (*Trust, error) {
	t := &Trust{dir: dir}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refresh(); err != nil {
		return nil, err
	}
	return t, nil
}

// List is all peers, sorted by name.
func (t *Trust) List() ([]Peer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refresh(); err != nil {
		return nil, err
	}
	all := make([]Peer, len(t.peers))
	for i, p := range t.peers {
		all[i] = p.clone()
	}
	return all, nil
}

// Get is the peer with this ID; a *NotPairedError if there is none.
func (t *Trust) Get(id ID) (Peer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refresh(); err != nil {
		return Peer{}, err
	}
	for _, p := range t.peers {
		if p.ID == id {
			return p.clone(), nil
		}
	}
	return Peer{}, &NotPairedError{ID: id}
}

// Find is the peer that a person means: by name, by ID, or by the beginning of
// an ID if only one peer's begins so.
func (t *Trust) Find(what string) (Peer, error) {
	peers, err := t.List()
	if err != nil {
		return Peer{}, err
	}
	var named, prefixed []Peer
	for _, p := range peers {
		if string(p.ID) == what {
			return p, nil
		}
		if p.Name == what {
			named = append(named, p)
		}
		if what != "" && strings.HasPrefix(string(p.ID), what) {
			prefixed = append(prefixed, p)
		}
	}
	if len(named) == 0 {
		named = prefixed
	}
	switch len(named) {
	case 0:
		return Peer{}, fmt.Errorf("no host %q is paired with this one: 'hither peers' lists those that are, 'hither pair' adds one", what)
	case 1:
		return named[0], nil
	}
	var which []string
	for _, p := range named {
		which = append(which, p.Name+" ("+p.ID.Short()+")")
	}
	return Peer{}, fmt.Errorf("%q may be any of %s: say more of the ID", what, strings.Join(which, ", "))
}

// Put adds a peer, or replaces the one with the same ID.
func (t *Trust) Put(p Peer) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("adding a peer: %w", err)
	}
	return t.change(func(peers []Peer) ([]Peer, error) {
		peers = slices.DeleteFunc(peers, func(q Peer) bool { return q.ID == p.ID })
		return append(peers, p.clone()), nil
	})
}

// Update changes the peer with this ID. Its ID and key stay what they are.
func (t *Trust) Update(id ID, f func(*Peer)) error {
	return t.change(func(peers []Peer) ([]Peer, error) {
		for i, p := range peers {
			if p.ID != id {
				continue
			}
			p = p.clone()
			f(&p)
			if err := p.check(); err != nil || p.ID != id {
				return nil, fmt.Errorf("changing peer %s: %w", id.Short(), errors.Join(err, errIfMoved(p.ID, id)))
			}
			peers[i] = p
			return peers, nil
		}
		return nil, &NotPairedError{ID: id}
	})
}

func errIfMoved(got, want ID) error {
	if got == want {
		return nil
	}
	return errors.New("its ID cannot change")
}

// Remove takes a peer out of the book; no error if it is not in it.
func (t *Trust) Remove(id ID) error {
	return t.change(func(peers []Peer) ([]Peer, error) {
		return slices.DeleteFunc(peers, func(q Peer) bool { return q.ID == id }), nil
	})
}

// change rewrites the file, alone: the lock is a file of its own because the
// book itself is replaced by each writer.
func (t *Trust) change(f func([]Peer) ([]Peer, error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of the book of peers: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(t.dir, trustLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("locking the book of peers: %w", err)
	}
	defer lock.Close()
	for {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("locking the book of peers: %w", err)
	}
	if err := t.refresh(); err != nil {
		return err
	}
	peers, err := f(slices.Clone(t.peers))
	if err != nil {
		return err
	}
	if len(peers) > maxPeers {
		return fmt.Errorf("the book of peers is full (%d)", maxPeers)
	}
	sortPeers(peers)
	data, err := json.MarshalIndent(book{Version: 1, Peers: peers}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the book of peers: %w", err)
	}
	temp, err := writeTemp(t.dir, append(data, '\n'))
	if err != nil {
		return fmt.Errorf("writing the book of peers: %w", err)
	}
	if err := os.Rename(temp, t.path()); err != nil {
		os.Remove(temp)
		return fmt.Errorf("writing the book of peers: %w", err)
	}
	if err := syncDir(t.dir); err != nil {
		return err
	}
	return t.refresh()
}

func (t *Trust) path() string { return filepath.Join(t.dir, trustFile) }

// refresh reads the file again if it has changed. A damaged book is an error,
// never an old or an empty book: it decides who may run code here.
func (t *Trust) refresh() error {
	var st syscall.Stat_t
	if err := syscall.Stat(t.path(), &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			t.peers, t.stamp = nil, stamp{}
			return nil
		}
		return fmt.Errorf("reading the book of peers: %w", &fs.PathError{Op: "stat", Path: t.path(), Err: err})
	}
	now := stamp{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
	if now == t.stamp {
		return nil
	}
	data, err := readPrivate(t.path(), maxTrust, 0o022)
	if err != nil {
		return fmt.Errorf("reading the book of peers: %w", err)
	}
	peers, err := parseBook(data)
	if err != nil {
		return fmt.Errorf("reading the book of peers %s: %w: restore it from a copy, or remove it and pair anew", t.path(), err)
	}
	t.peers, t.stamp = peers, now
	return nil
}

type book struct {
	Version int    `json:"version"`
	Peers   []Peer `json:"peers"`
}

func parseBook(data []byte) ([]Peer, error) {
	var b book
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&b); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows its end")
	}
	if b.Version != 1 {
		return nil, fmt.Errorf("version %d is not known to this hither", b.Version)
	}
	if len(b.Peers) > maxPeers {
		return nil, fmt.Errorf("more than %d peers", maxPeers)
	}
	seen := make(map[ID]bool)
	for _, p := range b.Peers {
		if err := p.check(); err != nil {
			return nil, err
		}
		if seen[p.ID] {
			return nil, fmt.Errorf("%s is in it twice", p.ID.Short())
		}
		seen[p.ID] = true
	}
	sortPeers(b.Peers)
	return b.Peers, nil
}

func sortPeers(peers []Peer) {
	slices.SortFunc(peers, func(a, b Peer) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
}
