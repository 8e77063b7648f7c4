package capsule

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"hither/engine/terminal"
)

// terminalPortal is the app's terminal as the keeper serves it.
type terminalPortal struct {
	*terminal.Terminal
	path string // of the slave, as seen inside
}

// newTerminalPortal takes over a master.
func newTerminalPortal(master *os.File, size Winsize) (*terminalPortal, error) {
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("finding the terminal's number: %w", err)
	}
	t := terminal.New(master, terminal.Winsize{Rows: size.Row, Cols: size.Col, XPixel: size.Xpixel, YPixel: size.Ypixel})
	return &terminalPortal{t, "/dev/pts/" + strconv.Itoa(n)}, nil
}

// openTerminalPortal begins to serve the terminal whose master pid 1 holds. A
// screen and held input from another host are put in first.
func (k *keeper) openTerminalPortal(screen, held []byte) error {
	master, err := descriptorOf(k.pidfd, FDTerminal, "terminal")
	if err != nil {
		return err
	}
	t, err := newTerminalPortal(master, Winsize{})
	if err != nil {
		master.Close()
		return err
	}
	if len(screen) > 0 {
		t.Restore(screen)
	}
	if len(held) > 0 {
		t.Give(held)
	}
	k.mu.Lock()
	k.term = t
	k.mu.Unlock()
	return nil
}

// outcome is how the visit of an attached client ends; mu is held.
func (k *keeper) outcome() terminal.Outcome {
	o := terminal.Outcome{Kind: terminal.Exited, App: k.state.Spec.Name}
	switch {
	case k.state.Moved != "":
		o.Kind, o.Host = terminal.Moved, k.state.Moved
	case k.stopped:
		o.Kind = terminal.Stopped
	}
	if k.state.Status != nil {
		o.Status = *k.state.Status
	}
	return o
}
