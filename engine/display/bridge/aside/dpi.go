package aside

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"hither/engine/display"
	"hither/engine/display/xsettings"
)

// What settings and resources say of a desktop's dots per inch is held apart from the
// rest: it stays as the apps have it for as long as the bridge scales them.
var (
	scaleSettings  = []string{"Xft/DPI", "Gdk/WindowScalingFactor", "Gdk/UnscaledDPI", "Gtk/CursorThemeSize"}
	scaleResources = []string{"Xft.dpi", "Xcursor.size"}
)

// keepScale gives settings the scale of others.
func keepScale(list, from []xsettings.Setting) []xsettings.Setting {
	is := func(s xsettings.Setting) bool { return slices.Contains(scaleSettings, s.Name) }
	out := slices.DeleteFunc(slices.Clone(list), is)
	for _, s := range from {
		if is(s) {
			out = append(out, s)
		}
	}
	return out
}

// keepScaleResources does so for resources.
func keepScaleResources(resources, from string) string {
	is := func(line string) bool {
		name, _, _ := strings.Cut(line, ":")
		return slices.Contains(scaleResources, strings.TrimSpace(name))
	}
	var out strings.Builder
	write := func(line string) { out.WriteString(strings.TrimSuffix(line, "\n") + "\n") }
	for line := range strings.Lines(resources) {
		if !is(line) {
			write(line)
		}
	}
	for line := range strings.Lines(from) {
		if is(line) {
			write(line)
		}
	}
	return out.String()
}

// withDPI has resources say it if they do not. Not every desktop's do, and many apps
// hear of nothing else.
func withDPI(resources string, dpi float64) string {
	if display.ResourceDPI(resources) != 0 {
		return resources
	}
	if resources != "" && !strings.HasSuffix(resources, "\n") {
		resources += "\n"
	}
	return resources + fmt.Sprintf("Xft.dpi:\t%d\n", int(math.Round(dpi)))
}
