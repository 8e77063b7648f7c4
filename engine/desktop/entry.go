// Package desktop knows what is installed on a host's desktop: the apps of its
// menu, from desktop files, and their icons, from icon themes.
//
// In a nutshell: Entries reads the desktop files of the folders that the XDG base
// directory specification names, as a menu would show them; Entry.Command makes
// the command that starts one; Match finds the entry of a running program; Icons
// finds an icon's file by its name.
//
// It follows the Desktop Entry and the Icon Theme specification of
// freedesktop.org. Files are read each time that they are asked for, which takes
// milliseconds; who asks often keeps what it got. The package holds no lock.
package desktop

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Entry is an app of the menu.
type Entry struct {
	ID         string // name of the file below applications/, "/" as "-", without .desktop
	File       string
	Name       string // in the user's language, as the others
	Comment    string
	Keywords   []string
	Categories []string
	Icon       string
	Exec       string
	Path       string // the folder to start it in
	Terminal   bool
	WMClass    string // what its windows say of themselves
	// Hidden entries are not in the menu, but name running programs all the same.
	Hidden bool
	// Bus says that it is started by a message on the session bus. Exec may be missing then.
	Bus bool
}

// maxFile bounds a desktop file; the largest with all languages have about 40 kB.
const maxFile = 1 << 20

// DataDirs are the folders of what is installed, the user's first.
func DataDirs() []string {
	home := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(home) {
		home = filepath.Join(os.Getenv("HOME"), ".local/share")
	}
	dirs := []string{home}
	for _, dir := range strings.Split(cmp.Or(os.Getenv("XDG_DATA_DIRS"), "/usr/local/share:/usr/share"), ":") {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// Entries reads the menu of folders like DataDirs, sorted by name. Of files with the
// same ID the first folder's counts.
func Entries(dirs []string) []Entry {
	seen := map[string]bool{}
	var all []Entry
	languages := languages()
	for _, dir := range dirs {
		top := filepath.Join(dir, "applications")
		//nolint:errcheck // what cannot be read is not in the menu
		filepath.WalkDir(top, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(name, ".desktop") {
				return nil
			}
			below, _ := filepath.Rel(top, name)
			id := strings.ReplaceAll(strings.TrimSuffix(below, ".desktop"), "/", "-")
			if seen[id] {
				return nil
			}
			seen[id] = true
			if entry, err := read(name, id, languages); err == nil {
				all = append(all, *entry)
			}
			return nil
		})
	}
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), strings.Compare(a.ID, b.ID))
	})
	return all
}

var errNoApp = errors.New("it is no app that can be started")

func read(name, id string, languages []string) (*Entry, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading a desktop file: %w", err)
	}
	defer f.Close()
	e, err := parse(io.LimitReader(f, maxFile), languages)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	e.ID, e.File = id, name
	return e, nil
}

// parse reads a desktop file.
func parse(r io.Reader, languages []string) (*Entry, error) {
	group, err := parseGroup(r, "Desktop Entry")
	if err != nil {
		return nil, err
	}
	local := func(key string) string {
		for _, l := range languages {
			if v, ok := group[key+"["+l+"]"]; ok {
				return unescape(v)
			}
		}
		return unescape(group[key])
	}
	e := &Entry{Name: local("Name"), Comment: local("Comment"), Keywords: list(local("Keywords")), Categories: list(group["Categories"]),
		Icon: local("Icon"), Exec: unescape(group["Exec"]), Path: unescape(group["Path"]), Terminal: group["Terminal"] == "true",
		WMClass: unescape(group["StartupWMClass"]), Bus: group["DBusActivatable"] == "true"}
	if t := group["Type"]; t != "" && t != "Application" || group["Hidden"] == "true" || e.Exec == "" || e.Name == "" {
		return nil, errNoApp
	}
	if try := unescape(group["TryExec"]); try != "" {
		if _, err := exec.LookPath(try); err != nil {
			return nil, errNoApp
		}
	}
	e.Hidden = group["NoDisplay"] == "true" || !shownIn(group["OnlyShowIn"], group["NotShowIn"])
	return e, nil
}

// shownIn tells whether a menu of the user's desktop shows an entry.
func shownIn(only, not string) bool {
	current := strings.Split(os.Getenv("XDG_CURRENT_DESKTOP"), ":")
	in := func(names string) bool {
		return slices.ContainsFunc(list(names), func(n string) bool { return slices.Contains(current, n) })
	}
	return !in(not) && (only == "" || in(only))
}

// parseGroup reads one group of a file in the manner of desktop files.
func parseGroup(r io.Reader, name string) (map[string]string, error) {
	group := map[string]string{}
	inside := false
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxFile)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			inside = line == "["+name+"]"
		case inside:
			if key, value, ok := strings.Cut(line, "="); ok {
				if key = strings.TrimSpace(key); group[key] == "" {
					group[key] = strings.TrimSpace(value)
				}
			}
		}
	}
	return group, s.Err()
}

// unescape does what the specification says of strings.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\s`, " ", `\n`, "\n", `\t`, "\t", `\r`, "\r", `\;`, ";").Replace(s)
}

func list(s string) []string {
	var out []string
	for _, v := range strings.Split(s, ";") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// languages are the keys of the user's language, the closest first:
// lang_COUNTRY@MODIFIER, lang_COUNTRY, lang@MODIFIER, lang.
func languages() []string {
	l := cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG"))
	l, modifier, _ := strings.Cut(l, "@")
	l, _, _ = strings.Cut(l, ".")
	lang, country, _ := strings.Cut(l, "_")
	if lang == "" || lang == "C" || lang == "POSIX" {
		return nil
	}
	var out []string
	add := func(country, modifier string) {
		s := lang
		if country != "" {
			s += "_" + country
		}
		if modifier != "" {
			s += "@" + modifier
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	add(country, modifier)
	add(country, "")
	add("", modifier)
	add("", "")
	return out
}
