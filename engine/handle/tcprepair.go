package handle

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Queues of TCP_REPAIR, linux/tcp.h.
const (
	tcpNoQueue     = 0
	tcpRecvQueue   = 1
	tcpSendQueue   = 2
	tcpRepairNoWP  = -1      // leave repair mode without a window probe
	tcpLargest     = 1 << 19 // of a packet's bytes in the kernel, GSO_MAX_SIZE of linux/netdevice.h
	errRepairWords = "looking at what was sent and not received needs rights over the capsule's network"
)

// tcpUnsent returns what from has to send and to has not received. Only
// TCP_REPAIR shows that; it is entered when there is something, and left again.
func (c *capturer) tcpUnsent(from, to *desc) ([]byte, error) {
	waiting, err := unix.IoctlGetInt(from.fd, siocOutQ)
	if err != nil || waiting == 0 {
		return nil, err
	}
	if waiting > maxTCPQueue {
		return nil, refuse("let the app read it first", "a network connection with %d bytes waiting to be sent", waiting)
	}
	var sent, received uint32
	var data []byte
	err = repairing(to.fd, tcpRecvQueue, func() (err error) {
		received, err = queueSeq(to.fd)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = repairing(from.fd, tcpSendQueue, func() (err error) {
		if sent, err = queueSeq(from.fd); err != nil {
			return err
		}
		// The first packet is kept whole until all of it is acknowledged.
		m, err := recvmsg(from.fd, make([]byte, waiting+tcpLargest), nil, unix.MSG_PEEK)
		if err != nil {
			return fmt.Errorf("reading what is to be sent: %w", err)
		}
		data = m.data
		return nil
	})
	if err != nil {
		return nil, err
	}
	missing := int(int32(sent - received))
	// Sequence numbers count an end (FIN) as one byte.
	info, err := unix.GetsockoptTCPInfo(from.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return nil, fmt.Errorf("asking for its state: %w", err)
	}
	switch info.State {
	case tcpFinWait1, tcpClosing, tcpLastAck:
		missing--
	}
	if missing <= 0 {
		return nil, nil
	}
	if missing > len(data) {
		return nil, fmt.Errorf("%d bytes are missing at one end and %d wait at the other", missing, len(data))
	}
	return data[len(data)-missing:], nil
}

func queueSeq(fd int) (uint32, error) {
	seq, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
	if err != nil {
		return 0, fmt.Errorf("asking how far it is: %w", err)
	}
	return uint32(seq), nil
}

// repairing runs fn with a queue of the socket open to view. Leaving repair mode
// clears SO_REUSEADDR, which is put back.
func repairing(fd, queue int, fn func() error) error {
	reuse, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	if err != nil {
		return fmt.Errorf("%s: %w", errRepairWords, err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
		return fmt.Errorf("%s: %w", errRepairWords, err)
	}
	defer func() {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, tcpNoQueue)
		if unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, tcpRepairNoWP) != nil {
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 0)
		}
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, reuse)
	}()
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue); err != nil {
		return fmt.Errorf("%s: %w", errRepairWords, err)
	}
	return fn()
}
