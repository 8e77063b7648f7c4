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

// arrival is some runs on their way into their places: together, because
// waking a worker takes longer than placing a small run.
type arrival struct {
	runs []landing
	buf  []byte // their payloads
	used int
}

type landing struct {
	run
	place   Place
	payload []byte
	like    Peeker // codecLike: where to take it from
}

const (
	arrivalRoom = 2 * MaxRun
	arrivalFull = 256 << 10 // bytes after which no more run is taken in
	arrivalRuns = 64
)

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
		free <- &arrival{buf: make([]byte, arrivalRoom)}
	}
	work := make(chan *arrival, depth)
	var wait, flying sync.WaitGroup
	for range workers {
		wait.Go(func() {
			buf := make([]byte, MaxRun)
			for a := range work {
				for i := range a.runs {
					if ctx.Err() != nil {
						break
					}
					if err := a.runs[i].put(buf); err != nil {
						fail(err)
					}
				}
				flying.Done()
				free <- a
			}
		})
	}
	t := taker{r: reader{r: r}, place: place, free: free, work: work, flying: &flying, done: map[uint32]Place{}}
	totals, err := t.take(ctx)
	close(work)
	wait.Wait()
	if cause := context.Cause(ctx); cause != nil && (err == nil || errors.Is(err, ctx.Err())) {
		err = fmt.Errorf("receiving memory: %w", cause)
	}
	return totals, err
}

// taker reads the stream and hands the runs out.
type taker struct {
	r      reader
	place  func(Kind, uint32) (Place, error)
	free   <-chan *arrival
	work   chan<- *arrival
	flying *sync.WaitGroup // arrivals handed out and not yet in their places

	now   *arrival         // being filled
	done  map[uint32]Place // processes of which all runs were handed out
	whole uint32           // and up to this one are in their places
}

func (t *taker) take(ctx context.Context) (Totals, error) {
	var totals Totals
	var last run
	var where Place
	for {
		if err := t.fresh(ctx); err != nil {
			return totals, err
		}
		next, payload, err := t.r.next(t.now.buf[t.now.used:][:MaxRun])
		if err == io.EOF {
			t.hand()
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
		one := landing{run: next, place: where, payload: payload}
		switch next.codec {
		case codecZero:
			totals.Zeros += uint64(next.length)
		case codecLike:
			totals.Like += uint64(next.length)
			if one.like, err = t.other(ctx, binary.LittleEndian.Uint32(payload)); err != nil {
				return totals, err
			}
		}
		t.now.runs = append(t.now.runs, one)
		t.now.used += len(payload)
		if t.now.used >= arrivalFull || len(t.now.runs) == arrivalRuns {
			t.hand()
		}
	}
}

// fresh sees to it that there is an arrival to be filled.
func (t *taker) fresh(ctx context.Context) error {
	if t.now != nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case t.now = <-t.free:
		t.now.runs, t.now.used = t.now.runs[:0], 0
		return nil
	}
}

// hand gives the arrival to a worker.
func (t *taker) hand() {
	t.flying.Add(1)
	t.work <- t.now
	t.now = nil
}

// other is an earlier process, when all of its memory is there.
func (t *taker) other(ctx context.Context, id uint32) (Peeker, error) {
	p, ok := t.done[id].(Peeker)
	if !ok {
		return nil, damaged("a run is said to be like process %d, which has not come before", id)
	}
	if id > t.whole {
		t.hand()
		t.flying.Wait()
		for have := range t.done {
			t.whole = max(t.whole, have)
		}
		return p, t.fresh(ctx) // the payload was all that lay in the old one, and is read
	}
	return p, nil
}

// put checks a run and writes it.
func (l *landing) put(buf []byte) error {
	switch l.codec {
	case codecZero:
		return l.place.Zero(l.addr, uint64(l.length))
	case codecLike:
		if err := l.like.Read(buf[:l.length], l.addr); err != nil {
			return err
		}
		return l.place.Write(buf[:l.length], l.addr)
	}
	from, err := l.unpack(l.payload, buf)
	if err != nil {
		return err
	}
	return l.place.Write(from, l.addr)
}
