package memory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/s2"
)

func record(r run, payload []byte) []byte {
	b := append(make([]byte, headerSize), payload...)
	r.seal(b)
	return b
}

func ending(runs, size uint64) []byte {
	return record(run{kind: end, addr: runs}, binary.LittleEndian.AppendUint64(nil, size))
}

var buf, room = make([]byte, MaxRun), make([]byte, MaxRun)

// readAll takes a stream apart as Receive does, without a place.
func readAll(r io.Reader) (runs int, err error) {
	d := reader{r: r}
	for {
		next, payload, err := d.next(buf)
		if err == io.EOF {
			return runs, nil
		}
		if err != nil {
			return runs, err
		}
		got, err := next.unpack(payload, room)
		if err != nil {
			return runs, err
		}
		if next.codec != codecZero && next.codec != codecLike && len(got) != int(next.length) {
			return runs, errors.New("a run of the wrong length came out")
		}
		runs++
	}
}

func TestWireRefuses(t *testing.T) {
	page := bytes.Repeat([]byte{1, 2, 3, 4}, PageSize/4)
	raw := func(kind Kind, id uint32, addr uint64) []byte {
		return record(run{kind: kind, id: id, addr: addr, length: PageSize}, page)
	}
	good := bytes.Join([][]byte{
		raw(Process, 1, 0), raw(Process, 1, PageSize),
		record(run{kind: Process, id: 2, addr: 0, length: PageSize, codec: codecS2}, s2.Encode(nil, page)),
		record(run{kind: Shared, id: 1, addr: 0, length: MaxRun, codec: codecZero}, nil),
		ending(4, 3*PageSize+MaxRun),
	}, nil)
	if n, err := readAll(bytes.NewReader(good)); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	for i := 0; i < len(good); i += 7 {
		if _, err := readAll(bytes.NewReader(good[:i])); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	for i := 0; i < len(good); i += 31 {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if _, err := readAll(bytes.NewReader(bad)); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit flipped in byte %d: %v", i, err)
		}
	}
	bomb := s2.Encode(nil, make([]byte, 8<<20))
	for name, stream := range map[string][][]byte{
		"address goes back":  {raw(Process, 1, PageSize), raw(Process, 1, 0)},
		"overlap":            {raw(Process, 1, 0), raw(Process, 1, PageSize/2)},
		"id goes back":       {raw(Process, 2, 0), raw(Process, 1, 0)},
		"kind goes back":     {raw(Shared, 1, 0), raw(Process, 1, 0)},
		"unknown kind":       {raw(7, 1, 0)},
		"unknown codec":      {record(run{kind: Process, length: PageSize, codec: 9}, page)},
		"oversize":           {record(run{kind: Process, length: MaxRun + 1, codec: codecZero}, nil)},
		"empty":              {record(run{kind: Process}, nil)},
		"past the end":       {raw(Process, 1, ^uint64(0)-10)},
		"raw and shorter":    {record(run{kind: Process, length: PageSize}, page[1:])},
		"zeros with bytes":   {record(run{kind: Process, length: PageSize, codec: codecZero}, page[:9])},
		"packed and longer":  {record(run{kind: Process, length: PageSize, codec: codecS2}, make([]byte, PageSize+1))},
		"bomb":               {record(run{kind: Process, length: MaxRun, codec: codecS2}, bomb)},
		"nonsense packed":    {record(run{kind: Process, length: PageSize, codec: codecS2}, page[:99])},
		"wrong count":        {raw(Process, 1, 0), ending(2, PageSize)},
		"wrong sum of bytes": {raw(Process, 1, 0), ending(1, PageSize+1)},
		"end with an id":     {record(run{kind: end, id: 1}, make([]byte, 8))},
		"long end":           {record(run{kind: end}, make([]byte, 9))},
	} {
		if _, err := readAll(bytes.NewReader(bytes.Join(append(stream, ending(1, PageSize)), nil))); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := reader{r: bytes.NewReader(append(ending(0, 0), ending(0, 0)...))}
	if _, _, err := d.next(make([]byte, MaxRun)); err != io.EOF {
		t.Error(err)
	}
	if _, _, err := d.next(make([]byte, MaxRun)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a second end: %v", err)
	}
}

func FuzzStream(f *testing.F) {
	page := bytes.Repeat([]byte{9}, PageSize)
	f.Add(append(record(run{kind: Process, id: 1, length: PageSize}, page), ending(1, PageSize)...))
	f.Add(append(record(run{kind: Shared, id: 1, length: PageSize, codec: codecS2}, s2.Encode(nil, page)), ending(1, PageSize)...))
	f.Add(ending(0, 0))
	f.Fuzz(func(t *testing.T, stream []byte) {
		if _, err := readAll(bytes.NewReader(stream)); err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		// The same bytes with right checksums get further.
		fixed := bytes.Clone(stream)
		for b := fixed; len(b) >= headerSize; {
			n := headerSize + int(binary.LittleEndian.Uint32(b[20:]))
			if n > len(b) || n < headerSize {
				break
			}
			binary.LittleEndian.PutUint64(b[24:], checksum(b, b[headerSize:n]))
			b = b[n:]
		}
		if _, err := readAll(bytes.NewReader(fixed)); err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	})
}
