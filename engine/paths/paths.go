// Package paths says where hither keeps things on a host.
//
// In a nutshell: three folders, each per user. Runtime holds what is true only
// while the host runs (the control socket, one folder for each capsule);
// State holds what must outlive a crash (the journal of moves, the log); Data
// holds what is worth keeping (the identity key, the known peers, the files
// that capsules carry). Their places follow the XDG base directory
// specification and fall back to safe ones. Every function that returns a
// folder has made it first, readable by its owner alone, or says why not.
// The package knows no other package of hither and holds no lock.
package paths

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Name is the folder's name below each base.
const Name = "hither"

// Runtime is the folder of what lives as long as this boot:
// $XDG_RUNTIME_DIR/hither, or /tmp/hither-UID if that variable is not set.
func Runtime() (string, error) {
	if base := absolute("XDG_RUNTIME_DIR"); base != "" {
		return private(filepath.Join(base, Name))
	}
	return private(filepath.Join("/tmp", Name+"-"+strconv.Itoa(os.Getuid())))
}

// State is the folder of what must outlive a crash: $XDG_STATE_HOME/hither, or
// ~/.local/state/hither.
func State() (string, error) { return home("XDG_STATE_HOME", ".local/state") }

// Data is the folder of what is worth keeping: $XDG_DATA_HOME/hither, or
// ~/.local/share/hither.
func Data() (string, error) { return home("XDG_DATA_HOME", ".local/share") }

// ControlSocket is where the daemon is spoken to.
func ControlSocket() (string, error) { return in(Runtime, "control.sock") }

// DaemonLock is the file whose lock says that a daemon runs.
func DaemonLock() (string, error) { return in(Runtime, "daemon.lock") }

// Capsules is the folder of the running capsules: one folder for each, by id.
func Capsules() (string, error) { return folder(Runtime, "capsules") }

// Capsule is the folder of one running capsule.
func Capsule(id string) (string, error) {
	if err := checkID(id); err != nil {
		return "", err
	}
	return folder(Capsules, id)
}

// CapsuleData is the folder of the files that one capsule carries.
func CapsuleData(id string) (string, error) {
	if err := checkID(id); err != nil {
		return "", err
	}
	all, err := folder(Data, "capsules")
	if err != nil {
		return "", err
	}
	return private(filepath.Join(all, id))
}

// Journal is the folder of the records of moves.
func Journal() (string, error) { return folder(State, "moves") }

// Log is the daemon's log file.
func Log() (string, error) { return in(State, "daemon.log") }

// checkID keeps an id that came from elsewhere from naming another folder.
func checkID(id string) error {
	if id == "" || len(id) > 64 || id[0] == '.' {
		return fmt.Errorf("capsule id %q is not valid", id)
	}
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return fmt.Errorf("capsule id %q is not valid", id)
		}
	}
	return nil
}

// ValidID reports whether id can name a capsule.
func ValidID(id string) bool { return checkID(id) == nil }

// absolute is an XDG variable's value; the specification says to ignore a
// relative one.
func absolute(variable string) string {
	if v := os.Getenv(variable); filepath.IsAbs(v) {
		return v
	}
	return ""
}

func home(variable, fallback string) (string, error) {
	if base := absolute(variable); base != "" {
		return private(filepath.Join(base, Name))
	}
	dir, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(dir) {
		return "", fmt.Errorf("finding your home folder: set HOME or %s", variable)
	}
	return private(filepath.Join(dir, fallback, Name))
}

func in(base func() (string, error), name string) (string, error) {
	dir, err := base()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}

func folder(base func() (string, error), name string) (string, error) {
	dir, err := in(base, name)
	if err != nil {
		return "", err
	}
	return private(dir)
}

// private makes a folder that its owner alone can enter, or checks that an
// existing one is such: not a link, owned by this user, closed to others. A
// folder of this user that is open to others is closed; a foreign one is
// refused, because whoever owns it could put a socket of their own there.
func private(dir string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", fmt.Errorf("making folder %s: %w", filepath.Dir(dir), err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("making folder %s: %w", dir, err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("looking at folder %s: %w", dir, err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("folder %s: something else has that name; move it away", dir)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Getuid() {
		return "", fmt.Errorf("folder %s belongs to user %d, not to you; set XDG_RUNTIME_DIR, XDG_STATE_HOME and XDG_DATA_HOME to folders of your own", dir, st.Uid)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return "", fmt.Errorf("closing folder %s to others: %w", dir, err)
		}
	}
	return dir, nil
}
