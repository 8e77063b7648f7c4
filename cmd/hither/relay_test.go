package main

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relays are the links between the hosts of these tests: what goes to a host
// goes through one, and is lost while it is cut.
var relays relaying

type relaying struct{ broken atomic.Bool }

func (r *relaying) cut(broken bool) { r.broken.Store(broken) }

// to makes a relay to a UDP port of this machine and gives its address.
func (r *relaying) to(t *testing.T, port int) string {
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	target := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
	var mu sync.Mutex
	backs := map[string]*net.UDPConn{} // one for each sender, so that answers find back
	t.Cleanup(func() {
		front.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, b := range backs {
			b.Close()
		}
	})
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := front.ReadFromUDP(buf)
			if err != nil {
				return
			}
			mu.Lock()
			back := backs[from.String()]
			if back == nil {
				if back, err = net.DialUDP("udp4", nil, target); err != nil {
					mu.Unlock()
					continue
				}
				backs[from.String()] = back
				go r.answers(front, back, from)
			}
			mu.Unlock()
			if !r.broken.Load() {
				back.Write(buf[:n]) //nolint:errcheck // as UDP has it
			}
		}
	}()
	return front.LocalAddr().String()
}

func (r *relaying) answers(front, back *net.UDPConn, to *net.UDPAddr) {
	buf := make([]byte, 64<<10)
	for {
		n, err := back.Read(buf)
		if err != nil {
			if _, closed := err.(*net.OpError); closed && back.SetDeadline(time.Time{}) != nil {
				return
			}
			continue // refused: the host's daemon is down
		}
		if !r.broken.Load() {
			front.WriteToUDP(buf[:n], to) //nolint:errcheck // as UDP has it
		}
	}
}
