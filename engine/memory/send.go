//go:build linux && amd64

package memory

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hither/engine/kernel"
)

// Source is one object to send: the memory of a process, or a piece of shared memory.
type Source struct {
	Kind   Kind
	ID     uint32
	Ranges []Range // ascending, in run addresses

	// Like is a process that comes before this one in the stream and may have the same
	// bytes at the same addresses, as processes of one program do. Both stand still.
	Like *Source

	// Either the host pid of a process to read from, where run address a lies at a+Base ...
	Pid  int
	Base uint64
	// ... or, with Pid 0, a file to read from; Ranges nil: all its data.
	File *os.File
	Size uint64 // of the file
}

// Options of Send. The zero value is right for stopped processes.
type Options struct {
	Workers  int          // 0: a few
	Plain    bool         // do not compress
	Live     bool         // the processes run: leave out memory that has gone meanwhile, and tell of processes that have
	Progress func(Totals) // called now and then, on the caller's goroutine
}

// Totals is what a stream carried.
type Totals struct {
	Runs   uint64
	Read   uint64 // memory that was looked at, of a sender: how far it is
	Bytes  uint64 // memory that runs stand for
	Stored uint64 // payload on the wire
	Like   uint64 // memory that is told of as the same as an earlier process's
	Zeros  uint64 // memory read and left out, or sent without payload, because it is zero
	Gone   uint64 // memory that was not there any more (Options.Live)

	// Lost are processes (Source.ID) that ended or began to hide themselves
	// (Options.Live): what was sent of them is worth nothing.
	Lost []uint32
}

// A chunk is read in pieces that lie apart by a gap, so that each run's header
// fits right in front of it: in the gap, or in the page of zeros before it, which
// is not sent. So memory is sent from where it was read to.
//
// Small chunks: the first is on its way, and is being placed, while the next is
// packed. An app of a few megabytes stands still for less.
const (
	gap       = 64
	maxPieces = 128
	chunkSize = 256 << 10
	chunkRoom = chunkSize + (maxPieces+1)*gap
	packRoom  = chunkSize + 64<<10
)

type piece struct {
	addr uint64
	n    int
	keep bool // KeepZeros
	like bool // the source's Like has pages of its own there
	at   int  // in chunk.buf
}

type chunk struct {
	source  *Source
	pieces  []piece
	buf     []byte
	like    []byte // what the source's Like has, as in buf
	packed  []byte
	records [][]byte
	totals  Totals
	lost    bool
	err     error
	done    chan struct{}
}

// Send writes the sources as one stream, and its end.
func Send(ctx context.Context, w io.Writer, sources []Source, options Options) (Totals, error) {
	sources, err := arrange(sources)
	if err != nil {
		return Totals{}, err
	}
	if options.Workers <= 0 {
		options.Workers = min(4, runtime.GOMAXPROCS(0))
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &sender{options: options}
	depth := options.Workers + 2
	s.free = make(chan *chunk, depth)
	for range depth {
		s.free <- &chunk{buf: make([]byte, chunkRoom)}
	}
	work := make(chan *chunk, depth)
	ordered := make(chan *chunk, depth)
	var workers sync.WaitGroup
	workers.Go(func() { s.plan(ctx, sources, work, ordered) })
	for range options.Workers {
		workers.Go(func() {
			for c := range work {
				c.err = s.fill(c)
				close(c.done)
			}
		})
	}
	totals, err := s.write(ctx, w, ordered)
	cancel()
	workers.Wait()
	return totals, err
}

type sender struct {
	options Options
	free    chan *chunk
	rest    atomic.Int32 // chunks not to be compressed
	penalty atomic.Int32 // how many that will be next time
}

// arrange sorts the sources as the stream wants them and checks the ranges.
func arrange(sources []Source) ([]Source, error) {
	sources = slices.Clone(sources)
	slices.SortStableFunc(sources, func(a, b Source) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	for i := range sources {
		s := &sources[i]
		if s.Kind != Process && s.Kind != Shared {
			return nil, fmt.Errorf("sending memory: unknown %v", s.Kind)
		}
		if i > 0 && sources[i-1].Kind == s.Kind && sources[i-1].ID == s.ID {
			return nil, fmt.Errorf("sending memory: %v %d comes twice", s.Kind, s.ID)
		}
		if s.File != nil && s.Pid == 0 && s.Ranges == nil {
			all, err := Data(int(s.File.Fd()), s.Size)
			if err != nil {
				return nil, err
			}
			s.Ranges = all
		}
		last := uint64(0)
		for _, r := range s.Ranges {
			if r.Start < last || r.End <= r.Start {
				return nil, fmt.Errorf("sending memory: range %#x-%#x of %v %d is out of order", r.Start, r.End, s.Kind, s.ID)
			}
			last = r.End
		}
		if s.Like != nil && (s.Kind != Process || s.Like.Kind != Process || s.Like.ID >= s.ID) {
			return nil, fmt.Errorf("sending memory: %v %d is said to be like %v %d", s.Kind, s.ID, s.Like.Kind, s.Like.ID)
		}
	}
	return sources, nil
}

// part is a range, or a part of one that the source's Like has pages of its own in.
type part struct {
	Range
	like bool
}

// alike cuts a source's ranges where its Like's begin and end.
func alike(s *Source) []part {
	out := make([]part, 0, len(s.Ranges))
	var other []Range
	if s.Like != nil && s.Pid != 0 && s.Like.Pid != 0 {
		other = s.Like.Ranges
	}
	for _, r := range s.Ranges {
		at := r.Start
		for _, o := range Within(other, r.Start, r.End) {
			if at < o.Start {
				out = append(out, part{Range{at, o.Start, r.KeepZeros}, false})
			}
			out = append(out, part{Range{o.Start, o.End, r.KeepZeros}, true})
			at = o.End
		}
		if at < r.End {
			out = append(out, part{Range{at, r.End, r.KeepZeros}, false})
		}
	}
	return out
}

// plan cuts the ranges into chunks.
func (s *sender) plan(ctx context.Context, sources []Source, work, ordered chan<- *chunk) {
	defer close(work)
	defer close(ordered)
	hand := func(c *chunk) bool {
		c.done = make(chan struct{})
		select {
		case <-ctx.Done():
			return false
		case work <- c:
		}
		ordered <- c // has room for every chunk there is
		return true
	}
	for i := range sources {
		var c *chunk
		room := 0
		for _, r := range alike(&sources[i]) {
			for at := r.Start; at < r.End; {
				if c == nil {
					select {
					case <-ctx.Done():
						return
					case c = <-s.free:
					}
					c.source, c.pieces, room = &sources[i], c.pieces[:0], chunkSize
				}
				n := int(min(r.End-at, uint64(room)))
				c.pieces = append(c.pieces, piece{addr: at, n: n, keep: r.KeepZeros, like: r.like})
				at += uint64(n)
				room -= n
				if room == 0 || len(c.pieces) == maxPieces {
					if !hand(c) {
						return
					}
					c = nil
				}
			}
		}
		if c != nil && !hand(c) {
			return
		}
	}
}

// probe is how many chunks are looked at before it is decided what holds back what.
const probe = 32

// write sends the chunks in order. When the packing holds back the network, it
// lets the next chunks go uncompressed; but not where packing at least halves
// them, for bytes on the network cost both hosts more than packing them does.
func (s *sender) write(ctx context.Context, w io.Writer, ordered <-chan *chunk) (Totals, error) {
	out := bufio.NewWriterSize(w, 64<<10)
	var totals Totals
	var waited, wrote time.Duration
	var before Totals
	n := 0
	for {
		begin := time.Now()
		var c *chunk
		var open bool
		select {
		case <-ctx.Done():
			return totals, fmt.Errorf("sending memory: %w", context.Cause(ctx))
		case c, open = <-ordered:
		}
		if !open {
			if ctx.Err() != nil {
				return totals, fmt.Errorf("sending memory: %w", context.Cause(ctx))
			}
			break
		}
		<-c.done
		if c.err != nil {
			return totals, c.err
		}
		ready := time.Now()
		for _, record := range c.records {
			if _, err := out.Write(record); err != nil {
				return totals, fmt.Errorf("sending memory: %w", err)
			}
		}
		totals.add(&c.totals)
		if c.lost && !slices.Contains(totals.Lost, c.source.ID) {
			totals.Lost = append(totals.Lost, c.source.ID)
		}
		s.free <- c
		waited, wrote = waited+ready.Sub(begin), wrote+time.Since(ready)
		if n++; n%probe == 0 {
			little := 2*(totals.Stored-before.Stored) > totals.Bytes-before.Bytes
			if waited > 2*wrote && little {
				s.rest.Store(4 * probe)
			}
			waited, wrote, before = 0, 0, totals
			if s.options.Progress != nil {
				s.options.Progress(totals)
			}
		}
	}
	last := make([]byte, headerSize+endPayload)
	binary.LittleEndian.PutUint64(last[headerSize:], totals.Bytes)
	(&run{kind: end, addr: totals.Runs}).seal(last)
	if _, err := out.Write(last); err != nil {
		return totals, fmt.Errorf("sending memory: %w", err)
	}
	if err := out.Flush(); err != nil {
		return totals, fmt.Errorf("sending memory: %w", err)
	}
	if s.options.Progress != nil {
		s.options.Progress(totals)
	}
	return totals, nil
}

func (t *Totals) add(o *Totals) {
	t.Runs += o.Runs
	t.Read += o.Read
	t.Bytes += o.Bytes
	t.Stored += o.Stored
	t.Like += o.Like
	t.Zeros += o.Zeros
	t.Gone += o.Gone
}

// fill reads a chunk and packs it.
func (s *sender) fill(c *chunk) error {
	at := gap
	for i := range c.pieces {
		c.pieces[i].at = at
		at += c.pieces[i].n + gap
	}
	c.records, c.totals, c.lost = c.records[:0], Totals{}, false
	if err := s.read(c); err != nil {
		return err
	}
	if c.source.Like != nil {
		if c.like == nil {
			c.like = make([]byte, chunkRoom)
		}
		s.readLike(c)
	}
	s.pack(c)
	return nil
}

func (s *sender) read(c *chunk) error {
	src := c.source
	if src.Pid != 0 {
		return s.readProcess(c)
	}
	for _, p := range c.pieces {
		n, err := src.File.ReadAt(c.buf[p.at:p.at+p.n], int64(p.addr))
		if err == io.EOF {
			clear(c.buf[p.at+n : p.at+p.n]) // cut short meanwhile
		} else if err != nil {
			return fmt.Errorf("reading shared memory %d: %w", src.ID, err)
		}
	}
	return nil
}

// readAlone reads what process_vm_readv does not: a page at a time, by
// /proc/PID/mem, where memory is PROT_NONE or has gone.
func (s *sender) readAlone(c *chunk, p *piece) error {
	pid, base := c.source.Pid, c.source.Base
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	switch {
	case err == nil:
		defer mem.Close()
	case s.options.Live:
		clear(c.buf[p.at : p.at+p.n])
		c.totals.Gone += uint64(p.n)
		c.lost = true
		return nil
	default:
		return fmt.Errorf("opening the memory of process %d: %w", pid, err)
	}
	for done := 0; done < p.n; {
		part := c.buf[p.at+done : p.at+p.n]
		at := p.addr + base + uint64(done)
		if n, err := kernel.ReadProcess(pid, part, at); err == nil && n > 0 {
			done += n
			continue
		}
		part = part[:min(len(part), PageSize-int(at%PageSize))]
		if _, err := mem.ReadAt(part, int64(at)); err != nil {
			if !s.options.Live {
				return fmt.Errorf("reading %d bytes at %#x of process %d: %w", len(part), at, pid, err)
			}
			// Whatever comes to lie there is told of as new.
			clear(part)
			c.totals.Gone += uint64(len(part))
		}
		done += len(part)
	}
	return nil
}
