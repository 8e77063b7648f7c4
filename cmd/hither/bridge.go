package main

import (
	"fmt"
	"os"
	"os/exec"

	"hither/engine/display/bridge"
)

// bridgeCommand is how a keeper starts the bridge to the desktop: this program
// again, whatever has become of its file.
func bridgeCommand() *exec.Cmd { return exec.Command("/proc/self/exe", "bridge") }

func bridgeMain() int {
	if err := bridge.Main(); err != nil {
		fmt.Fprintln(os.Stderr, "hither: showing windows:", err)
		return 1
	}
	return 0
}
