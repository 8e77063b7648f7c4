package handle

import (
	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// A device of the harmless family (/dev/null zero full random urandom), by
// path. All other devices are refused by classify.
var deviceKind = &kind{name: kindDevice, capture: captureDevice, blank: func() record { return new(fileRecord) }, rebind: rebindDevices}

func captureDevice(c *capturer, d *desc) (record, error) {
	path := d.seen.link
	// The host may have it elsewhere (a redirection from outside the capsule):
	// the capsule has the family at its usual place.
	if there, err := c.atPath(d); err != nil || !there {
		if !harmless[unix.Minor(d.seen.st.Rdev)] || unix.Major(d.seen.st.Rdev) != majorMemory {
			return nil, refuse(cureClose, "the device %s, which lies outside of what the capsule shows", path)
		}
		path = "/dev/" + map[uint32]string{3: "null", 5: "zero", 7: "full", 8: "random", 9: "urandom"}[unix.Minor(d.seen.st.Rdev)]
	}
	return &fileRecord{c.in.Inodes.AddFile(path, &d.seen.st, image.FileDevice), d.info.pos}, nil
}

func rebindDevices(b *binder, entries []*entry) error {
	var opens []opening
	for _, e := range entries {
		r := e.rec.(*fileRecord)
		opens = append(opens, opening{path: b.path(r.File), flags: openFlags(e.Handle) | unix.O_NOCTTY, handle: e.ID, pos: r.Pos, posMayFail: true})
	}
	return b.openAll(opens)
}
