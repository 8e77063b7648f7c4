package transport

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestIdentityIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	a, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a.ID() != b.ID() || len(a.ID()) != 52 || strings.ToLower(string(a.ID())) != string(a.ID()) || len(a.ID().Short()) != 8 {
		t.Fatalf("%q, then %q", a.ID(), b.ID())
	}
	info, err := os.Stat(filepath.Join(dir, "identity.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestIdentityMadeByManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	ids := make([]ID, 20)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			if k, err := LoadIdentity(dir); err != nil {
				t.Error(err)
			} else {
				ids[i] = k.ID()
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("two identities: %v", ids)
		}
	}
}

func TestIdentityRefused(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"open to other users": func(p string) error { return os.Chmod(p, 0o640) },
		"damaged (not one":    func(p string) error { return os.WriteFile(p, []byte("nonsense"), 0o600) },
		"damaged":             func(p string) error { return os.Truncate(p, 80) },
		"damaged (":           func(p string) error { return os.Truncate(p, 0) },
		"larger than":         func(p string) error { return os.Truncate(p, 1<<20) },
		"not a regular": func(p string) error {
			os.Remove(p)
			return os.Mkdir(p, 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := LoadIdentity(dir); err != nil {
				t.Fatal(err)
			}
			if err := spoil(filepath.Join(dir, "identity.pem")); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadIdentity(dir); err == nil || !strings.Contains(err.Error(), name) {
				t.Fatalf("got: %v", err)
			}
		})
	}
}
