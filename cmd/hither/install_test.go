package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDebianPackage: the package holds what it should, and its program runs.
func TestDebianPackage(t *testing.T) {
	bin := os.Getenv("HITHER_BIN")
	if bin == "" || testing.Short() {
		t.Skip("HITHER_BIN names no folder of built programs")
	}
	needs(t, "make", "dpkg-deb", "gzip", "md5sum", "git")
	dir := t.TempDir()
	// Of this program alone, also where the window was built.
	only := filepath.Join(dir, "bin")
	if err := os.Mkdir(only, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(bin, "hither"), filepath.Join(only, "hither")); err != nil {
		t.Fatal(err)
	}
	run := func(env []string, argv ...string) string {
		t.Helper()
		c := exec.Command(argv[0], argv[1:]...)
		c.Env = append(os.Environ(), env...)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
		return string(out)
	}
	run([]string{"BIN=" + only, "DEB_COMPRESSION=none"}, filepath.Join(sources, "../../assets/debian/make-deb"), "v1.2.3", dir)
	all, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(all) != 1 || filepath.Base(all[0]) != "hither_1.2.3_amd64.deb" {
		t.Fatalf("%q, %v", all, err)
	}
	if fields := run(nil, "dpkg-deb", "-f", all[0]); !strings.Contains(fields, "Version: 1.2.3\n") || !strings.Contains(fields, "Recommends: xvfb") {
		t.Error(fields)
	}
	root := filepath.Join(dir, "root")
	run(nil, "dpkg-deb", "-x", all[0], root)
	for file, has := range map[string]string{
		"usr/lib/systemd/user/hither.service":             "ExecStart=/usr/bin/hither daemon\n",
		"usr/share/hither/apparmor":                       "profile hither /usr/bin/hither ",
		"usr/share/bash-completion/completions/hither":    "__start_hither",
		"usr/share/zsh/vendor-completions/_hither":        "#compdef hither",
		"usr/share/fish/vendor_completions.d/hither.fish": "complete",
		"usr/share/doc/hither/copyright":                  "Apache-2.0",
	} {
		if b, err := os.ReadFile(filepath.Join(root, file)); err != nil || !strings.Contains(string(b), has) {
			t.Errorf("%s: %v, %d bytes", file, err, len(b))
		}
	}
	control := filepath.Join(dir, "control")
	run(nil, "dpkg-deb", "-e", all[0], control)
	run(nil, "sh", "-c", `cd "$1" && md5sum --check --quiet "$2/md5sums"`, "sh", root, control)
	for _, script := range []string{"postinst", "postrm"} {
		run(nil, "sh", "-n", filepath.Join(control, script))
	}
	if out := run(nil, filepath.Join(root, "usr/bin/hither"), "--version"); !strings.HasPrefix(out, "hither ") {
		t.Error(out)
	}
}
