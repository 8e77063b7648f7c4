package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// FileStatus is one document of a layer.
type FileStatus struct {
	Path  string    `json:"path"` // as the app knows it
	State string    `json:"state"`
	Size  int64     `json:"size,omitempty"`
	MTime time.Time `json:"mtime,omitzero"`
	Where string    `json:"where,omitempty"` // on this host
}

// States of a FileStatus.
const (
	Unchanged = "unchanged" // as it left its origin
	Changed   = "changed"
	New       = "new"
	Deleted   = "deleted"
	Kept      = "kept" // at the origin: could not be put in its place
)

// Status lists the documents of a layer, against the ledger.
func (l *Layer) Status(h *Hasher) ([]FileStatus, error) {
	if h == nil {
		h = NewHasher("")
	}
	d, err := openFolder(l.dir)
	if err != nil {
		return nil, fmt.Errorf("listing files: %w", err)
	}
	defer d.Close()
	base := byPath(l.Ledger.Base)
	var list []FileStatus
	err = d.walk(docsDir, func(r string, st unix.Stat_t) (bool, error) {
		p := strings.TrimPrefix(r, docsDir)
		b := base[p]
		delete(base, p)
		fs := FileStatus{Path: p, Size: st.Size, MTime: time.Unix(0, st.Mtim.Nano()), Where: filepath.Join(l.dir, r), State: New}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			if b == nil || b.Kind != Regular {
				break
			}
			f, _, err := d.openRegular(r)
			if err != nil {
				return false, err
			}
			defer f.Close()
			sum, _, err := h.File(context.Background(), f, false)
			if err != nil {
				return false, err
			}
			fs.State = Changed
			if sum == b.Hash {
				fs.State = Unchanged
			}
		case unix.S_IFLNK:
			target, err := d.readlink(r)
			if err != nil {
				return false, err
			}
			if b != nil && b.Kind == Symlink && b.Target == target {
				fs.State = Unchanged
			} else if b != nil {
				fs.State = Changed
			}
		case unix.S_IFIFO:
			if b != nil && b.Kind == FIFO {
				fs.State = Unchanged
			}
		default:
			return true, nil
		}
		if l.Ledger.AtHome {
			fs.State = Kept
		}
		list = append(list, fs)
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing files: %w", err)
	}
	for p, b := range base {
		if b.Kind != Dir && !l.Ledger.AtHome {
			list = append(list, FileStatus{Path: p, State: Deleted})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Path < list[j].Path })
	return list, nil
}

// Survey is the survey of a layer whose app has ended here, to return its
// files: NewSource(h).Need(ctx, l.Survey(self)), Send; the origin answers with
// Answer, Receive, Seal, Stage and Commit; then, and only then, Release.
func (l *Layer) Survey(self Host) Survey {
	return Survey{Root: "/", Self: self, Origin: l.Ledger.Origin, Layer: l, UID: os.Getuid()}
}

// Returned notes in the layer's ledger that the origin has taken the documents
// of need, but those that were kept: what the app changes from now on is a
// change against these.
func Returned(dir string, need *Need, kept map[string]bool) error {
	l, err := OpenLayer(dir) // as it is by now
	if err != nil {
		return err
	}
	base := byPath(l.Ledger.Base)
	var now []Entry
	for _, e := range need.Entries {
		switch old := base[e.Path]; {
		case e.Use&Document == 0:
		case !kept[e.Path]:
			e.Use, e.Have = Document, false
			now = append(now, e)
		case old != nil:
			now = append(now, *old)
		}
	}
	l.Ledger.Base = now
	return l.save()
}

// Clear removes a layer of which nothing is needed.
func Clear(dir string) error { return removeLayer(dir) }

// Fetch copies the documents of a layer into a directory, which it makes:
// those of the app's home by their names below it, others below ROOT. Only
// what is changed or new, unless all is asked for. What is there already is
// not overwritten: the copy gets a number. It gives the copies' names.
func (l *Layer) Fetch(dir string, all bool) ([]string, error) {
	list, err := l.Status(nil)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("fetching files: %w", err)
	}
	to, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	from, err := openFolder(l.dir)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	var names []string
	for _, f := range list {
		if f.State == Deleted || f.State == Unchanged && !all {
			continue
		}
		name := "ROOT" + f.Path
		if home := l.Ledger.Home; home != "" && under(f.Path, home) {
			name = rel(strings.TrimPrefix(f.Path, home))
		}
		got, err := fetchOne(from, docsDir+f.Path, to, name)
		if err != nil {
			return names, fmt.Errorf("fetching %s: %w", f.Path, err)
		}
		if got != "" {
			names = append(names, filepath.Join(dir, got))
		}
	}
	return names, nil
}

func fetchOne(from *folder, src string, to *folder, name string) (string, error) {
	if err := to.makeAll(strings.TrimPrefix(path.Dir(name), ".")); err != nil {
		return "", err
	}
	st, err := from.lstat(src)
	if err != nil {
		return "", err
	}
	for n := 1; n < 1000; n++ {
		at := name
		if n > 1 {
			at = fmt.Sprintf("%s (%d)", name, n)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			var target string
			if target, err = from.readlink(src); err == nil {
				err = to.symlink(target, at)
			}
		case unix.S_IFREG:
			err = copyOut(from, src, to, at)
		default:
			return "", nil
		}
		if err == nil {
			return at, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return "", err
		}
	}
	return "", err
}

func copyOut(from *folder, src string, to *folder, name string) (err error) {
	r, st, err := from.openRegular(src)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := to.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := w.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			to.unlink(name)
		}
	}()
	if _, err := io.Copy(w, r); err != nil {
		return writing(w.Name(), err)
	}
	if err := dress(w, st.Mode&0o1777, st.Mtim.Nano(), readXAttrs(r)); err != nil {
		return err
	}
	return w.Sync()
}

// List finds the layers that hold files of apps no longer here: of apps that
// ended on this host, of documents that found no place at home, and those put
// aside, below $XDG_DATA_HOME/hither. Damaged ones are named in the error,
// which does not keep the others from being listed.
func List(dataDir string) ([]*Layer, error) {
	dirs, err := filepath.Glob(filepath.Join(escapeGlob(dataDir), "capsules", "*", "layer*"))
	if err != nil {
		return nil, fmt.Errorf("listing the files of apps: %w", err)
	}
	var list []*Layer
	var errs []error
	for _, dir := range dirs {
		l, err := OpenLayer(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if l.Ledger.Ended != 0 || filepath.Base(dir) != "layer" || l.Ledger.AtHome && holdsDocuments(dir) {
			list = append(list, l)
		}
	}
	return list, errors.Join(errs...)
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
