package gui

import (
	"image/color"
	"testing"

	"hither/gui/model/fake"
)

// FuzzDecode: a picture may come from another host.
func FuzzDecode(f *testing.F) {
	good := fake.PNG(3, 2, color.White)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("\x89PNG\r\n\x1a\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decode(b)
		if err == nil && (p.image.Bounds().Dx() > maxSide || p.image.Bounds().Dy() > maxSide) {
			t.Errorf("a picture of %v", p.image.Bounds())
		}
	})
}

func TestDecode(t *testing.T) {
	p, err := decode(fake.PNG(3, 2, color.White))
	if err != nil || p.image.Bounds().Dx() != 3 {
		t.Fatal(err)
	}
	again, _ := decode(fake.PNG(3, 2, color.White))
	other, _ := decode(fake.PNG(3, 2, color.Black))
	if p.sum != again.sum || p.sum == other.sum {
		t.Error("pictures are not told apart by their sums")
	}
	// A picture that says to be large is not even read.
	if _, err := decode(fake.PNG(maxSide+1, 1, color.White)); err == nil {
		t.Error("too large, and taken")
	}
}
