package move

import (
	"bytes"
	"strings"
	"testing"
)

func TestPack(t *testing.T) {
	image := append(bytes.Repeat([]byte{0}, 100_000), "the end"...)
	packed := pack(image)
	if len(packed) > len(image)/4 {
		t.Errorf("zeros are sent: %d of %d bytes", len(packed), len(image))
	}
	got, err := unpack(packed)
	if err != nil || !bytes.Equal(got, image) {
		t.Fatalf("%d bytes came back: %v", len(got), err)
	}
	for i := range packed {
		bad := bytes.Clone(packed)
		bad[i] ^= 0x40
		if got, err := unpack(bad); err == nil && !bytes.Equal(got, image) {
			t.Errorf("byte %d damaged, unseen", i)
		}
		if _, err := unpack(packed[:i]); err == nil {
			t.Errorf("cut at byte %d, unseen", i)
		}
	}
	// A length that nobody could have sent is refused before there is room for it.
	huge := append(bytes.Clone(packed[:sumSize]), 0xff, 0xff, 0xff, 0xff, 0x0f)
	if _, err := unpack(huge); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("4 GiB: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack([]byte("an image")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := unpack(b); err == nil {
			if again, err := unpack(pack(got)); err != nil || !bytes.Equal(again, got) {
				t.Fatalf("%d bytes come back as %d: %v", len(got), len(again), err)
			}
		}
	})
}
