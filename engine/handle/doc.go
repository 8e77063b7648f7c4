// Package handle records and rebuilds what the processes of a capsule hold by
// descriptor: open file descriptions, each once, however many descriptors,
// processes and socket queues share it.
//
// In a nutshell:
//
//   - Survey looks at running processes from outside and names what could not
//     be carried. It stops nothing and changes nothing.
//   - Capture wants all processes stopped. It duplicates every descriptor into
//     this process (pidfd_getfd), tells shared descriptions apart (kcmp), follows
//     descriptors that wait in the queues of unix sockets, and turns each
//     description into an image.Handle. What it looks at stays as it was.
//   - Rebind wants a stopped pid 1 of the new capsule. It builds every description
//     there, at high descriptor numbers: the larder. What belongs to a namespace
//     (paths, sockets, terminals) is made by system calls injected into pid 1; what
//     does not care who does it (bytes in a pipe, options) is done from here, on
//     duplicates. Processes forked from pid 1 inherit the larder.
//   - Larder.Place gives a new process its descriptors at their numbers, and
//     nothing else. Larder.Late does what needs all processes in place.
//
// A kind of description is one file: what is recorded, how it is captured,
// how it is rebound, what is refused. The table in kinds.go names them all, and
// classify.go says which description is of which kind.
//
// Nothing here is safe for use by several goroutines at once; there are no locks
// and so no lock order. Remote calls go through package tracee, which moves to
// its own thread by itself.
package handle
