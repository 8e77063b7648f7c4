package xwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// errShort says that a message is shorter than what it claims to hold.
var errShort = errors.New("the message is shorter than it says")

// decoder reads a message. After the first thing that is not there everything
// reads as zero, and err is set.
type decoder struct {
	b     []byte
	off   int
	files []*os.File
	err   error
}

func (d *decoder) left() int { return len(d.b) - d.off }

// words is what a reply says of its own length: units of four bytes beyond the
// first 32.
func (d *decoder) words() int { return max(len(d.b)-32, 0) / 4 }

// take returns the next n bytes, which are not copied.
func (d *decoder) take(n int) []byte {
	if n < 0 || n > d.left() {
		d.err = errShort
		d.off = len(d.b)
		return nil
	}
	b := d.b[d.off : d.off+n : d.off+n]
	d.off += n
	return b
}

func (d *decoder) skip(n int) {
	if n > d.left() {
		n = d.left() // padding at the end may be left out
	}
	d.off += n
}

func (d *decoder) align(n int) {
	if over := d.off % n; over != 0 {
		d.skip(n - over)
	}
}

// count is for lists: n if that many elements of size bytes or more can follow.
func (d *decoder) count(n, size int) int {
	if n < 0 || n > d.left()/size {
		d.err = errShort
		d.off = len(d.b)
		return 0
	}
	return n
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) i16() int16 { return int16(d.u16()) }
func (d *decoder) i32() int32 { return int32(d.u32()) }
func (d *decoder) bool() bool { return d.u8() != 0 }

// file hands over the next descriptor that came with the message.
func (d *decoder) file() *os.File {
	if len(d.files) == 0 {
		d.err = errors.New("the message came without its descriptor")
		return nil
	}
	f := d.files[0]
	d.files = d.files[1:]
	return f
}

// sumOf adds up what f makes of each element.
func sumOf(list []uint32, f func(uint32) int) int {
	n := 0
	for _, el := range list {
		n += f(el)
	}
	return n
}

// request is an encoded request: its bytes, those that follow from where the
// caller has them, and its descriptors. err is why it cannot be sent.
type request struct {
	b     []byte
	tail  []byte
	files []*os.File
	err   error
}

// encoder builds a request or an event.
type encoder struct {
	b     []byte
	files []*os.File
	err   error
}

func newCoreRequest(opcode uint8) *encoder {
	return &encoder{b: append(make([]byte, 0, 64), opcode)}
}

func newRequest(c *Conn, ext *Extension, minor uint8) *encoder {
	major, err := c.opcode(ext)
	return &encoder{b: append(make([]byte, 0, 64), major, minor, 0, 0), err: err}
}

func (e *encoder) u8(v uint8)   { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) i8(v int8)    { e.u8(uint8(v)) }
func (e *encoder) i16(v int16)  { e.u16(uint16(v)) }
func (e *encoder) i32(v int32)  { e.u32(uint32(v)) }

func (e *encoder) bool(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

func (e *encoder) bool32(v bool) {
	e.bool(v)
	e.pad(3)
}

func (e *encoder) bytes(b []byte)  { e.b = append(e.b, b...) }
func (e *encoder) text(s string)   { e.b = append(e.b, s...) }
func (e *encoder) file(f *os.File) { e.files = append(e.files, f) }

func (e *encoder) pad(n int) {
	for range n {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) align(n int) { e.pad((n - len(e.b)%n) % n) }

func (e *encoder) len8(n int)  { e.u8(uint8(e.length(n, 1<<8))) }
func (e *encoder) len16(n int) { e.u16(uint16(e.length(n, 1<<16))) }
func (e *encoder) len32(n int) { e.u32(uint32(e.length(n, 1<<32))) }

func (e *encoder) length(n, limit int) int {
	if n >= limit {
		e.err = fmt.Errorf("a list of %d elements, where the protocol has room for %d", n, limit-1)
		return 0
	}
	return n
}

func (e *encoder) finish(tail []byte) *request {
	if tail == nil {
		e.align(4)
	}
	return &request{b: e.b, tail: tail, files: e.files, err: e.err}
}

func (e *encoder) event() [32]byte {
	var out [32]byte
	copy(out[:], e.b)
	return out
}

// propertyUnits is the length of a property's data in units of its format: 8,
// 16 or 32 bits.
func propertyUnits(format uint8, bytes int) uint32 {
	return uint32(bytes / max(int(format)/8, 1))
}

// Uint32s gives numbers as the data of a property of format 32.
func Uint32s[T ~uint32 | ~int32](values ...T) []byte {
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return b
}

// ToUint32s reads the data of a property of format 32.
func ToUint32s(data []byte) []uint32 {
	out := make([]uint32, len(data)/4)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(data[4*i:])
	}
	return out
}

// MessageData gives up to five numbers as a ClientMessage of format 32 has them.
func MessageData(values ...uint32) ClientMessageData {
	var d ClientMessageData
	copy(d[:], Uint32s(values...))
	return d
}

// Uint32 is the i-th of the five numbers of a ClientMessage of format 32.
func (d ClientMessageData) Uint32(i int) uint32 { return binary.LittleEndian.Uint32(d[4*i:]) }
