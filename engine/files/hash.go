package files

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// Hash is the BLAKE3 hash of a file's content.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// identity tells whether a file is still what it was when it was read.
type identity struct {
	Dev, Ino            uint64
	MTime, CTime, Bytes int64
}

func identityOf(st *unix.Stat_t) identity {
	return identity{uint64(st.Dev), st.Ino, st.Mtim.Nano(), st.Ctim.Nano(), st.Size}
}

// settled is how long a file must have rested before its hash is kept for
// later. Stores through a mapping show in a file's times only when the kernel
// has written the page back and the next store faults again, about half a
// minute; a file that rested for longer shows its next change in its times.
const settled = time.Minute

// A Hasher hashes files, two at a time, and remembers the hashes of files
// that rest, by identity, across runs. It is safe for concurrent use.
type Hasher struct {
	path string // of the cache file; "" for none
	busy chan struct{}

	mu    sync.Mutex
	known map[identity]Hash
	dirty bool
}

// NewHasher makes a Hasher whose memory is kept in the file at path. A
// missing or damaged file is an empty memory; "" keeps none.
func NewHasher(path string) *Hasher {
	h := &Hasher{path: path, busy: make(chan struct{}, 2), known: map[identity]Hash{}}
	if path != "" {
		h.load()
	}
	return h
}

// File hashes the rest of an open file's content, from offset 0, and gives
// its length. fresh says that the file may be changing through a mapping, so
// that no remembered hash will do.
func (h *Hasher) File(ctx context.Context, f *os.File, fresh bool) (Hash, int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Hash{}, 0, fmt.Errorf("looking at %s: %w", f.Name(), err)
	}
	id := identityOf(&st)
	if !fresh {
		h.mu.Lock()
		sum, ok := h.known[id]
		h.mu.Unlock()
		if ok {
			return sum, st.Size, nil
		}
	}
	select {
	case h.busy <- struct{}{}:
		defer func() { <-h.busy }()
	case <-ctx.Done():
		return Hash{}, 0, ctx.Err()
	}
	begun := time.Now()
	sum, n, err := hashReader(ctx, io.NewSectionReader(f, 0, 1<<62))
	if err != nil {
		return Hash{}, 0, fmt.Errorf("hashing %s: %w", f.Name(), err)
	}
	if !fresh && n == st.Size && begun.Sub(time.Unix(0, id.CTime)) > settled && !isTmpfs(f) {
		var now unix.Stat_t
		if unix.Fstat(int(f.Fd()), &now) == nil && identityOf(&now) == id {
			h.mu.Lock()
			h.known[id], h.dirty = sum, true
			h.mu.Unlock()
		}
	}
	return sum, n, nil
}

// isTmpfs says whether f lies in memory, where stores through a mapping never
// show in the file's times.
func isTmpfs(f *os.File) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &fs) != nil || fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC
}

func hashReader(ctx context.Context, r io.Reader) (Hash, int64, error) {
	var sum Hash
	var n int64
	d := blake3.New()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		k, err := r.Read(*buf)
		d.Write((*buf)[:k])
		n += int64(k)
		if errors.Is(err, io.EOF) {
			d.Sum(sum[:0])
			return sum, n, nil
		}
		if err != nil {
			return sum, n, err
		}
		if ctx.Err() != nil {
			return sum, n, ctx.Err()
		}
	}
}

const chunk = 256 << 10 // bytes read, sent and written at a time

var buffers = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// The cache file: a head of 8 bytes, records of 72 bytes, the BLAKE3 hash of
// both. It is a memory, not a truth: whatever is wrong with it, it is dropped.
var cacheHead = []byte("hitherH1")

const (
	cacheRecord = 5*8 + 32
	maxKnown    = 1 << 16
)

func (h *Hasher) load() {
	st, err := os.Stat(h.path)
	if err != nil || st.Size() > maxKnown*cacheRecord+64 {
		return
	}
	b, err := os.ReadFile(h.path)
	if err != nil || len(b) < len(cacheHead)+32 || !bytes.HasPrefix(b, cacheHead) {
		return
	}
	body, tail := b[:len(b)-32], b[len(b)-32:]
	if sum := blake3.Sum256(body); !bytes.Equal(sum[:], tail) {
		return
	}
	for r := body[len(cacheHead):]; len(r) >= cacheRecord; r = r[cacheRecord:] {
		u := func(i int) uint64 { return binary.LittleEndian.Uint64(r[8*i:]) }
		id := identity{u(0), u(1), int64(u(2)), int64(u(3)), int64(u(4))}
		h.known[id] = Hash(r[40:72])
	}
}

// Save writes the memory to its file, if it has changed.
func (h *Hasher) Save() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.dirty || h.path == "" {
		return nil
	}
	b := append([]byte{}, cacheHead...)
	n := 0
	for id, sum := range h.known {
		if n++; n > maxKnown { // map order is random, so is what is forgotten
			delete(h.known, id)
			continue
		}
		for _, v := range []uint64{id.Dev, id.Ino, uint64(id.MTime), uint64(id.CTime), uint64(id.Bytes)} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		b = append(b, sum[:]...)
	}
	sum := blake3.Sum256(b)
	if err := os.MkdirAll(filepath.Dir(h.path), 0o700); err != nil {
		return fmt.Errorf("saving the memory of hashes: %w", err)
	}
	if err := writeFile(h.path, append(b, sum[:]...), false); err != nil {
		return fmt.Errorf("saving the memory of hashes: %w", err)
	}
	h.dirty = false
	return nil
}

// writeFile replaces the file at path by data through a temporary file and a
// rename; lasting says that it must outlive a loss of power.
func writeFile(path string, data []byte, lasting bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(data)
	if err == nil && lasting {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil || !lasting {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
