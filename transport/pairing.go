package transport

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
)

// Pairing is the one conversation that a host which is not paired can have. It
// has a protocol name of its own in TLS (alpnPair); both sides prove their keys
// there, and neither knows yet whose they are. One stream, opened by who dialled:
//
//	dialling                                accepting
//	hello: name                --------->   (a person is free to be asked)
//	                          <---------    hello, commitment to nonce B
//	nonce A                    --------->
//	                          <---------    nonce B, which must fit
//	both show six digits: H(exporter, keys, nonce A, nonce B)
//	yes: addresses            <--------->   yes     each when its person agrees
//	done                       --------->           each when it has kept the key
//	                          <---------    done
//
// Instead of anything either may say no, with a reason. Whoever stands between
// the two has two TLS sessions with two exporters, and must choose its nonce on
// each before it knows the other side's: its digits agree with one chance in a
// million, for each time that digits are shown to a person. What was recorded
// of one conversation fits no other.
//
// With a ticket, hello carries the proof that its secret is known, bound to the
// exporter and the keys; no nonces follow, and no digits. Who dials with a ticket
// takes no other key than that of the ticket's host.
const (
	alpnPair = "hither-pair/1"

	framePairHello FrameType = 1
	framePairNonce FrameType = 2
	framePairYes   FrameType = 3
	framePairNo    FrameType = 4
	framePairDone  FrameType = 5

	maxPairFrame = 8192
	pairNonce    = 32

	// Of conversations that others began, there may be so many at a time, and so
	// many from one address (one IPv6 network).
	maxPairings    = 8
	maxPairingsOne = 4
	// pairPatience is for what no person has to do.
	pairPatience = 10 * time.Second
)

type pairHello struct {
	Name       string `cbor:"1,keyasint"`
	Commitment []byte `cbor:"3,keyasint,omitempty"`
	Proof      []byte `cbor:"4,keyasint,omitempty"` // of a ticket
}

// pairYes says where this host is to be found, which nobody learns before a person here agrees.
type pairYes struct {
	Addresses []string `cbor:"1,keyasint,omitempty"`
}

type pairNo struct {
	Reason string `cbor:"1,keyasint"`
}

// PairingRefusedError: the other side ended the pairing.
type PairingRefusedError struct {
	Peer   string
	Reason string
}

func (e *PairingRefusedError) Error() string { return e.Peer + " says: " + e.Reason }

// ErrPairingTampered: the other side broke its commitment, as no honest one does.
var ErrPairingTampered = errors.New("the other side did not play by the rules of pairing: somebody may be in between; do not pair over this network, or use a ticket")

// Pairing is a conversation with a host that may become a Peer. Its methods are
// for one goroutine, but Hear may run at the same time as Say and Refuse.
type Pairing struct {
	conn     *Conn
	stream   *Stream
	dialled  bool
	peer     Peer
	ticket   bool
	code     string
	exporter []byte
}

// Peer is who is at the other end: the ID and the key are proven, the name and
// the addresses are what it says.
func (p *Pairing) Peer() Peer { return p.peer.clone() }

// ByTicket says that a ticket proves what a person would have to compare.
func (p *Pairing) ByTicket() bool { return p.ticket }

// Code is what both people compare; empty before Exchange, and with a ticket.
func (p *Pairing) Code() string { return p.code }

// Done is closed when the conversation is over, or lost.
func (p *Pairing) Done() <-chan struct{} { return p.conn.Done() }

// BeginPairing speaks to a host at the first of its addresses that answers. Its
// ID must begin with id; name is what to call it until it says so itself.
func (e *Endpoint) BeginPairing(ctx context.Context, name, id string, addresses []string) (*Pairing, error) {
	p, err := e.dialPairing(ctx, name, id, addresses)
	if err != nil {
		return nil, err
	}
	theirs, err := p.greet(nil)
	if err == nil {
		err = p.exchange(theirs.Commitment)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// JoinPairing speaks to the host that has made the ticket.
func (e *Endpoint) JoinPairing(ctx context.Context, t Ticket) (*Pairing, error) {
	p, err := e.dialPairing(ctx, t.Name, string(t.ID), t.Addresses)
	if err != nil {
		return nil, err
	}
	p.ticket = true
	if _, err := p.greet(p.proof(t.Token)); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (e *Endpoint) dialPairing(ctx context.Context, name, id string, addresses []string) (*Pairing, error) {
	targets, err := resolve(ctx, addresses)
	if len(targets) == 0 {
		return nil, &UnreachableError{Peer: name, Tried: addresses, Err: err}
	}
	conf := e.opts.quic()
	conf.MaxIncomingStreams = -1
	conf.InitialStreamReceiveWindow, conf.InitialConnectionReceiveWindow = 64<<10, 64<<10
	p, failed := race(ctx, targets, func(ctx context.Context, target *net.UDPAddr) (*Pairing, error) {
		ctx, cancel := context.WithTimeout(ctx, e.opts.HandshakeTimeout)
		defer cancel()
		q, err := e.quic.Dial(ctx, target, e.identity.pairDialTLS(name, id), conf)
		if err != nil {
			return nil, explain(name, err)
		}
		return e.newPairing(q, name, true)
	}, (*Pairing).Close)
	if failed != nil {
		return nil, e.failure(Peer{Name: name, Addresses: addresses}, failed)
	}
	ctx, cancel := context.WithTimeout(ctx, pairPatience)
	defer cancel()
	s, err := p.conn.quic.OpenStreamSync(ctx)
	if err != nil {
		p.Close()
		return nil, explain(name, err)
	}
	p.stream = newStream(p.conn, s)
	return p, nil
}

// newPairing is a conversation whose keys TLS has seen.
func (e *Endpoint) newPairing(q *quic.Conn, name string, dialled bool) (*Pairing, error) {
	cs := q.ConnectionState().TLS
	key, err := keyOf(cs.PeerCertificates)
	if err != nil {
		return nil, err
	}
	exporter, err := cs.ExportKeyingMaterial("EXPORTER-hither-pair", nil, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("binding the pairing to its connection: %w", err)
	}
	peer := Peer{ID: IDOf(key), Name: name, Key: key}
	return &Pairing{conn: newConn(e, q, peer), dialled: dialled, peer: peer, exporter: exporter}, nil
}

// greet is the dialling side's hello and the answer to it.
func (p *Pairing) greet(proof []byte) (theirs pairHello, err error) {
	p.within(pairPatience)
	if err := p.send(framePairHello, p.hello(nil, proof)); err != nil {
		return theirs, err
	}
	if err := p.receive(framePairHello, &theirs); err != nil {
		return theirs, err
	}
	p.met(theirs)
	return theirs, nil
}

func (p *Pairing) hello(commitment, proof []byte) pairHello {
	e := p.conn.endpoint
	return pairHello{Name: e.Name(), Commitment: commitment, Proof: proof}
}

// met takes in what the other side says of itself.
func (p *Pairing) met(h pairHello) {
	p.peer.Name, p.peer.Addresses = CleanName(h.Name), []string{hostPort(p.conn.RemoteAddr())}
	p.conn.peer.Name = p.peer.Name
}

// added is addresses with those that a host says of itself, as far as they are some.
func (y pairYes) added(to []string) []string {
	for _, a := range y.Addresses {
		if CheckAddress(a) == nil && !slices.Contains(to, a) && len(to) < maxAddresses {
			to = append(to, a)
		}
	}
	return to
}

// exchange is the dialling side's way to the code.
func (p *Pairing) exchange(commitment []byte) error {
	mine := make([]byte, pairNonce)
	rand.Read(mine)
	if err := p.send(framePairNonce, mine); err != nil {
		return err
	}
	var nonce []byte
	if err := p.receive(framePairNonce, &nonce); err != nil {
		return err
	}
	if len(nonce) != pairNonce || !hmac.Equal(p.sum("commitment", nonce), commitment) {
		p.Refuse("the nonce is not the one that was promised")
		return ErrPairingTampered
	}
	p.code = p.digits(mine, nonce)
	return nil
}

// Exchange is the accepting side's way to the code, once a person can be asked.
// From here on, whoever dialled has had its one guess.
func (p *Pairing) Exchange() error {
	p.within(pairPatience)
	mine := make([]byte, pairNonce)
	rand.Read(mine)
	if err := p.send(framePairHello, p.hello(p.sum("commitment", mine), nil)); err != nil {
		return err
	}
	var nonce []byte
	if err := p.receive(framePairNonce, &nonce); err != nil {
		return err
	}
	if len(nonce) != pairNonce {
		return ErrPairingTampered
	}
	p.code = p.digits(nonce, mine)
	if err := p.send(framePairNonce, mine); err != nil {
		return err
	}
	return nil
}

// sum hashes what both sides have in common, and something of one of them.
func (p *Pairing) sum(use string, more ...[]byte) []byte {
	keys := [][]byte{p.conn.endpoint.identity.Public(), p.peer.Key}
	if !p.dialled {
		keys[0], keys[1] = keys[1], keys[0]
	}
	h := sha256.New()
	h.Write([]byte("hither pairing " + use + "\x00"))
	h.Write(p.exporter)
	for _, b := range append(keys, more...) { // each of a fixed length
		h.Write(b)
	}
	return h.Sum(nil)
}

func (p *Pairing) digits(dialler, accepter []byte) string {
	return fmt.Sprintf("%06d", binary.BigEndian.Uint64(p.sum("code", dialler, accepter))%1e6)
}

// proof shows that the dialling side knows a ticket's secret, and to nobody else.
func (p *Pairing) proof(token []byte) []byte {
	mac := hmac.New(sha256.New, token)
	mac.Write(p.sum("ticket"))
	return mac.Sum(nil)
}

// Say tells the other side that the person here agrees.
func (p *Pairing) Say() error {
	if err := p.stream.SetWriteDeadline(time.Now().Add(pairPatience)); err != nil {
		return err
	}
	return p.send(framePairYes, pairYes{Addresses: p.conn.endpoint.Addresses()})
}

// Hear waits until the person on the other side agrees. Then Peer has all its addresses.
func (p *Pairing) Hear(ctx context.Context) error {
	if err := p.stream.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { p.stream.SetReadDeadline(time.Unix(1, 0)) })() //nolint:errcheck // then the connection is gone
	var yes pairYes
	err := p.receive(framePairYes, &yes)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		p.peer.Addresses = yes.added(p.peer.Addresses)
	}
	return err
}

// Finish ends a pairing that both people have agreed to, after this host has kept
// the key. It is an error if the other side says that it could not; if it says
// nothing, the two meet as peers or not at all.
func (p *Pairing) Finish() error {
	defer p.Close()
	p.within(pairPatience)
	if p.dialled {
		if p.send(framePairDone, struct{}{}) != nil {
			return nil
		}
	}
	err := receivePairing(p.stream.Frames, framePairDone, &struct{}{})
	if no, refused := errors.AsType[*PairingRefusedError](err); refused {
		no.Peer = p.peer.Name
		return no
	}
	if err == nil && !p.dialled && p.send(framePairDone, struct{}{}) == nil {
		select { // until it was read: then the other side hangs up
		case <-p.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// Refuse ends the conversation and says why.
func (p *Pairing) Refuse(reason string) {
	defer p.Close()
	if p.stream == nil || p.stream.SetWriteDeadline(time.Now().Add(time.Second)) != nil {
		return
	}
	if p.send(framePairNo, pairNo{Reason: reason}) != nil || p.stream.Close() != nil {
		return
	}
	select { // until it was read
	case <-p.Done():
	case <-time.After(time.Second):
	}
}

// Close hangs up.
func (p *Pairing) Close() { _ = p.conn.quic.CloseWithError(codeClose, "the pairing is over") }

func (p *Pairing) within(d time.Duration) { _ = p.stream.SetDeadline(time.Now().Add(d)) }

func (p *Pairing) send(t FrameType, v any) error { return p.said(p.stream.Send(t, v)) }

// receive waits for a frame, or for the other side's no.
func (p *Pairing) receive(want FrameType, v any) error {
	err := receivePairing(p.stream.Frames, want, v)
	if no, ok := errors.AsType[*PairingRefusedError](err); ok {
		no.Peer = p.conn.peer.Name
		_ = p.stream.Close()
	}
	return p.said(err)
}

func (p *Pairing) said(err error) error {
	if closed, ok := errors.AsType[*ClosedError](err); ok && closed.Remote {
		return &PairingRefusedError{Peer: p.conn.peer.Name, Reason: closed.Reason}
	}
	if _, refused := errors.AsType[*PairingRefusedError](err); err == nil || refused {
		return err
	}
	return fmt.Errorf("pairing with %s: %w", p.conn.peer.Name, err)
}

func receivePairing(r *Frames, want FrameType, v any) error {
	f, err := r.Receive(maxPairFrame)
	if err != nil {
		return err
	}
	if f.Type == framePairNo {
		var no pairNo
		if err := f.Decode(&no); err != nil {
			return err
		}
		return &PairingRefusedError{Reason: printable(no.Reason)}
	}
	if f.Type != want {
		return &FrameTypeError{Got: f.Type, Want: want}
	}
	return f.Decode(v)
}

// AcceptPairing waits for the next host that wants to be paired, and has said who
// it is. Either its ticket is good (ByTicket), or Exchange is what comes next. An
// endpoint on which nobody waits here is told to be busy.
func (e *Endpoint) AcceptPairing(ctx context.Context) (*Pairing, error) {
	select {
	case p := <-e.pairings:
		return p, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-e.ctx.Done():
		return nil, fmt.Errorf("accepting pairings: %w", net.ErrClosed)
	}
}

// welcomePairing hears what a stranger wants.
func (e *Endpoint) welcomePairing(q *quic.Conn) {
	from := place(q.RemoteAddr())
	e.mu.Lock()
	busy := e.pairingsFrom[""] >= maxPairings || e.pairingsFrom[from] >= maxPairingsOne
	if !busy {
		e.pairingsFrom[""]++
		e.pairingsFrom[from]++
	}
	e.mu.Unlock()
	if busy {
		_ = q.CloseWithError(codeBusy, "too many hosts want to be paired just now: try again in a minute")
		e.opts.Refused(q.RemoteAddr(), errors.New("too many hosts want to be paired at the same time"))
		return
	}
	context.AfterFunc(q.Context(), func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, k := range []string{"", from} {
			if e.pairingsFrom[k]--; e.pairingsFrom[k] == 0 {
				delete(e.pairingsFrom, k)
			}
		}
	})
	p, err := e.hearPairing(q)
	if err != nil {
		_ = q.CloseWithError(codeBadTalk, "this is no pairing")
		e.opts.Refused(q.RemoteAddr(), fmt.Errorf("hearing a host that wants to be paired: %w", err))
		return
	}
	select {
	case e.pairings <- p:
	default:
		p.Refuse("it is busy: try again in a minute")
	}
}

func (e *Endpoint) hearPairing(q *quic.Conn) (*Pairing, error) {
	p, err := e.newPairing(q, "host", false)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.opts.HandshakeTimeout)
	defer cancel()
	s, err := q.AcceptStream(ctx)
	if err != nil {
		return nil, explain("host", err)
	}
	p.stream = newStream(p.conn, s)
	p.within(e.opts.HandshakeTimeout)
	var theirs pairHello
	if err := p.receive(framePairHello, &theirs); err != nil {
		return nil, err
	}
	p.met(theirs)
	if theirs.Proof == nil {
		return p, nil
	}
	if err := e.tickets.use(func(token []byte) bool { return hmac.Equal(p.proof(token), theirs.Proof) }); err != nil {
		p.Refuse(err.Error())
		return nil, fmt.Errorf("%s (%s) came with a ticket: %w", p.peer.Name, p.peer.ID.Short(), err)
	}
	p.ticket = true
	p.within(pairPatience)
	return p, p.send(framePairHello, p.hello(nil, nil))
}

// place is what counts as one address: a network, for IPv6.
func place(a net.Addr) string {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return a.String()
	}
	if v4 := u.IP.To4(); v4 != nil {
		return v4.String()
	}
	return u.IP.Mask(net.CIDRMask(64, 128)).String()
}

// hostPort is an address for Peer.Addresses.
func hostPort(a net.Addr) string {
	if u, ok := a.(*net.UDPAddr); ok && u.IP.To4() != nil {
		return (&net.UDPAddr{IP: u.IP.To4(), Port: u.Port}).String()
	}
	return a.String()
}

// pairDialTLS accepts any key whose ID begins so, but not this host's own.
func (i *Identity) pairDialTLS(name, id string) *tls.Config {
	c := i.base()
	c.NextProtos = []string{alpnPair}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		key, err := i.stranger(cs)
		if err != nil {
			return err
		}
		if got := IDOf(key); !strings.HasPrefix(string(got), id) {
			return &WrongKeyError{Peer: name, Want: ID(id), Got: got}
		}
		return nil
	}
	return c
}

// pairListenTLS accepts every key: what it is worth, the conversation shows.
func (i *Identity) pairListenTLS(c *tls.Config, accepted func()) *tls.Config {
	c.NextProtos = []string{alpnPair}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := i.stranger(cs)
		if err == nil {
			accepted()
		}
		return err
	}
	return c
}

// ErrSelf: who answered is this host itself.
var ErrSelf = errors.New("this is the host itself: name the other one")

func (i *Identity) stranger(cs tls.ConnectionState) (ed25519.PublicKey, error) {
	key, err := keyOf(cs.PeerCertificates)
	if err == nil && bytes.Equal(key, i.Public()) {
		err = ErrSelf
	}
	return key, err
}
