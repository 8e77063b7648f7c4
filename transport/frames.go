package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// A frame on the wire, numbers big-endian:
//
//	length  uint32  of the body
//	type    uint16  what the body is, the caller's choice
//	version uint16  of the framing: 1
//	sum     uint32  CRC-32C of the frame's number on this stream (uint64, from
//	                0, each direction for itself), the 8 bytes before, the body
//	body    length bytes of CBOR
//
// The keys of TLS keep strangers out. The sum finds what TLS cannot see: a bug
// or a broken memory on either side, frames left out or swapped, and a reader
// that has lost its place in a stream that carries raw bytes too.
const (
	frameHeader  = 12
	frameVersion = 1

	maxFrame   = 1 << 30 // no caller's limit goes beyond
	maxNesting = 24
	maxItems   = 1 << 20 // of one array or map
)

// FrameType tells what a frame's body is.
type FrameType uint16

// FrameSizeError: a frame larger than the reader (or writer) takes. Its body
// was not read, so the stream is of no more use.
type FrameSizeError struct {
	Type      FrameType
	Size, Max int64
}

func (e *FrameSizeError) Error() string {
	return fmt.Sprintf("frame of type %d has %d bytes, more than the %d that are taken here", e.Type, e.Size, e.Max)
}

// FrameDamagedError: what came is not a frame, not the next one, or not what
// its type promises.
type FrameDamagedError struct {
	Why string
	Err error
}

func (e *FrameDamagedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("damaged frame: %s: %v", e.Why, e.Err)
	}
	return "damaged frame: " + e.Why
}

func (e *FrameDamagedError) Unwrap() error { return e.Err }

// FrameTypeError: a good frame, but not the one that had to come now.
type FrameTypeError struct {
	Got, Want FrameType
}

func (e *FrameTypeError) Error() string {
	return fmt.Sprintf("frame of type %d came where type %d was due", e.Got, e.Want)
}

// ErrFrameCut: the stream ended in the middle of a frame. An end between two
// frames is io.EOF.
var ErrFrameCut = errors.New("the stream ends in the middle of a frame")

// Frames sends and receives messages over a stream. It never reads ahead, so
// raw bytes may stand between two frames if both sides expect them. One
// goroutine may send while another one receives.
type Frames struct {
	r       io.Reader
	w       io.Writer
	mu      sync.Mutex // sending
	sent    uint64
	receive uint64
}

// NewFrames makes frames over any stream.
func NewFrames(rw io.ReadWriter) *Frames { return &Frames{r: rw, w: rw} }

// Frame is one received message.
type Frame struct {
	Type FrameType
	Body []byte
}

// Decode reads the body into v.
func (f Frame) Decode(v any) error {
	if err := decoding.Unmarshal(f.Body, v); err != nil {
		return &FrameDamagedError{Why: fmt.Sprintf("body of type %d", f.Type), Err: err}
	}
	return nil
}

// Send sends v as one frame, in one Write.
func (f *Frames) Send(t FrameType, v any) error {
	body, err := encoding.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a message of type %d: %w", t, err)
	}
	if len(body) > maxFrame {
		return &FrameSizeError{Type: t, Size: int64(len(body)), Max: maxFrame}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := make([]byte, frameHeader, frameHeader+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	binary.BigEndian.PutUint16(frame[4:], uint16(t))
	binary.BigEndian.PutUint16(frame[6:], frameVersion)
	binary.BigEndian.PutUint32(frame[8:], frameSum(f.sent, frame[:8], body))
	if _, err := f.w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("sending a message of type %d: %w", t, err)
	}
	f.sent++
	return nil
}

// Receive waits for the next frame, whose body must not be larger than max.
// At the end of the stream it returns io.EOF.
func (f *Frames) Receive(max int) (Frame, error) {
	var head [frameHeader]byte
	if n, err := io.ReadFull(f.r, head[:]); err != nil {
		if errors.Is(err, io.EOF) && n == 0 {
			return Frame{}, io.EOF
		}
		return Frame{}, cut(err)
	}
	size := int64(binary.BigEndian.Uint32(head[:]))
	t := FrameType(binary.BigEndian.Uint16(head[4:]))
	if v := binary.BigEndian.Uint16(head[6:]); v != frameVersion {
		return Frame{}, &FrameDamagedError{Why: fmt.Sprintf("version %d of the framing, instead of %d", v, frameVersion)}
	}
	if limit := int64(min(max, maxFrame)); size > limit {
		return Frame{}, &FrameSizeError{Type: t, Size: size, Max: limit}
	}
	body, err := readBody(f.r, size)
	if err != nil {
		return Frame{}, cut(err)
	}
	if frameSum(f.receive, head[:8], body) != binary.BigEndian.Uint32(head[8:]) {
		return Frame{}, &FrameDamagedError{Why: fmt.Sprintf("the sum of frame %d (type %d) is wrong", f.receive, t)}
	}
	f.receive++
	return Frame{Type: t, Body: body}, nil
}

// ReceiveInto waits for a frame of the given type and decodes it into v.
func (f *Frames) ReceiveInto(want FrameType, v any, max int) error {
	frame, err := f.Receive(max)
	if err != nil {
		return err
	}
	if frame.Type != want {
		return &FrameTypeError{Got: frame.Type, Want: want}
	}
	return frame.Decode(v)
}

// readBody takes memory as the bytes come, not as the header promises.
func readBody(r io.Reader, size int64) ([]byte, error) {
	const first = 64 << 10
	if size <= first {
		body := make([]byte, size)
		_, err := io.ReadFull(r, body)
		return body, err
	}
	var b bytes.Buffer
	b.Grow(first)
	if _, err := io.CopyN(&b, r, size); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrFrameCut
	}
	return err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func frameSum(number uint64, head, body []byte) uint32 {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], number)
	return crc32.Update(crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, head), castagnoli, body)
}

var encoding, decoding = codec()

// codec panics on options that contradict each other, which the first test
// of the package would show: they are constants.
func codec() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.EncOptions{IndefLength: cbor.IndefLengthForbidden, Time: cbor.TimeRFC3339Nano, NilContainers: cbor.NilContainerAsNull}.EncMode()
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  maxNesting,
		MaxArrayElements: maxItems,
		MaxMapPairs:      maxItems,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsAllowed,
		UTF8:             cbor.UTF8DecodeInvalid, // a file's name need not be UTF-8
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}
