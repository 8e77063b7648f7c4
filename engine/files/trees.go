package files

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Some programs read files of their own as they run, long after they began:
// an interpreter its library. A host without the program lacks those too, so
// their directories are named in the Need, and go along whole where the
// destination has no directory of that name.

// libraries says where such programs keep them, by how their file is called,
// relative to the directory above the program's. * is the program's name.
var libraries = []struct {
	program string
	dirs    []string
}{
	{"python3", []string{"lib/*"}},
	{"perl", []string{"share/perl", "share/perl5", "lib/x86_64-linux-gnu/perl", "lib/x86_64-linux-gnu/perl-base"}},
	{"ruby", []string{"lib/ruby"}},
	{"vim", []string{"share/vim"}},
	{"guile", []string{"share/guile", "lib/x86_64-linux-gnu/guile"}},
	{"tclsh", []string{"share/tcltk"}},
}

const maxTree = 512 << 20 // bytes of such a directory

// trees lists the directories that go with the needed programs.
func (c *collector) trees() []string {
	var list []string
	for _, e := range c.list {
		if e.Kind != Regular || e.Use&Document != 0 || e.Use&Mapped == 0 || e.Mode&0o111 == 0 || path.Base(path.Dir(e.Path)) != "bin" {
			continue
		}
		for _, l := range libraries {
			if !strings.HasPrefix(path.Base(e.Path), l.program) {
				continue
			}
			for _, d := range l.dirs {
				d = path.Join(path.Dir(path.Dir(e.Path)), strings.ReplaceAll(d, "*", path.Base(e.Path)))
				if pl, err := c.view.where(d); err == nil && pl.exists && pl.stat.Mode&unix.S_IFMT == unix.S_IFDIR {
					list = append(list, pl.path)
				}
			}
		}
	}
	return topmost(list)
}

// wantTrees adds to an answer the directories that this host lacks.
func (in *Incoming) wantTrees(n *Need, a *Answer) {
	in.trees = map[uint32]string{}
	for i, d := range n.Trees {
		pl, err := in.host.where(d)
		if err != nil || pl.exists && !in.hidden(pl.path) {
			continue
		}
		in.trees[uint32(i)] = sysDir + pl.path
		a.Trees = append(a.Trees, uint32(i))
	}
}

// sendTree sends one such directory, but for what is in the Need by itself.
func (src *Source) sendTree(ctx context.Context, v *view, s *sender, n *Need, i uint32, stats *Stats) error {
	if int(i) >= len(n.Trees) {
		return damaged("directory %d is wanted of %d", i, len(n.Trees))
	}
	top := n.Trees[i]
	d := &folder{v.fd, strings.TrimSuffix(v.name, "/")}
	left := int64(maxTree)
	return d.walk(rel(top), func(r string, st unix.Stat_t) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if src.entry("/"+r) != nil {
			return true, nil
		}
		it := &item{Index: uint32(len(n.Entries)) + i, Path: strings.TrimPrefix(r, rel(top)+"/"), Mode: st.Mode & 0o777, MTime: st.Mtim.Nano()}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			it.Kind = Dir
			return true, s.item(it)
		case unix.S_IFLNK:
			it.Kind = Symlink
			var err error
			if it.Target, err = d.readlink(r); err != nil {
				return false, err
			}
			return false, s.item(it)
		case unix.S_IFREG:
			it.Kind = Regular
		default:
			return false, nil
		}
		f, fst, err := d.openRegular(r)
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer f.Close()
		if left -= fst.Size; left < 0 {
			return false, fmt.Errorf("%s holds more than %d MB: install the program on the other host", top, int64(maxTree)>>20)
		}
		it.Size = fst.Size
		if err := s.item(it); err != nil {
			return false, err
		}
		_, size, err := s.content(f, fst.Size)
		stats.Files++
		stats.Content += size
		return false, err
	})
}

// takeTree puts one item of such a directory into the layer.
func (in *Incoming) takeTree(s *receiver, it *item, stats *Stats) error {
	top, ok := in.trees[it.Index-uint32(len(in.need.Entries))]
	if !ok || it.Gone || it.Link != "" || it.Kind == FIFO {
		return damaged("item %d was not asked for", it.Index)
	}
	if err := checkRel(it.Path); err != nil {
		return damaged("%v", err)
	}
	limit := int64(maxTree)
	if in.o.MaxBytes > 0 {
		limit = in.o.MaxBytes - stats.Content
	}
	it.Path = path.Join(top, it.Path)
	return receiveItem(in.dir, s, it, limit, stats)
}
