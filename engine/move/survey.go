package move

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hither/engine/files"
	"hither/engine/handle"
	"hither/engine/image"
)

// look gathers what the processes of a capsule hold of files, from /proc. It
// serves before the freeze and after it.
func look(pids map[int]int, root string) (held []files.Held, args []files.Args) {
	byPath := map[string]*files.Held{}
	note := func(path string) *files.Held {
		path = strings.TrimSuffix(path, " (deleted)")
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/memfd:") || strings.HasPrefix(path, "/SYSV") {
			return &files.Held{}
		}
		h := byPath[path]
		if h == nil {
			h = &files.Held{Path: path}
			byPath[path] = h
		}
		return h
	}
	for _, host := range pids {
		proc := fmt.Sprintf("/proc/%d", host)
		if exe, err := os.Readlink(proc + "/exe"); err == nil {
			note(exe).Mapped = true
		}
		cwd, _ := os.Readlink(proc + "/cwd")
		if cmdline, err := os.ReadFile(proc + "/cmdline"); err == nil && len(cmdline) > 0 {
			a := files.Args{Cwd: cwd}
			for _, arg := range bytes.Split(bytes.TrimSuffix(cmdline, []byte{0}), []byte{0}) {
				a.Argv = append(a.Argv, string(arg))
			}
			args = append(args, a)
		}
		if cwd != "" {
			note(cwd)
		}
		lookMaps(proc, note)
		lookFDs(proc, note)
	}
	for _, h := range byPath {
		held = append(held, *h)
	}
	return held, args
}

// lookImage gathers the same from the image of a frozen app, for which every
// look into /proc would add to the time it stands still.
func lookImage(app *image.App) ([]files.Held, error) {
	writing, err := handle.Writing(app)
	if err != nil {
		return nil, err
	}
	mapped, shared := map[uint32]bool{}, map[uint32]bool{}
	cwds := map[string]bool{}
	for i := range app.Processes {
		p := &app.Processes[i]
		mapped[p.Exe] = true
		if p.Cwd != "" {
			cwds[p.Cwd] = true
		}
		for _, v := range p.VMAs {
			if v.Backing == image.BackFile {
				mapped[v.Object] = true
				if v.Shared && v.Prot&unix.PROT_WRITE != 0 {
					shared[v.Object] = true
				}
			}
		}
	}
	var held []files.Held
	for _, f := range app.Files {
		if f.Kind == image.FileDeleted || f.Kind == image.FileDevice || systemPath(f.Path) {
			continue
		}
		delete(cwds, f.Path)
		held = append(held, files.Held{Path: f.Path, Mapped: mapped[f.ID], Shared: shared[f.ID], Writing: writing[f.ID]})
	}
	for cwd := range cwds {
		held = append(held, files.Held{Path: cwd})
	}
	return held, nil
}

// systemPath says whether a path leads to what every capsule has of its own.
func systemPath(path string) bool {
	return strings.HasPrefix(path, "/dev/") || strings.HasPrefix(path, "/proc/") || strings.HasPrefix(path, "/sys/")
}

func lookMaps(proc string, note func(string) *files.Held) {
	maps, err := os.ReadFile(proc + "/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
		if len(fields) < 6 || fields[4] == "0" {
			continue
		}
		path := strings.TrimLeft(fields[5], " ")
		if strings.HasSuffix(path, " (deleted)") || strings.HasPrefix(path, "/dev/") {
			continue
		}
		h := note(strings.ReplaceAll(path, `\012`, "\n"))
		h.Mapped = true
		if perms := fields[1]; perms[1] == 'w' && perms[3] == 's' {
			h.Shared = true
		}
	}
}

func lookFDs(proc string, note func(string) *files.Held) {
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return
	}
	for _, fd := range fds {
		path, err := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		if err != nil || !strings.HasPrefix(path, "/") || strings.HasSuffix(path, " (deleted)") ||
			systemPath(path) {
			continue
		}
		h := note(path)
		info, err := os.ReadFile(filepath.Join(proc, "fdinfo", fd.Name()))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(info)) {
			if text, ok := strings.CutPrefix(line, "flags:"); ok {
				if flags, err := strconv.ParseInt(strings.TrimSpace(text), 8, 64); err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY {
					h.Writing = true
				}
			}
		}
	}
}

// sizes counts processes, threads and memory (bytes resident and not of files).
func sizes(pids map[int]int) (threads int, memory uint64) {
	for _, host := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", host))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(line, ":")
			n, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			switch name {
			case "Threads":
				threads += int(n)
			case "RssAnon", "RssShmem", "VmSwap":
				memory += n << 10
			}
		}
	}
	return threads, memory
}

// hardLimits are the highest soft limits the processes rely on.
func hardLimits(pids map[int]int) []image.Rlimit {
	out := make([]image.Rlimit, 16)
	for _, host := range pids {
		for r := range out {
			var lim unix.Rlimit
			if unix.Prlimit(host, r, nil, &lim) == nil {
				out[r].Cur = max(out[r].Cur, lim.Cur)
				out[r].Max = max(out[r].Max, lim.Max)
			}
		}
	}
	return out
}

func descriptorsOpen(pids map[int]int) int {
	highest := 0
	for _, host := range pids {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", host))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if n, err := strconv.Atoi(fd.Name()); err == nil {
				highest = max(highest, n)
			}
		}
	}
	return highest
}
