// Package move is what the two hosts of a move do: the source's side and the
// destination's side of package handover, over capsules, images and files.
//
// In a nutshell: Source surveys a running capsule into an offer, sends the
// files that are missing there, then memory while the app runs (ahead.go), freezes
// the capsule and streams image and the rest of the memory from the frozen processes; Destination answers the offer, lays the
// files down, starts an empty capsule, and restores into it. Both are used by
// one move each, whose state machine calls one method at a time; the tracer's
// thread does all that touches processes. There are no locks.
//
// The stream of the last part, after the freeze, is: what changed of the files
// since they were sent (a length, a files.Need, and the files' stream), the
// capsule's private trees in the order of wholeTrees, and the memory. The image has
// gone before, on a stream of its own.
package move

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"hither/engine/capsule"
	"hither/engine/files"
	"hither/engine/handover"
	"hither/engine/image"
	"hither/engine/kernel"
)

// Env is what this host brings to all its moves.
type Env struct {
	Self   files.Host
	Home   string // of this host's user
	Hasher *files.Hasher
	Cache  *files.Cache // may be nil
	// LayerDir says where the files of a foreign capsule lie.
	LayerDir func(id string) string
	// Started says whether this host started the capsule of that id, which has
	// been away since: only then it is at home here, whatever a peer says.
	Started func(id string) bool
	// Arrived is told of a capsule that has come to live here.
	Arrived func(c *capsule.Capsule)
}

// record is what travels of a capsule beside its image, in the offer.
type record struct {
	Spec   capsule.Spec `json:"spec"`
	Main   int          `json:"main"`
	Status *int         `json:"status,omitempty"`
	UID    int          `json:"uid"`
	GID    int          `json:"gid"`
	Clocks image.Clocks `json:"clocks"` // when the offer was made
	TTY    bool         `json:"tty"`
}

const maxRecord = 4 << 20

func (r *record) encode() ([]byte, error) { return json.Marshal(r) }

func decodeRecord(b []byte) (*record, error) {
	if len(b) > maxRecord {
		return nil, fmt.Errorf("the description of the capsule has %d bytes", len(b))
	}
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("reading the description of the capsule: %w", err)
	}
	if len(r.Spec.ID) == 0 || len(r.Spec.ID) > 64 || strings.Trim(r.Spec.ID, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return nil, fmt.Errorf("reading the description of the capsule: its id is %.80q", r.Spec.ID)
	}
	// Where files appear, and from where, is for this host alone to say.
	r.Spec.Mounts, r.Spec.LayerDir = nil, ""
	return r, nil
}

// wholeTrees are the trees of a capsule that are its own and travel whole. Not
// /var/tmp, which is the host's: its files travel as documents.
func wholeTrees(uid int) []string {
	return []string{"/tmp", "/dev/shm", capsule.RuntimeDir(uid)}
}

// ownTrees leaves out those that are not the capsule's own after all.
func ownTrees(root string, uid int) []string {
	var out []string
	for _, dir := range wholeTrees(uid) {
		var fs unix.Statfs_t
		if unix.Statfs(root+dir, &fs) != nil || fs.Type != unix.TMPFS_MAGIC {
			continue
		}
		var here, inside unix.Stat_t
		if unix.Stat(dir, &here) == nil && unix.Stat(root+dir, &inside) == nil && here.Dev == inside.Dev {
			continue
		}
		out = append(out, dir)
	}
	return out
}

// seal puts a sum before a record, unseal checks it. The link is encrypted, so
// this is not against strangers: a bug or bad memory on either host may not
// become part of a running app unseen.
func seal(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(make([]byte, 0, len(b)+sumSize), xxh3.Hash(b)), b...)
}

func unseal(b []byte) ([]byte, error) {
	if len(b) < sumSize || binary.LittleEndian.Uint64(b) != xxh3.Hash(b[sumSize:]) {
		return nil, errors.New("a record was damaged on the way: its sum is wrong")
	}
	return b[sumSize:], nil
}

const sumSize = 8

// pack puts an image on its way: mostly zeros, it shrinks to a tenth. The sum is that
// of the image itself.
func pack(b []byte) []byte {
	out := binary.LittleEndian.AppendUint64(make([]byte, 0, sumSize+s2.MaxEncodedLen(len(b))), xxh3.Hash(b))
	return out[:sumSize+len(s2.Encode(out[sumSize:cap(out)], b))]
}

func unpack(b []byte) ([]byte, error) {
	damaged := errors.New("a record was damaged on the way: its sum is wrong")
	if len(b) < sumSize {
		return nil, damaged
	}
	n, err := s2.DecodedLen(b[sumSize:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", damaged, err)
	}
	if n > handover.MaxImage {
		return nil, fmt.Errorf("the image is larger than %d bytes", handover.MaxImage)
	}
	out, err := s2.Decode(nil, b[sumSize:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", damaged, err)
	}
	if binary.LittleEndian.Uint64(b) != xxh3.Hash(out) {
		return nil, damaged
	}
	return out, nil
}

// writeBlock and readBlock carry one sealed record with its length before it.
func writeBlock(w io.Writer, b []byte) error {
	b = seal(b)
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(b)))
	if _, err := w.Write(n[:]); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

func readBlock(r io.Reader, limit uint32) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(n[:])
	if size > limit+sumSize {
		return nil, fmt.Errorf("a record of %d bytes, the limit is %d", size, limit)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return unseal(b)
}

// atEnd checks that nothing has come after what was read.
func atEnd(r *bufio.Reader) error {
	if n := r.Buffered(); n > 0 {
		return fmt.Errorf("%d bytes or more came after the end", n)
	}
	return nil
}

func monotonic() int64 { return kernel.Clock(unix.CLOCK_MONOTONIC) }
