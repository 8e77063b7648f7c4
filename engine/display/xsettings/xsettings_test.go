package xsettings

import (
	"bytes"
	"reflect"
	"testing"
)

func TestSettingsFormat(t *testing.T) {
	list := []Setting{
		{Name: "Net/ThemeName", Kind: KindString, Serial: 3, Text: "Größe"},
		{Name: "Xft/DPI", Serial: 7, Number: 98304},
		{Name: "a", Kind: KindColor, Serial: 1, Color: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}},
	}
	b := Encode(list, 9)
	got, serial, err := Parse(b)
	if err != nil || serial != 9 || !reflect.DeepEqual(got, list) {
		t.Errorf("%v %d %v", got, serial, err)
	}
	for i := range b[:len(b)-1] {
		if _, _, err := Parse(b[:i]); err == nil {
			t.Errorf("the first %d bytes are taken for all", i)
		}
	}
	big := []byte{1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 'x', 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0}
	got, serial, err = Parse(big)
	if err != nil || serial != 5 || len(got) != 1 || got[0] != (Setting{Name: "x", Serial: 2, Number: 256}) {
		t.Errorf("big endian: %v %d %v", got, serial, err)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add(Encode([]Setting{{Name: "Xft/DPI", Number: 96 * 1024}}, 1))
	f.Add(Encode([]Setting{{Name: "a", Kind: KindString, Text: "b"}, {Name: "c", Kind: KindColor}}, 1))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 'x', 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, serial, err := Parse(b)
		if err != nil {
			return
		}
		once := Encode(list, serial)
		list, serial, err = Parse(once)
		if err != nil || !bytes.Equal(Encode(list, serial), once) {
			t.Errorf("%q is not stable: %v", b, err)
		}
	})
}
