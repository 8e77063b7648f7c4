package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hither/assets"
	"hither/engine/control"
	"hither/engine/daemon"
)

func doctorCommand() *cobra.Command {
	var asJSON, profile bool
	c := &cobra.Command{
		Use: "doctor", Short: "Say what works on this host, and how to mend the rest",
		Long: "Try what hither needs of this host and its kernel. It exits with 0 if apps can run and move.",
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		PreRunE: func(*cobra.Command, []string) error {
			if !profile {
				return nil
			}
			self, err := os.Executable()
			if err != nil {
				return failed("finding this program", err)
			}
			fmt.Print(assets.AppArmor(filepath.Dir(self)))
			return exit(exitOK)
		},
		RunE: withClient("looking at this host", func(c *cobra.Command, client *control.Client, _ []string) error {
			d, err := client.Doctor(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(d); err != nil {
					return err
				}
			} else {
				for _, p := range d.Probes {
					mark := "ok  "
					if !p.OK {
						mark = "no  "
						if p.Need {
							mark = "NO  "
						}
					}
					line := mark + p.Name
					if p.Detail != "" {
						line += ": " + p.Detail
					}
					fmt.Println(line)
					if !p.OK && p.Cure != "" {
						fmt.Println("      hint: " + p.Cure)
					}
				}
				for _, m := range d.Moves {
					fmt.Println("move  " + m)
				}
			}
			if !d.OK {
				return exit(exitFailed)
			}
			return nil
		}),
	}
	jsonFlag(c, &asJSON)
	c.Flags().BoolVar(&profile, "apparmor", false, "only print the AppArmor profile that this program needs on some distributions")
	return c
}

func daemonCommand() *cobra.Command {
	return &cobra.Command{
		Use: "daemon", Short: "Run the daemon (it starts by itself)",
		Long: `Run the daemon in the foreground: it receives and sends apps, and answers the other
commands. It starts by itself when a command needs it, so this is for services and for
looking at its log. To end it, or to restart it, harms no app.

Environment:
  HITHER_LISTEN   UDP address for peers, such as :44843 or 192.0.2.1:5000
  HITHER_HOLD     states of a move to stand still in, for tests
  HITHER_SILENCE  how long a peer may be silent before it is lost (default 10s)
  HITHER_PRECOPY  from how many bytes on memory is sent, and taken, while the app runs; or off`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			signal.Ignore(syscall.SIGHUP)
			silence, err := time.ParseDuration(cmp.Or(os.Getenv("HITHER_SILENCE"), "0s"))
			if err != nil {
				return &failure{doing: "reading HITHER_SILENCE", err: err, code: exitUsage}
			}
			daemon.StartLog()
			err = daemon.Run(c.Context(), daemon.Options{Version: version, Commit: commit,
				Listen: os.Getenv("HITHER_LISTEN"), Hold: os.Getenv("HITHER_HOLD"), Silence: silence})
			if errors.Is(err, daemon.ErrRuns) {
				say("%v", err)
				return nil
			}
			return failed("running the daemon", err)
		},
	}
}
