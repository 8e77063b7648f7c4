package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// DefaultPort is where a host listens if nothing else is said.
const DefaultPort = 44843

// Half-open connections: above the first number who dials must show that it
// gets what is sent to its address, above the second one it has to wait.
const (
	halfOpenSuspicious = 16
	halfOpenMax        = 256
)

// Options of an endpoint. The zero value is good.
type Options struct {
	Name    string // what peers are told; the host name if empty. SetName changes it
	Version string // of hither, for peers to show

	// IdleTimeout is how long a peer may be silent. A link that is cut for
	// half of it is survived for sure. Default 10 s.
	IdleTimeout time.Duration
	// KeepAlive is how often an idle connection is tried. Default: a fifth of
	// IdleTimeout.
	KeepAlive time.Duration
	// HandshakeTimeout limits each try to reach one address. Default 5 s.
	HandshakeTimeout time.Duration

	// Abilities, if set, says what this host can take just now. It is asked at
	// each hello, so it must be quick.
	Abilities func() Abilities

	// Refused, if set, learns of hosts that were turned away. Strangers decide
	// how often it is called: limit what it logs.
	Refused func(from net.Addr, err error)
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		host, _ := os.Hostname()
		o.Name = CleanName(host)
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = 10 * time.Second
	}
	if o.KeepAlive <= 0 {
		o.KeepAlive = o.IdleTimeout / 5
	}
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = 5 * time.Second
	}
	if o.Refused == nil {
		o.Refused = func(net.Addr, error) {}
	}
	return o
}

func (o Options) quic() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           o.HandshakeTimeout,
		MaxIdleTimeout:                 o.IdleTimeout,
		KeepAlivePeriod:                o.KeepAlive,
		InitialStreamReceiveWindow:     2 << 20,
		MaxStreamReceiveWindow:         16 << 20,
		InitialConnectionReceiveWindow: 4 << 20,
		MaxConnectionReceiveWindow:     32 << 20,
		MaxIncomingStreams:             256,
		MaxIncomingUniStreams:          -1,
	}
}

// Endpoint is where a host is reached and from where it reaches others: one
// UDP socket.
type Endpoint struct {
	identity *Identity
	trust    *Trust
	opts     Options
	name     atomic.Pointer[string]
	socket   *socket
	quic     *quic.Transport
	listener *quic.Listener
	halfOpen atomic.Int64
	accepted chan *Conn

	pairings chan *Pairing
	tickets  tickets

	mu           sync.Mutex
	live         map[*Conn]struct{}
	pairingsFrom map[string]int // that others began, by place; "" is all
	closed       bool

	ctx    context.Context // ends with the endpoint
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// Listen opens an endpoint on a UDP address. ":44843" is all of the host's
// addresses, and the only kind that survives a change of address; port 0 is
// any free one.
func Listen(addr string, identity *Identity, trust *Trust, opts Options) (*Endpoint, error) {
	opts = opts.withDefaults()
	if err := CheckName(opts.Name); err != nil {
		return nil, fmt.Errorf("opening an endpoint: %w", err)
	}
	quiet()
	socket, err := listenSocket(addr)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{identity: identity, trust: trust, opts: opts, socket: socket,
		accepted: make(chan *Conn, 64), live: make(map[*Conn]struct{}),
		pairings: make(chan *Pairing, 4), pairingsFrom: make(map[string]int)}
	e.name.Store(&opts.Name)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	reset := quic.StatelessResetKey(identity.secret("stateless reset"))
	e.quic = &quic.Transport{
		Conn:                socket,
		ConnectionIDLength:  8,
		StatelessResetKey:   &reset, // the same after a restart: so peers notice it
		ConnContext:         e.enter,
		VerifySourceAddress: func(net.Addr) bool { return e.halfOpen.Load() > halfOpenSuspicious },
	}
	e.listener, err = e.quic.Listen(identity.listenTLS(trust, settled, opts.Refused), opts.quic())
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("listening on %q: %w", addr, err)
	}
	e.work.Go(e.acceptAll)
	return e, nil
}

var quietOnce sync.Once

// quiet stops quic-go from writing to the log that an ordinary user cannot
// have a receive buffer of 7 MiB: nobody but root can do anything about it.
func quiet() {
	quietOnce.Do(func() {
		const name = "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING"
		if _, set := os.LookupEnv(name); !set {
			os.Setenv(name, "1")
		}
	})
}

type slotKey struct{}

// enter counts a connection as half-open until its key was accepted (settled)
// or it is gone.
func (e *Endpoint) enter(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if e.halfOpen.Add(1) > halfOpenMax {
		e.halfOpen.Add(-1)
		return nil, errors.New("too many half-open connections")
	}
	leave := sync.OnceFunc(func() { e.halfOpen.Add(-1) })
	context.AfterFunc(ctx, leave)
	return context.WithValue(ctx, slotKey{}, leave), nil
}

func settled(ctx context.Context) {
	if leave, ok := ctx.Value(slotKey{}).(func()); ok {
		leave()
	}
}

// ID is this host's ID.
func (e *Endpoint) ID() ID { return e.identity.ID() }

// Port is the UDP port of the endpoint.
func (e *Endpoint) Port() int { return e.socket.LocalAddr().(*net.UDPAddr).Port }

// At is the only address that this endpoint listens at; the zero Addr if it
// listens at all of the host's.
func (e *Endpoint) At() netip.Addr {
	at := e.socket.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if at.IsUnspecified() {
		return netip.Addr{}
	}
	return at.WithZone("")
}

// Card is what another host needs to be paired with this one.
func (e *Endpoint) Card() Card {
	return Card{Name: e.Name(), Key: e.identity.Public(), Addresses: e.Addresses()}
}

// Addresses are those where this endpoint can be reached now, best first.
func (e *Endpoint) Addresses() []string {
	local := e.socket.LocalAddr().(*net.UDPAddr)
	if !local.IP.IsUnspecified() {
		return []string{local.String()}
	}
	return localAddresses(local.Port)
}

// Accept waits for the next connection of a paired host.
func (e *Endpoint) Accept(ctx context.Context) (*Conn, error) {
	for {
		select {
		case c := <-e.accepted:
			if c.Err() != nil {
				continue // it came and went
			}
			return c, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-e.ctx.Done():
			return nil, fmt.Errorf("accepting connections: %w", net.ErrClosed)
		}
	}
}

// Close says goodbye to all peers and ends the endpoint.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	live := make([]*Conn, 0, len(e.live))
	for c := range e.live {
		live = append(live, c)
	}
	e.mu.Unlock()

	e.cancel()
	for _, c := range live {
		_ = c.quic.CloseWithError(codeBye, "this host's hither ends")
	}
	err := errors.Join(e.listener.Close(), e.quic.Close(), e.socket.Close())
	e.work.Wait()
	return err
}

// Drop ends all connections with a host, as when it is not paired any more.
func (e *Endpoint) Drop(id ID) {
	e.mu.Lock()
	var all []*Conn
	for c := range e.live {
		if c.peer.ID == id {
			all = append(all, c)
		}
	}
	e.mu.Unlock()
	for _, c := range all {
		_ = c.quic.CloseWithError(codeNoPeer, "not paired any more")
	}
}

func (e *Endpoint) acceptAll() {
	for {
		q, err := e.listener.Accept(e.ctx)
		if err != nil {
			return
		}
		if q.ConnectionState().TLS.NegotiatedProtocol == alpnPair {
			e.work.Go(func() { e.welcomePairing(q) })
			continue
		}
		e.work.Go(func() { e.welcome(q) })
	}
}

// welcome answers the first hello of a connection whose key TLS has accepted,
// and hands it to Accept.
func (e *Endpoint) welcome(q *quic.Conn) {
	peer, err := trusted(e.trust, q.ConnectionState().TLS.PeerCertificates)
	if err != nil { // removed from the book a moment ago
		_ = q.CloseWithError(codeNoPeer, "not paired")
		e.opts.Refused(q.RemoteAddr(), err)
		return
	}
	c := newConn(e, q, peer)
	ctx, cancel := context.WithTimeout(e.ctx, e.opts.HandshakeTimeout)
	defer cancel()
	if err := c.answerFirst(ctx); err != nil {
		_ = q.CloseWithError(codeBadTalk, "no hello")
		e.opts.Refused(q.RemoteAddr(), fmt.Errorf("greeting %s: %w", peer.Name, err))
		return
	}
	if !e.start(c) {
		return
	}
	select {
	case e.accepted <- c:
	default:
		_ = q.CloseWithError(codeBusy, "too many connections wait to be accepted")
	}
}

// start makes c one of the endpoint's live connections; false if the endpoint
// has ended.
func (e *Endpoint) start(c *Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		_ = c.quic.CloseWithError(codeBye, "this host's hither ends")
		return false
	}
	e.live[c] = struct{}{}
	e.work.Go(c.serve)
	context.AfterFunc(c.quic.Context(), func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.live, c)
	})
	return true
}
