//go:build gui

// hither-gui is hither's window and tray. It is a program of its own because drawing needs
// a C compiler and the graphics libraries, which the command and the daemon do without: so it is
// built with the tag gui, by `make gui`, and `go build ./...` leaves it out.
package main

import (
	"fyne.io/fyne/v2/app"

	"hither/gui"
)

// version and commit are set by make.
var version, commit = "dev", ""

func main() {
	a := app.NewWithID("dev.hither.hither")
	w := gui.New(a)
	a.Lifecycle().SetOnStarted(w.Show)
	a.Run()
}
