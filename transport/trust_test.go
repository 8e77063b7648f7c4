package transport

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func somebody(t testing.TB, name string, addresses ...string) Peer {
	t.Helper()
	key, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return Card{Name: name, Key: key.Public(), Addresses: addresses}.Peer()
}

func TestTrustKeepsPeers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	book, err := OpenTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	desk, lap := somebody(t, "desk", "10.0.0.1:44843"), somebody(t, "lap", "[2001:db8::1]:44843", "lap.local:44843")
	for _, p := range []Peer{lap, desk} {
		if err := book.Put(p); err != nil {
			t.Fatal(err)
		}
	}
	other, err := OpenTrust(dir) // as another process would
	if err != nil {
		t.Fatal(err)
	}
	list, err := other.List()
	if err != nil || len(list) != 2 || list[0].Name != "desk" || !slices.Equal(list[1].Addresses, lap.Addresses) {
		t.Fatal(list, err)
	}
	// What one changes the other sees.
	err = other.Update(desk.ID, func(p *Peer) {
		p.Name = "big"
		p.Permissions = map[string]bool{PermitSend: true, PermitBring: false}
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := book.Find("big")
	if err != nil || got.ID != desk.ID || !got.Permissions[PermitSend] {
		t.Fatal(got, err)
	}
	if _, asked := got.Permissions[PermitBring]; !asked {
		t.Fatal("a 'no' was forgotten")
	}
	got.Permissions[PermitBring] = true // a caller's copy
	if again, _ := book.Get(desk.ID); again.Permissions[PermitBring] {
		t.Fatal("the book can be changed from outside")
	}
	if err := book.Remove(desk.ID); err != nil {
		t.Fatal(err)
	}
	_, err = other.Get(desk.ID)
	if n, ok := errors.AsType[*NotPairedError](err); !ok || n.ID != desk.ID {
		t.Fatal(err)
	}
	if err := other.Update(desk.ID, func(*Peer) {}); err == nil {
		t.Fatal("a peer that is not there was changed")
	}
	if info, err := os.Stat(filepath.Join(dir, "peers.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
}

func TestTrustFind(t *testing.T) {
	book, err := OpenTrust(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a, b, twin := somebody(t, "a"), somebody(t, "b"), somebody(t, "a")
	for _, p := range []Peer{a, b, twin} {
		if err := book.Put(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, what := range []string{"b", string(b.ID), string(b.ID[:12])} {
		if p, err := book.Find(what); err != nil || p.ID != b.ID {
			t.Fatalf("%q: %v %v", what, p, err)
		}
	}
	if _, err := book.Find("a"); err == nil || !strings.Contains(err.Error(), a.ID.Short()) || !strings.Contains(err.Error(), twin.ID.Short()) {
		t.Fatalf("two of one name: %v", err)
	}
	for _, what := range []string{"", "nobody"} {
		if p, err := book.Find(what); err == nil {
			t.Fatalf("%q is %v", what, p)
		}
	}
}

func TestTrustManyWriters(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 8 {
		book, err := OpenTrust(dir)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for j := range 5 {
				if err := book.Put(somebody(t, fmt.Sprintf("h%d-%d", i, j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	book, err := OpenTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := book.List(); err != nil || len(list) != 40 {
		t.Fatalf("%d of 40 are there: %v", len(list), err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Fatalf("left behind: %v", files)
	}
}

func TestTrustDamagedIsNotEmpty(t *testing.T) {
	dir := t.TempDir()
	book, err := OpenTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	p := somebody(t, "a")
	if err := book.Put(p); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "peers.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	q := somebody(t, "q")
	for name, bad := range map[string]string{
		"cut":         string(good[:len(good)/2]),
		"empty":       "",
		"two books":   string(good) + string(good),
		"version":     `{"version": 2, "peers": []}`,
		"other's key": strings.Replace(string(good), b64(p), b64(q), 1),
		"name":        strings.Replace(string(good), `"a"`, `"a\u001b[2J"`, 1),
		"address":     `{"version":1,"peers":[{"id":"` + string(p.ID) + `","name":"a","key":"` + b64(p) + `","addresses":["x"]}]}`,
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := book.Get(p.ID); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if err := book.Put(q); err == nil {
			t.Errorf("%s: a damaged book was overwritten", name)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := book.Get(p.ID); err != nil {
		t.Fatalf("mended: %v", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := book.Get(p.ID); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("a book that all may write: %v", err)
	}
}

func b64(p Peer) string { return base64.StdEncoding.EncodeToString(p.Key) }

func TestCard(t *testing.T) {
	key, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for _, addresses := range [][]string{nil, {"10.0.0.1:1"}, {"10.0.0.1:44843", "[fe80::1%eth0]:44843", "desk.example:9"}} {
		c := Card{Name: "desk", Key: key.Public(), Addresses: addresses}
		line := c.String()
		if strings.ContainsAny(line, " \n\t'\"$") {
			t.Fatalf("not one plain word: %q", line)
		}
		got, err := ParseCard("\n " + line + "\r\n")
		if err != nil || got.Name != c.Name || got.ID() != key.ID() || !slices.Equal(got.Addresses, addresses) {
			t.Fatal(got, err)
		}
		for i := range line {
			bad := line[:i] + string(line[i]^1) + line[i+1:]
			if c, err := ParseCard(bad); err == nil {
				t.Fatalf("a slip at %d goes unseen: %+v", i, c)
			}
			if c, err := ParseCard(line[:i]); err == nil {
				t.Fatalf("a cut at %d goes unseen: %+v", i, c)
			}
		}
	}
	for name, c := range map[string]Card{
		"no name":     {Name: "", Key: key.Public()},
		"bad name":    {Name: "a b", Key: key.Public()},
		"short key":   {Name: "a", Key: key.Public()[:31]},
		"bad address": {Name: "a", Key: key.Public(), Addresses: []string{"10.0.0.1"}},
		"port 0":      {Name: "a", Key: key.Public(), Addresses: []string{"10.0.0.1:0"}},
		"many":        {Name: "a", Key: key.Public(), Addresses: slices.Repeat([]string{"10.0.0.1:1"}, 17)},
	} {
		if got, err := ParseCard(c.String()); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func FuzzCard(f *testing.F) {
	key, err := NewIdentity()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(Card{Name: "desk", Key: key.Public(), Addresses: []string{"[fe80::1%eth0]:44843"}}.String())
	f.Add("hither-card:1,")
	f.Fuzz(func(t *testing.T, text string) {
		// With the right sum under any text, the rest is looked at too.
		for _, text := range []string{text, cardPrefix + text + "," + cardSum(cardPrefix+text)} {
			c, err := ParseCard(text)
			if err != nil {
				continue
			}
			again, err := ParseCard(c.String())
			if err != nil || again.String() != c.String() {
				t.Fatal(again, err)
			}
			if err := c.Peer().check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzBook(f *testing.F) {
	p := somebody(f, "a", "10.0.0.1:1")
	f.Add([]byte(`{"version":1,"peers":[{"id":"` + string(p.ID) + `","name":"a","key":"` + b64(p) + `","addresses":["10.0.0.1:1"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		peers, err := parseBook(data)
		for _, p := range peers {
			if err == nil && p.check() != nil {
				t.Fatal(p)
			}
		}
	})
}

func TestCleanName(t *testing.T) {
	for _, text := range []string{"", "desk", "-x", "...", "a b\x1b", strings.Repeat("ä", 100), "x\n"} {
		if err := CheckName(CleanName(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}
