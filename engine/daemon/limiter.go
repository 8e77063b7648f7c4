package daemon

import (
	"sync"
	"time"
)

// limiter lets what others cause through some times at once, and then once in a
// while, for each key by itself.
type limiter struct {
	burst int
	every time.Duration

	mu   sync.Mutex
	full map[string]time.Time // when a key has all of its burst again
}

// maxLimited bounds the keys that are remembered, since strangers choose them:
// with more of them at a time nothing new is let through.
const maxLimited = 1024

func (l *limiter) allow(key string) bool { return l.allowAt(key, time.Now()) }

func (l *limiter) allowAt(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full == nil {
		l.full = map[string]time.Time{}
	}
	at, known := l.full[key]
	if !known || at.Before(now) {
		at = now
	}
	if !known && len(l.full) >= maxLimited {
		for k, t := range l.full {
			if t.Before(now) {
				delete(l.full, k)
			}
		}
		if len(l.full) >= maxLimited {
			return false
		}
	}
	if at = at.Add(l.every); at.Sub(now) > time.Duration(l.burst)*l.every {
		return false
	}
	l.full[key] = at
	return true
}
