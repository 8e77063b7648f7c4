package move

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"hither/engine/checkpoint"
	"hither/engine/handle"
	"hither/engine/handover"
)

// A server may be caught with a caller in its queue that it is just about to
// accept; an editor may have begun to watch a file just now. Such a moment passes when the app runs on, so it is tried again,
// after pauses that fall into step with nothing the app does. They become longer: on a busy machine the app needs
// some time to come to its next step.
const (
	passingFor   = 20 * time.Second      // the peer waits for a minute
	passingPause = 25 * time.Millisecond // at most, at first
	passingRest  = time.Second           // at most, ever
)

// restAfter is the longest pause after a number of tries.
func restAfter(tries int) time.Duration {
	return min(passingPause<<min(tries/4, 16), passingRest)
}

// Freeze see handover.Source.
func (s *Source) Freeze(ctx context.Context) (*handover.Frozen, error) {
	begun := time.Now()
	for try := 1; ; try++ {
		f, err := s.freezeNow(ctx)
		var refused handle.Refused
		if err == nil || time.Since(begun) > passingFor || !errors.As(err, &refused) || !refused.Passes() {
			return f, refusalOf(err, s.env.Self.Name)
		}
		if err := s.thaw(); err != nil {
			return nil, err
		}
		if refused.LostPath() {
			problems, watched, err := checkpoint.SurveyWatched(s.cap.InitPid())
			if err != nil {
				return nil, err
			}
			if len(problems) > 0 {
				return nil, refusal(problems, s.env.Self.Name)
			}
			s.watched = watched
		}
		select {
		case <-time.After(rand.N(restAfter(try))):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// refusalOf makes what a person can do something about a refusal.
func refusalOf(err error, host string) error {
	var one *checkpoint.Refusal
	var many handle.Refused
	switch {
	case errors.As(err, &one):
		return &handover.Refusal{Problems: []handover.Problem{{What: err.Error(), Cure: one.Cure, Side: host}}}
	case errors.As(err, &many):
		return refusal(many, host)
	}
	return err
}

// refusal tells a person what stands in the way on a host, cures beside.
func refusal(problems []handle.Problem, host string) *handover.Refusal {
	r := &handover.Refusal{}
	for _, p := range problems {
		cure := p.Cure
		p.Cure = ""
		r.Problems = append(r.Problems, handover.Problem{What: p.String(), Cure: cure, Side: host})
	}
	return r
}
