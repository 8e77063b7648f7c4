package paths

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPlaces(t *testing.T) {
	root := t.TempDir()
	t.Setenv("HOME", filepath.Join(root, "home"))
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(root, "run"))
	t.Setenv("XDG_STATE_HOME", "relative/is/ignored")
	t.Setenv("XDG_DATA_HOME", "")
	for _, c := range []struct {
		f    func() (string, error)
		want string
	}{
		{Runtime, "run/hither"},
		{State, "home/.local/state/hither"},
		{Data, "home/.local/share/hither"},
		{ControlSocket, "run/hither/control.sock"},
		{Journal, "home/.local/state/hither/moves"},
		{func() (string, error) { return Capsule("abc") }, "run/hither/capsules/abc"},
		{func() (string, error) { return CapsuleData("abc") }, "home/.local/share/hither/capsules/abc"},
	} {
		got, err := c.f()
		if err != nil {
			t.Fatal(err)
		}
		if got != filepath.Join(root, c.want) {
			t.Errorf("got %s, want %s", got, filepath.Join(root, c.want))
		}
	}
	info, err := os.Stat(filepath.Join(root, "run/hither/capsules/abc"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("a capsule's folder has mode %v", info.Mode())
	}
}

func TestHostileIDs(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a\x00b", ".hidden", string(make([]byte, 65))} {
		if _, err := Capsule(id); err == nil {
			t.Errorf("id %q was taken", id)
		}
	}
}

func TestUnsafeFolders(t *testing.T) {
	root := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", root)
	dir := filepath.Join(root, Name)
	if err := os.Symlink(t.TempDir(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Runtime(); err == nil {
		t.Error("a link was taken for the runtime folder")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Runtime(); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("an open folder stayed open: %v", info.Mode())
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if _, err := Runtime(); err == nil {
			t.Error("a foreign folder was taken")
		}
	}
}
