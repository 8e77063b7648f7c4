package launch

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hither/engine/control"
)

func TestName(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if name, err := Name("", []string{"/usr/bin/vim", "x"}); err != nil || name != "vim" {
		t.Errorf("%q, %v", name, err)
	}
	if name, err := Name("my-notes", []string{"vim"}); err != nil || name != "my-notes" {
		t.Errorf("%q, %v", name, err)
	}
	for _, bad := range []string{"a b", "a/b", "a@b", ".a", "-a", "..", "a\n", strings.Repeat("a", 65)} {
		var e *control.Error
		if name, err := Name(bad, []string{"vim"}); !errors.As(err, &e) || e.Code != control.CodeUsage {
			t.Errorf("%q: %q, %v", bad, name, err)
		}
	}
}

func TestOrigin(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	first := Origin()
	if first.HostID == "" || first.HostName == "" || Origin() != first {
		t.Errorf("%+v, then %+v", first, Origin())
	}
}

func TestSandboxed(t *testing.T) {
	for argv, want := range map[string]bool{"firefox": true, "/usr/bin/chromium --x": true, "vim firefox": false, "": false} {
		if Sandboxed(strings.Fields(argv)) != want {
			t.Errorf("%q: %v", argv, !want)
		}
	}
	argv, env := Unsandbox([]string{"/usr/bin/chromium", "page"})
	if !slices.Equal(argv, []string{"/usr/bin/chromium", "--no-sandbox", "--no-zygote", "page"}) || env != nil {
		t.Errorf("%q, %q", argv, env)
	}
}
