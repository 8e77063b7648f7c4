// Package discovery is who is there: the hosts this one is paired with, which
// of them answer now and where, and who else is near.
//
// In a nutshell: the book of trust (transport.Trust) says who the peers are and
// where they were last reached. For each peer, a goroutine keeps a connection
// open and pings over it every few seconds; what that finds is the truth:
//
//	      answered                            answered
//	new  ---------->  online  <------------------------------+
//	 |                  |  bye, or 3 misses in a row         |
//	 +--------------->  offline  -- tried again, less often -+
//
// A peer that was reached at another address than before is remembered there,
// in the book. Everything else is a hint that makes the next try come at once:
// a connection that the peer made to this host (Seen), a change of this host's
// own addresses, and what mDNS overhears (mdns.go; Options.NoMDNS leaves it
// out). Hints need not be true: a connection is made to a key, not to an address.
// mDNS also tells of hosts that are not paired: their names and the beginnings
// of their IDs are listed, which is what a person needs to pair with them.
//
// The daemon makes one Book and asks it for everything; Options.Changed is
// called, one call at a time, when something changed that people care about.
//
// Locks: Book.mu guards what is known. It is not held while a peer, the book of
// trust or Changed is called.
package discovery
