package transport

import (
	"math"
	"strings"
	"testing"
)

// The first hither had no abilities in its hello, and later ones may have more:
// each reads the other's.
func TestHelloOfOtherVersions(t *testing.T) {
	type old struct {
		Name string `cbor:"1,keyasint"`
		OS   string `cbor:"3,keyasint"`
		Arch string `cbor:"4,keyasint"`
	}
	type later struct {
		Hello
		More string `cbor:"99,keyasint"`
	}
	now := Hello{Name: "a", OS: "linux", Arch: "amd64", Abilities: &Abilities{CPUs: 2, Load: 1.5}}
	for what, from := range map[string]any{"old": old{"a", "linux", "amd64"}, "now": now, "later": later{now, "x"}} {
		body, err := encoding.Marshal(from)
		if err != nil {
			t.Fatal(err)
		}
		var h Hello
		if err := decoding.Unmarshal(body, &h); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if h = h.clean(); h.Name != "a" || h.OS != "linux" || (h.Abilities == nil) != (what == "old") {
			t.Errorf("%s: %+v", what, h)
		}
		var o old
		if err := decoding.Unmarshal(body, &o); err != nil || o != (old{"a", "linux", "amd64"}) {
			t.Errorf("%s, by an old one: %+v, %v", what, o, err)
		}
	}
}

func TestHelloIsCleaned(t *testing.T) {
	for _, load := range []float64{math.NaN(), math.Inf(1), -1, 1e300} {
		h := Hello{Name: "../\x1b[2J", Abilities: &Abilities{Kernel: strings.Repeat("\n", 1000), CPUs: -3, Load: load, Memory: 1, MemoryFree: 2}}.clean()
		if a := h.Abilities; a.Load != 0 || a.CPUs != 0 || a.MemoryFree != 1 || len(a.Kernel) > maxName || strings.ContainsRune(a.Kernel, '\n') || CheckName(h.Name) != nil {
			t.Errorf("%+v, %+v", h, a)
		}
	}
}
