package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"hither/engine/control"
)

func peersCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "peers", Short: "List the hosts that are paired with this one, and those that are near",
		Long: `List the hosts that are paired with this one: whether each is up, how far away it is, how busy,
and how much memory it has free. Below them are the hosts on the local network that are not paired:
of these only a name and the beginning of an ID is known, and neither is proven.`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: withClient("listing peers", func(c *cobra.Command, client *control.Client, _ []string) error {
			list, err := client.Peers(c.Context(), true)
			if err != nil {
				return err
			}
			all, err := client.AllPeers(c.Context())
			if err != nil {
				return err
			}
			for _, p := range all.Peers {
				if !p.Paired {
					list.Peers = append(list.Peers, p)
				}
			}
			if asJSON {
				return printJSON(list)
			}
			return showPeers(list.Peers)
		}),
	}
	jsonFlag(c, &asJSON)
	c.AddCommand(renameCommand(), addressCommand())
	return c
}

func addressCommand() *cobra.Command {
	return &cobra.Command{
		Use: "address PEER HOST[:PORT]", Short: "Say where a paired host is, if it is not found by itself",
		Long: `Say where a paired host is, if it is not found by itself: it is tried there first from now on. Where it
was reached before is remembered, so this is needed only where multicast does not get through and
both hosts have moved.`,
		Example: "  hither peers address laptop 192.0.2.7\n  hither peers address laptop laptop.example.org:5000",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: complete(peerNames),
		RunE: withClient("keeping an address", func(c *cobra.Command, client *control.Client, args []string) error {
			_, err := client.ChangePeer(c.Context(), args[0], control.PeerChange{Address: args[1]})
			return err
		}),
	}
}

func showPeers(list []control.Peer) error {
	paired := [][]string{{"NAME", "STATE", "AWAY", "RATE", "LOAD", "FREE", "WINDOWS", "CPU", "ID", "ADDRESS"}}
	near := [][]string{{"NAME", "ID", "ADDRESS"}}
	var warnings []string
	for _, p := range list {
		if p.Paired {
			paired = append(paired, peerRow(p))
		} else {
			near = append(near, []string{p.Name, shortID(p.ID), firstOf(p.Addresses)})
		}
		if p.Warning != "" {
			warnings = append(warnings, fmt.Sprintf("%s (%s): %s", p.Name, shortID(p.ID), p.Warning))
		}
	}
	if len(paired) > 1 {
		if err := table(paired); err != nil {
			return err
		}
	} else {
		fmt.Println("No host is paired with this one.")
	}
	if len(near) > 1 {
		fmt.Println("\nNear, and not paired (`hither pair NAME` pairs with one):")
		if err := table(near); err != nil {
			return err
		}
	} else if len(paired) == 1 {
		fmt.Println("None is near either: start hither on another host, or see `hither pair --help`.")
	}
	for _, w := range warnings {
		fmt.Fprintf(os.Stderr, "hither: warning: %s\n", w)
	}
	return nil
}

func peerRow(p control.Peer) []string {
	state, away, rate, load, free, windows, cpu := p.State, "-", "-", "-", "-", "-", "-"
	if p.State == "down" && !p.LastSeen.IsZero() {
		state += " (seen " + ago(p.LastSeen) + " ago)"
	}
	if p.Rate > 0 {
		rate = bytesText(uint64(p.Rate)) + "/s"
	}
	if a := p.Abilities; a != nil {
		cpu = a.Arch
	}
	if p.State == "up" {
		if p.RTT > 0 {
			away = fmt.Sprintf("%.1f ms", p.RTT)
		}
		if a := p.Abilities; a != nil && a.CPUs > 0 { // an older hither does not say
			load = fmt.Sprintf("%.1f of %d", a.Load, a.CPUs)
			free = bytesText(a.MemoryFree) + " of " + bytesText(a.Memory)
			windows = "no"
			if a.Display {
				windows = "yes"
			}
		}
	}
	return []string{p.Name, state, away, rate, load, free, windows, cpu, shortID(p.ID), firstOf(p.Addresses)}
}

func shortID(id string) string { return id[:min(8, len(id))] }

// firstOf is the best of some addresses, and how many more there are.
func firstOf(addresses []string) string {
	switch len(addresses) {
	case 0:
		return "-"
	case 1:
		return addresses[0]
	}
	return fmt.Sprintf("%s and %d more", addresses[0], len(addresses)-1)
}
