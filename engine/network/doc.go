// Package network gives a capsule a network of its own that reaches what its
// user can reach, without root.
//
// In a nutshell: [Open], called by the capsule's first stage in the new network
// namespace, makes the inside: the loopback, one interface with a private
// address, and default routes through it. What leaves by that interface comes
// out of a descriptor, as IP packets: of a TUN device, or, where /dev/net/tun
// is closed, of a packet socket on the other end of a veth pair. [Run], called
// by the keeper outside, is the gateway at the other end of that descriptor: a
// TCP/IP stack in user space (gVisor's) which takes every connection and every
// datagram, whatever its destination, and carries its content over a plain
// socket of the host. The host's kernel knows nothing of it, and sees a
// program of this user that connects somewhere.
//
//	10.113.0.2, fd68:6974::2   the capsule, on every host alike
//	10.113.0.1, fd68:6974::1   the gateway. Its port 53 answers DNS by asking the
//	                           host's name servers; all its other ports are those
//	                           of the host's own loopback, 127.0.0.1 and ::1
//
// An app in the capsule that connects to localhost meets the capsule's own
// loopback; to meet a server that listens on the host's loopback it connects to
// 10.113.0.1.
//
// What is carried: TCP with its half-closes, resets and refusals; UDP, where
// each pair of addresses has a socket of its own for as long as it is used
// (two minutes of silence end it); errors as ICMP 'unreachable'. What is not:
// connections from outside, ping (only the gateway answers), other protocols,
// multicast and broadcast.
//
// At rest nothing runs: the goroutines wait in the poller or on channels.
//
// # Locks
//
// gateway.mu guards the count of flows and the sequence numbers of connection
// attempts; nothing else is called under it.
package network
