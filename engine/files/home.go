package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"
)

// Homecoming brings an app's documents back into the origin's own files. It
// has three parts, so that a move that fails changes nothing:
//
//	Stage    before the app is rebuilt: everything is decided and written down,
//	         every content lies beside its place under a temporary name, on disk
//	Opens    by these paths the rebuilt app opens its files: a descriptor of a
//	         temporary name becomes one of the right name by the renaming
//	Commit   after the move's commit, before the app runs: names are changed
//	Finish   when the app runs: all is put on disk, the layer is cleared
//	Discard  instead of Commit: the temporary names go
//
// What is decided stands in a journal in the layer. Commit and Finish may be
// killed at any point and run again (ReopenHomecoming), to the same end.
type Homecoming struct {
	dir   string // the layer's
	root  *folder
	view  *view
	j     journal
	made  map[string]bool
	again bool   // a predecessor may have done some of it
	hook  func() // of tests: called before each change
}

func (h *Homecoming) about() {
	if h.hook != nil {
		h.hook()
	}
}

// journal is what Homecoming has decided, on disk.
type journal struct {
	Version int      `cbor:"1,keyasint"`
	State   state    `cbor:"2,keyasint"`
	Root    string   `cbor:"3,keyasint"`
	From    Host     `cbor:"4,keyasint"` // where the app was
	When    int64    `cbor:"5,keyasint"` // stands in names
	Steps   []step   `cbor:"6,keyasint"`
	Made    []string `cbor:"7,keyasint,omitempty"` // directories made on the way
}

type state uint8

const (
	staging    state = iota + 1 // temporary names are being made
	staged                      // all there
	committing                  // names are being changed
	settledAll                  // done
)

type action uint8

const (
	actCreate  action = iota + 1 // nothing is at the origin: ours goes there
	actReplace                   // the origin's is what we took along: ours takes its place
	actBeside                    // both changed: ours lies beside the origin's
	actDelete                    // removed away, unchanged at the origin: removed
	actMode                      // only the mode was changed
	actInPlace                   // as actReplace, but in a directory we may not write in
	actKept                      // can be placed nowhere: stays in the layer
)

// step is what is done with one path.
type step struct {
	Act   action   `cbor:"1,keyasint"`
	Entry Entry    `cbor:"2,keyasint"` // ours; for a deletion the ledger's
	Base  Hash     `cbor:"3,keyasint"` // what the origin's is to be, for actReplace and actInPlace
	Temp  string   `cbor:"4,keyasint,omitempty"`
	Ino   uint64   `cbor:"5,keyasint,omitempty"` // of the file at Temp
	Seen  identity `cbor:"6,keyasint"`           // the origin's, when it was decided
	Final string   `cbor:"7,keyasint,omitempty"` // where it came to lie
	Done  bool     `cbor:"8,keyasint,omitempty"`
	Why   string   `cbor:"9,keyasint,omitempty"`
}

// Outcome tells a person what became of one file.
type Outcome struct {
	Path  string `json:"path"`
	What  string `json:"what"`            // written, created, beside, deleted, kept
	Where string `json:"where,omitempty"` // if elsewhere than Path
	Why   string `json:"why,omitempty"`
}

// needsBytes says whether a document's bytes are wanted at the origin.
func (in *Incoming) needsBytes(ctx context.Context, e, base *Entry) bool {
	st, err := in.host.lstat(e.Path)
	here := err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
	if here && in.same(ctx, place{path: e.Path, exists: true, stat: st}, e) {
		return false
	}
	if base != nil && base.Kind == Regular && base.Hash == e.Hash {
		return e.Use&Mapped != 0 || !here && e.Use&Open != 0
	}
	return true
}

// Stage decides what becomes of each document and puts the contents beside
// their places. It follows the last Receive. Off the origin it does nothing.
func (in *Incoming) Stage(ctx context.Context) (*Homecoming, error) {
	h, err := openHomecoming(in.o.Dir, orRoot(in.o.Root))
	if err != nil {
		return nil, err
	}
	in.homing = h
	h.j = journal{Version: 1, State: staging, Root: orRoot(in.o.Root), From: in.from, When: time.Now().UnixNano()}
	if !in.atHome || in.from.ID == in.o.Self.ID {
		return h, nil
	}
	if err := in.decideAll(ctx, h); err != nil {
		return h, fmt.Errorf("bringing the app's files home: %w", err)
	}
	if err := h.save(false); err != nil {
		return h, err
	}
	for i := range h.j.Steps {
		if err := ctx.Err(); err != nil {
			return h, err
		}
		if err := h.stage(&h.j.Steps[i]); err != nil {
			return h, fmt.Errorf("bringing %s home: %w", h.j.Steps[i].Entry.Path, err)
		}
	}
	h.j.State = staged
	return h, h.save(false)
}

// ReopenHomecoming opens one that was under way when this process's
// predecessor ended: to Commit it if the move was committed, to Discard it if
// not. Its error is os.ErrNotExist if there is none.
func ReopenHomecoming(dir string) (*Homecoming, error) {
	b, err := os.ReadFile(filepath.Join(dir, homeFile))
	if err != nil {
		return nil, fmt.Errorf("looking for files on their way home: %w", err)
	}
	var j journal
	if err := decode(b, &j, filepath.Join(dir, homeFile)); err != nil {
		return nil, err
	}
	for i := range j.Steps {
		if err := j.Steps[i].Entry.check(); err != nil {
			return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, homeFile), err)
		}
	}
	h, err := openHomecoming(dir, j.Root)
	if err != nil {
		return nil, err
	}
	h.j, h.again = j, true
	return h, nil
}

func openHomecoming(dir, root string) (*Homecoming, error) {
	d, err := openFolder(root)
	if err != nil {
		return nil, err
	}
	return &Homecoming{dir: dir, root: d, view: &view{d.fd, root}, made: map[string]bool{}}, nil
}

// Begun says whether Commit has been called, so that it must be brought to its end.
func (h *Homecoming) Begun() bool { return h.j.State >= committing }

// Close lets go of what Homecoming holds open.
func (h *Homecoming) Close() { h.root.Close() }

func (h *Homecoming) save(lasting bool) error {
	if len(h.j.Steps) == 0 {
		return nil
	}
	b, err := cbor.Marshal(&h.j)
	if err == nil {
		err = writeFile(filepath.Join(h.dir, homeFile), b, lasting)
	}
	if err != nil {
		return fmt.Errorf("writing down what becomes of the app's files: %w", err)
	}
	return nil
}

// decideAll fills the journal's steps.
func (in *Incoming) decideAll(ctx context.Context, h *Homecoming) error {
	base := byPath(in.base)
	var paths []string
	for p, e := range in.all {
		if e.Use&Document != 0 {
			paths = append(paths, p)
		}
	}
	sortStrings(paths)
	for _, p := range paths {
		s, err := in.decide(ctx, in.all[p], base[p])
		if err != nil {
			return err
		}
		if s != nil {
			s.Entry = *in.all[p]
			h.j.Steps = append(h.j.Steps, *s)
		}
	}
	// Deletions last, children before parents. A file counts as deleted only
	// if the private directory that held it is there itself.
	for i := len(in.base) - 1; i >= 0; i-- {
		b := &in.base[i]
		top := underAny(b.Path, in.private)
		if in.all[b.Path] != nil || top == "" || in.all[top] == nil || b.Path == top {
			continue
		}
		st, err := in.host.lstat(b.Path)
		if err != nil {
			continue
		}
		if in.isAsAt(ctx, b, &st) {
			h.j.Steps = append(h.j.Steps, step{Act: actDelete, Entry: *b, Base: b.Hash, Seen: identityOf(&st)})
		}
	}
	return nil
}

// isAsAt says whether what lies at the origin is what the ledger has.
func (in *Incoming) isAsAt(ctx context.Context, b *Entry, st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return b.Kind == Regular && in.same(ctx, place{path: b.Path, exists: true, stat: *st}, b)
	case unix.S_IFLNK:
		target, err := in.host.readlink(b.Path)
		return b.Kind == Symlink && err == nil && target == b.Target
	case unix.S_IFDIR:
		return b.Kind == Dir
	case unix.S_IFIFO:
		return b.Kind == FIFO
	}
	return false
}

// decide says what becomes of one document; nil: nothing.
func (in *Incoming) decide(ctx context.Context, e, base *Entry) (*step, error) {
	st, err := in.host.lstat(e.Path)
	here := err == nil
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		return nil, err
	}
	s := &step{}
	if here {
		s.Seen = identityOf(&st)
	}
	same := here && in.isAsAt(ctx, e, &st)
	unchanged := base != nil && base.sameContent(e)
	asBase := here && base != nil && in.isAsAt(ctx, base, &st)
	switch {
	case same:
		if base != nil && e.Kind != Symlink && e.Mode != base.Mode && st.Mode&0o1777 == base.Mode {
			s.Act = actMode
			return s, nil
		}
		return nil, nil
	case e.Kind == Dir && unchanged && !here:
		return nil, nil // the origin removed it; it is made again if something lies in it
	case unchanged:
		// The app did not change it, the origin did. The origin's stays; an app
		// that has the old one mapped, or open and it is gone, goes on with its own.
		if e.Kind == Regular && (e.Use&Mapped != 0 || !here && e.Use&Open != 0) {
			s.Act, s.Why = actBeside, "it changed at home, and the app was using the older one"
			return s, nil
		}
		return nil, nil
	case !here && base == nil:
		s.Act = actCreate
	case asBase && e.Kind == base.Kind:
		s.Act, s.Base = actReplace, base.Hash
		if !in.host.may(path.Dir(e.Path), unix.W_OK|unix.X_OK) && e.Kind == Regular {
			s.Act = actInPlace
		}
	case !here:
		s.Act, s.Why = actBeside, "it was removed at home, and changed by the app"
	case base == nil:
		s.Act, s.Why = actBeside, "there is another one of that name at home"
	default:
		s.Act, s.Why = actBeside, "it changed at home, too"
	}
	if e.Kind == Dir && s.Act != actCreate {
		s.Act, s.Why = actKept, "something else of that name is at home"
	}
	return s, nil
}

// Opens maps paths as the app knows them to the paths by which they are to be
// opened on this host, where these differ. Before Commit most lead to
// temporary names; afterwards only those of files that could not go home to
// their own name are left.
func (h *Homecoming) Opens() map[string]string {
	m := map[string]string{}
	for i := range h.j.Steps {
		s := &h.j.Steps[i]
		switch {
		case s.Act == actKept && s.Entry.Kind == Regular:
			m[s.Entry.Path] = filepath.Join(h.dir, docsDir, s.Entry.Path)
		case s.Done && s.Final != "" && s.Final != s.Entry.Path:
			m[s.Entry.Path] = s.Final
		case !s.Done && s.Temp != "":
			m[s.Entry.Path] = s.Temp
		}
	}
	return m
}

// Outcomes tells what became of the files, after Commit; before it, what is
// going to.
func (h *Homecoming) Outcomes() []Outcome {
	var list []Outcome
	for i := range h.j.Steps {
		s := &h.j.Steps[i]
		o := Outcome{Path: s.Entry.Path, Why: s.Why}
		switch s.Act {
		case actCreate:
			if s.Entry.Kind == Dir {
				continue
			}
			o.What = "created"
		case actReplace, actInPlace, actMode:
			o.What = "written"
		case actBeside:
			o.What, o.Where = "beside", s.Final
		case actDelete:
			if s.Final == "" && s.Done {
				continue // it was no longer ours to delete
			}
			o.What = "deleted"
		case actKept:
			o.What, o.Where = "kept", filepath.Join(h.dir, docsDir, s.Entry.Path)
		}
		list = append(list, o)
	}
	return list
}

// besideName is where a file goes that cannot have its own name; n > 1 for
// further tries.
func (h *Homecoming) besideName(p string, n int) string {
	note := fmt.Sprintf(" (from %.64s %s", printable(h.j.From.Name), time.Unix(0, h.j.When).Format("2006-01-02 15.04"))
	if n > 1 {
		note += fmt.Sprintf(" %d", n)
	}
	note += ")"
	base := path.Base(p)
	if cut := maxName - len(note); len(base) > cut {
		base = strings.ToValidUTF8(base[:cut], "")
	}
	return path.Join(path.Dir(p), base+note)
}
