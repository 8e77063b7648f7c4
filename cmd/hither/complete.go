package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hither/engine/control"
)

// Completion asks a daemon that runs; it starts none.

type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

func ask(f func(context.Context, *control.Client) []string) ([]string, cobra.ShellCompDirective) {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	c, err := control.Running(ctx)
	if err != nil || c == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return f(ctx, c), cobra.ShellCompDirectiveNoFileComp
}

func appNames(ctx context.Context, c *control.Client) []string {
	var names []string
	if apps, err := c.Apps(ctx); err == nil {
		for _, a := range apps.Apps {
			if a.State != "gone" {
				names = append(names, a.Name+"\t"+strings.Join(a.Command, " "))
			}
		}
	}
	return names
}

func peerNames(ctx context.Context, c *control.Client) []string {
	var names []string
	if peers, err := c.Peers(ctx, false); err == nil {
		for _, p := range peers.Peers {
			names = append(names, p.Name+"\t"+p.State)
		}
	}
	return names
}

// complete completes one argument after the other.
func complete(lists ...func(context.Context, *control.Client) []string) completer {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(lists) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return ask(lists[len(args)])
	}
}

// completeAway completes APP@PEER.
func completeAway(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return ask(func(ctx context.Context, c *control.Client) []string {
		peers, err := c.Peers(ctx, false)
		if err != nil {
			return nil
		}
		found := make(chan []string)
		for _, p := range peers.Peers {
			go func() {
				var names []string
				if apps, err := c.PeerApps(ctx, p.Name); err == nil {
					for _, a := range apps.Apps {
						names = append(names, a.Name+"@"+p.Name+"\t"+strings.Join(a.Command, " "))
					}
				}
				found <- names
			}()
		}
		var all []string
		for range peers.Peers {
			all = append(all, <-found...)
		}
		return all
	})
}
