package restore_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"hither/engine/capsule"
)

// TestProbesAhead is TestProbes with memory that goes ahead of the freeze.
func TestProbesAhead(t *testing.T) {
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	for _, name := range strings.Fields("memory tree sleep ahead") {
		t.Run(name, func(t *testing.T) {
			judge(t, filepath.Join("testdata", "probe_"+name+".py"), 3, func(t *testing.T, ctx context.Context, c *capsule.Capsule) *capsule.Capsule {
				return cloneAhead(t, ctx, c, 3)
			})
		})
	}
}
