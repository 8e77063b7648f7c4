package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"hither/engine/display/xwire"
)

// keysyms are keys by name, as X calls them (X11/keysymdef.h), and in short.
var keysyms = map[string]xwire.Keysym{
	"BackSpace": 0xff08, "Tab": 0xff09, "Return": 0xff0d, "Pause": 0xff13, "Escape": 0xff1b, "Delete": 0xffff,
	"Home": 0xff50, "Left": 0xff51, "Up": 0xff52, "Right": 0xff53, "Down": 0xff54, "Prior": 0xff55, "Next": 0xff56, "End": 0xff57,
	"Insert": 0xff63, "Menu": 0xff67, "Num_Lock": 0xff7f, "Caps_Lock": 0xffe5, "space": ' ', "plus": '+',
	"Shift_L": keyShift, "Control_L": 0xffe3, "Alt_L": 0xffe9, "Super_L": 0xffeb, "ISO_Level3_Shift": keyAltGr,
	"shift": keyShift, "ctrl": 0xffe3, "alt": 0xffe9, "super": 0xffeb, "altgr": keyAltGr,
}

const (
	keyShift = 0xffe1
	keyAltGr = 0xfe03
	keyF1    = 0xffbe
)

// keysymOf is the key symbol that a character has.
func keysymOf(r rune) xwire.Keysym {
	switch {
	case r == '\n':
		return keysyms["Return"]
	case r == '\t':
		return keysyms["Tab"]
	case r < 0x100:
		return xwire.Keysym(r) // Latin-1 has its own numbers
	default:
		return xwire.Keysym(r) | 0x01000000
	}
}

// keysymNamed is a key symbol by its name, or by the one character it is for.
func keysymNamed(name string) (xwire.Keysym, error) {
	if s, ok := keysyms[name]; ok {
		return s, nil
	}
	if r, size := utf8.DecodeRuneInString(name); size > 0 && size == len(name) {
		return keysymOf(r), nil
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(name, "F")); err == nil && name[0] == 'F' && n >= 1 && n <= 24 {
		return keyF1 + xwire.Keysym(n) - 1, nil
	}
	return 0, fmt.Errorf("no key is called %q: say it as X does (Return, Prior, F5), or by its character", name)
}

// press is how a symbol is typed: with this key, and Shift or AltGr held.
type press struct {
	key          byte
	shift, altgr bool
}

// keyboard is where the symbols of a desktop's first keyboard layout are.
type keyboard map[xwire.Keysym]press

func readKeyboard(x *xwire.Conn) (keyboard, error) {
	first, last := x.Setup().MinKeycode, x.Setup().MaxKeycode
	m, err := x.GetKeyboardMapping(first, byte(last-first+1))
	if err != nil {
		return nil, fmt.Errorf("reading the keyboard's layout: %w", err)
	}
	k := keyboard{}
	columns := int(m.KeysymsPerKeycode)
	// Columns of the core map: the first layout plain and with Shift; the second one; then, as all
	// servers do, the first with AltGr.
	for _, level := range []struct {
		column       int
		shift, altgr bool
	}{{0, false, false}, {1, true, false}, {4, false, true}, {5, true, true}} {
		for i := 0; (i+1)*columns <= len(m.Keysyms) && level.column < columns; i++ {
			row := m.Keysyms[i*columns : (i+1)*columns]
			symbol := row[level.column]
			if level.column == 1 && symbol == 0 && row[0] < 0x100 {
				symbol = keysymOf(unicode.ToUpper(rune(row[0]))) // which may be left out
			}
			if _, there := k[symbol]; !there && symbol != 0 {
				k[symbol] = press{byte(int(first) + i), level.shift, level.altgr}
			}
		}
	}
	return k, nil
}

// typeText presses the keys for a text.
func (h *hands) typeText(text string) error {
	k, err := readKeyboard(h.x)
	if err != nil {
		return err
	}
	for _, r := range text {
		p, ok := k[keysymOf(r)]
		if !ok {
			return fmt.Errorf("this desktop's keyboard has no key for %q", r)
		}
		var held []byte
		if p.shift {
			held = append(held, k[keyShift].key)
		}
		if p.altgr {
			held = append(held, k[keyAltGr].key)
		}
		for _, key := range append(held, p.key) {
			h.fake(fakeKeyPress, key)
		}
		h.fake(fakeKeyRelease, p.key)
		for _, key := range held {
			h.fake(fakeKeyRelease, key)
		}
	}
	return nil
}

// chord presses, or lets go, or both, keys together: ctrl+shift+s. Characters stand for their key, without
// the Shift that they may need.
func (h *hands) chord(names string, kinds ...byte) error {
	k, err := readKeyboard(h.x)
	if err != nil {
		return err
	}
	var keys []byte
	for _, name := range strings.Split(names, "+") {
		symbol, err := keysymNamed(name)
		if err != nil {
			return err
		}
		p, ok := k[symbol]
		if !ok {
			return fmt.Errorf("this desktop's keyboard has no key %s", name)
		}
		keys = append(keys, p.key)
	}
	for _, kind := range kinds {
		for i := range keys {
			if kind == fakeKeyRelease { // the last one first
				i = len(keys) - 1 - i
			}
			h.fake(kind, keys[i])
		}
	}
	return nil
}
