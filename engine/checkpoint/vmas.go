package checkpoint

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"hither/engine/handle"
	"hither/engine/image"
)

// kept are the VmFlags of proc_pid_smaps(5) that a restorer must set.
var kept = map[string]image.VMAFlag{
	"gd": image.VMAGrowsDown, "lo": image.VMALocked, "dc": image.VMADontFork,
	"dd": image.VMADontDump, "wf": image.VMAWipeOnFork, "hg": image.VMAHugePage,
	"nh": image.VMANoHugePage, "mg": image.VMAMergeable, "sl": image.VMASealed,
	"nr": image.VMANoReserve, "dp": image.VMADroppable, "lf": image.VMALockOnFault,
	"sr": image.VMASeqRead, "rr": image.VMARandRead,
}

// refusedFlags are the kinds of memory that cannot be carried yet.
var refusedFlags = map[string]string{
	"ht": "huge pages of hugetlbfs", "pf": "memory of a device", "io": "memory of a device",
	"ss": "a shadow stack", "um": "a userfaultfd", "uw": "a userfaultfd",
}

// mapper turns mappings into VMAs and interns what they show.
type mapper struct {
	root   string // the capsule's root as seen from here
	inodes *handle.Inodes
	stats  map[string]fileStat // of mapped files: the same libraries are everywhere

	watched bool // by a userfaultfd of our own
}

type fileStat struct {
	st  unix.Stat_t
	err error
}

func (x *mapper) stat(path string) (unix.Stat_t, error) {
	s, ok := x.stats[path]
	if !ok {
		s.err = unix.Stat(x.root+path, &s.st)
		x.stats[path] = s
	}
	return s.st, s.err
}

// Refusal is a thing an app holds that cannot be carried.
type Refusal struct {
	What, Cure string
}

func (r *Refusal) Error() string { return r.What }

// vma returns nil for mappings that do not travel. whole is set for private
// mappings of which every byte travels, because the file they show is gone.
func (x *mapper) vma(m mapping) (v *image.VMA, whole bool, err error) {
	if m.Path == "[vsyscall]" || m.Path == "[uprobes]" {
		return nil, false, nil
	}
	v = &image.VMA{Start: m.Start, End: m.End, Shared: m.Perms[3] == 's', Offset: m.Offset, Writable: m.has("mw")}
	for i, bit := range []uint32{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC} {
		if m.Perms[i] != '-' {
			v.Prot |= bit
		}
	}
	for name, flag := range kept {
		if m.has(name) {
			v.Flags |= flag
		}
	}
	switch {
	case m.Path == "[vdso]":
		v.Backing, v.Offset = image.BackVDSO, 0
		return v, false, nil
	case strings.HasPrefix(m.Path, "[vvar"):
		v.Backing, v.Name, v.Offset = image.BackVVar, m.Path, 0
		return v, false, nil
	}
	for name, what := range refusedFlags {
		if m.has(name) && !(name == "io" && m.Path == "[vvar]") && !(x.watched && (name == "um" || name == "uw")) {
			return nil, false, &Refusal{fmt.Sprintf("it has %s at %#x (%s)", what, m.Start, m.Path), "end the part of it that uses this, or use it without"}
		}
	}
	name, special := strings.CutPrefix(m.Path, "[")
	switch {
	case m.Inode == 0 && (m.Path == "" || special):
		v.Backing, v.Offset = image.BackAnon, 0
		if rest, ok := strings.CutPrefix(name, "anon:"); special && ok {
			v.Name = strings.TrimSuffix(rest, "]")
		}
		return v, false, nil
	case strings.HasPrefix(m.Path, "/SYSV") && strings.HasSuffix(m.Path, " (deleted)"):
		v.Backing = image.BackShared
		v.Object = x.inodes.SegmentByID(m.Inode)
		return v, false, nil
	case strings.HasPrefix(m.Path, "/[aio]"):
		return nil, false, &Refusal{"it uses kernel AIO (io_setup), which hither cannot carry yet", "use the app without it, if it can"}
	case strings.HasPrefix(m.Path, "anon_inode:"):
		return nil, false, &Refusal{"it maps " + strings.TrimPrefix(m.Path, "anon_inode:") + ", which hither cannot carry yet", "use the app without it, if it can"}
	case strings.HasPrefix(m.Path, "/memfd:"), strings.HasPrefix(m.Path, "/dev/zero (deleted)"), strings.HasPrefix(m.Path, "[anon_shmem:"):
		v.Backing = image.BackShared
		v.Object = x.inodes.SharedByInode(m.Inode, m.Path)
		return v, false, nil
	}
	return x.file(m, v)
}

func (x *mapper) file(m mapping, v *image.VMA) (*image.VMA, bool, error) {
	path, deleted := strings.CutSuffix(m.Path, " (deleted)")
	st, err := x.stat(path)
	if !deleted && err == unix.ENOENT {
		if found, ok := x.below(path); ok {
			path = found
			st, err = x.stat(path)
		}
	}
	if !deleted && err != nil {
		return nil, false, fmt.Errorf("finding the mapped file %s: %w", path, err)
	}
	if !deleted {
		if st.Mode&unix.S_IFMT == unix.S_IFCHR {
			if path == "/dev/zero" && !v.Shared {
				v.Backing, v.Offset = image.BackAnon, 0
				return v, false, nil
			}
			return nil, false, &Refusal{"it maps the device " + path, "close what uses the device"}
		}
		v.Backing, v.Object = image.BackFile, x.inodes.AddFile(path, &st, image.FilePath)
		return v, false, nil
	}
	if v.Shared {
		if id, ok := x.inodes.DeletedFile(m.Inode); ok {
			v.Backing, v.Object = image.BackFile, id
			return v, false, nil
		}
		v.Backing, v.Object = image.BackShared, x.inodes.SharedByInode(m.Inode, path)
		return v, false, nil
	}
	// The file is gone and the mapping private: all of it travels as memory.
	v.Backing, v.Offset = image.BackAnon, 0
	return v, true, nil
}
