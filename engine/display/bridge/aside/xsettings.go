package aside

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
)

// A blob of XSETTINGS, as the specification at
// https://specifications.freedesktop.org/xsettings-spec/ has it: byte order,
// padding (3), serial (4), number of settings (4); then for each: kind (1),
// padding (1), length of its name (2), name, serial of its last change (4), value.
// Names and strings are padded to four bytes.

// setting is one of them.
type setting struct {
	name   string
	kind   uint8
	serial uint32 // of its last change
	number uint32 // kindInt
	text   string // kindString
	color  [8]byte
}

const (
	kindInt    = 0
	kindString = 1
	kindColor  = 2

	maxSettingCount = 10000
)

var errSettings = errors.New("the XSETTINGS are damaged")

// parseSettings reads a blob of either byte order, and its serial.
func parseSettings(b []byte) ([]setting, uint32, error) {
	if len(b) < 12 || b[0] > 1 {
		return nil, 0, errSettings
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[0] == 1 {
		order = binary.BigEndian
	}
	serial, n := order.Uint32(b[4:]), order.Uint32(b[8:])
	if n > maxSettingCount {
		return nil, 0, errSettings
	}
	b = b[12:]
	bad := false
	take := func(n int) []byte {
		if bad = bad || n < 0 || n > len(b); bad {
			return make([]byte, 8)
		}
		out := b[:n]
		b = b[n:]
		return out
	}
	text := func(n uint32) string {
		if n > math.MaxInt32 {
			bad = true
			return ""
		}
		s := string(take(int(n)))
		take(min((4-int(n)%4)%4, len(b))) // the last one may lack it
		return s
	}
	var out []setting
	for range n {
		head := take(4)
		s := setting{kind: head[0], name: text(uint32(order.Uint16(head[2:])))}
		s.serial = order.Uint32(take(4))
		switch s.kind {
		case kindInt:
			s.number = order.Uint32(take(4))
		case kindString:
			s.text = text(order.Uint32(take(4)))
		case kindColor:
			for i, v := 0, take(8); i < 8; i += 2 {
				binary.LittleEndian.PutUint16(s.color[i:], order.Uint16(v[i:]))
			}
		default:
			bad = true
		}
		if bad {
			return nil, 0, errSettings
		}
		out = append(out, s)
	}
	return out, serial, nil
}

// encodeSettings writes a blob, little endian.
func encodeSettings(list []setting, serial uint32) []byte {
	b := make([]byte, 4)
	u32 := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
	text := func(s string) {
		b = append(b, s...)
		b = append(b, make([]byte, (4-len(s)%4)%4)...)
	}
	u32(serial)
	u32(uint32(len(list)))
	for _, s := range list {
		b = append(b, s.kind, 0)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s.name)))
		text(s.name)
		u32(s.serial)
		switch s.kind {
		case kindInt:
			u32(s.number)
		case kindString:
			u32(uint32(len(s.text)))
			text(s.text)
		case kindColor:
			b = append(b, s.color[:]...)
		}
	}
	return b
}

// notInCapsule are settings that speak of programs which serve the desktop and do
// not run in a capsule: its session bus, input methods, modules that export menus.
var notInCapsule = []string{"Gtk/SessionBusId", "Gtk/IMModule", "Gtk/Modules", "Gtk/ShellShowsAppMenu", "Gtk/ShellShowsMenubar"}

func inCapsule(list []setting) []setting {
	return slices.DeleteFunc(list, func(s setting) bool { return slices.Contains(notInCapsule, s.name) })
}

// leastSettings are those of a desktop that has none.
func leastSettings(dpi float64) []setting {
	d := uint32(math.Round(dpi * 1024))
	return []setting{
		{name: "Gdk/UnscaledDPI", number: d},
		{name: "Gdk/WindowScalingFactor", number: 1},
		{name: "Xft/DPI", number: d},
	}
}

// changed gives what a list has become with each setting's last change, or nil if
// nothing has changed.
func changed(old, list []setting, serial uint32) []setting {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b setting) int { return strings.Compare(a.name, b.name) })
	before := map[string]setting{}
	for _, s := range old {
		before[s.name] = s
	}
	same := len(old) == len(list)
	for i := range list {
		s := &list[i]
		s.serial = serial
		was, ok := before[s.name]
		if was.serial = serial; ok && was == *s {
			s.serial = before[s.name].serial
		} else {
			same = false
		}
	}
	if same {
		return nil
	}
	return list
}
