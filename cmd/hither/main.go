// Command hither moves running apps between machines, and is also the daemon
// and the helpers that this takes.
//
// In a nutshell: `hither run` makes a capsule by itself (package capsule);
// everything else asks the daemon over its control socket (package control),
// which starts by itself. The hidden commands keeper and capsule-* are this
// program in its other roles, and are looked at before anything else, because
// in a capsule's first process every byte and thread counts.
//
// Manners: what was asked for goes to stdout, everything else to stderr, as
// `hither: doing what: why`, lower case, no full stop; a line `hint: ...` says
// what to do about it. Exit codes: 0 done; 1 not done; 2 wrong use; 3 a move is
// undecided. run and exec exit as the command did, or with 125 if hither itself
// failed, 126 if the command cannot be executed, 127 if there is none.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"hither/engine/capsule"
	"hither/engine/kernel"
)

// Set by the linker.
var (
	version = ""
	commit  = ""
)

func main() {
	kernel.ProbeChild()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "keeper":
			capsule.BridgeCommand = bridgeCommand
			capsule.KeeperMain()
			return
		case "bridge":
			os.Exit(bridgeMain())
		case "capsule-init":
			capsule.InitMain()
			return
		case "capsule-exec":
			capsule.ExecMain()
			return
		}
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	fromBuild()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends us at once
	root := rootCommand()
	root.SetArgs(args)
	return complain(root.ExecuteContext(ctx))
}

// fromBuild fills in what the linker was not told.
func fromBuild() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	if version == "" {
		version = info.Main.Version
	}
	if version == "" {
		version = "(devel)"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && commit == "" {
			commit = s.Value[:min(12, len(s.Value))]
		}
	}
}

func versionText() string {
	if commit == "" {
		return version
	}
	return version + " (" + commit + ")"
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "hither",
		Short: "Move running apps between machines",
		Long: `hither moves a running app - its processes, its windows, its open files, its terminal -
from one Linux machine to another while it runs, without root and without the app's help.

An app that is started with "hither run" can move. The machines that it can move
to are those that were paired with this one.`,
		Example: `  hither run vim notes.txt          work in vim, as ever (Ctrl-\ Ctrl-\ leaves it running)
  hither ls                         what runs here
  hither check vim laptop           would it move there? what stands in the way?
  hither send vim laptop            move it there, while it runs
  hither bring vim@laptop           ... and back
  hither attach vim                 join its terminal, on the host that has it`,
		Version:       versionText(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetVersionTemplate("hither {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return misuse(c, err) })
	root.AddGroup(&cobra.Group{ID: "apps", Title: "Apps:"}, &cobra.Group{ID: "moves", Title: "Moves:"}, &cobra.Group{ID: "hosts", Title: "Hosts:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("apps", runCommand(), lsCommand(), inspectCommand(), attachCommand(), execCommand(), stopCommand(), filesCommand(), menuCommand())
	add("moves", checkCommand(), sendCommand(), bringCommand(), claimCommand())
	add("hosts", peersCommand(), pairCommand(), unpairCommand(), permitCommand(), answerCommand(), doctorCommand(), eventsCommand(), daemonCommand())
	checkArguments(root)
	return root
}
