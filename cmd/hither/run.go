package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"hither/engine/capsule"
	"hither/engine/control"
	"hither/engine/launch"
	"hither/engine/terminal"
)

func runCommand() *cobra.Command {
	var detached, noDisplay, allowed bool
	var name, keys string
	c := &cobra.Command{
		Use:   "run [-d] [--name NAME] COMMAND [ARG ...]",
		Short: "Start an app that can move",
		Long: `Start a command in a capsule: an environment of its own that can move to another
machine while the command runs. In a terminal it looks and feels as without hither,
and ends with the command's exit status.

With stdin and stdout in a terminal the app gets a terminal that moves with it. Files
and pipes are passed to the app as they are. An app that wants a display finds one of
its own, which moves with it, and a session bus; both start when they are wanted.`,
		Example: `  hither run vim notes.txt
  hither run -d --name clock python3 clock.py
  hither run --detach-keys ctrl-a,d bash`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			argv, env, err := unsandbox(args, allowed)
			if err != nil {
				return err
			}
			return own(runApp(c.Context(), capsule.Spec{Name: name, Argv: argv, Env: env, Detached: detached, NoDisplay: noDisplay}, keys))
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	c.Flags().SetInterspersed(false)
	c.Flags().BoolVarP(&detached, "detach", "d", false, "do not attach: start it, and return")
	c.Flags().BoolVar(&noDisplay, "no-display", false, "give it neither a display nor a session bus")
	c.Flags().BoolVar(&allowed, "allow-unsandboxed", false, "start a browser without its own sandboxes, so that it can move")
	c.Flags().StringVar(&name, "name", "", "what to call it (default: the command's name)")
	c.Flags().StringVar(&keys, "detach-keys", "", "keys that leave it running (default ctrl-\\,ctrl-\\)")
	return c
}

// own gives errors of hither itself the exit code 125, as env and docker do.
func own(err error) error {
	var f *failure
	var e exit
	if err == nil || errors.As(err, &e) {
		return err
	}
	var x *capsule.ExecError
	if errors.As(err, &x) {
		return &failure{err: errors.New(x.Text), code: x.Code}
	}
	if errors.As(err, &f) && f.code != 0 {
		return err
	}
	var c *control.Error
	if errors.As(err, &c) && c.Code == control.CodeUsage {
		return err
	}
	return &failure{err: err, code: exitOwn}
}

func runApp(ctx context.Context, spec capsule.Spec, keys string) error {
	var err error
	if spec.Dir, err = os.Getwd(); err != nil {
		return failed("finding the current folder", err)
	}
	spec.Env = append(os.Environ(), spec.Env...)
	spec.Umask = unix.Umask(0)
	unix.Umask(spec.Umask)
	if spec.Name, err = launch.Name(spec.Name, spec.Argv); err != nil {
		return err
	}
	spec.Origin = launch.Origin()
	stdio := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	interactive := !spec.Detached && isTerminal(os.Stdin) && isTerminal(os.Stdout)
	drained := func() {}
	if !interactive && !spec.Detached {
		if stdio, drained, err = plain(stdio); err != nil {
			return err
		}
	}
	c, err := capsule.Start(ctx, spec, stdio)
	if err != nil {
		return err
	}
	if spec.Detached {
		c.Close()
		startDaemon(ctx)
		fmt.Println(c.Spec().Name)
		return nil
	}
	go startDaemon(ctx)
	if !interactive {
		closeCopies(stdio)
		c.Notice = func(text string) { say("%s", text) }
		return waitFor(c, drained)
	}
	c.Notice = func(text string) { fmt.Fprintf(os.Stderr, "\r\nhither: %s\r\n", text) } // the terminal is raw
	go c.Notices()
	hello := terminal.HelloFor(os.Stdin, os.Stdout)
	hello.Fresh = true
	return visit(ctx, c, hello, keys)
}

// startDaemon lets peers reach the app. Without it the app runs all the same.
func startDaemon(ctx context.Context) {
	client, err := control.Connect(ctx)
	if err != nil {
		if ctx.Err() == nil {
			say("%v", err)
		}
		return
	}
	// By any request it hears of this desktop, for apps that come.
	ctx, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	client.Status(ctx) //nolint:errcheck // there are others
}

// visit joins this terminal to an app's, until one of them leaves.
func visit(ctx context.Context, c *capsule.Capsule, hello terminal.Hello, keys string) error {
	conn, err := c.Attach(hello)
	if err != nil {
		return failed("attaching", err)
	}
	signal.Reset(os.Interrupt, syscall.SIGTERM) // the client's business from here on
	out, err := terminal.Client(context.WithoutCancel(ctx), conn, os.Stdin, os.Stdout, terminal.Options{DetachKeys: keys, Watch: hello.Watch})
	out.App = c.Spec().Name
	return outcome(out, err)
}

// outcome says how a visit ended, and with which status.
func outcome(out terminal.Outcome, err error) error {
	if err != nil && out.Kind != terminal.Lost {
		return failed("attaching", err)
	}
	if n := out.Notice(); n != "" {
		say("%s", n)
	}
	switch out.Kind {
	case terminal.Exited, terminal.Stopped:
		return exit(out.Status)
	case terminal.Lost:
		return exit(exitOwn)
	}
	return nil
}

// waitFor waits for an app that has no terminal of its own. Signals that end
// this program are the app's.
func waitFor(c *capsule.Capsule, drained func()) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			if st, err := c.State(); err == nil && st.Main != 0 {
				if pids, err := c.Processes(); err == nil && pids[st.Main] != 0 {
					unix.Kill(pids[st.Main], s.(syscall.Signal)) //nolint:errcheck // it has just ended
				}
			}
		}
	}()
	out, err := c.Wait(context.Background())
	signal.Stop(signals)
	close(signals)
	drained()
	if err != nil {
		return err
	}
	if out.Moved != "" {
		say("%s", terminal.Outcome{Kind: terminal.Moved, App: c.Spec().Name, Host: out.Moved}.Notice())
		return nil
	}
	return exit(out.Status)
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// plain puts pipes in the place of those of the three that are terminals: an
// app whose stdio is not all a terminal gets none of its own.
func plain(stdio [3]*os.File) (out [3]*os.File, drained func(), err error) {
	var copies sync.WaitGroup
	for i, f := range stdio {
		if !isTerminal(f) {
			out[i] = f
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return out, nil, failed("making a pipe", err)
		}
		if i == 0 {
			out[i] = r
			go func() {
				io.Copy(w, f) //nolint:errcheck // the app does not read on
				w.Close()
			}()
			continue
		}
		out[i] = w
		copies.Go(func() { io.Copy(f, r) }) //nolint:errcheck // nobody looks any more
	}
	return out, func() {
		done := make(chan struct{})
		go func() { copies.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Second): // a process in the background holds it
		}
	}, nil
}

// closeCopies closes the pipes' ends that the app has now.
func closeCopies(stdio [3]*os.File) {
	for i, f := range stdio {
		if f != nil && f != [3]*os.File{os.Stdin, os.Stdout, os.Stderr}[i] {
			f.Close()
		}
	}
}
