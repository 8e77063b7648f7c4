package restore

import (
	"encoding/json"
	"errors"
	"testing"

	"hither/engine/checkpoint"
	"hither/engine/image"
	"hither/engine/memory"
)

// FuzzAreas asks for areas as a hostile source may: what is admitted is bounded, in user
// space, and apart.
func FuzzAreas(f *testing.F) {
	f.Add([]byte(`{"2":[{"Start":4096,"End":8192},{"Start":8192,"End":12288,"NoReserve":true}]}`))
	f.Add([]byte(`{"2":[{"Start":4096,"End":18446744073709547520}],"-1":[{"Start":8192,"End":4096}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var asked map[int][]checkpoint.Area
		if json.Unmarshal(text, &asked) != nil {
			return
		}
		h := &ahead{}
		room := uint64(0)
		for pid, areas := range asked {
			for _, one := range areas {
				if err := h.admit(pid, one); err != nil {
					if !errors.Is(err, memory.ErrDamaged) {
						t.Error(err)
					}
					continue
				}
				for _, a := range h.areas {
					if a.pid == pid && a.Start < one.End && one.Start < a.End {
						t.Fatalf("%+v overlaps %+v", one, a.Area)
					}
				}
				h.areas = append(h.areas, &area{Area: one, pid: pid})
				if room += one.End - one.Start; one.End > image.TopOfUser || room > areasRoom {
					t.Fatalf("%+v was admitted, %d bytes in all", one, room)
				}
			}
		}
	})
}

// TestBudget counts pages that come ahead, each once.
func TestBudget(t *testing.T) {
	h := &ahead{budget: 5 * memory.PageSize}
	a := &area{Area: checkpoint.Area{Start: 1 << 30, End: 2 << 30}, pid: 2, chunks: map[uint64]*chunk{}}
	at := uint64(1<<30 + chunkBytes - 2*memory.PageSize) // across two chunks
	for range 2 {
		if err := h.spend(a.mark(at, at+4*memory.PageSize, true)); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.ranges(a.Start, a.End, true); len(got) != 1 || got[0].Start != at || got[0].End != at+4*memory.PageSize {
		t.Errorf("%+v", got)
	}
	if err := h.spend(a.mark(at+8*memory.PageSize, at+9*memory.PageSize, false)); err != nil {
		t.Fatal(err)
	}
	if all, filled := a.ranges(a.Start, a.End, false), a.ranges(a.Start, a.End, true); len(all) != 2 || len(filled) != 1 {
		t.Errorf("%+v, %+v", all, filled)
	}
	if err := h.spend(a.mark(1<<30, 1<<30+memory.PageSize, true)); !errors.Is(err, memory.ErrDamaged) {
		t.Errorf("one page too many: %v", err)
	}
	p := &stagePlace{ahead: h, areas: []*area{a}}
	for _, outside := range [][2]uint64{{0, memory.PageSize}, {2<<30 - memory.PageSize, 2 * memory.PageSize}, {1<<30 + 1, memory.PageSize}, {^uint64(0) &^ 4095, memory.PageSize}} {
		if err := p.Zero(outside[0], outside[1]); err == nil {
			t.Errorf("%#x was taken", outside[0])
		}
	}
}
