package handle

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// socketTable is what /proc/PID/net tells of the sockets in a network
// namespace, by inode: Survey's way of knowing sockets without touching them.
type socketTable struct {
	sockets map[uint64]*socketRow
	// ours are the addresses that sockets of the namespace have: a TCP peer among
	// them is inside.
	ours map[netip.AddrPort]bool
}

type socketRow struct {
	domain, kind, protocol int
	local, remote          netip.AddrPort
	state                  int
	name                   string // of a unix socket
}

// TCP states, net/tcp_states.h.
const (
	tcpEstablished = 1
	tcpListen      = 10
	unixConnected  = 3 // SS_CONNECTED, linux/net.h
)

func readSockets(pid int) *socketTable {
	t := &socketTable{sockets: map[uint64]*socketRow{}, ours: map[netip.AddrPort]bool{}}
	for _, f := range []struct {
		file                   string
		domain, kind, protocol int
	}{
		{"tcp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP}, {"tcp6", unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP},
		{"udp", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP}, {"udp6", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
		{"udplite", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE}, {"udplite6", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE},
		{"raw", unix.AF_INET, unix.SOCK_RAW, 0}, {"raw6", unix.AF_INET6, unix.SOCK_RAW, 0},
		{"icmp", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, {"icmp6", unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6},
	} {
		for _, fields := range table(pid, f.file) {
			if len(fields) < 10 {
				continue
			}
			row := &socketRow{domain: f.domain, kind: f.kind, protocol: f.protocol, local: procAddress(fields[1]), remote: procAddress(fields[2])}
			state, _ := strconv.ParseInt(fields[3], 16, 32)
			row.state = int(state)
			t.ours[row.local] = true
			t.add(fields[9], row)
		}
	}
	for _, fields := range table(pid, "unix") {
		if len(fields) >= 7 {
			kind, _ := strconv.ParseInt(fields[4], 16, 32)
			state, _ := strconv.ParseInt(fields[5], 16, 32)
			row := &socketRow{domain: unix.AF_UNIX, kind: int(kind), state: int(state)}
			if len(fields) > 7 {
				row.name = strings.Join(fields[7:], " ")
			}
			t.add(fields[6], row)
		}
	}
	for _, f := range []struct {
		file   string
		domain int
		column int
	}{{"netlink", unix.AF_NETLINK, 9}, {"packet", unix.AF_PACKET, 8}} {
		for _, fields := range table(pid, f.file) {
			if len(fields) > f.column {
				protocol, _ := strconv.Atoi(fields[1]) // of netlink
				t.add(fields[f.column], &socketRow{domain: f.domain, protocol: protocol})
			}
		}
	}
	return t
}

func (t *socketTable) add(inode string, row *socketRow) {
	if n, err := strconv.ParseUint(inode, 10, 64); err == nil && n != 0 {
		t.sockets[n] = row
	}
}

// table reads the lines of /proc/PID/net/FILE but its first, in fields.
func table(pid int, file string) [][]string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
	if err != nil {
		return nil
	}
	var out [][]string
	first := true
	for line := range strings.Lines(string(text)) {
		if !first {
			out = append(out, strings.Fields(line))
		}
		first = false
	}
	return out
}

// procAddress reads "0100007F:1F90": the address in 32-bit words of the
// machine's own order, the port in hexadecimal.
func procAddress(s string) netip.AddrPort {
	host, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		raw[i], raw[i+1], raw[i+2], raw[i+3] = raw[i+3], raw[i+2], raw[i+1], raw[i]
	}
	a, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a.Unmap(), uint16(n))
}

func (t *socketTable) kind(inode uint64) (domain, kind, protocol int, err error) {
	row := t.sockets[inode]
	if row == nil {
		// It may be new, or an unconnected TCP socket, which no table lists: the
		// capture looks again.
		return unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP, nil
	}
	return row.domain, row.kind, row.protocol, nil
}

// check refuses sockets whose other end is outside.
func (t *socketTable) check(inode uint64) error {
	row := t.sockets[inode]
	if row == nil || row.domain == unix.AF_UNIX || row.protocol != unix.IPPROTO_TCP || row.state == tcpListen {
		return nil
	}
	if row.remote.Port() != 0 && !t.ours[row.remote] {
		return refuseConnection(row.remote.String())
	}
	return nil
}

func refuseOutside(who string) error {
	if who == "" {
		who = "a process outside the capsule"
	}
	return refuse("close what talks to it in the app, or start the app without it", "a connection to %s", who)
}

func refuseConnection(to string) error {
	return refuse("let the app close it (it may connect again after the move)", "an open network connection to %s", to)
}
