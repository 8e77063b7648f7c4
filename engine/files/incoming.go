package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"golang.org/x/sys/unix"
)

// Incoming is the destination's side of a move: it answers needs, takes what
// is sent, and says how the capsule is to show it. Its methods are called one
// at a time. Until Seal nothing of it outlives Discard.
type Incoming struct {
	Layer *Layer

	o       IncomingOptions
	host    *view
	dir     *folder
	home    string // of this host's user: never shown to a foreign app
	from    Host
	homing  *Homecoming
	begun   bool
	atHome  bool
	base    []Entry // the ledger that came along; nil if the app comes from its origin
	private []string
	all     map[string]*Entry
	where   map[string]string // inside path -> name below the layer's folder of what is carried
	held    map[string]Hash   // content by name below the layer's folder
	byHash  map[Hash]string   // one such name for each content
	need    *Need             // the last one answered
	want    map[uint32]bool
	trees   map[uint32]string // wanted directories: by number of the Need's Trees, below the layer's folder
	local   map[string]string // of the last answer: inside path -> file of this host to copy, or ""
}

// IncomingOptions say where an arriving app's files go.
type IncomingOptions struct {
	Dir      string // of the layer: $XDG_DATA_HOME/hither/capsules/ID/layer
	Self     Host
	Home     string // this host's user's home
	Hasher   *Hasher
	Cache    *Cache // may be nil
	MaxBytes int64  // most that is taken; 0: what fits
	Root     string // where this host's files are; "" for /
	// Foreign says that this host did not start the capsule, whatever the need
	// says: a peer that claims so would have the app see this user's home.
	Foreign bool
}

// NewIncoming begins a move's file side at the destination.
func NewIncoming(o IncomingOptions) (*Incoming, error) {
	l, err := makeLayer(o.Dir)
	if err != nil {
		return nil, err
	}
	in := &Incoming{Layer: l, o: o, all: map[string]*Entry{}, where: map[string]string{},
		held: map[string]Hash{}, byHash: map[Hash]string{}}
	if in.host, err = openView(orRoot(o.Root)); err != nil {
		return nil, err
	}
	if in.dir, err = openFolder(o.Dir); err != nil {
		in.host.Close()
		return nil, err
	}
	if pl, err := in.host.where(orRoot(o.Home)); err == nil && o.Home != "" {
		in.home = pl.path
	}
	return in, nil
}

// Close lets go of what Incoming holds open; the layer stays.
func (in *Incoming) Close() {
	in.host.Close()
	in.dir.Close()
}

// Discard undoes it all, what was staged too: the move did not come about.
func (in *Incoming) Discard() error {
	defer in.Close()
	if in.homing != nil {
		if err := in.homing.Discard(); err != nil {
			return err
		}
	}
	return removeLayer(in.o.Dir)
}

// AtHome says whether this host is the app's origin. It is known after the
// first Answer.
func (in *Incoming) AtHome() bool { return in.atHome }

// Answer compares a need with this host. A first need is answered whole, a
// delta on top of what came before.
func (in *Incoming) Answer(ctx context.Context, n *Need) (*Answer, error) {
	return in.answer(ctx, n, false)
}

// Update takes a delta without answering: everything of it that changed is
// sent (Need.Everything), to save a round trip while the app is frozen. Receive
// follows.
func (in *Incoming) Update(ctx context.Context, n *Need) error {
	a, err := in.answer(ctx, n, true)
	if err != nil {
		return err
	}
	for _, r := range a.Refused {
		return fmt.Errorf("%s cannot be shown here: %s", r.Path, r.Why)
	}
	for _, p := range n.Gone { // a delta of nothing else has no stream
		if err := in.drop(p); err != nil {
			return fmt.Errorf("taking the app's files: %w", err)
		}
	}
	return nil
}

func (in *Incoming) answer(ctx context.Context, n *Need, everything bool) (*Answer, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	if n.Delta != in.begun || everything && !n.Delta {
		return nil, errors.New("the list of needed files came out of turn")
	}
	in.begun, in.need = true, n
	in.atHome = n.Origin.ID == in.o.Self.ID && !in.o.Foreign
	in.from, in.base, in.private = n.From, n.Base, n.Private
	l := &in.Layer.Ledger
	l.Origin, l.Home, l.HomeEnv, l.Private, l.Since, l.Whole, l.AtHome = n.Origin, n.Home, n.HomeEnv, n.Private, n.Since, n.Whole, in.atHome
	if in.atHome {
		l.Private = nil
	}
	base := byPath(n.Base)
	a := &Answer{}
	in.want, in.local = map[uint32]bool{}, map[string]string{}
	asked := map[Hash]bool{}
	for i := range n.Entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e := &n.Entries[i]
		at, why := in.target(ctx, e, base[e.Path])
		switch {
		case why != "":
			a.Refused = append(a.Refused, Refusal{e.Path, why})
			continue
		case at == "":
			if e.Kind == Regular {
				a.Rebound++
				in.want[uint32(i)] = everything && !e.Have
			}
			delete(in.where, e.Path)
			continue
		}
		in.where[e.Path] = at
		if e.Kind != Regular {
			continue
		}
		a.Carried++
		if everything && !e.Have {
			in.want[uint32(i)] = true
			continue
		}
		_, here := in.byHash[e.Hash]
		switch {
		case here:
		case in.o.Cache != nil && in.o.Cache.has(e.Hash):
			in.local[e.Path] = in.o.Cache.name(e.Hash)
		case in.sameOnHost(ctx, e):
			in.local[e.Path] = e.Path
		case asked[e.Hash] && e.Use&Writing == 0:
		default:
			asked[e.Hash] = e.Use&Writing == 0
			in.want[uint32(i)] = true
			a.Want = append(a.Want, uint32(i))
			a.Bytes += e.Size
		}
	}
	in.wantTrees(n, a)
	if limit := in.o.MaxBytes; limit > 0 && a.Bytes > limit {
		return nil, fmt.Errorf("the app's files are %d bytes, more than the %d this host takes", a.Bytes, limit)
	}
	return a, in.room(a.Bytes)
}

// room refuses early what will not fit.
func (in *Incoming) room(bytes int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(in.o.Dir, &fs); err != nil {
		return fmt.Errorf("looking for room in %s: %w", in.o.Dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; bytes > free {
		return fmt.Errorf("the app's files are %d bytes and %s has room for %d: %w; make room there and try again", bytes, in.o.Dir, free, unix.ENOSPC)
	}
	return nil
}

// target says where in the layer an entry is to lie; "" for nowhere, because
// the host has it. A reason comes back if it cannot be had at all.
func (in *Incoming) target(ctx context.Context, e, base *Entry) (at, why string) {
	if e.Use&Document != 0 {
		if in.atHome && e.Kind == Regular && !in.needsBytes(ctx, e, base) {
			return "", ""
		}
		return docsDir + e.Path, ""
	}
	pl, err := in.host.where(e.Path)
	if e.Kind == Symlink {
		// The place of the link itself, not where it leads.
		if pl, err = in.host.where(path.Dir(e.Path)); err == nil && pl.exists {
			p := path.Join(pl.path, path.Base(e.Path))
			_, serr := in.host.lstat(p)
			if serr == nil && !in.hidden(p) {
				return "", ""
			}
			pl.path, pl.exists = p, false
		} else if err == nil {
			pl.path = path.Join(pl.path, path.Base(e.Path))
		}
	}
	if err != nil {
		return "", fmt.Sprintf("it cannot be placed on this host: %v", err)
	}
	if in.hidden(pl.path) {
		pl.exists = false
	}
	if pl.exists && e.Kind == Dir {
		if pl.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			return "", "it is a directory, and " + pl.path + " on this host is none"
		}
		return "", ""
	}
	if pl.exists && e.Kind == FIFO {
		return "", ""
	}
	if pl.exists {
		if pl.stat.Mode&unix.S_IFMT != unix.S_IFREG {
			return "", "it is a file, and " + pl.path + " on this host is none"
		}
		if in.same(ctx, pl, e) {
			return "", ""
		}
	}
	return sysDir + pl.path, ""
}

// hidden says whether a path of the host is not shown to the app.
func (in *Incoming) hidden(p string) bool {
	if in.atHome {
		return false
	}
	return underAny(p, hides(in.Layer.Ledger.Home, in.home)) != ""
}

// same says whether the host's file at pl has e's content.
func (in *Incoming) same(ctx context.Context, pl place, e *Entry) bool {
	if !pl.exists || pl.stat.Mode&unix.S_IFMT != unix.S_IFREG || pl.stat.Size != e.Size {
		return false
	}
	f, _, err := in.host.open(pl.path)
	if err != nil {
		return false
	}
	defer f.Close()
	sum, n, err := in.o.Hasher.File(ctx, f, false)
	return err == nil && n == e.Size && sum == e.Hash
}

// sameOnHost finds a document's bytes in the host's own file of that path, as
// for a project that lies on both machines. Homes are not looked into.
func (in *Incoming) sameOnHost(ctx context.Context, e *Entry) bool {
	if in.atHome || e.Use&Document == 0 || e.Use&Writing != 0 {
		return false
	}
	pl, err := in.host.where(e.Path)
	return err == nil && !in.hidden(pl.path) && pl.path == e.Path && in.same(ctx, pl, e)
}

// Receive takes the stream that answers the last Answer, and puts everything
// of the need in place in the layer.
func (in *Incoming) Receive(ctx context.Context, r io.Reader, note func(int64)) (Stats, error) {
	var stats Stats
	fail := func(err error) (Stats, error) { return stats, fmt.Errorf("taking the app's files: %w", err) }
	if in.need == nil {
		return fail(errors.New("nothing was asked for"))
	}
	s, err := newReceiver(r, note)
	if err != nil {
		return fail(err)
	}
	n, last := in.need, -1
	for {
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		it, err := s.next()
		if err != nil {
			return fail(err)
		}
		if it == nil {
			break
		}
		if int64(it.Index) >= int64(len(n.Entries)) {
			if err := in.takeTree(s, it, &stats); err != nil {
				return fail(err)
			}
			continue
		}
		if int(it.Index) <= last || !in.want[it.Index] || it.Kind != Regular || it.Gone {
			return fail(damaged("file %d was not asked for, or came out of order", it.Index))
		}
		last = int(it.Index)
		delete(in.want, it.Index)
		e := &n.Entries[it.Index]
		if in.o.MaxBytes > 0 && it.Size > in.o.MaxBytes-stats.Content {
			return fail(fmt.Errorf("%s has grown to %d bytes, more than this host takes", e.Path, it.Size))
		}
		if in.where[e.Path] == "" { // of an Update: it came, and the host has the same
			if _, _, err := s.content(nil, it.Size); err != nil {
				return fail(err)
			}
			continue
		}
		temp := path.Join(tempDir, fmt.Sprint(it.Index))
		sum, size, err := receiveFile(in.dir, s, it, temp)
		if err != nil {
			return fail(err)
		}
		e.Hash, e.Size, e.MTime, e.Mode = sum, size, it.MTime, it.Mode
		stats.Files++
		stats.Content += size
		if err := in.put(e, temp); err != nil {
			return fail(err)
		}
	}
	for i, due := range in.want {
		if !due {
			continue
		}
		return fail(damaged("%s was asked for and did not come", n.Entries[i].Path))
	}
	for _, p := range n.Gone {
		if err := in.drop(p); err != nil {
			return fail(err)
		}
	}
	for i := range n.Entries {
		e := &n.Entries[i]
		if err := in.settle(ctx, e); err != nil {
			return fail(err)
		}
		in.all[e.Path] = e
	}
	in.need = nil
	return stats, in.modes()
}

// Seal writes the ledger. It is called after the last Receive, before the
// source is told 'ready'. What the source will not keep is put on disk; what
// the origin has anyway is not waited for: Layer.Sync does that when the app
// runs again.
func (in *Incoming) Seal() error {
	l := in.Layer
	l.Ledger.Base = in.base
	if !in.atHome && in.from.ID == l.Ledger.Origin.ID {
		l.Ledger.Base = nil
		for _, e := range in.all {
			if e.Use&Document != 0 {
				b := *e
				b.Use = Document
				l.Ledger.Base = append(l.Ledger.Base, b)
			}
		}
		sortEntries(l.Ledger.Base)
	}
	if err := l.save(); err != nil {
		return err
	}
	if in.atHome || in.from.ID == l.Ledger.Origin.ID {
		return nil
	}
	return l.Sync()
}

// Plan says how the capsule shows the layer. It may be asked for before Seal;
// ask again after the last Receive: if the plan is no longer equal, the
// capsule has to be built anew.
func (in *Incoming) Plan() ([]Mount, error) { return in.Layer.Plan(in.o.Home) }

func byPath(list []Entry) map[string]*Entry {
	m := make(map[string]*Entry, len(list))
	for i := range list {
		m[list[i].Path] = &list[i]
	}
	return m
}
