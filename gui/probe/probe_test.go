package probe

import (
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"
)

func find(t Thing, text string) *Thing {
	if t.Text == text {
		return &t
	}
	for _, c := range t.Within {
		if f := find(c, text); f != nil {
			return f
		}
	}
	return nil
}

// TestLook: what is there is found where a click finds it; what is hidden or scrolled away is not there.
func TestLook(t *testing.T) {
	test.NewTempApp(t)
	clicked := 0
	button := widget.NewButton("press me", func() { clicked++ })
	hidden := widget.NewLabel("hidden")
	hidden.Hide()
	away := widget.NewLabel("scrolled away")
	long := container.NewVScroll(container.NewVBox(widget.NewLabel("in sight"), container.NewGridWrap(fyne.NewSize(10, 2000)), away))
	w := test.NewWindow(container.NewBorder(widget.NewLabel("top"), container.NewCenter(button), nil, nil, container.NewStack(hidden, long)))
	defer w.Close()
	w.Resize(fyne.NewSize(400, 300))
	all := look(w)
	for text, want := range map[string]bool{"top": true, "press me": true, "in sight": true, "hidden": false, "scrolled away": false} {
		if got := find(all, text); (got != nil) != want {
			t.Errorf("%q: %+v", text, got)
		}
	}
	b := find(all, "press me")
	test.TapCanvas(w.Canvas(), fyne.NewPos(float32(b.X+b.W/2), float32(b.Y+b.H/2)))
	if clicked != 1 || b.Kind != "Button" {
		t.Errorf("%+v was clicked %d times", b, clicked)
	}
	if all.W != 400 || all.H != 300 {
		t.Errorf("the window is %dx%d", all.W, all.H)
	}
	button.Disable()
	if b := find(look(w), "press me"); !b.Disabled {
		t.Error("it is disabled")
	}
}
