package desktop

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// An app's menu, where its icon is clicked with the right button, can have a line "Open movable". It
// is an action of the app's desktop file; so that none of the system's files is touched, the user's
// folder gets a copy with the action in it, which counts instead. The copy says what it was made of:
// Refresh makes it anew when that changes, as with an update of the app, and RemoveMovable leaves nothing.

const (
	movableAction = "hither-movable"
	movableFrom   = "X-Hither-From" // the file that it is a copy of
	movableSum    = "X-Hither-Sum"  // of that file's content
	movableExec   = "X-Hither-Exec" // what the action runs, to make it anew
)

// Movable is an app whose menu has "Open movable".
type Movable struct {
	ID   string
	File string // ours
	From string // what it is a copy of
	sum  string
	exec string
}

// AddMovable adds "Open movable" to an app's menu. It runs these words; only the app's ID follows.
func AddMovable(dirs []string, e Entry, words ...string) error {
	if err := addMovable(dirs, e, words); err != nil {
		return fmt.Errorf("adding \"Open movable\" to the menu of %s: %w", e.Name, err)
	}
	return nil
}

func addMovable(dirs []string, e Entry, words []string) error {
	from := e.File
	if m, err := readMovable(e.File); err == nil {
		from = m.From
	} else if below(e.File, filepath.Join(dirs[0], "applications")) {
		return fmt.Errorf("%s is a file of your own, which hither does not change", e.File)
	}
	var quoted []string
	for _, w := range append(words, e.ID) {
		quoted = append(quoted, quote(w))
	}
	return writeMovable(filepath.Join(dirs[0], "applications", e.ID+".desktop"), from, strings.Join(quoted, " "))
}

func below(file, dir string) bool { return strings.HasPrefix(file, dir+"/") }

func writeMovable(file, from, exec string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		return fmt.Errorf("%s is no desktop file: it has %d bytes", from, len(text))
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	temp := file + ".hither"
	if err := os.WriteFile(temp, withMovable(text, from, exec), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, file)
}

// withMovable is a desktop file with the action in it.
func withMovable(text []byte, from, exec string) []byte {
	sum := sha256.Sum256(text)
	var b bytes.Buffer
	inside, done := false, false
	actions := movableAction + ";"
	finish := func() { // the end of the main group
		if inside && !done {
			done = true
			fmt.Fprintf(&b, "Actions=%s\n%s=%s\n%s=%s\n%s=%s\n", actions, movableFrom, escape(from), movableSum, hex.EncodeToString(sum[:]), movableExec, escape(exec))
		}
	}
	var blank int // lines that wait: the keys go before them
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		if trimmed == "" {
			blank++
			continue
		}
		if trimmed[0] == '[' {
			finish()
			inside = trimmed == "[Desktop Entry]"
		}
		key, value, _ := strings.Cut(trimmed, "=")
		key = strings.TrimSpace(key)
		if inside && trimmed[0] != '#' {
			switch {
			case key == "Actions":
				if v := strings.Trim(strings.TrimSpace(value), ";"); v != "" {
					actions = v + ";" + actions
				}
				continue
			case key == "DBusActivatable":
				// Who is started by messages is told of actions by them, and does not know this one.
				continue
			}
		}
		for ; blank > 0; blank-- {
			b.WriteByte('\n')
		}
		b.WriteString(line + "\n")
	}
	finish()
	fmt.Fprintf(&b, "\n[Desktop Action %s]\nName=Open movable\nIcon=hither\nExec=%s\n", movableAction, escape(exec))
	return b.Bytes()
}

// readMovable reads a copy of ours.
func readMovable(file string) (*Movable, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	group, err := parseGroup(f, "Desktop Entry")
	if err != nil {
		return nil, err
	}
	m := &Movable{ID: strings.TrimSuffix(filepath.Base(file), ".desktop"), File: file, From: unescape(group[movableFrom]),
		sum: group[movableSum], exec: unescape(group[movableExec])}
	if m.From == "" || m.sum == "" {
		return nil, errors.New("it is not hither's")
	}
	return m, nil
}

// Movables are the apps whose menu has "Open movable".
func Movables(dirs []string) ([]Movable, error) {
	files, err := os.ReadDir(filepath.Join(dirs[0], "applications"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for menus with \"Open movable\": %w", err)
	}
	var out []Movable
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".desktop") || !f.Type().IsRegular() {
			continue
		}
		if m, err := readMovable(filepath.Join(dirs[0], "applications", f.Name())); err == nil {
			out = append(out, *m)
		}
	}
	slices.SortFunc(out, func(a, b Movable) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Remove takes "Open movable" out of the app's menu.
func (m Movable) Remove() error {
	// Somebody may have put another file there meanwhile.
	if _, err := readMovable(m.File); err != nil {
		return nil
	}
	if err := os.Remove(m.File); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("taking \"Open movable\" out of the menu of %s: %w", m.ID, err)
	}
	return nil
}

// Refresh makes copies anew whose app was updated, and removes those whose app is gone.
func Refresh(dirs []string) error {
	all, err := Movables(dirs)
	if err != nil {
		return err
	}
	for _, m := range all {
		text, err := os.ReadFile(m.From)
		sum := sha256.Sum256(text)
		switch {
		case errors.Is(err, os.ErrNotExist):
			err = m.Remove()
		case err == nil && hex.EncodeToString(sum[:]) != m.sum:
			err = writeMovable(m.File, m.From, m.exec)
		}
		if err != nil {
			return fmt.Errorf("renewing \"Open movable\" of %s: %w", m.ID, err)
		}
	}
	return nil
}

// quote is a word of a command, as split takes it apart.
func quote(word string) string {
	word = strings.ReplaceAll(word, "%", "%%")
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@,%", r))
	}) {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(word) + `"`
}

// Quote is a word of an Exec line, as a desktop file has it.
func Quote(word string) string { return escape(quote(word)) }

// escape is what unescape undoes.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(s)
}
