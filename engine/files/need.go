package files

import (
	"fmt"
	"io/fs"
	"sort"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// Kind is what an entry is.
type Kind uint8

const (
	Regular Kind = iota + 1
	Dir
	Symlink
	FIFO
)

func (k Kind) String() string {
	return [...]string{"nothing", "file", "directory", "symbolic link", "FIFO"}[min(int(k), 4)]
}

// Use says what an entry is to the app. A bit's meaning never changes.
type Use uint32

const (
	// Document marks what belongs to the person, not to the system: it is
	// carried always, writable, and comes home.
	Document Use = 1 << iota
	Open         // the app holds a descriptor of it
	Mapped       // the app has it mapped
	Writing      // the app may write to it through what it holds
)

// Host names a machine.
type Host struct {
	ID   string `cbor:"1,keyasint" json:"id"`
	Name string `cbor:"2,keyasint" json:"name"`
}

// Entry is one file that an app needs, by its path inside the capsule.
type Entry struct {
	Path   string `cbor:"1,keyasint"`
	Kind   Kind   `cbor:"2,keyasint"`
	Use    Use    `cbor:"3,keyasint,omitempty"`
	Mode   uint32 `cbor:"4,keyasint,omitempty"` // permission and sticky bits
	MTime  int64  `cbor:"5,keyasint,omitempty"` // ns since the epoch
	Size   int64  `cbor:"6,keyasint,omitempty"` // of a Regular
	Hash   Hash   `cbor:"7,keyasint"`           // of a Regular
	Target string `cbor:"8,keyasint,omitempty"` // of a Symlink
	Have   bool   `cbor:"9,keyasint,omitempty"` // in a delta: the bytes are the same as before
}

// Perm is the entry's mode as Go has it.
func (e *Entry) Perm() fs.FileMode { return fs.FileMode(e.Mode & 0o777) }

// sameContent says whether two entries are alike but for their times.
func (e *Entry) sameContent(o *Entry) bool {
	return e.Kind == o.Kind && e.Hash == o.Hash && e.Target == o.Target
}

// Need is what an app needs of files at the place it moves to; or, as a
// delta, what has changed of that since.
type Need struct {
	From    Host     `cbor:"1,keyasint"` // where the app is
	Origin  Host     `cbor:"2,keyasint"` // where its documents are at home
	Home    string   `cbor:"3,keyasint"` // the app's home directory, canonical; "" for none
	HomeEnv string   `cbor:"4,keyasint,omitempty"`
	Private []string `cbor:"5,keyasint,omitempty"` // directories shown as the app's own away from its origin; Home is one
	Entries []Entry  `cbor:"6,keyasint,omitempty"` // by path, so parents come first
	Delta   bool     `cbor:"7,keyasint,omitempty"`
	Gone    []string `cbor:"8,keyasint,omitempty"` // of a delta: needed no more
	Base    []Entry  `cbor:"9,keyasint,omitempty"` // the ledger, if the app is away from its origin
	Since   int64    `cbor:"10,keyasint,omitempty"`
	Whole   []string `cbor:"11,keyasint,omitempty"` // trees of the capsule's own that travel by SendTree
	Trees   []string `cbor:"12,keyasint,omitempty"` // the system's directories that go along where they are lacking
}

// Bytes is the sum of the sizes of all regular files.
func (n *Need) Bytes() (sum int64) {
	for i := range n.Entries {
		sum += n.Entries[i].Size
	}
	return sum
}

// Everything answers a delta without asking: every file whose bytes have
// changed is to be sent.
func (n *Need) Everything() *Answer {
	a := &Answer{}
	for i := range n.Entries {
		if e := &n.Entries[i]; e.Kind == Regular && !e.Have {
			a.Want = append(a.Want, uint32(i))
			a.Bytes += e.Size
		}
	}
	return a
}

// Answer is what the destination makes of a Need.
type Answer struct {
	Want    []uint32  `cbor:"1,keyasint,omitempty"` // entries whose bytes are to be sent, ascending
	Bytes   int64     `cbor:"2,keyasint,omitempty"` // their sum
	Rebound int       `cbor:"3,keyasint,omitempty"` // files that are there with the same content
	Carried int       `cbor:"4,keyasint,omitempty"` // files that will lie in the layer
	Trees   []uint32  `cbor:"6,keyasint,omitempty"` // of the Need's Trees, those lacking here
	Refused []Refusal `cbor:"5,keyasint,omitempty"` // what cannot be shown there, each with a reason; none may be left for a move
}

// Refusal names a file that cannot go along, and why.
type Refusal struct {
	Path string `cbor:"1,keyasint" json:"path"`
	Why  string `cbor:"2,keyasint" json:"why"`
}

// Paths need not be UTF-8, so text is taken as it comes; everything else is
// strict and bounded.
var decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		UTF8: cbor.UTF8DecodeInvalid, MaxArrayElements: maxEntries, MaxMapPairs: 1024, MaxNestedLevels: 8,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		panic(err) // constant options: seen by every test
	}
	return m
}()

// MaxNeed bounds an encoded Need or Answer.
const MaxNeed = 256 << 20

// Encode gives the need's bytes.
func (n *Need) Encode() ([]byte, error) { return cbor.Marshal(n) }

// DecodeNeed reads and checks a need.
func DecodeNeed(b []byte) (*Need, error) {
	var n Need
	if err := decode(b, &n, "the list of needed files"); err != nil {
		return nil, err
	}
	return &n, n.check()
}

// Encode gives the answer's bytes.
func (a *Answer) Encode() ([]byte, error) { return cbor.Marshal(a) }

// DecodeAnswer reads an answer to n and checks it.
func DecodeAnswer(b []byte, n *Need) (*Answer, error) {
	var a Answer
	if err := decode(b, &a, "the answer on needed files"); err != nil {
		return nil, err
	}
	last := -1
	for _, w := range a.Want {
		if int(w) <= last || int(w) >= len(n.Entries) || n.Entries[w].Kind != Regular {
			return nil, fmt.Errorf("the answer on needed files wants number %d, which is out of order or no file", w)
		}
		last = int(w)
	}
	for _, t := range a.Trees {
		if int(t) >= len(n.Trees) {
			return nil, fmt.Errorf("the answer on needed files wants directory %d of %d", t, len(n.Trees))
		}
	}
	return &a, nil
}

func decode(b []byte, into any, what string) error {
	if len(b) > MaxNeed {
		return fmt.Errorf("reading %s: %d bytes are more than %d", what, len(b), MaxNeed)
	}
	if err := decoding.Unmarshal(b, into); err != nil {
		return fmt.Errorf("reading %s: %w", what, err)
	}
	return nil
}

func (n *Need) check() error {
	bad := func(err error) error { return fmt.Errorf("the list of needed files is damaged: %w", err) }
	if n.Home != "" && !homeable(n.Home) {
		return bad(fmt.Errorf("%q cannot be a home directory", n.Home))
	}
	if n.HomeEnv != "" {
		if !homeable(n.HomeEnv) {
			return bad(fmt.Errorf("%q cannot be a home directory", n.HomeEnv))
		}
	}
	for _, p := range n.Private {
		if err := CheckPath(p); err != nil {
			return bad(err)
		}
		if p == "/" || underAny(p, kernelTrees) != "" {
			return bad(fmt.Errorf("%q cannot be a private directory", p))
		}
	}
	for _, p := range n.Whole {
		if err := CheckPath(p); err != nil {
			return bad(err)
		}
	}
	for _, p := range n.Trees {
		if err := CheckPath(p); err != nil {
			return bad(err)
		}
		if p == "/" || underAny(p, kernelTrees) != "" || underAny(p, n.Private) != "" {
			return bad(fmt.Errorf("%q cannot be carried", p))
		}
	}
	for _, p := range n.Gone {
		if err := CheckPath(p); err != nil {
			return bad(err)
		}
	}
	if err := checkEntries(n.Entries); err != nil {
		return bad(err)
	}
	if err := checkEntries(n.Base); err != nil {
		return bad(err)
	}
	for i := range n.Entries {
		if e := &n.Entries[i]; e.Use&Document == 0 && underAny(e.Path, n.Private) != "" {
			return bad(fmt.Errorf("%q lies in a private directory and is no document", e.Path))
		}
	}
	return nil
}

func checkEntries(list []Entry) error {
	for i := range list {
		e := &list[i]
		if err := e.check(); err != nil {
			return err
		}
		if i > 0 && e.Path <= list[i-1].Path {
			return fmt.Errorf("%q is out of order", e.Path)
		}
	}
	return nil
}

func (e *Entry) check() error {
	if err := CheckPath(e.Path); err != nil {
		return err
	}
	switch {
	case e.Path == "/" || underAny(e.Path, kernelTrees) != "":
		return fmt.Errorf("%q cannot be carried", e.Path)
	case e.Kind < Regular || e.Kind > FIFO:
		return fmt.Errorf("%q is of unknown kind %d", e.Path, e.Kind)
	case e.Size < 0 || e.Kind != Regular && (e.Size != 0 || e.Hash != Hash{}):
		return fmt.Errorf("%q has size %d", e.Path, e.Size)
	case (e.Kind == Symlink) != (e.Target != "") || len(e.Target) >= maxPath:
		return fmt.Errorf("%q has a link target of %d bytes", e.Path, len(e.Target))
	case e.Mode&^0o1777 != 0:
		return fmt.Errorf("%q has mode %o", e.Path, e.Mode)
	}
	return nil
}

func sortEntries(list []Entry) {
	sort.Slice(list, func(i, j int) bool { return list[i].Path < list[j].Path })
}

// printable is a name that can stand in a message or in a file's name.
func printable(s string) string {
	out := []rune{}
	for _, r := range s {
		if r == utf8.RuneError || r < ' ' || r == 0x7f || r == '/' {
			r = '_'
		}
		out = append(out, r)
	}
	return string(out)
}
