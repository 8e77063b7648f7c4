package files

import (
	"fmt"
	"path"
	"path/filepath"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one step of showing carried files inside a capsule. The steps are
// taken in order while the capsule's root is built, a tmpfs with the host's
// top-level directories mounted in it. Sources are paths of the host, Target
// is a path inside. A target that is missing is made, with its parents; the
// order of steps sees to it that this happens only on the capsule's own
// tmpfs, never on the host.
// Its fields are those of a mount of package capsule, which carries them out.
type Mount struct {
	Kind     string   // one of the Mount* kinds
	Target   string   // inside, canonical
	Sources  []string // see the kinds
	Upper    string   // not used here
	Work     string   // not used here
	Data     []byte   // where a symbolic link points
	Mode     uint32   // not used here
	ReadOnly bool
}

// SamePlan says whether two plans show the same.
func SamePlan(a, b []Mount) bool { return reflect.DeepEqual(a, b) }

const (
	MountBind    = "bind"    // Sources[0], a file or a directory with what is mounted below it
	MountOverlay = "overlay" // Sources, the first on top, without an upper directory; always read-only (see OverlayOptions)
	MountTmpfs   = "tmpfs"   // an empty directory
	MountDir     = "dir"     // make the directory; nothing is mounted
	MountSymlink = "symlink" // make a symbolic link to what Data says; nothing is mounted
)

// OverlayOptions are the mount options of an overlay, as an ordinary user in
// its own user namespace mounts it.
func (m *Mount) OverlayOptions() string {
	esc := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	var lower []string
	for _, s := range m.Sources {
		lower = append(lower, esc.Replace(s))
	}
	return "userxattr,lowerdir=" + strings.Join(lower, ":")
}

// hides gives the directories of a host that a foreign app is not shown:
// every home beside the app's, and this user's home wherever it is.
func hides(appHome, hostHome string) []string {
	var list []string
	if up := path.Dir(appHome); appHome != "" && (path.Base(up) == "home" || under(hostHome, up) && hostHome != "" && up != "/") {
		list = append(list, up)
	}
	if hostHome != "" && hostHome != "/" {
		list = append(list, hostHome)
	}
	return topmost(list)
}

// planner works out a layer's mounts.
type planner struct {
	l      *Layer
	host   *view
	dir    *folder
	free   []string        // where targets can be made: the tmpfs parts
	over   map[string]bool // host directories to be overlaid
	binds  map[string]bool // carried system files to be bound over the host's
	mounts []Mount
}

// Plan says how a capsule on this host shows the layer; hostHome is the home
// of this host's user. Equal layers give equal plans.
func (l *Layer) Plan(hostHome string) ([]Mount, error) {
	host, err := openView("/")
	if err != nil {
		return nil, err
	}
	defer host.Close()
	dir, err := openFolder(l.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	p := &planner{l: l, host: host, dir: dir, over: map[string]bool{}, binds: map[string]bool{}}
	if err := p.plan(hostHome); err != nil {
		return nil, fmt.Errorf("planning how to show the app's files: %w", err)
	}
	return p.mounts, nil
}

func (p *planner) add(kind, target string, readOnly bool, sources ...string) {
	p.mounts = append(p.mounts, Mount{Kind: kind, Target: target, Sources: sources, ReadOnly: readOnly})
}

func (p *planner) link(at, target string) {
	p.mounts = append(p.mounts, Mount{Kind: MountSymlink, Target: at, Data: []byte(target)})
}

// source is a path below the layer's folder, as the host has it.
func (p *planner) source(part, inside string) string { return filepath.Join(p.l.dir, part, inside) }

func (p *planner) plan(hostHome string) error {
	led := &p.l.Ledger
	if !led.AtHome {
		if pl, err := p.host.where(orRoot(hostHome)); err == nil && hostHome != "" {
			hostHome = pl.path
		}
		for _, d := range hides(led.Home, hostHome) {
			if pl, err := p.host.where(d); err == nil && (pl.exists || pl.near == "/") {
				p.free = append(p.free, d)
				p.add(MountTmpfs, d, false)
			}
		}
	}
	p.free = append(p.free, led.Whole...) // the capsule's own already
	if err := p.system(); err != nil {
		return err
	}
	private, single, err := p.documents()
	if err != nil {
		return err
	}
	if err := p.overlays(); err != nil {
		return err
	}
	for _, t := range sorted(p.binds) {
		p.add(MountBind, t, true, p.source(sysDir, t))
	}
	p.mounts = append(p.mounts, private...)
	p.mounts = append(p.mounts, single...)
	return nil
}

// system finds a way to show each carried system file.
func (p *planner) system() error {
	return p.dir.walk(sysDir, func(r string, st unix.Stat_t) (bool, error) {
		inside := strings.TrimPrefix(r, sysDir)
		pl, err := p.at(inside)
		if err != nil {
			return false, err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if pl.exists {
				return true, nil
			}
			p.missing(pl) // with all below it
			return false, nil
		}
		if pl.exists && st.Mode&unix.S_IFMT == unix.S_IFREG {
			p.binds[inside] = true
		} else {
			p.missing(pl)
		}
		return false, nil
	})
}

// at is where an inside path leads on the host, with what is hidden away.
func (p *planner) at(inside string) (place, error) {
	pl, err := p.host.where(inside)
	if err != nil {
		return pl, err
	}
	if free := underAny(pl.path, p.free); free != "" {
		pl.exists, pl.near = pl.path == free, free
	}
	return pl, nil
}

// missing makes a carried file, directory or placeholder appear where the
// host has nothing.
func (p *planner) missing(pl place) {
	if pl.near == "/" || underAny(pl.near, p.free) != "" {
		p.over[p.below(pl)] = true
		return
	}
	p.over[pl.near] = true
}

// below is the first name of a missing path that is to be made.
func (p *planner) below(pl place) string {
	tail := strings.TrimPrefix(rel(pl.path), rel(pl.near))
	first, _, _ := strings.Cut(strings.TrimPrefix(tail, "/"), "/")
	return path.Join(pl.near, first)
}

// documents gives the mounts of private directories and of single documents,
// and sees to it that their targets exist.
func (p *planner) documents() (private, single []Mount, err error) {
	led := &p.l.Ledger
	if led.AtHome {
		return nil, nil, nil
	}
	dirs := topmost(append([]string{}, led.Private...))
	for _, d := range dirs {
		pl, err := p.at(d)
		if err != nil {
			return nil, nil, err
		}
		if err := p.dir.makeAll(docsDir + d); err != nil {
			return nil, nil, err
		}
		if err := p.target(pl, true); err != nil {
			return nil, nil, err
		}
		private = append(private, Mount{Kind: MountBind, Target: pl.path, Sources: []string{p.source(docsDir, d)}})
		if d == led.Home && led.HomeEnv != "" {
			alias, err := p.at(led.HomeEnv)
			if err != nil {
				return nil, nil, err
			}
			if alias.path != pl.path && underAny(alias.path, dirs) == "" {
				if err := p.target(alias, true); err != nil {
					return nil, nil, err
				}
				private = append(private, Mount{Kind: MountBind, Target: alias.path, Sources: []string{p.source(docsDir, d)}})
			}
		}
	}
	err = p.dir.walk(docsDir, func(r string, st unix.Stat_t) (bool, error) {
		inside := strings.TrimPrefix(r, docsDir)
		if underAny(inside, dirs) != "" {
			return false, nil
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return true, nil
		}
		pl, err := p.at(inside)
		if err != nil {
			return false, err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return false, nil // a link outside of private directories is the host's to have
		}
		if err := p.target(pl, false); err != nil {
			return false, err
		}
		single = append(single, Mount{Kind: MountBind, Target: pl.path, Sources: []string{p.source(docsDir, inside)}})
		return false, nil
	})
	return private, single, err
}

// target makes a place to mount on where the host has none.
func (p *planner) target(pl place, isDir bool) error {
	if pl.exists {
		return nil
	}
	if pl.near == "/" || underAny(pl.near, p.free) != "" {
		return nil // made by the mount itself
	}
	hole := holesDir + pl.path
	up := hole
	if !isDir {
		up = path.Dir(hole)
	}
	if err := p.dir.makeAll(up); err != nil {
		return err
	}
	if !isDir {
		f, err := p.dir.open(hole, unix.O_WRONLY|unix.O_CREAT, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	}
	p.over[pl.near] = true
	return nil
}
