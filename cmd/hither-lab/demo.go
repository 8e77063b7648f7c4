package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

//go:embed demo/counter.py
var counterProgram string

const (
	demoLab     = "demo"
	demoTimeout = 2 * time.Minute // it takes a few seconds
	workTime    = 700 * time.Millisecond
)

func (o *options) demo() *cobra.Command {
	var transcript, pictures string
	var keep bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "See a running program move a -> b -> a, watched from a third host",
		Long: `Makes a lab of its own, starts a program on host a, moves it to b and back while it runs, and
tells what a witness on host c saw and whether the program is still the same. The lab is gone
afterwards. Then, where the programs for it are installed, an editor's window moves between two
desktops while somebody types into it. Ends with 0 if everything held.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// This process stays who it is, so that it can write the transcript; the hither-lab
			// commands that it starts become an ordinary user each.
			d := &demo{lab: demoLab, user: o.user, keep: keep, pictures: pictures, out: os.Stdout, paint: paint(term.IsTerminal(1) && os.Getenv("NO_COLOR") == "")}
			if cmd.Flags().Changed("lab") || os.Getenv("HITHER_LAB") != "" {
				d.lab = o.lab
			}
			if _, err := findPlace(d.lab); err != nil {
				return err
			}
			var err error
			if d.program, err = os.Executable(); err != nil {
				return fmt.Errorf("finding my own program: %w", err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, demoTimeout)
			defer cancel()
			var record bytes.Buffer
			if transcript != "" {
				d.out = io.MultiWriter(d.out, &record)
			}
			err = d.run(ctx)
			if transcript != "" {
				if e := writeTranscript(transcript, record.Bytes(), err); e != nil {
					return errors.Join(err, e)
				}
			}
			return err
		},
	}
	c.Flags().StringVar(&transcript, "transcript", "", "write what is shown to `FILE` too")
	c.Flags().StringVar(&pictures, "pictures", "", "write pictures of the desktops into `FOLDER`")
	c.Flags().BoolVar(&keep, "keep", false, "leave the lab up, with the program running")
	return c
}

func writeTranscript(file string, text []byte, failure error) error {
	if failure != nil {
		text = fmt.Appendf(text, "\nhither-lab: %v\n", failure)
	}
	for _, code := range []string{"0", "1", "2", "32", "1;31"} {
		text = bytes.ReplaceAll(text, []byte("\033["+code+"m"), nil)
	}
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing the transcript: %w", err)
	}
	return nil
}

// demo is one run of it.
type demo struct {
	program   string // hither-lab
	lab, user string
	keep      bool
	pictures  string // the folder for them
	out       io.Writer
	paint     paint
	status    labStatus
	witness   *witnessClient
}

func (d *demo) say(format string, a ...any) { fmt.Fprintf(d.out, format+"\n", a...) }

// hitherLab is a hither-lab command for our lab.
func (d *demo) hitherLab(ctx context.Context, args ...string) *exec.Cmd {
	all := []string{"--lab", d.lab}
	if d.user != "" {
		all = append(all, "--user", d.user)
	}
	c := exec.CommandContext(ctx, d.program, append(all, args...)...)
	c.Dir = "/"                                         // which all hosts have
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us, who end it all in order
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 3 * time.Second
	return c
}

// do runs a hither-lab command, which must succeed.
func (d *demo) do(ctx context.Context, stdin string, args ...string) (string, error) {
	c := d.hitherLab(ctx, args...)
	c.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ended(ctx)
		}
		return out.String(), fmt.Errorf("`hither-lab %s`: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("the demo did not end within %v", demoTimeout)
	}
	return errors.New("interrupted")
}

func (d *demo) on(ctx context.Context, host string, argv ...string) (string, error) {
	return d.do(ctx, "", append([]string{"exec", host, "--"}, argv...)...)
}

// run tells the story from `up` to `down`.
func (d *demo) run(ctx context.Context) (err error) {
	if _, err := d.do(ctx, "", "down"); err != nil { // left by one that was killed
		return err
	}
	defer func() {
		if d.witness != nil {
			d.witness.close()
		}
		if d.keep && err == nil {
			return
		}
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if _, e := d.do(after, "", "down"); e != nil {
			err = errors.Join(err, e)
		}
	}()
	began := time.Now()
	text, err := d.do(ctx, "", "up", "--hosts", "3", "--json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), &d.status); err != nil || len(d.status.Hosts) != 3 {
		return fmt.Errorf("`hither-lab up` told of %d hosts (%v)", len(d.status.Hosts), err)
	}
	d.say("%s: a running program moves from host a to host b and back.", d.paint.bold("hither demo"))
	d.say("The hosts are on this machine, made in %d ms. A witness on a third one, c,", time.Since(began).Milliseconds())
	d.say("hears from the program hundreds of times a second, and sees nothing else of it.\n")
	s, err := d.journey(ctx)
	if err != nil && ctx.Err() != nil {
		return ended(ctx)
	}
	if err != nil {
		return err
	}
	if !s.report(d.out, d.paint) {
		return errors.New("the demo failed: not everything held")
	}
	if err := d.window(ctx); err != nil {
		if ctx.Err() != nil {
			return ended(ctx)
		}
		return err
	}
	d.next()
	return nil
}

// journey starts the program and moves it there and back.
func (d *demo) journey(ctx context.Context) (*story, error) {
	if _, err := d.on(ctx, "a", "python3", "--version"); err != nil {
		return nil, fmt.Errorf("the demo needs python3: `apt-get install python3` as root\n%w", err)
	}
	var err error
	if d.witness, err = d.startWitness(ctx); err != nil {
		return nil, err
	}
	if _, err := d.do(ctx, counterProgram, "exec", "a", "--", "sh", "-c", "cat >~/counter.py"); err != nil {
		return nil, err
	}
	address := d.status.Hosts[2].Address
	d.command("a", "hither run -d --name counter python3 ~/counter.py "+address)
	if _, err := d.on(ctx, "a", "hither", "run", "-d", "--name", "counter", "python3", labHome+"/counter.py", address); err != nil {
		return nil, err
	}
	d.say("%s", d.paint.dim("     It counts in one thread, talks to a child process over pipes in a second,\n"+
		"     and writes a file in a third. It holds a secret that is nowhere but in its\n"+
		"     memory, and proves to the witness that it still has it."))
	s := &story{}
	if err := d.look(ctx, s, "a", "first"); err != nil {
		return nil, err
	}
	hosts := map[string]string{}
	for _, h := range d.status.Hosts {
		hosts[h.Name] = h.Address
	}
	for i, l := range []leg{{From: "a", To: "b"}, {From: "b", To: "a"}} {
		l.Address = hosts[l.To]
		if err := d.move(ctx, &l); err != nil {
			return nil, err
		}
		s.Legs = append(s.Legs, l)
		if err := d.look(ctx, s, l.To, fmt.Sprintf("question %d", i+1)); err != nil {
			return nil, err
		}
	}
	if err := d.witness.ask("ask reveal", &s.Final); err != nil {
		return nil, err
	}
	s.File, err = d.on(ctx, "a", "cat", labHome+"/counter.log")
	return s, err
}

func (d *demo) command(host, text string) { d.say("  %s %s", d.paint.bold(host+"$"), text) }

// look lets the program work for a while, and asks how it is.
func (d *demo) look(ctx context.Context, s *story, host, question string) error {
	at := stop{Host: host}
	if err := d.witness.ask("ask "+question, &at.Answer); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ended(ctx)
	case <-time.After(workTime):
	}
	if err := d.witness.ask("ask "+question+" again", &at.Answer); err != nil {
		return err
	}
	text, err := d.on(ctx, host, "hither", "inspect", "counter", "--json")
	if err != nil {
		return err
	}
	var app struct {
		Processes []struct {
			Pid     int `json:"pid"`
			HostPid int `json:"host_pid"`
		} `json:"processes"`
	}
	if err := json.Unmarshal([]byte(text), &app); err != nil {
		return fmt.Errorf("reading what `hither inspect` says: %w", err)
	}
	outside, err := processesBelow(d.status.PID)
	if err != nil {
		return err
	}
	for _, p := range app.Processes {
		at.Inside = append(at.Inside, p.Pid)
		if pid, ok := outside[[2]int{p.HostPid, p.Pid}]; ok {
			at.Pids = append(at.Pids, pid)
		}
	}
	s.Stops = append(s.Stops, at)
	return nil
}

func (d *demo) move(ctx context.Context, l *leg) error {
	d.command(l.From, "hither send counter "+l.To)
	if err := d.witness.ask("mark", &struct{}{}); err != nil {
		return err
	}
	text, err := d.on(ctx, l.From, "hither", "send", "counter", l.To, "--json")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if e := json.Unmarshal([]byte(lines[len(lines)-1]), &l.Result); e != nil && err == nil {
		err = fmt.Errorf("reading what `hither send` says: %w", e)
	}
	if err == nil && l.Result.Outcome != "moved" {
		err = fmt.Errorf("the program %s: %s", l.Result.Outcome, l.Result.Reason)
	}
	if err != nil {
		return err
	}
	// The program's answer comes after the silence.
	if err := d.witness.ask("ask are you there", &account{}); err != nil {
		return err
	}
	return d.witness.ask("seen", &l.Sight)
}

// next says what to try.
func (d *demo) next() {
	lab := "bin/hither-lab"
	d.say("\n%s", d.paint.bold("Look yourself"))
	if d.keep {
		lab += " --lab " + d.lab
		d.say("  The lab is up; the program counts on, on host a.")
		d.say("  %s exec a -- hither send counter b", lab)
		d.say("  %s exec b -- hither inspect counter", lab)
	} else {
		d.say("  %s up", lab)
		d.say("  %s exec a -- hither run --name py python3", lab)
		d.say("     %s", d.paint.dim("type x = 42, then leave it running with Ctrl-\\ Ctrl-\\"))
		d.say("  %s exec a -- hither send py b", lab)
		d.say("  %s exec b -- hither attach py", lab)
		d.say("     %s", d.paint.dim("type print(x)"))
	}
	d.say("  %s down", lab)
	d.say("\n%s", d.paint.bold("And with two windows of hither, one on each desktop"))
	d.say("     %s", d.paint.dim("`make gui` makes bin/hither-gui; a VNC viewer is in tigervnc-viewer"))
	d.say("  mkdir -p -m 777 desktops")
	d.say("  %s up --strangers --vnc desktops", lab)
	d.say("  %s exec a -- hither-gui & %s exec b -- hither-gui &", lab, lab)
	d.say("  xtigervncviewer desktops/a.vnc & xtigervncviewer desktops/b.vnc &")
	d.say("     %s", d.paint.dim("pair the two, start an app on one of them, and drag its card onto the other"))
	d.say("  %s down", lab)
}

// witnessClient speaks to the witness on host c.
type witnessClient struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
	errs  bytes.Buffer
}

func (d *demo) startWitness(ctx context.Context) (*witnessClient, error) {
	w := &witnessClient{cmd: d.hitherLab(ctx, "exec", "c", "--", "hither-lab", witnessCommand)}
	w.cmd.Stderr = &w.errs
	stdout, err := w.cmd.StdoutPipe()
	if err == nil {
		w.stdin, err = w.cmd.StdinPipe()
	}
	if err == nil {
		err = w.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("starting the witness: %w", err)
	}
	w.lines = bufio.NewScanner(stdout)
	w.lines.Buffer(nil, 1<<20)
	return w, w.read(&struct{}{})
}

// ask says a line and reads the answer.
func (w *witnessClient) ask(line string, into any) error {
	if _, err := io.WriteString(w.stdin, line+"\n"); err != nil {
		return fmt.Errorf("speaking to the witness: %w", err)
	}
	return w.read(into)
}

func (w *witnessClient) read(into any) error {
	if !w.lines.Scan() {
		w.cmd.Wait() //nolint:errcheck // what it said counts
		return fmt.Errorf("the witness is gone %s", strings.TrimSpace(w.errs.String()))
	}
	if err := json.Unmarshal(w.lines.Bytes(), into); err != nil {
		return fmt.Errorf("reading what the witness says: %w", err)
	}
	return nil
}

func (w *witnessClient) close() {
	w.stdin.Close()
	w.cmd.Wait() //nolint:errcheck // the lab ends anyway
}
