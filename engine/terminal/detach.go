package terminal

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// DefaultDetachKeys leaves the terminal while the app runs on. One Ctrl-\
// still reaches the app, a moment later; twice in a row is pressed in no
// program that we know of.
const DefaultDetachKeys = `ctrl-\,ctrl-\`

// A key that begins the detach keys is held back this long at most.
const detachPatience = 500 * time.Millisecond

// key is one of the detach keys: all the ways terminals encode it.
type key [][]byte

// parseDetachKeys reads keys as docker writes them: names with commas between,
// each a single character or ctrl- and one of a-z @ [ \ ] ^ _. An empty
// string means the default, "none" no keys.
func parseDetachKeys(s string) ([]key, error) {
	switch s {
	case "none":
		return nil, nil
	case "":
		s = DefaultDetachKeys
	}
	var keys []key
	for _, name := range strings.Split(s, ",") {
		c, ctrl := strings.CutPrefix(strings.ToLower(name), "ctrl-")
		switch {
		case ctrl && len(c) == 1 && (c[0] >= 'a' && c[0] <= 'z' || strings.Contains(`@[\]^_`, c)):
			keys = append(keys, key{
				{c[0] & 0x1f},
				fmt.Appendf(nil, "\x1b[%d;5u", c[0]),
				fmt.Appendf(nil, "\x1b[27;5;%d~", c[0]),
			})
		case !ctrl && len(name) == 1 && name[0] >= 0x20 && name[0] < 0x7f:
			keys = append(keys, key{{name[0]}, fmt.Appendf(nil, "\x1b[%du", name[0])})
		default:
			return nil, fmt.Errorf(`reading the detach keys %q: %q is no key; write them like "ctrl-p,ctrl-q", or "none"`, s, name)
		}
	}
	return keys, nil
}

// detacher looks for the detach keys in what is typed.
type detacher struct {
	keys []key
	held []byte // the beginning of the keys, not passed on yet
	ends []int  // where in held each key ends
}

// filter returns what of held and in may be passed on, and whether the keys
// were typed. What it returns is valid until the next call.
func (d *detacher) filter(in []byte) (pass []byte, detach bool) {
	if len(d.keys) == 0 {
		return in, false
	}
	for len(in) > 0 {
		if n := d.keys[len(d.ends)].match(in); n > 0 {
			d.held = append(d.held, in[:n]...)
			d.ends = append(d.ends, len(d.held))
			in = in[n:]
			if len(d.ends) == len(d.keys) {
				d.release()
				return pass, true
			}
			continue
		}
		if len(d.ends) > 0 { // not the keys: begin again after the first of them
			n := d.ends[0]
			held := d.release()
			pass = append(pass, held[:n]...)
			in = append(held[n:], in...)
			continue
		}
		pass = append(pass, in[0])
		in = in[1:]
	}
	return pass, false
}

// release gives up what is held.
func (d *detacher) release() []byte {
	b := d.held
	d.held, d.ends = nil, nil
	return b
}

func (k key) match(in []byte) int {
	for _, code := range k {
		if bytes.HasPrefix(in, code) {
			return len(code)
		}
	}
	return 0
}
