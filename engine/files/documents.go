package files

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

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
		for d := path.Dir(e.Path); under(d, top); d = path.Dir(d) {
			if c.list[d] == nil {
				c.dir(d, Document)
			}
		}
	}
}
