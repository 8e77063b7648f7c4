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
// in the book. With each answer it says what it can take, and its name, which
// is followed (doubts.go). Everything else is a hint that makes the next try
// come at once: a connection that the peer made to this host (Seen), a change
// of this host's own addresses or links, the end of a suspend, and what
// multicast DNS overhears (Options.NoMDNS leaves it out). Hints need not be
// true: a connection is made to a key, not to an address.
//
// Multicast DNS also tells of hosts that are not paired, which is what a person
// needs to pair with them (strangers.go). mdns.go is the conversation, radio.go
// its sockets, message.go its packets, which are all that is foreign and not
// authenticated in here: they are limited in number and size.
//
// # What others learn
//
// Who listens on the network learns this host's name, the first 8 letters of
// its ID, its port, and the addresses it has on that link, not those on others;
// after SetDiscoverable(false) nothing of that. Who connects to the port learns
// that it is a hither, and its public key, which TLS shows to whoever dials; a
// host that dials shows its own only to the right one, or to pair. The version and
// all else are told to paired hosts alone, after both keys are proven.
//
// The daemon makes one Book and asks it for everything; Options.Changed is
// called, one call at a time, when something changed that people care about.
//
// Locks: Book.loading, then Book.mu, which guards what is known. Book.mu is not
// held while a peer, the book of trust or Changed is called.
package discovery
