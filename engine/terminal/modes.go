package terminal

import (
	"fmt"
	"slices"
	"strings"
)

// modes follows what an app has switched on in its terminal, apart from what
// it has drawn. The keeper needs it to bring another terminal to the same
// state, the client to leave its own as it was.
type modes struct {
	// dec holds every DEC private mode that was touched, but for those that
	// belong to the screen (see screenMode).
	dec map[uint16]bool

	alt    uint16 // the mode that shows the alternate screen: 47, 1047, 1049; or 0
	keypad bool   // application keypad
	cursor uint16 // DECSCUSR
	// modify holds xterm's key modifier options (CSI > n ; v m) plus one; 0 is
	// the default.
	modify [8]uint16

	// kitty holds the stacks of keyboard flags of kitty's protocol, of the main
	// and the alternate screen; the top is in force. kittyUsed: they were touched.
	kitty     [2][]uint16
	kittyUsed bool

	title, icon string
	titled      bool
	colours     map[string]string // OSC 10, 11, 12 and "4;n", as they were set

	gen uint64 // changes with any of the above
}

const (
	maxModes   = 64
	maxKitty   = 16
	maxTitle   = 512
	maxColours = 272
)

// screenMode tells the private modes that the screen keeps itself.
func screenMode(n uint16) bool {
	switch n {
	case 3, 6, 7, 47, 69, 1047, 1048, 1049, 2026:
		return true
	}
	return false
}

func (m *modes) set(n uint16, on bool) {
	m.gen++
	switch n {
	case 47, 1047, 1049:
		m.alt = 0
		if on {
			m.alt = n
		}
		return
	}
	if screenMode(n) {
		return
	}
	if n == 66 {
		m.keypad = on
		return
	}
	if m.dec == nil {
		m.dec = make(map[uint16]bool)
	}
	if _, known := m.dec[n]; known || len(m.dec) < maxModes {
		m.dec[n] = on
	}
}

// on tells whether a private mode is set.
func (m *modes) on(n uint16) bool {
	on, touched := m.dec[n]
	return on || !touched && n == 25
}

func (m *modes) escape(inter, final byte) {
	if inter != 0 {
		return
	}
	switch final {
	case '=', '>':
		m.keypad = final == '='
		m.gen++
	case 'c':
		m.reset(true)
	}
}

// reset does RIS, or DECSTR if not hard.
func (m *modes) reset(hard bool) {
	gen := m.gen + 1
	if hard {
		touched := m.dec
		*m = modes{kittyUsed: m.kittyUsed, titled: m.titled}
		for n := range touched {
			m.set(n, n == 25)
		}
	} else {
		m.keypad, m.cursor = false, 0
		m.set(1, false)
		m.set(25, true)
	}
	m.gen = gen
}

func (m *modes) csi(s *sequence) {
	switch {
	case s.prefix == '?' && s.inter == 0 && (s.final == 'h' || s.final == 'l'):
		for _, n := range s.params[:s.n] {
			m.set(n, s.final == 'h')
		}
	case s.prefix == 0 && s.inter == ' ' && s.final == 'q':
		m.cursor = s.params[0]
		m.gen++
	case s.prefix == 0 && s.inter == '!' && s.final == 'p':
		m.reset(false)
	case s.prefix == '>' && s.inter == 0 && s.final == 'm' && int(s.params[0]) < len(m.modify):
		m.modify[s.params[0]] = 0
		if s.n > 1 {
			m.modify[s.params[0]] = min(s.params[1], 99) + 1
		}
		m.gen++
	case s.prefix == '>' && s.inter == 0 && s.final == 'n' && int(s.params[0]) < len(m.modify):
		m.modify[s.params[0]] = 0
		m.gen++
	case s.final == 'u' && s.inter == 0 && s.prefix != 0 && s.prefix != '?':
		m.keyboard(s)
	}
}

// keyboard follows kitty's keyboard protocol.
func (m *modes) keyboard(s *sequence) {
	which := 0
	if m.alt != 0 {
		which = 1
	}
	stack := m.kitty[which]
	switch s.prefix {
	case '>':
		stack = append(stack, s.params[0])
		if len(stack) > maxKitty {
			stack = stack[1:]
		}
	case '<':
		stack = stack[:max(0, len(stack)-s.arg(0, 1))]
	case '=':
		if len(stack) == 0 {
			stack = append(stack, 0)
		}
		top := &stack[len(stack)-1]
		switch s.arg(1, 1) {
		case 1:
			*top = s.params[0]
		case 2:
			*top |= s.params[0]
		case 3:
			*top &^= s.params[0]
		}
	}
	m.kitty[which] = stack
	m.kittyUsed = true
	m.gen++
}

func (m *modes) osc(text []byte) {
	code, rest, _ := strings.Cut(string(text), ";")
	switch code {
	case "0", "1", "2":
		rest = strings.ToValidUTF8(rest[:min(len(rest), maxTitle)], "")
		if code != "1" {
			m.title = rest
		}
		if code != "2" {
			m.icon = rest
		}
		m.titled = true
	case "10", "11", "12":
		m.colour(code, rest)
	case "4":
		parts := strings.Split(rest, ";")
		for i := 0; i+1 < len(parts); i += 2 {
			m.colour("4;"+parts[i], parts[i+1])
		}
	case "110", "111", "112":
		delete(m.colours, code[1:])
	case "104":
		for key := range m.colours {
			if n, ok := strings.CutPrefix(key, "4;"); ok && (rest == "" || slices.Contains(strings.Split(rest, ";"), n)) {
				delete(m.colours, key)
			}
		}
	default:
		return
	}
	m.gen++
}

func (m *modes) colour(key, value string) {
	if value == "?" || value == "" || len(key)+len(value) > 64 {
		return
	}
	if m.colours == nil {
		m.colours = make(map[string]string)
	}
	if _, known := m.colours[key]; known || len(m.colours) < maxColours {
		m.colours[key] = value
	}
}

// appendTo adds the sequences that bring a terminal with other modes to these,
// without those of the screen.
func (m *modes) appendTo(b []byte) []byte {
	for _, n := range sortedKeys(m.dec) {
		b = fmt.Appendf(b, "\x1b[?%d%c", n, onOff(m.dec[n]))
	}
	if m.keypad {
		b = append(b, "\x1b="...)
	} else {
		b = append(b, "\x1b>"...)
	}
	b = fmt.Appendf(b, "\x1b[%d q", m.cursor)
	for i, v := range m.modify {
		if v != 0 {
			b = fmt.Appendf(b, "\x1b[>%d;%dm", i, v-1)
		}
	}
	if m.titled {
		b = fmt.Appendf(b, "\x1b]1;%s\a\x1b]2;%s\a", m.icon, m.title)
	}
	for _, key := range sortedKeys(m.colours) {
		b = fmt.Appendf(b, "\x1b]%s;%s\a", key, m.colours[key])
	}
	return b
}

// appendKitty adds the keyboard flags of one of the screens, which must be the
// one that is shown.
func (m *modes) appendKitty(b []byte, which int) []byte {
	if !m.kittyUsed {
		return b
	}
	b = fmt.Appendf(b, "\x1b[<%du", maxKitty)
	for _, flags := range m.kitty[which] {
		b = fmt.Appendf(b, "\x1b[>%du", flags)
	}
	return b
}

func onOff(on bool) byte {
	if on {
		return 'h'
	}
	return 'l'
}

func sortedKeys[K ~uint16 | ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
