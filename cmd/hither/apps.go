package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hither/engine/control"
)

// withClient is a command that asks the daemon.
func withClient(doing string, f func(c *cobra.Command, client *control.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		client, err := control.Connect(c.Context())
		if err == nil {
			err = f(c, client, args)
		}
		var e exit
		var fl *failure
		if err == nil || errors.As(err, &e) || errors.As(err, &fl) {
			return err
		}
		if what := strings.Join(args, " "); what != "" {
			doing += " " + what
		}
		return failed(doing, err)
	}
}

func jsonFlag(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "json", false, "print JSON, for programs")
}

func lsCommand() *cobra.Command {
	var asJSON, all bool
	c := &cobra.Command{
		Use: "ls", Short: "List the apps of this host",
		Long: "List the apps that run on this host, and those that are on their way. With --all also those\nthat went to other hosts from here, and where they are.",
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: withClient("listing apps", func(c *cobra.Command, client *control.Client, _ []string) error {
			list, err := client.Apps(c.Context())
			if err != nil {
				return err
			}
			apps := []control.App{}
			for _, a := range list.Apps {
				if all || a.State != "gone" {
					apps = append(apps, a)
				}
			}
			if asJSON {
				return printJSON(control.Apps{Apps: apps})
			}
			rows := [][]string{{"NAME", "ID", "STATE", "SINCE", "COMMAND"}}
			for _, a := range apps {
				state := a.State
				switch a.State {
				case "gone":
					state = "on " + a.Host
				case "moving":
					state = "moving to " + a.Host
				case "arriving":
					state = "coming from " + a.Host
				case "undecided", "waiting":
					state = "undecided, with " + a.Host
				}
				rows = append(rows, []string{a.Name, a.ID, state, ago(a.Since), oneLine(a.Command)})
			}
			return table(rows)
		}),
	}
	jsonFlag(c, &asJSON)
	c.Flags().BoolVarP(&all, "all", "a", false, "also those that are on other hosts now")
	return c
}

// oneLine is a command for a table.
func oneLine(argv []string) string {
	text := strings.Join(strings.Fields(strings.Join(argv, " ")), " ")
	if r := []rune(text); len(r) > 60 {
		text = string(r[:59]) + "…"
	}
	return text
}

func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case t.IsZero():
		return "-"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func inspectCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "inspect APP", Short: "Show an app and its processes",
		Args: cobra.ExactArgs(1), ValidArgsFunction: complete(appNames),
		RunE: withClient("looking at", func(c *cobra.Command, client *control.Client, args []string) error {
			a, err := client.App(c.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a)
			}
			rows := [][]string{{"name", a.Name}, {"id", a.ID}, {"state", a.State}}
			more := func(name, value string) {
				if value != "" {
					rows = append(rows, []string{name, value})
				}
			}
			more("host", a.Host)
			more("why", a.Reason)
			more("notice", a.Notice)
			more("command", strings.Join(a.Command, " "))
			more("folder", a.Dir)
			more("from", a.Origin)
			if a.State != "gone" {
				more("here for", ago(a.Since))
			}
			if a.Memory > 0 {
				more("memory", bytesText(a.Memory))
			}
			if err := table(rows); err != nil || len(a.Processes) == 0 {
				return err
			}
			fmt.Println()
			rows = [][]string{{"PID", "PARENT", "STATE", "THREADS", "MEMORY", "NAME", "HOST PID"}}
			for _, p := range a.Processes {
				name := p.Name
				if p.Service != "" {
					name += " (" + p.Service + ")"
				}
				rows = append(rows, []string{strconv.Itoa(p.Pid), strconv.Itoa(p.Parent), p.State, strconv.Itoa(p.Threads), bytesText(p.Memory), name, strconv.Itoa(p.HostPid)})
			}
			if err := table(rows); err != nil || len(a.Problems) == 0 {
				return err
			}
			fmt.Println("\nit could not move now:")
			tellProblems(a.Problems)
			return nil
		}),
	}
	jsonFlag(c, &asJSON)
	return c
}

func stopCommand() *cobra.Command {
	var grace time.Duration
	c := &cobra.Command{
		Use: "stop APP", Short: "End an app",
		Long: "End an app: its processes are asked to end, and killed if they have not after a while.",
		Args: cobra.ExactArgs(1), ValidArgsFunction: complete(appNames),
		RunE: withClient("stopping", func(c *cobra.Command, client *control.Client, args []string) error {
			return client.Stop(c.Context(), args[0], control.StopRequest{Grace: grace.Seconds()})
		}),
	}
	c.Flags().DurationVar(&grace, "grace", 5*time.Second, "how long it may take to end by itself")
	return c
}

func filesCommand() *cobra.Command {
	var asJSON bool
	var fetch string
	var giveBack bool
	c := &cobra.Command{
		Use: "files APP", Short: "Show what an app took along and wrote, and where that lies",
		Long: `Show the files that an app brought to this host from another one, or wrote here in
the places of those, and where they lie. With --fetch they are copied into a folder;
with --return they go back to the host where the app was started, into the files it
took along. What was changed on both hosts is put beside: "name (from HOST DATE)".`,
		Example: `  hither files vim
  hither files vim --fetch ~/from-vim
  hither files vim --return`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: complete(appNames),
		RunE: withClient("looking for the files of", func(c *cobra.Command, client *control.Client, args []string) error {
			var f *control.Files
			var err error
			switch {
			case giveBack:
				f, err = client.ActOnFiles(c.Context(), args[0], control.FilesRequest{Action: "return"})
			case fetch != "":
				var to string
				if to, err = filepath.Abs(fetch); err == nil {
					f, err = client.ActOnFiles(c.Context(), args[0], control.FilesRequest{Action: "fetch", To: to})
				}
			default:
				f, err = client.Files(c.Context(), args[0])
			}
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(f)
			}
			if giveBack && len(f.Files) > 0 {
				rows := [][]string{{"RESULT", "FILE", "LIES ON " + strings.ToUpper(f.Host) + " AS"}}
				for _, x := range f.Files {
					at := x.Here
					if at == "" && (x.State == "written" || x.State == "created") {
						at = x.Path
					}
					if x.Why != "" {
						at += " (" + x.Why + ")"
					}
					rows = append(rows, []string{x.State, x.Path, strings.TrimSpace(at)})
				}
				if err := table(rows); err != nil {
					return err
				}
			} else if len(f.Files) > 0 {
				rows := [][]string{{"STATE", "SIZE", "FILE", "LIES AT"}}
				for _, x := range f.Files {
					rows = append(rows, []string{x.State, bytesText(uint64(max(x.Size, 0))), x.Path, x.Here})
				}
				if err := table(rows); err != nil {
					return err
				}
			}
			if len(f.Files) == 0 && len(f.Notes) == 0 {
				fmt.Fprintln(os.Stderr, "nothing of it lies here: it works on this host's own files, or has no documents")
			}
			for _, n := range f.Notes {
				fmt.Fprintln(os.Stderr, n)
			}
			return nil
		}),
	}
	jsonFlag(c, &asJSON)
	c.Flags().StringVar(&fetch, "fetch", "", "copy them into this folder")
	c.Flags().BoolVar(&giveBack, "return", false, "send them back to the host where the app was started")
	c.MarkFlagsMutuallyExclusive("fetch", "return")
	return c
}
