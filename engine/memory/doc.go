// Package memory finds the pages of processes that must travel, carries them as a
// stream of runs, and puts them in place on the other side.
//
// In a nutshell: Ranges asks the kernel which pages of a mapping hold something
// of the process's own. Send cuts Sources (processes, and files of shared memory)
// into chunks; a few workers read each chunk straight into the buffer it is sent
// from, leave pages of zeros out, and compress where that pays; the caller's goroutine writes
// the chunks in order. Receive reads run after run and hands each to a worker, which
// checks it, decompresses it and writes it where its Place allows. So reading, packing
// and the network overlap, with a fixed number of buffers, and nothing is staged on disk.
//
// The stream (wire.go has the bytes): runs of at most 1 MiB, ascending by kind, id and
// address, each with a checksum, then an end record with the totals. A stream
// that is damaged, cut or hostile is an error: no run is larger than its bound, and
// none is written outside of what the Place was given.
//
// A Tracker tells which pages were written since it was last asked, while the process runs:
// each round of memory that goes ahead of a freeze is a stream of its own, and so is the rest.
package memory
