//go:build linux && amd64

package memory

import (
	"bytes"
	"encoding/binary"

	"github.com/klauspost/compress/s2"
	"golang.org/x/sys/unix"

	"hither/engine/kernel"
)

// readProcess reads all pieces of a chunk by one call, if it can.
func (s *sender) readProcess(c *chunk) error {
	var to [maxPieces]unix.Iovec
	var from [maxPieces]unix.RemoteIovec
	want := 0
	for i, p := range c.pieces {
		to[i] = unix.Iovec{Base: &c.buf[p.at], Len: uint64(p.n)}
		from[i] = unix.RemoteIovec{Base: uintptr(p.addr + c.source.Base), Len: p.n}
		want += p.n
	}
	n, err := kernel.ReadProcessRuns(c.source.Pid, to[:len(c.pieces)], from[:len(c.pieces)])
	if err == nil && n == want {
		return nil
	}
	// What was read stays; the rest goes piece by piece.
	for i := range c.pieces {
		p := &c.pieces[i]
		if n >= p.n {
			n -= p.n
			continue
		}
		n = 0
		if err := s.readAlone(c, p); err != nil {
			return err
		}
	}
	return nil
}

// readLike reads what the source's Like has where the chunk may be the same. What
// cannot be read is not the same.
func (s *sender) readLike(c *chunk) {
	var to [maxPieces]unix.Iovec
	var from [maxPieces]unix.RemoteIovec
	at, n := [maxPieces]int{}, 0
	for i, p := range c.pieces {
		if p.like {
			to[n] = unix.Iovec{Base: &c.like[p.at], Len: uint64(p.n)}
			from[n] = unix.RemoteIovec{Base: uintptr(p.addr + c.source.Like.Base), Len: p.n}
			at[n] = i
			n++
		}
	}
	if n == 0 {
		return
	}
	got, err := kernel.ReadProcessRuns(c.source.Like.Pid, to[:n], from[:n])
	if err != nil {
		got = 0
	}
	for _, i := range at[:n] {
		p := &c.pieces[i]
		p.like = got >= p.n
		got = max(0, got-p.n)
	}
}

// pack makes the records of a chunk that has been read.
func (s *sender) pack(c *chunk) {
	compress := !s.options.Plain && s.rest.Add(-1) < 0
	if compress {
		s.rest.Store(0)
		if c.packed == nil {
			c.packed = make([]byte, packRoom)
		}
	}
	before, after := 0, 0
	packed := c.packed[:0]
	for i := range c.pieces {
		p := &c.pieces[i]
		for done := 0; done < p.n; {
			var other []byte
			if p.like {
				other = c.like[p.at+done : p.at+p.n]
			}
			what, n := stretch(c.buf[p.at+done:p.at+p.n], other)
			at, addr := p.at+done, p.addr+uint64(done)
			done += n
			c.totals.Read += uint64(n)
			r := run{kind: c.source.Kind, id: c.source.ID, addr: addr, length: uint32(n)}
			switch what {
			case allZero:
				c.totals.Zeros += uint64(n)
				if !p.keep {
					continue
				}
				r.codec = codecZero
				c.record(&r, make([]byte, headerSize))
				continue
			case allLike:
				c.totals.Like += uint64(n)
				r.codec = codecLike
				c.record(&r, binary.LittleEndian.AppendUint32(make([]byte, headerSize, headerSize+likePayload), c.source.Like.ID))
				continue
			}
			if compress {
				before += n
				if record, ok := squeeze(packed, c.buf[at:at+n]); ok {
					packed = packed[:len(packed)+len(record)]
					after += len(record)
					r.codec = codecS2
					c.record(&r, record)
					continue
				}
				after += n
			}
			c.record(&r, c.buf[at-headerSize:at+n])
		}
	}
	if before > 0 {
		s.learn(after < before-before/8)
	}
}

// record adds a run whose payload lies in place behind the room for its header.
func (c *chunk) record(r *run, record []byte) {
	r.seal(record)
	c.records = append(c.records, record)
	c.totals.Runs++
	c.totals.Bytes += uint64(r.length)
	c.totals.Stored += uint64(r.stored)
}

// squeeze compresses behind what packed holds, if there is room and it pays.
func squeeze(packed, from []byte) ([]byte, bool) {
	room := packed[len(packed):cap(packed)]
	need := s2.MaxEncodedLen(len(from))
	if need < 0 || len(room) < headerSize+need {
		return nil, false
	}
	payload := s2.Encode(room[headerSize:], from)
	if len(payload) >= len(from)-len(from)/8 {
		return nil, false
	}
	return room[:headerSize+len(payload)], true
}

// maxPenalty bounds for how many chunks compression is not tried again.
const maxPenalty = 256

// learn remembers whether compressing a chunk paid.
func (s *sender) learn(paid bool) {
	if paid {
		s.penalty.Store(0)
		return
	}
	next := min(max(2*s.penalty.Load(), 1), maxPenalty)
	s.penalty.Store(next)
	s.rest.Store(next)
}

var zeroPage [PageSize]byte

// content is what a stretch of pages is.
type content int

const (
	allOwn content = iota
	allZero
	allLike
)

// stretch is the longest beginning of b whose pages are all of zeros, or all as in other
// (which may be empty), or all neither.
func stretch(b, other []byte) (what content, n int) {
	for n < len(b) {
		end := min(n+PageSize, len(b))
		page := b[n:end]
		is := allOwn
		switch {
		case bytes.Equal(page, zeroPage[:len(page)]):
			is = allZero
		case other != nil && bytes.Equal(page, other[n:end]):
			is = allLike
		}
		if n == 0 {
			what = is
		} else if is != what {
			break
		}
		n = end
	}
	return what, n
}
