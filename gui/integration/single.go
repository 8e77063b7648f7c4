package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hither/engine/control"
	"hither/engine/paths"
)

// One window is enough for a desktop. The first program listens on a socket in the runtime
// folder, of a name made of the desktop's; a second one tells it what it was started for,
// and ends. Only the user's own processes can get there.

// Wish is what a program was started for.
type Wish struct {
	Show bool `json:"show"` // the window is to be seen
}

// Instance is the one that runs.
type Instance struct {
	l net.Listener
}

// wishTime is how long the first program may take to take a wish.
const wishTime = 10 * time.Second

// Single makes this program the desktop's one, which is given the wishes of later ones. It returns
// nil if there is one already, which has taken the wish.
func Single(ctx context.Context, w Wish, wished func(Wish)) (*Instance, error) {
	i, err := single(ctx, w, wished)
	if err != nil {
		return nil, fmt.Errorf("looking for a hither-gui that runs already: %w", err)
	}
	return i, nil
}

func single(ctx context.Context, w Wish, wished func(Wish)) (*Instance, error) {
	dir, err := paths.Runtime()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, socketName())
	// Who holds the lock looks and listens; two that start at once do so one after the other.
	lock, err := os.OpenFile(socket+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wishTime)
	defer cancel()
	conn, err := control.Dial(ctx, socket)
	switch {
	case err == nil:
		defer conn.Close()
		return nil, tell(ctx, conn, w)
	case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED):
		return nil, err
	}
	l, err := control.Listen(socket)
	if err != nil {
		return nil, err
	}
	i := &Instance{l: l}
	go i.serve(wished)
	return i, nil
}

// socketName is one name for each desktop of the user's.
func socketName() string {
	desktop := os.Getenv("WAYLAND_DISPLAY") + os.Getenv("DISPLAY")
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, desktop)
	return "gui" + safe[max(0, len(safe)-64):] + ".sock"
}

func tell(ctx context.Context, conn net.Conn, w Wish) error {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if err := json.NewEncoder(conn).Encode(w); err != nil {
		return err
	}
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		return fmt.Errorf("it does not answer: %w", err)
	}
	return nil
}

func (i *Instance) serve(wished func(Wish)) {
	for {
		conn, err := i.l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(wishTime)) //nolint:errcheck // a socket takes one
			var w Wish
			if json.NewDecoder(conn).Decode(&w) != nil {
				return
			}
			wished(w)
			fmt.Fprintln(conn, "ok")
		}()
	}
}

// Close lets another program be the one.
func (i *Instance) Close() error { return i.l.Close() }
