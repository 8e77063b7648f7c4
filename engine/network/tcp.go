package network

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// dialTimeout is longer than an app's own patience (Linux gives up after 127 s),
// so that it is the app that gives up.
const dialTimeout = 150 * time.Second

var dialer = net.Dialer{
	Timeout: dialTimeout,
	// The app's own keep-alives end at the gateway. These find a dead peer, at a
	// pace that costs nothing.
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Minute, Interval: 30 * time.Second, Count: 6},
}

// acceptTCP connects to where an app in the capsule connects to, then answers
// it. The app's connect succeeds or fails as the host's did.
func (g *gateway) acceptTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	if !g.enter(&g.tcp, maxTCP) {
		g.noted(id)
		r.Complete(true)
		return
	}
	defer g.leave(&g.tcp)

	conn, err := g.dialTCP(id)
	seq := g.noted(id)
	var timeout net.Error
	switch {
	case err == nil:
	case errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM):
		r.Complete(false)
		// Ports and sequence number are all that is read of what is quoted.
		quoted := header.TCP(make([]byte, header.TCPMinimumSize))
		quoted.Encode(&header.TCPFields{SrcPort: id.RemotePort, DstPort: id.LocalPort, SeqNum: seq, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn})
		g.unreachable(id, header.TCPProtocolNumber, quoted, err)
		return
	case errors.As(err, &timeout) && timeout.Timeout() || g.ctx.Err() != nil:
		r.Complete(false)
		return
	default:
		r.Complete(true)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(g.ctx, func() { conn.Close() })()

	var queue waiter.Queue
	ep, failed := r.CreateEndpoint(&queue)
	r.Complete(failed != nil)
	if failed != nil {
		return
	}
	defer ep.Close()
	// Small writes of the far side go on at once: it has done its own waiting.
	ep.SocketOptions().SetDelayOption(false)

	f := &flow{ep: ep, queue: &queue, conn: conn, ctx: g.ctx}
	uploaded := make(chan struct{})
	go func() {
		defer close(uploaded)
		if err := f.upload(); err != nil {
			f.breakOff()
		}
	}()
	if err := f.download(); err != nil {
		f.breakOff()
	}
	<-uploaded
}

// dialTCP connects to the destination of a connection.
func (g *gateway) dialTCP(id stack.TransportEndpointID) (*net.TCPConn, error) {
	to, dns, err := g.target(id)
	if err != nil {
		return nil, err
	}
	if !dns {
		return dialTCP(g.ctx, to.String())
	}
	err = syscall.ECONNREFUSED
	for _, server := range g.names.servers() {
		ctx, cancel := context.WithTimeout(g.ctx, queryTimeout)
		conn, failed := dialTCP(ctx, server.String())
		cancel()
		if failed == nil {
			return conn, nil
		}
		err = failed
	}
	return nil, err
}

func dialTCP(ctx context.Context, to string) (*net.TCPConn, error) {
	conn, err := dialer.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// flow joins a connection of the stack and one of the host.
type flow struct {
	ep    tcpip.Endpoint
	queue *waiter.Queue
	conn  *net.TCPConn
	ctx   context.Context
}

// breakOff resets both sides.
func (f *flow) breakOff() {
	f.ep.Abort()
	f.conn.SetLinger(0)
	f.conn.Close()
}

// upload carries what the app sends, up to the end of it.
func (f *flow) upload() error {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	f.queue.EventRegister(&entry)
	defer f.queue.EventUnregister(&entry)
	for {
		err := withBuffer(func(b []byte) error {
			for {
				w := tcpip.SliceWriter(b)
				got, err := f.ep.Read(&w, tcpip.ReadOptions{})
				switch err.(type) {
				case nil:
				case *tcpip.ErrWouldBlock:
					return nil
				case *tcpip.ErrClosedForReceive:
					return io.EOF
				default:
					return errors.New(err.String())
				}
				if _, err := f.conn.Write(b[:got.Count]); err != nil {
					return err
				}
			}
		})
		switch {
		case err == io.EOF:
			f.conn.CloseWrite()
			return nil
		case err != nil:
			return err
		}
		select {
		case <-ready:
		case <-f.ctx.Done():
			return f.ctx.Err()
		}
	}
}

// download carries what the far side sends, up to the end of it.
func (f *flow) download() error {
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	f.queue.EventRegister(&entry)
	defer f.queue.EventUnregister(&entry)
	raw, err := f.conn.SyscallConn()
	if err != nil {
		return err
	}
	for {
		err := readReady(raw, func(b []byte) error {
			r := bytes.NewReader(b)
			for r.Len() > 0 {
				_, err := f.ep.Write(r, tcpip.WriteOptions{})
				switch err.(type) {
				case nil:
				case *tcpip.ErrWouldBlock:
					select {
					case <-ready:
					case <-f.ctx.Done():
						return f.ctx.Err()
					}
				default:
					return errors.New(err.String())
				}
			}
			return nil
		})
		if err == io.EOF {
			f.ep.Shutdown(tcpip.ShutdownWrite)
			return nil
		}
		if err != nil {
			return err
		}
	}
}
