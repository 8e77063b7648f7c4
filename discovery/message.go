package discovery

import (
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// What travels by multicast DNS (RFC 6762, RFC 6763). A question asks who has
// the service; an announcement is a PTR record that names an instance of it,
// with its SRV, TXT and address records in the same packet. A goodbye is an
// announcement that is good for no time at all.
const (
	mdnsType    = "_hither._udp"
	mdnsDomain  = "local."
	mdnsService = mdnsType + "." + mdnsDomain
	mdnsFlush   = dnsmessage.Class(1 << 15)

	maxRecords = 64 // of a packet, that are looked at
	maxTold    = 16 // announcements in a packet
	maxTexts   = 8  // in a TXT record
)

// told is what a host says about itself. Nothing of it is proven.
type told struct {
	instance  string // the first label of its name
	short     string // the beginning of its ID
	name      string
	port      uint16
	addresses []netip.Addr
	bye       bool
}

// question is the packet that asks who is there.
func question() ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	err := b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(mdnsService), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET})
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

// understand reads a packet of anybody's: whether it asks for the service, and
// what it tells of hosts that have it. What makes no sense is left out.
func understand(packet []byte) (asks bool, all []told) {
	var p dnsmessage.Parser
	head, err := p.Start(packet)
	if err != nil || head.OpCode != 0 {
		return false, nil
	}
	if !head.Response {
		for range maxRecords {
			q, err := p.Question()
			if err != nil {
				break
			}
			kind := q.Type == dnsmessage.TypePTR || q.Type == dnsmessage.TypeALL
			asks = asks || kind && q.Class&^mdnsFlush == dnsmessage.ClassINET && isService(q.Name)
		}
		return asks, nil // what others know already does not matter
	}
	if p.SkipAllQuestions() != nil {
		return false, nil
	}
	r := records{instances: map[string]*told{}, hosts: map[string]string{}, addresses: map[string][]netip.Addr{}}
	left := maxRecords
	if r.read(p.AnswerHeader, p.SkipAnswer, &p, &left) && p.SkipAllAuthorities() == nil {
		r.read(p.AdditionalHeader, p.SkipAdditional, &p, &left)
	}
	for name, t := range r.instances {
		t.addresses = r.addresses[r.hosts[name]]
		if t.short != "" || t.bye {
			all = append(all, *t)
		}
	}
	return false, all
}

// records gathers what the records of a packet say, in whatever order they come.
type records struct {
	instances map[string]*told        // by full name
	hosts     map[string]string       // of an instance
	addresses map[string][]netip.Addr // of a host
}

// read goes through a section of a packet; false if the rest cannot be read.
func (r *records) read(next func() (dnsmessage.ResourceHeader, error), skip func() error, p *dnsmessage.Parser, left *int) bool {
	for {
		h, err := next()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return true
		}
		if *left--; err != nil || *left < 0 {
			return false
		}
		name := strings.ToLower(h.Name.String())
		if h.Class&^mdnsFlush != dnsmessage.ClassINET {
			h.Type = 0
		}
		switch h.Type {
		case dnsmessage.TypePTR:
			var body dnsmessage.PTRResource
			if body, err = p.PTRResource(); err == nil && name == mdnsService {
				if t := r.instance(strings.ToLower(body.PTR.String())); t != nil && h.TTL == 0 {
					t.bye = true
				}
			}
		case dnsmessage.TypeSRV:
			var body dnsmessage.SRVResource
			if body, err = p.SRVResource(); err == nil {
				if t := r.instance(name); t != nil {
					t.port = body.Port
					r.hosts[name] = strings.ToLower(body.Target.String())
				}
			}
		case dnsmessage.TypeTXT:
			var body dnsmessage.TXTResource
			if body, err = p.TXTResource(); err == nil {
				if t := r.instance(name); t != nil {
					t.read(body.TXT)
				}
			}
		case dnsmessage.TypeA:
			var body dnsmessage.AResource
			if body, err = p.AResource(); err == nil {
				r.addresses[name] = append(r.addresses[name], netip.AddrFrom4(body.A))
			}
		case dnsmessage.TypeAAAA:
			var body dnsmessage.AAAAResource
			if body, err = p.AAAAResource(); err == nil {
				r.addresses[name] = append(r.addresses[name], netip.AddrFrom16(body.AAAA))
			}
		default:
			err = skip()
		}
		if err != nil {
			return false
		}
	}
}

// instance is the entry of an instance of the service; nil if it is none, or
// there are too many.
func (r *records) instance(name string) *told {
	label, ok := strings.CutSuffix(name, "."+mdnsService)
	if !ok || label == "" || len(label) > 63 {
		return nil
	}
	t := r.instances[name]
	if t == nil && len(r.instances) < maxTold {
		t = &told{instance: label}
		r.instances[name] = t
	}
	return t
}

func (t *told) read(texts []string) {
	for _, text := range texts[:min(len(texts), maxTexts)] {
		if v, ok := strings.CutPrefix(text, "id="); ok {
			t.short = v
		}
		if v, ok := strings.CutPrefix(text, "name="); ok {
			t.name = v
		}
	}
}

func isService(name dnsmessage.Name) bool { return strings.EqualFold(name.String(), mdnsService) }
