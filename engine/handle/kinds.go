package handle

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"hither/engine/image"
)

// Names of the kinds, as they stand in image.Handle.
const (
	kindFile       = "file"
	kindDirectory  = "directory"
	kindDevice     = "device"
	kindKernelFile = "kernelfile"
	kindPipe       = "pipe"
	kindFifo       = "fifo"
	kindMaster     = "ptymaster"
	kindSlave      = "ptyslave"
	kindEventfd    = "eventfd"
	kindEpoll      = "epoll"
	kindTimerfd    = "timerfd"
	kindSignalfd   = "signalfd"
	kindMemfd      = "memfd"
	kindInotify    = "inotify"
	kindPidfd      = "pidfd"
	kindUnix       = "unix"
	kindTCP        = "tcp"
	kindUDP        = "udp"
	kindNetlink    = "netlink"
)

// kind is what package handle knows of one kind of open file description.
type kind struct {
	name string
	// capture returns the kind's record. It runs when all descriptions are known.
	capture func(*capturer, *desc) (record, error)
	// blank returns an empty record to decode into.
	blank func() record
	// rebind makes all descriptions of this kind, in pid 1.
	rebind func(*binder, []*entry) error
	// fill, where set, runs after the rebind of every kind: queues that hold
	// descriptors of other kinds.
	fill func(*binder, []*entry) error
	// late, where set, makes a description in each process, by Larder.Late.
	late func(*entry) lateCall
}

// record is a kind's own part of image.Handle. validate checks every number
// that sizes or names something; refs knows which ids there are.
type record interface {
	validate(refs *references) error
}

// references are the ids of an image.
type references struct {
	handles map[uint32]string // id -> kind
	files   map[uint32]*image.File
	shared  map[uint32]*image.SharedMemory
}

// entry is a handle with its record decoded.
type entry struct {
	*image.Handle
	rec record
}

// kinds in the order in which they are rebuilt. Set by init: kinds and the
// functions that look them up name each other.
var kinds []*kind

func init() {
	kinds = []*kind{
		fileKind, directoryKind, deviceKind, memfdKind, pipeKind, fifoKind, masterKind, slaveKind,
		eventfdKind, timerfdKind, signalfdKind, epollKind,
		unixKind, tcpKind, udpKind, netlinkKind, inotifyKind, kernelFileKind, pidfdKind,
	}
}

func kindNamed(name string) *kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	return nil
}

// Limits of a decoded record: what a hostile stream can make a reader allocate.
const (
	maxRecord   = 64 << 20
	maxElements = 1 << 16
)

var decoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  8,
		MaxArrayElements: maxElements,
		MaxMapPairs:      64,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}()

// decode reads and validates the record of a handle.
func decode(h *image.Handle, refs *references) (*entry, error) {
	k := kindNamed(h.Kind)
	if k == nil {
		return nil, fmt.Errorf("%w: handle %d is of kind %.40q, which is not known here: update hither on this host", image.ErrDamaged, h.ID, h.Kind)
	}
	if len(h.Data) > maxRecord {
		return nil, fmt.Errorf("%w: handle %d takes %d bytes", image.ErrDamaged, h.ID, len(h.Data))
	}
	rec := k.blank()
	if err := decoding.Unmarshal(h.Data, rec); err != nil {
		return nil, fmt.Errorf("%w: handle %d (%s): %w", image.ErrDamaged, h.ID, h.Kind, err)
	}
	if err := rec.validate(refs); err != nil {
		return nil, fmt.Errorf("%w: handle %d (%s): %w", image.ErrDamaged, h.ID, h.Kind, err)
	}
	return &entry{h, rec}, nil
}

func newReferences(app *image.App) *references {
	refs := &references{map[uint32]string{}, map[uint32]*image.File{}, map[uint32]*image.SharedMemory{}}
	for i := range app.Handles {
		refs.handles[app.Handles[i].ID] = app.Handles[i].Kind
	}
	for i := range app.Files {
		refs.files[app.Files[i].ID] = &app.Files[i]
	}
	for i := range app.Shared {
		refs.shared[app.Shared[i].ID] = &app.Shared[i]
	}
	return refs
}

// Check decodes and validates every record of an image, without a kernel.
func Check(app *image.App) error {
	_, err := decodeAll(app)
	return err
}

func decodeAll(app *image.App) (map[uint32]*entry, error) {
	refs := newReferences(app)
	all := make(map[uint32]*entry, len(app.Handles))
	for i := range app.Handles {
		e, err := decode(&app.Handles[i], refs)
		if err != nil {
			return nil, err
		}
		all[e.ID] = e
	}
	return all, nil
}
