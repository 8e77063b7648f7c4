package main

import (
	"errors"
	"strings"
	"testing"

	"hither/engine/control"
	"hither/engine/handover"
)

func TestBarLine(t *testing.T) {
	p := handover.Progress{State: handover.SourceMemory, Done: 120_300_000, Total: 512_000_000, Rate: 310e6, Left: 1.3}
	for _, width := range []int{21, 40, 80, 200} {
		line := barLine("counter -> b", p, width)
		if len(line) >= width {
			t.Errorf("width %d: %d bytes: %s", width, len(line), line)
		}
	}
	line := barLine("counter -> b", p, 100)
	for _, part := range []string{"counter -> b", "moving", "[####", "120.3 MB of 512.0 MB", "310.0 MB/s", "s left"} {
		if !strings.Contains(line, part) {
			t.Errorf("no %q in %s", part, line)
		}
	}
	p.State, p.Round = handover.SourcePreCopy, 3
	if line := barLine("x", p, 100); !strings.Contains(line, "round 3") {
		t.Errorf("no round in %s", line)
	}
	for _, s := range handover.States {
		if s.Side() == handover.SideSource && steps[s.Step()] == "" {
			t.Errorf("people have no word for %s", s)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 38_400: "38.4 kB", 999_960: "1.0 MB", 1 << 30: "1.1 GB", ^uint64(0): "18.4 EB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, not %s", n, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0}, {exit(7), 7}, {errors.New("of cobra"), 2}, {failed("x", errors.New("y")), 1},
		{failed("x", &control.Error{Text: "no app", Code: control.CodeUsage}), 2},
		{failed("x", &control.Error{Text: "is on b", Code: control.CodeMoved}), 1},
		{own(errors.New("y")), exitOwn}, {own(exit(3)), 3}, {&failure{err: errors.New("y"), code: 2}, 2},
	} {
		if got := complain(c.err); got != c.code {
			t.Errorf("%v: exit %d, not %d", c.err, got, c.code)
		}
	}
}

func TestWrongArguments(t *testing.T) {
	for args, want := range map[string][2]string{
		"attach":             {"`hither attach` wants APP", "`hither attach --help` shows how"},
		"send x":             {"`hither send` wants APP PEER", "`hither send --help` shows how"},
		"exec x":             {"`hither exec` wants APP COMMAND [ARG ...]", "`hither exec --help` shows how"},
		"peers address b":    {"`hither peers address` wants PEER HOST[:PORT]", "`hither peers address --help` shows how"},
		"ls mousepad":        {"`hither ls` wants no argument: mousepad", "`hither ls --help` shows how"},
		"permit a b":         {"give a host, what it may do, and allow, deny or ask", "`hither permit --help` shows how"},
		"snd vim b":          {`unknown command "snd" for "hither"`, "there is `hither send`"},
		"nothing-like-it":    {`unknown command "nothing-like-it" for "hither"`, "`hither --help` lists the commands"},
		"peers adress b x":   {`unknown command "adress" for "hither peers"`, "there is `hither peers address`"},
		"peers --nothing":    {"unknown flag: --nothing", "`hither peers --help` shows how"},
		"menu remove":        {"wanted are names of apps, or --all", "`hither menu remove --help` shows how"},
		"menu add --nothing": {"unknown flag: --nothing", "`hither menu add --help` shows how"},
	} {
		root := rootCommand()
		root.SetArgs(strings.Fields(args))
		err := root.Execute()
		var f *failure
		if !errors.As(err, &f) || f.code != exitUsage || f.Error() != want[0] || f.hint != want[1] {
			t.Errorf("hither %s: %v, %+v", args, err, f)
		}
	}
}
