package probe

import (
	_ "unsafe" // for go:linkname

	"fyne.io/fyne/v2"
)

// renderer is what draws a widget, and so knows its parts. The toolkit keeps it to itself, but for its
// package test, which would bring a testing framework into the program.
//
//go:linkname renderer fyne.io/fyne/v2/internal/cache.Renderer
func renderer(fyne.Widget) fyne.WidgetRenderer
