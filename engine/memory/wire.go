package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"
)

// Kind is what a run belongs to.
type Kind uint8

// The kinds of objects. Their ids are the image's.
const (
	Process Kind = 1 // private memory; the address is the process's
	Shared  Kind = 2 // shared memory; the address is an offset in it
	end     Kind = 0xff
)

func (k Kind) String() string {
	switch k {
	case Process:
		return "process"
	case Shared:
		return "shared memory"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// MaxRun is the most memory one run stands for.
const MaxRun = 1 << 20

// PageSize is x86-64's.
const PageSize = 4096

type codec uint8

const (
	codecRaw  codec = 0
	codecS2   codec = 1
	codecZero codec = 2 // no payload: all zeros
	codecLike codec = 3 // payload: the id (4 bytes) of an earlier process that has the same there
)

// header is what precedes each run's payload, little-endian:
//
//	0 kind   1 codec   2 zero (2 bytes)   4 id   8 address   16 length of the memory
//	20 length of the payload   24 checksum of bytes 0-23 and the payload   32 zero (8 bytes)
//
// The end record has kind 255, the number of runs as its address, and as its
// payload the number of bytes of memory (8 bytes).
const headerSize = 40

const (
	endPayload  = 8
	likePayload = 4
)

type run struct {
	kind   Kind
	codec  codec
	id     uint32
	addr   uint64
	length uint32
	stored uint32
	sum    uint64
}

func checksum(head, payload []byte) uint64 {
	return xxh3.HashSeed(payload, xxh3.Hash(head[:24]))
}

// seal writes the header in front of a payload that lies right behind it.
func (r *run) seal(record []byte) {
	payload := record[headerSize:]
	r.stored = uint32(len(payload))
	record[0], record[1], record[2], record[3] = byte(r.kind), byte(r.codec), 0, 0
	binary.LittleEndian.PutUint32(record[4:], r.id)
	binary.LittleEndian.PutUint64(record[8:], r.addr)
	binary.LittleEndian.PutUint32(record[16:], r.length)
	binary.LittleEndian.PutUint32(record[20:], r.stored)
	binary.LittleEndian.PutUint64(record[24:], checksum(record, payload))
	clear(record[32:headerSize])
}

// Errors of a stream that is not what Send makes.
var (
	ErrDamaged = errors.New("the memory stream is damaged")
	errAfter   = fmt.Errorf("%w: read on after its end", ErrDamaged)
)

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// reader takes a stream apart and checks its form. It reads not a byte further
// than the end record.
type reader struct {
	r     io.Reader
	last  run // the run before
	runs  uint64
	bytes uint64
	ended bool
}

// next reads one run's header and payload into buf (of MaxRun bytes). io.EOF comes
// after a correct end record, and only then.
func (d *reader) next(buf []byte) (run, []byte, error) {
	var head [headerSize]byte
	if d.ended {
		return run{}, nil, errAfter
	}
	if _, err := io.ReadFull(d.r, head[:]); err != nil {
		return run{}, nil, cut(err)
	}
	r := run{
		kind:   Kind(head[0]),
		codec:  codec(head[1]),
		id:     binary.LittleEndian.Uint32(head[4:]),
		addr:   binary.LittleEndian.Uint64(head[8:]),
		length: binary.LittleEndian.Uint32(head[16:]),
		stored: binary.LittleEndian.Uint32(head[20:]),
		sum:    binary.LittleEndian.Uint64(head[24:]),
	}
	if head[2] != 0 || head[3] != 0 || binary.LittleEndian.Uint64(head[32:]) != 0 {
		return run{}, nil, damaged("a header's reserved bytes are set")
	}
	if err := d.check(&r); err != nil {
		return run{}, nil, err
	}
	payload := buf[:r.stored]
	if _, err := io.ReadFull(d.r, payload); err != nil {
		return run{}, nil, cut(err)
	}
	if checksum(head[:], payload) != r.sum {
		return run{}, nil, damaged("wrong checksum of a run of %v %d at %#x", r.kind, r.id, r.addr)
	}
	if r.kind == end {
		d.ended = true
		if bytes := binary.LittleEndian.Uint64(payload); r.addr != d.runs || bytes != d.bytes {
			return run{}, nil, damaged("it has %d runs of %d bytes and says %d of %d", d.runs, d.bytes, r.addr, bytes)
		}
		return run{}, nil, io.EOF
	}
	d.runs++
	d.bytes += uint64(r.length)
	d.last = r
	return r, payload, nil
}

func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends too early: %w", ErrDamaged, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("reading the memory stream: %w", err)
}

// check bounds what a header says before anything is done with it.
func (d *reader) check(r *run) error {
	if r.kind == end {
		if r.codec != codecRaw || r.id != 0 || r.length != 0 || r.stored != endPayload {
			return damaged("a malformed end record")
		}
		return nil
	}
	if r.kind != Process && r.kind != Shared {
		return damaged("unknown %v", r.kind)
	}
	if r.length == 0 || r.length > MaxRun {
		return damaged("a run of %d bytes", r.length)
	}
	if r.addr+uint64(r.length) < r.addr {
		return damaged("a run of %d bytes at %#x", r.length, r.addr)
	}
	switch r.codec {
	case codecRaw:
		if r.stored != r.length {
			return damaged("%d bytes stand for %d uncompressed ones", r.stored, r.length)
		}
	case codecS2:
		if r.stored == 0 || r.stored >= r.length {
			return damaged("%d bytes stand for %d compressed ones", r.stored, r.length)
		}
	case codecZero:
		if r.stored != 0 {
			return damaged("%d bytes stand for zeros", r.stored)
		}
	case codecLike:
		if r.kind != Process || r.stored != likePayload {
			return damaged("%d bytes say which process %v %d is like", r.stored, r.kind, r.id)
		}
	default:
		return damaged("unknown codec %d", r.codec)
	}
	if d.runs == 0 {
		return nil
	}
	l := &d.last
	same := r.kind == l.kind && r.id == l.id
	if r.kind < l.kind || r.kind == l.kind && r.id < l.id || same && r.addr < l.addr+uint64(l.length) {
		return damaged("%v %d at %#x comes after %v %d at %#x", r.kind, r.id, r.addr, l.kind, l.id, l.addr)
	}
	return nil
}

// unpack makes the memory of a run from its payload, in buf if need be. A run of
// zeros has none.
func (r *run) unpack(payload, buf []byte) ([]byte, error) {
	if r.codec != codecS2 {
		return payload, nil
	}
	n, err := s2.DecodedLen(payload)
	if err != nil || n != int(r.length) {
		return nil, damaged("a compressed run of %d bytes says %d (%v)", r.length, n, err)
	}
	got, err := s2.Decode(buf[:n], payload)
	if err != nil {
		return nil, damaged("decompressing a run: %v", err)
	}
	return got, nil
}
