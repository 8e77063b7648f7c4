package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const defaultLab = "main"

const longHelp = `hither-lab makes hosts a, b, ... on this machine: each with its own network, processes, home,
/tmp, desktop and hither daemon, joined by a link that can be shaped, cut and mended. It needs
no root and never touches this machine's own network.

A first walk:
  hither-lab up                          hosts a and b, paired with each other
  hither-lab exec a -- hostname          run something on host a
  hither-lab exec a                      a shell on host a
  hither-lab exec a -- hither run -d --name clock python3 -c 'import time
  while True: time.sleep(1)'
  hither-lab exec a -- hither send clock b
  hither-lab exec b -- hither ls
  hither-lab shot b b.png                a picture of b's desktop
  hither-lab input b type 'Hello'        keys and clicks on b's desktop
  hither-lab down                        ends everything, leaves nothing

The system folders (/usr, /etc, ...) are this machine's. /home, /tmp, /var/tmp, /run and /dev/shm
are each host's own and live in memory; so are names: ` + "`exec a -- getent hosts b`" + `.
Started by root, the hosts still run as an ordinary user (--user).`

// options are the flags that all commands have.
type options struct {
	lab, user string
	json      bool
}

func rootCommand() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:           "hither-lab",
		Short:         "Two or more hosts on one machine, for demo, tests and benchmarks",
		Long:          longHelp,
		Version:       versionText(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&o.lab, "lab", envOr("HITHER_LAB", defaultLab), "which lab; several can stand side by side (or set HITHER_LAB)")
	flags.StringVar(&o.user, "user", "", "who root's hosts run as: a name or uid (default: who called sudo, else the first ordinary user)")
	flags.BoolVar(&o.json, "json", false, "print JSON")
	root.AddCommand(o.up(), o.down(), o.exec(), o.status(), o.link(), o.address(), o.cut(), o.heal(), o.kill(), o.start(), o.hide(), o.unhide(), o.shot(), o.input(), o.tray(), o.demo(), o.bench())
	return root
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// place becomes an ordinary user and finds the lab.
func (o *options) place() (place, error) {
	if err := becomeOrdinary(o.user, ""); err != nil {
		return place{}, err
	}
	return findPlace(o.lab)
}

// print shows a result: for programs as JSON, for people as text.
func (o *options) print(result any, text string) error {
	if !o.json {
		_, err := io.WriteString(os.Stdout, text)
		return err
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(result)
}

func (o *options) up() *cobra.Command {
	var spec labSpec
	var noDaemon, noDesktop bool
	c := &cobra.Command{
		Use:   "up",
		Short: "Make the lab: hosts, link, daemons, desktops, all paired with each other",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if spec.Hosts < 1 || spec.Hosts > maxHosts {
				return fmt.Errorf("--hosts %d: a lab has 1 to %d hosts", spec.Hosts, maxHosts)
			}
			if _, err := findPlace(o.lab); err != nil {
				return err
			}
			if err := becomeOrdinary(o.user, o.lab); err != nil {
				return err
			}
			began := time.Now()
			p, err := findPlace(o.lab)
			if err != nil {
				return err
			}
			spec.Name, spec.Dir, spec.Daemon, spec.Desktop = p.name, p.dir, !noDaemon, !noDesktop
			if spec.Bin, err = binaries(); err != nil {
				return err
			}
			if err := o.shares(&spec); err != nil {
				return err
			}
			if err := up(p, spec); err != nil {
				return err
			}
			status, err := readStatus(p)
			if err != nil {
				return err
			}
			text := ""
			if os.Getenv(fromRootEnv) != "" {
				text = fmt.Sprintf("The hosts run as %s, not as root (--user chooses).\n", userName(os.Getuid()))
			}
			for _, h := range status.Hosts {
				text += fmt.Sprintf("host %s  %s  %s  %s\n", h.Name, h.Address, h.Addr6, h.desktopText())
			}
			text += status.missingText()
			text += fmt.Sprintf("Ready in %d ms. Try: hither-lab%s exec a -- hostname\n", time.Since(began).Milliseconds(), labFlag(p))
			return o.print(status, text)
		},
	}
	c.Flags().IntVar(&spec.Hosts, "hosts", 2, "how many hosts")
	c.Flags().BoolVar(&noDaemon, "no-daemon", false, "do not start hither's daemon on the hosts")
	c.Flags().BoolVar(&noDesktop, "no-desktop", false, "do not start an X server, window manager and session bus on the hosts")
	c.Flags().BoolVar(&spec.Strangers, "strangers", false, "the hosts are not paired: people have to do it")
	c.Flags().StringVar(&spec.VNC, "vnc", "", "let people see and use the desktops: a `folder` for sockets a.vnc, b.vnc ... of VNC; all hosts see it, too")
	c.Flags().StringArrayVar(&spec.Shares, "share", nil, "a `folder` of this machine that all hosts see at its own path, where their own /home or /tmp would cover it (may be repeated)")
	c.Flags().StringVar(&spec.Disk, "disk", "", "`size` of each of a host's own file systems, as 64m or 2g (default: half the memory)")
	return c
}

// shares checks the shared folders, and adds the checkout that the binaries were built in.
func (o *options) shares(spec *labSpec) error {
	if spec.VNC != "" {
		if spec.Shares, spec.VNC = append(spec.Shares, spec.VNC), ""; !spec.Desktop {
			return errors.New("--vnc and --no-desktop: without a desktop there is nothing to see")
		}
		n := len(spec.Shares) - 1
		defer func() { spec.VNC = spec.Shares[n] }()
	}
	for i, s := range spec.Shares {
		abs, err := filepath.Abs(s)
		if err == nil {
			abs, err = filepath.EvalSymlinks(abs)
		}
		if err != nil {
			return fmt.Errorf("--share %s: %w", s, err)
		}
		spec.Shares[i] = abs
	}
	checkout := filepath.Dir(spec.Bin)
	if _, err := os.Stat(filepath.Join(checkout, "go.mod")); err == nil {
		spec.Shares = append(spec.Shares, checkout)
	}
	return nil
}

func (o *options) down() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the lab and leave nothing: no process, mount, namespace or file",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := o.place()
			if err != nil {
				return err
			}
			existed, err := down(p)
			if err != nil {
				return err
			}
			text := fmt.Sprintf("Lab %q is gone.\n", p.name)
			if !existed {
				text = fmt.Sprintf("There was no lab %q.\n", p.name)
			}
			return o.print(map[string]any{"name": p.name, "existed": existed}, text)
		},
	}
}

func (o *options) exec() *cobra.Command {
	var env []string
	c := &cobra.Command{
		Use:   "exec HOST [-- CMD ARG...]",
		Short: "Run a command as the user of a host; without one, a shell",
		Long: `Run a command as the user of a host, in that host's environment. Terminal, input, output, signals
and exit status pass through; 125 says that the lab could not run it, 126 and 127 what a shell says.
The current folder stays if the host has it, else it is the home folder.`,
		Example: "  hither-lab exec a -- python3 -c 'print(6*7)'\n  tar c . | hither-lab exec b -- tar x",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := o.place()
			if err != nil {
				return err
			}
			argv := args[1:]
			if len(argv) > 0 && argv[0] == "--" {
				argv = argv[1:]
			}
			if len(argv) == 0 {
				argv = []string{shell()}
			}
			for _, e := range env {
				if !strings.Contains(e, "=") {
					return fmt.Errorf("--env %s: say it as NAME=VALUE", e)
				}
			}
			status, err := runInHost(p, args[0], argv, env)
			if err != nil {
				fmt.Fprintf(os.Stderr, "hither-lab: %v\n", err)
				return exitCode(125)
			}
			if status != 0 {
				return exitCode(status)
			}
			return nil
		},
	}
	c.Flags().StringArrayVarP(&env, "env", "e", nil, "set `NAME=VALUE` for the command (may be repeated)")
	c.Flags().SetInterspersed(false)
	return c
}

// askHost asks a host's warden.
func askHost(p place, host string, req request, result any) error {
	if _, err := os.Lstat(p.socket(host)); err != nil {
		return hostUnreachable(p, host, err)
	}
	return ask(p.socket(host), req, result)
}

// askRoom asks the switch room.
func askRoom(p place, req request, result any) error {
	if _, err := os.Lstat(p.switchSocket()); err != nil {
		return fmt.Errorf("lab %q is not up: `hither-lab%s up` makes it", p.name, labFlag(p))
	}
	return ask(p.switchSocket(), req, result)
}
