package transport

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/quic-go/quic-go"
)

// NotPairedError: a host that is not in this host's book.
type NotPairedError struct {
	ID ID
}

func (e *NotPairedError) Error() string {
	return fmt.Sprintf("host %s is not paired with this one: 'hither pair' pairs two hosts", e.ID.Short())
}

// RefusedError: the host that was dialled does not have this host in its book.
type RefusedError struct {
	Peer string // its name, as this host knows it
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s refused this host's key: it is not paired with this host (any more): pair the two again with 'hither pair'", e.Peer)
}

// WrongKeyError: who answered at a peer's address is not that peer.
type WrongKeyError struct {
	Peer string
	Want ID
	Got  ID // empty: no ed25519 key at all
}

func (e *WrongKeyError) Error() string {
	got := "no key of hither's"
	if e.Got != "" {
		got = "the key of " + e.Got.Short()
	}
	return fmt.Sprintf("wrong peer key: whoever answered as %s showed %s instead of %s: another machine may have its address now; if %s was set up anew, remove it and pair again",
		e.Peer, got, e.Want.Short(), e.Peer)
}

// UnreachableError: no address of the peer led to it.
type UnreachableError struct {
	Peer  string
	Tried []string
	Err   error
}

func (e *UnreachableError) Error() string {
	if len(e.Tried) == 0 {
		return fmt.Sprintf("no address of %s is known: give one as host:port", e.Peer)
	}
	said := fmt.Sprintf("%s does not answer at %s: is it switched on, and does hither run there?", e.Peer, strings.Join(e.Tried, ", "))
	if e.Err == nil || errors.Is(e.Err, context.DeadlineExceeded) {
		return said // that it took too long is all there is to say
	}
	return fmt.Sprintf("%s (%v)", said, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// LostError: nothing came from the peer for the idle timeout, or it restarted.
type LostError struct {
	Peer string
	Err  error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("the connection to %s is lost: %v", e.Peer, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// ClosedError: one of the two sides closed the connection.
type ClosedError struct {
	Peer   string
	Reason string
	Remote bool // the peer did
	Bye    bool // its hither has ended, not only this connection
}

func (e *ClosedError) Error() string {
	who := "this host"
	if e.Remote {
		who = e.Peer
	}
	return fmt.Sprintf("%s closed the connection: %s", who, e.Reason)
}

// CanceledError: one of the two sides gave up a stream; the connection lives.
type CanceledError struct {
	Peer   string
	Remote bool
}

func (e *CanceledError) Error() string {
	if e.Remote {
		return e.Peer + " gave up the stream"
	}
	return "this host gave up the stream"
}

// ErrOtherVersion: the other side speaks no version of the protocol that this
// one does.
var ErrOtherVersion = errors.New("the two hosts run versions of hither that do not understand each other: bring both to the same one")

// Codes in CONNECTION_CLOSE and RESET_STREAM. Reasons are for people.
const (
	codeBye     quic.ApplicationErrorCode = 0 // the endpoint ends
	codeClose   quic.ApplicationErrorCode = 1 // this connection ends
	codeNoPeer  quic.ApplicationErrorCode = 2 // not, or no longer, paired
	codeBadTalk quic.ApplicationErrorCode = 3 // the peer broke the protocol
	codeBusy    quic.ApplicationErrorCode = 4

	codeGiveUp quic.StreamErrorCode = 1
)

// The TLS alert that says "your certificate is not good enough for me", as
// QUIC carries it. crypto/tls sends it when VerifyConnection fails.
const (
	alertBadCertificate quic.TransportErrorCode = 0x100 + 42
	alertNoProtocol     quic.TransportErrorCode = 0x100 + 120
)

// explain turns what quic-go says into the errors of this package.
func explain(peer string, err error) error {
	if err == nil {
		return nil
	}
	// Our own errors from inside of the handshake come first: quic-go wraps them.
	if wrong, ok := errors.AsType[*WrongKeyError](err); ok {
		return wrong
	}
	if t, ok := errors.AsType[*quic.TransportError](err); ok && t.Remote && t.ErrorCode == alertBadCertificate {
		return &RefusedError{Peer: peer}
	}
	if t, ok := errors.AsType[*quic.TransportError](err); ok && t.ErrorCode == alertNoProtocol {
		return ErrOtherVersion
	}
	if a, ok := errors.AsType[*quic.ApplicationError](err); ok {
		if a.Remote && a.ErrorCode == codeNoPeer {
			return &RefusedError{Peer: peer}
		}
		return &ClosedError{Peer: peer, Reason: printable(a.ErrorMessage), Remote: a.Remote, Bye: a.ErrorCode == codeBye}
	}
	if s, ok := errors.AsType[*quic.StreamError](err); ok {
		return &CanceledError{Peer: peer, Remote: s.Remote}
	}
	if idle, ok := errors.AsType[*quic.IdleTimeoutError](err); ok {
		return &LostError{Peer: peer, Err: idle}
	}
	if reset, ok := errors.AsType[*quic.StatelessResetError](err); ok {
		return &LostError{Peer: peer, Err: fmt.Errorf("it has restarted: %w", reset)}
	}
	if t, ok := errors.AsType[*quic.TransportError](err); ok {
		return &LostError{Peer: peer, Err: t}
	}
	return err
}

// printable keeps a text of another machine from playing with a terminal.
func printable(text string) string {
	if len(text) > 500 {
		text = text[:500]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffd {
			return '?'
		}
		return r
	}, text)
}
