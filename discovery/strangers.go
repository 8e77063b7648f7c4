package discovery

import (
	"strings"
	"time"

	"hither/transport"
)

const (
	maxStrangers = 256
	maxSpots     = 8                      // where one stranger is heard
	afterBye     = 800 * time.Millisecond // to be heard anew
)

// stranger is a host near here that is not paired; Book.mu guards it.
type stranger struct {
	peer  Peer // without addresses
	spots map[string]spot
}

// spot is what a host told on one of its links and one of ours.
type spot struct {
	addresses []string
	until     time.Time
}

func (s *stranger) show() Peer {
	p := s.peer
	var last time.Time
	for _, at := range s.spots {
		if at.until.After(last) { // what was heard last comes first
			last = at.until
			p.Addresses = merge(at.addresses, p.Addresses)
		} else {
			p.Addresses = merge(p.Addresses, at.addresses)
		}
	}
	p.Addresses = p.Addresses[:min(len(p.Addresses), maxHints)]
	return p
}

// notice takes in what was overheard on the link zone. Nothing of it is proven.
func (b *Book) notice(t told, zone string, good time.Duration) {
	where := t.instance + "%" + zone
	if t.bye {
		b.left(where)
		return
	}
	short := transport.ID(t.short)
	if !plausible(short) || short == transport.ID(b.endpoint.ID().Short()) {
		return
	}
	addresses := addressesOf(t, zone)
	b.mu.Lock()
	var ids []transport.ID
	for id, k := range b.peers {
		if strings.HasPrefix(string(id), string(short)) {
			ids = append(ids, id)
			k.instance = t.instance
		}
	}
	if len(ids) > 0 {
		b.forget(short)
	} else if s := b.stranger(short); s != nil {
		now := time.Now()
		s.peer.LastSeen = now
		old, known := s.spots[where]
		if known || len(s.spots) < maxSpots {
			s.spots[where] = spot{addresses, wall(now.Add(good))}
		}
		if name := transport.CleanName(t.name); s.peer.Name != name {
			b.markTwins(s.peer.Name)
			s.peer.Name = name
			b.markTwins(name)
			b.mark(short)
		} else if !known || len(merge(old.addresses, addresses)) != len(old.addresses) {
			b.mark(short)
		}
	}
	b.mu.Unlock()
	for _, id := range ids {
		b.hint(id, addresses, false)
	}
}

// stranger is the entry for a host whose ID begins so; nil if there are too
// many. Book.mu is held.
func (b *Book) stranger(short transport.ID) *stranger {
	s := b.strangers[short]
	if s == nil && len(b.strangers) < maxStrangers {
		s = &stranger{peer: Peer{ID: short}, spots: make(map[string]spot)}
		b.strangers[short] = s
	}
	return s
}

// left takes in a goodbye. Of a stranger it is believed if nothing more is heard: a
// host whose addresses or name change says goodbye first. A paired host is asked.
func (b *Book) left(where string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	soon := wall(time.Now().Add(afterBye))
	for _, s := range b.strangers {
		if at, ok := s.spots[where]; ok && at.until.After(soon) {
			at.until = soon
			s.spots[where] = at
			time.AfterFunc(afterBye+time.Millisecond, func() { b.forgetStrangers(time.Now()) })
		}
	}
	instance, _, _ := strings.Cut(where, "%")
	for _, k := range b.peers {
		if k.instance == instance && k.now.Online {
			k.knock()
		}
	}
}

// forget drops a stranger. Book.mu is held.
func (b *Book) forget(short transport.ID) {
	if s := b.strangers[short]; s != nil {
		delete(b.strangers, short)
		b.mark(short)
		b.markTwins(s.peer.Name)
	}
}

// forgetStrangers drops those that were not heard for too long.
func (b *Book) forgetStrangers(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for short, s := range b.strangers {
		for where, at := range s.spots {
			if now.After(at.until) || at.until.Sub(now) > 3*longest { // or the clock was set back
				delete(s.spots, where)
			}
		}
		if len(s.spots) == 0 {
			b.forget(short)
		}
	}
}

// wall is a time that a suspend counts into.
func wall(t time.Time) time.Time { return t.Round(0) }

func plausible(short transport.ID) bool {
	if len(short) != 8 {
		return false
	}
	for _, r := range short {
		if (r < 'a' || r > 'z') && (r < '2' || r > '7') {
			return false
		}
	}
	return true
}
