package xwire

import (
	"fmt"
	"sync"
)

// atomCache remembers atoms, which are for the server's life.
type atomCache struct {
	mu     sync.Mutex
	byName map[string]Atom
	byAtom map[Atom]string
}

// maxAtoms bounds what is remembered, as other clients can make up names.
const maxAtoms = 1 << 16

func (a *atomCache) put(name string, atom Atom) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byName == nil || len(a.byName) >= maxAtoms {
		a.byName, a.byAtom = map[string]Atom{}, map[Atom]string{}
	}
	a.byName[name], a.byAtom[atom] = atom, name
}

// Atoms returns the atoms of names, in one round trip for all that are new.
func (c *Conn) Atoms(names ...string) ([]Atom, error) {
	out := make([]Atom, len(names))
	cookies := map[int]Cookie[InternAtomReply]{}
	for i, name := range names {
		c.atoms.mu.Lock()
		atom, ok := c.atoms.byName[name]
		c.atoms.mu.Unlock()
		if ok {
			out[i] = atom
		} else {
			cookies[i] = c.InternAtomAsync(false, name)
		}
	}
	for i, name := range names {
		cookie, ok := cookies[i]
		if !ok {
			continue
		}
		r, err := cookie.Wait()
		if err != nil {
			return nil, fmt.Errorf("asking for the atom %s: %w", name, err)
		}
		out[i] = r.Atom
		c.atoms.put(name, r.Atom)
	}
	return out, nil
}

// Atom returns the atom of a name.
func (c *Conn) Atom(name string) (Atom, error) {
	atoms, err := c.Atoms(name)
	if err != nil {
		return 0, err
	}
	return atoms[0], nil
}

// AtomNames returns the names of atoms, in one round trip for all that are new.
// AtomNone has the empty name.
func (c *Conn) AtomNames(atoms ...Atom) ([]string, error) {
	out := make([]string, len(atoms))
	cookies := map[int]Cookie[GetAtomNameReply]{}
	for i, atom := range atoms {
		c.atoms.mu.Lock()
		name, ok := c.atoms.byAtom[atom]
		c.atoms.mu.Unlock()
		if ok || atom == 0 {
			out[i] = name
		} else {
			cookies[i] = c.GetAtomNameAsync(atom)
		}
	}
	for i, atom := range atoms {
		cookie, ok := cookies[i]
		if !ok {
			continue
		}
		r, err := cookie.Wait()
		if err != nil {
			return nil, fmt.Errorf("asking for the name of atom %d: %w", atom, err)
		}
		out[i] = r.Name
		c.atoms.put(r.Name, atom)
	}
	return out, nil
}
