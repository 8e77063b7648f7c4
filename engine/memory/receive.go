//go:build linux && amd64

package memory

import (
	"context"
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
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			buf := make([]byte, MaxRun)
			for a := range work {
				if ctx.Err() == nil {
					if err := a.put(buf); err != nil {
						fail(err)
					}
				}
				free <- a
			}
		})
	}
	totals, err := take(ctx, r, place, free, work)
	close(work)
	wait.Wait()
	if cause := context.Cause(ctx); cause != nil && (err == nil || errors.Is(err, ctx.Err())) {
		err = fmt.Errorf("receiving memory: %w", cause)
	}
	return totals, err
}

// take reads the stream.
func take(ctx context.Context, r io.Reader, place func(Kind, uint32) (Place, error), free <-chan *arrival, work chan<- *arrival) (Totals, error) {
	var totals Totals
	var last run
	var where Place
	d := reader{r: r}
	for {
		var a *arrival
		select {
		case <-ctx.Done():
			return totals, ctx.Err()
		case a = <-free:
		}
		next, payload, err := d.next(a.buf)
		if err == io.EOF {
			return totals, nil
		}
		if err != nil {
			return totals, err
		}
		if where == nil || next.kind != last.kind || next.id != last.id {
			if where, err = place(next.kind, next.id); err != nil {
				return totals, fmt.Errorf("receiving memory of %v %d: %w", next.kind, next.id, err)
			}
		}
		last = next
		totals.Runs++
		totals.Bytes += uint64(next.length)
		totals.Stored += uint64(next.stored)
		if next.codec == codecZero {
			totals.Zeros += uint64(next.length)
		}
		a.run, a.place, a.payload = next, where, payload
		work <- a
	}
}

// put checks a run and writes it.
func (a *arrival) put(buf []byte) error {
	if a.run.codec == codecZero {
		return a.place.Zero(a.run.addr, uint64(a.run.length))
	}
	from, err := a.run.unpack(a.payload, buf)
	if err != nil {
		return err
	}
	return a.place.Write(from, a.run.addr)
}
