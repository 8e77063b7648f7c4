package restore

import (
	"fmt"
	"slices"

	"hither/engine/image"
)

// A process is made by fork, and a fork hands down the session. So a process
// must be forked by its parent while the parent is in the right session:
// before the parent's own setsid, or after it. Where neither will do - the
// one who forked it is gone and it was handed to a reaper - it is forked by
// somebody of its session, through a helper that ends at once, and so handed
// to its parent again. Sessions and groups whose leaders are gone get ghosts:
// processes with the leader's id that end when everybody has joined.

// op is one step of making the tree.
type op int

const (
	opFork   op = iota + 1 // By forks Pid
	opSetsid               // Pid leads a new session
	opGroup                // Pid joins group Arg (its own id: leads it)
	opReaper               // Pid takes orphans from now on (Arg 1) or no more (0)
	opEnd                  // Pid, a ghost or a helper, ends; By, if not 0, must reap it
)

type step struct {
	Op      op
	Pid, By int
	Arg     int
}

// planner orders the steps.
type planner struct {
	procs    map[int]*image.Process
	children map[int][]int
	steps    []step
	session  map[int]int // of what has been made, as of now
	parent   map[int]int // of what has been made
	foreign  []int       // processes still to be made through their session
	ghosts   []int
	births   map[int]int
	next     int // where to look for an unused id
	used     map[int]bool
}

const anySession = -1

// plan returns the steps that make the tree of an app, whose image is valid.
func plan(app *image.App) ([]step, error) {
	p := &planner{
		procs: map[int]*image.Process{}, children: map[int][]int{},
		session: map[int]int{1: 0}, parent: map[int]int{}, births: map[int]int{}, used: map[int]bool{1: true},
	}
	for i := range app.Processes {
		proc := &app.Processes[i]
		p.procs[proc.Pid] = proc
		p.children[proc.Parent] = append(p.children[proc.Parent], proc.Pid)
		p.used[proc.Pid], p.used[proc.Group], p.used[proc.Session] = true, true, true
		for _, t := range proc.Threads {
			p.used[t.Tid] = true
		}
		p.next = max(p.next, proc.Pid)
	}
	if err := p.grow(1); err != nil {
		return nil, err
	}
	for len(p.foreign) > 0 {
		if err := p.placeForeign(); err != nil {
			return nil, err
		}
	}
	if err := p.groups(); err != nil {
		return nil, err
	}
	for _, g := range slices.Backward(p.ghosts) {
		p.end(g)
	}
	return p.steps, nil
}

func (p *planner) do(s step) { p.steps = append(p.steps, s) }

// want is the session of a process, 0 for that of pid 1 or of nobody here.
func (p *planner) want(pid int) int {
	if s := p.procs[pid].Session; s != 1 {
		return s
	}
	return 0
}

// birth is the session a process must be born in.
func (p *planner) birth(pid int) int {
	if p.want(pid) != pid {
		return p.want(pid)
	}
	if b, ok := p.births[pid]; ok {
		return b
	}
	p.births[pid] = anySession
	for _, c := range p.children[pid] {
		if b := p.birth(c); b != anySession && b != pid {
			p.births[pid] = b
			break
		}
	}
	return p.births[pid]
}

func (p *planner) fork(by, pid int) {
	p.do(step{Op: opFork, Pid: pid, By: by})
	p.session[pid], p.parent[pid] = p.session[by], by
}

// grow makes the children of a process that exists, and theirs.
func (p *planner) grow(parent int) error {
	var made, later []int
	for _, c := range p.children[parent] {
		if b := p.birth(c); b != anySession && b == p.session[parent] {
			p.fork(parent, c)
			made = append(made, c)
		} else {
			later = append(later, c)
		}
	}
	if parent != 1 && p.want(parent) == parent && p.session[parent] != parent {
		p.do(step{Op: opSetsid, Pid: parent})
		p.session[parent] = parent
	}
	for _, c := range later {
		if b := p.birth(c); b == anySession || b == p.session[parent] {
			p.fork(parent, c)
			made = append(made, c)
		} else {
			p.foreign = append(p.foreign, c)
		}
	}
	for _, c := range made {
		if err := p.grow(c); err != nil {
			return err
		}
	}
	return nil
}

// placeForeign makes one process whose parent is not of its session.
func (p *planner) placeForeign() error {
	for i, pid := range p.foreign {
		leader := p.birth(pid)
		if leader == 0 {
			return fmt.Errorf("process %d belongs to a session outside of the capsule, its parent %d does not", pid, p.procs[pid].Parent)
		}
		if _, alive := p.procs[leader]; alive && p.session[leader] != leader {
			continue // the leader is not there yet
		}
		p.foreign = slices.Delete(p.foreign, i, i+1)
		adopter := p.procs[pid].Parent
		if p.session[leader] != leader { // long gone
			p.fork(adopter, leader)
			p.do(step{Op: opSetsid, Pid: leader})
			p.session[leader] = leader
			p.ghosts = append(p.ghosts, leader)
		}
		if !p.below(leader, adopter) {
			return fmt.Errorf("process %d of session %d has parent %d, which hither cannot arrange", pid, leader, adopter)
		}
		helper := p.unused()
		if adopter != 1 {
			p.do(step{Op: opReaper, Pid: adopter, Arg: 1})
		}
		p.fork(leader, helper)
		p.fork(helper, pid)
		p.end(helper)
		p.parent[pid] = adopter
		if adopter != 1 {
			p.do(step{Op: opReaper, Pid: adopter})
		}
		return p.grow(pid)
	}
	return fmt.Errorf("the sessions of processes %v cannot be made", p.foreign)
}

// below tells whether a process that was made descends from another.
func (p *planner) below(pid, ancestor int) bool {
	for pid != 1 {
		if pid = p.parent[pid]; pid == ancestor {
			return true
		}
	}
	return ancestor == 1
}

func (p *planner) unused() int {
	for p.next++; p.used[p.next]; p.next++ {
	}
	p.used[p.next] = true
	return p.next
}

func (p *planner) end(pid int) {
	by := p.parent[pid]
	if by == 1 {
		by = 0 // pid 1 reaps by itself
	}
	p.do(step{Op: opEnd, Pid: pid, By: by})
}

// groups puts every process into its process group. A group's leader may have
// left for another group since; then it leads until the members have joined.
func (p *planner) groups() error {
	var pids []int
	for pid := range p.procs {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	made := map[int]int{} // group -> session
	var left []int        // leaders that go to another group themselves
	for _, pid := range pids {
		group := p.procs[pid].Group
		if _, ok := made[group]; ok || group == 0 || group == 1 {
			continue
		}
		made[group] = p.session[pid]
		leader, alive := p.procs[group]
		switch {
		case alive && p.session[group] == group: // setsid made it
		case alive:
			p.do(step{Op: opGroup, Pid: group, Arg: group})
			if leader.Group != group {
				// A helper, born into the group, keeps it from vanishing when
				// the leader goes on before all members have come.
				left = append(left, group)
				helper := p.unused()
				p.fork(group, helper)
				p.ghosts = append(p.ghosts, helper)
			}
		case p.session[pid] == 0: // a group of pid 1's session whose leader was outside
			made[group] = anySession
		default:
			if err := p.ghostGroup(group, p.session[pid]); err != nil {
				return err
			}
		}
	}
	join := func(pid int) error {
		group := p.procs[pid].Group
		session, ok := made[group]
		if !ok || session == anySession || group == pid || p.session[pid] == pid {
			return nil
		}
		if session != p.session[pid] {
			return fmt.Errorf("process %d of session %d is in group %d of session %d", pid, p.session[pid], group, session)
		}
		p.do(step{Op: opGroup, Pid: pid, Arg: group})
		return nil
	}
	for _, pid := range pids {
		if !slices.Contains(left, pid) {
			if err := join(pid); err != nil {
				return err
			}
		}
	}
	for _, pid := range left {
		if err := join(pid); err != nil {
			return err
		}
	}
	return nil
}

// ghostGroup makes a group whose leader is gone.
func (p *planner) ghostGroup(group, session int) error {
	if slices.Contains(p.ghosts, group) {
		return nil // the ghost of a session's leader leads its group too
	}
	by, ok := p.procs[session], p.session[session] == session
	if !ok && by == nil {
		return fmt.Errorf("group %d is of session %d, which nobody leads", group, session)
	}
	p.fork(session, group)
	p.do(step{Op: opGroup, Pid: group, Arg: group})
	p.ghosts = append(p.ghosts, group)
	return nil
}
