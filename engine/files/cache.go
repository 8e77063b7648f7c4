package files

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

// Cache keeps contents that were here before, by hash, so that an app that
// comes back brings only what is new. It is a convenience: whatever is wrong
// with it, bytes travel instead. Contents are checked when they are used.
type Cache struct {
	dir    string
	budget int64
}

// OpenCache opens a cache of at most budget bytes in dir, which it makes.
func OpenCache(dir string, budget int64) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the cache of files: %w", err)
	}
	return &Cache{dir, budget}, nil
}

func (c *Cache) name(h Hash) string { return filepath.Join(c.dir, h.String()) }

func (c *Cache) has(h Hash) bool {
	st, err := os.Lstat(c.name(h))
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	now := time.Now()
	os.Chtimes(c.name(h), now, now) // used: kept longer
	return true
}

// takeAll moves the files of a layer that is to be removed into the cache.
func (c *Cache) takeAll(layer string) {
	d, err := openFolder(layer)
	if err != nil {
		return
	}
	defer d.Close()
	h := NewHasher("")
	for _, part := range []string{docsDir, sysDir} {
		d.walk(part, func(rel string, st unix.Stat_t) (bool, error) {
			if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > 0 && st.Size <= c.budget/4 {
				c.take(d, h, rel)
			}
			return true, nil
		})
	}
	c.trim()
}

func (c *Cache) take(d *folder, h *Hasher, rel string) {
	f, _, err := d.openRegular(rel)
	if err != nil {
		return
	}
	defer f.Close()
	sum, _, err := h.File(context.Background(), f, false)
	if err != nil {
		return
	}
	fd, base, err := d.dirOf(rel)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Renameat(fd, base, unix.AT_FDCWD, c.name(sum)) != nil {
		return // another file system: not worth a copy
	}
	os.Chmod(c.name(sum), 0o600)
	now := time.Now()
	os.Chtimes(c.name(sum), now, now)
}

// trim removes what was used longest ago until the budget is kept.
func (c *Cache) trim() {
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	type kept struct {
		name string
		used time.Time
		size int64
	}
	var all []kept
	var sum int64
	for _, de := range list {
		st, err := de.Info()
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		if _, err := hex.DecodeString(de.Name()); err != nil {
			continue
		}
		all = append(all, kept{de.Name(), st.ModTime(), st.Size()})
		sum += st.Size()
	}
	sort.Slice(all, func(i, j int) bool { return all[i].used.Before(all[j].used) })
	for _, k := range all {
		if sum <= c.budget {
			return
		}
		if err := os.Remove(filepath.Join(c.dir, k.name)); err == nil || errors.Is(err, os.ErrNotExist) {
			sum -= k.size
		}
	}
}
