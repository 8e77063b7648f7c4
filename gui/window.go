package gui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/widget"
)

// Window is hither's main window.
type Window struct {
	app fyne.App
	win fyne.Window
}

// New makes the window; it is not shown yet.
func New(app fyne.App) *Window {
	w := &Window{app: app, win: app.NewWindow("hither")}
	w.win.SetContent(widget.NewLabel("hither"))
	w.win.Resize(fyne.NewSize(1100, 720))
	return w
}

// Show shows the window and brings it to the front. It may be called from any goroutine
// once the program runs.
func (w *Window) Show() {
	fyne.Do(func() {
		w.win.Show()
		w.win.RequestFocus()
	})
}

// OpenPairing shows the window with the choice of machines to pair with.
func (w *Window) OpenPairing() { w.Show() }

// OpenStart shows the window with the list of apps that can be started.
func (w *Window) OpenStart() { w.Show() }

// Hide hides the window; the program goes on.
func (w *Window) Hide() { fyne.Do(w.win.Hide) }

// OnClose says what the window's cross does instead of ending the program.
func (w *Window) OnClose(f func()) { w.win.SetCloseIntercept(f) }
