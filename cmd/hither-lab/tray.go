package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hither/gui/integration"
	"hither/gui/tray/panel"
)

// trayCommand is a panel with a tray on $DBUS_SESSION_BUS_ADDRESS. `tray` runs it on the host.
const trayCommand = "__tray"

const trayHelp = `A host's desktop has no panel, and so no tray. This is one, as long as it runs: it reads the menu of the icon in it,
and clicks there. Commands, one as arguments or several as lines of input:

  icon                   the icon with its menu, once there is one
  wait LINE              until the menu has this line
  gone LINE              until it has no such line
  state STATE            until the icon's picture says idle, moving or attention
  click LINE             wait for the line, and choose it
  activate               click on the icon itself
  open                   tell the icon that its menu is about to be shown

A LINE is a label; below another one, both with " / " between. One that ends in * names the beginning.
Each command is answered by a line of JSON, {"icon":{...}} or {"error":"..."}; a failure makes the exit status 1.`

func (o *options) tray() *cobra.Command {
	c := &cobra.Command{
		Use:     "tray HOST [COMMAND ARG...]",
		Short:   "Be the panel of a host's desktop: read and click the menu in the tray",
		Long:    trayHelp,
		Example: "  hither-lab exec a -- hither-gui &\n  hither-lab tray a icon\n  hither-lab tray a click Move here / mousepad @ b",
		Args:    cobra.MinimumNArgs(1),
		RunE:    o.onHost(trayCommand),
	}
	c.Flags().SetInterspersed(false)
	return c
}

type trayAnswer struct {
	Icon *panel.Icon `json:"icon,omitempty"`
}

func trayMain(args []string) int {
	conn, err := integration.SessionBus()
	if err != nil {
		return complain(err)
	}
	defer conn.Close()
	p, err := panel.Open(conn, true)
	if err != nil {
		return complain(err)
	}
	return converse(args, func(line string) any {
		icon, err := trayDo(p, line)
		if err != nil {
			return err
		}
		return trayAnswer{Icon: icon}
	})
}

// trayWait is longer than what is waited for on a desktop: a move may have to end.
const trayWait = 60 * time.Second

func trayDo(p *panel.Panel, line string) (*panel.Icon, error) {
	verb, rest, _ := strings.Cut(line, " ")
	ctx, cancel := context.WithTimeout(context.Background(), trayWait)
	defer cancel()
	path := strings.Split(rest, " / ")
	has := func(i panel.Icon) bool { _, ok := i.Find(path...); return ok }
	wait := func(ok func(panel.Icon) bool) (*panel.Icon, error) {
		i, err := p.Wait(ctx, ok)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		return &i, nil
	}
	switch verb {
	case "icon":
		return wait(func(panel.Icon) bool { return true })
	case "wait":
		return wait(has)
	case "gone":
		return wait(func(i panel.Icon) bool { return !has(i) })
	case "state":
		if !slices.Contains([]string{"idle", "moving", "attention"}, rest) {
			return nil, errTray
		}
		return wait(func(i panel.Icon) bool { return i.IconName == "hither-"+rest+"-symbolic" })
	case "click":
		i, err := wait(func(i panel.Icon) bool { l, ok := i.Find(path...); return ok && l.Enabled })
		if err != nil {
			return nil, err
		}
		l, _ := i.Find(path...)
		return i, p.Click(ctx, *i, l.ID)
	case "activate", "open":
		i, err := wait(func(panel.Icon) bool { return true })
		if err != nil {
			return nil, err
		}
		if verb == "open" {
			return i, p.Open(ctx, *i, 0)
		}
		return i, p.Activate(ctx, *i)
	}
	return nil, errTray
}

var errTray = errors.New("`hither-lab tray --help` tells the commands and what they take")
