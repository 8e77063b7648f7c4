// Package transport is how bytes travel between two hosts: QUIC with both ends
// known by their keys.
//
// In a nutshell: a host has one Identity (an ed25519 key, in a file) and one
// book of the hosts it is paired with (Trust, in a file). An Endpoint is one
// UDP socket that both listens and dials. Dialling a Peer, or accepting one,
// gives a Conn: TLS 1.3 in which each side has proven the key that the other
// one has in its book, and in which the two have said Hello. On a Conn either
// side opens Streams; a Stream carries raw bytes (Read, Write) and typed,
// checked messages (Send, Receive), in any order the two sides agree on.
//
//	dialling                                  accepting
//	TLS 1.3, key pinned        <---------->   key must be in the book
//	control stream: hello       ---------->
//	                           <----------    hello         (the Conn is up)
//	control stream: hello       ---------->   ... again, at any time: a ping
//	stream of the caller's      ---------->   AcceptStream
//
// The first byte of each stream tells control streams from the caller's; the
// package answers control streams itself, so that a Ping works on every
// connection without the caller's help. A client of TLS 1.3 believes that it
// is connected before the other side has looked at its key; the first hello is
// what turns that into an answer, so an unpaired host fails in Dial.
//
// # What breaks, and what does not
//
// A link that is cut for some seconds, an address that changes, a route that
// is missing for a while do not end a connection: the socket takes the errors
// that the kernel gives for them as lost packets. A peer that is silent for
// Options.IdleTimeout is gone (LostError). A peer that restarts on the same
// port is noticed at the first packet sent to it, by a stateless reset.
//
// # Speed
//
// Write in pieces of 256 KiB or more: writes of 4 KiB halve the rate. Most of the garbage of a transfer is short-lived: a process that moves
// much data wants GOGC=400 (debug.SetGCPercent), which is worth some ten per
// cent. A second connection (Dial again; it is cheap) helps on links with loss
// or delay, more streams on one connection do not.
//
// # Locks
//
// Endpoint.mu guards the set of live connections, Trust.mu the book in memory,
// the lock file of the book its file. None is held while another one of this
// package is taken, except that Trust.mu is held while the lock file is.
package transport
