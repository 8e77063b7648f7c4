package main

import (
	"fmt"
	"path/filepath"

	"hither/engine/launch"
)

// unsandbox is the choice of a person: with its own sandboxes a program is safer,
// and stays. It returns the command and what the environment gets, and says what it means.
func unsandbox(argv []string, allowed bool) (_, env []string, err error) {
	known := launch.Sandboxed(argv)
	name := filepath.Base(argv[0])
	switch {
	case !known && allowed:
		return nil, nil, &failure{
			err:  fmt.Errorf("hither does not know how to start %s without sandboxes of its own", name),
			hint: "leave out --allow-unsandboxed; if a move is refused because of a sandbox, give the program its own switch for that",
			code: exitUsage,
		}
	case known && allowed:
		say("%s runs without its own sandboxes, so that it can move: a bad page can do more harm", name)
		argv, env = launch.Unsandbox(argv)
	case known:
		say("%s puts parts of itself into sandboxes, with which it cannot move yet; it runs here all the same", name)
		say("hint: `hither run --allow-unsandboxed %s` starts it without them; it is less safe then", name)
	}
	return argv, env, nil
}
