package network

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxDatagram is the largest payload of a UDP packet.
const maxDatagram = 65507

// acceptUDP takes the first datagram between two addresses. What it does not
// take is answered with 'port unreachable'.
func (g *gateway) acceptUDP(r *udp.ForwarderRequest) bool {
	id := r.ID()
	to, dns, err := g.target(id)
	if err != nil {
		g.refuse(id, err)
		return true
	}
	if !g.enter(&g.udp, maxUDP) {
		return true // lost, as datagrams are
	}
	var conn *net.UDPConn
	if !dns {
		if conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); err != nil {
			g.leave(&g.udp)
			g.refuse(id, err)
			return true
		}
	}
	var queue waiter.Queue
	ep, failed := r.CreateEndpoint(&queue)
	if failed != nil {
		if conn != nil {
			conn.Close()
		}
		g.leave(&g.udp)
		return true
	}
	ctx, cancel := context.WithCancel(g.ctx)
	d := &dialogue{g: g, id: id, ep: ep, queue: &queue, conn: conn, ctx: ctx}
	d.used()
	go func() {
		defer g.leave(&g.udp)
		defer cancel()
		defer ep.Close()
		d.run(cancel)
	}()
	return true
}

// refuse tells the sender of a datagram that it went nowhere.
func (g *gateway) refuse(id stack.TransportEndpointID, err error) {
	quoted := header.UDP(make([]byte, header.UDPMinimumSize))
	quoted.Encode(&header.UDPFields{SrcPort: id.RemotePort, DstPort: id.LocalPort, Length: header.UDPMinimumSize})
	g.unreachable(id, header.UDPProtocolNumber, quoted, err)
}

// dialogue is what two addresses send each other.
type dialogue struct {
	g     *gateway
	id    stack.TransportEndpointID
	ep    tcpip.Endpoint
	queue *waiter.Queue
	conn  *net.UDPConn // nil: questions to the name servers
	ctx   context.Context
	last  atomic.Int64 // when it was used last
}

func (d *dialogue) used() { d.last.Store(time.Now().UnixNano()) }

// run carries datagrams until ctx is done, or nothing came for udpIdle.
func (d *dialogue) run(cancel context.CancelFunc) {
	received := make(chan struct{})
	if d.conn != nil {
		defer func() { <-received }()
		defer d.conn.Close()
		go func() {
			defer close(received)
			d.receive()
			cancel()
		}()
	}
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	d.queue.EventRegister(&entry)
	defer d.queue.EventUnregister(&entry)
	idle := time.NewTimer(udpIdle)
	defer idle.Stop()
	for {
		if !d.sendAll() {
			return
		}
		select {
		case <-ready:
		case <-d.ctx.Done():
			return
		case <-idle.C:
			left := udpIdle - time.Since(time.Unix(0, d.last.Load()))
			if left <= 0 {
				return
			}
			idle.Reset(left)
		}
	}
}

// sendAll sends on all datagrams that came from the app. It returns false at
// the end.
func (d *dialogue) sendAll() bool {
	return withBuffer(func(b []byte) error {
		for {
			w := tcpip.SliceWriter(b)
			got, err := d.ep.Read(&w, tcpip.ReadOptions{})
			switch err.(type) {
			case nil:
			case *tcpip.ErrWouldBlock:
				return nil
			default:
				return errors.New(err.String())
			}
			d.used()
			if d.conn == nil {
				d.g.names.ask(d.ctx, bytes.Clone(b[:got.Count]), d.reply)
				continue
			}
			// Errors are of earlier datagrams or of this one; receive tells
			// the first kind.
			if _, err := d.conn.Write(b[:got.Count]); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
				d.g.refuse(d.id, err)
			}
		}
	}) == nil
}

// receive carries what comes back.
func (d *dialogue) receive() {
	raw, err := d.conn.SyscallConn()
	if err != nil {
		return
	}
	for {
		err := read(raw, func(b []byte) error {
			d.reply(b)
			return nil
		})
		switch {
		case err == nil:
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
			d.g.refuse(d.id, err)
		default:
			return
		}
	}
}

// reply sends a datagram to the app.
func (d *dialogue) reply(b []byte) {
	d.used()
	if len(b) <= maxDatagram {
		d.ep.Write(bytes.NewReader(b), tcpip.WriteOptions{})
	}
}
