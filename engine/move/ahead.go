package move

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"hither/engine/checkpoint"
	"hither/engine/handover"
	"hither/engine/memory"
	"hither/engine/tracee"
)

// Memory that is sent while the app runs. The stream is, for each round, a block (what
// is void, what is new: round) and a stream of package memory. It ends after a round.
//
// The rounds go on while each has much less to send than the one before. An app that
// writes as fast as the link carries is frozen then all the same.

const (
	// aheadFrom is the memory from which on it pays to send ahead: less is over there
	// before all that is needed to do so has been done.
	aheadFrom = 16 << 20
	// aheadEach is that of one process: many small ones are made faster all at once.
	aheadEach = 4 << 20

	roundsMost  = 12
	roundSmall  = 1 << 20          // what takes no time any more
	roundsTime  = 60 * time.Second // after which no other round begins
	roundShrink = 0.7              // of the one before, or it is the last

	maxRound  = 16 << 20 // of a block
	aheadMore = 64 << 20 // by which the app may grow meanwhile
)

// round is what precedes the memory of one round.
type round struct {
	Drop  []int                     `json:"drop,omitempty"`
	Areas map[int][]checkpoint.Area `json:"areas,omitempty"`
}

// threshold is from which memory on an app's is sent ahead, and a process's; not ok:
// never. Tests set it: HITHER_PRECOPY is "off", or a number of bytes.
func threshold() (app, each uint64, ok bool) {
	switch text := os.Getenv("HITHER_PRECOPY"); text {
	case "":
		return aheadFrom, aheadEach, true
	case "off":
		return 0, 0, false
	default:
		n, err := strconv.ParseUint(text, 10, 63)
		return n, min(n, aheadEach), err == nil
	}
}

func decodeRound(text []byte) (r round, err error) {
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("reading what comes next: %w", err)
	}
	return r, nil
}

// budget is how much memory this host takes ahead of an app that says it has so much.
func budget(memory uint64) uint64 {
	if _, _, ok := threshold(); !ok {
		return 0
	}
	most := memory + memory/4 + aheadMore
	if free := memoryFree(); free > 0 {
		most = min(most, free/8*7)
	}
	return most
}

// PreCopy see handover.Source.
func (s *Source) PreCopy(ctx context.Context, w io.Writer, n int, report handover.Report) (handover.RoundTotals, error) {
	var none handover.RoundTotals
	if n == 1 {
		app, each, ok := threshold()
		if !ok || s.budget == 0 {
			return none, nil
		}
		ahead := checkpoint.NewAhead(s.cap.InitPid())
		ahead.From, ahead.Budget = each, s.budget
		if have, err := ahead.Anonymous(); err != nil || have < app {
			return none, err
		}
		s.ahead, s.rounds = ahead, rounds{began: time.Now()}
	}
	t := tracee.New()
	next, err := s.ahead.Round(t)
	if err := errors.Join(err, t.Close()); err != nil {
		return none, err
	}
	if n == 1 && len(next.Sources) == 0 {
		return none, s.closeAhead()
	}
	text, err := json.Marshal(round{Drop: next.Drop, Areas: next.Areas})
	if err != nil {
		return none, err
	}
	if err := writeBlock(w, text); err != nil {
		return none, fmt.Errorf("sending memory ahead: %w", err)
	}
	total := uint64(0)
	for _, m := range next.Sources {
		total += memory.Size(m.Ranges)
	}
	totals, err := memory.Send(ctx, w, next.Sources, memory.Options{Live: true,
		Progress: func(t memory.Totals) { report(t.Read, total) }})
	s.ahead.Lost(totals.Lost)
	return handover.RoundTotals{Bytes: totals.Bytes, Again: err == nil && s.rounds.again(n, total)}, err
}

// rounds decides when to stop.
type rounds struct {
	began time.Time
	last  uint64 // bytes of the round before
}

// again says whether another round pays, after round n of so many bytes.
func (r *rounds) again(n int, bytes uint64) bool {
	before := r.last
	r.last = bytes
	switch {
	case n == 1:
		return true
	case bytes <= roundSmall, n >= roundsMost, time.Since(r.began) > roundsTime:
		return false
	}
	return float64(bytes) < roundShrink*float64(before)
}

func (s *Source) closeAhead() error {
	if s.ahead == nil {
		return nil
	}
	err := s.ahead.Close()
	s.ahead = nil
	return err
}

// PreCopy see handover.Destination.
func (d *Destination) PreCopy(ctx context.Context, r io.Reader, report handover.Report) error {
	in := bufio.NewReaderSize(r, 1<<20)
	done := uint64(0)
	for {
		if _, err := in.Peek(1); err == io.EOF {
			return nil
		}
		text, err := readBlock(in, maxRound)
		if err != nil {
			return fmt.Errorf("taking memory ahead: %w", err)
		}
		next, err := decodeRound(text)
		if err != nil {
			return fmt.Errorf("taking memory ahead: %w", err)
		}
		err = d.tracer.Do(func() error { return d.builder.Stage(d.budget, next.Drop, next.Areas) })
		if err != nil {
			return fmt.Errorf("taking memory ahead: %w", err)
		}
		totals, err := memory.Receive(ctx, in, d.builder.StagePlace)
		if err != nil {
			return fmt.Errorf("taking memory ahead: %w", err)
		}
		done += totals.Bytes
		report(done, 0)
	}
}

// anew makes the empty capsule anew, and keeps the memory that has come ahead.
func (d *Destination) anew(ctx context.Context) error {
	kept, err := d.builder.Keep()
	if err != nil {
		return err
	}
	defer func() {
		if err := kept.Close(); err != nil {
			log.Printf("freeing memory that came ahead: %v", err)
		}
	}()
	if err := d.stop(); err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	return d.tracer.Do(func() error { return d.builder.Return(kept) })
}
