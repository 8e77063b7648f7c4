package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"hither/engine/handle"
	"hither/engine/kernel"
)

// Problem is one reason why an app cannot move, with what a person can do.
type Problem = handle.Problem

// Survey looks at a running capsule from outside, without stopping or
// touching anything, and returns what stands in the way of a move.
func Survey(initPid int) ([]Problem, error) {
	all, _, err := SurveyWatched(initPid)
	return all, err
}

// SurveyWatched is Survey, and finds out what Capture wants to know of watches
// (inotify), which takes too long while the app stands still.
func SurveyWatched(initPid int) ([]Problem, handle.Watched, error) {
	all, err := settled(initPid)
	if err != nil {
		return nil, nil, err
	}
	procs, err := processes(initPid)
	if err != nil {
		return nil, nil, err
	}
	watched, lost := handle.FindWatched(procs, initPid)
	return append(all, lost...), watched, nil
}

// processes lists the processes of a capsule.
func processes(initPid int) ([]handle.Proc, error) {
	pids, err := kernel.Descendants(initPid)
	if err != nil {
		return nil, err
	}
	var procs []handle.Proc
	for _, pid := range pids {
		if st, err := readStatus(fmt.Sprintf("/proc/%d", pid)); err == nil { // else it ended meanwhile
			procs = append(procs, handle.Proc{Pid: pid, Inner: st.inner(), Zombie: strings.HasPrefix(st.text("State"), "Z")})
		}
	}
	return procs, nil
}

func settled(initPid int) ([]Problem, error) {
	all, err := survey(initPid)
	// The app works meanwhile: a process that began after the look at /proc may
	// hold the other end of a pipe. What is really in the way is there each time.
	for again := 0; again < 2 && len(all) > 0 && err == nil; again++ {
		var now []Problem
		now, err = survey(initPid)
		all = slices.DeleteFunc(all, func(p Problem) bool { return !slices.Contains(now, p) })
	}
	return all, err
}

func survey(initPid int) ([]Problem, error) {
	root := fmt.Sprintf("/proc/%d/root", initPid)
	var problems []Problem
	var procs []handle.Proc
	spaces, stats := namespaces(initPid), map[string]fileStat{}
	pids, err := kernel.Descendants(initPid)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		st, err := readStatus(fmt.Sprintf("/proc/%d", pid))
		if err != nil {
			continue // it ended meanwhile
		}
		inner := st.inner()
		zombie := strings.HasPrefix(st.text("State"), "Z")
		procs = append(procs, handle.Proc{Pid: pid, Inner: inner, Zombie: zombie})
		if zombie {
			continue
		}
		found := func(what, cure string) {
			problems = append(problems, Problem{Pid: inner, Comm: st.text("Name"), FD: -1, What: what, Cure: cure})
		}
		if st.number("Seccomp", 10) != 0 {
			found("it runs under a seccomp filter", "start it without its sandbox, if it has a switch for that")
		}
		if tracer := st.number("TracerPid", 10); tracer != 0 && tracer != uint64(os.Getpid()) {
			found("it is being traced by a debugger", "detach the debugger")
		}
		for name, link := range namespaces(pid) {
			if link != "" && spaces[name] != "" && spaces[name] != link {
				found(fmt.Sprintf("it has a %s namespace of its own inside the capsule", name), "start it without its sandbox, if it has a switch for that")
			}
		}
		mappings, err := readMappings(pid)
		if err != nil {
			continue
		}
		x := mapper{root: root, inodes: handle.NewInodes(), stats: stats, watched: true /* the app's own shows by its descriptor */}
		var said []string
		for _, m := range mappings {
			var r *Refusal
			if _, _, err := x.vma(m); errors.As(err, &r) && !slices.Contains(said, r.What) {
				said = append(said, r.What)
				found(r.What, r.Cure)
			}
		}
	}
	return append(problems, handle.Survey(procs, initPid)...), nil
}

func namespaces(pid int) map[string]string {
	out := map[string]string{}
	for _, name := range []string{"user", "mnt", "pid", "ipc", "uts", "net", "time", "cgroup"} {
		out[name], _ = os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	}
	return out
}
