package files

import (
	"bufio"
	"errors"
	"os"
	"path"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// overlays turns the directories that must show more than the host has into
// mounts.
func (p *planner) overlays() error {
	points, err := mountPoints()
	if err != nil {
		return err
	}
	for _, d := range topmost(sorted(p.over)) {
		pl, err := p.at(d)
		if err != nil {
			return err
		}
		if err := p.show(d, pl.exists, points); err != nil {
			return err
		}
	}
	return nil
}

// show adds the mounts by which d shows what is carried for it and, if the
// host has that directory, the host's.
func (p *planner) show(d string, onHost bool, points []string) error {
	var carried []string
	for _, part := range []string{sysDir, holesDir} {
		st, err := p.dir.lstat(part + d)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			target, err := p.dir.readlink(part + d)
			if err != nil {
				return err
			}
			p.link(d, target)
			return nil
		}
		carried = append(carried, p.source(part, d))
	}
	for t := range p.binds { // shown by these mounts already
		if under(t, d) {
			delete(p.binds, t)
		}
	}
	switch {
	case len(carried) == 0:
	case !onHost && len(carried) == 1:
		p.add(MountBind, d, true, carried[0])
	case !onHost:
		p.add(MountOverlay, d, true, carried...)
	case mountsBelow(points, d):
		return p.farm(d, points)
	default:
		p.add(MountOverlay, d, true, append(carried, d)...)
	}
	return nil
}

// farm shows a host directory and more by a tmpfs with everything bound into
// it, for where an overlay is refused: the kernel makes none over a directory
// with mounts below it that it must not uncover.
func (p *planner) farm(d string, points []string) error {
	p.add(MountTmpfs, d, false)
	carried := map[string]bool{}
	for _, part := range []string{sysDir, holesDir} {
		names, err := p.dir.names(part + d)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		for _, n := range names {
			carried[n] = true
		}
	}
	for _, n := range sorted(carried) {
		at := path.Join(d, n)
		hst, err := p.host.lstat(at)
		onHost := err == nil && hst.Mode&unix.S_IFMT == unix.S_IFDIR
		if err := p.show(at, onHost, points); err != nil {
			return err
		}
	}
	list, err := os.ReadDir(d)
	if err != nil {
		return err
	}
	for _, de := range list {
		at := path.Join(d, de.Name())
		if carried[de.Name()] {
			continue
		}
		if de.Type()&os.ModeSymlink == 0 {
			p.add(MountBind, at, false, at)
		} else if target, err := os.Readlink(at); err == nil {
			p.link(at, target)
		}
	}
	return nil
}

func mountsBelow(points []string, dir string) bool {
	for _, m := range points {
		if m != dir && under(m, dir) {
			return true
		}
	}
	return false
}

// mountPoints is readMountPoints; tests put another list in its place.
var mountPoints = readMountPoints

// readMountPoints lists where something is mounted, as this process sees it.
func readMountPoints() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if w := strings.Fields(sc.Text()); len(w) > 4 {
			out = append(out, unescape(w[4]))
		}
	}
	return out, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func sorted(set map[string]bool) []string {
	var out []string
	for s := range set {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}
