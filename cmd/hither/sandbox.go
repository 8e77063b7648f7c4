package main

import (
	"fmt"
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

// sandboxOf knows a program with sandboxes of its own by its name.
func sandboxOf(program string) (sandbox, bool) {
	name := filepath.Base(program)
	for _, s := range sandboxes {
		if slices.Contains(strings.Fields(s.family), name) {
			return s, true
		}
	}
	return sandbox{}, false
}

// unsandbox is the choice of a person: with its own sandboxes a program is safer,
// and stays. It returns the command and what the environment gets, and says what it means.
func unsandbox(argv []string, allowed bool) (_, env []string, err error) {
	s, known := sandboxOf(argv[0])
	name := filepath.Base(argv[0])
	switch {
	case !known && allowed:
		return nil, nil, &failure{
			err:  fmt.Errorf("hither does not know how to start %s without sandboxes of its own", name),
			hint: "leave out --allow-unsandboxed; if a move is refused because of a sandbox, give the program its own switch for that",
			code: exitUsage,
		}
	case known && allowed:
		say("%s runs without its own sandboxes, so that it can move: a bad page can do more harm", name)
		return append(append(slices.Clone(argv[:1]), s.args...), argv[1:]...), s.env, nil
	case known:
		say("%s puts parts of itself into sandboxes, with which it cannot move yet; it runs here all the same", name)
		say("hint: `hither run --allow-unsandboxed %s` starts it without them; it is less safe then", name)
	}
	return argv, nil, nil
}
