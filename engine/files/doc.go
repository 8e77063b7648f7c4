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
//	Source.Recheck               Need   ->   Incoming.Update   (a delta, most often empty)
//	Source.Send(Everything)      bytes  ->   Incoming.Receive; Plan: the same, or build the capsule anew
//	SendTree (/tmp ...)          bytes  ->   ReceiveTree
//	                                         Incoming.Seal, Stage; rebuild the app by Homecoming.Opens
//	                           <- ready
//	   --- commit ---                        Homecoming.Commit; the app runs
//	Layer.Release                            Homecoming.Finish, or Layer.Sync
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
// a document if it lies in the app's home; or if the user may write it and it
// lies outside of the system's trees (/usr, /etc, /opt ...); or if the app
// holds it open for writing; or if it lies in a directory that is private.
// Documents are always carried, even when the destination has an equal file.
// The system's files are carried only if the destination lacks them or has
// others; they are shown read-only, and never come home.
//
// Private, away from its origin, are the app's home and each directory outside
// of the system's trees that holds a document or is a working directory, if
// the user may make files in it. A private directory shows what was taken
// along and what the app writes, nothing of the host. Other homes of the host
// are not shown at all.
//
// # Where a saved document ends up
//
// While the app is at its origin, it works on the origin's own files. While it
// is away, what it saves in a private directory, or in a document it took
// along, lies in its layer on the host where it runs, and goes with it to the
// next. /tmp and its like always travel whole. What it writes anywhere else
// (other directories of that host that the user may write) stays there.
//
// When the app comes home, for each document of the layer:
//
//	away         at home           what happens
//	unchanged    any               nothing: home's stays (*)
//	changed      as it was         ours takes its place, whole, with mode and time
//	changed      the same change   nothing
//	changed      changed           home's stays; ours lies beside it as
//	                               "name (from HOST DATE)", and the app goes on with that
//	changed      removed           ours lies there as "name (from HOST DATE)"
//	new          nothing there     created
//	new          something there   ours lies beside it
//	removed      as it was         removed
//	removed      changed           home's stays
//	cannot be placed               stays in the layer at home, is listed, is told
//
// (*) but an app that has the old one mapped, or open and it was removed at
// home, goes on with its own copy beside.
//
// 'As it was' is by content, against the ledger that the app took along. No
// symbolic link is followed on the way. If the app ends while away, its layer
// stays on that host (Layer.End, List) to be fetched (Layer.Fetch) or returned
// by the same rules (Layer.Survey, then as above without an app).
//
// # Streams
//
// One stream follows another on the same connection if the reader is a
// *bufio.Reader of 256 KiB or more; of any other reader more may be taken than
// the stream has.
//
// # Concurrency
//
// A Hasher is safe for concurrent use. A Source, an Incoming, a Homecoming and
// a Layer belong to one move, and their methods are called one at a time;
// nothing here holds a lock across a call to the outside. The package knows no
// network and no daemon: it speaks io.Reader and io.Writer.
package files
