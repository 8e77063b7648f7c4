package control

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// What a peer may do is asked the first time and kept; a Peer's Permissions
// hold what was said.
const (
	PermitSend  = "send"  // give us an app to run
	PermitBring = "bring" // take one of our apps to itself
	PermitWatch = "watch" // see what runs here

	Allow = "allow" // always
	Deny  = "deny"  // never
	Ask   = "ask"   // each time
)

// PeerChange changes what is known of a paired host. What is left out stays.
type PeerChange struct {
	Name        string            `json:"name,omitempty"`        // what this host calls it
	Permissions map[string]string `json:"permissions,omitempty"` // PermitSend ... -> Allow, Deny, Ask
	Address     string            `json:"address,omitempty"`     // host:port, tried first from now on
}

// PairingRequest begins a pairing: with a host that was discovered, one at an
// address given by hand, or the one that made a ticket.
type PairingRequest struct {
	Peer    string `json:"peer,omitempty"`    // name, or ID or its beginning, of a discovered host
	Address string `json:"address,omitempty"` // host or host:port
	Ticket  string `json:"ticket,omitempty"`
}

// States of a Pairing.
const (
	PairingConnecting = "connecting" // looking for the other host
	PairingCompare    = "compare"    // Code is to be compared by both people
	PairingWaiting    = "waiting"    // agreed here; the other side has not yet
	PairingDone       = "done"
	PairingFailed     = "failed" // Reason says why
)

// Pairing is one attempt to pair, begun here or by the other host. It is
// forgotten some minutes after its end.
type Pairing struct {
	ID       string    `json:"id"`
	State    string    `json:"state"`
	Incoming bool      `json:"incoming,omitempty"` // the other host began it
	Name     string    `json:"name"`               // what the other host calls itself
	PeerID   string    `json:"peer_id,omitempty"`  // its ID, proven from compare on
	Address  string    `json:"address,omitempty"`
	Code     string    `json:"code,omitempty"` // six digits
	Reason   string    `json:"reason,omitempty"`
	Warning  string    `json:"warning,omitempty"` // such as: a host of this name is paired already, with another key
	Began    time.Time `json:"began"`
	Expires  time.Time `json:"expires"`
}

type Pairings struct {
	Pairings []Pairing `json:"pairings"`
}

// PairingAnswer is what the person says of the code.
type PairingAnswer struct {
	Match bool `json:"match"`
}

// TicketRequest asks for a ticket: who has it may pair with this host once,
// without comparing a code.
type TicketRequest struct {
	Minutes float64 `json:"minutes,omitempty"` // how long it is good; 0 is 10
}

// Ticket is one line of text, which can be shown as a QR code. It is a secret.
type Ticket struct {
	Ticket  string    `json:"ticket"`
	Expires time.Time `json:"expires"`
}

// Answers to a Question.
const (
	AnswerOnce   = "once"
	AnswerAlways = "always"
	AnswerNo     = "no" // this time
	AnswerNever  = "never"
)

// Question is what a person has to say now: whether a peer may do something. It
// goes by itself when it is answered elsewhere, or nobody has answered in time.
type Question struct {
	ID      string    `json:"id"`
	Peer    string    `json:"peer"`
	PeerID  string    `json:"peer_id"`
	Permit  string    `json:"permit"` // PermitSend, PermitBring, PermitWatch
	App     string    `json:"app,omitempty"`
	Text    string    `json:"text"` // the question, in a sentence
	Expires time.Time `json:"expires"`
}

type Questions struct {
	Questions []Question `json:"questions"`
}

// QuestionAnswer is AnswerOnce, AnswerAlways, AnswerNo or AnswerNever.
type QuestionAnswer struct {
	Answer string `json:"answer"`
}

// ChangePeer changes what is known of a paired host, named by name, ID or its beginning.
func (c *Client) ChangePeer(ctx context.Context, peer string, ch PeerChange) (*Peer, error) {
	out := new(Peer)
	return out, c.do(ctx, http.MethodPatch, "/v1/peers/"+url.PathEscape(peer), ch, out)
}

// BeginPairing returns at once; the Pairing goes on, told by events "pairing".
func (c *Client) BeginPairing(ctx context.Context, r PairingRequest) (*Pairing, error) {
	out := new(Pairing)
	return out, c.do(ctx, http.MethodPost, "/v1/pairings", r, out)
}

func (c *Client) Pairings(ctx context.Context) (*Pairings, error) {
	return get[Pairings](ctx, c, "/v1/pairings")
}

// AnswerPairing says whether the codes match; CancelPairing gives it up.
func (c *Client) AnswerPairing(ctx context.Context, id string, match bool) (*Pairing, error) {
	out := new(Pairing)
	return out, c.do(ctx, http.MethodPost, "/v1/pairings/"+url.PathEscape(id)+"/answer", PairingAnswer{Match: match}, out)
}

func (c *Client) CancelPairing(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/v1/pairings/"+url.PathEscape(id), nil, nil)
}

func (c *Client) MakeTicket(ctx context.Context, r TicketRequest) (*Ticket, error) {
	out := new(Ticket)
	return out, c.do(ctx, http.MethodPost, "/v1/tickets", r, out)
}

func (c *Client) Questions(ctx context.Context) (*Questions, error) {
	return get[Questions](ctx, c, "/v1/questions")
}

func (c *Client) AnswerQuestion(ctx context.Context, id, answer string) error {
	return c.do(ctx, http.MethodPost, "/v1/questions/"+url.PathEscape(id), QuestionAnswer{Answer: answer}, nil)
}

// AllPeers lists the paired hosts, and those that are near and are not paired.
func (c *Client) AllPeers(ctx context.Context) (*Peers, error) {
	return get[Peers](ctx, c, "/v1/peers?all=1")
}
