package files

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/s2"
	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// The transfer format: a head of 8 bytes, then frames: a type byte, the
// payload's length in 4 bytes (little endian), the payload.
//
//	I  an item: CBOR. For a regular file its content follows:
//	D    bytes as they are        S  bytes, s2-compressed
//	H    a hole: its length in 8 bytes
//	E    the end of the content: length in 8 bytes, BLAKE3 hash of it in 32
//	X  the end of the stream: number of items in 8 bytes, hash of all I, E and
//	   X-count payloads in order in 32
//
// So a stream that was cut, damaged or put in another order does not pass.
var streamHead = []byte("hitherF1")

const (
	frameItem = 'I'
	frameData = 'D'
	frameS2   = 'S'
	frameHole = 'H'
	frameEnd  = 'E'
	frameStop = 'X'

	maxItem = 256 << 10 // bytes of an item's record
)

// item announces one file of a stream.
type item struct {
	Index uint32 `cbor:"1,keyasint"`           // of the entry in the Need
	Path  string `cbor:"2,keyasint,omitempty"` // of a tree: relative
	Kind  Kind   `cbor:"3,keyasint"`
	Mode  uint32 `cbor:"4,keyasint,omitempty"`
	MTime int64  `cbor:"5,keyasint,omitempty"`
	Size  int64  `cbor:"6,keyasint,omitempty"` // at most this many bytes follow
	// Target is where a symbolic link points; Link names an earlier file of
	// the stream that this one is another name of.
	Target string            `cbor:"7,keyasint,omitempty"`
	Link   string            `cbor:"8,keyasint,omitempty"`
	Gone   bool              `cbor:"9,keyasint,omitempty"` // no longer there
	XAttrs map[string][]byte `cbor:"10,keyasint,omitempty"`
}

type sender struct {
	w     *bufio.Writer
	sum   *blake3.Hasher
	items uint64
	bytes int64 // written
	pack  []byte
	note  func(int64) // told of content bytes as they go
}

func newSender(w io.Writer, note func(int64)) (*sender, error) {
	s := &sender{w: bufio.NewWriterSize(w, 2*chunk), sum: blake3.New(), pack: make([]byte, s2.MaxEncodedLen(chunk)), note: note}
	_, err := s.w.Write(streamHead)
	s.bytes = int64(len(streamHead))
	return s, err
}

func (s *sender) frame(kind byte, payload []byte) error {
	var head [5]byte
	head[0] = kind
	binary.LittleEndian.PutUint32(head[1:], uint32(len(payload)))
	if _, err := s.w.Write(head[:]); err != nil {
		return fmt.Errorf("sending files: %w", err)
	}
	if _, err := s.w.Write(payload); err != nil {
		return fmt.Errorf("sending files: %w", err)
	}
	if kind == frameItem || kind == frameEnd {
		s.sum.Write(payload)
	}
	s.bytes += int64(len(head) + len(payload))
	return nil
}

func (s *sender) item(it *item) error {
	b, err := cbor.Marshal(it)
	if err != nil {
		return fmt.Errorf("sending files: %w", err)
	}
	if len(b) > maxItem {
		return fmt.Errorf("sending %s: its record is too long", it.Path)
	}
	s.items++
	return s.frame(frameItem, b)
}

// content sends size bytes of f, fewer if it has become shorter, without its
// holes, and gives what it sent.
func (s *sender) content(f *os.File, size int64) (Hash, int64, error) {
	sum, at := blake3.New(), int64(0)
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	zero := func(n int64) error {
		clear(*buf)
		for left := n; left > 0; left -= chunk {
			sum.Write((*buf)[:min(left, chunk)])
		}
		at += n
		return s.frame(frameHole, binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
	for at < size {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole is left, or the file was cut
			st, serr := f.Stat()
			if serr != nil {
				return Hash{}, 0, fmt.Errorf("sending %s: %w", f.Name(), serr)
			}
			if end := min(size, st.Size()); end > at {
				if err := zero(end - at); err != nil {
					return Hash{}, 0, err
				}
			}
			break
		}
		hole := size
		if err != nil {
			data = at // a file system without holes
		} else if h, err := f.Seek(data, unix.SEEK_HOLE); err == nil {
			hole = min(h, size)
		}
		if data >= size {
			if err := zero(size - at); err != nil {
				return Hash{}, 0, err
			}
			break
		}
		if data > at {
			if err := zero(data - at); err != nil {
				return Hash{}, 0, err
			}
		}
		short := false
		for at < hole {
			n, err := f.ReadAt((*buf)[:min(chunk, hole-at)], at)
			if n > 0 {
				sum.Write((*buf)[:n])
				at += int64(n)
				if err := s.data((*buf)[:n]); err != nil {
					return Hash{}, 0, err
				}
			}
			if errors.Is(err, io.EOF) {
				short = true
				break
			}
			if err != nil {
				return Hash{}, 0, fmt.Errorf("sending %s: %w", f.Name(), err)
			}
		}
		if short {
			break
		}
	}
	end := binary.LittleEndian.AppendUint64(make([]byte, 0, 40), uint64(at))
	var h Hash
	sum.Sum(h[:0])
	return h, at, s.frame(frameEnd, append(end, h[:]...))
}

func (s *sender) data(b []byte) error {
	if s.note != nil {
		s.note(int64(len(b)))
	}
	if packed := s2.Encode(s.pack, b); len(packed) < len(b)-len(b)/16 {
		return s.frame(frameS2, packed)
	}
	return s.frame(frameData, b)
}

func (s *sender) stop() error {
	count := binary.LittleEndian.AppendUint64(make([]byte, 0, 40), s.items)
	s.sum.Write(count)
	if err := s.frame(frameStop, s.sum.Sum(count)); err != nil {
		return err
	}
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("sending files: %w", err)
	}
	return nil
}

// ErrDamaged is the cause of every error about a stream that is not what a
// sender sends.
var ErrDamaged = errors.New("the stream of files is damaged")

func damaged(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, a...))
}

type receiver struct {
	r     *bufio.Reader
	sum   *blake3.Hasher
	items uint64
	buf   []byte // the frame
	plain []byte // a chunk unpacked
	note  func(int64)
}

func newReceiver(r io.Reader, note func(int64)) (*receiver, error) {
	s := &receiver{r: bufio.NewReaderSize(r, chunk), sum: blake3.New(), note: note}
	head := make([]byte, len(streamHead))
	if _, err := io.ReadFull(s.r, head); err != nil {
		return nil, s.cut(err)
	}
	if string(head) != string(streamHead) {
		return nil, damaged("it does not begin as one")
	}
	return s, nil
}

func (s *receiver) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it ends early")
	}
	return fmt.Errorf("receiving files: %w", err)
}

// frame reads the next frame; its payload is good until the next call.
func (s *receiver) frame() (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return 0, nil, s.cut(err)
	}
	n := int(binary.LittleEndian.Uint32(head[1:]))
	limit := 0
	switch head[0] {
	case frameItem:
		limit = maxItem
	case frameData, frameS2:
		limit = chunk
	case frameHole:
		limit = 8
	case frameEnd, frameStop:
		limit = 40
	default:
		return 0, nil, damaged("a frame of unknown type %#x", head[0])
	}
	if n > limit || limit <= 40 && n != limit {
		return 0, nil, damaged("a frame %q of %d bytes", head[0], n)
	}
	if cap(s.buf) < n {
		s.buf = make([]byte, max(n, 4096))
	}
	p := s.buf[:n]
	if _, err := io.ReadFull(s.r, p); err != nil {
		return 0, nil, s.cut(err)
	}
	switch head[0] {
	case frameItem, frameEnd:
		s.sum.Write(p)
	case frameStop:
		s.sum.Write(p[:8])
	}
	return head[0], p, nil
}

// next reads the next item; nil at the end of the stream.
func (s *receiver) next() (*item, error) {
	kind, p, err := s.frame()
	if err != nil {
		return nil, err
	}
	switch kind {
	case frameItem:
		var it item
		if err := decoding.Unmarshal(p, &it); err != nil {
			return nil, damaged("an item: %v", err)
		}
		if s.items++; s.items > maxEntries {
			return nil, damaged("more than %d items", maxEntries)
		}
		if it.Size < 0 || it.Mode&^0o1777 != 0 || len(it.Target) >= maxPath || !it.Gone && (it.Kind < Regular || it.Kind > FIFO) {
			return nil, damaged("item %d has impossible fields", s.items)
		}
		return &it, nil
	case frameStop:
		if binary.LittleEndian.Uint64(p) != s.items || string(s.sum.Sum(nil)) != string(p[8:]) {
			return nil, damaged("its end does not fit what came before")
		}
		return nil, nil
	}
	return nil, damaged("a frame %q outside of a file", kind)
}

// content reads a file's content into f, which is empty, up to limit bytes,
// and checks it against the hash that ends it. f nil reads it for nothing.
func (s *receiver) content(f *os.File, limit int64) (Hash, int64, error) {
	sum, at := blake3.New(), int64(0)
	for {
		kind, p, err := s.frame()
		if err != nil {
			return Hash{}, 0, err
		}
		switch kind {
		case frameHole:
			n := int64(binary.LittleEndian.Uint64(p))
			if n <= 0 || n > limit-at {
				return Hash{}, 0, damaged("a file is longer than it said")
			}
			zeros := buffers.Get().(*[]byte)
			clear(*zeros)
			for left := n; left > 0; left -= chunk {
				sum.Write((*zeros)[:min(left, chunk)])
			}
			buffers.Put(zeros)
			at += n
			continue
		case frameS2:
			n, err := s2.DecodedLen(p)
			if err != nil || n > chunk {
				return Hash{}, 0, damaged("a packed piece of %d bytes", n)
			}
			if s.plain == nil {
				s.plain = make([]byte, chunk)
			}
			if p, err = s2.Decode(s.plain, p); err != nil {
				return Hash{}, 0, damaged("a packed piece: %v", err)
			}
		case frameData:
		case frameEnd:
			var h Hash
			sum.Sum(h[:0])
			if int64(binary.LittleEndian.Uint64(p)) != at || string(p[8:]) != string(h[:]) {
				return Hash{}, 0, damaged("a file's content does not fit its hash")
			}
			if f == nil {
				return h, at, nil
			}
			if err := f.Truncate(at); err != nil { // a hole at the end
				return Hash{}, 0, writing(f.Name(), err)
			}
			return h, at, nil
		default:
			return Hash{}, 0, damaged("a frame %q inside a file", kind)
		}
		if int64(len(p)) > limit-at {
			return Hash{}, 0, damaged("a file is longer than it said")
		}
		sum.Write(p)
		if f != nil {
			if _, err := f.WriteAt(p, at); err != nil {
				return Hash{}, 0, writing(f.Name(), err)
			}
		}
		at += int64(len(p))
		if s.note != nil {
			s.note(int64(len(p)))
		}
	}
}

// writing puts a cure beside an error of writing a file.
func writing(name string, err error) error {
	return cured(fmt.Errorf("writing %s: %w", name, err))
}

func cured(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w; make room there and try again", err)
	case errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w; free some of your quota and try again", err)
	}
	return err
}
