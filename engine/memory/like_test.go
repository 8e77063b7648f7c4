package memory

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
)

// Of a second process of the same program only what differs travels.
func TestLikeAnother(t *testing.T) {
	file := fileOf(t)
	first, second := holdFor(t, "full", file), holdFor(t, "full", file)
	// Some pages differ, and one is zero only in the second: it travels where zeros count.
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", second), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	a, b := ranges(t, first), ranges(t, second)
	for i, at := range []uint64{b[0].Start + 7*PageSize + 9, b[0].Start + 8*PageSize, b[len(b)-1].End - 1} {
		if _, err := mem.WriteAt([]byte{byte(i + 1)}, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := mem.WriteAt(make([]byte, PageSize), int64(b[0].Start+3*PageSize)); err != nil {
		t.Fatal(err)
	}
	b = ranges(t, second)
	whole, some := Source{Kind: Process, ID: 5, Pid: first, Ranges: a}, Source{Kind: Process, ID: 6, Pid: second, Ranges: b}
	some.Like = &whole
	third := Source{Kind: Process, ID: 7, Pid: second, Ranges: b[:1], Like: &some} // of a chain
	places := map[uint32]*ProcessPlace{}
	for id := uint32(5); id <= 7; id++ {
		places[id] = NewProcessPlace(holdFor(t, "empty", file), maps)
		defer places[id].Close()
	}
	var stream bytes.Buffer
	sent, err := Send(context.Background(), &stream, []Source{third, some, whole}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Receive(context.Background(), &stream, func(kind Kind, id uint32) (Place, error) { return places[id], nil })
	if err != nil {
		t.Fatal(err)
	}
	if got.Like != sent.Like || sent.Like < Size(b)-8*PageSize-sent.Zeros {
		t.Errorf("%d bytes of %d are told of as the same, %d arrived", sent.Like, Size(b), got.Like)
	}
	for _, m := range maps {
		if !bytes.Equal(memoryOf(t, second, m), memoryOf(t, places[6].pid, m)) {
			t.Errorf("memory at %#x differs", m.Start)
		}
	}
	if r := b[0]; !bytes.Equal(memoryOf(t, second, r), memoryOf(t, places[7].pid, r)) {
		t.Errorf("memory at %#x differs in the third", r.Start)
	}
	if _, err := Send(context.Background(), &stream, []Source{{Kind: Process, ID: 4, Pid: first, Ranges: a, Like: &whole}}, Options{}); err == nil {
		t.Error("a process may be like one that comes after it")
	}
}

// A stream that names a process which has not come, or memory outside of what was allowed.
func TestLikeNobody(t *testing.T) {
	at := maps[0].Start
	id := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	like := func(of uint32, addr uint64) []byte {
		return record(run{kind: Process, id: 9, addr: addr, length: PageSize, codec: codecLike}, id(of))
	}
	page := bytes.Repeat([]byte{7}, PageSize)
	first := record(run{kind: Process, id: 5, addr: at, length: PageSize}, page)
	places := map[uint32]*ProcessPlace{}
	for _, id := range []uint32{5, 9} {
		places[id] = NewProcessPlace(holdFor(t, "empty", fileOf(t)), maps[:1])
		defer places[id].Close()
	}
	for name, c := range map[string]struct {
		stream []byte
		want   error
	}{
		"good":         {append(bytes.Join([][]byte{first, like(5, at)}, nil), ending(2, 2*PageSize)...), nil},
		"never came":   {append(bytes.Clone(first), like(4, at)...), ErrDamaged},
		"itself":       {append(bytes.Clone(first), like(9, at)...), ErrDamaged},
		"comes later":  {like(10, at), ErrDamaged},
		"not its own":  {append(bytes.Join([][]byte{first, like(5, maps[0].End)}, nil), ending(2, 2*PageSize)...), ErrOutside},
		"wrong length": {record(run{kind: Process, id: 9, addr: at, length: PageSize, codec: codecLike}, append(id(5), 0)), ErrDamaged},
		"shared":       {record(run{kind: Shared, id: 9, addr: at, length: PageSize, codec: codecLike}, id(5)), ErrDamaged},
	} {
		_, err := Receive(context.Background(), bytes.NewReader(c.stream), func(_ Kind, id uint32) (Place, error) { return places[id], nil })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := memoryOf(t, places[9].pid, Range{Start: at, End: at + PageSize}); !bytes.Equal(got, page) {
		t.Error("the page did not come across")
	}
}
