package handle

import (
	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// Writing tells which files of an image, by id, some descriptor was opened to
// write to.
func Writing(app *image.App) (map[uint32]bool, error) {
	entries, err := decodeAll(app)
	if err != nil {
		return nil, err
	}
	out := map[uint32]bool{}
	for _, e := range entries {
		if r, ok := e.rec.(*fileRecord); ok && e.Flags&unix.O_PATH == 0 && e.Flags&unix.O_ACCMODE != unix.O_RDONLY {
			out[r.File] = true
		}
	}
	return out, nil
}
