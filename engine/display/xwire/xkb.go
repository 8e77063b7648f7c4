package xwire

import (
	"errors"
	"fmt"
	"math/bits"
)

// CoreKeyboard stands for the server's keyboard in requests of XKB.
const CoreKeyboard XkbDeviceSpec = XkbIDUseCoreKbd

// Keyboard is a server's keymap in a form that any server takes: what
// `xkbcomp :0 -` prints, without the geometry.
type Keyboard struct {
	keys       XkbGetMapReply // with the types as SetMap wants them
	compat     XkbGetCompatMapReply
	indicators XkbGetIndicatorMapReply
	names      XkbGetNamesReply // without its Values
	parts      []namePart
}

// namePart is one part of a keymap's names: atoms, or bytes.
type namePart struct {
	which  XkbNameDetail
	prefix []byte // for XkbNameDetailKTLevelNames: the number of each type's levels
	names  []string
	bytes  []byte
}

const (
	allMapParts = 0xff
	allNames    = 0x3fff &^ XkbNameDetailGeometry
	// requiredTypes are the first key types, whose names are fixed.
	requiredTypes = 4

	allGroups XkbSetOfGroup = 0xf
)

// XkbSelect asks for kinds of XKB's events, with all that may be in them, and
// for no others of mask.
func (c *Conn) XkbSelect(mask, which XkbEventType) {
	var parts XkbMapPart
	if which&XkbEventTypeMapNotify != 0 {
		parts = allMapParts
	}
	c.XkbSelectEvents(CoreKeyboard, mask, mask&^which, mask&which, allMapParts, parts, nil)
}

// ReadKeyboard reads the server's keymap.
func (c *Conn) ReadKeyboard() (*Keyboard, error) {
	k, err := c.readKeyboard()
	if err != nil {
		return nil, fmt.Errorf("reading the keymap of the X server: %w", err)
	}
	return k, nil
}

func (c *Conn) readKeyboard() (*Keyboard, error) {
	keys := c.XkbGetMapAsync(CoreKeyboard, allMapParts, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	compat := c.XkbGetCompatMapAsync(CoreKeyboard, 0xf, true, 0, 0)
	indicators := c.XkbGetIndicatorMapAsync(CoreKeyboard, 0xffffffff)
	names := c.XkbGetNamesAsync(CoreKeyboard, allNames)
	k := &Keyboard{}
	rk, e1 := keys.Wait()
	rc, e2 := compat.Wait()
	ri, e3 := indicators.Wait()
	rn, e4 := names.Wait()
	if err := errors.Join(e1, e2, e3, e4); err != nil {
		return nil, err
	}
	k.keys, k.compat, k.indicators, k.names = *rk, *rc, *ri, *rn
	if k.keys.Present&XkbMapPartKeyTypes != 0 {
		values, err := convertTypes(rk.Values, int(rk.NTypes))
		if err != nil {
			return nil, err
		}
		k.keys.Values = values
	}
	// An indicator's modifiers are told with those that follow from the virtual
	// ones, and set without.
	for v := k.indicators.Values; len(v) >= 12; v = v[12:] {
		v[4] = v[5]
	}
	k.names.Values = nil
	return k, c.readNames(k, rn)
}

// convertTypes rewrites the key types at the beginning of a map, which are told
// with eight bytes for each entry and set with four.
func convertTypes(values []byte, n int) ([]byte, error) {
	d, e := &decoder{b: values}, &encoder{}
	for range n {
		head := d.take(8) // mask, modifiers, virtual modifiers (2), levels, entries, preserve, padding
		if d.err != nil {
			return nil, d.err
		}
		e.bytes(head)
		entries, preserve := int(head[5]), head[6] != 0
		for range entries {
			d.skip(2) // active, mask
			e.bytes(d.take(4))
			d.skip(2)
		}
		if preserve {
			e.bytes(d.take(4 * entries))
		}
	}
	e.bytes(d.take(d.left()))
	return e.b, d.err
}

// readNames takes the names of a keymap apart, and asks for those of the atoms.
func (c *Conn) readNames(k *Keyboard, r *XkbGetNamesReply) error {
	d := &decoder{b: r.Values}
	var atoms []Atom
	var counts []int
	take := func(which XkbNameDetail, n int, prefix []byte) {
		if r.Which&which == 0 {
			return
		}
		n = d.count(n, 4)
		for range n {
			atoms = append(atoms, Atom(d.u32()))
		}
		k.parts = append(k.parts, namePart{which: which, prefix: prefix})
		counts = append(counts, n)
	}
	raw := func(which XkbNameDetail, n int) {
		if r.Which&which != 0 {
			k.parts = append(k.parts, namePart{which: which, bytes: d.take(n)})
			counts = append(counts, 0)
		}
	}
	for _, which := range []XkbNameDetail{XkbNameDetailKeycodes, XkbNameDetailGeometry, XkbNameDetailSymbols, XkbNameDetailPhysSymbols, XkbNameDetailTypes, XkbNameDetailCompat} {
		take(which, 1, nil)
	}
	take(XkbNameDetailKeyTypeNames, int(r.NTypes), nil)
	if r.Which&XkbNameDetailKTLevelNames != 0 {
		levels := d.take(int(r.NTypes))
		d.align(4)
		total := 0
		for _, n := range levels {
			total += int(n)
		}
		take(XkbNameDetailKTLevelNames, total, levels)
	}
	take(XkbNameDetailIndicatorNames, bits.OnesCount32(r.Indicators), nil)
	take(XkbNameDetailVirtualModNames, bits.OnesCount16(uint16(r.VirtualMods)), nil)
	take(XkbNameDetailGroupNames, bits.OnesCount8(uint8(r.GroupNames)), nil)
	raw(XkbNameDetailKeyNames, 4*int(r.NKeys))
	raw(XkbNameDetailKeyAliases, 8*int(r.NKeyAliases))
	take(XkbNameDetailRGNames, int(r.NRadioGroups), nil)
	if d.err != nil {
		return d.err
	}
	names, err := c.AtomNames(atoms...)
	if err != nil {
		return err
	}
	for i, n := range counts {
		k.parts[i].names, names = names[:n], names[n:]
	}
	return nil
}

// WriteKeyboard gives the server another one's keymap, as
// `xkbcomp :0 - | xkbcomp - :1` does. Groups and locks stay.
func (c *Conn) WriteKeyboard(k *Keyboard) error {
	if err := c.writeKeyboard(k); err != nil {
		return fmt.Errorf("setting the keymap of the X server: %w", err)
	}
	return nil
}

func (c *Conn) writeKeyboard(k *Keyboard) error {
	m := &k.keys
	if err := c.XkbSetMapChecked(CoreKeyboard, m.Present, XkbSetMapFlagsResizeTypes|XkbSetMapFlagsRecomputeActions, m.MinKeyCode, m.MaxKeyCode,
		m.FirstType, m.NTypes, m.FirstKeySym, m.NKeySyms, m.TotalSyms, m.FirstKeyAction, m.NKeyActions, m.TotalActions,
		m.FirstKeyBehavior, m.NKeyBehaviors, m.TotalKeyBehaviors, m.FirstKeyExplicit, m.NKeyExplicit, m.TotalKeyExplicit,
		m.FirstModMapKey, m.NModMapKeys, m.TotalModMapKeys, m.FirstVModMapKey, m.NVModMapKeys, m.TotalVModMapKeys,
		m.VirtualMods, m.Values); err != nil {
		return err
	}
	if k.indicators.Which != 0 {
		if err := c.XkbSetIndicatorMapChecked(CoreKeyboard, k.indicators.Which, k.indicators.Values); err != nil {
			return err
		}
	}
	if err := c.XkbSetCompatMapChecked(CoreKeyboard, true, true, k.compat.GroupsRtrn, 0, k.compat.NSIRtrn, k.compat.Values); err != nil {
		return err
	}
	return c.writeNames(k)
}

func (c *Conn) writeNames(k *Keyboard) error {
	n := &k.names
	types := max(int(n.NTypes)-requiredTypes, 0)
	var which XkbNameDetail
	levels := 0
	e := &encoder{}
	for _, p := range k.parts {
		names := p.names
		ofTypes := p.which == XkbNameDetailKeyTypeNames || p.which == XkbNameDetailKTLevelNames
		switch {
		case ofTypes && types == 0:
			continue
		case p.which == XkbNameDetailKeyTypeNames:
			names = names[requiredTypes:]
		case p.which == XkbNameDetailKTLevelNames:
			for _, n := range p.prefix[:requiredTypes] {
				names = names[n:]
			}
			levels = len(names)
		case p.which == XkbNameDetailGroupNames:
			// Of groups that there are no more the names go, too.
			all := make([]string, 4)
			for i := range all {
				if n.GroupNames&(1<<i) != 0 && len(names) > 0 {
					all[i], names = names[0], names[1:]
				}
			}
			names = all
		}
		if len(names) == 0 && len(p.bytes) == 0 {
			continue // the server refuses empty parts
		}
		which |= p.which
		if p.which == XkbNameDetailKTLevelNames {
			e.bytes(p.prefix[requiredTypes:])
			e.align(4)
		}
		atoms, err := c.namesToAtoms(names)
		if err != nil {
			return err
		}
		e.bytes(Uint32s(atoms...))
		e.bytes(p.bytes)
	}
	return c.XkbSetNamesChecked(CoreKeyboard, n.VirtualMods, which, requiredTypes, uint8(types), requiredTypes, uint8(types),
		n.Indicators, allGroups, n.NRadioGroups, n.FirstKey, n.NKeys, n.NKeyAliases, uint16(levels), e.b)
}

// namesToAtoms is Atoms, with none for the empty name.
func (c *Conn) namesToAtoms(names []string) ([]Atom, error) {
	var wanted []string
	for _, name := range names {
		if name != "" {
			wanted = append(wanted, name)
		}
	}
	found, err := c.Atoms(wanted...)
	if err != nil {
		return nil, err
	}
	out := make([]Atom, len(names))
	for i, name := range names {
		if name != "" {
			out[i], found = found[0], found[1:]
		}
	}
	return out, nil
}

// SetAutoRepeat says whether the server repeats keys that are held.
func (c *Conn) SetAutoRepeat(on bool) error {
	var value XkbBoolCtrl
	if on {
		value = XkbBoolCtrlRepeatKeys
	}
	return c.XkbSetControlsChecked(CoreKeyboard, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, XkbBoolCtrlRepeatKeys, value, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, [32]byte{})
}
