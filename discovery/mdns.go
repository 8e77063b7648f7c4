package discovery

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/grandcat/zeroconf"

	"hither/transport"
)

// Zeroconf tells the local network about this host: when it comes (twice, as
// packets get lost), when somebody asks, and when it goes. Who is near is found
// out in rounds: somebody asks who is there, and all answer, once, to all. A
// question that one host asks serves everybody on the link: who hears it puts off
// his own. So each link has one question and one answer of each host in a round,
// and the more hosts there are, the longer a round is. A host that died is forgotten
// when it was not heard for two rounds.
//
// The library's own browser hears no goodbyes, tells of no host twice, and leaves out
// the link that it was heard on; so questions are asked and answers heard by radio.go.
const (
	round     = 3500 * time.Millisecond // so that who died is gone within 10 s
	perHost   = 250 * time.Millisecond  // a round is at least that long for each host that answers
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
	server := b.announce(links)
	defer func() { farewell(server) }()
	for {
		timer.Reset(time.Until(next(channels)))
		select {
		case <-timer.C:
			now := time.Now()
			asked := false
			for _, c := range channels {
				asked = c.askIfDue(r, now) || asked
			}
			if asked && !slices.EqualFunc(links, multicastLinks(b.endpoint.At()), sameLink) {
				b.kickAll() // the kernel did not tell of it
				return
			}
		case p := <-r.packets:
			b.take(channels, p)
		case <-b.respeak: // there is something new to say, or nothing more
			farewell(server)
			server = b.announce(links)
		case <-b.look:
			for _, c := range channels {
				c.ask = time.Now()
			}
		case <-changes:
			b.kickAll()
			return
		case <-b.ctx.Done():
			return
		}
	}
}

// announce tells of this host until the server is shut down, on each link of its
// addresses there and no others; nil if this host is hidden, or the library found no
// link. Only the beginning of the ID is told: enough for paired hosts to know us by,
// and for people to compare.
func (b *Book) announce(links []link) *zeroconf.Server {
	if b.isHidden() || len(links) == 0 {
		return nil
	}
	var interfaces []net.Interface
	for _, l := range links {
		interfaces = append(interfaces, l.Interface)
	}
	var addresses []string // none: those of the link that is spoken on
	if at := b.endpoint.At(); at.IsValid() {
		addresses = []string{at.String()}
	}
	short := b.endpoint.ID().Short()
	server, err := zeroconf.RegisterProxy("hither-"+short, mdnsType, mdnsDomain, b.endpoint.Port(), "hither-"+short,
		addresses, []string{"id=" + short, "name=" + b.endpoint.Name()}, interfaces)
	if err != nil {
		return nil // the links have just changed; that is told
	}
	return server
}

func farewell(server *zeroconf.Server) {
	if server != nil {
		server.Shutdown()
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

// soon is not at once: all who see the same change would ask in the same moment.
func soon() time.Duration { return 20*time.Millisecond + rand.N(100*time.Millisecond) }

func due(at, now time.Time) bool { return !at.IsZero() && !at.After(now) }

// next is when something has to be asked.
func next(channels []*channel) time.Time {
	first := time.Now().Add(time.Hour)
	for _, c := range channels {
		if !c.ask.IsZero() && c.ask.Before(first) {
			first = c.ask
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
	if asks && c.asked >= atFirst {
		c.endRound(now)
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
