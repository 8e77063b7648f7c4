package image

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of a decoded image. They bound what a hostile stream can make a
// reader allocate; a real app stays far below them.
const (
	MaxEncoded   = 256 << 20 // bytes of a whole encoded image
	MaxProcesses = 1 << 15
	MaxThreads   = 1 << 17 // over all processes
	MaxVMAs      = 1 << 18 // of one process
	MaxHandles   = 1 << 20
	MaxString    = 4096 // a path, PATH_MAX of limits.h
	MaxXState    = 16 << 10
	MaxSignals   = 1 << 16 // queued for one process or thread
	// TopOfUser is the first address that user code cannot map with four
	// levels of page tables (arch/x86/include/asm/page_64_types.h).
	TopOfUser = uint64(1)<<47 - 4096
	page      = 4096
)

// ErrDamaged is wrapped by every error about an image that cannot be used.
var ErrDamaged = errors.New("the image is damaged or not from hither")

var decoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  16,
		MaxArrayElements: MaxHandles,
		MaxMapPairs:      1 << 12,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}()

// Encode returns the image as one block of CBOR.
func (a *App) Encode() ([]byte, error) {
	data, err := cbor.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encoding the image of %s: %w", a.Name, err)
	}
	if len(data) > MaxEncoded {
		return nil, fmt.Errorf("encoding the image of %s: it takes %d bytes, the limit is %d", a.Name, len(data), MaxEncoded)
	}
	return data, nil
}

// Decode reads what Encode wrote and validates it. Every error wraps ErrDamaged.
func Decode(data []byte) (*App, error) {
	if len(data) > MaxEncoded {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrDamaged, len(data), MaxEncoded)
	}
	app := new(App)
	if err := decoding.Unmarshal(data, app); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := app.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return app, nil
}
