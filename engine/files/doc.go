// Package files decides which files go along with an app that moves to
// another host, carries them, shows them at their old paths inside its
// capsule, and brings home what the app wrote.
//
// # In a nutshell
//
// A file is found again by its path and its content (BLAKE3).
//
//	source                                   destination
//	Source.Need  (app runs)      Need   ->   Incoming.Answer
//	Source.Send                <- Answer     Incoming.Receive
//	                             bytes  ->   Incoming.Plan: mounts for the capsule
//	   --- freeze ---
//	Source.Recheck               Need   ->   Incoming.Answer   (a delta, most often empty)
//	Source.Send                <- Answer     Incoming.Receive, Plan (the same, or build the capsule anew)
//	SendTree (/tmp ...)          bytes  ->   ReceiveTree
//	                                         Incoming.Seal, then say 'ready'
//
// A Need lists what the app has open or mapped, the files its arguments name
// (vim holds only its swap file open), their symbolic links, the dynamic
// loader, the interpreter of a script, its working directories, and all that
// it took along or wrote before. The destination's answer for each: the host
// has the same file (rebound, nothing travels), or not (carried into the
// capsule's Layer; bytes travel unless the layer or the cache has them).
//
// # What is a document
//
// A document belongs to the person; everything else is the system's. A file is
// a document if it lies in the app's home, or in a directory the app may make
// files in outside of the system's trees, or if it is writable there, or if
// the app holds it open for writing. Documents are always carried, even when
// the destination has an equal file. The system's files are carried only if
// the destination lacks them or has others; then they are shown read-only.
//
// Away from its origin an app sees as its own, private and writable: its home
// and every other directory of documents it may write in. They show what was
// taken along and what it writes, nothing of the host. Homes of the host are
// not shown at all.
//
// # Concurrency
//
// A Hasher is safe for concurrent use. A Source, an Incoming and a Layer
// belong to one move, and their methods are called one at a time; nothing here
// holds a lock across a call to the outside. The package knows no network and
// no daemon: it speaks io.Reader and io.Writer.
package files
