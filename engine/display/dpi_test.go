package display

import (
	"testing"

	"hither/engine/display/xsettings"
)

func TestSaidDPI(t *testing.T) {
	xft := func(n int32) xsettings.Setting { return xsettings.Setting{Name: "Xft/DPI", Number: uint32(n)} }
	twice := xsettings.Setting{Name: "Gdk/WindowScalingFactor", Number: 2}
	for _, c := range []struct {
		list      []xsettings.Setting
		resources string
		want      float64
	}{
		{nil, "", 0},
		{nil, "*x: y\nXft.dpi:\t144\n", 144},
		{nil, "Xft.dpi: much\nXft.dpi: 96.5", 96.5},
		{[]xsettings.Setting{xft(192 * 1024)}, "Xft.dpi: 96\n", 192},
		{[]xsettings.Setting{xft(-1), twice}, "Xft.dpi: 120\n", 120},
		{[]xsettings.Setting{twice}, "", 192},
		{[]xsettings.Setting{{Name: "Xft/DPI", Kind: xsettings.KindString, Text: "x"}}, "", 0},
	} {
		if got := SaidDPI(c.list, c.resources); got != c.want {
			t.Errorf("%v and %q say %v, not %v", c.list, c.resources, got, c.want)
		}
	}
}
