//go:build gui

// hither-gui is hither's window and tray. It is a program of its own because drawing needs
// a C compiler and the graphics libraries, which the command and the daemon do without: so it is
// built with the tag gui, by `make gui`, and `go build ./...` leaves it out.
package main

import (
	"context"

	"fyne.io/fyne/v2/app"

	"hither/gui"
	"hither/gui/model"
)

// version and commit are set by make.
var version, commit = "dev", ""

func main() {
	ctx, stop := context.WithCancel(context.Background())
	a := app.NewWithID("dev.hither.hither")
	w := gui.New(a, model.DialControl)
	a.Lifecycle().SetOnStarted(func() {
		go w.Run(ctx)
		go w.Show()
	})
	a.Lifecycle().SetOnStopped(stop)
	a.Run()
}
