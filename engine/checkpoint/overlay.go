package checkpoint

import (
	"os"
	"path/filepath"
	"strings"
)

// below finds the mapped file of which /proc tells a path that begins at an
// overlay instead of at the root. The kernel does so where one overlay lies upon
// another: carried files upon a host whose own folder is an overlay, as in live systems
// and containers. There must be one answer.
func (x *mapper) below(path string) (found string, ok bool) {
	text, err := os.ReadFile(filepath.Dir(x.root) + "/mountinfo")
	if err != nil {
		return "", false
	}
	for _, point := range overlays(string(text)) {
		at := filepath.Join(point, path)
		if _, err := x.stat(at); err != nil || at == found {
			continue
		}
		if found != "" {
			return "", false
		}
		found = at
	}
	return found, found != ""
}

// overlays are the mount points of overlays, from the text of mountinfo
// (proc_pid_mountinfo(5)).
func overlays(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		mount, system, ok := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if ok && len(fields) >= 5 && strings.HasPrefix(system, "overlay ") {
			out = append(out, unescape.Replace(fields[4]))
		}
	}
	return out
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
