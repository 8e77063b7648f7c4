//go:build linux && amd64

package memory

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"hither/engine/tracee"
)

func TestSets(t *testing.T) {
	r := func(n ...uint64) (all []Range) {
		for i := 0; i < len(n); i += 2 {
			all = append(all, Range{Start: n[i], End: n[i+1]})
		}
		return all
	}
	for _, c := range []struct{ a, b, union, both []Range }{
		{nil, nil, nil, nil},
		{r(1, 3), nil, r(1, 3), nil},
		{r(1, 3), r(3, 5), r(1, 5), nil},
		{r(1, 4, 6, 9), r(3, 7), r(1, 9), r(3, 4, 6, 7)},
		{r(1, 10), r(2, 3, 4, 5), r(1, 10), r(2, 3, 4, 5)},
	} {
		if got := union(c.a, c.b); !slices.Equal(got, c.union) {
			t.Errorf("%v and %v: %v", c.a, c.b, got)
		}
		if got := intersect(c.a, c.b); !slices.Equal(got, c.both) {
			t.Errorf("both %v and %v: %v", c.a, c.b, got)
		}
	}
}

// TestTracker sends a process ahead while it writes, and then the rest.
func TestTracker(t *testing.T) {
	file := fileOf(t)
	from := holdFor(t, "busy", file)
	to := holdFor(t, "empty", file)
	place := NewProcessPlace(to, maps)
	send := func(ranges []Range, live bool) Totals {
		t.Helper()
		r, w := io.Pipe()
		go func() {
			_, err := Send(context.Background(), w, []Source{{Kind: Process, ID: 1, Pid: from, Ranges: ranges}}, Options{Live: live})
			w.CloseWithError(err)
		}()
		got, err := Receive(context.Background(), r, func(Kind, uint32) (Place, error) { return place, nil })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	tr := tracee.New()
	defer tr.Close()
	hold := func(fn func(p *tracee.Process) error) {
		t.Helper()
		err := tr.Do(func() error {
			p, err := tr.Seize(from)
			if err != nil {
				return err
			}
			if err := fn(p); err != nil {
				return err
			}
			return tr.Detach(p)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var k *Tracker
	hold(func(p *tracee.Process) (err error) {
		k, err = Track(p)
		return err
	})
	defer k.Close()
	for round := range 4 {
		ranges, err := k.Round(maps)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %d bytes, %+v", round, Size(ranges), send(ranges, true))
	}
	hold(func(p *tracee.Process) error {
		ranges, err := k.Last(maps)
		if err != nil {
			return err
		}
		t.Logf("last: %d bytes, %+v", Size(ranges), send(ranges, false))
		for _, m := range maps {
			if !bytes.Equal(memoryOf(t, from, m), memoryOf(t, to, m)) {
				t.Errorf("memory at %#x differs", m.Start)
			}
		}
		return nil
	})
	if err := unix.Kill(from, 0); err != nil {
		t.Error(err)
	}
}

// TestEndedMeanwhile: a process may end while its memory is sent ahead, and then be a zombie or nothing at all. One
// that is said to stand still may not.
func TestEndedMeanwhile(t *testing.T) {
	from := holdFor(t, "full", fileOf(t))
	source := Source{Kind: Process, ID: 1, Pid: from, Ranges: maps}
	check := func(how string) {
		t.Helper()
		got, err := Send(context.Background(), io.Discard, []Source{source}, Options{Live: true})
		if err != nil || got.Gone != Size(maps) || !slices.Equal(got.Lost, []uint32{1}) {
			t.Errorf("%s: of %d bytes %d are gone, lost are %v: %v", how, Size(maps), got.Gone, got.Lost, err)
		}
		if _, err := Send(context.Background(), io.Discard, []Source{source}, Options{}); err == nil {
			t.Errorf("%s: its memory is read all the same", how)
		}
	}
	if err := errors.Join(unix.Kill(from, unix.SIGKILL), unix.Waitid(unix.P_PID, from, nil, unix.WEXITED|unix.WNOWAIT, nil)); err != nil {
		t.Fatal(err)
	}
	check("a zombie")
	if _, err := unix.Wait4(from, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	check("nothing")
}

// BenchmarkLast is what the last round costs while the process is stopped, when little was written.
func BenchmarkLast(b *testing.B) {
	from := holdBench(b)
	tr := tracee.New()
	defer tr.Close()
	var k *Tracker
	err := tr.Do(func() error {
		p, err := tr.Seize(from)
		if err != nil {
			return err
		}
		if k, err = Track(p); err != nil {
			return err
		}
		return tr.Detach(p)
	})
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	all := []Range{{Start: atAnon, End: atAnon + sizeBench}}
	if first, err := k.Round(all); err != nil || Size(first) != sizeBench {
		b.Fatal(Size(first), err)
	}
	b.SetBytes(sizeBench)
	for b.Loop() {
		if last, err := k.Last(all); err != nil || Size(last) != 0 {
			b.Fatal(Size(last), err)
		}
	}
}
