package main

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"hither/engine/control"
)

func eventsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "events", Short: "Print what happens, as JSON, one event a line",
		Long: `Print what happens on this host until it is interrupted: apps that come and go, peers,
the progress and the results of moves. Each line is one JSON object with "time" and "event".

An "event" of apps, peers or settings says that a list has changed: ask for it again with
hither ls --json and its like. The comment of package engine/control lists all events, and
the requests that the daemon's control socket answers to.`,
		Example: `  hither events | jq -r 'select(.event == "result") | .result.outcome'`,
		Args:    cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: withClient("listening for events", func(c *cobra.Command, client *control.Client, _ []string) error {
			out := json.NewEncoder(os.Stdout)
			hear, err := client.Listen(c.Context())
			if err == nil {
				err = hear(func(e control.Event) error { return out.Encode(e) })
			}
			if c.Context().Err() != nil {
				return nil
			}
			if err == nil {
				err = errors.New("the daemon has ended")
			}
			return err
		}),
	}
}
