package launch

import (
	"path/filepath"
	"slices"
	"strings"
)

// Browsers put parts of themselves under seccomp filters and into namespaces of
// their own, which cannot be carried yet. Each family has a switch against it:
// chromium's docs/linux/sandboxing.md, and security/sandbox/linux of Firefox.
type sandbox struct {
	family string
	args   []string
	env    []string
}

var sandboxes = []sandbox{
	{
		family: "chromium chromium-browser google-chrome google-chrome-stable google-chrome-beta brave brave-browser " +
			"microsoft-edge microsoft-edge-stable vivaldi vivaldi-stable opera",
		args: []string{"--no-sandbox", "--no-zygote"},
	},
	{
		family: "firefox firefox-esr firefox-developer-edition librewolf thunderbird",
		env: []string{"MOZ_DISABLE_CONTENT_SANDBOX=1", "MOZ_DISABLE_GMP_SANDBOX=1", "MOZ_DISABLE_RDD_SANDBOX=1",
			"MOZ_DISABLE_SOCKET_PROCESS_SANDBOX=1", "MOZ_DISABLE_UTILITY_SANDBOX=1"},
	},
}

func sandboxOf(program string) (sandbox, bool) {
	name := filepath.Base(program)
	for _, s := range sandboxes {
		if slices.Contains(strings.Fields(s.family), name) {
			return s, true
		}
	}
	return sandbox{}, false
}

// Sandboxed knows a program with sandboxes of its own by its name. With them it is
// safer, and cannot move.
func Sandboxed(argv []string) bool {
	if len(argv) == 0 {
		return false
	}
	_, known := sandboxOf(argv[0])
	return known
}

// Unsandbox is the command of a program that Sandboxed knows without its sandboxes,
// and what its environment gets for it.
func Unsandbox(argv []string) (_, env []string) {
	s, _ := sandboxOf(argv[0])
	return append(append(slices.Clone(argv[:1]), s.args...), argv[1:]...), s.env
}
