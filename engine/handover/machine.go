package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"
)

// The move. Left the source, right the destination; what stands in [brackets]
// is on disk before the arrow below it leaves.
//
//	        app runs here
//	          |
//	        offer ------- offer ------------> offer
//	          | <-------- answer ------------  |  a problem: the end, the app stays
//	        prepare ----- prepare, files ---> prepare
//	          | <-------- prepared ----------  |  the capsule stands, empty
//	        precopy ----- precopy, memory --> precopy
//	          |                                |
//	        freeze    the app stands still: the downtime begins
//	          |                                |
//	        memory ------ image, memory ----> restore
//	        ready                              |  the copy is whole, has not run
//	        [holding]                        [ready]
//	          | <-------- ready -------------  |
//	        hold      SIGSTOP pending          |
//	        [committed]                        |
//	........................................................... the point of no return
//	        commit ------ commit -----------> resume
//	          |                                |  the copy runs: the downtime ends
//	          |                              [running]
//	          | <-------- running -----------  |
//	        [moved]                          settle
//	        release   our copy is killed       |  what it was still given comes along
//	          | --------- released ---------> [ forgotten ]
//	        settle <----- settled ----------   |
//	        [ forgotten ]                    app runs here
//
// Above the dotted line, whatever fails, on either side (an error, a cancel, a
// lost link, a dead daemon, a full disk, a deadline), the source thaws and the
// app runs on there; the destination drops its copy at once before [ready],
// and from [ready] on only when the source says that it stayed: by cancel on
// this link, or later by its verdict when asked. A destination's daemon that
// dies takes its copy with it.
//
// Below the line nothing is cancelled. The source keeps its held copy until
// the destination says running (then it is killed) or dead (there is no copy
// and never will be one: then [reverted], and it is thawed). A link that is
// lost here makes the move undecided; Moves.Resolve says commit again, or asks,
// until one of the two is known.
type sender struct {
	m      *Moves
	p      *party
	src    Source
	e      *entry
	offer  *Offer
	times  Timeouts
	begun  time.Time
	frozen time.Time
	r      *Result
}

// SendOptions are what a move needs to know beyond its two sides.
type SendOptions struct {
	App      string // what people call it, until Survey says so
	PeerName string
	Check    bool           // only ask
	Progress func(Progress) // told from any goroutine; must be quick
	relay    bool           // the destination wants to see progress too
	notes    []string       // for the destination
	move     string
}

// Send moves an app to the host at the other end of the link, and closes the
// link. A cancel of ctx before commit leaves the app here.
func (m *Moves) Send(ctx context.Context, link Link, src Source, opt SendOptions) *Result {
	p := newParty(ctx, link, m.Times)
	defer p.end()
	return m.sendOver(p, src, opt)
}

func (m *Moves) sendOver(p *party, src Source, opt SendOptions) *Result {
	s := &sender{m: m, p: p, src: src, times: m.Times.filled(), begun: time.Now(),
		r: &Result{App: opt.App, From: m.Name, To: opt.PeerName}}
	p.meter = &meter{tell: func(pr Progress) {
		if opt.Progress != nil {
			opt.Progress(pr)
		}
		if opt.relay && pr.State.Cancellable() {
			p.send(&message{Kind: kindProgress, Progress: &pr}) // only news
		}
	}}
	p.setProgress(func(pr Progress) { p.meter.note(pr.Note) })
	answer, err := s.ask(opt)
	if err == nil && opt.Check {
		s.r.Outcome, s.r.Notes = Stayed, answer.Notes
		s.total()
		return s.r
	}
	if err == nil {
		err = s.carry(answer)
	}
	if err == nil {
		err = s.decide()
	}
	if err != nil {
		return s.stay(err)
	}
	s.commit()
	return s.r
}

func (s *sender) enter(st State) error {
	s.p.meter.enter(st, s.r.Rounds)
	if err := s.m.gate(s.p.ctx, st); err != nil {
		return err
	}
	if s.p.ctx.Err() != nil {
		return context.Cause(s.p.ctx)
	}
	return nil
}

// ask is offer and answer.
func (s *sender) ask(opt SendOptions) (*Answer, error) {
	if err := s.enter(SourceOffer); err != nil {
		return nil, err
	}
	offer, err := s.src.Survey(s.p.ctx)
	if err != nil {
		return nil, err
	}
	if offer.Move = opt.move; offer.Move == "" {
		offer.Move = NewMoveID()
	}
	offer.From, offer.Check, offer.Notes = s.m.Name, opt.Check, opt.notes
	s.offer, s.r.App = offer, offer.Name
	s.p.meter.about(offer)
	if !opt.Check {
		if s.e, err = s.m.begin(SideSource, offer, s.p.peer, opt.PeerName); err != nil {
			return nil, err
		}
		s.e.source = s.src
	}
	if err := s.p.send(&message{Kind: kindOffer, Move: offer.Move, Offer: offer}); err != nil {
		return nil, err
	}
	a, err := s.p.patiently(s.p.ctx, s.times.Answer, "waiting for the answer", kindAnswer)
	if err != nil {
		return nil, err
	}
	if s.r.To == "" {
		s.r.To = a.Answer.Host
	}
	if len(a.Answer.Problems) > 0 {
		return nil, &Refusal{a.Answer.Problems}
	}
	return a.Answer, nil
}

// carry is prepare, precopy, freeze, memory and ready.
func (s *sender) carry(answer *Answer) error {
	if err := s.enter(SourcePrepare); err != nil {
		return err
	}
	if err := s.p.send(&message{Kind: kindPrepare}); err != nil {
		return err
	}
	err := s.p.sendStream(StreamFiles, s.times.Idle, "sending files", func(ctx context.Context, w io.Writer, report Report) error {
		t, err := s.src.SendFiles(ctx, answer, w, report)
		s.r.FilesSent, s.r.BytesFiles = t.Files, t.Bytes
		return err
	})
	if err != nil {
		return err
	}
	if _, err := s.p.within(s.p.ctx, s.times.Prepared, "waiting for the capsule there", kindPrepared); err != nil {
		return err
	}

	if err := s.enter(SourcePreCopy); err != nil {
		return err
	}
	if err := s.p.send(&message{Kind: kindPreCopy}); err != nil {
		return err
	}
	err = s.p.sendStream(StreamPreCopy, s.times.Idle, "sending memory ahead", func(ctx context.Context, w io.Writer, report Report) error {
		for again := true; again && s.r.Rounds < maxRounds; {
			s.r.Rounds++
			s.p.meter.enter(SourcePreCopy, s.r.Rounds)
			t, err := s.src.PreCopy(ctx, w, s.r.Rounds, report)
			if err != nil {
				return err
			}
			s.r.BytesMemory += t.Bytes
			if again = t.Again; !again && t.Bytes == 0 {
				s.r.Rounds-- // nothing was sent
			}
		}
		return nil
	})
	if err != nil {
		return err
	}

	if err := s.enter(SourceFreeze); err != nil {
		return err
	}
	s.frozen = time.Now()
	f, err := s.src.Freeze(s.p.ctx)
	if err != nil {
		return &ownError{doing("freezing the app", err)}
	}
	if !f.Since.IsZero() {
		s.frozen = f.Since
	}
	s.r.FreezeMS = ms(time.Since(s.frozen))
	s.e.mu.Lock()
	s.e.rec.Stopped, s.e.rec.Pid, s.e.rec.Start = f.Stopped, f.Pid, f.Start
	s.e.mu.Unlock()

	if err := s.enter(SourceMemory); err != nil {
		return err
	}
	if err := s.p.send(&message{Kind: kindFrozen}); err != nil {
		return err
	}
	err = s.p.sendStream(StreamImage, s.times.Idle, "sending the image", func(_ context.Context, w io.Writer, _ Report) error {
		_, err := w.Write(f.Image)
		return err
	})
	if err != nil {
		return err
	}
	err = s.p.sendStream(StreamMemory, s.times.Idle, "sending memory", func(ctx context.Context, w io.Writer, report Report) error {
		t, err := s.src.SendMemory(ctx, w, report)
		s.r.BytesMemory += t.Bytes
		return err
	})
	if err != nil {
		return err
	}

	if err := s.enter(SourceReady); err != nil {
		return err
	}
	// Written while the destination works; needed from Hold on.
	s.e.mu.Lock()
	err = s.m.write(s.e, Holding)
	s.e.mu.Unlock()
	if err != nil {
		return err
	}
	ready, err := s.p.within(s.p.ctx, s.times.Ready, "waiting for the copy there", kindReady)
	if err != nil {
		return err
	}
	s.r.RestoreMS = ms(time.Duration(ready.Restore))
	return nil
}

// decide is hold: from its end on, the move can no longer be taken back here.
func (s *sender) decide() error {
	if err := s.enter(SourceHold); err != nil {
		return err
	}
	if err := s.src.Hold(); err != nil {
		return doing("holding the app", err)
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.p.ctx.Err() != nil { // the last moment for a cancel
		return context.Cause(s.p.ctx)
	}
	if err := s.m.write(s.e, Committed); err != nil {
		// It may be on disk all the same. The app must not run on while it is:
		// were the daemon to die then, the next one would give the app away.
		if err := s.m.write(s.e, Holding); err != nil {
			log.Printf("move %s: %v", s.e.id.Move, err)
		}
		return err
	}
	s.e.phase = undecided
	return nil
}

// stay ends a move before commit: the app runs on here.
func (s *sender) stay(err error) *Result {
	if err := s.src.Thaw(); err != nil {
		log.Printf("letting %s run on: %v", s.r.App, err)
		s.r.Notes = append(s.r.Notes, fmt.Sprintf("letting it run on: %v", err))
	}
	// The destination clears up before it speaks.
	err = s.p.why(err, 10*s.p.cause)
	s.r.Outcome, s.r.Reason = Stayed, reason(err)
	var refused *Refusal
	if errors.As(err, &refused) {
		s.r.Problems = refused.Problems
	}
	s.p.send(&message{Kind: kindCancel, Reason: s.r.Reason}) // if it is lost, the destination will ask
	if s.e != nil {
		s.e.mu.Lock()
		if err := s.m.settle(s.e); err != nil {
			log.Printf("move %s: %v", s.e.id.Move, err)
		}
		s.e.mu.Unlock()
	}
	s.total()
	return s.r
}

// commit tells the destination, and acts on what it says.
func (s *sender) commit() {
	ctx := context.WithoutCancel(s.p.ctx)
	s.p.meter.enter(SourceCommit, s.r.Rounds)
	err := s.m.gate(ctx, SourceCommit)
	if err == nil {
		err = s.p.send(&message{Kind: kindCommit, Move: s.offer.Move})
	}
	var said *message
	for err == nil {
		said, err = s.p.within(ctx, s.times.Running, "waiting for the destination to run it", kindRunning, kindDead, kindCancel)
		if err == nil && said.Kind != kindCancel { // a cancel comes too late
			break
		}
	}
	if err != nil {
		s.lost(err)
		return
	}
	if said.Kind == kindDead {
		s.r.Outcome, s.r.Reason = Stayed, said.Reason
		if err := s.m.reverted(s.e, said.Reason); err != nil {
			s.r.Notes = append(s.r.Notes, err.Error())
		}
		s.total()
		return
	}
	down := time.Since(s.frozen)
	if said.Since > 0 {
		down -= time.Duration(said.Since)
	}
	s.r.Outcome, s.r.DowntimeMS = Moved, ms(down)
	s.p.meter.enter(SourceRelease, s.r.Rounds)
	if err := s.m.gate(ctx, SourceRelease); err != nil {
		s.r.Notes = append(s.r.Notes, err.Error())
	}
	if err := s.m.moved(s.e); err != nil {
		s.r.Notes = append(s.r.Notes, err.Error())
		s.total()
		return
	}
	s.total()
	s.p.meter.enter(SourceSettle, s.r.Rounds)
	if err := s.m.gate(ctx, SourceSettle); err != nil {
		s.r.Notes = append(s.r.Notes, err.Error())
	}
	if s.p.send(s.m.released(s.e, s.r)) == nil {
		if said, err := s.p.within(ctx, s.times.Settled, "waiting for its portals", kindSettled); err == nil {
			s.r.Notes = append(s.r.Notes, said.Notes...)
		}
	}
	s.total()
}

// lost ends a move whose answer has not come: it is undecided, unless another
// link brings the answer soon.
func (s *sender) lost(err error) {
	s.e.mu.Lock()
	s.e.reason = reason(err)
	s.e.mu.Unlock()
	s.m.changed()
	s.r.Outcome, s.r.Reason = Undecided, reason(err)
	select {
	case <-s.e.taken:
		s.e.mu.Lock()
		if s.r.Outcome = Stayed; s.e.rec.State == Gone {
			s.r.Outcome = Moved
		}
		s.e.mu.Unlock()
	case <-time.After(s.times.Grace):
	}
	s.total()
}

func (s *sender) total() {
	s.r.TotalMS = ms(time.Since(s.begun))
	s.r.BytesSent = s.p.meter.total()
}

// maxRounds bounds pre-copy, whatever the source thinks pays.
const maxRounds = 30

// receiver is the right side of the drawing.
type receiver struct {
	m     *Moves
	p     *party
	dst   Destination
	e     *entry
	offer *Offer
	times Timeouts
	notes []string // for the source
	r     *Result
}

func (r *receiver) enter(st State) error {
	if err := r.m.gate(r.p.ctx, st); err != nil {
		return err
	}
	if r.p.ctx.Err() != nil {
		return context.Cause(r.p.ctx)
	}
	return nil
}

// receive takes the app of an offer that has come over the party's link.
func (m *Moves) receive(p *party, offer *Offer, dst Destination, peerName string, notes []string) *Result {
	r := &receiver{m: m, p: p, dst: dst, offer: offer, times: m.Times.filled(), notes: notes,
		r: &Result{App: offer.Name, From: offer.From, To: m.Name}}
	done, err := m.turn(p.ctx, offer)
	defer done()
	restore, err := r.build(peerName, err)
	if r.e == nil && err == nil { // only a question, and it is answered
		r.r.Outcome = Stayed
		return r.r
	}
	if err == nil {
		err = r.ready(restore)
	}
	if err != nil {
		r.abandon(err)
		return r.r
	}
	r.await()
	return r.r
}

// build is offer, prepare, precopy and restore, unless the app cannot come just now.
// It returns the time that restore took after the last byte had come.
func (r *receiver) build(peerName string, err error) (time.Duration, error) {
	if err := r.enter(DestinationOffer); err != nil {
		return 0, err
	}
	var answer *Answer
	if err == nil {
		answer, err = r.dst.Consider(r.p.ctx, r.offer)
	}
	if err == nil && len(answer.Problems) == 0 && !r.offer.Check {
		if r.e, err = r.m.begin(SideDestination, r.offer, r.p.peer, peerName); err == nil {
			r.e.dest = r.dst
		}
	}
	if err != nil {
		// Of what was broken off, the cause is told.
		answer = &Answer{Problems: []Problem{{What: reason(r.p.why(&ownError{err}, 0)), Side: r.m.Name}}}
	}
	answer.Host = r.m.Name
	answer.Notes = append(r.notes, answer.Notes...)
	if r.offer.Check { // what it has of the files is for nobody but who sends them
		answer.Files, answer.WantFiles, answer.WantBytes = nil, 0, 0
	}
	if err := r.p.send(&message{Kind: kindAnswer, Answer: answer}); err != nil {
		return 0, err
	}
	if r.offer.Check {
		r.r.Problems, r.r.Notes = answer.Problems, append(answer.Notes, r.offer.Notes...)
		return 0, nil
	}
	if len(answer.Problems) > 0 {
		return 0, &Refusal{answer.Problems}
	}

	if _, err := r.p.within(r.p.ctx, r.times.Answer, "waiting for files", kindPrepare); err != nil {
		return 0, err
	}
	if err := r.enter(DestinationPrepare); err != nil {
		return 0, err
	}
	err = r.p.receiveStream(StreamFiles, r.times.Idle, "preparing the capsule", r.dst.Prepare)
	if err != nil {
		return 0, err
	}
	if err := r.p.send(&message{Kind: kindPrepared}); err != nil {
		return 0, err
	}

	if _, err := r.p.within(r.p.ctx, r.times.Answer, "waiting for memory", kindPreCopy); err != nil {
		return 0, err
	}
	if err := r.enter(DestinationPreCopy); err != nil {
		return 0, err
	}
	if err := r.p.receiveStream(StreamPreCopy, r.times.Idle, "taking memory ahead", r.dst.PreCopy); err != nil {
		return 0, err
	}
	if _, err := r.p.within(r.p.ctx, r.times.Answer, "waiting for the image", kindFrozen); err != nil {
		return 0, err
	}

	if err := r.enter(DestinationRestore); err != nil {
		return 0, err
	}
	var img []byte
	err = r.p.receiveStream(StreamImage, r.times.Idle, "taking the image", func(_ context.Context, rd io.Reader, _ Report) (err error) {
		if img, err = io.ReadAll(io.LimitReader(rd, MaxImage+1)); err == nil && len(img) > MaxImage {
			err = fmt.Errorf("the image is larger than %d bytes", MaxImage)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	var last time.Time
	err = r.p.receiveStream(StreamMemory, r.times.Idle, "restoring the app", func(ctx context.Context, rd io.Reader, report Report) error {
		return r.dst.Restore(ctx, img, &lastRead{rd, &last}, report)
	})
	if last.IsZero() {
		last = time.Now()
	}
	return time.Since(last), err
}

// lastRead remembers when something was read last.
type lastRead struct {
	r    io.Reader
	when *time.Time
}

func (l *lastRead) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	*l.when = time.Now()
	return n, err
}

// ready writes that a whole copy waits. From here on only the source decides.
func (r *receiver) ready(restore time.Duration) error {
	if err := r.enter(DestinationReady); err != nil {
		return err
	}
	r.r.RestoreMS = ms(restore)
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	if h, ok := r.dst.(interface {
		Held() (pid int, start uint64)
	}); ok {
		r.e.rec.Pid, r.e.rec.Start = h.Held()
	}
	if err := r.m.write(r.e, Ready); err != nil {
		return err
	}
	r.e.phase = waiting
	return nil
}

// abandon ends a move before [ready]: nothing of it is left here.
func (r *receiver) abandon(err error) {
	err = r.p.why(err, r.p.cause)
	r.r.Outcome, r.r.Reason = Stayed, reason(err)
	var refused *Refusal
	if errors.As(err, &refused) {
		r.r.Problems = refused.Problems
	}
	if err := r.dst.Abandon(); err != nil {
		log.Printf("dropping what has come of %s: %v", r.offer.Name, err)
	}
	var by *peerCancelled
	if !errors.As(err, &by) && refused == nil {
		r.p.send(&message{Kind: kindCancel, Reason: r.m.Name + ": " + r.r.Reason})
	}
	if r.e != nil {
		r.e.mu.Lock()
		if err := r.m.settle(r.e); err != nil {
			log.Printf("move %s: %v", r.e.id.Move, err)
		}
		r.e.mu.Unlock()
	}
}

// await is ready, resume and settle: the copy waits for commit on this link,
// or on another one (Moves.serve) once this one is lost.
func (r *receiver) await() {
	ctx := context.WithoutCancel(r.p.ctx)
	err := r.p.send(&message{Kind: kindReady, Restore: int64(r.r.RestoreMS * 1e6)})
	asked := context.AfterFunc(r.p.ctx, func() {
		// A person here wants out. Only the source may say so now.
		var by *peerCancelled
		if cause := context.Cause(r.p.ctx); !errors.Is(cause, errLost) && !errors.As(cause, &by) {
			r.p.send(&message{Kind: kindCancel, Reason: reason(cause)})
		}
	})
	defer asked()
	var said *message
	if err == nil {
		said, err = r.p.wait(ctx, kindCommit, kindCancel)
	}
	if err != nil {
		r.r.Outcome, r.r.Reason = Undecided, reason(err)
		r.e.mu.Lock()
		r.e.reason = reason(err)
		r.e.mu.Unlock()
		r.m.changed()
		return
	}
	if said.Kind == kindCancel {
		r.r.Outcome, r.r.Reason = Stayed, said.Reason
		if err := r.m.drop(r.e); err != nil {
			log.Printf("move %s: %v", r.e.id.Move, err)
		}
		return
	}
	if err := r.m.gate(ctx, DestinationResume); err != nil {
		log.Printf("move %s: %v", r.offer.Move, err)
	}
	answer := r.m.resume(r.e)
	if err := r.p.send(answer); err != nil {
		r.m.changed() // the source will ask again, or be asked
	}
	if answer.Kind != kindRunning {
		r.r.Outcome, r.r.Reason = Stayed, answer.Reason
		return
	}
	r.r.Outcome = Moved
	if err := r.m.gate(ctx, DestinationSettle); err != nil {
		log.Printf("move %s: %v", r.offer.Move, err)
	}
	// The disk may take its time, but what the person goes on to type must not come
	// before what they have typed already.
	var notes []string
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		var err error
		if notes, err = r.dst.Settle(ctx); err != nil {
			notes = append(notes, err.Error())
		}
	}()
	said, err = r.p.within(ctx, r.times.Running, "waiting for the source to let go", kindReleased)
	if err == nil {
		if err := r.m.heard(r.e, said.Last); err != nil {
			log.Printf("move %s: %v", r.offer.Move, err)
		}
	} else {
		r.m.changed()
	}
	<-settled
	if err == nil {
		if said.Result != nil {
			r.r = said.Result
		}
		r.p.send(&message{Kind: kindSettled, Notes: notes})
	}
	r.r.Notes = append(r.r.Notes, notes...)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// reason is an error as the result says it.
func reason(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, context.Canceled) {
		return ErrCancelled.Error()
	}
	return strings.TrimSpace(err.Error())
}
