package discovery

import (
	"strings"
	"time"

	"hither/transport"
)

// notice takes in what was overheard: that a host whose ID begins so says it
// has a name and addresses. Nothing of it is proven.
func (b *Book) notice(short transport.ID, name string, addresses []string) {
	if !plausible(short) || short == transport.ID(b.endpoint.ID().Short()) {
		return
	}
	var good []string
	for _, a := range addresses {
		if transport.CheckAddress(a) == nil && len(good) < maxHints {
			good = append(good, a)
		}
	}
	b.mu.Lock()
	paired := false
	var ids []transport.ID
	for id := range b.peers {
		if strings.HasPrefix(string(id), string(short)) {
			paired = true
			ids = append(ids, id)
		}
	}
	if !paired {
		s := b.strangers[short]
		if s == nil && len(b.strangers) < maxStrangers {
			s = &stranger{peer: Peer{ID: short}}
			b.strangers[short] = s
		}
		if s != nil {
			s.heard = time.Now()
			p := Peer{ID: short, Name: transport.CleanName(name), Addresses: merge(good, s.peer.Addresses)}
			p.Addresses = p.Addresses[:min(len(p.Addresses), maxHints)]
			p.LastSeen = s.heard
			if s.peer.Name != p.Name || len(s.peer.Addresses) != len(p.Addresses) {
				b.mark(short)
			}
			s.peer = p
		}
	} else if b.strangers[short] != nil {
		delete(b.strangers, short)
		b.mark(short)
	}
	b.mu.Unlock()
	for _, id := range ids {
		b.hint(id, good, false)
	}
}

func (b *Book) forgetStrangers(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, s := range b.strangers {
		if now.Sub(s.heard) > strangerLife {
			delete(b.strangers, id)
			b.mark(id)
		}
	}
}

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
