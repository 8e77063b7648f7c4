package discovery

import (
	"context"
	"errors"
	"math"
	"time"

	"hither/transport"
)

// follow finds out, again and again, whether a peer is there, until ctx ends.
func (b *Book) follow(ctx context.Context, k *known) {
	var conn *transport.Conn
	defer func() {
		if conn != nil {
			conn.Close("not watched any more")
		}
	}()
	misses := 0
	for {
		begin := time.Now()
		var rtt time.Duration
		var err error
		conn, rtt, err = b.try(ctx, k, conn)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			misses = 0
			b.online(k, conn, rtt)
		default:
			misses++
			if misses >= b.opts.Misses || certain(err) {
				misses = max(misses, b.opts.Misses)
				b.offline(k, err)
			}
			if conn != nil { // a new one finds other addresses
				conn.Close("no answer")
				conn = nil
			}
		}
		if !b.pause(ctx, k, conn, begin.Add(b.delay(misses))) {
			return
		}
		if conn == nil || conn.Err() == nil {
			continue
		}
		// A connection that was lost is made anew at once; a peer that said bye
		// is gone; and one that keeps closing connections is not to be hammered.
		if bye(conn.Err()) {
			misses = b.opts.Misses
			b.offline(k, conn.Err())
		}
		if _, lost := errors.AsType[*transport.LostError](conn.Err()); !lost {
			if !b.pause(ctx, k, nil, begin.Add(b.opts.Interval)) {
				return
			}
		}
	}
}

// try makes one ping, over conn if that lives, else over a new connection.
func (b *Book) try(ctx context.Context, k *known, conn *transport.Conn) (*transport.Conn, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, b.patience())
	defer cancel()
	if conn == nil || conn.Err() != nil {
		b.mu.Lock()
		p := k.trusted
		p.Addresses = merge(p.Addresses, k.hints)
		b.mu.Unlock()
		c, err := b.endpoint.Dial(ctx, p)
		if err != nil {
			return nil, 0, err
		}
		conn = c
		if at := address(c.RemoteAddr()); len(p.Addresses) == 0 || p.Addresses[0] != at {
			_ = b.remember(p.ID, at) // it works without, only slower next time
		}
	}
	rtt, err := conn.Ping(ctx)
	return conn, rtt, err
}

// patience is for one try. The answer of a peer that is there takes a round
// trip; one that dies right after a ping is offline an interval and Misses times
// this later, which is 9 s.
func (b *Book) patience() time.Duration { return max(b.opts.Interval*2/3, 500*time.Millisecond) }

// delay is the time between the beginnings of two tries: after a first miss it
// is tried again at once. Who has been away for long is tried less often: when
// it comes, it makes itself felt (Seen, mDNS).
func (b *Book) delay(misses int) time.Duration {
	d := b.opts.Interval
	if misses > 0 && misses < b.opts.Misses {
		return b.patience()
	}
	for m := b.opts.Misses; m <= misses && d < 8*b.opts.Interval; m *= 2 {
		d *= 2
	}
	return d
}

// pause waits until the next try is due: at a time, on a hint, or because the
// connection ended. It is false when ctx has ended.
func (b *Book) pause(ctx context.Context, k *known, conn *transport.Conn, until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	var ended <-chan struct{}
	if conn != nil {
		ended = conn.Done()
	}
	select {
	case <-timer.C:
	case <-k.kick:
	case <-ended:
	case <-ctx.Done():
		return false
	}
	return true
}

// certain tells an answer from silence: no need to ask three times.
func certain(err error) bool {
	_, refused := errors.AsType[*transport.RefusedError](err)
	_, wrong := errors.AsType[*transport.WrongKeyError](err)
	return refused || wrong || bye(err) || errors.Is(err, transport.ErrOtherVersion)
}

func bye(err error) bool {
	c, ok := errors.AsType[*transport.ClosedError](err)
	return ok && c.Remote && c.Bye
}

func (b *Book) online(k *known, conn *transport.Conn, rtt time.Duration) {
	h := conn.Hello()
	b.mu.Lock()
	was, warned := k.now, k.wrongKey != nil
	k.wrongKey = nil
	k.now = Peer{Online: true, RTT: float64(rtt.Microseconds()) / 1000, LastSeen: time.Now(), Rate: was.Rate,
		OS: h.OS, Arch: h.Arch, Version: h.Version, Abilities: h.Abilities}
	if warned || !was.Online || differs(k.told, k.now) {
		k.told = k.now
		b.mark(k.trusted.ID)
	}
	b.mu.Unlock()
	b.rename(k, h.Name)
}

func (b *Book) offline(k *known, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !k.now.Online && k.now.Problem == err.Error() {
		return
	}
	k.now.Online, k.now.RTT, k.now.Problem = false, 0, err.Error()
	k.wrongKey = wrongKey(err)
	b.mark(k.trusted.ID)
}

// differs tells whether people care about what has changed: not about every
// little of the load.
func differs(a, b Peer) bool {
	if a.OS != b.OS || a.Arch != b.Arch || a.Version != b.Version || (a.Abilities == nil) != (b.Abilities == nil) {
		return true
	}
	if a.Abilities == nil {
		return false
	}
	x, y := *a.Abilities, *b.Abilities
	if math.Abs(x.Load-y.Load) > 0.25*float64(max(y.CPUs, 1)) || math.Abs(float64(x.MemoryFree)-float64(y.MemoryFree)) > 0.1*float64(y.Memory) {
		return true
	}
	x.Load, x.MemoryFree = y.Load, y.MemoryFree
	return x != y
}
