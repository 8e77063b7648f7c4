//go:build linux && amd64

package memory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// arrival is a run on its way into its place.
type arrival struct {
	run     run
	place   Place
	payload []byte // in buf
	like    Peeker // codecLike: where to take it from
	buf     []byte
}

// Receive takes one stream apart and writes its runs where place says; place is
// called once for each object, on the caller's goroutine. It reads not a byte
// beyond the stream's end.
func Receive(ctx context.Context, r io.Reader, place func(kind Kind, id uint32) (Place, error)) (Totals, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	workers := min(4, runtime.GOMAXPROCS(0))
	depth := workers + 2
	free := make(chan *arrival, depth)
	for range depth {
		free <- &arrival{buf: make([]byte, MaxRun)}
	}
	work := make(chan *arrival, depth)
	var wait, flying sync.WaitGroup
	for range workers {
		wait.Go(func() {
			buf := make([]byte, MaxRun)
			for a := range work {
				if ctx.Err() == nil {
					if err := a.put(buf); err != nil {
						fail(err)
					}
				}
				flying.Done()
				free <- a
			}
		})
	}
	t := taker{r: reader{r: r}, place: place, free: free, work: work, flying: &flying, room: make([]byte, small)}
	totals, err := t.take(ctx)
	close(work)
	wait.Wait()
	if cause := context.Cause(ctx); cause != nil && (err == nil || errors.Is(err, ctx.Err())) {
		err = fmt.Errorf("receiving memory: %w", cause)
	}
	return totals, err
}

// small runs are put where they go by who reads the stream.
const small = 64 << 10

// taker reads the stream and hands the runs out.
type taker struct {
	r      reader
	place  func(Kind, uint32) (Place, error)
	free   chan *arrival
	work   chan<- *arrival
	flying *sync.WaitGroup // runs handed out and not yet in their places
	room   []byte

	done  map[uint32]Place // processes of which all runs were handed out
	whole uint32           // and up to this one are in their places
}

func (t *taker) take(ctx context.Context) (Totals, error) {
	var totals Totals
	var last run
	var where Place
	t.done = map[uint32]Place{}
	for {
		var a *arrival
		select {
		case <-ctx.Done():
			return totals, ctx.Err()
		case a = <-t.free:
		}
		next, payload, err := t.r.next(a.buf)
		if err == io.EOF {
			return totals, nil
		}
		if err != nil {
			return totals, err
		}
		if where == nil || next.kind != last.kind || next.id != last.id {
			if where != nil && last.kind == Process {
				t.done[last.id] = where
			}
			if where, err = t.place(next.kind, next.id); err != nil {
				return totals, fmt.Errorf("receiving memory of %v %d: %w", next.kind, next.id, err)
			}
		}
		last = next
		totals.Runs++
		totals.Bytes += uint64(next.length)
		totals.Stored += uint64(next.stored)
		a.like = nil
		switch next.codec {
		case codecZero:
			totals.Zeros += uint64(next.length)
		case codecLike:
			totals.Like += uint64(next.length)
			if a.like, err = t.other(binary.LittleEndian.Uint32(payload)); err != nil {
				return totals, err
			}
		}
		a.run, a.place, a.payload = next, where, payload
		if next.length <= small {
			// Waking a worker takes longer.
			if err := a.put(t.room); err != nil {
				return totals, err
			}
			t.free <- a
			continue
		}
		t.flying.Add(1)
		t.work <- a
	}
}

// other is an earlier process, when all of its memory is there.
func (t *taker) other(id uint32) (Peeker, error) {
	p, ok := t.done[id].(Peeker)
	if !ok {
		return nil, damaged("a run is said to be like process %d, which has not come before", id)
	}
	if id > t.whole {
		t.flying.Wait()
		for have := range t.done {
			t.whole = max(t.whole, have)
		}
	}
	return p, nil
}

// put checks a run and writes it.
func (a *arrival) put(buf []byte) error {
	switch a.run.codec {
	case codecZero:
		return a.place.Zero(a.run.addr, uint64(a.run.length))
	case codecLike:
		if err := a.like.Read(buf[:a.run.length], a.run.addr); err != nil {
			return err
		}
		return a.place.Write(buf[:a.run.length], a.run.addr)
	}
	from, err := a.run.unpack(a.payload, buf)
	if err != nil {
		return err
	}
	return a.place.Write(from, a.run.addr)
}
