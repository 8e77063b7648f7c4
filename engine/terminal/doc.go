// Package terminal is the terminal of a capsule: one pseudo-terminal, and any
// number of people who look at it.
//
// In a nutshell: the app runs on the slave end of a pty. The keeper holds the
// master and gives it to [New]; from then on a [Terminal] reads everything the
// app writes, as it comes, whether anybody watches or not. What it reads goes
// two ways: to a model of the screen (type screen, an emulator that draws into
// memory), and to the attached clients. A client is the other end of a
// connection, in general `hither run` or `hither attach` in somebody's
// terminal emulator, where [Client] runs; the keeper hands the connection to
// [Terminal.Serve].
//
// Of the attached clients one leads: the one that typed, changed its size or
// came last, just as tmux has it (window-size latest). The leader's size is the
// size of the app's terminal, and the leader gets the app's bytes untouched.
// The others get a picture: the model's changed lines, cut to their size. So a
// small window and a large one can watch the same app, and a question that the
// app asks its terminal (its colours, the cursor's position) is answered once.
// Whoever touches a key becomes the leader, and starts with a full picture.
//
// A client that is slow never holds the app up for long. The leader's bytes
// are queued up to 1 MiB; when that is full the app waits as it would for any
// terminal, but no longer than 200 ms for a client that takes nothing. Then
// the backlog is dropped, the app runs free, and as soon as the client has
// taken what was under way, it gets the picture as it is by then. Pictures for
// the others are drawn when they are ready for one, so they need no queue.
//
// In a move the keeper calls [Terminal.Pause] once the app is frozen,
// [Terminal.Screen] and [Terminal.Held], and on the other host
// [Terminal.Restore] and [Terminal.Give]. The screen is plain terminal output
// which draws the picture on an empty terminal, modes and all. Then
// [Terminal.End] with [Moved] tells the clients where the app went; or
// [Terminal.Resume] goes on as if nothing had been.
//
// # Protocol
//
// Both ways a frame is a type byte, the payload's length as a big-endian
// uint32, at most 65536, and the payload.
//
//	client -> keeper   'd' what was typed
//	                   'r' rows, columns, width and height in pixels, uint16 each:
//	                       the window has this size now
//	                   'p' paint: draw everything anew
//	keeper -> client   'd' what the terminal shall print
//	                   'e' the end: an [Outcome] in JSON; the last frame
//
// To detach, a client closes the connection. Frames of an unknown type are
// skipped. What the connection carries before the first frame (the request to
// attach, with a [Hello]) is the keeper's business.
//
// # Locks
//
// Terminal.mu guards the model, the clients and the state; nothing that can
// block is called under it. Terminal.change is taken by Pause, Resume and End
// before mu, so that these come one after another.
package terminal
