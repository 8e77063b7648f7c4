package files

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

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

// again takes the documents of an earlier survey that are still there, and lie not in the
// layer, which is looked at as a whole. They have travelled; and what led to some of them,
// as a link to a program, is not looked for again.
func (c *collector) again(n *Need) error {
	if n == nil {
		return nil
	}
	for i := range n.Entries {
		p, at := n.Entries[i].Path, c.src.state[n.Entries[i].Path].at
		st, err := c.view.lstat(p)
		if n.Entries[i].Use&Document == 0 || at.layer || err != nil {
			continue
		}
		if e := c.add(p, &st, Document, at); e != nil && e.Kind == Symlink {
			if e.Target, err = c.view.readlink(p); err != nil {
				return err
			}
		}
	}
	return nil
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
