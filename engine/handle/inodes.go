package handle

import (
	"strings"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// Inodes numbers the files and the shared memory of an app, each once. The
// handles and the mappings of one capture share one Inodes.
type Inodes struct {
	files   []image.File
	shared  []image.SharedMemory
	byFile  map[fileKey]uint32
	byInode map[uint64]uint32 // deleted files
	byMem   map[memKey]uint32
}

type fileKey struct {
	dev, ino uint64
	path     string // "" for deleted ones
}

type memKey struct {
	ino  uint64
	name string
}

// NewInodes returns an empty table.
func NewInodes() *Inodes {
	return &Inodes{byFile: map[fileKey]uint32{}, byInode: map[uint64]uint32{}, byMem: map[memKey]uint32{}}
}

// AddFile numbers a file. path is as seen inside the capsule.
func (x *Inodes) AddFile(path string, st *unix.Stat_t, kind image.FileKind) uint32 {
	key := fileKey{st.Dev, st.Ino, path}
	if kind == image.FileDeleted {
		key.path = ""
	}
	if id := x.byFile[key]; id != 0 {
		return id
	}
	id := uint32(len(x.files) + 1)
	x.files = append(x.files, image.File{ID: id, Kind: kind, Path: path, Size: st.Size, Mode: st.Mode & 07777,
		MTime: st.Mtim.Nano(), Dev: st.Dev, Ino: st.Ino})
	x.byFile[key] = id
	if kind == image.FileDeleted {
		x.byInode[st.Ino] = id
	}
	return id
}

// DeletedFile finds a deleted file that some descriptor holds.
func (x *Inodes) DeletedFile(inode uint64) (uint32, bool) {
	id, ok := x.byInode[inode]
	return id, ok
}

// SharedByInode numbers shared memory by what a mapping tells of it: its inode
// and its name ("/memfd:x (deleted)", "/dev/zero (deleted)" ...).
func (x *Inodes) SharedByInode(inode uint64, name string) uint32 {
	name = strings.TrimSuffix(name, " (deleted)")
	key := memKey{inode, name}
	if id := x.byMem[key]; id != 0 {
		return id
	}
	id := uint32(len(x.shared) + 1)
	s := image.SharedMemory{ID: id}
	if rest, ok := strings.CutPrefix(name, "/memfd:"); ok {
		s.Name, s.MemFD = rest, true
	}
	x.shared = append(x.shared, s)
	x.byMem[key] = id
	return id
}

// AddShared numbers the memory of a memfd and records all of it.
func (x *Inodes) AddShared(st *unix.Stat_t, link string, seals uint32) uint32 {
	id := x.SharedByInode(st.Ino, link)
	s := &x.shared[id-1]
	s.Size, s.Seals, s.Mode = uint64(st.Size), seals, st.Mode&07777
	return id
}

// Grow makes shared memory at least size bytes, for what only mappings show.
func (x *Inodes) Grow(id uint32, size uint64) {
	s := &x.shared[id-1]
	if s.Segment == nil && (!s.MemFD || s.Mode == 0) {
		s.Size = max(s.Size, size)
	}
}

// Files are all numbered so far.
func (x *Inodes) Files() []image.File { return x.files }

// Shared is all numbered so far.
func (x *Inodes) Shared() []image.SharedMemory { return x.shared }
