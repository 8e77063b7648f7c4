package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"
)

// A layer's folder holds:
const (
	docsDir    = "docs"  // documents by their inside path: the app's own, writable
	sysDir     = "sys"   // the system's files that the host lacks, by inside path: read-only
	holesDir   = "holes" // empty directories and files: where mounts find no place on the host
	tempDir    = "temp"  // files on their way in
	ledgerFile = "ledger"
	homeFile   = "homecoming" // the way home, while it is under way
)

// Ledger tells where an app's documents came from and what they were.
type Ledger struct {
	Version int      `cbor:"1,keyasint"`
	Origin  Host     `cbor:"2,keyasint"`
	Home    string   `cbor:"3,keyasint,omitempty"`
	HomeEnv string   `cbor:"4,keyasint,omitempty"`
	Private []string `cbor:"5,keyasint,omitempty"`
	Since   int64    `cbor:"6,keyasint,omitempty"` // departure from the origin, ns since the epoch
	Base    []Entry  `cbor:"7,keyasint,omitempty"` // the documents as they were at departure
	AtHome  bool     `cbor:"8,keyasint,omitempty"` // this layer is at the origin: it holds no documents for long
	Ended   int64    `cbor:"9,keyasint,omitempty"` // when the app ended here
	Name    string   `cbor:"10,keyasint,omitempty"`
	Capsule string   `cbor:"11,keyasint,omitempty"`
	Whole   []string `cbor:"12,keyasint,omitempty"`
	Lived   bool     `cbor:"13,keyasint,omitempty"` // the app has run on this layer
}

// Layer is what an app has taken along to a host or written there.
type Layer struct {
	dir    string
	Ledger Ledger
}

// OpenLayer opens the layer in dir. Its error is os.ErrNotExist if the app
// has none.
func OpenLayer(dir string) (*Layer, error) {
	b, err := os.ReadFile(filepath.Join(dir, ledgerFile))
	if err != nil {
		return nil, fmt.Errorf("opening the layer %s: %w", dir, err)
	}
	l := &Layer{dir: dir}
	if err := decode(b, &l.Ledger, "the ledger "+filepath.Join(dir, ledgerFile)); err != nil {
		return nil, err
	}
	check := Need{Home: l.Ledger.Home, HomeEnv: l.Ledger.HomeEnv, Private: l.Ledger.Private, Base: l.Ledger.Base}
	if err := check.check(); err != nil {
		return nil, fmt.Errorf("opening the layer %s: %w", dir, err)
	}
	return l, nil
}

// Dir is the layer's folder.
func (l *Layer) Dir() string { return l.dir }

func (l *Layer) save() error {
	l.Ledger.Version = 1
	b, err := cbor.Marshal(&l.Ledger)
	if err == nil {
		err = writeFile(filepath.Join(l.dir, ledgerFile), b, false)
	}
	if err != nil {
		return fmt.Errorf("writing the ledger in %s: %w", l.dir, err)
	}
	return nil
}

// Live notes that the app is about to run here: from now on the layer may hold
// what is nowhere else.
func (l *Layer) Live() error {
	l.Ledger.Lived = true
	return l.save()
}

// Over is for a layer whose app is not here and not on its way: what the app
// wrote here is kept for List; a layer on which none ever ran is a copy of what
// its source still has, and goes.
func Over(dir, capsule, name string, when time.Time) error {
	l, err := OpenLayer(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return removeLayer(dir)
	case err != nil:
		return err
	case !l.Ledger.Lived:
		return removeLayer(dir)
	case l.Ledger.Ended != 0:
		return nil
	}
	if l.Ledger.Name != "" {
		name = l.Ledger.Name
	}
	return l.End(capsule, name, when)
}

// End notes that the app has ended on this host, so that its files are
// listed by List. A layer in which nothing was changed is removed.
func (l *Layer) End(capsule, name string, when time.Time) error {
	if !holdsDocuments(l.dir) {
		return removeLayer(l.dir)
	}
	l.Ledger.Ended, l.Ledger.Name, l.Ledger.Capsule = when.UnixNano(), name, capsule
	if err := l.save(); err != nil {
		return err
	}
	return l.Sync()
}

// Sync puts the layer on disk.
func (l *Layer) Sync() error {
	f, err := os.Open(l.dir)
	if err != nil {
		return fmt.Errorf("putting the layer on disk: %w", err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("putting the layer %s on disk: %w", l.dir, err)
	}
	return nil
}

// Release removes the layer when the app has left for another host that has
// confirmed it, keeping the contents in cache, which may be nil.
func (l *Layer) Release(cache *Cache) error {
	if cache != nil {
		cache.takeAll(l.dir)
	}
	return removeLayer(l.dir)
}

// removeLayer takes the ledger first: a layer without one is rubbish.
func removeLayer(dir string) error {
	if err := os.Remove(filepath.Join(dir, ledgerFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the layer %s: %w", dir, err)
	}
	// The app's folder goes with the last that is in it.
	defer os.Remove(filepath.Dir(dir)) //nolint:errcheck // it may hold more
	d, err := openFolder(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.removeAll(""); err != nil {
		return fmt.Errorf("removing the layer %s: %w", dir, err)
	}
	return os.Remove(dir)
}

// holdsDocuments says whether a layer has anything in it that is not
// elsewhere. In doubt it has.
func holdsDocuments(dir string) bool {
	if _, err := os.Lstat(filepath.Join(dir, ledgerFile)); err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	l, err := OpenLayer(dir)
	if err != nil {
		return true
	}
	list, err := l.Status(nil)
	if err != nil {
		return true
	}
	for _, f := range list {
		if f.State != Unchanged {
			return true
		}
	}
	return false
}

// makeLayer makes an empty layer. One that lies there with a ledger, with
// documents that were never fetched, is put aside, not removed.
func makeLayer(dir string) (*Layer, error) {
	if holdsDocuments(dir) {
		for n := 1; ; n++ {
			aside := fmt.Sprintf("%s.%d", dir, n)
			err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, aside, unix.RENAME_NOREPLACE)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EEXIST) {
				return nil, fmt.Errorf("putting the old layer %s aside: %w", dir, err)
			}
		}
	} else if err := removeLayer(dir); err != nil {
		return nil, err
	}
	for _, sub := range []string{docsDir, sysDir, holesDir, tempDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, errors.Join(cured(fmt.Errorf("making a layer: %w", err)), removeLayer(dir))
		}
		// What is shown inside must look like a system directory.
		if sub == sysDir || sub == holesDir {
			if err := os.Chmod(filepath.Join(dir, sub), 0o755); err != nil {
				return nil, fmt.Errorf("making a layer: %w", err)
			}
		}
	}
	return &Layer{dir: dir}, nil
}
