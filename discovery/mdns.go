package discovery

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"hither/transport"
)

// Who is near is found out in rounds: somebody asks who is there, and all
// answer, once, to all. A question that one host asks serves everybody on the
// link: who hears it puts off his own. So each link has one question and one
// answer of each host in a round, and the more hosts there are, the longer a
// round is. A host says by itself when it comes (twice, as packets get lost),
// when it changes, and when it goes; one that died is forgotten when it was
// not heard for two rounds.
const (
	round     = 5 * time.Second
	perHost   = 250 * time.Millisecond // a round is at least that long for each host that answers
	longest   = 30 * time.Second
	goodFor   = 2.4 // rounds
	atFirst   = 2   // questions, a second apart, of who has just come
	notSooner = time.Second
)

// channel is a link and an IP version. A time that is zero is not due.
type channel struct {
	link  link
	six   bool
	asked int       // how often
	ask   time.Time // when to ask next
	say   time.Time // when to say who we are
	again time.Time // and when once more
	said  time.Time // when we last did
	round time.Duration
	heard int // hosts, in this round
}

// overhear tells the local network about this host and listens to what others
// tell, and starts anew where addresses change.
func (b *Book) overhear() {
	changes := watchLinks(b.ctx)
	for b.ctx.Err() == nil {
		links := multicastLinks(b.endpoint.At())
		r, err := tune(links)
		if err != nil { // somebody has the port for himself
			select {
			case <-changes:
				b.kickAll()
			case <-time.After(round):
			case <-b.ctx.Done():
			}
			continue
		}
		b.talk(r, links, changes)
		r.close()
	}
}

// talk is the conversation until this host's links change, or the book closes.
func (b *Book) talk(r *radio, links []link, changes <-chan struct{}) {
	channels := channelsOf(links)
	timer := time.NewTimer(0)
	defer timer.Stop()
	b.saySoon(channels, time.Now())
	for {
		timer.Reset(time.Until(next(channels)))
		select {
		case <-timer.C:
			now := time.Now()
			asked := false
			for _, c := range channels {
				asked = c.askIfDue(r, now) || asked
				if c.mustSay(now) {
					b.speak(r, c, false)
				}
			}
			if asked && !slices.EqualFunc(links, multicastLinks(b.endpoint.At()), sameLink) {
				b.kickAll() // the kernel did not tell of it
				return
			}
		case p := <-r.packets:
			b.take(channels, p)
		case <-b.respeak: // there is something new to say, or nothing more
			if b.isHidden() {
				b.sayBye(r, channels)
			}
			b.saySoon(channels, time.Now())
		case <-b.look:
			for _, c := range channels {
				c.ask = time.Now()
			}
		case <-changes:
			b.kickAll()
			return
		case <-b.ctx.Done():
			b.sayBye(r, channels)
			return
		}
	}
}

func channelsOf(links []link) []*channel {
	var all []*channel
	now := time.Now()
	for _, l := range links {
		for _, six := range []bool{false, true} {
			if six && l.six() || !six && l.four() {
				all = append(all, &channel{link: l, six: six, round: round, ask: now.Add(soon())})
			}
		}
	}
	return all
}

func sameLink(a, b link) bool {
	return a.Index == b.Index && a.Name == b.Name && slices.Equal(a.addresses, b.addresses)
}

// soon is not at once: all who hear the same would answer in the same moment.
func soon() time.Duration { return 20*time.Millisecond + rand.N(100*time.Millisecond) }

func due(at, now time.Time) bool { return !at.IsZero() && !at.After(now) }

// next is when something has to be said or asked.
func next(channels []*channel) time.Time {
	first := time.Now().Add(time.Hour)
	for _, c := range channels {
		for _, at := range []time.Time{c.ask, c.say, c.again} {
			if !at.IsZero() && at.Before(first) {
				first = at
			}
		}
	}
	return first
}

func (c *channel) askIfDue(r *radio, now time.Time) bool {
	if !due(c.ask, now) {
		return false
	}
	q, err := question()
	if err != nil {
		return false
	}
	r.say(q, c.link.Index, c.six)
	c.asked++
	c.endRound(now)
	if c.asked < atFirst {
		c.ask = now.Add(notSooner + soon())
	}
	return true
}

// endRound puts the next question off, because it was asked.
func (c *channel) endRound(now time.Time) {
	c.round = min(max(round, time.Duration(c.heard)*perHost), longest)
	c.heard = 0
	c.ask = now.Add(c.round + rand.N(c.round/10))
	if c.six && c.link.four() && c.asked >= atFirst {
		c.ask = time.Time{} // IPv4 reaches all, until somebody is heard who has none
	}
}

func (c *channel) mustSay(now time.Time) bool {
	if due(c.again, now) {
		c.say, c.again = now, time.Time{}
	}
	if !due(c.say, now) {
		return false
	}
	c.say, c.said = time.Time{}, now
	return true
}

// answer has us say who we are, soon, and not too often.
func (c *channel) answer(now time.Time) {
	if !c.say.IsZero() {
		return
	}
	c.say = now.Add(soon())
	if earliest := c.said.Add(notSooner); c.say.Before(earliest) {
		c.say = earliest
	}
}

// saySoon has us say who we are on all channels, twice.
func (b *Book) saySoon(channels []*channel, now time.Time) {
	hidden := b.isHidden()
	for _, c := range channels {
		c.say, c.again = now, now.Add(notSooner)
		if hidden {
			c.say, c.again = time.Time{}, time.Time{}
		}
	}
}

// speak says who we are. Only the beginning of the ID is told: enough for
// paired hosts to know us by, and for people to compare.
func (b *Book) speak(r *radio, c *channel, bye bool) {
	short := b.endpoint.ID().Short()
	// A host may have two links to one network: each has its own name there.
	data, err := announcement(told{instance: "hither-" + short + "-" + strconv.Itoa(c.link.Index),
		short: short, name: b.endpoint.Name(), port: uint16(b.endpoint.Port()), addresses: c.link.addresses, bye: bye})
	if err == nil {
		r.say(data, c.link.Index, c.six)
	}
}

func (b *Book) sayBye(r *radio, channels []*channel) {
	for _, c := range channels {
		if !c.said.IsZero() {
			b.speak(r, c, true)
			c.said = time.Time{}
		}
	}
}

// take takes in a packet that was heard.
func (b *Book) take(channels []*channel, p packet) {
	var c *channel
	for _, k := range channels {
		if k.link.Index == p.link && k.six == p.six {
			c = k
		}
	}
	if c == nil {
		return // the kernel gives us what any program of this machine listens to
	}
	now := time.Now()
	asks, all := understand(p.data)
	if asks {
		if !b.isHidden() {
			c.answer(now)
		}
		if c.asked >= atFirst {
			c.endRound(now)
		}
	}
	for _, t := range all {
		c.heard++
		b.notice(t, c.link.Name, time.Duration(goodFor*float64(c.round)))
		if c.six && c.ask.IsZero() && !slices.ContainsFunc(t.addresses, netip.Addr.Is4) {
			c.ask = now.Add(c.round)
		}
	}
}

// addressesOf are what a host told on a link as host:port; link-local IPv6
// gets the zone, which is that of the link on this host.
func addressesOf(t told, zone string) []string {
	var all []string
	for _, ip := range t.addresses {
		if t.port == 0 || !tellable(ip) || len(all) == maxHints {
			continue
		}
		if ip.Is6() && ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(zone)
		}
		if a := net.JoinHostPort(ip.String(), strconv.Itoa(int(t.port))); transport.CheckAddress(a) == nil {
			all = append(all, a)
		}
	}
	return all
}
