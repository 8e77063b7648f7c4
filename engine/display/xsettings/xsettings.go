// Package xsettings reads and writes the settings of a desktop that toolkits follow.
package xsettings

import (
	"encoding/binary"
	"errors"
	"math"
)

// A blob of XSETTINGS, as the specification at
// https://specifications.freedesktop.org/xsettings-spec/ has it: byte order,
// padding (3), serial (4), number of settings (4); then for each: kind (1),
// padding (1), length of its name (2), name, serial of its last change (4), value.
// Names and strings are padded to four bytes.

// Setting is one of them.
type Setting struct {
	Name   string
	Kind   uint8
	Serial uint32 // of its last change
	Number uint32 // KindInt
	Text   string // KindString
	Color  [8]byte
}

// The kinds of values.
const (
	KindInt    = 0
	KindString = 1
	KindColor  = 2

	maxSettingCount = 10000
)

var errSettings = errors.New("the XSETTINGS are damaged")

// Parse reads a blob of either byte order, and its serial.
func Parse(b []byte) ([]Setting, uint32, error) {
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
	var out []Setting
	for range n {
		head := take(4)
		s := Setting{Kind: head[0], Name: text(uint32(order.Uint16(head[2:])))}
		s.Serial = order.Uint32(take(4))
		switch s.Kind {
		case KindInt:
			s.Number = order.Uint32(take(4))
		case KindString:
			s.Text = text(order.Uint32(take(4)))
		case KindColor:
			for i, v := 0, take(8); i < 8; i += 2 {
				binary.LittleEndian.PutUint16(s.Color[i:], order.Uint16(v[i:]))
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

// Encode writes a blob, little endian.
func Encode(list []Setting, serial uint32) []byte {
	b := make([]byte, 4)
	u32 := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
	text := func(s string) {
		b = append(b, s...)
		b = append(b, make([]byte, (4-len(s)%4)%4)...)
	}
	u32(serial)
	u32(uint32(len(list)))
	for _, s := range list {
		b = append(b, s.Kind, 0)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s.Name)))
		text(s.Name)
		u32(s.Serial)
		switch s.Kind {
		case KindInt:
			u32(s.Number)
		case KindString:
			u32(uint32(len(s.Text)))
			text(s.Text)
		case KindColor:
			b = append(b, s.Color[:]...)
		}
	}
	return b
}
