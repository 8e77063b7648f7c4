package network

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// queryTimeout is how long a name server has to answer before the next one is
// asked.
const queryTimeout = 3 * time.Second

const (
	maxServers  = 3 // as in the C library
	maxQuestion = 4096
	maxConf     = 64 << 10

	dnsHeader = 12
)

// names asks the host's name servers for the capsule.
type names struct {
	host  Host
	slots chan struct{}

	mu    sync.Mutex
	known []netip.AddrPort
	stamp os.FileInfo // of the file they were read from
}

func (n *names) init(h Host) {
	n.host = h
	if n.host.ResolvConf == "" {
		n.host.ResolvConf = "/etc/resolv.conf"
	}
	n.slots = make(chan struct{}, maxQueries)
}

// servers returns the name servers, read anew if the file has changed.
func (n *names) servers() []netip.AddrPort {
	if n.host.NameServers != nil {
		return n.host.NameServers
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	info, err := os.Stat(n.host.ResolvConf)
	if err == nil && n.stamp != nil && os.SameFile(info, n.stamp) && info.ModTime().Equal(n.stamp.ModTime()) && info.Size() == n.stamp.Size() {
		return n.known
	}
	n.known, n.stamp = nil, info
	for _, line := range confLines(n.host.ResolvConf) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "nameserver" && len(n.known) < maxServers {
			if addr, err := netip.ParseAddr(fields[1]); err == nil {
				n.known = append(n.known, netip.AddrPortFrom(addr, 53))
			}
		}
	}
	if n.known == nil { // as the C library does
		n.known = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	}
	return n.known
}

// ask asks the name servers one after another until one answers, and hands the
// answer to reply.
func (n *names) ask(ctx context.Context, question []byte, reply func([]byte)) {
	if len(question) > maxQuestion {
		return
	}
	select {
	case n.slots <- struct{}{}:
	default:
		return // lost; whoever asked asks again
	}
	go func() {
		defer func() { <-n.slots }()
		for _, server := range n.servers() {
			if answer, err := exchange(ctx, server, question); err == nil {
				reply(answer)
				return
			}
			if ctx.Err() != nil {
				return
			}
		}
	}()
}

// exchange asks one name server. Every question has a socket, and so a port, of
// its own.
func exchange(ctx context.Context, server netip.AddrPort, question []byte) ([]byte, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(queryTimeout))
	if _, err := conn.Write(question); err != nil {
		return nil, err
	}
	buf := make([]byte, 1<<16)
	for {
		k, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		// An answer, and to this question: same ID.
		if k >= dnsHeader && len(question) >= dnsHeader && buf[2]&0x80 != 0 && bytes.Equal(buf[:2], question[:2]) {
			return buf[:k], nil
		}
	}
}

// ResolvConf is the capsule's /etc/resolv.conf: the gateway as the name server,
// and the host's search list and options.
func ResolvConf() []byte { return Host{}.resolvConf() }

func (h Host) resolvConf() []byte {
	var n names
	n.init(h)
	var b bytes.Buffer
	b.WriteString("# Of this capsule: the gateway asks the name servers of the host that it runs on.\n")
	b.WriteString("nameserver " + Gateway4.String() + "\n")
	for _, line := range confLines(n.host.ResolvConf) {
		switch fields := strings.Fields(line); {
		case len(fields) < 2:
		case fields[0] == "search" || fields[0] == "domain" || fields[0] == "options":
			b.WriteString(strings.Join(fields, " ") + "\n")
		}
	}
	return b.Bytes()
}

func confLines(file string) (lines []string) {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	scan := bufio.NewScanner(f)
	for total := 0; scan.Scan() && total < maxConf; total += len(scan.Text()) + 1 {
		lines = append(lines, scan.Text())
	}
	return lines
}
