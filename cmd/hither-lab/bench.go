package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

const (
	benchLab     = "bench"
	benchTimeout = 30 * time.Minute
	witnessAt    = "10.99.0.3:9009" // host c
)

// bench measures: see the help text.
type bench struct {
	program, lab, user string
	runs               int
	heard              *talker // the witness on host c
	results            []figure
	quiet              bool
}

// figure is one line of the result.
type figure struct {
	Group string    `json:"group"`
	What  string    `json:"what"`
	Unit  string    `json:"unit"`
	Runs  []float64 `json:"runs"`
	Aim   float64   `json:"aim,omitempty"` // below it; 0: none
}

func (o *options) bench() *cobra.Command {
	b := &bench{}
	only := ""
	groups := []struct {
		name string
		run  func(context.Context) error
	}{
		{"small", func(ctx context.Context) error { return b.small(ctx) }}, {"tree", func(ctx context.Context) error { return b.tree(ctx) }}, {"gotree", func(ctx context.Context) error { return b.gotree(ctx) }},
		{"bulk", func(ctx context.Context) error { return b.bulk(ctx) }}, {"live", func(ctx context.Context) error { return b.live(ctx) }}, {"start", func(ctx context.Context) error { return b.start(ctx) }},
		{"rest", func(ctx context.Context) error { return b.rest(ctx) }}, {"calls", func(ctx context.Context) error { return b.calls(ctx) }},
		{"windows", func(ctx context.Context) error { return b.windows(ctx) }},
	}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure moves and what a capsule costs",
		Long: `Makes a lab of its own (a and b, and c for a witness) and measures, several times each: moves of a
small program, of 50 processes, of 1 GiB of incompressible memory against the same bytes over the bare
transport, and of 1 GiB that is written to all the while; what hither run costs to start and at rest; system calls inside a capsule against
outside; and windows, in a second lab with desktops: how soon they are back after a move, and what
keys and pictures cost on their way through the capsule. Prints medians, and in brackets the smallest and the largest. What is compared runs in turns.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			b.lab, b.user, b.quiet = benchLab, o.user, o.json
			if cmd.Flags().Changed("lab") || os.Getenv("HITHER_LAB") != "" {
				b.lab = o.lab
			}
			if b.program, err = os.Executable(); err != nil {
				return fmt.Errorf("finding my own program: %w", err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, benchTimeout)
			defer cancel()
			b.say("machine: %s", machine())
			if err := b.up(ctx); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, b.down()) }()
			var failed []string
			for _, g := range groups {
				if only != "" && !slices.Contains(strings.Split(only, ","), g.name) {
					continue
				}
				if err := g.run(ctx); err != nil {
					// The others can still be measured.
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					fmt.Fprintf(os.Stderr, "hither-lab: measuring %s: %v\n", g.name, err)
					failed = append(failed, g.name)
				}
			}
			if len(failed) > 0 {
				err = fmt.Errorf("not measured: %s", strings.Join(failed, ", "))
			}
			if o.json {
				return errors.Join(err, o.print(map[string]any{"machine": machine(), "figures": b.results}, ""))
			}
			return err
		},
	}
	c.Flags().IntVar(&b.runs, "runs", 7, "how often to measure each move")
	c.Flags().StringVar(&only, "only", "", "only these, with commas between: small, tree, gotree, bulk, live, start, rest, calls, windows")
	return c
}

// machine names what it was measured on.
func machine() string {
	cpu := ""
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	var cpus unix.CPUSet
	_ = unix.SchedGetaffinity(0, &cpus)
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info)
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	load, _ := os.ReadFile("/proc/loadavg")
	loads := strings.Fields(string(load))
	if len(loads) == 0 {
		loads = []string{"unknown"}
	}
	return fmt.Sprintf("%s, %d CPUs, %d GiB, Linux %s; load before: %s", cpu, cpus.Count(),
		(uint64(info.Totalram)*uint64(info.Unit)+1<<29)>>30, unix.ByteSliceToString(uts.Release[:]), loads[0])
}

func (b *bench) say(format string, a ...any) {
	if !b.quiet {
		fmt.Printf(format+"\n", a...)
	}
}

// note keeps and shows a figure.
func (b *bench) note(group, what, unit string, runs []float64, aim float64) {
	f := figure{group, what, unit, runs, aim}
	b.results = append(b.results, f)
	b.say("%s", f.line())
}

func (f figure) line() string {
	runs := slices.Sorted(slices.Values(f.Runs))
	if len(runs) == 0 {
		return fmt.Sprintf("  %-46s none", f.What)
	}
	median := runs[len(runs)/2]
	if len(runs)%2 == 0 {
		median = (runs[len(runs)/2-1] + median) / 2
	}
	text := fmt.Sprintf("  %-46s %9s %-9s", f.What, short(median), f.Unit)
	if len(runs) > 1 {
		text += fmt.Sprintf(" (%s..%s)", short(runs[0]), short(runs[len(runs)-1]))
	}
	if f.Aim > 0 {
		verdict := "met"
		if median > f.Aim {
			verdict = "missed"
		}
		text += fmt.Sprintf("  aim %s: %s", short(f.Aim), verdict)
	}
	return text
}

// short shows three digits or so.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (b *bench) hitherLab(ctx context.Context, args ...string) *exec.Cmd {
	front := []string{"--lab", b.lab}
	if b.user != "" {
		front = append(front, "--user", b.user)
	}
	cmd := exec.CommandContext(ctx, b.program, append(front, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (b *bench) do(ctx context.Context, args ...string) ([]byte, error) {
	cmd := b.hitherLab(ctx, args...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("hither-lab %s: %w: %s%s", strings.Join(args, " "), err, complaint.String(), out)
	}
	return out, nil
}

// on runs a command on a host, in its home folder.
func (b *bench) on(ctx context.Context, host string, argv ...string) ([]byte, error) {
	return b.do(ctx, append([]string{"exec", host, "--"}, atHome(argv)...)...)
}

// atHome is a command as it is from the home folder, with the workloads there:
// the folder of the binaries may be one that capsules have of their own.
func atHome(argv []string) []string {
	return append([]string{"sh", "-c", `cd && exec "$@"`, "sh"}, argv...)
}

const benchProgram = labHome + "/bench"

func (b *bench) up(ctx context.Context) error {
	if _, err := b.do(ctx, "up", "--no-desktop", "--hosts", "3"); err != nil {
		return err
	}
	err := func() error {
		for _, host := range []string{"a", "b"} {
			if _, err := b.on(ctx, host, "sh", "-c", `cp "$(command -v hither-lab)" bench`); err != nil {
				return err
			}
		}
		var err error
		if b.heard, err = b.talk(ctx, "c", "hither-lab", benchWorkCommand, "witness", witnessAt); err != nil {
			return err
		}
		_, err = b.heard.line()
		return err
	}()
	if err != nil {
		return errors.Join(err, b.down())
	}
	return nil
}

func (b *bench) down() error {
	if b.heard != nil {
		b.heard.close()
		b.heard = nil
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	_, err := b.do(ctx, "down")
	return err
}

// talker is a process on a host that answers lines with lines.
type talker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func (b *bench) talk(ctx context.Context, host string, argv ...string) (*talker, error) {
	t := &talker{cmd: b.hitherLab(ctx, append([]string{"exec", host, "--"}, atHome(argv)...)...)}
	t.cmd.Stderr = os.Stderr
	var err error
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t.out = bufio.NewScanner(out)
	return t, t.cmd.Start()
}

func (t *talker) line() (string, error) {
	if !t.out.Scan() {
		return "", fmt.Errorf("%s: it has ended: %w", strings.Join(t.cmd.Args, " "), errors.Join(t.out.Err(), io.ErrUnexpectedEOF))
	}
	return t.out.Text(), nil
}

func (t *talker) ask(line string, answer any) error {
	if _, err := io.WriteString(t.in, line+"\n"); err != nil {
		return err
	}
	text, err := t.line()
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), answer)
}

func (t *talker) close() {
	t.in.Close()
	_ = t.cmd.Wait()
}
