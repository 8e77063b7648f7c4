package capsule

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrEnded says that a capsule is no more.
var ErrEnded = errors.New("the app has ended")

// ErrKept says that a capsule has a keeper already.
var ErrKept = errors.New("the capsule has a keeper")

// ErrNoKeeper says that a capsule runs but its keeper died: AdoptKeeper gives it
// a new one.
var ErrNoKeeper = errors.New("the capsule's keeper is not there")

func readState(dir string) (State, error) {
	var st State
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return st, fmt.Errorf("capsule %s: %w", filepath.Base(dir), ErrEnded)
	}
	if err != nil {
		return st, fmt.Errorf("reading the capsule's state: %w", err)
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return st, fmt.Errorf("reading the capsule's state in %s: %w", dir, err)
	}
	return st, nil
}

// writeState replaces the state file in one step.
func writeState(dir string, st *State) error {
	b, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		return fmt.Errorf("encoding the capsule's state: %w", err)
	}
	f, err := os.CreateTemp(dir, stateFile+".*")
	if err != nil {
		return fmt.Errorf("writing the capsule's state: %w", err)
	}
	_, err = f.Write(b)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, stateFile))
	}
	if err != nil {
		os.Remove(f.Name()) //nolint:errcheck // only litter
		return fmt.Errorf("writing the capsule's state: %w", err)
	}
	return nil
}

// startTime is when a process of the host was started, in clock ticks since boot.
func startTime(pid int) (uint64, error) {
	fields, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	start, err := strconv.ParseUint(fields[19], 10, 64) // field 22 of proc(5), counted after the name
	if err != nil {
		return 0, fmt.Errorf("reading the start time of process %d: %w", pid, err)
	}
	return start, nil
}

// statFields are the fields of /proc/PID/stat after the name, from the state on.
func statFields(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(b[max(0, strings.LastIndexByte(string(b), ')')):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return nil, fmt.Errorf("looking at process %d: its stat is too short", pid)
	}
	return fields, nil
}

// Alive reports whether the very process still runs; a zombie does not.
func (p Proc) Alive() bool {
	if p.Pid <= 0 {
		return false
	}
	fields, err := statFields(p.Pid)
	if err != nil || fields[0] == "Z" || fields[0] == "X" {
		return false
	}
	return fields[19] == strconv.FormatUint(p.Start, 10)
}

// pidfd opens the very process.
func (p Proc) pidfd() (int, error) {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		return -1, fmt.Errorf("opening process %d: %w", p.Pid, err)
	}
	if !p.Alive() { // looked at after opening, so that the pid cannot be another's
		unix.Close(fd)
		return -1, ErrEnded
	}
	return fd, nil
}
