// Command hither-lab makes two or more hosts on this machine, for demo, tests and benchmarks.
//
// In a nutshell: `up` starts the *switch room*, a detached process that is pid 1 of its own pid
// namespace and sits in its own user, mount and network namespace. In that network namespace it
// keeps a bridge. For each host it starts a *warden*: pid 1 of the host's own pid, mount, uts, ipc
// and network namespaces, with one end of a veth pair as its eth0. The warden gives the host its
// folders, then serves `exec` and its kin on a unix socket. When the switch room dies, the kernel
// ends every process below it, and with the last process go the mounts and the links; what is left
// on disk is one folder, /tmp/hither-lab-UID/NAME, which holds the sockets and a lock.
//
//	hither-lab up --> switch room (pid 1, bridge) --> warden a (pid 1, eth0) --> hither daemon, desktop, ...
//	                                              `-> warden b (pid 1, eth0) --> hither daemon, desktop, ...
//	hither-lab exec a -- CMD --> a.sock --> warden a --> CMD
//
// One user namespace serves the whole lab, with the user mapped to himself, so everything works
// without root. Started by root, the command becomes an ordinary user first (user.go).
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	// The hidden halves come first: they are on the path of every start and need no flags.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case switchCommand:
			os.Exit(switchMain())
		case wardenCommand:
			os.Exit(wardenMain())
		case witnessCommand:
			os.Exit(witnessMain())
		case shotCommand:
			os.Exit(shotMain(os.Args[2:]))
		case inputCommand:
			os.Exit(inputMain(os.Args[2:]))
		case trayCommand:
			os.Exit(trayMain(os.Args[2:]))
		case benchWorkCommand:
			os.Exit(benchWorkMain())
		}
	}
	err := rootCommand().Execute()
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintf(os.Stderr, "hither-lab: %v\n", err)
		os.Exit(1)
	}
}

// exitCode carries the exit status of a command that ran in a host.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }
