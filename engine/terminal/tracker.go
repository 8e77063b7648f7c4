package terminal

import (
	"fmt"
	"strings"
)

// tracker follows the modes alone; the client has one, to leave its terminal
// as it was.
type tracker struct {
	parser parser
	modes  modes
}

func (t *tracker) write(data []byte)        { t.parser.feed(data, t) }
func (t *tracker) text([]byte)              {}
func (t *tracker) print(rune)               {}
func (t *tracker) control(byte)             {}
func (t *tracker) escape(inter, final byte) { t.modes.escape(inter, final) }
func (t *tracker) csi(s *sequence)          { t.modes.csi(s) }
func (t *tracker) osc(text []byte)          { t.modes.osc(text) }

// dirty tells whether an app left something on that a shell does not survive.
func (m *modes) dirty() bool {
	for n, on := range m.dec {
		if on && (n >= 1000 && n <= 1016 || n == 9) || !on && n == 25 {
			return true
		}
	}
	return m.alt != 0 || m.keypad || len(m.kitty[0])+len(m.kitty[1]) > 0
}

// leave returns the sequences that bring a terminal back to what a shell
// expects, after an app that was not asked to clean up.
func (m *modes) leave() []byte {
	b := []byte("\x18\x1b\\")
	for _, n := range sortedKeys(m.dec) {
		if on := n == 25; m.dec[n] != on {
			b = fmt.Appendf(b, "\x1b[?%d%c", n, onOff(on))
		}
	}
	b = append(b, "\x1b[?2026l"...)
	if m.alt != 0 {
		b = appendPop(b, len(m.kitty[1]))
		b = fmt.Appendf(b, "\x1b[?%dl", m.alt)
	}
	b = appendPop(b, len(m.kitty[0]))
	if m.keypad {
		b = append(b, "\x1b>"...)
	}
	if m.cursor != 0 {
		b = append(b, "\x1b[0 q"...)
	}
	for i, v := range m.modify {
		if v != 0 {
			b = fmt.Appendf(b, "\x1b[>%dm", i)
		}
	}
	for _, key := range sortedKeys(m.colours) {
		b = fmt.Appendf(b, "\x1b]1%s\a", strings.Replace(key, "4;", "04;", 1))
	}
	// Insert mode and charsets, then the margins without moving the cursor, then the colours.
	return append(b, "\x1b[4l\x1b[20l\x1b[?6l\x1b[?7h\x0f\x1b(B\x1b7\x1b[r\x1b8\x1b[m"...)
}

func appendPop(b []byte, n int) []byte {
	if n > 0 {
		b = fmt.Appendf(b, "\x1b[<%du", n)
	}
	return b
}
