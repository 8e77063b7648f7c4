package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
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

// collector gathers entries by path.
type collector struct {
	src   *Source
	s     *Survey
	view  *view
	list  map[string]*Entry
	state map[string]*known
	home  string
	priv  []string // private directories
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
		if s.Layer.Ledger.Origin.ID != "" {
			n.Base, n.Since, n.Origin = s.Layer.Ledger.Base, s.Layer.Ledger.Since, s.Layer.Ledger.Origin
		}
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
	c.parents()
	if err := c.hash(ctx); err != nil {
		return nil, nil, err
	}
	c.priv = topmost(c.priv)
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

// outside says whether a path is not for a Need: it travels with a tree, or
// is the kernel's.
func (c *collector) outside(p string) bool {
	if p == "/" || CheckPath(p) != nil || underAny(p, kernelTrees) != "" {
		return true
	}
	return underAny(p, c.s.Whole) != "" && (c.home == "" || !under(p, c.home))
}

// add takes a file that was looked at. What it is known for adds up.
func (c *collector) add(p string, st *unix.Stat_t, use Use, at folderName) *Entry {
	if c.outside(p) {
		return nil
	}
	e := c.list[p]
	if e == nil {
		e = &Entry{Path: p, Mode: st.Mode & 0o1777, MTime: st.Mtim.Nano()}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			e.Kind, e.Size = Regular, st.Size
		case unix.S_IFDIR:
			e.Kind, e.MTime = Dir, 0 // a directory's time says nothing of use, and would be a change each time
		case unix.S_IFLNK:
			e.Kind, e.Mode, e.MTime = Symlink, 0, 0
		case unix.S_IFIFO:
			e.Kind, e.MTime = FIFO, 0
		default:
			return nil
		}
		c.list[p] = e
		c.state[p] = &known{at: at, id: identityOf(st)}
	}
	e.Use |= use
	return e
}

func (c *collector) dir(p string, use Use) {
	if st, err := c.view.lstat(p); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		c.add(p, &st, use, folderName{rel: rel(p)})
	}
}

// held takes a file that the app has open or mapped.
func (c *collector) held(h Held) {
	if CheckPath(h.Path) != nil || c.outside(h.Path) {
		return
	}
	st, err := c.view.lstat(h.Path)
	if err != nil {
		return // deleted: the handle's own record carries it
	}
	use := Open
	if h.Mapped {
		use |= Mapped
	}
	if h.Writing || h.Shared {
		use |= Writing
	}
	if e := c.add(h.Path, &st, use, folderName{rel: rel(h.Path)}); e != nil && h.Shared {
		c.state[h.Path].fresh = true
	}
}

// args takes the regular files that arguments name, and working directories.
func (c *collector) args(list []Args) {
	left := maxArgFiles
	for _, a := range list {
		if a.Cwd == "" || CheckPath(a.Cwd) != nil {
			continue
		}
		c.dir(a.Cwd, Open)
		for i, arg := range a.Argv {
			names := []string{arg}
			if _, v, ok := strings.Cut(arg, "="); ok {
				names = append(names, v)
			}
			for _, name := range names {
				if name == "" || len(name) >= maxPath || strings.HasPrefix(name, "-") || i == 0 && !strings.Contains(name, "/") {
					continue
				}
				if !strings.HasPrefix(name, "/") {
					name = a.Cwd + "/" + name
				}
				if left > 0 && c.named(name, maxArgFile) != nil {
					left--
				}
			}
		}
	}
}

// named takes the regular file that a name leads to, with the symbolic links
// on the way. It gives nil where there is none.
func (c *collector) named(name string, limit int64) *Entry {
	pl, err := c.view.where(name)
	if err != nil || !pl.exists || pl.stat.Mode&unix.S_IFMT != unix.S_IFREG || pl.stat.Size > limit {
		return nil
	}
	if !c.view.may(pl.path, unix.R_OK) {
		return nil
	}
	e := c.add(pl.path, &pl.stat, 0, folderName{rel: rel(pl.path)})
	c.links(pl.links)
	return e
}

func (c *collector) links(list []link) {
	for _, l := range list {
		st, err := c.view.lstat(l.path)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			continue
		}
		// A link to a directory is the host's layout, not the app's.
		if e := c.add(l.path, &st, 0, folderName{rel: rel(l.path)}); e != nil {
			e.Target = l.target
		}
	}
}

// also takes what a person asked for.
func (c *collector) also(p string) error {
	pl, err := c.view.where(p)
	if err != nil {
		return fmt.Errorf("taking %s along: %w", p, err)
	}
	if !pl.exists {
		return fmt.Errorf("taking %s along: %w", p, os.ErrNotExist)
	}
	c.links(pl.links)
	c.add(pl.path, &pl.stat, 0, folderName{rel: rel(pl.path)})
	if pl.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	d := &folder{c.view.fd, c.s.Root}
	left := maxAlso
	return d.walk(rel(pl.path), func(r string, st unix.Stat_t) (bool, error) {
		if left--; left < 0 {
			return false, fmt.Errorf("taking %s along: it holds more than %d files", p, maxAlso)
		}
		if e := c.add("/"+r, &st, 0, folderName{rel: r}); e != nil && e.Kind == Symlink {
			target, err := d.readlink(r)
			if err != nil {
				return false, err
			}
			e.Target = target
		}
		return true, nil
	})
}

// layer takes everything the app took along or wrote on this host.
func (c *collector) layer(l *Layer) error {
	d, err := openFolder(l.dir)
	if err != nil {
		return fmt.Errorf("looking at the app's layer: %w", err)
	}
	defer d.Close()
	for _, part := range []struct {
		dir string
		use Use
	}{{docsDir, Document}, {sysDir, 0}} {
		err := d.walk(part.dir, func(r string, st unix.Stat_t) (bool, error) {
			p := strings.TrimPrefix(r, part.dir)
			if part.use == 0 && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				return true, nil // parents of carried system files
			}
			if st.Mode&unix.S_IFMT == unix.S_IFDIR && underAny(p, c.priv) == "" {
				return true, nil // parents of private directories
			}
			e := c.add(p, &st, part.use, folderName{layer: true, rel: r})
			if e != nil && e.Kind == Symlink {
				target, err := d.readlink(r)
				if err != nil {
					return false, err
				}
				e.Target = target
			}
			return true, nil
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("looking at the app's layer: %w", err)
		}
	}
	return nil
}

// documents decides what belongs to the person, and which directories are
// shown as the app's own away from here.
func (c *collector) documents() {
	for again := true; again; {
		again = false
		for _, e := range c.list {
			if e.Use&Document == 0 {
				if underAny(e.Path, c.priv) == "" && !c.personal(e) {
					continue
				}
				e.Use |= Document
				again = true
			}
			if underAny(e.Path, c.priv) != "" {
				continue
			}
			d := e.Path
			if e.Kind != Dir {
				d = path.Dir(d)
			}
			if c.own(d) {
				c.priv = append(c.priv, d)
				c.dir(d, Document)
				again = true
			}
		}
	}
}

// personal says whether a file outside of private directories is a document.
func (c *collector) personal(e *Entry) bool {
	switch e.Kind {
	case Regular, FIFO:
		return e.Use&Writing != 0 || underAny(e.Path, systemTrees) == "" && c.view.may(e.Path, unix.W_OK)
	case Dir:
		return c.own(e.Path)
	}
	return false
}

// own says whether the app may make files in directory d, and d is not the
// system's.
func (c *collector) own(d string) bool {
	if d == "/" || c.outside(d) || !c.view.may(d, unix.W_OK|unix.X_OK) {
		return false
	}
	st, err := c.view.lstat(d)
	if err != nil {
		return false
	}
	if underAny(d, systemTrees) == "" && strings.Count(d, "/") > 1 {
		return true
	}
	return st.Uid != 0 && int(st.Uid) == c.s.UID
}

// parents takes the directories that lead to documents, for their modes.
func (c *collector) parents() {
	for _, e := range c.list {
		top := underAny(e.Path, c.priv)
		if e.Use&Document == 0 || top == "" {
			continue
		}
		for d := path.Dir(e.Path); under(d, top) && c.list[d] == nil; d = path.Dir(d) {
			c.dir(d, Document)
		}
	}
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
