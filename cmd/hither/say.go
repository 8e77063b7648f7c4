package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"hither/engine/control"
)

// Exit codes.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitUndecided = 3
	exitOwn       = 125 // run, exec: hither itself failed
)

// exit ends the program with a code; what there is to say has been said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// failure is an error with what was being done, and what to do about it.
type failure struct {
	doing string
	err   error
	hint  string
	code  int // 0: as the error says
}

func (f *failure) Error() string {
	if f.doing == "" {
		return f.err.Error()
	}
	return f.doing + ": " + f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	return &failure{doing: doing, err: err}
}

// misuse is wrong use of a command.
func misuse(c *cobra.Command, err error) error {
	return &failure{err: err, code: exitUsage, hint: fmt.Sprintf("`%s --help` shows how", c.CommandPath())}
}

// checkArguments makes a command, and those below it, say what they want if they get something else.
func checkArguments(c *cobra.Command) {
	for _, sub := range c.Commands() {
		checkArguments(sub)
	}
	check := c.Args
	if check == nil {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		err := check(c, args)
		if err == nil {
			return nil
		}
		_, wants, _ := strings.Cut(c.Use, " ")
		switch {
		case c.HasSubCommands() && len(args) > 0:
			c.SuggestionsMinimumDistance = 2
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				return &failure{err: err, code: exitUsage, hint: fmt.Sprintf("there is `%s %s`", c.CommandPath(), strings.Join(near, "`, and `"+c.CommandPath()+" "))}
			}
			return &failure{err: err, code: exitUsage, hint: fmt.Sprintf("`%s --help` lists the commands", c.CommandPath())}
		case wants == "" && len(args) > 0:
			err = fmt.Errorf("`%s` wants no argument: %s", c.CommandPath(), strings.Join(args, " "))
		case strings.Contains(err.Error(), "arg(s)"): // cobra counts
			err = fmt.Errorf("`%s` wants %s", c.CommandPath(), wants)
		}
		return misuse(c, err)
	}
}

// complain says what went wrong, and gives the exit code.
func complain(err error) int {
	if err == nil {
		return exitOK
	}
	var e exit
	if errors.As(err, &e) {
		return int(e)
	}
	code, hint := exitFailed, ""
	var f *failure
	if errors.As(err, &f) {
		hint = f.hint
		if f.code != 0 {
			code = f.code
		}
	}
	var c *control.Error
	if errors.As(err, &c) {
		if hint == "" {
			hint = c.Hint
		}
		if c.Code == control.CodeUsage && code == exitFailed {
			code = exitUsage
		}
	}
	if f == nil && c == nil {
		// Of cobra itself: an unknown command, above all.
		code = exitUsage
		hint = "`hither --help` lists the commands"
	}
	fmt.Fprintf(os.Stderr, "hither: %s\n", err)
	if hint != "" {
		fmt.Fprintf(os.Stderr, "hint: %s\n", hint)
	}
	return code
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "hither: "+format+"\n", args...) }

func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return failed("writing the answer", enc.Encode(v))
}

// table prints rows in columns.
func table(rows [][]string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return failed("writing the answer", w.Flush())
}

func bytesText(n uint64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1000, 0
	for v >= 999.95 && i < len(units)-1 {
		v /= 1000
		i++
	}
	return fmt.Sprintf("%.1f %cB", v, units[i])
}
