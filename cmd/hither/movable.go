package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/spf13/cobra"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/desktop"
	"hither/engine/launch"
)

func menuCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "menu", Short: "Put \"Open movable\" into the menus of installed apps",
		Long: `In the desktop's menus, an app's icon has a menu of its own, by the right button. There
"Open movable" starts the app in hither. Without more this lists the apps that have it.

None of the system's files is touched: a copy of the app's desktop file with that line in it lies
in ~/.local/share/applications, and is gone after "hither menu remove".`,
		Example: `  hither menu add mousepad
  hither menu add --all
  hither menu remove --all`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			dirs := desktop.DataDirs()
			if err := desktop.Refresh(dirs); err != nil {
				return err
			}
			all, err := desktop.Movables(dirs)
			if err != nil {
				return err
			}
			if asJSON {
				ids := []string{}
				for _, m := range all {
					ids = append(ids, m.ID)
				}
				return printJSON(map[string]any{"apps": ids})
			}
			rows := [][]string{{"APP", "MADE OF"}}
			for _, m := range all {
				rows = append(rows, []string{m.ID, m.From})
			}
			return table(rows)
		},
	}
	jsonFlag(c, &asJSON)
	c.AddCommand(menuAddCommand(), menuRemoveCommand(), menuOpenCommand())
	return c
}

// findEntry finds an installed app by its ID, its name or its program.
func findEntry(entries []desktop.Entry, what string) (desktop.Entry, error) {
	for _, same := range []func(desktop.Entry) bool{
		func(e desktop.Entry) bool { return e.ID == what },
		func(e desktop.Entry) bool { return strings.EqualFold(e.Name, what) && !e.Hidden },
	} {
		if i := slices.IndexFunc(entries, same); i >= 0 {
			return entries[i], nil
		}
	}
	if e := desktop.Match(entries, "", "", []string{what}); e != nil {
		return *e, nil
	}
	return desktop.Entry{}, &failure{doing: "looking for " + what, code: exitUsage, err: errors.New("no such app is in this desktop's menu"),
		hint: "its ID is the name of its desktop file in /usr/share/applications, without .desktop"}
}

func menuAddCommand() *cobra.Command {
	var all, unsandboxed bool
	c := &cobra.Command{
		Use: "add APP ... | --all", Short: "Add \"Open movable\" to the menus of apps",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return misuse(c, errors.New("wanted are names of apps, or --all"))
			}
			self, err := os.Executable()
			if err != nil {
				return failed("finding my own program", err)
			}
			dirs := desktop.DataDirs()
			entries := desktop.Entries(dirs)
			var chosen []desktop.Entry
			for _, a := range args {
				e, err := findEntry(entries, a)
				if err != nil {
					return err
				}
				chosen = append(chosen, e)
			}
			if all {
				chosen = entries
			}
			n := 0
			for _, e := range chosen {
				argv, err := e.Command()
				if all && (err != nil || e.Hidden || strings.HasPrefix(desktop.ProgramOf(argv), "hither")) {
					continue
				}
				words := []string{self, "menu", "open"}
				switch sandboxed := err == nil && launch.Sandboxed(argv); {
				case sandboxed && unsandboxed:
					words = append(words, "--allow-unsandboxed")
				case sandboxed && all:
					say("%s is left out: it cannot move with its own sandbox (--allow-unsandboxed)", e.Name)
					continue
				case sandboxed:
					return &failure{err: fmt.Errorf("%s cannot move with its own sandbox", e.Name), hint: "--allow-unsandboxed starts it without"}
				}
				if err := desktop.AddMovable(dirs, e, words...); err != nil {
					if all {
						say("%v", err)
						continue
					}
					return failed("", err)
				}
				n++
			}
			if all {
				say("\"Open movable\" is in the menus of %d apps", n)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "of all apps")
	c.Flags().BoolVar(&unsandboxed, "allow-unsandboxed", false, "start browsers without their own sandboxes, so that they can move")
	return c
}

func menuRemoveCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "remove APP ... | --all", Short: "Take \"Open movable\" out of the menus of apps",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return misuse(c, errors.New("wanted are names of apps, or --all"))
			}
			dirs := desktop.DataDirs()
			have, err := desktop.Movables(dirs)
			if err != nil {
				return err
			}
			for _, a := range args {
				if !slices.ContainsFunc(have, func(m desktop.Movable) bool { return m.ID == a }) {
					return &failure{err: fmt.Errorf("%s has no \"Open movable\" of hither's", a), code: exitUsage, hint: "`hither menu` lists those that have"}
				}
			}
			for _, m := range have {
				if all || slices.Contains(args, m.ID) {
					if err := m.Remove(); err != nil {
						return failed("", err)
					}
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "of all apps")
	return c
}

// menuOpenCommand is what "Open movable" runs. Nobody sees its output, mostly.
func menuOpenCommand() *cobra.Command {
	var unsandboxed bool
	c := &cobra.Command{
		Use: "open APP", Short: "Start an installed app in hither, as \"Open movable\" does",
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			e, err := findEntry(desktop.Entries(desktop.DataDirs()), args[0])
			if err != nil {
				return err
			}
			err = openEntry(c.Context(), e, unsandboxed)
			if err != nil && !isTerminal(os.Stderr) {
				tellDesktop(c.Context(), e.Name+" was not started", err.Error())
			}
			return own(err)
		},
	}
	c.Flags().BoolVar(&unsandboxed, "allow-unsandboxed", false, "start a browser without its own sandboxes, so that it can move")
	return c
}

func openEntry(ctx context.Context, e desktop.Entry, unsandboxed bool) error {
	if e.Terminal && isTerminal(os.Stdin) && isTerminal(os.Stdout) {
		argv, err := e.Command()
		if err != nil {
			return err
		}
		return runApp(ctx, capsule.Spec{Argv: argv}, "")
	}
	client, err := control.Connect(ctx)
	if err != nil {
		return err
	}
	_, err = client.Start(ctx, control.StartRequest{Installed: e.ID, Unsandboxed: unsandboxed})
	return failed("starting "+e.Name, err)
}

// tellDesktop tells who clicked in a menu what went wrong.
func tellDesktop(ctx context.Context, title, text string) {
	address := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if address == "" {
		return
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	bus, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return // it is said on stderr, too
	}
	defer bus.Close()
	bus.Object("org.freedesktop.Notifications", "/org/freedesktop/Notifications").CallWithContext(ctx, "org.freedesktop.Notifications.Notify", 0,
		"hither", uint32(0), "hither", title, html.EscapeString(text), []string{}, map[string]dbus.Variant{}, int32(-1))
}
