package display

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"hither/engine/display/xsettings"
	"hither/engine/display/xwire"
)

// UsualDPI is what desktops have that say nothing.
const UsualDPI = 96

// dpiWithin is how long a desktop may take to tell: an app waits.
const dpiWithin = 300 * time.Millisecond

const maxProperty = 1 << 20

// DPI asks the desktop that an environment names how many dots per inch text has
// there. The X server of a capsule starts with that, since its first client, whose
// call has started it, looks before the bridge has carried the desktop's settings.
// For other resources it is too early. Nobody can put them there before it: it is first in
// the server's queue, and once let in it is served as long as it asks (a connection
// that waits behind it, with a GrabServer, came first in one of two tries).
func DPI(lookup func(name string) string) int {
	if lookup("DISPLAY") == "" {
		return UsualDPI
	}
	ctx, cancel := context.WithTimeout(context.Background(), dpiWithin)
	defer cancel()
	c, err := xwire.Dial(ctx, lookup("DISPLAY"), lookup("XAUTHORITY"))
	if err != nil {
		return UsualDPI
	}
	defer c.Close()
	c.SetTimeout(dpiWithin)
	dpi, err := DPIOf(c)
	if err != nil || dpi == 0 {
		return UsualDPI
	}
	return int(math.Round(dpi))
}

// DPIOf is how many a server's clients are told, 0 if they are told nothing.
func DPIOf(c *xwire.Conn) (float64, error) {
	failed := func(err error) (float64, error) {
		return 0, fmt.Errorf("asking a desktop how many dots per inch it has: %w", err)
	}
	resources := c.GetPropertyAsync(false, c.Root(), xwire.AtomResourceManager, xwire.AtomString, 0, maxProperty/4)
	atoms, err := c.Atoms("_XSETTINGS_S0", "_XSETTINGS_SETTINGS")
	if err != nil {
		return failed(err)
	}
	owner, err := c.GetSelectionOwner(atoms[0])
	if err != nil {
		return failed(err)
	}
	var list []xsettings.Setting
	if owner.Owner != 0 {
		if r, err := c.GetProperty(false, owner.Owner, atoms[1], 0, 0, maxProperty/4); err == nil {
			list, _, _ = xsettings.Parse(r.Value) // damaged: none
		}
	}
	r, err := resources.Wait()
	if err != nil {
		return failed(err)
	}
	return SaidDPI(list, string(r.Value)), nil
}

// ServerDPI is how many a server has by its screen's size, which is what it was
// started with if it is a capsule's.
func ServerDPI(c *xwire.Conn) float64 {
	s := c.Screen()
	return math.Round(float64(s.WidthInPixels) * 25.4 / float64(max(s.WidthInMillimeters, 1)))
}

// SaidDPI is what settings and X resources say of it, 0 if they say nothing.
func SaidDPI(list []xsettings.Setting, resources string) float64 {
	said := map[string]float64{}
	for _, s := range list {
		if s.Kind == xsettings.KindInt {
			said[s.Name] = float64(int32(s.Number))
		}
	}
	if dpi := said["Xft/DPI"] / 1024; isDPI(dpi) {
		return dpi
	}
	if dpi := ResourceDPI(resources); dpi != 0 {
		return dpi
	}
	if dpi := said["Gdk/WindowScalingFactor"] * UsualDPI; isDPI(dpi) {
		return dpi
	}
	return 0
}

// ResourceDPI is what X resources say of it, 0 if they say nothing.
func ResourceDPI(resources string) float64 {
	for line := range strings.Lines(resources) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "Xft.dpi" {
			continue
		}
		if dpi, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil && isDPI(dpi) {
			return dpi
		}
	}
	return 0
}

func isDPI(v float64) bool { return v >= 1 && v <= 10000 }
