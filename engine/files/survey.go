package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Held is a file, directory or FIFO that the app has open or mapped.
type Held struct {
	Path    string // inside, as the kernel names it
	Mapped  bool   // some mapping shows it
	Shared  bool   // a shared mapping of it may be written
	Writing bool   // a descriptor of it was opened for writing
}

// Args is one process, for the files that its arguments name.
type Args struct {
	Cwd  string
	Argv []string
}

// Survey is what the caller saw of an app, by itself or in the records of a
// frozen capsule.
type Survey struct {
	Root    string   // where the app's files are read: /proc/PID/root of a process of the capsule
	Self    Host     // this host
	Origin  Host     // the app's
	Home    string   // $HOME of the app, "" for none
	Whole   []string // trees that travel whole by SendTree (/tmp, /dev/shm ...); nothing below them is in a Need
	Held    []Held
	Args    []Args
	Also    []string // paths a person asked to take along: files, or directories with all below them
	Layer   *Layer   // what the app took along or wrote, if it has one here
	UID     int      // of the app
	Private []string // more directories to be shown as the app's own
}

// Bounds of what arguments may pull in.
const (
	maxArgFile  = 64 << 20
	maxArgFiles = 256
	maxAlso     = 100000
)

// A Source tells what an app needs and sends it. One Source serves one move;
// its methods are called one at a time.
type Source struct {
	hasher *Hasher
	s      Survey
	need   *Need
	state  map[string]*known
}

// known is what is known of an entry at the source.
type known struct {
	at    folderName // where its bytes are read
	id    identity
	fresh bool // its times cannot be trusted to show every change
}

// folderName says by which tree a file is read.
type folderName struct {
	layer bool   // below the layer's folder; else below the app's root
	rel   string // for the layer: docs/..., sys/...
}

// NewSource begins a move's file side at the source.
func NewSource(h *Hasher) *Source { return &Source{hasher: h, state: map[string]*known{}} }

// Need surveys the files of a running app. Files may change while it works
// and afterwards; Recheck finds those.
func (src *Source) Need(ctx context.Context, s Survey) (*Need, error) {
	n, state, err := src.survey(ctx, s)
	if err != nil {
		return nil, err
	}
	src.s, src.need, src.state = s, n, state
	return n, nil
}

// Recheck surveys again, after the freeze, and gives what has changed since
// Need and Send: changed and new entries, and those needed no more.
func (src *Source) Recheck(ctx context.Context, s Survey) (*Need, error) {
	if src.need == nil {
		return nil, errors.New("Recheck before Need")
	}
	old := src.need
	n, state, err := src.survey(ctx, s)
	if err != nil {
		return nil, err
	}
	before := map[string]*Entry{}
	for i := range old.Entries {
		before[old.Entries[i].Path] = &old.Entries[i]
	}
	delta := *n
	delta.Delta, delta.Entries, delta.Gone, delta.Trees = true, nil, nil, nil
	for i := range n.Entries {
		e := n.Entries[i]
		was := before[e.Path]
		delete(before, e.Path)
		if was != nil && was.alike(&e) {
			continue
		}
		e.Have = was != nil && was.sameContent(&e) && was.Use&Document == e.Use&Document
		delta.Entries = append(delta.Entries, e)
	}
	for p := range before {
		delta.Gone = append(delta.Gone, p)
	}
	sortStrings(delta.Gone)
	src.s, src.need, src.state = s, n, state
	return &delta, nil
}

func (src *Source) survey(ctx context.Context, s Survey) (*Need, map[string]*known, error) {
	v, err := openView(s.Root)
	if err != nil {
		return nil, nil, fmt.Errorf("looking at the app's files: %w", err)
	}
	defer v.Close()
	c := &collector{src: src, s: &s, view: v, list: map[string]*Entry{}, state: map[string]*known{}}

	if src.need != nil { // the system's files do not change in the moment of a freeze
		for _, e := range src.need.Entries {
			if e.Use&Document == 0 {
				e.Use = 0
				c.list[e.Path], c.state[e.Path] = &e, src.state[e.Path]
			}
		}
	}

	n := &Need{From: s.Self, Origin: s.Origin, Whole: s.Whole, Since: time.Now().UnixNano()}
	if s.Home != "" && homeable(path.Clean(s.Home)) {
		n.HomeEnv = path.Clean(s.Home)
		if pl, err := v.where(s.Home); err == nil && homeable(pl.path) {
			n.Home = pl.path
			c.home = pl.path
			c.priv = append(c.priv, pl.path)
			c.dir(pl.path, Document)
		}
		if n.Home == n.HomeEnv || n.Home == "" {
			n.HomeEnv = ""
		}
	}
	c.priv = append(c.priv, s.Private...)
	if s.Layer != nil {
		c.priv = append(c.priv, s.Layer.Ledger.Private...)
		if err := c.layer(s.Layer); err != nil {
			return nil, nil, err
		}
		// At home the documents are what they are; a ledger is of the last trip.
		if o := s.Layer.Ledger.Origin; o.ID != "" {
			if n.Origin = o; o.ID != s.Self.ID {
				n.Base, n.Since = s.Layer.Ledger.Base, s.Layer.Ledger.Since
			}
		}
	}
	if err := c.again(src.need); err != nil {
		return nil, nil, err
	}
	for _, h := range s.Held {
		c.held(h)
	}
	c.args(s.Args)
	for _, p := range s.Also {
		if err := c.also(p); err != nil {
			return nil, nil, err
		}
	}
	c.programs()
	c.documents()
	c.priv = topmost(c.priv)
	c.parents()
	if err := c.hash(ctx); err != nil {
		return nil, nil, err
	}
	n.Private = c.priv
	for _, d := range c.trees() {
		if underAny(d, c.priv) == "" {
			n.Trees = append(n.Trees, d)
		}
	}
	for _, e := range c.list {
		n.Entries = append(n.Entries, *e)
	}
	sortEntries(n.Entries)
	if len(n.Entries) > maxEntries {
		return nil, nil, fmt.Errorf("the app needs %d files, more than %d", len(n.Entries), maxEntries)
	}
	return n, c.state, n.check()
}

// hash reads every regular file, or trusts what is known of it.
func (c *collector) hash(ctx context.Context) error {
	work := make(chan *Entry)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	var gone []string
	for range cap(c.src.hasher.busy) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for e := range work {
				err := c.hashOne(ctx, e)
				mu.Lock()
				switch {
				case errors.Is(err, unix.ENOENT):
					gone = append(gone, e.Path)
				case err != nil && first == nil:
					first = err
				}
				mu.Unlock()
			}
		}()
	}
	for _, e := range c.list {
		if e.Kind == Regular {
			work <- e
		}
	}
	close(work)
	wg.Wait()
	for _, p := range gone {
		delete(c.list, p)
		delete(c.state, p)
	}
	return first
}

// racy is how soon before it was read a file must not have changed for its
// times to show the next change: the kernel's clock for them ticks coarsely.
const racy = 100 * time.Millisecond

func (c *collector) hashOne(ctx context.Context, e *Entry) error {
	k := c.state[e.Path]
	if e.Use&Document == 0 && k == c.src.state[e.Path] {
		return nil // carried over from the last survey
	}
	f, st, err := c.open(k.at)
	if err != nil {
		if e.Use&(Open|Document) == 0 && errors.Is(err, unix.EACCES) {
			return unix.ENOENT // not ours to read, and not in use
		}
		return err
	}
	defer f.Close()
	k.id = identityOf(&st)
	e.Size, e.MTime, e.Mode = st.Size, st.Mtim.Nano(), st.Mode&0o1777
	if old := c.src.state[e.Path]; old != nil && old.id == k.id && !old.fresh && !k.fresh && old.at == k.at {
		if was := c.src.entry(e.Path); was != nil {
			e.Hash, e.Size = was.Hash, was.Size
			return nil
		}
	}
	begun := time.Now()
	sum, n, err := c.src.hasher.File(ctx, f, k.fresh)
	if err != nil {
		return err
	}
	if begun.Sub(time.Unix(0, k.id.CTime)) < racy || n != st.Size {
		k.fresh = true
	}
	e.Hash, e.Size = sum, n
	return nil
}

func (c *collector) open(at folderName) (*os.File, unix.Stat_t, error) {
	if !at.layer {
		return c.view.open("/" + at.rel)
	}
	d, err := openFolder(c.s.Layer.dir)
	if err != nil {
		return nil, unix.Stat_t{}, err
	}
	defer d.Close()
	return d.openRegular(at.rel)
}

// alike says whether an entry needs no mention in a delta. What the app holds
// of the system's files matters to nobody.
func (e *Entry) alike(o *Entry) bool {
	if e.Use&Document == 0 && o.Use&Document == 0 {
		return e.sameContent(o)
	}
	return *e == *o
}

// Needed is the last survey: what Need gave, with what Send and Recheck found
// since.
func (src *Source) Needed() *Need { return src.need }

// entry finds an entry of the last survey.
func (src *Source) entry(p string) *Entry {
	if src.need == nil {
		return nil
	}
	lo, hi := 0, len(src.need.Entries)
	for lo < hi {
		mid := (lo + hi) / 2
		if src.need.Entries[mid].Path < p {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(src.need.Entries) && src.need.Entries[lo].Path == p {
		return &src.need.Entries[lo]
	}
	return nil
}
