// Package capsule is an app's process tree with its virtual environment: how it
// is made, kept alive, entered and ended.
//
// In a nutshell: [Start], called by `hither run` or by the daemon for an
// arriving app, starts a keeper, a process of its own session that outlives
// both. The keeper clones pid 1 of the capsule into new user, mnt, ipc, uts, net
// and pid namespaces. There hither once more (stage.go) makes the network, the
// root, /proc, the terminal and the time namespace, and then executes a program
// of a few hundred bytes (init_amd64.s), which is pid 1 from then on: it reaps,
// it reports what it reaped, and it forks a child when it is told to. That
// child takes an order ([ExecMain]), drops all capabilities and becomes the app,
// as pid 2, or a command beside it. The capsule ends when pid 1 has no child
// left, or is killed, which takes all along.
//
//	hither run --starts--> keeper --clones--> pid 1 --forks--> the app (pid 2)
//	     |  terminal, status  |   commands      |              commands of exec
//	     +------keeper.sock---+---orders, exits-+
//
// Pid 1 holds every descriptor by which the capsule is connected to the outside
// (descriptors.go); the keeper works with duplicates that it takes by
// pidfd_getfd. So a keeper can die without harm: the app runs on, its output
// waits in the terminal, and [Capsule.AdoptKeeper] starts a successor that takes
// the same duplicates. Who waits in [Capsule.Wait] does that by himself.
//
// Among them are the sockets of an X server and a session bus (package display),
// which the keeper has started inside for their first caller (services.go); it
// also keeps the bridge that shows the app's windows (bridge.go). Servers do not
// keep a capsule: it ends with the last process that is the app's.
//
// Pid 1 has the capabilities of its user namespace, so that a restorer which
// works in it by ptrace can make processes with chosen pids; the app has none,
// can gain none, and therefore can neither trace pid 1 nor look into it. Signals
// from inside do not reach pid 1, as the kernel has it for every pid namespace.
//
// An arriving capsule (Spec.Restore) is made without an app, and its pid 1
// waits. The restorer forks the app's processes from it; then [Capsule.Arrived]
// opens the terminal and [Capsule.Go] lets pid 1 reap. A capsule that leaves is
// [Capsule.Part]ed from the desktop, frozen by its tracer, [Capsule.Pause]d, and
// once the other side has it, [Capsule.Moved] and [Capsule.Kill]ed.
//
// In a capsule's folder (paths.Capsule) lie state.json, which says what a
// successor must know, keeper.sock (protocol.go), keeper.lock, whose lock the
// one keeper holds, and keeper.log. The folder goes with the capsule.
//
// # Locks
//
// In a keeper: moving, then starting, then ordering, then saving, then mu. Under mu nothing blocks.
package capsule
