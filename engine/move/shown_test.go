package move

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// shown runs reports, and returns what was shown of them.
func shown(t *testing.T, show func(text string) error, reports func(report func(done, total uint64))) (texts []string, passed int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &shower{to: "b", show: func(_ context.Context, text string, share float64) error {
			if share < 0 || share > 1 {
				t.Errorf("%q: the share is %v", text, share)
			}
			texts = append(texts, text)
			return show(text)
		}}
		both, end := s.showing(t.Context(), func(uint64, uint64) { passed++ })
		reports(both)
		end()
		n := len(texts)
		both(1, 2) // late
		time.Sleep(10 * showPause)
		if len(texts) != n {
			t.Errorf("shown after the end: %q", texts[n:])
		}
		passed--
	})
	return texts, passed
}

func fine(string) error { return nil }

// What is over soon is not shown, the newest of what takes longer is.
func TestShown(t *testing.T) {
	texts, passed := shown(t, fine, func(report func(done, total uint64)) {
		for i := range uint64(100) {
			time.Sleep(showPause / 200)
			report(i*1e6, 200e6)
		}
	})
	if len(texts) != 0 || passed != 100 {
		t.Errorf("shown: %q, reports passed on: %d", texts, passed)
	}
	texts, passed = shown(t, fine, func(report func(done, total uint64)) {
		time.Sleep(time.Millisecond)
		for i := range uint64(1000) {
			report((i+1)*1e6, 1000e6)
			time.Sleep(showPause / 100)
		}
		time.Sleep(5 * showPause) // the other side is slow: no news
	})
	want := []string{"Moving to b: 100 of 1000 MB", "Moving to b: 200 of 1000 MB"}
	if passed != 1000 || len(texts) != 10 || !slices.Equal(texts[:2], want) || texts[9] != "Moving to b: 1000 of 1000 MB" {
		t.Errorf("reports passed on: %d, shown: %q", passed, texts)
	}
}

// Who cannot be told is not told again, and the move goes on.
func TestShownToNobody(t *testing.T) {
	texts, passed := shown(t, func(string) error { return errors.New("no keeper") }, func(report func(done, total uint64)) {
		for range uint64(10) {
			report(5e6, 10e6)
			time.Sleep(showPause)
			report(6e6, 10e6)
		}
	})
	if len(texts) != 1 || passed != 20 {
		t.Errorf("reports passed on: %d, shown: %q", passed, texts)
	}
}
