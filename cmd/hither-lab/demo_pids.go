package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processesBelow finds the processes that descend from root and are in a capsule on a host: keyed by
// their pid on the host and their pid in the capsule, their pid here.
func processesBelow(root int) (map[[2]int]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("looking for processes in /proc: nothing there (%v)", err)
	}
	parents, names := map[int]int{}, map[int][2]int{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			words := strings.Fields(value)
			switch {
			case name == "PPid" && len(words) == 1:
				parents[pid], _ = strconv.Atoi(words[0])
			case name == "NSpid" && len(words) >= 4: // here, in the switch room, on the host, in the capsule
				onHost, err1 := strconv.Atoi(words[len(words)-2])
				inside, err2 := strconv.Atoi(words[len(words)-1])
				if err1 == nil && err2 == nil {
					names[pid] = [2]int{onHost, inside}
				}
			}
		}
	}
	found := map[[2]int]int{}
	for pid, name := range names {
		for p := pid; p > 1; p = parents[p] {
			if p == root {
				found[name] = pid
				break
			}
		}
	}
	return found, nil
}
