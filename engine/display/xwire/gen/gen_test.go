package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The committed files are what the generator writes, each time.
func TestCommitted(t *testing.T) {
	if _, err := os.Stat(xmlFolder); err != nil {
		t.Skip("xcb-proto is not installed")
	}
	files, err := generate(xmlFolder)
	if err != nil {
		t.Fatal(err)
	}
	again, err := generate(xmlFolder)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := filepath.Glob("../generated_*.go")
	if err != nil {
		t.Fatal(err)
	}
	if len(committed) != len(files) {
		t.Errorf("%d files are committed, %d are written", len(committed), len(files))
	}
	for name, want := range files {
		if !bytes.Equal(want, again[name]) {
			t.Errorf("%s is not always the same", name)
		}
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator writes: run go generate ./engine/display/xwire", name)
		}
	}
}

func TestNames(t *testing.T) {
	for xml, want := range map[string]string{"VALUE_MASK": "ValueMask", "value_mask": "ValueMask", "minKeyCode": "MinKeyCode", "WM_NAME": "WmName", "x": "X"} {
		if got := camel(xml); got != want {
			t.Errorf("camel(%s) = %s, wanted %s", xml, got, want)
		}
	}
	for xml, want := range map[string]string{"type": "typ", "value_mask": "valueMask", "nKeys": "nKeys", "len": "length"} {
		if got := parameter(xml); got != want {
			t.Errorf("parameter(%s) = %s, wanted %s", xml, got, want)
		}
	}
}
