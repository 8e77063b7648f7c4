package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hither/engine/control"
	"hither/transport"
)

func pairCommand() *cobra.Command {
	var export, ticket, asJSON bool
	var remove, name, code string
	var minutes float64
	c := &cobra.Command{
		Use: "pair [HOST | TICKET | CARD | -]", Short: "Pair this host with another one",
		Long: `Pair this host with another one, so that apps can move between them. To take an app is to
run it with your rights, so pair with hosts that you trust. What each may do is asked the
first time (see "hither permit").

With HOST (the name of one that is near, the beginning of its ID, or an address) both hosts
show six digits. If both people see the same ones, nobody stands in between, and the two
are paired when both have said so: here, in the window, in the desktop's notification, or
by "hither pair" without an argument on the other host, which shows what waits there or
waits for it. With --code, that one needs no terminal: it agrees if the digits are these.
With --json the states are printed, one a line, and y or n is read from the input.

Without two people: "hither pair --ticket" prints a line that lets who has it pair with this
host, once and within some minutes. It is a secret; give it to "hither pair" there.

A card, as --export prints it, is no secret, but must really come from that host; each of
the two needs the other's.`,
		Example: `  hither pair laptop                                compare six digits
  hither pair                                       ... and this is for the laptop
  hither pair --ticket | ssh laptop hither pair -   without comparing
  hither pair --export                              print this host's card
  ssh laptop hither pair --export | hither pair -   take the laptop's
  hither pair --export | ssh laptop hither pair -   ... and give it ours
  hither unpair laptop`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: complete(strangerNames),
		RunE: withClient("pairing", func(c *cobra.Command, client *control.Client, args []string) error {
			used := 0
			for _, x := range []bool{export, ticket, remove != "", code != "", len(args) == 1} {
				if x {
					used++
				}
			}
			if used > 1 {
				return misuse(c, errors.New("give a host, a ticket, a card, or - to read one; or one of --ticket, --code, --export and --remove"))
			}
			switch {
			case export:
				card, err := client.Card(c.Context())
				if err == nil {
					fmt.Println(card.Card)
				}
				return err
			case ticket:
				t, err := client.MakeTicket(c.Context(), control.TicketRequest{Minutes: minutes})
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(t)
				}
				fmt.Println(t.Ticket)
				if term.IsTerminal(int(os.Stdout.Fd())) {
					say("it is a secret, good once and until %s; on the other host: hither pair TICKET", t.Expires.Format("15:04"))
				}
				return nil
			case remove != "":
				return client.Unpair(c.Context(), remove)
			case len(args) == 0:
				if asJSON {
					all, err := client.Pairings(c.Context())
					if err != nil {
						return err
					}
					return printJSON(all)
				}
				return (&pairing{client: client, code: code}).waitForOne(c.Context())
			}
			what := args[0]
			if what == "-" {
				b, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<16))
				if err != nil {
					return failed("reading a card or a ticket", err)
				}
				if what = strings.TrimSpace(string(b)); what == "" {
					return &failure{err: errors.New("there was nothing to read"), code: exitUsage,
						hint: "what `hither pair --ticket` or `hither pair --export` prints on the other host belongs into the input"}
				}
			}
			switch {
			case transport.IsTicket(what):
				return (&pairing{client: client, asJSON: asJSON}).begin(c.Context(), control.PairingRequest{Ticket: what}, name)
			case args[0] == "-" || strings.HasPrefix(what, "hither-card:") || len(what) > 64 && strings.Contains(what, ","):
				p, err := client.Pair(c.Context(), control.PeerRequest{Card: what, Name: name})
				if err == nil {
					fmt.Printf("paired with %s (%s)\n", p.Name, p.ID[:min(8, len(p.ID))])
				}
				return err
			}
			return (&pairing{client: client, asJSON: asJSON}).begin(c.Context(), control.PairingRequest{Peer: what}, name)
		}),
	}
	c.Flags().BoolVar(&ticket, "ticket", false, "print a ticket: a secret that pairs once, without comparing digits")
	c.Flags().Float64Var(&minutes, "minutes", 10, "how long the ticket is good")
	c.Flags().StringVar(&code, "code", "", "agree to the pairing that waits here if its digits are `NNNNNN`")
	c.Flags().BoolVar(&export, "export", false, "print this host's card")
	c.Flags().StringVar(&remove, "remove", "", "be paired with this `PEER` no more")
	c.Flags().StringVar(&name, "name", "", "what to call the other host here")
	jsonFlag(c, &asJSON)
	_ = c.RegisterFlagCompletionFunc("remove", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { return ask(peerNames) })
	return c
}

// pairing follows one pairing for a person.
type pairing struct {
	client *control.Client
	code   string // agree to these digits, and do not ask
	asJSON bool
	asked  bool
	told   string // the last state, with asJSON
}

// begin pairs with a host, and gives it a name here if one is wanted.
func (p *pairing) begin(ctx context.Context, r control.PairingRequest, name string) error {
	var end *control.Pairing
	err := p.follow(ctx, func() (string, error) {
		now, err := p.client.BeginPairing(ctx, r)
		if err != nil {
			return "", err
		}
		return now.ID, nil
	}, &end)
	if err != nil {
		return err
	}
	if name != "" {
		if _, err := p.client.ChangePeer(ctx, end.PeerID, control.PeerChange{Name: name}); err != nil {
			return err
		}
	}
	return nil
}

// waitForOne follows the pairing that another host has begun, or will.
func (p *pairing) waitForOne(ctx context.Context) error {
	if p.code != "" {
		p.code = strings.NewReplacer(" ", "", "-", "").Replace(p.code)
		if len(p.code) != 6 || strings.Trim(p.code, "0123456789") != "" {
			return &failure{err: errors.New("the code has six digits"), code: exitUsage, hint: "`hither pair --help` shows how"}
		}
	}
	var end *control.Pairing
	return p.follow(ctx, func() (string, error) {
		all, err := p.client.Pairings(ctx)
		if err != nil {
			return "", err
		}
		if w := waiting(all); w != nil {
			return w.ID, nil
		}
		if p.code != "" {
			return "", &failure{doing: "pairing", err: errors.New("no host waits to be paired with this one"), hint: "begin it on the other host: hither pair HOST"}
		}
		status, err := p.client.Status(ctx)
		if err == nil {
			say("waiting for another host; there: hither pair %s", status.Name)
		}
		return "", err
	}, &end)
}

// waiting is the pairing that waits for a person here.
func waiting(all *control.Pairings) *control.Pairing {
	for _, w := range all.Pairings {
		if w.Incoming && (w.State == control.PairingCompare || w.State == control.PairingConnecting) {
			return &w
		}
	}
	return nil
}

// follow tells of one pairing until its end, and asks what there is to ask. First
// begins it or finds it ("": the first one that comes), once events are listened to.
func (p *pairing) follow(ctx context.Context, first func() (string, error), end **control.Pairing) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events := make(chan control.Pairing, 64)
	lost := make(chan error, 1)
	hear, err := p.client.Listen(ctx)
	if err != nil {
		return err
	}
	go func() {
		lost <- hear(func(e control.Event) error {
			if e.Pairing != nil {
				select {
				case events <- *e.Pairing:
				case <-ctx.Done():
				}
			}
			return nil
		})
	}()
	id, err := first()
	if err != nil {
		return err
	}
	defer func() { // whoever gives up here does not let the other side wait
		if *end == nil && id != "" {
			p.client.CancelPairing(context.WithoutCancel(ctx), id) //nolint:errcheck // it may just have ended
		}
	}()
	// What it is already is not told of: it is asked for.
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		var now *control.Pairing
		select {
		case e := <-events:
			if id == "" && e.Incoming && e.State == control.PairingCompare {
				id = e.ID
			}
			if e.ID == id {
				now = &e
			}
		case <-tick.C:
			all, err := p.client.Pairings(ctx)
			if err != nil {
				return err
			}
			if w := waiting(all); id == "" && w != nil {
				id = w.ID
			}
			for _, o := range all.Pairings {
				if o.ID == id {
					now = &o
				}
			}
		case err := <-lost:
			if ctx.Err() != nil {
				return &failure{doing: "pairing", err: errors.New("given up")}
			}
			return failed("pairing", fmt.Errorf("the daemon has ended: %w", errors.Join(err, io.ErrUnexpectedEOF)))
		case <-ctx.Done():
			return &failure{doing: "pairing", err: errors.New("given up")}
		}
		if now == nil {
			continue
		}
		done, err := p.step(ctx, now)
		if done && err != nil && !now.Incoming {
			// Both people may have begun at once: then the other one's goes on.
			if all, lerr := p.client.Pairings(ctx); lerr == nil {
				if w := waiting(all); w != nil && w.Name == now.Name {
					id, p.asked = w.ID, false
					continue
				}
			}
		}
		if done {
			*end = now
			return err
		}
		if err != nil {
			return err
		}
	}
}

// step is one state of a pairing as people see it.
func (p *pairing) step(ctx context.Context, now *control.Pairing) (done bool, err error) {
	if p.asJSON && p.told != now.State {
		p.told = now.State
		if err := json.NewEncoder(os.Stdout).Encode(now); err != nil {
			return false, failed("writing the answer", err)
		}
	}
	switch now.State {
	case control.PairingDone:
		if p.asJSON {
			return true, nil
		}
		fmt.Printf("paired with %s (%s)\n", now.Name, now.PeerID[:min(8, len(now.PeerID))])
		return true, nil
	case control.PairingFailed:
		return true, &failure{doing: "pairing with " + now.Name, err: errors.New(now.Reason)}
	case control.PairingCompare:
		if p.asked {
			return false, nil
		}
		p.asked = true
		if now.Warning != "" {
			say("warning: %s", now.Warning)
		}
		if p.code != "" {
			_, err := p.client.AnswerPairing(ctx, now.ID, now.Code == p.code)
			if err == nil && now.Code != p.code {
				say("%s is shown here, not %s", now.Code, p.code)
			}
			return false, err
		}
		fmt.Fprintf(os.Stderr, "\n  %s (%s) and this host show:  %s %s\n\n", now.Name, now.PeerID[:min(8, len(now.PeerID))], now.Code[:3], now.Code[3:])
		if !now.Incoming {
			say("on %s, answer in the window, in the notification, or with: hither pair", now.Name)
		}
		// The other side may say no while this one still thinks.
		go func() {
			yes, err := yesNo(ctx, "Do both show the same?")
			if err != nil {
				if ctx.Err() == nil {
					say("no answer can be read here: say it in the window; `hither pair --code` needs no terminal, and a ticket no people")
				}
				return
			}
			if _, err := p.client.AnswerPairing(ctx, now.ID, yes); err == nil && yes {
				say("waiting for a person on %s to say so, too", now.Name)
			}
		}()
	}
	return false, nil
}

// yesNo asks a person.
func yesNo(ctx context.Context, question string) (bool, error) {
	fmt.Fprintf(os.Stderr, "%s [y/N] ", question)
	line, err := readLine(ctx)
	if err != nil {
		return false, err
	}
	switch strings.ToLower(line) {
	case "y", "yes", "j", "ja", "o", "oui", "s", "si":
		return true, nil
	}
	return false, nil
}

var stdin = bufio.NewReader(os.Stdin)

// readLine reads a line of the person's; the context is for who waits no longer.
func readLine(ctx context.Context) (string, error) {
	type result struct {
		line string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		line, err := stdin.ReadString('\n')
		if line != "" {
			err = nil
		}
		got <- result{strings.TrimSpace(line), err}
	}()
	select {
	case r := <-got:
		return r.line, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func unpairCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unpair PEER", Short: "Be paired with a host no more",
		Long: `Be paired with a host no more: it gets nothing from this one from now on, and what goes on
with it ends. A move of an app that is not yet handed over is broken off, and the app runs
on where it is. Apps that are there stay there.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: complete(peerNames),
		RunE: withClient("unpairing", func(c *cobra.Command, client *control.Client, args []string) error {
			return client.Unpair(c.Context(), args[0])
		}),
	}
}

func renameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rename PEER NAME", Short: "Call a paired host by another name here",
		Args: cobra.ExactArgs(2), ValidArgsFunction: complete(peerNames),
		RunE: withClient("renaming", func(c *cobra.Command, client *control.Client, args []string) error {
			_, err := client.ChangePeer(c.Context(), args[0], control.PeerChange{Name: args[1]})
			return err
		}),
	}
}

// strangerNames are hosts that are near and not paired.
func strangerNames(ctx context.Context, c *control.Client) []string {
	var names []string
	if all, err := c.AllPeers(ctx); err == nil {
		for _, p := range all.Peers {
			if !p.Paired {
				names = append(names, p.Name+"\t"+p.ID)
			}
		}
	}
	return names
}
