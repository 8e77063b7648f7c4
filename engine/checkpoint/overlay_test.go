package checkpoint

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMappedFileBelowAnOverlay(t *testing.T) {
	dir := t.TempDir()
	const text = `22 1 0:20 / / rw,relatime shared:1 - tmpfs none rw
23 22 0:21 / /usr/lib/with\040space rw,nodev - overlay overlay ro,lowerdir=/a:/b,userxattr
24 22 0:22 / /opt rw master:3 - overlay overlay rw
25 22 0:23 / /srv rw - ext4 /dev/vda rw
`
	if got, want := overlays(text), []string{"/usr/lib/with space", "/opt"}; !slices.Equal(got, want) {
		t.Fatalf("overlays at %q, want %q", got, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "mountinfo"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	for _, p := range []string{"/usr/lib/with space/one.so", "/opt/two.so", "/usr/lib/with space/both.so", "/opt/both.so", "/srv/three.so"} {
		if err := os.MkdirAll(filepath.Dir(root+p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	x := mapper{root: root, stats: map[string]fileStat{}}
	for path, want := range map[string]string{"/one.so": "/usr/lib/with space/one.so", "/two.so": "/opt/two.so", "/both.so": "", "/three.so": "", "/none.so": ""} {
		if got, ok := x.below(path); got != want && ok || ok != (want != "") {
			t.Errorf("%s is %q, %v; want %q", path, got, ok, want)
		}
	}
	if _, err := x.stat("/none.so"); err != unix.ENOENT {
		t.Errorf("no file: %v", err)
	}
}
