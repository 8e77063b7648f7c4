package image

import "fmt"

// Limits of System V objects. The kernel's defaults are 32000 semaphores in a set
// (SEMMSL) and 32000 of all kinds of objects (sem.h, msg.h, shm.h).
const (
	MaxSemaphores = 1 << 16 // of one set
	MaxMessages   = 1 << 16 // of one queue
	semaphoreMost = 32767   // SEMVMX, include/uapi/linux/sem.h
)

// validateSystemV checks the objects of System V. pids has the ids in use.
func (a *App) validateSystemV(pids map[int]bool) error {
	var segments, sets, queues family
	for i := range a.Shared {
		if s := a.Shared[i].Segment; s != nil {
			if err := segments.add(s); err != nil {
				return fmt.Errorf("memory of System V: %w", err)
			}
		}
	}
	if len(a.Semaphores) > MaxHandles || len(a.Queues) > MaxHandles {
		return fmt.Errorf("%d sets of semaphores, %d message queues", len(a.Semaphores), len(a.Queues))
	}
	for i := range a.Semaphores {
		s := &a.Semaphores[i]
		if err := sets.add(&s.SystemV); err != nil {
			return fmt.Errorf("semaphores of System V: %w", err)
		}
		if err := s.validate(pids); err != nil {
			return fmt.Errorf("semaphores of System V %d: %w", s.SystemV.ID, err)
		}
	}
	for i := range a.Queues {
		q := &a.Queues[i]
		if err := queues.add(&q.SystemV); err != nil {
			return fmt.Errorf("message queue of System V: %w", err)
		}
		if len(q.Messages) > MaxMessages {
			return fmt.Errorf("message queue of System V %d: %d messages", q.SystemV.ID, len(q.Messages))
		}
		for _, m := range q.Messages {
			if m.Type <= 0 || len(m.Text) > MaxMessageSize {
				return fmt.Errorf("message queue of System V %d: a message of type %d, %d bytes", q.SystemV.ID, m.Type, len(m.Text))
			}
		}
	}
	return nil
}

// MaxMessageSize is what one message may have: the kernel's default (MSGMAX).
const MaxMessageSize = 8192

// family are the objects of one kind: ids and keys are theirs alone.
type family struct {
	ids  map[int]bool
	keys map[int32]bool
}

func (f *family) add(s *SystemV) error {
	if f.ids == nil {
		f.ids, f.keys = map[int]bool{}, map[int32]bool{}
	}
	if s.ID < 0 || s.ID > 1<<31-1 || f.ids[s.ID] || s.Mode&^uint32(0o777) != 0 {
		return fmt.Errorf("id %d, mode %#o", s.ID, s.Mode)
	}
	if s.Key != 0 && f.keys[s.Key] {
		return fmt.Errorf("key %#x stands twice", s.Key)
	}
	f.ids[s.ID], f.keys[s.Key] = true, true
	return nil
}

func (s *Semaphores) validate(pids map[int]bool) error {
	if len(s.Values) == 0 || len(s.Values) > MaxSemaphores || len(s.Undo) > MaxHandles {
		return fmt.Errorf("%d semaphores, %d adjustments", len(s.Values), len(s.Undo))
	}
	for _, v := range s.Values {
		if v > semaphoreMost {
			return fmt.Errorf("value %d", v)
		}
	}
	for _, u := range s.Undo {
		if !pids[u.Pid] || u.Number < 0 || u.Number >= len(s.Values) || u.Adjust < -semaphoreMost || u.Adjust > semaphoreMost || u.Adjust == 0 {
			return fmt.Errorf("process %d will add %d to number %d", u.Pid, u.Adjust, u.Number)
		}
	}
	return nil
}
