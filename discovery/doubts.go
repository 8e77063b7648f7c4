package discovery

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hither/transport"
)

// A name proves nothing, a key does. What a person should know where the two
// do not go together is the Warning of a Peer: somebody else uses a paired
// host's name, or answers at its address with another key. Neither gets
// anything: these are for the person, who may be about to pair with the wrong one.

// warning is that of a paired host. Book.mu is held.
func (b *Book) warning(k *known) string {
	var all []string
	if w := k.wrongKey; w != nil {
		who := "a program without a key of hither's"
		if w.Got != "" {
			who = "a host with another key (" + w.Got.Short() + ")"
		}
		all = append(all, fmt.Sprintf("%s answers where %s was: it gets nothing; if %s was set up anew, unpair it and pair again", who, k.trusted.Name, k.trusted.Name))
	}
	var twins []string
	for short, s := range b.strangers {
		if strings.EqualFold(s.peer.Name, k.trusted.Name) {
			twins = append(twins, string(short))
		}
	}
	if len(twins) > 0 {
		slices.Sort(twins)
		all = append(all, fmt.Sprintf("another host near here, with another key (%s), calls itself %s too: it is not paired", strings.Join(twins[:min(len(twins), 3)], ", "), k.trusted.Name))
	}
	if k.usurps {
		all = append(all, fmt.Sprintf("it calls itself %s now, which is the name of another host here", k.trusted.Called))
	}
	return strings.Join(all, "; ")
}

// strangeWarning is that of a host that is not paired. Book.mu is held.
func (b *Book) strangeWarning(s *stranger) string {
	for _, k := range b.peers {
		if strings.EqualFold(k.trusted.Name, s.peer.Name) {
			return fmt.Sprintf("it is not the %s that is paired with this host, only its name is the same", s.peer.Name)
		}
	}
	return ""
}

// markTwins has all told that have this name, or call themselves so: what one
// of them does may be a warning of the others. Book.mu is held.
func (b *Book) markTwins(name string) {
	for id, k := range b.peers {
		if strings.EqualFold(k.trusted.Name, name) {
			b.mark(id)
		}
	}
	for id, s := range b.strangers {
		if strings.EqualFold(s.peer.Name, name) {
			b.mark(id)
		}
	}
}

func wrongKey(err error) *transport.WrongKeyError {
	w, _ := errors.AsType[*transport.WrongKeyError](err)
	return w
}

// renamedOften is the time between two changes of a peer's name that are followed.
const renamedOften = 10 * time.Second

// rename follows a peer that calls itself otherwise than it did. A name that a
// person here gave it stays, and so does the old one if another host has the
// new one: a peer cannot take the place of another by its name.
func (b *Book) rename(k *known, calls string) {
	b.mu.Lock()
	p := k.trusted
	if p.Called == calls || time.Since(k.renamed) < renamedOften {
		b.mu.Unlock()
		return
	}
	if p.Called != "" {
		k.renamed = time.Now()
	}
	free := !strings.EqualFold(calls, b.endpoint.Name())
	for _, o := range b.peers {
		free = free && (o == k || !strings.EqualFold(o.trusted.Name, calls))
	}
	// Two hosts that had one name when they were paired are no wonder.
	k.usurps = !free && p.Called != ""
	b.mu.Unlock()
	_ = b.trust.Update(p.ID, func(p *transport.Peer) { // what fails is tried again, at its next hello
		if p.Name == p.Called && free {
			p.Name = calls
		}
		p.Called = calls
	})
	_ = b.reload()
}
