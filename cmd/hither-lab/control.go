package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// readStatus asks the switch room for the links and each host for itself.
func readStatus(p place) (labStatus, error) {
	var s labStatus
	if err := askRoom(p, request{Op: "status"}, &s); err != nil {
		return s, err
	}
	s.PID = listenerPID(p.switchSocket())
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if !h.Alive {
			continue
		}
		link := h.Link
		if err := askHost(p, h.Name, request{Op: "status"}, h); err != nil {
			h.Alive = false
		}
		h.Link = link
	}
	return s, nil
}

func (o *options) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show hosts, daemons and links",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := o.place()
			if err != nil {
				return err
			}
			s, err := readStatus(p)
			if err != nil {
				return err
			}
			return o.print(s, s.text())
		},
	}
}

func (s labStatus) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lab %s, pid %d, user %s, binaries in %s\n", s.Name, s.PID, userName(s.User), s.Bin)
	for _, h := range s.Hosts {
		fmt.Fprintf(&b, "host %s  %s  ", h.Name, h.Address)
		switch {
		case !h.Alive:
			b.WriteString("dead")
		case h.Down:
			b.WriteString("powered off")
		default:
			daemon := "no daemon"
			if h.Daemon != 0 {
				daemon = fmt.Sprintf("daemon pid %d", h.Daemon)
			}
			fmt.Fprintf(&b, "%s, %s, %d processes", daemon, h.desktopText(), h.Procs)
		}
		fmt.Fprintf(&b, "; link %s", h.linkText())
		if len(h.Hidden) > 0 {
			fmt.Fprintf(&b, "; hidden: %s", strings.Join(h.Hidden, " "))
		}
		b.WriteByte('\n')
	}
	b.WriteString(s.missingText())
	return b.String()
}

// desktopText is a host's desktop in a word or two.
func (h hostStatus) desktopText() string {
	switch d := h.Desktop; {
	case d == nil || d.Display == "":
		return "no desktop"
	case d.ServerPID == 0:
		return fmt.Sprintf("desktop %s (%s) ended", d.Display, d.Server)
	default:
		return fmt.Sprintf("desktop %s (%s)", d.Display, d.Server)
	}
}

// missingText says what the desktops lack, and where to get it; nothing if they lack nothing.
func (s labStatus) missingText() string {
	var names, packages []string
	for _, h := range s.Hosts {
		if h.Desktop == nil {
			continue
		}
		for i, name := range h.Desktop.Missing {
			if !slices.Contains(names, name) {
				names = append(names, name)
				packages = append(packages, h.Desktop.Packages[i])
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("The desktops lack %s. As root: apt-get install %s\n", strings.Join(names, ", "), strings.Join(packages, " "))
}

func (h hostStatus) linkText() string {
	text := h.Link.shape.String()
	if h.Link.Cut {
		text += ", CUT"
	}
	if h.HardCut {
		text += ", CUT (interface down)"
	}
	return text
}

func (o *options) link() *cobra.Command {
	var rate string
	var delay time.Duration
	var loss string
	c := &cobra.Command{
		Use:   "link [HOST]",
		Short: "Show or shape the link",
		Long: `Shape what HOST receives, or, without HOST, what each host receives. Each call says the whole shape:
what it does not name is unshaped again. Without flags, the links are shown.

--delay is one way: with 20ms everywhere a question and its answer take 40ms.`,
		Example: "  hither-lab link --rate 300mbit --delay 20ms --loss 1%\n  hither-lab link --rate 10mbit b     a slow way to b, a fast one back\n  hither-lab link --rate 0            as fast as it goes",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := o.place()
			if err != nil {
				return err
			}
			host := strings.Join(args, "")
			if cmd.Flags().Changed("rate") || cmd.Flags().Changed("delay") || cmd.Flags().Changed("loss") {
				s, err := newShape(rate, delay, loss)
				if err != nil {
					return err
				}
				if err := askRoom(p, request{Op: "link", Host: host, Shape: &s}, nil); err != nil {
					return err
				}
			}
			return o.showLinks(p, host)
		},
	}
	c.Flags().StringVar(&rate, "rate", "", "bits per second, as 300mbit; 0 for no limit")
	c.Flags().DurationVar(&delay, "delay", 0, "how long each packet is under way, as 20ms")
	c.Flags().StringVar(&loss, "loss", "", "how many packets get lost, as 1%")
	return c
}

func newShape(rate string, delay time.Duration, loss string) (shape, error) {
	bits, err := parseRate(rate)
	if err != nil {
		return shape{}, err
	}
	if delay < 0 || delay > 10*time.Second {
		return shape{}, fmt.Errorf("--delay %v: from 0 to 10s", delay)
	}
	s := shape{Rate: bits, Delay: delay.Microseconds()}
	if loss != "" {
		if _, err := fmt.Sscanf(strings.TrimSuffix(loss, "%"), "%g", &s.Loss); err != nil || s.Loss < 0 || s.Loss > 100 {
			return shape{}, fmt.Errorf("--loss %s: say it as 1%%, from 0%% to 100%%", loss)
		}
	}
	return s, nil
}

func (o *options) showLinks(p place, host string) error {
	s, err := readStatus(p)
	if err != nil {
		return err
	}
	text := ""
	links := map[string]*linkStatus{}
	for _, h := range s.Hosts {
		if host == "" || h.Name == host {
			text += fmt.Sprintf("to %s: %s\n", h.Name, h.linkText())
			links[h.Name] = h.Link
		}
	}
	if len(links) == 0 {
		return noHost(host)
	}
	return o.print(links, text)
}

func (o *options) address() *cobra.Command {
	return &cobra.Command{
		Use:   "address HOST [NUMBER]",
		Short: "Move a host to other addresses, or back to its own",
		Long: `Move a host to the addresses 10.99.0.NUMBER and fd99:6869:7468::NUMBER, as another network would;
without a number, back to its own. The hosts' names still lead to its own.`,
		Example: "  hither-lab address a 77",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := o.place()
			if err != nil {
				return err
			}
			return askHost(p, args[0], request{Op: "address", Args: args[1:]}, nil)
		},
	}
}

func (o *options) cut() *cobra.Command {
	return o.cutOrHeal("cut", "Break the link of a host, or of all: packets get lost without a word", "hardcut")
}

func (o *options) heal() *cobra.Command {
	return o.cutOrHeal("heal", "Mend the link of a host, or of all", "hardheal")
}

func (o *options) cutOrHeal(op, short, hardOp string) *cobra.Command {
	var hard bool
	c := &cobra.Command{
		Use:   op + " [HOST]",
		Short: short,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := o.place()
			if err != nil {
				return err
			}
			host := strings.Join(args, "")
			if !hard || op == "heal" {
				if err := askRoom(p, request{Op: op, Host: host}, nil); err != nil {
					return err
				}
			}
			if !hard && op == "cut" {
				return nil
			}
			// Healing mends both kinds.
			s, err := readStatus(p)
			if err != nil {
				return err
			}
			found := false
			for _, h := range s.Hosts {
				if host == "" || h.Name == host {
					found = true
					if h.Alive && h.HardCut != (op == "cut") {
						if err := askHost(p, h.Name, request{Op: hardOp}, nil); err != nil {
							return err
						}
					}
				}
			}
			if !found {
				return noHost(host)
			}
			return nil
		},
	}
	if op == "cut" {
		c.Flags().BoolVar(&hard, "hard", false, "at the host: its interface goes down, which it sees at once")
	}
	return c
}

func (o *options) kill() *cobra.Command {
	return &cobra.Command{
		Use:   "kill HOST daemon | desktop | keeper APP | all",
		Short: "Kill (SIGKILL) a host's daemon, its X server, an app's keeper, or, as a power cut does, everything",
		Long: `Kill a host's daemon, its desktop's X server, the keeper of an app on it, or everything that runs
there, by SIGKILL, and return when it is dead. After "all" the host is powered off; "hither-lab start HOST" boots it: what was on
its disk (/home, /var/tmp) is there again, /run, /tmp and /dev/shm are empty.`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := o.place()
			if err != nil {
				return err
			}
			var pids []int
			if err := askHost(p, args[0], request{Op: "kill", Args: args[1:]}, &pids); err != nil {
				return err
			}
			return o.print(map[string]any{"host": args[0], "killed": pids}, "")
		},
	}
}

func (o *options) start() *cobra.Command {
	return &cobra.Command{
		Use:   "start HOST [daemon | desktop]",
		Short: "Start a host's daemon or desktop again, or boot a host after `kill HOST all`",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := o.place()
			if err != nil {
				return err
			}
			return askHost(p, args[0], request{Op: "start", Args: args[1:]}, nil)
		},
	}
}

func (o *options) hide() *cobra.Command {
	return &cobra.Command{
		Use:   "hide HOST PATH...",
		Short: "Make files or folders not exist on a host, as if a program were not installed there",
		Long: `Make files or folders of the system not exist on a host. Programs that run there already, and apps in
capsules, keep seeing them: hide before an app arrives.`,
		Example: "  hither-lab hide b /usr/bin/python3 /usr/bin/python3.11 /usr/lib/python3.11",
		Args:    cobra.MinimumNArgs(2),
		RunE:    func(_ *cobra.Command, args []string) error { return o.changeHidden("hide", args) },
	}
}

func (o *options) unhide() *cobra.Command {
	return &cobra.Command{
		Use:   "unhide HOST [PATH...]",
		Short: "Let hidden files exist again; without a path, all",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return o.changeHidden("unhide", args) },
	}
}

func (o *options) changeHidden(op string, args []string) error {
	p, err := o.place()
	if err != nil {
		return err
	}
	var hidden []string
	if err := askHost(p, args[0], request{Op: op, Args: args[1:]}, &hidden); err != nil {
		return err
	}
	if hidden == nil {
		hidden = []string{}
	}
	return o.print(map[string]any{"host": args[0], "hidden": hidden}, "")
}
