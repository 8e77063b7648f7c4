package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hither/engine/control"
)

var permits = []string{control.PermitSend, control.PermitBring, control.PermitWatch}

func permitCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "permit [PEER [send|bring|watch|all allow|deny|ask]]", Short: "Say what a paired host may do here",
		Long: `Say what a paired host may do on this one, or list it:

  send    give this host an app to run, with your rights
  bring   take an app that runs here to itself
  watch   see which apps run here

Each may be allowed, denied, or asked for each time: in the window, in a notification of
the desktop, or with "hither answer". An app that you have sent to a host may always come
back from it, and one that was started there may always be taken back, unless that is denied.`,
		Example: `  hither permit                     who may what
  hither permit laptop send allow
  hither permit laptop all ask`,
		Args: func(c *cobra.Command, args []string) error {
			if n := len(args); n > 3 || n == 2 {
				return errors.New("give a host, what it may do, and allow, deny or ask")
			}
			return nil
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return ask(peerNames)
			case 1:
				return append(slices.Clone(permits), "all"), cobra.ShellCompDirectiveNoFileComp
			case 2:
				return []string{control.Allow, control.Deny, control.Ask}, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: withClient("permitting", func(c *cobra.Command, client *control.Client, args []string) error {
			if len(args) == 3 {
				what := []string{args[1]}
				if args[1] == "all" {
					what = permits
				}
				change := control.PeerChange{Permissions: map[string]string{}}
				for _, w := range what {
					change.Permissions[w] = args[2]
				}
				p, err := client.ChangePeer(c.Context(), args[0], change)
				if err != nil || !asJSON {
					return err
				}
				return printJSON(p)
			}
			list, err := client.Peers(c.Context(), false)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				list.Peers = slices.DeleteFunc(list.Peers, func(p control.Peer) bool {
					return p.Name != args[0] && !strings.HasPrefix(p.ID, args[0])
				})
				if len(list.Peers) == 0 {
					return &failure{doing: "permitting", err: fmt.Errorf("no host %q is paired with this one", args[0]), hint: "`hither peers` lists those that are", code: exitUsage}
				}
			}
			if asJSON {
				return printJSON(list)
			}
			rows := [][]string{{"NAME", "SEND", "BRING", "WATCH", "ID"}}
			for _, p := range list.Peers {
				row := []string{p.Name}
				for _, w := range permits {
					row = append(row, p.Permissions[w])
				}
				rows = append(rows, append(row, p.ID[:min(8, len(p.ID))]))
			}
			return table(rows)
		}),
	}
	jsonFlag(c, &asJSON)
	return c
}

var answers = []string{control.AnswerOnce, control.AnswerAlways, control.AnswerNo, control.AnswerNever}

func answerCommand() *cobra.Command {
	var asJSON, wait bool
	c := &cobra.Command{
		Use: "answer [ID once|always|no|never]", Aliases: []string{"questions"}, Short: "Answer what another host asks for",
		Long: `Answer what a paired host asks for: to send an app here, to take one, to see what runs. The
window and the desktop's notifications ask the same; the first answer counts, and none
within a minute is a no.

Without an ID it asks about each question there is, if it has a terminal, and else lists
them. With --wait it waits for one first.

  once     this time        always   and whenever it asks again
  no       not this time    never    and do not ask again

"hither permit" changes what was said for good.`,
		Args: func(c *cobra.Command, args []string) error {
			if n := len(args); n != 0 && n != 2 {
				return errors.New("give the ID of a question and the answer, or nothing")
			}
			return nil
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return ask(func(ctx context.Context, c *control.Client) []string {
					var ids []string
					if all, err := c.Questions(ctx); err == nil {
						for _, q := range all.Questions {
							ids = append(ids, q.ID+"\t"+q.Text)
						}
					}
					return ids
				})
			case 1:
				return answers, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: withClient("answering", func(c *cobra.Command, client *control.Client, args []string) error {
			if len(args) == 2 {
				return client.AnswerQuestion(c.Context(), args[0], args[1])
			}
			all, err := questions(c.Context(), client, wait)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(all)
			}
			if len(all.Questions) == 0 {
				say("nothing is asked")
				return nil
			}
			if !term.IsTerminal(int(os.Stdin.Fd())) {
				rows := [][]string{{"ID", "FROM", "MAY IT", "LEFT", "QUESTION"}}
				for _, q := range all.Questions {
					rows = append(rows, []string{q.ID, q.Peer, q.Permit, fmt.Sprintf("%.0f s", time.Until(q.Expires).Seconds()), q.Text})
				}
				return table(rows)
			}
			for _, q := range all.Questions {
				if err := put(c.Context(), client, q); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until something is asked")
	jsonFlag(c, &asJSON)
	return c
}

// questions are those that are open; with wait, there is one.
func questions(ctx context.Context, client *control.Client, wait bool) (*control.Questions, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	news, lost := make(chan bool, 1), make(chan error, 1)
	if wait {
		hear, err := client.Listen(ctx)
		if err != nil {
			return nil, err
		}
		go func() {
			lost <- hear(func(e control.Event) error {
				if e.Event == "question" {
					select {
					case news <- true:
					default:
					}
				}
				return nil
			})
		}()
	}
	for {
		all, err := client.Questions(ctx)
		if err != nil || !wait || len(all.Questions) > 0 {
			return all, err
		}
		select {
		case <-news:
		case err := <-lost:
			return nil, failed("waiting for a question", err)
		case <-ctx.Done():
			return nil, failed("waiting for a question", context.Cause(ctx))
		}
	}
}

// put asks a person one question.
func put(ctx context.Context, client *control.Client, q control.Question) error {
	for {
		fmt.Fprintf(os.Stderr, "%s\nMay it? [once/always/No/never] ", q.Text)
		said, err := readLine(ctx)
		if err != nil {
			return failed("reading the answer", err)
		}
		said = strings.ToLower(said)
		if said == "" {
			said = control.AnswerNo
		}
		var fits []string
		for _, a := range answers {
			if strings.HasPrefix(a, said) {
				fits = append(fits, a)
			}
		}
		if slices.Contains(fits, said) {
			fits = []string{said}
		}
		if len(fits) == 1 {
			return client.AnswerQuestion(ctx, q.ID, fits[0])
		}
	}
}
