package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hither/engine/display/xwire"
)

// inputCommand works the desktop of $DISPLAY as a person does: it reads commands, one a line, and answers
// each by a line of JSON. `input` runs it on the host.
const inputCommand = "__input"

const inputHelp = `Work a host's desktop as a person does. Commands, one as arguments or several as lines of input:

  windows                what is there
  wait NAME              until a window is shown whose title holds NAME, or whose class is NAME
  gone NAME              until no such window is there
  focus NAME             wait for it, and let it have the keyboard
  close NAME             ask it to close, as its title bar's button does
  type TEXT              press the keys for this text
  key [MOD+...]KEY       as key ctrl+shift+s, key Return, key alt+F4
  down KEY, up KEY       press a key and hold it; let it go
  move X Y               move the pointer there
  click [N], press [N], release [N]
                         with the Nth button of the mouse
  wheel N                turn the wheel by N notches, down; -N: up
  drag X Y               from where the pointer is, with the first button, at the pace of a hand

Each is answered by a line of JSON: {}, {"windows":[...]}, {"window":{...}} or {"error":"..."}; a failure makes the exit
status 1. X and Y are pixels of the desktop.`

func (o *options) input() *cobra.Command {
	c := &cobra.Command{
		Use:     "input HOST [COMMAND ARG...]",
		Short:   "Type, click and look for windows on a host's desktop",
		Long:    inputHelp,
		Example: "  hither-lab input a focus mousepad\n  hither-lab input a type 'Hello, World'\n  hither-lab input a key ctrl+a",
		Args:    cobra.MinimumNArgs(1),
		RunE:    o.onHost(inputCommand),
	}
	c.Flags().SetInterspersed(false)
	return c
}

// onHost runs a hidden command of this program on the host that the first argument names.
func (o *options) onHost(command string) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		p, err := o.place()
		if err != nil {
			return err
		}
		status, err := runInHost(p, args[0], append([]string{"hither-lab", command}, args[1:]...), nil)
		if err != nil {
			return err
		}
		if status != 0 {
			return exitCode(status)
		}
		return nil
	}
}

// answer is what a command of inputCommand says.
type answer struct {
	Error   string    `json:"error,omitempty"`
	Windows []*window `json:"windows,omitempty"`
	Window  *window   `json:"window,omitempty"`
}

func inputMain(args []string) int {
	x, err := openDesktop(xwire.XTest)
	if err != nil {
		return complain(err)
	}
	defer x.Close()
	h := &hands{x}
	return converse(args, func(line string) any {
		a, err := h.do(line)
		if err != nil {
			return err
		}
		return a
	})
}

// converse does the command that the arguments are, or those that come as lines of input, and answers
// each by a line of JSON. An answer that is an error makes the exit status 1.
func converse(args []string, do func(line string) any) int {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	status := 0
	one := func(line string) {
		a := do(line)
		if err, failed := a.(error); failed {
			a, status = answer{Error: err.Error()}, 1
		}
		out.Encode(a) //nolint:errcheck // nobody listens any more
	}
	if len(args) > 0 {
		one(strings.Join(args, " "))
		return status
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		one(lines.Text())
	}
	return status
}

// hands do what a person's do.
type hands struct{ x *xwire.Conn }

// Kinds of XTEST input are the numbers of core events.
const (
	fakeKeyPress      = 2
	fakeKeyRelease    = 3
	fakeButtonPress   = 4
	fakeButtonRelease = 5
	fakeMotion        = 6
)

const (
	dragSteps = 20
	dragPace  = 20 * time.Millisecond // programs tell a drag from a click by its time too
)

var errArguments = errors.New("`hither-lab input --help` tells the commands and what they take")

// do carries one command out. What it did has reached the server when it returns, and a click its window.
func (h *hands) do(line string) (answer, error) {
	verb, rest, _ := strings.Cut(line, " ")
	ctx, cancel := context.WithTimeout(context.Background(), desktopWait)
	defer cancel()
	var err error
	switch verb {
	case "windows":
		all, err := listWindows(h.x)
		return answer{Windows: all}, err
	case "wait":
		w, err := waitWindow(ctx, h.x, rest)
		return answer{Window: w}, err
	case "gone":
		return answer{}, waitGone(ctx, h.x, rest)
	case "focus":
		w, err := focusWindow(ctx, h.x, rest)
		return answer{Window: w}, err
	case "close":
		w, err := waitWindow(ctx, h.x, rest)
		if err == nil {
			err = tellManager(h.x, w.ID, "_NET_CLOSE_WINDOW", 0, fromPager)
		}
		return answer{}, err
	case "type":
		err = h.typeText(rest)
	case "key":
		err = h.chord(rest, fakeKeyPress, fakeKeyRelease)
	case "down":
		err = h.chord(rest, fakeKeyPress)
	case "up":
		err = h.chord(rest, fakeKeyRelease)
	case "move", "drag":
		var to image.Point
		if n, _ := fmt.Sscan(rest, &to.X, &to.Y); n != 2 {
			return answer{}, errArguments
		}
		if verb == "drag" {
			err = h.drag(ctx, to)
		} else {
			h.moveTo(to)
		}
	case "click", "press", "release", "wheel":
		n := 1
		if rest != "" {
			if n, err = strconv.Atoi(rest); err != nil {
				return answer{}, errArguments
			}
		}
		err = h.button(ctx, verb, n)
	default:
		err = errArguments
	}
	return answer{}, errors.Join(err, h.x.Sync())
}

func (h *hands) fake(kind, detail byte) {
	h.x.XTestFakeInput(kind, detail, xwire.TimeCurrentTime, 0, 0, 0, 0)
}

func (h *hands) moveTo(to image.Point) {
	h.x.XTestFakeInput(fakeMotion, 0, xwire.TimeCurrentTime, h.x.Root(), int16(to.X), int16(to.Y), 0)
}

// button works a button of the mouse, or the wheel, whose notches are clicks with the buttons 4, up, and 5.
func (h *hands) button(ctx context.Context, verb string, n int) error {
	times := 1
	if verb == "wheel" {
		times, n = min(n, 1000), 5
		if times < 0 {
			times, n = min(-times, 1000), 4
		}
	}
	for range times {
		if verb != "release" {
			h.fake(fakeButtonPress, byte(n))
		}
		if verb != "press" {
			h.fake(fakeButtonRelease, byte(n))
		}
	}
	if verb == "press" {
		return nil
	}
	return h.passed(ctx, byte(n))
}

// passed waits until the window has what was done with a button. A window manager may hold a click up to look at
// it first, and keys that are pressed meanwhile overtake it. Until it lets go the server says that the button
// is down; of the end of that it tells nobody.
func (h *hands) passed(ctx context.Context, button byte) error {
	for {
		at, err := h.x.QueryPointer(h.x.Root())
		if err != nil || at.Mask&(xwire.KeyButMaskButton1>>1<<button) == 0 {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for a click with button %d to come to its window: the window manager holds it up, or something holds the button", button)
		}
	}
}

// drag presses the first button, moves as a hand does, and lets go.
func (h *hands) drag(ctx context.Context, to image.Point) error {
	at, err := h.x.QueryPointer(h.x.Root())
	if err != nil {
		return err
	}
	from := image.Pt(int(at.RootX), int(at.RootY))
	h.fake(fakeButtonPress, 1)
	for i := 1; i <= dragSteps && err == nil; i++ {
		time.Sleep(dragPace)
		h.moveTo(from.Add(to.Sub(from).Mul(i).Div(dragSteps)))
		err = h.x.Flush()
	}
	time.Sleep(dragPace)
	h.fake(fakeButtonRelease, 1)
	return errors.Join(err, h.passed(ctx, 1))
}
