//go:build gui

// hither-gui is hither's window and tray. It is a program of its own because drawing needs
// a C compiler and the graphics libraries, which the command and the daemon do without: so it is
// built with the tag gui, by `make gui`, and `go build ./...` leaves it out.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"sync"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"

	"hither/engine/desktop"
	"hither/gui"
	"hither/gui/desk"
	"hither/gui/integration"
	"hither/gui/model"
	"hither/gui/probe"
)

// version and commit are set by make.
var version, commit = "dev", ""

func main() {
	background := flag.Bool("background", false, "show the icon in the tray only; the window comes by a click on it")
	showVersion := flag.Bool("version", false, "print the version")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "hither-gui: see, send and bring running apps. A second start shows the window of the first.\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *showVersion {
		fmt.Printf("hither-gui %s (%s)\n", version, commit)
		return
	}
	log.SetFlags(0)
	log.SetPrefix("hither-gui: ")
	if err := run(*background); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

func run(background bool) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var d *desk.Desk
	ready := make(chan struct{}) // d is there
	one, err := integration.Single(ctx, integration.Wish{Show: !background}, func(w integration.Wish) {
		<-ready
		d.Wished(w)
	})
	if err != nil || one == nil {
		return err
	}
	defer one.Close()

	a := app.NewWithID("dev.hither.hither")
	w := gui.New(a, model.DialControl)
	w.Autostart = autostart{}
	d = desk.New(w, w.Model, desk.Options{Background: background, Quit: func() { fyne.Do(a.Quit) }})
	w.Model.Watch(d.Changed)
	w.OnClose(func() { go d.Close() })
	var work sync.WaitGroup
	a.Lifecycle().SetOnStarted(func() {
		close(ready)
		work.Go(func() { w.Run(ctx) })
		work.Go(func() { d.Run(ctx) })
		// Copies of desktop files follow what was updated.
		work.Go(func() {
			if err := desktop.Refresh(desktop.DataDirs()); err != nil {
				log.Print(err)
			}
		})
		if err := probe.Serve(w.FyneWindow()); err != nil {
			log.Print(err)
		}
	})
	a.Run()
	stop()
	work.Wait()
	return nil
}

// autostart is the choice in the settings.
type autostart struct{}

func (autostart) On() (bool, error) { return integration.Autostart() }
func (autostart) Set(on bool) error { return integration.SetAutostart(on) }
