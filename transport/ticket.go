package transport

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	ticketPrefix = "hither-ticket:1,"
	tokenSize    = 16
	maxTickets   = 8
	// MaxTicketLife bounds how long a ticket is good.
	MaxTicketLife = time.Hour
)

// Ticket lets who has it pair with the host that made it, once and soon, without
// a person who compares digits. It is a secret until it was used.
type Ticket struct {
	Name      string
	ID        ID
	Token     []byte
	Addresses []string
}

// String is the ticket as one line:
//
//	hither-ticket:1,NAME,ID,TOKEN,ADDRESS,...,SUM
//
// TOKEN is base64url; SUM is as a card's.
func (t Ticket) String() string {
	fields := append([]string{t.Name, string(t.ID), base64.RawURLEncoding.EncodeToString(t.Token)}, t.Addresses...)
	line := ticketPrefix + strings.Join(fields, ",")
	return line + "," + cardSum(line)
}

// IsTicket tells whether a text means to be a ticket.
func IsTicket(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), "hither-ticket:") }

// ParseTicket reads a ticket; space and line ends around it do not matter.
func ParseTicket(text string) (Ticket, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxCard {
		return Ticket{}, fmt.Errorf("reading a ticket: longer than %d bytes", maxCard)
	}
	if !strings.HasPrefix(text, ticketPrefix) {
		return Ticket{}, fmt.Errorf("reading a ticket: it does not begin with %q: copy the whole line that 'hither pair --ticket' printed on the other host", ticketPrefix)
	}
	cut := strings.LastIndexByte(text, ',')
	line, sum := text[:cut], text[cut+1:]
	if len(line) < len(ticketPrefix) || cardSum(line) != sum {
		return Ticket{}, errors.New("reading a ticket: it is damaged or cut off: copy the whole line again")
	}
	fields := strings.Split(line[len(ticketPrefix):], ",")
	if len(fields) < 4 {
		return Ticket{}, errors.New("reading a ticket: a name, an ID, a token or an address is missing")
	}
	token, err := base64.RawURLEncoding.Strict().DecodeString(fields[2])
	if err != nil || len(token) != tokenSize {
		return Ticket{}, errors.New("reading a ticket: its token is none")
	}
	t := Ticket{Name: fields[0], ID: ID(fields[1]), Token: token, Addresses: fields[3:]}
	if err := CheckName(t.Name); err != nil {
		return Ticket{}, fmt.Errorf("reading a ticket: %w", err)
	}
	if raw, err := idEncoding.DecodeString(strings.ToUpper(fields[1])); err != nil || len(raw) != 32 || strings.ToLower(idEncoding.EncodeToString(raw)) != fields[1] {
		return Ticket{}, errors.New("reading a ticket: its ID is none")
	}
	if len(t.Addresses) > maxAddresses {
		return Ticket{}, fmt.Errorf("reading a ticket: more than %d addresses", maxAddresses)
	}
	for _, a := range t.Addresses {
		if err := CheckAddress(a); err != nil {
			return Ticket{}, fmt.Errorf("reading a ticket: %w", err)
		}
	}
	return t, nil
}

// tickets are those that this host has made and nobody has used; they are in no
// file, so the end of the daemon is theirs, too.
type tickets struct {
	mu   sync.Mutex
	live []liveTicket // oldest first
}

type liveTicket struct {
	token   []byte
	expires time.Time
}

// MakeTicket makes one that is good for a while. Of too many the oldest goes.
func (e *Endpoint) MakeTicket(life time.Duration) (Ticket, time.Time) {
	token := make([]byte, tokenSize)
	rand.Read(token)
	expires := time.Now().Add(min(life, MaxTicketLife))
	e.tickets.mu.Lock()
	defer e.tickets.mu.Unlock()
	e.tickets.expire()
	if len(e.tickets.live) >= maxTickets {
		e.tickets.live = slices.Delete(e.tickets.live, 0, 1)
	}
	e.tickets.live = append(e.tickets.live, liveTicket{token, expires})
	return Ticket{Name: e.Name(), ID: e.ID(), Token: token, Addresses: e.Addresses()}, expires
}

var errNoTicket = errors.New("the ticket is not good here (any more): it was used, its time is over, or hither was started anew since: make another one with 'hither pair --ticket'")

// use takes the ticket that fits out of the live ones.
func (t *tickets) use(fits func(token []byte) bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	i := slices.IndexFunc(t.live, func(l liveTicket) bool { return fits(l.token) })
	if i < 0 {
		return errNoTicket
	}
	t.live = slices.Delete(t.live, i, i+1)
	return nil
}

// expire is called with mu held.
func (t *tickets) expire() {
	now := time.Now()
	t.live = slices.DeleteFunc(t.live, func(l liveTicket) bool { return now.After(l.expires) })
}
