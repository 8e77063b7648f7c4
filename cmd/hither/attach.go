package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/daemon"
	"hither/engine/terminal"
)

// here finds an app that runs on this host.
func here(ctx context.Context, doing, name string) (*capsule.Capsule, *control.App, error) {
	client, err := control.Connect(ctx)
	if err != nil {
		return nil, nil, failed(doing, err)
	}
	if app, peer, ok := strings.Cut(name, "@"); ok {
		return nil, nil, &failure{doing: doing, err: fmt.Errorf("%s is on %s", app, peer), code: exitFailed,
			hint: fmt.Sprintf("run this on %s, or bring it here: `hither bring %s`", peer, name)}
	}
	// The app may leave between the question and the answer: ask again.
	for tries := 0; ; tries++ {
		c, a, err := open(ctx, client, name)
		if err == nil {
			return c, a, nil
		}
		if !errors.Is(err, capsule.ErrEnded) || tries == 20 {
			var f *failure
			if !errors.As(err, &f) {
				err = failed(doing, err)
			} else {
				f.doing = doing
			}
			return nil, a, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, a, failed(doing, ctx.Err())
		}
	}
}

func open(ctx context.Context, client *control.Client, name string) (*capsule.Capsule, *control.App, error) {
	a, err := client.App(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if a.State == "gone" {
		return nil, a, &failure{err: fmt.Errorf("%s is on %s now", a.Name, a.Host),
			hint: fmt.Sprintf("run this on %s, or bring it here: `hither bring %s@%s`", a.Host, a.Name, a.Host)}
	}
	c, err := capsule.Open(a.ID)
	if err == nil {
		err = daemon.Adopt(ctx, c)
	}
	if err != nil && a.State != "running" {
		err = fmt.Errorf("%s is %s: %s", a.Name, a.State, a.Reason)
	}
	return c, a, err
}

func attachCommand() *cobra.Command {
	var keys string
	var watch bool
	c := &cobra.Command{
		Use:   "attach APP",
		Short: "Join an app's terminal",
		Long: `Join the terminal of an app that runs on this host, as often and from as many places
as you like. The detach keys leave it running.`,
		Example: `  hither attach vim
  hither attach --watch vim         only look`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: complete(appNames),
		RunE: func(c *cobra.Command, args []string) error {
			app, a, err := here(c.Context(), "attaching to "+args[0], args[0])
			if err != nil {
				return err
			}
			if !a.Terminal {
				return &failure{doing: "attaching to " + a.Name, err: fmt.Errorf("it has no terminal"), hint: "it was started with files or pipes as its input and output"}
			}
			hello := terminal.HelloFor(os.Stdin, os.Stdout)
			hello.Watch = watch
			return visit(c.Context(), app, hello, keys)
		},
	}
	c.Flags().StringVar(&keys, "detach-keys", "", "keys that leave it running (default ctrl-\\,ctrl-\\)")
	c.Flags().BoolVar(&watch, "watch", false, "only look: type nothing")
	return c
}

func execCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "exec APP COMMAND [ARG ...]",
		Short: "Run a command beside an app, inside its capsule",
		Long: `Run a command in the capsule of an app: with its processes, its files and its network.
It ends with the command's exit status.`,
		Example: `  hither exec vim ps -ef
  hither exec vim sh`,
		Args: cobra.MinimumNArgs(2),
		ValidArgsFunction: func(c *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return complete(appNames)(c, args, to)
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(c *cobra.Command, args []string) error { return own(execIn(c.Context(), args[0], args[1:])) },
	}
	c.Flags().SetInterspersed(false)
	return c
}

func execIn(ctx context.Context, name string, argv []string) error {
	app, _, err := here(ctx, "running "+argv[0], name)
	if err != nil {
		return err
	}
	spec := capsule.ExecSpec{Argv: argv, Umask: 0o022}
	if isTerminal(os.Stdin) && isTerminal(os.Stdout) {
		conn, err := app.ExecTerminal(spec, terminal.HelloFor(os.Stdin, os.Stdout))
		if err != nil {
			return err
		}
		// No key leaves it running: its terminal does not outlive the visit.
		out, err := terminal.Client(context.WithoutCancel(ctx), conn, os.Stdin, os.Stdout, terminal.Options{DetachKeys: "none"})
		return outcome(out, err)
	}
	status, err := app.Exec(ctx, spec, [3]*os.File{os.Stdin, os.Stdout, os.Stderr})
	if err != nil {
		return err
	}
	return exit(status)
}
