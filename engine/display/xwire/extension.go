package xwire

import (
	"fmt"
	"maps"
)

type eventDecoder func(EventHeader, *decoder) Event

// Extension is a part of the protocol that a server may or may not have. The
// values of this type, such as Damage, are fixed; where a server has put an
// extension's numbers is known by each connection.
type Extension struct {
	name     string
	errors   map[uint8]ErrorName
	requests map[uint16]string
	events   map[uint16]eventDecoder
	generic  map[uint16]eventDecoder
}

// Name is what servers call the extension.
func (e *Extension) Name() string { return e.name }

// place is where a server has put an extension, and its version there.
type place struct {
	major, firstEvent, firstError uint8
	version, revision             uint32
}

// tables are what the numbers of a server's messages mean. They are replaced,
// never changed, so that they are read without a lock.
type tables struct {
	places  map[*Extension]place
	events  [128]eventDecoder
	byMajor map[uint8]*Extension
	errors  map[uint8]ErrorName
}

func coreTables() *tables {
	t := &tables{places: map[*Extension]place{}, byMajor: map[uint8]*Extension{}, errors: maps.Clone(core.errors)}
	for number, decode := range core.events {
		t.events[number] = decode
	}
	return t
}

// with adds an extension.
func (t *tables) with(ext *Extension, p place) *tables {
	next := &tables{places: maps.Clone(t.places), byMajor: maps.Clone(t.byMajor), errors: maps.Clone(t.errors), events: t.events}
	next.places[ext] = p
	next.byMajor[p.major] = ext
	for number, name := range ext.errors {
		next.errors[p.firstError+number] = name
	}
	if ext == Xkb {
		// All of its events have one number; the kind is in the second byte.
		next.events[p.firstEvent&127] = func(h EventHeader, d *decoder) Event {
			if decode := Xkb.events[uint16(d.b[1])]; decode != nil {
				return decode(h, d)
			}
			return nil
		}
		return next
	}
	for number, decode := range ext.events {
		next.events[(int(p.firstEvent)+int(number))&127] = decode
	}
	return next
}

// Use asks the server for extensions and agrees on their versions. The first
// request of an extension does the same by itself; but events only have their
// types once the extension is in use, and an extension that is missing is best
// found out at the start: errors.Is(err, ErrNoExtension).
func (c *Conn) Use(exts ...*Extension) error {
	c.useMu.Lock()
	defer c.useMu.Unlock()
	var asked []*Extension
	var cookies []Cookie[QueryExtensionReply]
	for _, ext := range exts {
		if _, ok := c.tables.Load().places[ext]; !ok {
			asked = append(asked, ext)
			cookies = append(cookies, c.QueryExtensionAsync(ext.name))
		}
	}
	var missing error
	for i, cookie := range cookies {
		reply, err := cookie.Wait()
		if err != nil {
			return fmt.Errorf("asking the X server for the extension %s: %w", asked[i].name, err)
		}
		if !reply.Present {
			if missing == nil {
				missing = fmt.Errorf("%w %s", ErrNoExtension, asked[i].name)
			}
			continue
		}
		p := place{major: reply.MajorOpcode, firstEvent: reply.FirstEvent, firstError: reply.FirstError}
		before := c.tables.Load()
		c.tables.Store(before.with(asked[i], p))
		if p.version, p.revision, err = c.agree(asked[i]); err != nil {
			c.tables.Store(before)
			return fmt.Errorf("agreeing with the X server on the version of %s: %w", asked[i].name, err)
		}
		c.tables.Store(before.with(asked[i], p))
	}
	return missing
}

// Version is what the server and this package agreed on for an extension in
// use; without it zero.
func (c *Conn) Version(ext *Extension) (major, minor int) {
	p := c.tables.Load().places[ext]
	return int(p.version), int(p.revision)
}

// Has says whether an extension is in use; see Use.
func (c *Conn) Has(ext *Extension) bool {
	_, ok := c.tables.Load().places[ext]
	return ok
}

// opcode is the number of an extension's requests.
func (c *Conn) opcode(ext *Extension) (uint8, error) {
	if p, ok := c.tables.Load().places[ext]; ok {
		return p.major, nil
	}
	if err := c.Use(ext); err != nil {
		return 0, err
	}
	return c.tables.Load().places[ext].major, nil
}

// agree tells the server the version that this package was made for, which most
// extensions want before anything else, and returns the server's.
func (c *Conn) agree(ext *Extension) (uint32, uint32, error) {
	switch ext {
	case Composite:
		return versions(c.CompositeQueryVersion(0, 4))
	case Damage:
		return versions(c.DamageQueryVersion(1, 1))
	case XFixes:
		return versions(c.XFixesQueryVersion(6, 0))
	case RandR:
		return versions(c.RandRQueryVersion(1, 6))
	case Render:
		return versions(c.RenderQueryVersion(0, 11))
	case Shm:
		return versions(c.ShmQueryVersion())
	case Shape:
		return versions(c.ShapeQueryVersion())
	case Sync:
		return versions(c.SyncInitialize(3, 1))
	case XTest:
		return versions(c.XTestGetVersion(2, 2))
	case XCMisc:
		return versions(c.XCMiscGetVersion(1, 1))
	case Res:
		return versions(c.ResQueryVersion(1, 2))
	case XInput:
		return versions(c.XIQueryVersion(2, 3))
	case Xkb:
		r, err := c.XkbUseExtension(1, 0)
		if err == nil && !r.Supported {
			err = fmt.Errorf("the server has %d.%d only", r.ServerMajor, r.ServerMinor)
		}
		return versions(r, err)
	}
	return 0, 0, nil
}

type versioned interface{ version() (uint32, uint32) }

func versions(r versioned, err error) (uint32, uint32, error) {
	if err != nil {
		return 0, 0, err
	}
	major, minor := r.version()
	return major, minor, nil
}

func (r *CompositeQueryVersionReply) version() (uint32, uint32) {
	return r.MajorVersion, r.MinorVersion
}
func (r *DamageQueryVersionReply) version() (uint32, uint32) { return r.MajorVersion, r.MinorVersion }
func (r *XFixesQueryVersionReply) version() (uint32, uint32) { return r.MajorVersion, r.MinorVersion }
func (r *RandRQueryVersionReply) version() (uint32, uint32)  { return r.MajorVersion, r.MinorVersion }
func (r *RenderQueryVersionReply) version() (uint32, uint32) { return r.MajorVersion, r.MinorVersion }
func (r *ShmQueryVersionReply) version() (uint32, uint32) {
	return uint32(r.MajorVersion), uint32(r.MinorVersion)
}
func (r *ShapeQueryVersionReply) version() (uint32, uint32) {
	return uint32(r.MajorVersion), uint32(r.MinorVersion)
}
func (r *SyncInitializeReply) version() (uint32, uint32) {
	return uint32(r.MajorVersion), uint32(r.MinorVersion)
}
func (r *XTestGetVersionReply) version() (uint32, uint32) {
	return uint32(r.MajorVersion), uint32(r.MinorVersion)
}
func (r *XCMiscGetVersionReply) version() (uint32, uint32) {
	return uint32(r.ServerMajorVersion), uint32(r.ServerMinorVersion)
}
func (r *ResQueryVersionReply) version() (uint32, uint32) {
	return uint32(r.ServerMajor), uint32(r.ServerMinor)
}
func (r *XIQueryVersionReply) version() (uint32, uint32) {
	return uint32(r.MajorVersion), uint32(r.MinorVersion)
}
func (r *XkbUseExtensionReply) version() (uint32, uint32) {
	return uint32(r.ServerMajor), uint32(r.ServerMinor)
}
