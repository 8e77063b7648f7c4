package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hither/engine/control"
	"hither/engine/handover"
)

func checkCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "check APP PEER", Short: "Would an app move there? What stands in the way?",
		Long: "Ask this host and the peer whether an app could move, without touching the app.\nIt exits with 0 if it could, with 1 if something stands in the way.",
		Args: cobra.ExactArgs(2), ValidArgsFunction: complete(appNames, peerNames),
		RunE: withClient("checking", func(c *cobra.Command, client *control.Client, args []string) error {
			res, err := client.Check(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(res); err != nil {
					return err
				}
			} else if res.OK {
				fmt.Printf("%s can move to %s\n", res.App, res.Peer)
				for _, n := range res.Notes {
					fmt.Println("note:", n)
				}
			} else {
				fmt.Printf("%s cannot move to %s:\n", res.App, res.Peer)
				tellProblems(res.Problems)
			}
			if !res.OK {
				return exit(exitFailed)
			}
			return nil
		}),
	}
	jsonFlag(c, &asJSON)
	return c
}

func tellProblems(problems []handover.Problem) {
	for _, p := range problems {
		fmt.Println("  " + p.What)
		if p.Cure != "" {
			fmt.Println("    hint: " + p.Cure)
		}
	}
}

const moveHelp = `

Until the app has been handed over, Ctrl-C leaves it where it is; so does whatever else
goes wrong. It exits with 0 if the app has moved, with 1 if it has not and runs on where
it was, with 3 if the peer was lost in between: then it is settled by itself, as soon as
the two hosts reach each other again.

With --json it prints progress as JSON objects, one a line, then the result.`

func sendCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "send APP PEER", Short: "Move an app to another host, while it runs",
		Long:    "Move an app to a peer, while it runs." + moveHelp,
		Example: "  hither send vim laptop",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: complete(appNames, peerNames),
		RunE: withClient("sending", func(c *cobra.Command, client *control.Client, args []string) error {
			show := newShow(asJSON, args[0]+" -> "+args[1])
			res, err := client.Send(c.Context(), args[0], args[1], show.progress)
			return show.end(res, err)
		}),
	}
	jsonFlag(c, &asJSON)
	return c
}

func bringCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "bring APP@PEER", Short: "Move an app of another host here, while it runs",
		Long:    "Move an app of a peer to this host, while it runs." + moveHelp,
		Example: "  hither bring vim@laptop",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: completeAway,
		RunE: withClient("bringing", func(c *cobra.Command, client *control.Client, args []string) error {
			app, peer, ok := strings.Cut(args[0], "@")
			if !ok || app == "" || peer == "" {
				return misuse(c, fmt.Errorf("%q does not name an app and its host: APP@PEER", args[0]))
			}
			show := newShow(asJSON, app+" <- "+peer)
			res, err := client.Bring(c.Context(), control.MoveRequest{App: app, Peer: peer}, show.progress)
			return show.end(res, err)
		}),
	}
	jsonFlag(c, &asJSON)
	return c
}

// show tells of a move: a bar for people, lines of JSON for programs.
type show struct {
	asJSON bool
	what   string
	bar    bool
	width  int
	noted  string // the last note that was told
}

func newShow(asJSON bool, what string) *show {
	s := &show{asJSON: asJSON, what: what, width: 80}
	if s.bar = !asJSON && term.IsTerminal(int(os.Stderr.Fd())); s.bar {
		if w, _, err := term.GetSize(int(os.Stderr.Fd())); err == nil && w > 20 {
			s.width = w
		}
	}
	return s
}

// steps are the states as people read them.
var steps = map[string]string{"offer": "asking", "prepare": "files", "precopy": "memory", "freeze": "freezing", "memory": "moving",
	"ready": "restoring", "hold": "handing over", "commit": "handing over", "release": "letting go", "settle": "settling"}

func (s *show) progress(p handover.Progress) {
	if s.asJSON {
		json.NewEncoder(os.Stdout).Encode(p) //nolint:errcheck // the result will fail, too
		return
	}
	if !s.bar {
		if p.Note != "" && p.Note != s.noted {
			say("%s", p.Note)
		}
		s.noted = p.Note
		return
	}
	fmt.Fprintf(os.Stderr, "\r\x1b[K%s", barLine(s.what, p, s.width))
}

// barLine is the line of progress, no wider than width.
func barLine(what string, p handover.Progress, width int) string {
	step := steps[p.State.Step()]
	if step == "" {
		step = p.State.Step()
	}
	if p.Note != "" {
		step = p.Note
	}
	text := fmt.Sprintf("%s  %-12s", what, step)
	tail := ""
	if p.Total > 0 {
		tail = fmt.Sprintf(" %s of %s", bytesText(p.Done), bytesText(p.Total))
	} else if p.Done > 0 {
		tail = " " + bytesText(p.Done)
	}
	if p.Rate > 0 {
		tail += fmt.Sprintf("  %s/s", bytesText(uint64(p.Rate)))
	}
	if p.Round > 0 && p.State.Step() == "precopy" {
		tail += fmt.Sprintf("  round %d", p.Round)
	}
	if p.Left > 0 && p.Total > 0 {
		tail += fmt.Sprintf("  %.0f s left", p.Left+0.5)
	}
	if room := width - len(text) - len(tail) - 4; room >= 10 && p.Total > 0 {
		room = min(room, 40)
		full := int(float64(room) * min(1, float64(p.Done)/float64(p.Total)))
		text += " [" + strings.Repeat("#", full) + strings.Repeat("-", room-full) + "]"
	}
	text += tail
	if len(text) >= width {
		text = text[:width-1]
	}
	return text
}

// end tells the result and gives the exit code.
func (s *show) end(res *handover.Result, err error) error {
	if s.bar {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	if s.asJSON {
		if err := failed("writing the result", json.NewEncoder(os.Stdout).Encode(res)); err != nil {
			return err
		}
	} else {
		s.tell(res)
	}
	switch res.Outcome {
	case handover.Moved:
		return nil
	case handover.Undecided:
		return exit(exitUndecided)
	}
	return exit(exitFailed)
}

func (s *show) tell(res *handover.Result) {
	switch res.Outcome {
	case handover.Moved:
		fmt.Printf("%s runs on %s now: it stood still for %.0f ms; %s sent in %.2f s\n", res.App, res.To, res.DowntimeMS, bytesText(res.BytesSent), res.TotalMS/1000)
	case handover.Undecided:
		say("moving %s from %s to %s: undecided: %s", res.App, res.From, res.To, res.Reason)
		fmt.Fprintf(os.Stderr, "hint: it is settled by itself when the two hosts reach each other again; `hither ls` shows it until then\n")
	default:
		say("moving %s from %s to %s: not moved: %s", res.App, res.From, res.To, res.Reason)
		for _, p := range res.Problems {
			if p.Cure != "" {
				fmt.Fprintf(os.Stderr, "hint: %s\n", p.Cure)
			}
		}
	}
	for _, n := range res.Notes {
		fmt.Fprintln(os.Stderr, "note:", n)
	}
}

func claimCommand() *cobra.Command {
	var drop bool
	c := &cobra.Command{
		Use: "claim APP", Short: "Run the copy that is here, when the other host of a move is gone for good", Hidden: true,
		Long: `Decide a move that is undecided, because its other host will never come back: the copy
of the app that this host holds runs on from here. If the other host is not gone for
good, there will be two copies of the app. That is why only a person may say this.

With --drop the copy that waits here is ended instead.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: complete(appNames),
		RunE: withClient("claiming", func(c *cobra.Command, client *control.Client, args []string) error {
			a, err := client.App(c.Context(), args[0])
			if err != nil {
				return err
			}
			if a.Move == "" || a.State != "undecided" && a.State != "waiting" {
				return &failure{doing: "claiming " + a.Name, err: fmt.Errorf("it is %s: there is nothing to decide", a.State)}
			}
			if drop {
				return client.Drop(c.Context(), a.Move)
			}
			return client.Claim(c.Context(), a.Move)
		}),
	}
	c.Flags().BoolVar(&drop, "drop", false, "end the copy that waits here instead")
	return c
}
