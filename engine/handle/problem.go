package handle

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is something a process holds that cannot be carried.
type Problem struct {
	Pid  int    // inside the capsule; 1 for what waits in a socket's queue
	Comm string // the process's name
	FD   int    // the descriptor; -1: none
	What string // "a netlink socket"
	Cure string // what a person can do
}

func (p Problem) String() string {
	s := fmt.Sprintf("%s (pid %d)", p.Comm, p.Pid)
	if p.FD >= 0 {
		s += fmt.Sprintf(" holds, as descriptor %d, ", p.FD)
	} else {
		s += " holds "
	}
	s += p.What
	if p.Cure != "" {
		s += ": " + p.Cure
	}
	return s
}

// Unsure reports whether it is only a look from outside that could not tell: a
// capture may find nothing wrong.
func (p Problem) Unsure() bool { return p.Cure == cureFindOut }

// Refused is the error of a Capture that met things that cannot be carried.
type Refused []Problem

func (r Refused) Error() string {
	lines := make([]string, len(r))
	for i, p := range r {
		lines[i] = p.String()
	}
	return strings.Join(lines, "; ")
}

// Passes reports whether all of it is gone in a moment, if the app runs on.
func (r Refused) Passes() bool {
	return !slices.ContainsFunc(r, func(p Problem) bool { return p.Cure != cureAgain })
}

// LostPath reports whether something is watched whose path must be looked for
// anew, by FindWatched.
func (r Refused) LostPath() bool {
	return slices.ContainsFunc(r, func(p Problem) bool { return p.What == noPath })
}

// refusal is what a kind returns for a thing it will not carry.
type refusal struct{ what, cure string }

func (r *refusal) Error() string { return r.what }

func refuse(cure, format string, args ...any) *refusal {
	return &refusal{fmt.Sprintf(format, args...), cure}
}

const (
	cureClose   = "close what uses it in the app, or start the app without it"
	cureAgain   = "this passes quickly: try again"
	cureFindOut = "it may move all the same; a move finds out"
)
