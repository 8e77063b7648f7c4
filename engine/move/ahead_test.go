package move

import (
	"testing"
	"time"
)

// TestRounds ends pre-copy when it no longer pays.
func TestRounds(t *testing.T) {
	for _, c := range []struct {
		what  string
		began time.Duration
		bytes []uint64
		want  int // rounds
	}{
		{"nothing is written", 0, []uint64{1 << 30, 0}, 2},
		{"less and less", 0, []uint64{1 << 30, 200 << 20, 30 << 20, 5 << 20, 900 << 10, 0}, 5},
		{"as fast as the link", 0, []uint64{1 << 30, 1 << 30, 1 << 30}, 2},
		{"it takes too long", 2 * roundsTime, []uint64{1 << 30, 200 << 20, 30 << 20}, 2},
		{"for ever", 0, []uint64{1 << 62, 1 << 61, 1 << 60, 1 << 59, 1 << 58, 1 << 57, 1 << 56, 1 << 55, 1 << 54, 1 << 53, 1 << 52, 1 << 51, 1 << 50, 1 << 49}, roundsMost},
	} {
		r := rounds{began: time.Now().Add(-c.began)}
		n := 1
		for ; r.again(n, c.bytes[n-1]); n++ {
		}
		if n != c.want {
			t.Errorf("%s: %d rounds instead of %d", c.what, n, c.want)
		}
	}
}

func TestBudget(t *testing.T) {
	t.Setenv("HITHER_PRECOPY", "off")
	if n := budget(1 << 30); n != 0 {
		t.Errorf("off: %d", n)
	}
	t.Setenv("HITHER_PRECOPY", "1")
	if app, each, ok := threshold(); app != 1 || each != 1 || !ok {
		t.Error(app, each, ok)
	}
	t.Setenv("HITHER_PRECOPY", "")
	if app, each, ok := threshold(); app != aheadFrom || each != aheadEach || !ok {
		t.Error(app, each, ok)
	}
	if n := budget(1 << 20); n < 1<<20 || n > 1<<20+1<<18+aheadMore {
		t.Errorf("%d bytes for 1 MiB", n)
	}
}

func FuzzRound(f *testing.F) {
	f.Add([]byte(`{"drop":[2],"areas":{"2":[{"Start":4096,"End":8192,"NoReserve":true}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = decodeRound(text)
	})
}
