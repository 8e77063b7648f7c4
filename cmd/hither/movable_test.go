package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMenu: "Open movable" comes and goes by the command, and browsers are asked about.
func TestMenu(t *testing.T) {
	user, system := t.TempDir(), t.TempDir()
	t.Setenv("XDG_DATA_HOME", user)
	t.Setenv("XDG_DATA_DIRS", system)
	t.Setenv("LANG", "C")
	if err := os.Mkdir(filepath.Join(system, "applications"), 0o755); err != nil {
		t.Fatal(err)
	}
	for id, text := range map[string]string{
		"org.x.pad":          "Name=Pad\nExec=pad %F\n",
		"org.x.pad-settings": "Name=Pad Settings\nExec=pad --settings\n",
		"firefox-esr":        "Name=Firefox\nExec=/usr/lib/firefox-esr/firefox-esr %u\n",
		"hither-gui":         "Name=hither\nExec=hither-gui\n",
		"unseen":             "Name=Unseen\nExec=unseen\nNoDisplay=true\n",
	} {
		if err := os.WriteFile(filepath.Join(system, "applications", id+".desktop"), []byte("[Desktop Entry]\nType=Application\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) error {
		c := rootCommand()
		c.SetArgs(append([]string{"menu"}, args...))
		return c.Execute()
	}
	have := func() string {
		all, _ := filepath.Glob(filepath.Join(user, "applications/*"))
		for i := range all {
			all[i] = strings.TrimSuffix(filepath.Base(all[i]), ".desktop")
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		args []string
		fail string // of the error; "" for none
		have string
	}{
		{[]string{"add", "pad"}, "", "org.x.pad"},
		{[]string{"add", "pad settings"}, "", "org.x.pad-settings org.x.pad"},
		{[]string{"remove", "org.x.pad-settings"}, "", "org.x.pad"},
		{[]string{"remove", "org.x.pad-settings"}, "has no", "org.x.pad"},
		{[]string{"add", "nothing"}, "no such app", "org.x.pad"},
		{[]string{"add", "firefox"}, "own sandbox", "org.x.pad"},
		{[]string{"add"}, "wanted", "org.x.pad"},
		{[]string{"add", "--all"}, "", "org.x.pad-settings org.x.pad"},
		{[]string{"add", "--allow-unsandboxed", "firefox"}, "", "firefox-esr org.x.pad-settings org.x.pad"},
		{[]string{"remove", "--all"}, "", ""},
	} {
		err := run(c.args...)
		if c.fail == "" && err != nil || c.fail != "" && (err == nil || !strings.Contains(err.Error(), c.fail)) {
			t.Errorf("%q: %v", c.args, err)
		}
		if got := have(); got != c.have {
			t.Errorf("after %q there is %q, not %q", c.args, got, c.have)
		}
	}
}
