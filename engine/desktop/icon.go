package desktop

import (
	"bufio"
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Icons are the icon themes that a user sees: the chosen one, what it inherits,
// then what is always there. It may be used by several at once.
type Icons struct {
	bases  []string // folders of themes
	plain  []string // folders of icons of no theme
	themes []*theme
}

type theme struct {
	name    string
	folders []*folder
}

// folder is one of a theme's folders, as its index says.
type folder struct {
	path  string
	size  int // of its icons, in pixels
	once  sync.Once
	names map[string]bool // of the files in it, in all bases
}

// OpenIcons finds the user's themes below folders like DataDirs.
func OpenIcons(dirs []string) *Icons {
	i := &Icons{}
	if home := os.Getenv("HOME"); home != "" {
		i.bases = append(i.bases, filepath.Join(home, ".icons"))
	}
	for _, dir := range dirs {
		i.bases = append(i.bases, filepath.Join(dir, "icons"))
		i.plain = append(i.plain, filepath.Join(dir, "pixmaps"))
	}
	if !slices.Contains(i.plain, "/usr/share/pixmaps") {
		i.plain = append(i.plain, "/usr/share/pixmaps")
	}
	var add func(name string)
	add = func(name string) {
		if name == "" || len(i.themes) > 20 || slices.ContainsFunc(i.themes, func(t *theme) bool { return t.name == name }) {
			return
		}
		t, inherits := i.readTheme(name)
		if t == nil {
			return
		}
		i.themes = append(i.themes, t)
		for _, parent := range inherits {
			if parent != "hicolor" { // comes last
				add(parent)
			}
		}
	}
	add(chosenTheme())
	add("Adwaita")
	add("breeze")
	add("hicolor")
	return i
}

// chosenTheme is what the user has set for GTK or KDE programs, in their files.
func chosenTheme() string {
	config := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		config = filepath.Join(os.Getenv("HOME"), ".config")
	}
	for _, f := range []struct{ name, group, key string }{
		{filepath.Join(config, "gtk-3.0/settings.ini"), "Settings", "gtk-icon-theme-name"},
		{filepath.Join(config, "gtk-4.0/settings.ini"), "Settings", "gtk-icon-theme-name"},
		{filepath.Join(config, "kdeglobals"), "Icons", "Theme"},
		{"/etc/gtk-3.0/settings.ini", "Settings", "gtk-icon-theme-name"},
	} {
		b, err := os.ReadFile(f.name)
		if err != nil {
			continue
		}
		if group, err := parseGroup(bytes.NewReader(b), f.group); err == nil && group[f.key] != "" {
			return filepath.Base(strings.Trim(group[f.key], `"`))
		}
	}
	return ""
}

func (i *Icons) readTheme(name string) (*theme, []string) {
	for _, base := range i.bases {
		b, err := os.ReadFile(filepath.Join(base, name, "index.theme"))
		if err != nil || len(b) > maxFile {
			continue
		}
		groups := parseGroups(b)
		head := groups["Icon Theme"]
		t := &theme{name: name}
		for _, key := range []string{"Directories", "ScaledDirectories"} {
			for _, path := range strings.Split(head[key], ",") {
				path = strings.TrimSpace(path)
				g := groups[path]
				if g == nil || path == "" || !filepath.IsLocal(path) {
					continue
				}
				if strings.Contains(path, "symbolic") || g["Context"] == "Animations" {
					continue // these are no icons of apps
				}
				size := number(g["Size"], 48) * number(g["Scale"], 1)
				t.folders = append(t.folders, &folder{path: path, size: size})
			}
		}
		var inherits []string
		for _, parent := range strings.Split(head["Inherits"], ",") {
			if parent = strings.TrimSpace(parent); parent != "" && filepath.IsLocal(parent) {
				inherits = append(inherits, parent)
			}
		}
		return t, inherits
	}
	return nil, nil
}

func number(s string, usual int) int {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 10000 {
		return n
	}
	return usual
}

func parseGroups(b []byte) map[string]map[string]string {
	groups := map[string]map[string]string{}
	var group map[string]string
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, maxFile)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			group = map[string]string{}
			groups[line[1:len(line)-1]] = group
		} else if key, value, ok := strings.Cut(line, "="); ok && group != nil && line[0] != '#' {
			group[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return groups
}

// Find lists the files that may serve as the icon of a name, the best first, for
// size pixels. A name may be a path.
func (i *Icons) Find(name string, size int) []string {
	if name == "" {
		return nil
	}
	if filepath.IsAbs(name) {
		return []string{name}
	}
	name = filepath.Base(name)
	for _, ext := range []string{".png", ".svg", ".xpm"} {
		name = strings.TrimSuffix(name, ext)
	}
	for _, t := range i.themes {
		if files := i.inTheme(t, name, size); len(files) > 0 {
			return files
		}
	}
	var files []string
	for _, dir := range i.plain {
		for _, ext := range []string{".png", ".svg"} {
			if _, err := os.Stat(filepath.Join(dir, name+ext)); err == nil {
				files = append(files, filepath.Join(dir, name+ext))
			}
		}
	}
	return files
}

// inTheme orders a theme's files of a name: a picture that is large enough before a
// drawing, since not all of a drawing may be understood, and a drawing before one
// that is too small.
func (i *Icons) inTheme(t *theme, name string, size int) []string {
	type file struct {
		path string
		rank int
	}
	var files []file
	for _, f := range t.folders {
		f.once.Do(func() { f.names = i.namesIn(t.name, f.path) })
		for _, ext := range []string{".png", ".svg"} {
			if !f.names[name+ext] {
				continue
			}
			rank := 10000 // a drawing
			if ext == ".png" && f.size >= size {
				rank = f.size - size
			} else if ext == ".png" {
				rank = 20000 + size - f.size
			}
			for _, base := range i.bases {
				path := filepath.Join(base, t.name, f.path, name+ext)
				if _, err := os.Stat(path); err == nil {
					files = append(files, file{path, rank})
					break
				}
			}
		}
	}
	slices.SortStableFunc(files, func(a, b file) int { return cmp.Compare(a.rank, b.rank) })
	var out []string
	for _, f := range files {
		out = append(out, f.path)
	}
	return out
}

func (i *Icons) namesIn(theme, path string) map[string]bool {
	names := map[string]bool{}
	for _, base := range i.bases {
		d, err := os.Open(filepath.Join(base, theme, path))
		if err != nil {
			continue
		}
		list, _ := d.Readdirnames(-1)
		d.Close()
		for _, n := range list {
			names[n] = true
		}
	}
	return names
}
