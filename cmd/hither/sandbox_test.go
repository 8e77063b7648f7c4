package main

import (
	"errors"
	"slices"
	"testing"
)

func TestUnsandbox(t *testing.T) {
	for _, c := range []struct {
		argv    []string
		allowed bool
		want    []string
		env     int
	}{
		{[]string{"vim", "x"}, false, []string{"vim", "x"}, 0},
		{[]string{"/usr/bin/chromium", "page"}, false, []string{"/usr/bin/chromium", "page"}, 0},
		{[]string{"/usr/bin/chromium", "page"}, true, []string{"/usr/bin/chromium", "--no-sandbox", "--no-zygote", "page"}, 0},
		{[]string{"firefox-esr"}, true, []string{"firefox-esr"}, 5},
		{[]string{"firefox-esr"}, false, []string{"firefox-esr"}, 0},
	} {
		given := slices.Clone(c.argv)
		got, env, err := unsandbox(c.argv, c.allowed)
		if err != nil || !slices.Equal(got, c.want) || len(env) != c.env || !slices.Equal(c.argv, given) {
			t.Errorf("%q, %v: %q, %q, %v", c.argv, c.allowed, got, env, err)
		}
	}
	var f *failure
	if _, _, err := unsandbox([]string{"vim"}, true); !errors.As(err, &f) || f.code != exitUsage {
		t.Errorf("vim without its sandboxes: %v", err)
	}
}
