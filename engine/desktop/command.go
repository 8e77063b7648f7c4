package desktop

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Command is what Exec says, without files to open.
func (e *Entry) Command() ([]string, error) {
	words, err := split(e.Exec)
	if err != nil {
		return nil, fmt.Errorf("%s: its command %q: %w", e.Name, e.Exec, err)
	}
	var argv []string
	for _, w := range words {
		if !w.quoted {
			switch w.text {
			case "%f", "%F", "%u", "%U", "%d", "%D", "%n", "%N", "%v", "%m":
				continue
			case "%i":
				if e.Icon != "" {
					argv = append(argv, "--icon", e.Icon)
				}
				continue
			}
		}
		argv = append(argv, e.expand(w.text))
	}
	if len(argv) == 0 || argv[0] == "" {
		return nil, fmt.Errorf("%s: its command %q names no program", e.Name, e.Exec)
	}
	return argv, nil
}

// expand puts in what field codes inside of a word stand for.
func (e *Entry) expand(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch i++; s[i] {
		case '%':
			b.WriteByte('%')
		case 'c':
			b.WriteString(e.Name)
		case 'k':
			b.WriteString(e.File)
		}
	}
	return b.String()
}

type word struct {
	text   string
	quoted bool
}

// split takes a command apart: words between blanks, or in double quotes, where a
// backslash goes before a quote, a backtick, a dollar or another backslash.
func split(s string) ([]word, error) {
	var words []word
	var b strings.Builder
	var inWord, inQuotes, quoted bool
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case inQuotes && c == '\\' && i+1 < len(s):
			i++
			if !strings.ContainsRune("\"`$\\", rune(s[i])) {
				b.WriteByte('\\')
			}
			b.WriteByte(s[i])
		case c == '"':
			inQuotes, inWord, quoted = !inQuotes, true, true
		case !inQuotes && (c == ' ' || c == '\t' || c == '\n'):
			if inWord {
				words = append(words, word{b.String(), quoted})
				b.Reset()
				inWord, quoted = false, false
			}
		default:
			b.WriteByte(c)
			inWord = true
		}
	}
	if inQuotes {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if inWord {
		words = append(words, word{b.String(), quoted})
	}
	return words, nil
}

// Program is the name of the program that an entry starts; env and its like are
// looked through.
func (e *Entry) Program() string {
	argv, err := e.Command()
	if err != nil {
		return ""
	}
	return ProgramOf(argv)
}

// ProgramOf is the name of the program that a command is about.
func ProgramOf(argv []string) string {
	for i, a := range argv {
		name := filepath.Base(a)
		switch {
		case i == 0 && (name == "env" || name == "sh" || name == "bash" || strings.HasPrefix(name, "python3") || name == "python" || name == "perl"):
			if i+1 < len(argv) {
				continue // what follows says more
			}
		case i > 0 && (strings.HasPrefix(a, "-") || strings.Contains(a, "=")):
			continue
		}
		return name
	}
	return ""
}

// Match finds the entry that a running program is: by what its windows say of
// themselves (WM_CLASS), and by its command. nil if there is none.
func Match(entries []Entry, instance, class string, argv []string) *Entry {
	program := ProgramOf(argv)
	pick := func(match func(e *Entry) bool) *Entry {
		var found *Entry
		for i := range entries {
			if e := &entries[i]; match(e) && (found == nil || found.Hidden && !e.Hidden) {
				found = e
			}
		}
		return found
	}
	last := func(id string) string { return id[strings.LastIndexByte(id, '.')+1:] }
	for _, match := range []func(e *Entry) bool{
		func(e *Entry) bool { return e.WMClass != "" && (e.WMClass == class || e.WMClass == instance) },
		func(e *Entry) bool {
			return class != "" && strings.EqualFold(e.ID, class) || instance != "" && strings.EqualFold(e.ID, instance)
		},
		func(e *Entry) bool { return program != "" && e.ID == program },
		func(e *Entry) bool { return program != "" && e.Program() == program && plain(e) },
		func(e *Entry) bool { return class != "" && strings.EqualFold(last(e.ID), class) },
		func(e *Entry) bool { return program != "" && strings.EqualFold(last(e.ID), program) },
		func(e *Entry) bool { return program != "" && e.Program() == program },
	} {
		if e := pick(match); e != nil {
			return e
		}
	}
	return nil
}

// plain tells whether an entry starts its program without telling it to do
// something in particular, as "settings" of an editor do.
func plain(e *Entry) bool {
	argv, err := e.Command()
	return err == nil && !slices.ContainsFunc(argv[1:], func(a string) bool { return strings.HasPrefix(a, "-") })
}
