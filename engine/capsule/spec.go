package capsule

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hither/engine/paths"
)

// Spec says what a capsule is to be. It is JSON in the capsule's state file.
type Spec struct {
	ID   string   `json:"id"`   // NewID's; the same on every host it lives on
	Name string   `json:"name"` // what people call it; unique on a host, by its maker's care
	Argv []string `json:"argv,omitempty"`
	Env  []string `json:"env,omitempty"` // as the client has it; Start makes it true for the inside
	Dir  string   `json:"dir,omitempty"`

	Umask    int      `json:"umask"`
	Winsize  Winsize  `json:"winsize"`
	Termios  *Termios `json:"termios,omitempty"` // the starting terminal's, nil: the kernel's default
	TTY      bool     `json:"tty"`               // it has a terminal of its own
	Detached bool     `json:"detached,omitempty"`
	// Restore: a capsule for an arriving app. All is made but the app, and
	// pid 1 waits for Go.
	Restore bool `json:"restore,omitempty"`

	// NoDisplay: it has neither a display nor a session bus, see package display.
	NoDisplay bool `json:"no_display,omitempty"`

	// Clocks are added to this host's, so that the app's clocks go on.
	Clocks ClockOffsets `json:"clocks"`

	Hostname string  `json:"hostname,omitempty"` // "": the host's
	Home     string  `json:"home,omitempty"`     // kept visible even where it lies in a place that is private
	Mounts   []Mount `json:"mounts,omitempty"`
	LayerDir string  `json:"layer_dir,omitempty"` // where its carried files lie
	Origin   Origin  `json:"origin"`
}

// ClockOffsets are what the capsule's clocks are ahead of the host's, in ns.
type ClockOffsets struct {
	Monotonic int64 `json:"monotonic,omitempty"`
	Boottime  int64 `json:"boottime,omitempty"`
}

// Origin is the host where the capsule was first started.
type Origin struct {
	HostID   string `json:"host_id,omitempty"`
	HostName string `json:"host_name,omitempty"`
}

// Winsize is struct winsize.
type Winsize = unix.Winsize

// Termios is struct termios.
type Termios = unix.Termios

// Mount is one step in building the root. Steps are done in order; a Target
// is a path inside, a Source one of the host. Folders on the way to Target that
// the host does not have are made in the capsule only, never on the host.
//
//	bind     Sources[0] (a folder with all below it, or a file) appears at Target
//	overlay  the folders of Sources, first on top, merged; with Upper and Work writable
//	tmpfs    an empty folder of Mode that lives as long as the capsule
//	dir      an empty folder of Mode, made if it is not there
//	file     a file with the content of Data and Mode
//	symlink  a symbolic link to what Data says
type Mount struct {
	Kind     string   `json:"kind"`
	Target   string   `json:"target"`
	Sources  []string `json:"sources,omitempty"`
	Upper    string   `json:"upper,omitempty"`
	Work     string   `json:"work,omitempty"`
	Data     []byte   `json:"data,omitempty"`
	Mode     uint32   `json:"mode,omitempty"` // 0: 0755 for folders, 0644 for files
	ReadOnly bool     `json:"read_only,omitempty"`
}

// ExecSpec is a command to run beside the app.
type ExecSpec struct {
	Argv    []string `json:"argv"`
	Env     []string `json:"env,omitempty"` // nil: the app's first environment
	Dir     string   `json:"dir,omitempty"` // "": the app's first folder
	Umask   int      `json:"umask"`
	TTY     bool     `json:"tty,omitempty"`
	Winsize Winsize  `json:"winsize"`
	Termios *Termios `json:"termios,omitempty"`
}

// State is what is known of a capsule on this host: the state file's content.
type State struct {
	Spec Spec `json:"spec"`
	// Init is pid 1 and Keeper the keeper, as the host sees them. Start is the
	// time of their start in clock ticks since boot, which with the pid names
	// a process for good.
	Init   Proc `json:"init"`
	Keeper Proc `json:"keeper"`
	// Main is the app's first process as seen inside; 0 before it starts.
	Main   int    `json:"main,omitempty"`
	Phase  Phase  `json:"phase"`
	Status *int   `json:"status,omitempty"` // Main's exit status once it ended: 128+n for signal n
	Moved  string `json:"moved,omitempty"`  // the host it went to
	Net    string `json:"net,omitempty"`    // kind of the network descriptor: "tun", "packet", "" for none
	NoNet  string `json:"no_net,omitempty"` // why there is none
	// Services are the servers that run inside without being the app.
	Services []Service `json:"services,omitempty"`
	// Notice is the last that a person was told, and Desktop names this host's
	// desktop, as environment variables.
	Notice  string   `json:"notice,omitempty"`
	Desktop []string `json:"desktop,omitempty"`
	Since   int64    `json:"since"` // unix seconds of the start on this host
}

// Proc names a process of the host for good.
type Proc struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// Phase is where a capsule is in its life on this host.
type Phase string

const (
	Waiting Phase = "waiting" // made for an arriving app, pid 1 waits for Go
	Running Phase = "running"
	Paused  Phase = "paused" // its portals are closed for a move
	Ended   Phase = "ended"
)

// NewID is a fresh capsule id.
func NewID() string {
	b := make([]byte, 7)
	rand.Read(b)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))[:10]
}

// NameFor is the name a command's capsule gets if nobody chose one.
func NameFor(argv []string) string {
	if len(argv) == 0 {
		return "app"
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+-", r) {
			return r
		}
		return -1
	}, filepath.Base(argv[0]))
	if name = strings.TrimLeft(name, "-."); name == "" {
		return "app"
	}
	return name
}

// check refuses a spec that cannot be built.
func (s *Spec) check() error {
	if !paths.ValidID(s.ID) {
		return fmt.Errorf("capsule id %q is not valid", s.ID)
	}
	if !s.Restore && len(s.Argv) == 0 {
		return fmt.Errorf("capsule %s: no command given", s.ID)
	}
	for _, m := range s.Mounts {
		if !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) != m.Target {
			return fmt.Errorf("capsule %s: mount target %q is not a clean absolute path", s.ID, m.Target)
		}
		for _, src := range m.Sources {
			if !filepath.IsAbs(src) {
				return fmt.Errorf("capsule %s: mount source %q is not an absolute path", s.ID, src)
			}
		}
	}
	return nil
}
