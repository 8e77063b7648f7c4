package display

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"hither/engine/display/xwire"
)

// UsualDPI is what desktops have that say nothing.
const UsualDPI = 96

// dpiWithin is how long a desktop may take to tell: an app waits.
const dpiWithin = 300 * time.Millisecond

// DPI asks the desktop that an environment names how many dots per inch text has
// there. The X server of a capsule starts with that, since its first client, whose
// call has started it, looks before the bridge has carried the desktop's resources.
// For the others it is too early. Nobody can put them there before it: it is first in
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
	r, err := c.GetProperty(false, c.Root(), xwire.AtomResourceManager, xwire.AtomString, 0, maxResources/4)
	if err != nil {
		return UsualDPI
	}
	return int(math.Round(ResourceDPI(string(r.Value))))
}

const maxResources = 1 << 20

// ResourceDPI is what X resources say of it.
func ResourceDPI(resources string) float64 {
	for line := range strings.Lines(resources) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "Xft.dpi" {
			continue
		}
		if dpi, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil && dpi >= 1 && dpi <= 10000 {
			return dpi
		}
	}
	return UsualDPI
}
