package files

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// programs takes what programs among the files need to be started again: the
// dynamic loader, the interpreter of a script, and the other names by which
// the needed programs and libraries are found (libc.so.6, python3). What an
// earlier survey of this move knows is not looked at again.
func (c *collector) programs() {
	var list []*Entry
	for _, e := range c.list {
		if e.Kind == Regular && (e.Use&Mapped != 0 || e.Mode&0o111 != 0) && c.src.entry(e.Path) == nil {
			list = append(list, e)
		}
	}
	for _, e := range list {
		for _, name := range c.interpreters(e) {
			c.named(name, 1<<40)
		}
	}
	c.otherNames()
}

// interpreters gives the names of the programs that run e, if it is one.
func (c *collector) interpreters(e *Entry) []string {
	f, _, err := c.openNow(e)
	if err != nil {
		return nil
	}
	defer f.Close()
	head := make([]byte, 256)
	n, _ := io.ReadFull(f, head)
	head = head[:n]
	if bytes.HasPrefix(head, []byte("#!")) {
		line, _, _ := bytes.Cut(head[2:], []byte("\n"))
		words := strings.Fields(string(line))
		if len(words) == 0 || !strings.HasPrefix(words[0], "/") {
			return nil
		}
		names := words[:1]
		if path.Base(words[0]) == "env" && len(words) > 1 {
			for _, dir := range []string{"/usr/local/bin/", "/usr/bin/", "/bin/"} {
				names = append(names, dir+words[len(words)-1])
			}
		}
		return names
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return nil
	}
	ef, err := elf.NewFile(f)
	if err != nil {
		return nil
	}
	for _, p := range ef.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz > 1 && p.Filesz < maxPath {
			name := make([]byte, p.Filesz)
			if _, err := p.ReadAt(name, 0); err == nil {
				return []string{string(bytes.TrimRight(name, "\x00"))}
			}
		}
	}
	return nil
}

func (c *collector) openNow(e *Entry) (f *os.File, st unix.Stat_t, err error) {
	return c.open(c.state[e.Path].at)
}

// otherNames takes the symbolic links that lead to needed programs and
// libraries from the directories these lie in, and from where programs lie.
func (c *collector) otherNames() {
	wanted := map[string]bool{}
	dirs := map[string]bool{}
	for _, e := range c.list {
		if e.Kind == Regular && e.Use&Document == 0 && c.src.entry(e.Path) == nil && (e.Use&Mapped != 0 || e.Mode&0o111 != 0) {
			wanted[e.Path] = true
			dirs[path.Dir(e.Path)] = true
		}
	}
	for d := range dirs {
		f, err := openat2(c.view.fd, rel(d), unix.O_RDONLY|unix.O_DIRECTORY, 0, within)
		if err != nil {
			continue
		}
		list := os.NewFile(uintptr(f), d)
		entries, _ := list.ReadDir(-1)
		list.Close()
		links := map[string]bool{}
		for _, de := range entries {
			if de.Type()&os.ModeSymlink != 0 {
				links[de.Name()] = true
			}
		}
		for base := range links {
			name := path.Join(d, base)
			target, err := c.view.readlink(name)
			// The cheap test first: most links stay in their directory.
			if err != nil || !strings.Contains(target, "/") && !wanted[path.Join(d, target)] && !links[target] {
				continue
			}
			if pl, err := c.view.where(name); err == nil && pl.exists && wanted[pl.path] {
				c.links(pl.links)
			}
		}
	}
}
