package restore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"hither/engine/image"
)

// world is a small model of the kernel's process tree.
type world struct {
	parent, session, group map[int]int
	reaper                 map[int]bool
}

func newWorld() *world {
	w := &world{map[int]int{}, map[int]int{}, map[int]int{}, map[int]bool{}}
	w.session[1], w.group[1] = 0, 0
	return w
}

func (w *world) fork(by, pid int) error {
	if _, ok := w.session[by]; !ok {
		return fmt.Errorf("%d forks but does not exist", by)
	}
	if _, ok := w.session[pid]; ok {
		return fmt.Errorf("%d is made twice", pid)
	}
	w.parent[pid], w.session[pid], w.group[pid] = by, w.session[by], w.group[by]
	return nil
}

func (w *world) setsid(pid int) error {
	for p, g := range w.group {
		if g == pid {
			return fmt.Errorf("setsid of %d: %d is in a group of that id", pid, p)
		}
	}
	w.session[pid], w.group[pid] = pid, pid
	return nil
}

func (w *world) setpgid(pid, group int) error {
	if w.session[pid] == pid {
		return fmt.Errorf("setpgid of session leader %d", pid)
	}
	if group != pid {
		found := false
		for p, g := range w.group {
			if g == group && w.session[p] == w.session[pid] {
				found = true
			}
		}
		if !found {
			return fmt.Errorf("setpgid of %d: no group %d in session %d", pid, group, w.session[pid])
		}
	}
	w.group[pid] = group
	return nil
}

func (w *world) exit(pid int) {
	to := w.parent[pid]
	for to != 1 && !w.reaper[to] {
		to = w.parent[to]
	}
	for p, parent := range w.parent {
		if parent == pid {
			w.parent[p] = to
		}
	}
	delete(w.parent, pid)
	delete(w.session, pid)
	delete(w.group, pid)
	delete(w.reaper, pid)
}

func (w *world) run(s step) error {
	switch s.Op {
	case opFork:
		return w.fork(s.By, s.Pid)
	case opSetsid:
		return w.setsid(s.Pid)
	case opGroup:
		return w.setpgid(s.Pid, s.Arg)
	case opReaper:
		w.reaper[s.Pid] = s.Arg == 1
	case opEnd:
		if s.By != 0 && w.parent[s.Pid] != s.By {
			return fmt.Errorf("%d is to reap %d, whose parent is %d", s.By, s.Pid, w.parent[s.Pid])
		}
		w.exit(s.Pid)
	}
	return nil
}

// app is an image of the world's tree, parents first.
func (w *world) app() *image.App {
	a := &image.App{}
	var add func(parent int)
	add = func(parent int) {
		for pid := 2; pid < 1000; pid++ {
			if p, ok := w.parent[pid]; ok && p == parent {
				a.Processes = append(a.Processes, image.Process{Pid: pid, Parent: parent, Group: w.group[pid], Session: w.session[pid]})
				add(pid)
			}
		}
	}
	add(1)
	return a
}

// TestPlanRandomTrees lets random histories of fork, setsid, setpgid and exit
// make a tree, and asks the plan to make it anew.
func TestPlanRandomTrees(t *testing.T) {
	refused := 0
	const runs = 5000
	for seed := range uint64(runs) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		w := newWorld()
		next := 2
		if w.fork(1, next) != nil || w.setsid(next) != nil {
			t.Fatal("the first process")
		}
		for range 40 {
			if len(w.parent) == 0 {
				break
			}
			pid := pickFrom(w, rnd)
			switch rnd.IntN(6) {
			case 0, 1, 2:
				next++
				if err := w.fork(pid, next); err != nil {
					t.Fatal(err)
				}
			case 3:
				if w.group[pid] != pid {
					_ = w.setsid(pid)
				}
			case 4:
				group := pid
				if rnd.IntN(2) == 0 {
					group = w.group[pickFrom(w, rnd)]
				}
				_ = w.setpgid(pid, group)
			case 5:
				if len(w.parent) > 1 {
					w.exit(pid)
				}
			}
		}
		want := w.app()
		if len(want.Processes) == 0 {
			continue
		}
		steps, err := plan(want)
		if err != nil {
			t.Logf("seed %d: %v", seed, err)
			refused++
			continue
		}
		got := newWorld()
		for i, s := range steps {
			if err := got.run(s); err != nil {
				t.Fatalf("seed %d: step %d %+v: %v", seed, i, s, err)
			}
		}
		for pid, parent := range w.parent {
			if got.parent[pid] != parent || got.session[pid] != w.session[pid] || got.group[pid] != w.group[pid] {
				t.Fatalf("seed %d: process %d has parent %d, session %d, group %d; wanted %d, %d, %d", seed, pid,
					got.parent[pid], got.session[pid], got.group[pid], parent, w.session[pid], w.group[pid])
			}
		}
		if len(got.parent) != len(w.parent) {
			t.Fatalf("seed %d: %d processes, wanted %d", seed, len(got.parent), len(w.parent))
		}
	}
	if refused > runs/100 {
		t.Errorf("%d of %d trees refused", refused, runs)
	}
}

func pickFrom(w *world, rnd *rand.Rand) int {
	var pids []int
	for p := range w.parent {
		pids = append(pids, p)
	}
	slices.Sort(pids)
	return pids[rnd.IntN(len(pids))]
}
